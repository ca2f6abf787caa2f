"""A real-time clock counts after a boot when it was right before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sending import BOOT, running_outbox, until

from gatewayd.core.model import ClockSource
from gatewayd.edge.clock import Clock, KernelSync
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.timekeeper import RECORD, keep_time

YEARS_S = 3 * 365 * 86_400.0


class Machine:
    """Its clocks: the kernel's was set by the real-time clock at boot, both are `off_s` wrong."""

    def __init__(self, folder: Path, off_s: float = 0.0) -> None:
        self.off_s = off_s
        self.synchronised = False
        self._rtc = folder / "rtc"
        self._rtc.mkdir(exist_ok=True)
        (self._rtc / "since_epoch").write_text(f"{self.wall():.0f}\n")

    def wall(self) -> float:
        return time.time() + self.off_s

    def clock(self) -> Clock:
        return Clock(boot=BOOT, wall=self.wall, sync=self._sync, rtc=self._rtc)

    def _sync(self) -> KernelSync:
        return KernelSync(synchronised=self.synchronised, max_error_us=900)


@asynccontextmanager
async def kept(clock: Clock, outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_time(clock, outbox, look_s=0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def remembered(outbox: Outbox) -> str | None:
    return (await outbox.records(RECORD[0])).get(RECORD[1])


async def until_remembered(outbox: Outbox, what: Callable[[str | None], object]) -> None:
    async with asyncio.timeout(10):
        while not what(await remembered(outbox)):  # noqa: ASYNC110 - nothing else tells of it
            await asyncio.sleep(0.01)


async def test_a_real_time_clock_that_ntp_showed_to_be_right_counts_after_a_boot(tmp_path: Path) -> None:
    """And not before: nobody has said so."""
    machine = Machine(tmp_path)
    async with running_outbox(tmp_path / "outbox.db") as outbox:
        clock = machine.clock()
        async with kept(clock, outbox):
            await asyncio.sleep(0.05)
            assert clock.state().source is ClockSource.NONE
            machine.synchronised = True
            await until(clock.rtc_is_right)
            await until_remembered(outbox, lambda text: text is not None)
    machine.synchronised = False
    async with running_outbox(tmp_path / "outbox.db") as outbox:
        clock = machine.clock()
        assert clock.state().source is ClockSource.NONE
        async with kept(clock, outbox):
            await until(lambda: clock.state().source is ClockSource.RTC)


async def test_a_real_time_clock_that_turns_out_wrong_is_trusted_no_more(tmp_path: Path) -> None:
    """Somebody set it three years ahead: once the time is known the next boot is told so."""
    machine = Machine(tmp_path, off_s=YEARS_S)
    async with running_outbox(tmp_path / "outbox.db") as outbox:
        outbox.store(Batch(records={RECORD: repr(machine.wall() - 3600)}))
        clock = machine.clock()
        async with kept(clock, outbox):
            await until(lambda: clock.state().source is ClockSource.RTC)
            machine.off_s, machine.synchronised = 0.0, True
            await until_remembered(outbox, lambda text: text is None)
            machine.off_s, machine.synchronised = YEARS_S, False
            await until(lambda: clock.state().source is ClockSource.NONE)


async def test_a_damaged_record_is_told_and_counts_for_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    async with running_outbox(tmp_path / "outbox.db") as outbox:
        outbox.store(Batch(records={RECORD: "noon"}))
        clock = machine.clock()
        async with kept(clock, outbox):
            await asyncio.sleep(0.05)
            assert clock.state().source is ClockSource.NONE
            machine.synchronised = True
            await until_remembered(outbox, lambda text: text != "noon")
