"""The arguments of `gatewayd tags add` and `remove`.

Imports nothing that costs: the parser of every command has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argparse import _SubParsersAction

# Settings of the tag that may be given as options.
SETTINGS: Final = {
    "address": "the tag's, such as C4:11:22:33:44:55",
    "format": "how it advertises; default bthome",
    "uuid": "ibeacon and *_ibeacon: of the slot that is on the air when pressed; kontakt_ibeacon: at rest",
    "major": "likewise",
    "minor": "likewise",
    "namespace": "eddystone: of the slot that is on the air when pressed",
    "instance": "eddystone: likewise",
    "worker": "who wears it: a reference that the desk knows, never a name",
}
_DESCRIPTION: Final = """\
Judges everything before it writes anything, and never replaces a file. The key of a tag that encrypts is
asked for on the terminal, without echo, or read as a line from the standard input.
"""


def enrol(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to the group `tags`."""
    add = commands.add_parser(
        "add",
        help="assign a tag: its section in conf.d, its key among the credentials",
        description=_DESCRIPTION,
    )
    add.add_argument("name", metavar="NAME", help="the tag's: 1 to 64 letters, digits, _ and -")
    add.add_argument("--from-scan", action="store_true", help="the tag whose button is pressed now")
    add.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="with --from-scan: how long to wait for the press; default %(default)s",
    )
    for option, what in SETTINGS.items():
        add.add_argument(f"--{option}", metavar=option.upper(), help=what)
    add.add_argument("--key", action="store_true", help="the tag encrypts: ask for its key")
    add.set_defaults(command=_add)
    remove = commands.add_parser("remove", help="take back what add did")
    remove.add_argument("name", metavar="NAME", help="the tag's")
    remove.set_defaults(command=_remove)
    for command in (add, remove):
        command.add_argument("--config", type=Path, metavar="FOLDER", help="in place of /etc/gatewayd")


def _add(arguments: argparse.Namespace) -> int:
    from gatewayd.enrol import command  # noqa: PLC0415 - only when it runs

    given = {key: value for key, value in vars(arguments).items() if key in SETTINGS and value is not None}
    return command.add(
        command.Options(
            name=arguments.name,
            config=arguments.config,
            given=given,
            from_scan=arguments.from_scan,
            key=arguments.key,
            seconds=arguments.seconds,
        )
    )


def _remove(arguments: argparse.Namespace) -> int:
    from gatewayd.enrol import command  # noqa: PLC0415 - only when it runs

    return command.remove(arguments.name, arguments.config)
