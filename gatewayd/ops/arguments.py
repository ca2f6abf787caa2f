"""The arguments of `gatewayd ops`. Imports nothing that costs: the parser of every command has them."""

from __future__ import annotations

import argparse
from typing import Final

from gatewayd.ops.table import COMMANDS, FIELDS, Row, option

ANSWER_S: Final = 10.0  # a gateway that is there answers in a fraction of a second, over a bad link in a few
LIST: Final = "list"  # in a gateway's place: all of them
_ABOUT: Final = (
    "Asks one gateway to do something and shows its reply, or lists what all of them have open (GATEWAY is"
    " `list` then). Exit status 0: done; 1: refused, or nobody answered; 2: wrong usage; 78: the"
    " configuration is bad. A command that was not answered can be given again with its --id: it is"
    " carried out once, however often it comes."
)


def answering(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the parser of `ops`."""
    parser.description = _ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["commands, `alarm/` may be left out:", *map(_line, COMMANDS, COMMANDS.values())]
    )
    parser.add_argument(
        "gateway", metavar="GATEWAY", help="its id, or `list`: open alarms, visits and tags not covered"
    )
    parser.add_argument(
        "order", nargs="?", metavar="COMMAND", help=f"one of {', '.join(COMMANDS)}; `alarm/` may be left out"
    )
    parser.add_argument("about", nargs="?", metavar="ABOUT", help="the id of its alarm, visit or tag")
    for name, field in FIELDS.items():
        of = ", ".join(command for command, row in COMMANDS.items() if name in row.fields) or "its argument"
        parser.add_argument(
            option(name), dest=f"field_{name}", metavar=name.upper(), help=f"{field.help} ({of})"
        )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a field that this version does not know; may be given several times",
    )
    parser.add_argument("--as", dest="actor", metavar="NAME", help="who you are; default: your login name")
    parser.add_argument("--id", metavar="ID", help="the command's own id; default: a new one")
    parser.add_argument(
        "--timeout",
        type=float,
        default=ANSWER_S,
        metavar="S",
        help="how long to wait for the reply; the broker keeps the command no longer; default %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="the reply, or the list, as one JSON object")


def _line(name: str, row: Row) -> str:
    about = "" if row.about is None else row.about.upper()
    options = " ".join(option(field) for field in row.fields)
    return f"  {f'{name} {about}':24} {row.help}{f'  {options}' if options else ''}"
