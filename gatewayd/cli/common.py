"""What several commands have: options, where credentials lie, how a broker is reached, exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from gatewayd.monitor.client import Options as Reach

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FAILED: Final = 1
USAGE: Final = 2
BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits(3); systemd shows it by name


def config_option(parser: argparse.ArgumentParser) -> None:
    """Let a command take another configuration."""
    parser.add_argument(
        "--config", type=Path, metavar="PATH", help="a file or folder, in place of /etc/gatewayd"
    )


def state_option(parser: argparse.ArgumentParser) -> None:
    """Let a command look at another state than the service's."""
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where state lies, in place of the service's"
    )


def reach_options(parser: argparse.ArgumentParser) -> None:
    """Let a command reach a broker."""
    config_option(parser)
    parser.add_argument(
        "--broker", metavar="HOST[:PORT]", help="without TLS, in place of the configuration's"
    )
    parser.add_argument(
        "--prefix", default="gatewayd", help="of the topics, with --broker; default %(default)s"
    )


def credentials() -> Path | None:
    """Return where systemd put our credentials."""
    from gatewayd.config.credentials import credentials_directory

    return credentials_directory(os.environ)


def reach(arguments: argparse.Namespace, who: str) -> Reach | int:
    """Return how to reach the broker, as the arguments and the configuration say; or the exit status."""
    from gatewayd.config.credentials import CredentialError
    from gatewayd.config.load import load, read_machine_id
    from gatewayd.config.problem import ConfigurationError
    from gatewayd.monitor.client import Options, options_from, parse_broker

    try:
        if arguments.broker is not None:
            return Options(brokers=(parse_broker(arguments.broker),), prefix=arguments.prefix)
        loaded = load(arguments.config, credentials=credentials(), machine_id=read_machine_id())
        return options_from(loaded.config, credentials())
    except ConfigurationError as error:
        print(*error.errors, sep="\n", file=sys.stderr)
        return BAD_CONFIGURATION
    except ValueError as error:
        print(f"{who}: --broker: {error}", file=sys.stderr)
        return USAGE
    except (CredentialError, OSError) as error:
        print(f"{who}: {error}", file=sys.stderr)
        return FAILED
