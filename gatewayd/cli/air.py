"""Tags on the air and in the configuration, and what the gateway would make of what it receives."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from gatewayd.cli.common import FAILED, USAGE, Commands, config_option, credentials


def add(commands: Commands) -> None:
    """Add what one does with tags and receivers."""
    _tags_commands(commands.add_parser("tags", help="the tags that call for help: hear them, assign them"))
    _decode_commands(commands.add_parser("decode", help="what the gateway would make of something"))


def _tags_commands(parser: argparse.ArgumentParser) -> None:
    from gatewayd.enrol.arguments import enrol

    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    scan = commands.add_parser(
        "scan", help="what is on the air, decoded: the newest press first, then by level"
    )
    config_option(scan)
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


def _tags_scan(arguments: argparse.Namespace) -> int:
    from gatewayd import scan

    return asyncio.run(
        scan.scan(
            config=arguments.config,
            credentials=credentials(),
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
