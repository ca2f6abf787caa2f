"""The command line: argument parsing and dispatch, nothing else. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from gatewayd import __version__

if TYPE_CHECKING:
    from gatewayd.config.problem import Problem
    from gatewayd.monitor.client import Options as Reach
    from gatewayd.outbox.command import Options

FAILED: Final = 1
USAGE: Final = 2
BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits(3); systemd shows it by name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 fine, 1 failed, 2 wrong usage, 78 wrong configuration."""
    parsed = make_parser().parse_args(arguments)
    try:
        status: int = parsed.command(parsed)
    except KeyboardInterrupt:
        return 128 + 2  # as a shell reports SIGINT
    except BrokenPipeError:
        # Whoever read our output has had enough of it; Python must not complain at exit that it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Quote no key that somebody typed as an argument."""
        super().error(re.sub("[0-9A-Fa-f]{32,}", "****", message))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the manual and the shell's completion are made from it, too."""
    parser = _Parser(prog="gatewayd", description="Relays panic alarms, position and sound over MQTT.")
    parser.add_argument("--version", action="version", version=f"gatewayd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the daemon")
    _config_option(run)
    run.add_argument("--state", type=Path, metavar="DIR", help="where state lives; default $STATE_DIRECTORY")
    run.set_defaults(command=_run)

    check = commands.add_parser("check-config", help="all that is wrong with the configuration, at once")
    _config_option(check)
    check.add_argument("--json", action="store_true", help="for programs")
    check.set_defaults(command=_check_config)

    show = commands.add_parser("show-config", help="effective values, with where each came from")
    _config_option(show)
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(command=_show_config)

    _selftest_command(
        commands.add_parser("selftest", help="what is wrong with this gateway, and what to do about it")
    )
    _monitor_command(commands.add_parser("monitor", help="the ops side in a terminal"))
    _ops_command(commands.add_parser("ops", help="the answering side: what is open, and every command"))
    _outbox_commands(commands.add_parser("outbox", help="what waits for a broker"))
    _coverage_command(
        commands.add_parser("coverage", help="whether a tag was heard at a time, and if not, why")
    )
    _evidence_commands(commands.add_parser("evidence", help="what proves a recording"))
    audit = commands.add_parser("audit", help="who listened and who exported, and whether the log is whole")
    audit.add_argument(
        "--state", type=Path, metavar="DIR", help="where state lies, in place of the service's"
    )
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.set_defaults(command=_audit)
    _demo_command(commands.add_parser("demo", help="the whole path on this machine, simulated hardware"))
    _tags_commands(commands.add_parser("tags", help="the tags that call for help: hear them, assign them"))
    _decode_commands(commands.add_parser("decode", help="what the gateway would make of something"))
    return parser


def _config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="a file or folder, in place of /etc/gatewayd"
    )


def _selftest_command(parser: argparse.ArgumentParser) -> None:
    from gatewayd.selftest.row import Subject

    parser.description = (
        "Looks at everything that can be wrong with this gateway and says what to do about each failure. Run"
        " it as root, also while the daemon runs: what only the daemon can use then (receiver, microphone,"
        " pins) is not touched, and the daemon is asked instead. Exit status 1 when something failed, 78 when"
        " the configuration is bad."
    )
    _config_option(parser)
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where state lies, in place of the service's"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(Subject),
        metavar="SUBJECT",
        help=f"only this, may be given several times: {', '.join(Subject)}",
    )
    parser.add_argument(
        "--listen-s",
        type=_listening_time,
        default=15.0,
        metavar="S",
        help="how long to listen to the radio and the receiver at most, 1 to 20; default %(default)s",
    )
    parser.set_defaults(command=_selftest)


def _listening_time(text: str) -> float:
    """Read a time; not longer than leaves the whole self-test its 30 s."""
    seconds = float(text)
    if not 1.0 <= seconds <= 20.0:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"expected 1 to 20 seconds, got {text}")
    return seconds


def _monitor_command(parser: argparse.ArgumentParser) -> None:
    _reach_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object for each message")
    parser.add_argument("--alarm", metavar="ID", help="only what belongs to this alarm")
    parser.add_argument("--count", type=int, metavar="N", help="end after N messages")
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="end after S seconds; with --count that fails"
    )
    parser.add_argument("--listen", action="store_true", help="play the sound")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep the sound, in order and without doubles, and beside it what proves it; or a folder",
    )
    parser.set_defaults(command=_monitor)


def _reach_options(parser: argparse.ArgumentParser) -> None:
    _config_option(parser)
    parser.add_argument(
        "--broker", metavar="HOST[:PORT]", help="without TLS, in place of the configuration's"
    )
    parser.add_argument(
        "--prefix", default="gatewayd", help="of the topics, with --broker; default %(default)s"
    )


def _ops_command(parser: argparse.ArgumentParser) -> None:
    from gatewayd.ops.arguments import answering

    _reach_options(parser)
    answering(parser)
    parser.set_defaults(command=_ops)


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
    _config_option(command)
    command.add_argument(
        "--state", type=Path, metavar="DIR", help="where state lies, in place of the service's"
    )
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
        command.add_argument(
            "--state", type=Path, metavar="DIR", help="where state lies, in place of the service's"
        )
    key.set_defaults(command=_evidence_key)
    rotate.set_defaults(command=_evidence_rotate)


def _demo_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--headless", action="store_true", help="progress on stderr, one JSON object at the end"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the run as an SVG picture")
    parser.set_defaults(command=_demo)


def _tags_commands(parser: argparse.ArgumentParser) -> None:
    from gatewayd.enrol.arguments import enrol

    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    scan = commands.add_parser(
        "scan", help="what is on the air, decoded: the newest press first, then by level"
    )
    _config_option(scan)
    scan.add_argument(
        "--seconds", type=float, metavar="S", help="how long to listen; default: until interrupted"
    )
    scan.add_argument("--json", action="store_true", help="one JSON object for each change heard")
    scan.set_defaults(command=_tags_scan)
    enrol(commands)


def _decode_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    advert = commands.add_parser("advert", help="an advertisement: one JSON object")
    advert.add_argument("--address", required=True, metavar="A", help="the tag's address, AA:BB:CC:DD:EE:FF")
    advert.add_argument("--service-data", action="append", default=[], metavar="UUID:HEX")
    advert.add_argument("--manufacturer-data", action="append", default=[], metavar="ID:HEX")
    advert.add_argument("--key", metavar="HEX", help="the tag's key, 32 hexadecimal digits")
    advert.set_defaults(command=_decode_advert)
    nmea = commands.add_parser("nmea", help="a receiver's log: one JSON position a line")
    nmea.add_argument("file", type=Path, metavar="FILE")
    nmea.set_defaults(command=_decode_nmea)


def _credentials() -> Path | None:
    from gatewayd.config.credentials import credentials_directory

    return credentials_directory(os.environ)


def _run(arguments: argparse.Namespace) -> int:
    from gatewayd import run

    return run.main(config=arguments.config, state=arguments.state, credentials=_credentials())


def _check_config(arguments: argparse.Namespace) -> int:
    from gatewayd.config.load import load, read_machine_id
    from gatewayd.config.problem import ConfigurationError

    try:
        loaded = load(arguments.config, credentials=_credentials(), machine_id=read_machine_id())
    except ConfigurationError as error:
        _tell_problems(error.errors, (), as_json=arguments.json)
        return BAD_CONFIGURATION
    _tell_problems((), loaded.warnings, as_json=arguments.json)
    return 0


def _tell_problems(errors: Sequence[Problem], warnings: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        problems = {
            "errors": [problem.to_json() for problem in errors],
            "warnings": [problem.to_json() for problem in warnings],
        }
        print(json.dumps({"ok": not errors, **problems}))
        return
    for error in errors:
        print(error, file=sys.stderr)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not errors:
        print("the configuration is good")


def _show_config(arguments: argparse.Namespace) -> int:
    from gatewayd.config.load import load, read_machine_id
    from gatewayd.config.problem import ConfigurationError
    from gatewayd.config.show import show, show_json

    try:
        loaded = load(arguments.config, credentials=_credentials(), machine_id=read_machine_id())
    except ConfigurationError as error:
        for problem in error.errors:
            print(problem, file=sys.stderr)
        return BAD_CONFIGURATION
    print(json.dumps(show_json(loaded)) if arguments.json else "\n".join(show(loaded)))
    return 0


def _selftest(arguments: argparse.Namespace) -> int:
    from gatewayd.run import state_folder
    from gatewayd.selftest.row import Subject
    from gatewayd.selftest.run import selftest
    from gatewayd.selftest.site import Options

    options = Options(
        config=arguments.config,
        state=arguments.state,
        own_state=state_folder(os.environ),
        credentials=_credentials(),
        only=frozenset(map(Subject, arguments.only or Subject)),
        listen_s=arguments.listen_s,
    )
    return asyncio.run(selftest(options, as_json=arguments.json))


def _monitor(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from gatewayd.monitor.client import run

    reach = _reach(arguments, "gatewayd monitor")
    if isinstance(reach, int):
        return reach
    return run(
        replace(
            reach,
            json=arguments.json,
            alarm=arguments.alarm,
            count=arguments.count,
            timeout_s=arguments.timeout,
            listen=arguments.listen,
            save=arguments.save,
        )
    )


def _reach(arguments: argparse.Namespace, who: str) -> Reach | int:
    """Return how to reach the broker, as the arguments and the configuration say; or the exit status."""
    from gatewayd.config.credentials import CredentialError
    from gatewayd.config.load import load, read_machine_id
    from gatewayd.config.problem import ConfigurationError
    from gatewayd.monitor.client import Options, options_from, parse_broker

    try:
        if arguments.broker is not None:
            return Options(brokers=(parse_broker(arguments.broker),), prefix=arguments.prefix)
        loaded = load(arguments.config, credentials=_credentials(), machine_id=read_machine_id())
        return options_from(loaded.config, _credentials())
    except ConfigurationError as error:
        print(*error.errors, sep="\n", file=sys.stderr)
        return BAD_CONFIGURATION
    except ValueError as error:
        print(f"{who}: --broker: {error}", file=sys.stderr)
        return USAGE
    except (CredentialError, OSError) as error:
        print(f"{who}: {error}", file=sys.stderr)
        return FAILED


def _ops(arguments: argparse.Namespace) -> int:
    from gatewayd.ops.run import run

    reach = _reach(arguments, "gatewayd ops")
    return reach if isinstance(reach, int) else run(arguments, reach, sys.stdout, sys.stderr)


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

    return evidence.rotate(arguments.state or state_folder(os.environ), _credentials())


def _audit(arguments: argparse.Namespace) -> int:
    from gatewayd import evidence
    from gatewayd.outbox.site import state_folder

    return evidence.audit(arguments.state or state_folder(os.environ), as_json=arguments.json)


def _demo(arguments: argparse.Namespace) -> int:
    from gatewayd import demo

    return demo.main(headless=arguments.headless, picture=arguments.picture)


def _tags_scan(arguments: argparse.Namespace) -> int:
    from gatewayd import scan

    return asyncio.run(
        scan.scan(
            config=arguments.config,
            credentials=_credentials(),
            seconds=arguments.seconds,
            as_json=arguments.json,
        )
    )


def _decode_advert(arguments: argparse.Namespace) -> int:
    from gatewayd.core import tags
    from gatewayd.core.model import Advertisement
    from gatewayd.core.tags.text import parse_address, parse_key, parse_manufacturer_data, parse_service_data

    try:
        advertisement = Advertisement(
            address=parse_address(arguments.address),
            heard_s=0.0,
            service_data=dict(parse_service_data(text) for text in arguments.service_data),
            manufacturer_data=dict(parse_manufacturer_data(text) for text in arguments.manufacturer_data),
        )
        key = parse_key(arguments.key) if arguments.key is not None else None
    except ValueError as error:
        print(f"gatewayd decode advert: {error}", file=sys.stderr)
        return USAGE
    report = tags.decode(advertisement, key=key)
    if report is None:
        formats = ", ".join(tags.FAMILIES)
        print(f"gatewayd decode advert: no decoder claims it; expected one of {formats}", file=sys.stderr)
        return FAILED
    print(json.dumps(tags.describe(report)))
    return 0


def _decode_nmea(arguments: argparse.Namespace) -> int:
    from gatewayd.core.fix import decode_nmea

    try:
        log = arguments.file.open("rb")
    except OSError as error:
        expected = f"expected a file that can be read, got {arguments.file}: {error.strerror}"
        print(f"gatewayd decode nmea: {expected}", file=sys.stderr)
        return FAILED
    with log:
        for position in decode_nmea(log):
            print(json.dumps(position))
    return 0
