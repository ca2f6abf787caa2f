"""The daemon as a process: its log, its configuration or the last good one, its exit status.

For tests of the systemd watchdog only: with `GATEWAYD_TEST_HOOKS=1` in its environment SIGUSR2 hangs the
event loop for good (`systemctl kill --kill-whom=main --signal=SIGUSR2 gatewayd`). Without it there is no such
hook, and SIGUSR2 does what it does to any program.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gatewayd.app import App
from gatewayd.config.load import Started, load_or_last_good, read_machine_id
from gatewayd.config.problem import ConfigurationError
from gatewayd.core.journal import MessageId, fields
from gatewayd.edge.systemd import log_handler

logger = logging.getLogger(__name__)

BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits(3)
TEST_HOOKS: Final = "GATEWAYD_TEST_HOOKS"
HANG_S: Final = 86_400.0  # longer than any watchdog waits


def main(*, config: Path | None, state: Path | None, credentials: Path | None) -> int:
    """Run the daemon; return its exit status: 0, or 78 when there is no configuration to run on."""
    logging.basicConfig(level=logging.INFO, handlers=[log_handler()])
    logging.getLogger("bleak").setLevel(logging.ERROR)  # it warns of every connection that we drop ourselves
    folder = state or state_folder(os.environ)
    try:
        started = load_or_last_good(config, folder, credentials=credentials, machine_id=read_machine_id())
    except ConfigurationError as error:
        for problem in error.errors:
            logger.error("configuration: %s", problem, extra=fields(MessageId.CONFIGURATION_REFUSED))
        return BAD_CONFIGURATION
    asyncio.run(_run(started, config, folder, credentials))
    return 0


async def _run(started: Started, config: Path | None, state: Path, credentials: Path | None) -> None:
    if os.environ.get(TEST_HOOKS) == "1":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _hang)
    await App(started, config_path=config, state=state, credentials=credentials).run()


def _hang() -> None:
    logger.error("test hook: the event loop hangs from now on")
    time.sleep(HANG_S)


def state_folder(environ: Mapping[str, str]) -> Path:
    """Return where state lives: what systemd made for us, else the user's own."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else Path.home() / ".local/state/gatewayd"
