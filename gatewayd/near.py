"""What those near the gateway are told of an alarm: the room by light and buzzer, its wearer by the tag.

All of it is silent unless configured, and of an alarm that is hushed nothing is told at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from gatewayd.core.alarm import Alarm
from gatewayd.core.model import Mode, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """The ways to tell: `accepted`, `tested` and `room` the room, `wearer` the tag of this name."""

    accepted: Callable[[Literal["disk", "broker"]], None]
    tested: Callable[[], None]
    room: Callable[[Told], None]
    wearer: Callable[[str, Told], None]

    def stored(self, alarm: Alarm | None, by: Literal["disk", "broker"]) -> None:
        """Tell that an alarm is safe: the room each time, the wearer the first."""
        if alarm is not None and not alarm.hushed:
            if alarm.mode is Mode.TEST:
                self.tested()
            else:
                self.accepted(by)
            if alarm.stored is None and alarm.confirmed is None:
                self._wearer(alarm, Told.STORED)

    def handled(self, alarm: Alarm | None, told: Told) -> None:
        """Tell what ops do about an alarm."""
        if alarm is not None and not alarm.hushed:
            self.room(told)
            self._wearer(alarm, told)

    def time_up(self, worker: str, tags: Iterable[str], alarms: Iterable[Alarm]) -> None:
        """Tell that an alarm follows unless the worker checks out.

        Not while an alarm of theirs is hushed: whoever stands there believes that they did.
        """
        mine = (alarm for alarm in alarms if alarm.open and alarm.wearer == worker)
        if any(alarm.hushed and not alarm.derived for alarm in mine):
            return
        self.room(Told.TIME_UP)
        for tag in tags:
            self.wearer(tag, Told.TIME_UP)

    def _wearer(self, alarm: Alarm, told: Told) -> None:
        if alarm.tag is not None:
            self.wearer(str(alarm.tag["id"]), told)
