"""One step's work: the alarms as they change, and what is to be done about it.

The only place where `handling` changes, an event is told and a timeline grows. What one step does to an
alarm is told as its events in order, then once as its state, then saved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from gatewayd.core import topic
from gatewayd.core.alarm.events import Effect, Publish, Save, Settings
from gatewayd.core.alarm.model import TIMELINE, Alarm, Alarms, elapsed_s, furthest, known
from gatewayd.core.alarm.table import TABLE, Handling, Trigger
from gatewayd.core.model import Body, Draft, Instant, Keep, MessageClass, Mode

STATE_EXPIRY_S: Final = 7 * 24 * 3600  # a closed alarm's state leaves the broker 7 days after closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How an event is told, where it is not the usual way."""

    at: Instant | None = None  # when it happened; None: now
    id: str | None = None  # a derived message id; None: a fresh one
    actor: Body | None = None
    quiet: bool = False  # goes with a position's priority, not an alarm's, and leaves the state untold


_USUAL: Final = Told()
# By these people come to an alarm.
_SENDS_PEOPLE: Final = frozenset(
    {Trigger.RAISED, Trigger.RAISED_AGAIN, Trigger.ESCALATED, Trigger.ACCEPTED, Trigger.RESPONDING}
)


def _target(alarm: Alarm, trigger: Trigger) -> Handling:
    """Return the handling that follows. KeyError where the table forbids it."""
    if trigger is Trigger.RAISED:
        return Handling.RAISED
    allowed = TABLE[trigger][alarm.handling]
    return allowed[0] if len(allowed) == 1 else furthest(alarm)


class Turn:
    """Collects the changes and effects of one step."""

    def __init__(self, alarms: Alarms, now: Instant, settings: Settings) -> None:
        self.now = now
        self.settings = settings
        self.effects: list[Effect] = []
        self._alarms = dict(alarms)
        self._to_state: dict[str, None] = {}  # ordered, each once
        self._to_save: dict[str, None] = {}

    @property
    def alarms(self) -> Alarms:
        """The alarms as they are by now."""
        return self._alarms

    def calls(self, mode: Mode) -> list[Alarm]:
        """Return the open alarms of a mode by which somebody calls: a press may belong to one."""
        return [
            alarm
            for alarm in self._alarms.values()
            if alarm.open and alarm.mode is mode and not alarm.derived
        ]

    def note(self, alarm: Alarm) -> Alarm:
        """Take a change that waits for the alarm's next saving."""
        self._alarms[alarm.id] = alarm
        return alarm

    def save(self, alarm: Alarm) -> Alarm:
        """Take a change that is saved with this step."""
        self._to_save[alarm.id] = None
        return self.note(alarm)

    def forget(self, alarm: str) -> None:
        """Drop an alarm."""
        del self._alarms[alarm]
        self._to_state.pop(alarm, None)
        self._to_save.pop(alarm, None)

    def tell(self, alarm: Alarm, trigger: Trigger, body: Body, told: Told = _USUAL) -> Alarm:
        """Change the alarm as the table says and tell it. KeyError where the table forbids it: a mistake."""
        handling = _target(alarm, trigger)
        at = told.at or self.now
        self.effects.append(
            Publish(
                draft=Draft(
                    topic=topic.alarm_event(alarm.id),
                    message_class=MessageClass.POSITION if told.quiet else MessageClass.ALARM,
                    keep=Keep.WHEN_WAITING if told.quiet else Keep.AT_ONCE,
                    at=at,
                    body=known(
                        {
                            "alarm": alarm.id,
                            "type": trigger.type,
                            "mode": alarm.mode.value,
                            "actor": told.actor,
                            **(alarm.for_people if trigger in _SENDS_PEOPLE else {}),
                            **body,
                        }
                    ),
                    id=told.id,
                )
            )
        )
        if trigger is not Trigger.POSITION:
            entry = known({"type": trigger.type, "at": at, "actor": told.actor})
            alarm = replace(alarm, timeline=(*alarm.timeline, entry)[-TIMELINE:])
        alarm = replace(alarm, handling=handling, updated=self.now)
        return self.note(alarm) if told.quiet else self.state(alarm)

    def state(self, alarm: Alarm) -> Alarm:
        """Have the alarm's state told, and saved, when this step ends."""
        self._to_state[alarm.id] = None
        return self.save(replace(alarm, stated=self.now))

    def retell(self, alarm: Alarm) -> None:
        """Have the alarm's state told once more, behind all that is new; what is over, behind everything."""
        behind = MessageClass.STATE if alarm.open else MessageClass.TELEMETRY
        self.effects.append(self._state(alarm, behind, Keep.WHEN_WAITING))

    def done(self) -> tuple[Alarms, tuple[Effect, ...]]:
        """Return the alarms and the effects: what was asked for in order, states after all events, saves."""
        states = [self._state(self._alarms[name]) for name in self._to_state]
        saves = [Save(alarm=self._alarms[name]) for name in self._to_save]
        return self._alarms, (*self.effects, *states, *saves)

    def _state(
        self, alarm: Alarm, name: MessageClass = MessageClass.ALARM, keep: Keep = Keep.AT_ONCE
    ) -> Publish:
        withdrawn = alarm.reviewed is not None
        return Publish(
            draft=Draft(
                topic=topic.alarm_state(alarm.id),
                message_class=name,
                keep=keep,
                at=self.now,
                body={} if withdrawn else alarm.body,
                retain=True,
                replaces=True,
                clears=withdrawn,
                expires_s=None if withdrawn else self._expires_s(alarm),
            )
        )

    def _expires_s(self, alarm: Alarm) -> int | None:
        """When an alarm's state is to leave the broker, however often it is told; None: never."""
        if alarm.open:
            return None
        closed_s = 0.0 if alarm.closed is None else elapsed_s(alarm.closed, self.now)
        return max(1, int(STATE_EXPIRY_S - closed_s)) if isfinite(closed_s) else STATE_EXPIRY_S
