"""What goes into a system: marked messages of a given size, and which of them the system said it has."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

ALARM: Final = "a"
SOUND: Final = "s"
WARM: Final = "w"  # shows that a system delivers, and is not counted
MARK: Final = re.compile(rb"bench:([asw]\d+);")
AHEAD: Final = 1_000  # messages a feed is ahead of what was accepted: the system is never idle, nor flooded


def content(mark: str, size: int) -> str:
    """Return what a message says: its mark, filled up to `size` bytes."""
    return f"bench:{mark};".ljust(size, "x")


@dataclass(slots=True)
class Ledger:
    """When each mark was put and when it was accepted, in seconds since 1970; outlives a system's death."""

    put_s: dict[str, float] = field(default_factory=dict)
    accepted_s: dict[str, float] = field(default_factory=dict)

    def accepted(self, kind: str) -> set[str]:
        """The marks of a kind that the system said it has."""
        return {mark for mark in self.accepted_s if mark.startswith(kind)}


class Feed:
    """Puts messages: a line `MARK SIZE` each; hears a line `MARK` when one is accepted."""

    def __init__(self, ledger: Ledger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ledger = ledger
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._listen(), name="feed")

    async def close(self) -> None:
        """Put no more, hear no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def put(self, mark: str, size: int) -> None:
        """Hand over one message."""
        self._ledger.put_s[mark] = time.time()
        self._writer.write(f"{mark} {size}\n".encode())
        await self._writer.drain()

    async def paced(self, kind: str, numbers: Sequence[int], size: int, rate: float) -> None:
        """Put messages of a kind, `rate` a second; return when the next one would be due."""
        began_s = time.monotonic()
        for place, number in enumerate(numbers, 1):
            await self.put(f"{kind}{number}", size)
            await asyncio.sleep(began_s + place / rate - time.monotonic())

    async def fast(self, kind: str, count: int, size: int, within_s: float) -> None:
        """Put as fast as they are accepted; return when all are, or when the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                before = len(self._ledger.accepted_s)
                for number in range(count):
                    await self._accepted(before + number - AHEAD)
                    await self.put(f"{kind}{number}", size)
                await self._accepted(before + count)

    async def _accepted(self, count: int) -> None:
        """Wait until `count` of all that was put are accepted."""
        while len(self._ledger.accepted_s) < count:
            self._news.clear()
            await self._news.wait()

    async def _listen(self) -> None:
        with suppress(OSError):
            async for line in self._reader:
                self._ledger.accepted_s.setdefault(line.decode().strip(), time.time())
                self._news.set()


def disorder(numbers: Iterable[int]) -> int:
    """How many came after one that was put later."""
    newest, count = -math.inf, 0
    for number in numbers:
        count += number < newest
        newest = max(newest, number)
    return count
