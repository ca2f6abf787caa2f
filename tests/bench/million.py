"""An outbox of a million rows: what it costs in memory, and how long the gateway stays deaf at its start."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

from sending import Maker

from bench.counter import FILE, Counter
from bench.figures import Figure
from bench.process import rss_mb
from bench.sender import fill
from bench.surroundings import MeasuredWorld
from gatewayd.core.model import Message, MessageClass

# Rows, starts, and how long each then runs, seconds: what waits is counted every few seconds.
WHOLE: Final = (1_000_000, 5, 20.0)
QUICK: Final = (2_000, 1, 1.0)
BODY: Final = {"note": "x" * 189}  # 200 bytes of JSON
CLASSES: Final = (MessageClass.ALARM, MessageClass.STATE, MessageClass.POSITION, MessageClass.TELEMETRY)
RATE: Final = 200  # advertisements a second: one at least every 5 ms
POLL_S: Final = 0.002
START_S: Final = 60.0
MOST_MB: Final = 10.0
MOST_RATIO: Final = 1.2


async def measure(rows: int, starts: int, settle_s: float) -> list[Figure]:
    """Start the daemon with an empty and with a full outbox in turn; then let the full one drain."""
    took_s: dict[str, list[float]] = {"empty": [], "full": []}
    waits_mb: dict[str, list[float]] = {"empty": [], "full": []}
    drains_mb: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        states = {name: Path(folder, name) for name in took_s}
        for name, number in (("empty", 0), ("full", rows)):
            await fill(states[name] / "outbox.db", _messages(number))
        for run in range(starts):
            for name, state in states.items():
                async with _alone(state) as (world, heard_s):
                    took_s[name].append(heard_s)
                    await asyncio.sleep(settle_s)
                    waits_mb[name].append(rss_mb(world.pid))
                    if run == starts - 1:
                        drains_mb[name] = await _online(world, settle_s)
    return [
        _above("rss_million_waiting", f"{rows} rows queued, no link: RSS above empty", waits_mb),
        _above(
            "rss_million_draining",
            f"{rows} rows queued, draining: RSS above empty",
            {name: [value] for name, value in drains_mb.items()},
        ),
        Figure(
            name="start_million",
            what=f"start → first advertisement heard, {rows} rows queued, median of {starts}",
            value=median(took_s["full"]),
            unit="s",
            beside=median(took_s["empty"]),
            beside_what="empty",
            most_ratio=MOST_RATIO,
        ),
    ]


def _messages(number: int) -> Iterator[Message]:
    make = Maker()
    for each in range(number):
        name = CLASSES[each % len(CLASSES)]
        yield make(name, f"bench/{name}", body=BODY)


def _above(name: str, what: str, megabytes: dict[str, list[float]]) -> Figure:
    return Figure(
        name=name,
        what=f"{what}, median of {len(megabytes['full'])}",
        value=median(megabytes["full"]) - median(megabytes["empty"]),
        unit="MB",
        beside=median(megabytes["empty"]),
        beside_what="empty",
        most=MOST_MB,
    )


@asynccontextmanager
async def _alone(state: Path) -> AsyncIterator[tuple[MeasuredWorld, float]]:
    """A daemon without a broker, among other people's devices, and when it heard the first, seconds."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        file = Path(folder, "heard")
        counter = Counter(file)
        world = MeasuredWorld(
            Path(folder), program="bench.counted_daemon", more={FILE: str(file)}, state=state
        )
        async with world.up():
            world.broker.kill()
            _forget_cached(state / "outbox.db")
            flooding = asyncio.create_task(
                world.order(do="flood", rate=RATE, addresses=RATE, for_s=START_S), name="flood"
            )
            began_s = time.monotonic()
            await world.start()
            async with asyncio.timeout(START_S):
                while counter.value == 0:  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(POLL_S)
            heard_s = time.monotonic() - began_s
            try:
                yield world, heard_s
            finally:
                flooding.cancel()


async def _online(world: MeasuredWorld, for_s: float) -> float:
    """The most it takes while a broker takes what there is, MB."""
    world.broker.start()
    most_mb, until_s = 0.0, time.monotonic() + for_s
    while time.monotonic() < until_s:
        most_mb = max(most_mb, rss_mb(world.pid))
        await asyncio.sleep(0.1)
    return most_mb


def _forget_cached(path: Path) -> None:
    """Have the file on disk only, as after a boot."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
