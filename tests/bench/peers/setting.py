"""A system in its place: fed on one side, a link, a broker and a recorder on the other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.peers.feed import WARM, Feed, Ledger
from bench.peers.rig import Rig
from bench.peers.systems import Make, System

READY_S: Final = 120.0  # dozens of Python programs that start at once, on two cores
WARMED_S: Final = 3.0  # for what is still on its way; what hears by radio now and then may never hear it
WARM_EVERY_S: Final = 0.5
ALARM_BYTES: Final = 200


class Setting:
    """One system under test and all that is around it."""

    def __init__(self, system: System, rig: Rig) -> None:
        self.system = system
        self.rig = rig
        self.ledger = Ledger()
        self.feed: Feed | None = None

    async def start(self) -> Feed:
        """Start the system, also once more after its death."""
        self.feed = await self.system.start(self.ledger, self.rig.proxy.port, self.rig.broker.port)
        return self.feed

    async def stop(self) -> None:
        """End the system."""
        if self.feed is not None:
            await self.feed.close()
        await self.system.stop()

    async def kill(self) -> None:
        """Kill the system."""
        await self.system.kill()
        if self.feed is not None:
            await self.feed.close()

    async def ready(self) -> Feed:
        """Start it and wait until it delivers. TimeoutError when it does not."""
        feed = await self.start()
        deadline_s = time.monotonic() + READY_S
        number = 0
        while not self.rig.recorder.seen:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"expected a system that delivers within {READY_S:.0f} s, nothing came")
            await feed.put(f"{WARM}{number}", ALARM_BYTES)
            await self.rig.until({f"{WARM}{number}"}, WARM_EVERY_S)
            number += 1
        await self.rig.until({f"{WARM}{each}" for each in range(number)}, WARMED_S)
        return feed


@asynccontextmanager
async def setting(make: Make, folder: Path, shim: Path) -> AsyncIterator[Setting]:
    """Have everything there but the system started."""
    async with Rig(folder) as rig:
        placed = Setting(make(folder / "system", shim), rig)
        try:
            yield placed
        finally:
            await placed.stop()
