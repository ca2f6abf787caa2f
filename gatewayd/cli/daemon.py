"""The daemon, its configuration, and what may be wrong with either."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gatewayd.cli.common import BAD_CONFIGURATION, Commands, config_option, credentials, state_option

if TYPE_CHECKING:
    from gatewayd.config.problem import Problem


def add(commands: Commands) -> None:
    """Add what one does with the daemon on its machine."""
    run = commands.add_parser("run", help="the daemon")
    config_option(run)
    run.add_argument("--state", type=Path, metavar="DIR", help="where state lives; default $STATE_DIRECTORY")
    run.set_defaults(command=_run)

    check = commands.add_parser("check-config", help="all that is wrong with the configuration, at once")
    config_option(check)
    check.add_argument("--json", action="store_true", help="for programs")
    check.set_defaults(command=_check_config)

    show = commands.add_parser("show-config", help="effective values, with where each came from")
    config_option(show)
    show.add_argument("--json", action="store_true", help="for programs")
    show.set_defaults(command=_show_config)

    help_text = "what is wrong with this gateway, and what to do about it"
    _selftest_command(commands.add_parser("selftest", help=help_text))


def _selftest_command(parser: argparse.ArgumentParser) -> None:
    from gatewayd.selftest.row import Subject

    parser.description = (
        "Looks at everything that can be wrong with this gateway and says what to do about each failure. Run"
        " it as root, also while the daemon runs: what only the daemon can use then (receiver, microphone,"
        " pins) is not touched, and the daemon is asked instead. Exit status 1 when something failed, 78 when"
        " the configuration is bad."
    )
    config_option(parser)
    state_option(parser)
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


def _run(arguments: argparse.Namespace) -> int:
    from gatewayd import run

    return run.main(config=arguments.config, state=arguments.state, credentials=credentials())


def _check_config(arguments: argparse.Namespace) -> int:
    from gatewayd.config.load import load, read_machine_id
    from gatewayd.config.problem import ConfigurationError

    try:
        loaded = load(arguments.config, credentials=credentials(), machine_id=read_machine_id())
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
        loaded = load(arguments.config, credentials=credentials(), machine_id=read_machine_id())
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
        credentials=credentials(),
        only=frozenset(map(Subject, arguments.only or Subject)),
        listen_s=arguments.listen_s,
    )
    return asyncio.run(selftest(options, as_json=arguments.json))
