"""Whoever should know and does not answer: an alarm that nobody has is told again, more urgently, by time.

Its clock starts when nobody has it: raised, raised again, reopened, handed back by the last who had it. It
stops when somebody takes it, never because time is over. Level n is due so many seconds after the start as
the nth of `escalate_after` says, unless ops have gone that far already. The gateway does it by itself, so it
works offline, and after a restart by what clocks tell; where none can, it was long ago. A test is not
escalated.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from gatewayd.core.alarm.model import AT_IT, Alarm, Part, elapsed_s
from gatewayd.core.alarm.table import Trigger
from gatewayd.core.alarm.turn import Told, Turn
from gatewayd.core.model import Body, Instant, Mode
from gatewayd.core.uuid7 import derive


def unattended(alarm: Alarm, since: Instant) -> Alarm:
    """Return the alarm with nobody at it: who was has to answer anew."""
    asked = tuple(
        replace(responder, part=Part.ASKED, since=since, eta=None) if responder.part in AT_IT else responder
        for responder in alarm.responders
    )
    return replace(alarm, responders=asked, waiting=since, level=0)


def escalate(turn: Turn, alarm: Alarm, body: Body, told: Told) -> Alarm:
    """Tell the alarm one level higher."""
    higher = replace(alarm, level=alarm.level + 1)
    return turn.tell(higher, Trigger.ESCALATED, {"level": higher.level, **body}, told)


def tick(turn: Turn) -> None:
    """Tell every level that is due."""
    for alarm in list(turn.alarms.values()):
        if alarm.open and alarm.waiting is not None and alarm.mode is not Mode.TEST:
            _tick(turn, alarm, alarm.waiting)


def _tick(turn: Turn, alarm: Alarm, since: Instant) -> None:
    due = bisect_right(turn.settings.escalate_after_s, elapsed_s(since, turn.now))
    while alarm.level < due:
        # Derived, so that one told again after a kill has the same id.
        name = f"escalated {alarm.level + 1} {since.boot} {since.mono_s} {since.wall_s}"
        alarm = escalate(turn, alarm, {"reason": "time"}, Told(id=derive(alarm.id, name)))
