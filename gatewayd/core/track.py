"""Where the gateway is and was: the newest fix, the positions before it, where it is parked, what is due.

Rules:
- Fixes that can be trusted and stay within `PARKED_M` of their mean for `PARKED_S` mean that the vehicle is
  parked: from then on its position is that mean, which is better than any one of them, `method: parked`.
- It stays so without a fix, as in a garage; older than a fix may be it is not trusted, like any other.
- `LEFT_FIXES` in a row that are farther away end it: one may be a reflection, the next second tells. Of those
  that cannot be trusted it takes `POOR_LEFT_FIXES`, each farther away than its own error explains.
- What was last known is kept across restarts, and is the last known position until there is a fix.

An alarm's own `position` events are not decided here but in `alarm`, which knows when it was raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import cos, hypot, radians
from typing import Final

from gatewayd.core import payload
from gatewayd.core.alarm import Alarm
from gatewayd.core.alarm.model import elapsed_s
from gatewayd.core.alarm.step import POSITION_DENSE_S
from gatewayd.core.fix import TRUSTED_ERROR_M, error_m, is_good, position
from gatewayd.core.model import Body, Fix, FixMode, Instant, Method, Subject

# While an alarm is new a position is told every 5 s; later, and of a vehicle that is followed, every 30 s.
ALARM_EVERY_S: Final = 5.0
FOLLOWED_EVERY_S: Final = 30.0
KEPT: Final = 3  # the newest position and the two before it, which an alarm carries as `recent`
# No traffic light lasts so long; a worker has not yet rung the bell.
PARKED_S: Final = 120.0
# Fixes among houses wander by 10 to 20 m while one stands (95 % within 2 × 5 m at a dilution of 2).
PARKED_M: Final = 30.0
LEFT_FIXES: Final = 3
POOR_LEFT_FIXES: Final = 10  # reflections among houses come and go within seconds while one stands
# A metre north in degrees: WGS 84's meridian is 40,007.863 km long.
METRES_PER_DEGREE: Final = 40_007_863 / 360
MOVED_M: Final = 100.0  # what is on disk is news only beyond this: a street further


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where fixes have stayed: their mean, since when, and how many beyond it came since the last within.

    `doubts`: how many of those came that cannot be trusted.
    """

    lat: float
    lon: float
    since: Instant
    fixes: int = 1
    beyond: int = 0
    doubts: int = 0

    def takes(self, lat: float, lon: float) -> Anchor | None:
        """The anchor with another fix; None: it is left."""
        north, east = lat - self.lat, _turned(lon - self.lon)
        if self._metres(lat, lon) > PARKED_M:
            return None if self.beyond + 1 >= LEFT_FIXES else replace(self, beyond=self.beyond + 1)
        share = 1 / (self.fixes + 1)
        return replace(
            self,
            lat=self.lat + north * share,
            lon=_turned(self.lon + east * share),
            fixes=self.fixes + 1,
            beyond=0,
            doubts=0,
        )

    def doubted(self, lat: float, lon: float, off_m: float) -> Anchor | None:
        """The anchor with a fix that may be `off_m` off, which moves it nowhere; None: it is left."""
        if self._metres(lat, lon) <= PARKED_M + off_m:
            return replace(self, doubts=0)
        return None if self.doubts + 1 >= POOR_LEFT_FIXES else replace(self, doubts=self.doubts + 1)

    def _metres(self, lat: float, lon: float) -> float:
        return _metres(self.lat, lat - self.lat, _turned(lon - self.lon))


class Track:
    """One gateway's positions."""

    def __init__(self) -> None:
        self._fix: Fix | None = None
        self._kept: deque[Body] = deque(maxlen=KEPT)
        self._kept_s = 0.0
        self._told_s = float("-inf")
        self._anchor: Anchor | None = None
        self._parked = False
        self._recorded: Fix | None = None

    def take(self, fix: Fix, now: Instant, *, subject: Subject) -> None:
        """Take a fix. One without a position leaves the last known one standing."""
        if fix.lat is not None:
            self._fix = fix
            self._park(fix, now)
        where = None if fix.lat is None else self.position(now, subject=subject, hub=None)
        if where is None:
            return
        if not self._kept or now.mono_s - self._kept_s >= ALARM_EVERY_S:
            self._kept_s = now.mono_s
            self._kept.append(where)
        else:
            self._kept[-1] = where

    def _park(self, fix: Fix, now: Instant) -> None:
        if fix.lat is None or fix.lon is None or fix.received is None:
            return
        if not is_good(fix):
            off_m = error_m(fix)
            off_m = TRUSTED_ERROR_M if off_m is None else off_m
            self._anchor = self._anchor and self._anchor.doubted(fix.lat, fix.lon, off_m)
            self._parked = self._parked and self._anchor is not None
            return
        anchor = None if self._anchor is None else self._anchor.takes(fix.lat, fix.lon)
        if anchor is None:
            self._parked = False
            anchor = Anchor(lat=fix.lat, lon=fix.lon, since=fix.received)
        self._anchor = anchor
        self._parked = self._parked or elapsed_s(anchor.since, now) >= PARKED_S

    def position(self, now: Instant, *, subject: Subject, hub: tuple[float, float] | None) -> Body | None:
        """Give the contract's position as it is now, with its age; None when there never was one."""
        where = position(self._fix, now, subject=subject, hub=hub)
        if where is None or hub is not None or not self._parked or self._anchor is None:
            return where
        moving = {"speed_mps", "course_deg"}  # it does neither
        return {
            **{name: value for name, value in where.items() if name not in moving},
            "lat": round(self._anchor.lat, 7),
            "lon": round(self._anchor.lon, 7),
            "method": Method.PARKED.value,
            "parked_at": self._anchor.since,
        }

    @property
    def recent(self) -> tuple[Body, ...]:
        """Up to two positions before the newest, oldest first, at least 5 s apart."""
        return tuple(self._kept)[:-1]

    def due(
        self, now: Instant, *, alarms: Iterable[Alarm], followed: bool, located_s: float | None = None
    ) -> bool:
        """Whether the `position` topic is to be told now; if so it counts as told.

        `followed`: where the gateway is leaves it without an alarm, too; `located_s`: as often as ops ask.
        """
        calls_s = [elapsed_s(alarm.called, now) for alarm in alarms if alarm.open]
        every_s = [] if located_s is None else [located_s]
        if calls_s or followed:
            dense = min(calls_s, default=POSITION_DENSE_S) < POSITION_DENSE_S
            every_s.append(ALARM_EVERY_S if dense else FOLLOWED_EVERY_S)
        if not every_s or now.mono_s - self._told_s < min(every_s):
            return False
        self._told_s = now.mono_s
        return True

    # --- across restarts ------------------------------------------------------------------------------------

    def record(self, *, anew: bool = False) -> str | None:
        """What is to be stored of the newest fix; None: nothing that the disk does not know about.

        `anew`: the disk knows nothing.
        """
        fix, known = self._fix, self._recorded
        if fix is None or fix.lat is None or fix.lon is None:
            return None
        if not anew and known is not None and known.lat is not None and known.lon is not None:
            metres = _metres(fix.lat, fix.lat - known.lat, _turned(fix.lon - known.lon))
            if metres <= MOVED_M:
                return None
        self._recorded = fix
        return payload.dump({field.name: getattr(fix, field.name) for field in fields(fix)})

    def restore(self, text: str | None) -> None:
        """Take what an earlier run stored; what is damaged, or older than what is known, counts as none."""
        if text is None or self._fix is not None:
            return
        try:
            body = payload.load(text)
            fix = Fix(**{**body, "mode": FixMode(str(body.get("mode")))})  # type: ignore[arg-type]  # judged below
        except (ValueError, TypeError):
            return
        numbers = (fix.lat, fix.lon)
        if all(isinstance(number, float | int) for number in numbers) and isinstance(fix.received, Instant):
            self._fix = self._recorded = fix


def _turned(degrees: float) -> float:
    """Longitudes, and what lies between two, from -180 to 180."""
    return (degrees + 180) % 360 - 180


def _metres(lat: float, north: float, east: float) -> float:
    """How far it is, for distances at which the earth is flat; degrees."""
    return METRES_PER_DEGREE * hypot(north, east * cos(radians(lat)))
