"""Where the gateway is and was: the newest fix, the positions before it, when the `position` topic is due.

An alarm's own `position` events are not decided here but in `alarm`, which knows when it was raised.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gatewayd.core.fix import position
from gatewayd.core.model import Body, Fix, Instant, Subject

# While an alarm is open a position is told every 5 s; a vehicle that is followed all the time, every 30 s.
ALARM_EVERY_S: Final = 5.0
ALWAYS_EVERY_S: Final = 30.0
KEPT: Final = 3  # the newest position and the two before it, which an alarm carries as `recent`


class Track:
    """One gateway's positions."""

    def __init__(self) -> None:
        self._fix: Fix | None = None
        self._kept: deque[Body] = deque(maxlen=KEPT)
        self._kept_s = 0.0
        self._told_s = float("-inf")

    def take(self, fix: Fix, now: Instant, *, subject: Subject) -> None:
        """Take a fix. One without a position leaves the last known one standing."""
        where = None if fix.lat is None else position(fix, now, subject=subject)
        if where is None:
            return
        self._fix = fix
        if not self._kept or now.mono_s - self._kept_s >= ALARM_EVERY_S:
            self._kept_s = now.mono_s
            self._kept.append(where)
        else:
            self._kept[-1] = where

    def position(self, now: Instant, *, subject: Subject, hub: tuple[float, float] | None) -> Body | None:
        """Give the contract's position as it is now, with its age; None when there never was one."""
        return position(self._fix, now, subject=subject, hub=hub)

    @property
    def recent(self) -> tuple[Body, ...]:
        """Up to two positions before the newest, oldest first, at least 5 s apart."""
        return tuple(self._kept)[:-1]

    def due(self, now: Instant, *, alarm_open: bool, always: bool) -> bool:
        """Whether the `position` topic is to be told now; if so it counts as told."""
        every_s = ALARM_EVERY_S if alarm_open else ALWAYS_EVERY_S
        if not (alarm_open or always) or now.mono_s - self._told_s < every_s:
            return False
        self._told_s = now.mono_s
        return True
