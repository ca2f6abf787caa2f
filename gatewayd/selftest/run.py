"""All subjects at once, beside a daemon that may be running, and over within 30 s whatever hangs.

What the daemon uses alone (receiver, microphone, pins) is not touched while it runs: it is asked instead. The
broker is met under a client id of our own; the radio is shared by bluetoothd, the outbox by SQLite.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from typing import Final

from gatewayd.selftest.checks import CHECKS
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.row import Finding, Row, Subject, fail, failed
from gatewayd.selftest.show import table, to_json
from gatewayd.selftest.site import Options, Site

logger = logging.getLogger(__name__)

FINE: Final = 0
FAILED: Final = 1
BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits(3)
# What has no answer by then has none; some seconds more are for the edges to let go.
LIMIT_S: Final = 26.0
_LEAVE_S: Final = 2.0  # for the edges to let go of their devices; what does not is left behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was found. `bad_configuration`: the daemon would refuse it. `hangs`: something did not end."""

    rows: tuple[Row, ...]
    bad_configuration: bool = False
    hangs: bool = False

    @property
    def status(self) -> int:
        """The exit status."""
        if self.bad_configuration:
            return BAD_CONFIGURATION
        return FAILED if failed(self.rows) else FINE


async def selftest(options: Options, *, as_json: bool) -> int:
    """Look, print the rows, and return the exit status: 0, 1 when something failed, 78 bad configuration."""
    for noisy in ("bleak", "gatewayd"):  # what the edges have to say is in the rows
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if sys.stderr.isatty():
        sys.stderr.write(f"looking, and listening for up to {options.listen_s:.0f} s …\n")
    result = await examine(options, Machine())
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    lines = [to_json(result.rows)] if as_json else table(result.rows, width)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if result.hangs:  # a thread in a driver may never end, and must not hold us
        sys.stdout.flush()
        os._exit(result.status)
    return result.status


async def examine(options: Options, machine: Machine, *, limit_s: float = LIMIT_S) -> Result:
    """Look at the subjects of `options.only`, and at the configuration if it is bad."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + limit_s
    try:
        async with asyncio.timeout_at(end_s):
            site = await Site.find(options, machine)
    except TimeoutError:
        rows = tuple(Row(subject=subject, findings=(_hangs(limit_s),)) for subject in options.only)
        return Result(rows=rows, hangs=True)
    bad = site.configuration.is_bad
    tasks: dict[Subject, asyncio.Task[list[Finding]]] = {}
    for subject, check in CHECKS.items():
        if subject in options.only or (subject is Subject.CONFIGURATION and bad):
            tasks[subject] = asyncio.create_task(check(site), name=subject)
    _, late = await asyncio.wait(tasks.values(), timeout=end_s - loop.time())
    rows = tuple(
        Row(subject=subject, findings=_outcome(subject, task, limit_s)) for subject, task in tasks.items()
    )
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=_LEAVE_S)
    return Result(rows=rows, bad_configuration=bad, hangs=bool(late))


def _outcome(subject: Subject, task: asyncio.Task[list[Finding]], limit_s: float) -> tuple[Finding, ...]:
    if not task.done():
        return (_hangs(limit_s),)
    error = task.exception()
    if error is None:
        return tuple(task.result())
    logger.error("the check of %s failed", subject, exc_info=error)
    return (
        fail(
            f"its check failed: {type(error).__name__}: {error}",
            "tell who maintains gatewayd, with the above",
        ),
    )


def _hangs(limit_s: float) -> Finding:
    return fail(
        f"no answer within {limit_s:.0f} s: a driver, a disk or a daemon hangs",
        "`dmesg | tail` and `systemctl --failed` tell what; a reboot frees what hangs",
    )
