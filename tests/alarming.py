"""A gateway around the alarms' table, for tests of its rules."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from contract import validate

from gatewayd.core import payload, topic
from gatewayd.core.alarm import (
    Alarm,
    Alarms,
    Cause,
    Commanded,
    Effect,
    Event,
    Pressed,
    Publish,
    Raised,
    Save,
    Settings,
    SoundOpened,
    from_json,
    step,
    to_json,
)
from gatewayd.core.command import Actor, Command, Order, Reply
from gatewayd.core.model import Body, ClockSource, ClockState, Draft, Instant, Mode, Press, Tag, TagEvent
from gatewayd.core.uuid7 import uuid7

NOON_S = 1_772_366_400.0
DAY_S = 86_400.0
DURATION_S = 600.0
SOUND = Settings(audio=True, duration_s=DURATION_S)
STEPS_S = (30.0, 60.0, 120.0)
ESCALATING = Settings(
    audio=True,
    duration_s=DURATION_S,
    escalate_after_s=STEPS_S,
    tags=(Tag(name="t-1", format="bthome", worker="w-1"), Tag(name="t-2", format="itag", beep=True)),
)
NO_SOUND = Settings(audio=False, duration_s=DURATION_S)
ADA, BOB = Actor(id="ada", name="Ada"), Actor(id="bob")
HERE: Body = {"lat": 52.0, "lon": 5.0, "trusted": True, "subject": "vehicle", "method": "gnss"}
ROUGH: Body = {**HERE, "trusted": False}
HEAD = "T2dnUw=="
VISIT: Body = {
    "id": "v-1",
    "worker": "w-1",
    "expected_end_at": Instant(boot="", mono_s=0.0, wall_s=NOON_S, source=ClockSource.NONE, uncertainty_ms=0),
    "risk": "high",
    "note": "dog in the hall",
    "code_word_ref": "card 7",
    "address": {"street": "Dam", "number": "1"},
}


class World:
    """A gateway around the table: its clock, its alarms, and what the last step asked for.

    Everything published is held to the contract.
    """

    def __init__(self, *, settings: Settings = SOUND, source: ClockSource = ClockSource.NTP) -> None:
        self.now = Instant(boot="b1", mono_s=100.0, wall_s=NOON_S, source=source, uncertainty_ms=5)
        self.settings = settings
        self.alarms: Alarms = {}
        self.effects: tuple[Effect, ...] = ()
        self.ids = count(1)
        self._stamper = payload.Stamper("3f6f5a0e-7c07-4b35-9d2b-2f8a6a0b4d11")

    def do(self, event: Event) -> tuple[Effect, ...]:
        """Take one step."""
        self.alarms, self.effects = step(self.alarms, event, self.now, self.settings)
        for draft in self.drafts:
            self.told(draft)
        return self.effects

    def after(self, seconds: float) -> World:
        """Let time pass."""
        self.now = replace(self.now, mono_s=self.now.mono_s + seconds, wall_s=self.now.wall_s + seconds)
        return self

    def reboot(self, seconds: float, source: ClockSource = ClockSource.NTP) -> World:
        """Lose everything but what is on the disk."""
        self.alarms = {name: from_json(to_json(alarm)) for name, alarm in self.alarms.items()}
        self.now = replace(
            self.now,
            boot=f"{self.now.boot}+",
            mono_s=1.0,
            wall_s=self.now.wall_s + seconds,
            source=source,
        )
        return self

    def told(self, draft: Draft) -> dict[str, Any]:
        """The message as ops get it."""
        clock = ClockState(boot="", offset_s=0.0, source=ClockSource.NONE, uncertainty_ms=0)
        message = self._stamper.stamp(draft, next(self.ids).to_bytes(10, "big"))
        rendered = payload.render(message, gateway="gw-1", clock=clock, published=self.now)
        return validate(draft.topic, rendered.payload) or {}

    def press(self, tag: str = "t-1", worker: str | None = "w-1", **more: Any) -> Alarm:
        """Press a tag; give the alarm it belongs to."""
        known: dict[str, Any] = {
            "format": "bthome",
            "event": TagEvent.PRESS,
            "heard": self.now,
            "mode": Mode.ACTUAL,
        } | more
        position = known.pop("position", None)
        recent = known.pop("recent", ())
        visit = known.pop("visit", None)
        test_s = known.pop("test_s", None)
        pressed = Pressed(
            press=Press(tag=tag, worker=worker, **known),
            next_alarm_id=self.new_id(),
            position=position,
            recent=recent,
            visit=visit,
            decided=self.now,
            test_s=test_s,
        )
        self.do(pressed)
        saved = [effect.alarm for effect in self.effects if isinstance(effect, Save)]
        return next(alarm for alarm in saved if alarm.source == tag and alarm.mode is known["mode"])

    def overdue(self) -> str:
        """Have a visit's time pass; give the id of the alarm that raises."""
        raised = Raised(
            alarm=self.new_id(),
            cause=Cause.OVERDUE,
            at=self.now,
            worker="w-1",
            visit=VISIT,
            position=HERE,
            recent=(ROUGH,),
        )
        self.do(raised)
        return raised.alarm

    def new_id(self) -> str:
        return uuid7(int(self.now.wall_s * 1000), next(self.ids).to_bytes(10, "big"))

    def command(self, order: Order, actor: Actor = ADA, name: str | None = None) -> Reply:
        """Give a command, under this id; return the reply."""
        self.do(Commanded(command=Command(id=name or f"c-{next(self.ids)}", actor=actor, order=order)))
        [reply] = [effect for effect in self.effects if isinstance(effect, Reply)]
        return reply

    @property
    def drafts(self) -> list[Draft]:
        return [effect.draft for effect in self.effects if isinstance(effect, Publish)]

    @property
    def events(self) -> list[Draft]:
        """The events the last step told."""
        return [draft for draft in self.drafts if draft.topic.endswith("/event")]

    @property
    def types(self) -> list[str]:
        return [str(draft.body["type"]) for draft in self.events]

    def state(self, alarm: Alarm) -> Body:
        """The alarm's state as the last step told it."""
        [draft] = [draft for draft in self.drafts if draft.topic == topic.alarm_state(alarm.id)]
        return draft.body

    def __getitem__(self, alarm: Alarm) -> Alarm:
        """The alarm as it is now."""
        return self.alarms[alarm.id]


def recording(world: World, tag: str = "t-1", worker: str = "w-1") -> Alarm:
    """An alarm whose sound is being recorded."""
    alarm = world.press(tag, worker)
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    return world[alarm]
