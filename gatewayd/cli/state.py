"""What lies on the gateway's disk: the outbox, coverage, the key that signs, the audit log."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gatewayd.cli.common import Commands, config_option, credentials, state_option

if TYPE_CHECKING:
    from gatewayd.outbox.command import Options


def add(commands: Commands) -> None:
    """Add what one asks of a gateway's state, the daemon running or not."""
    _outbox_commands(commands.add_parser("outbox", help="what waits for a broker"))
    coverage = commands.add_parser("coverage", help="whether a tag was heard at a time, and if not, why")
    _coverage_command(coverage)
    _evidence_commands(commands.add_parser("evidence", help="what proves a recording"))
    audit = commands.add_parser("audit", help="who listened and who exported, and whether the log is whole")
    state_option(audit)
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.set_defaults(command=_audit)


def _outbox_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stats = commands.add_parser("stats", help="what waits, by class, and what was dropped or set aside")
    listing = commands.add_parser("list", help="each message that waits, in the order of classes")
    export = commands.add_parser(
        "export", help="a ZIP file with all that waits: messages to read, sound to play"
    )
    for command in (stats, listing, export):
        _outbox_options_of(command)
    export.add_argument("file", type=Path, metavar="FILE", help="a new one; of nobody else to be read")
    stats.set_defaults(command=_outbox_stats)
    listing.set_defaults(command=_outbox_list)
    export.set_defaults(command=_outbox_export)


def _outbox_options_of(command: argparse.ArgumentParser) -> None:
    config_option(command)
    state_option(command)
    command.add_argument(
        "--database", type=Path, metavar="DB", help="this one: of another card, or one that was set aside"
    )
    command.add_argument("--json", action="store_true", help="for programs")


def _coverage_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tag", metavar="TAG", help="the NAME of its [tag NAME]")
    parser.add_argument(
        "--at",
        metavar="TIME",
        help="2026-03-01T10:14:00Z, or 10:14 by this machine; default: the last that is recorded",
    )
    _outbox_options_of(parser)
    parser.set_defaults(command=_coverage)


def _evidence_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser("verify", help="whether a saved recording is as the gateway made it")
    verify.add_argument("path", type=Path, metavar="FOLDER|FILE", help="what `monitor --save` kept")
    verify.add_argument("--key", type=Path, metavar="FILE", help="the gateway's public key, PEM or base64")
    verify.add_argument("--json", action="store_true", help="for programs")
    verify.set_defaults(command=_evidence_verify)
    key = commands.add_parser("key", help="the public key in use, PEM")
    rotate = commands.add_parser("rotate", help="a new key, which the old one vouches for")
    for command in (key, rotate):
        state_option(command)
    key.set_defaults(command=_evidence_key)
    rotate.set_defaults(command=_evidence_rotate)


def _outbox_stats(arguments: argparse.Namespace) -> int:
    from gatewayd.outbox import command

    return command.stats(_outbox_options(arguments))


def _outbox_list(arguments: argparse.Namespace) -> int:
    from gatewayd.outbox import command

    return command.list_all(_outbox_options(arguments))


def _outbox_export(arguments: argparse.Namespace) -> int:
    from gatewayd.outbox import command

    return command.export(_outbox_options(arguments), arguments.file)


def _outbox_options(arguments: argparse.Namespace) -> Options:
    from gatewayd.outbox.command import Options

    return Options(
        config=arguments.config,
        state=arguments.state,
        database=arguments.database,
        as_json=arguments.json,
        environ=os.environ,
    )


def _coverage(arguments: argparse.Namespace) -> int:
    from gatewayd.outbox import coverage

    return coverage.covered(_outbox_options(arguments), arguments.tag, arguments.at)


def _evidence_verify(arguments: argparse.Namespace) -> int:
    from gatewayd import evidence

    return evidence.verify(arguments.path, arguments.key, as_json=arguments.json)


def _evidence_key(arguments: argparse.Namespace) -> int:
    from gatewayd import evidence
    from gatewayd.outbox.site import state_folder

    return evidence.key(arguments.state or state_folder(os.environ))


def _evidence_rotate(arguments: argparse.Namespace) -> int:
    from gatewayd import evidence
    from gatewayd.outbox.site import state_folder

    return evidence.rotate(arguments.state or state_folder(os.environ), credentials())


def _audit(arguments: argparse.Namespace) -> int:
    from gatewayd import evidence
    from gatewayd.outbox.site import state_folder

    return evidence.audit(arguments.state or state_folder(os.environ), as_json=arguments.json)
