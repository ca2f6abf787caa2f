"""The ops side in a terminal: see what comes, answer it; and the demonstration of both."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gatewayd.cli.common import Commands, reach, reach_options


def add(commands: Commands) -> None:
    """Add what one does at a desk."""
    _monitor_command(commands.add_parser("monitor", help="the ops side in a terminal"))
    _ops_command(commands.add_parser("ops", help="the answering side: what is open, and every command"))
    _demo_command(commands.add_parser("demo", help="the whole path on this machine, simulated hardware"))


def _monitor_command(parser: argparse.ArgumentParser) -> None:
    reach_options(parser)
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


def _ops_command(parser: argparse.ArgumentParser) -> None:
    from gatewayd.ops.arguments import answering

    reach_options(parser)
    answering(parser)
    parser.set_defaults(command=_ops)


def _demo_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--headless", action="store_true", help="progress on stderr, one JSON object at the end"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the run as an SVG picture")
    parser.set_defaults(command=_demo)


def _monitor(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from gatewayd.monitor.client import run

    way = reach(arguments, "gatewayd monitor")
    if isinstance(way, int):
        return way
    return run(
        replace(
            way,
            json=arguments.json,
            alarm=arguments.alarm,
            count=arguments.count,
            timeout_s=arguments.timeout,
            listen=arguments.listen,
            save=arguments.save,
        )
    )


def _ops(arguments: argparse.Namespace) -> int:
    from gatewayd.ops.run import run

    way = reach(arguments, "gatewayd ops")
    return way if isinstance(way, int) else run(arguments, way, sys.stdout, sys.stderr)


def _demo(arguments: argparse.Namespace) -> int:
    from gatewayd import demo

    return demo.main(headless=arguments.headless, picture=arguments.picture)
