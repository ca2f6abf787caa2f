"""The command line: argument parsing and dispatch, nothing else. Each command imports only what it needs.

`daemon` is about the machine it runs on, `desk` about a broker, `state` about what lies on disk, `air` about
tags and receivers.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from gatewayd import __version__
from gatewayd.cli import air, daemon, desk, state
from gatewayd.cli.common import FAILED


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
    for part in (daemon, desk, state, air):
        part.add(commands)
    return parser
