"""What simulations of days share: a clock that is passed in, and a machine that has a wall clock and a disk.

Time is `Timeline.now_s`, true time: what happens is arranged on it and happens in its order, at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from shift.tags import Frame

from gatewayd.core.model import Advertisement, ClockSource, Instant
from gatewayd.gateway import Gateway

WALL_S: Final = 1_800_230_400.0  # true time 0: Monday 2027-01-18, 00:00 UTC
ON_S: Final = 10.0  # from the machine's start to that of its daemon


Act: TypeAlias = Callable[[], object]  # something that happens


class Timeline:
    """What is to happen, and when."""

    def __init__(self) -> None:
        self.now_s = 0.0  # true time
        self._skipped_s = 0.0  # not counted in the queue's times
        self._queue: list[tuple[float, int, Act]] = []
        self._order = itertools.count()

    def after(self, wait_s: float, act: Act) -> None:
        """Let something happen `wait_s` from now."""
        heapq.heappush(self._queue, (self.now_s - self._skipped_s + wait_s, next(self._order), act))

    def skip(self, seconds: float) -> None:
        """Let time pass in which nothing happens: what is arranged comes so much later."""
        self._skipped_s += seconds
        self.now_s += seconds

    def run(self, until_s: Callable[[], float]) -> None:
        """Let things happen; `until_s`: the last moment at which something may, asked before each."""
        while self._queue and self._queue[0][0] + self._skipped_s <= until_s():
            at_s, _, act = heapq.heappop(self._queue)
            self.now_s = at_s + self._skipped_s
            act()


@dataclass(slots=True)
class Machine:
    """The computer that a gateway runs on: its boots, the time it shows, and what is on its disk."""

    name: str
    clock: Callable[[], float]  # true time, seconds
    disk: dict[str, dict[str, str]] = field(default_factory=dict)  # records by kind, then by key
    source: ClockSource = ClockSource.NTP
    wrong_s: float = 0.0  # how far its wall clock is behind
    _boots: dict[str, float] = field(default_factory=dict)  # when each boot began, true time
    _boot: str = ""

    def boot(self, *, wrong_s: float = 0.0) -> None:
        """It starts, and but for the first time it does not know the time until it is told."""
        self._boot = f"{self.name}-{len(self._boots)}"
        self._boots[self._boot] = self.clock() - ON_S
        if len(self._boots) > 1:
            self.show(wrong_s, ClockSource.NONE)

    def show(self, wrong_s: float, source: ClockSource) -> None:
        """Its wall clock is set: so far behind, and told by that."""
        self.wrong_s, self.source = wrong_s, source

    def learn_time(self) -> None:
        """Something tells it the true time."""
        self.show(0.0, ClockSource.NTP)

    def now(self) -> Instant:
        """What its clocks show."""
        mono_s = self.clock() - self._boots[self._boot]
        wall_s = WALL_S + self.clock() - self.wrong_s
        return Instant(boot=self._boot, mono_s=mono_s, wall_s=wall_s, source=self.source, uncertainty_ms=5)

    def true_s(self, instant: Instant) -> float:
        """When that was in true time: its monotonic part tells."""
        return self._boots[instant.boot] + instant.mono_s

    def store(self, records: Mapping[tuple[str, str], str], forget: Iterable[tuple[str, str]]) -> None:
        """Put records on the disk, and take some from it."""
        for (kind, key), text in records.items():
            self.disk.setdefault(kind, {})[key] = text
        for kind, key in forget:
            self.disk.get(kind, {}).pop(key, None)

    def read(self) -> dict[str, dict[str, str]]:
        """What is on the disk, as a daemon that starts is given it."""
        return {kind: dict(records) for kind, records in self.disk.items()}


def hear(gateway: Gateway, frame: Frame, heard_s: float) -> None:
    """Have a gateway hear a frame, as the radio edge does; `heard_s`: CLOCK_MONOTONIC of its machine."""
    if gateway.listener.concerns(frame.address, frame.service_data, frame.manufacturer_data, -70):
        gateway.on_advertisement(
            Advertisement(
                address=frame.address,
                heard_s=heard_s,
                rssi_dbm=-70,
                service_data=frame.service_data,
                manufacturer_data=frame.manufacturer_data,
            )
        )
