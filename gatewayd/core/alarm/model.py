"""The alarm as a value: the state it is told in, the text it is stored as, and back from both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Final, TypeAlias, TypeVar

from gatewayd.core import payload
from gatewayd.core.alarm.table import Handling
from gatewayd.core.command import LARGEST_BYTES, Outcome
from gatewayd.core.model import Body, ClockSource, Instant, Json, Mode
from gatewayd.core.uuid7 import derive, is_uuid

TIMELINE: Final = 100  # entries in the state; the events themselves are the full record
GAPS: Final = 50  # in the state; one a minute for the longest listening of an hour is a broken microphone
NESTING: Final = 8  # levels below a state message's top; its own deepest, a gap in `audio.gaps`, is the third
WIRED: Final = "wired"  # the tag id of the wired button, which is no tag
UNKNOWN_BOOT: Final = ""  # of the times in a retained state: they have no monotonic time to compare

_Choice = TypeVar("_Choice", bound=StrEnum)


class Cause(StrEnum):
    """Why an alarm was raised."""

    PANIC = "panic"  # a tag's button
    WIRED = "wired"  # the wired button


SEVERITY: Final[Mapping[Cause, str]] = {Cause.PANIC: "critical", Cause.WIRED: "critical"}


class AudioState(StrEnum):
    """How an alarm's recording is."""

    OFF = "off"  # none: a test, or no microphone is configured
    STARTING = "starting"
    RECORDING = "recording"
    UNAVAILABLE = "unavailable"  # wanted, and tried again, but the microphone does not deliver
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """An alarm's part in the recording."""

    state: AudioState = AudioState.OFF
    recorded_in: str | None = None  # the alarm whose recording it is; None: its own
    ends: Instant | None = None  # until when this alarm wants it
    actor: Body | None = None  # who asked for it; None: the alarm itself
    codec: str | None = None
    head: str | None = None  # base64
    chunks: int = 0  # of its own
    reason: str | None = None  # why it is unavailable
    gaps: tuple[Body, ...] = ()  # sound that is missing in its own recording, the latest

    @property
    def wanted(self) -> bool:
        """Whether this alarm waits for sound or gets it."""
        return self.state in {AudioState.STARTING, AudioState.RECORDING, AudioState.UNAVAILABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm, from raised to closed."""

    id: str  # UUIDv7
    mode: Mode
    cause: Cause
    handling: Handling
    tag: Body | None  # the contract's tag object of the last press that was told; None: wired
    press_key: str | None  # of that press
    presses: int
    opened: Instant  # when the first press was heard
    pressed: Instant  # when the last press was heard
    spoken: Instant  # when the last press that was told was heard
    called: Instant  # when the press was heard that raised it, or raised it again
    call_id: str  # the id of the message that told so
    updated: Instant
    stated: Instant  # when the state was last told
    decided: Instant | None = None  # the call's hops: known to be a press,
    stored: Instant | None = None  # on the disk,
    published: Instant | None = None  # handed to the broker,
    confirmed: Instant | None = None  # and acknowledged by it
    owner: Body | None = None  # who took it
    test_s: int | None = None  # a test ends so long after it was opened, with its window; None: without one
    audio: Audio = field(default_factory=Audio)
    position: Body | None = None
    positioned: Instant | None = None  # when the last position was told since the call
    corroborated_by: tuple[str, ...] = ()  # the other workers' alarms
    outcome: Outcome | None = None
    police: bool | str | None = None
    lesson: str | None = None
    closed: Instant | None = None
    closing_id: str | None = None  # the id of the message that told so
    settled: Instant | None = None  # when the broker had that message
    timeline: tuple[Body, ...] = ()

    @property
    def open(self) -> bool:
        """Whether people still have to do something about it."""
        return self.handling is not Handling.CLOSED

    @property
    def source(self) -> str:
        """The tag's id, or "wired"."""
        return WIRED if self.tag is None else str(self.tag["id"])

    @property
    def who(self) -> str:
        """Whose alarm it is, to tell one worker from another: the worker, or else the tag itself."""
        worker = None if self.tag is None else self.tag.get("worker")
        return f"tag {self.source}" if worker is None else f"worker {worker}"

    @property
    def hops_ms(self) -> Body:
        """How long after the press was heard the call got how far. A hop that is not known is absent."""
        hops = {
            "decided": self.decided,
            "stored": self.stored,
            "published": self.published,
            "confirmed": self.confirmed,
        }
        passed = {name: elapsed_s(self.called, at) for name, at in hops.items() if at is not None}
        return {"heard": 0} | {name: round(s * 1000, 1) for name, s in passed.items() if isfinite(s)}

    @property
    def body(self) -> Body:
        """The alarm state of the contract. What is not known is absent."""
        return known(
            {
                "alarm": self.id,
                "mode": self.mode.value,
                "cause": self.cause.value,
                "severity": SEVERITY[self.cause],
                "handling": self.handling.value,
                "tag": self.tag,
                "press_key": self.press_key,
                "presses": self.presses,
                "delivery": known({"stored_at": self.stored, "confirmed_at": self.confirmed}),
                "hops_ms": self.hops_ms,
                "owner": self.owner,
                "responders": [],
                "audio": _audio_body(self.audio),
                "position": self.position,
                "corroborated_by": list(self.corroborated_by) or None,
                "outcome": self.outcome.value if self.outcome else None,
                "police": self.police,
                "lesson": self.lesson,
                "opened_at": self.opened,
                "pressed_at": self.pressed,
                "updated_at": self.updated,
                "closed_at": self.closed,
                "timeline": list(self.timeline),
            }
        )


Alarms: TypeAlias = Mapping[str, Alarm]


def known(fields: Body) -> dict[str, Json]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def elapsed_s(since: Instant, now: Instant) -> float:
    """Return the seconds from one instant to another; within a boot negative if it lies ahead.

    Across boots only wall clocks can tell. Where one of the two was not known, or the second lies behind the
    first, it is taken to be long ago: infinite.
    """
    if since.boot == now.boot != UNKNOWN_BOOT:
        return now.mono_s - since.mono_s
    if ClockSource.NONE in (since.source, now.source) or now.wall_s < since.wall_s:
        return inf
    return now.wall_s - since.wall_s


def later(instant: Instant, seconds: float) -> Instant:
    """Return the instant so many seconds later."""
    return replace(instant, mono_s=instant.mono_s + seconds, wall_s=instant.wall_s + seconds)


def to_json(alarm: Alarm) -> str:
    """Return the alarm as it is stored."""
    local = known(
        {
            "spoken": alarm.spoken,
            "called": alarm.called,
            "call_id": alarm.call_id,
            "stated": alarm.stated,
            "decided": alarm.decided,
            "published": alarm.published,
            "positioned": alarm.positioned,
            "closing_id": alarm.closing_id,
            "settled": alarm.settled,
            "test_s": alarm.test_s,
        }
    )
    return payload.dump({**alarm.body, "local": local})


def from_json(text: str) -> Alarm:
    """Return the alarm `to_json` stored. ValueError that says what was expected when it is damaged."""
    return _read(payload.load(text))


def adopt(data: bytes) -> Alarm:
    """Return the alarm of a retained state message, as far as it tells.

    Its times become instants of an unknown boot. Its sound is over: where its chunks ended nobody here
    knows. ValueError that says what was expected when it is not a state message.
    """
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"expected an alarm state of at most {LARGEST_BYTES} bytes, got {len(data)}")
    try:
        return _adopt(json.loads(data))
    except RecursionError as error:
        raise ValueError("expected an alarm state, got nesting without end") from error


def _adopt(found: object) -> Alarm:
    if not isinstance(found, dict):
        raise ValueError(f"expected an alarm state, got {type(found).__name__}")
    clock = _Reader(_Reader(found).object("clock"))
    then = Instant(
        boot=UNKNOWN_BOOT,
        mono_s=0.0,
        wall_s=0.0,
        source=clock.choice("source", ClockSource),
        uncertainty_ms=clock.number("uncertainty_ms"),
    )
    body = {key: _with_instants(key, value, then, NESTING) for key, value in found.items()}
    alarm = _read({**body, "local": {}})
    state = AudioState.ENDED if alarm.audio.wanted else alarm.audio.state
    return replace(alarm, audio=replace(alarm.audio, state=state))


def _with_instants(key: str, value: payload.Plain, then: Instant, levels: int) -> Json:
    """Return the value with its times as instants: `at`, and what is called `…_at`."""
    # Whoever stores or tells it later shall not run out of stack.
    if isinstance(value, dict | list) and not levels:
        raise ValueError(f"expected an alarm state of at most {NESTING} levels, got more")
    if isinstance(value, dict):
        return {name: _with_instants(name, item, then, levels - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_instants("", item, then, levels - 1) for item in value]
    if isinstance(value, str) and (key == "at" or key.endswith("_at")):
        return replace(then, wall_s=payload.wall(value))
    return value


def _audio_body(audio: Audio) -> Body:
    return known(
        {
            "state": audio.state.value,
            "live": audio.state is AudioState.RECORDING,
            "chunks": audio.chunks,
            "codec": audio.codec,
            "head": audio.head,
            "recorded_in": audio.recorded_in,
            "ends_at": audio.ends,
            "actor": audio.actor,
            "reason": audio.reason,
            "gaps": list(audio.gaps) or None,
        }
    )


def _read(body: Body) -> Alarm:
    state, local = _Reader(body), _Reader(_Reader(body).object("local"))
    delivery = _Reader(state.object("delivery"))
    alarm = state.uuid("alarm")
    opened, updated = state.instant("opened_at"), state.instant("updated_at")
    police = body.get("police")
    return Alarm(
        id=alarm,
        mode=state.choice("mode", Mode),
        cause=state.choice("cause", Cause),
        handling=state.choice("handling", Handling),
        tag=_tag(state),
        press_key=state.optional_text("press_key"),
        presses=state.number("presses"),
        opened=opened,
        pressed=state.instant("pressed_at"),
        spoken=local.optional_instant("spoken") or state.instant("pressed_at"),
        called=local.optional_instant("called") or opened,
        call_id=local.optional_text("call_id") or derive(alarm, "raised"),
        updated=updated,
        stated=local.optional_instant("stated") or updated,
        decided=local.optional_instant("decided"),
        published=local.optional_instant("published"),
        stored=delivery.optional_instant("stored_at"),
        confirmed=delivery.optional_instant("confirmed_at"),
        owner=state.optional_actor("owner"),
        test_s=local.optional_number("test_s"),
        audio=_audio(_Reader(state.object("audio"))),
        position=state.object("position") or None,
        positioned=local.optional_instant("positioned"),
        corroborated_by=tuple(str(other) for other in state.list("corroborated_by")),
        outcome=state.choice("outcome", Outcome) if "outcome" in body else None,
        police=police if isinstance(police, bool) else state.optional_text("police"),
        lesson=state.optional_text("lesson"),
        closed=state.optional_instant("closed_at"),
        closing_id=local.optional_text("closing_id"),
        settled=local.optional_instant("settled"),
        timeline=tuple(entry for entry in state.list("timeline") if isinstance(entry, Mapping))[-TIMELINE:],
    )


def _tag(state: _Reader) -> Body | None:
    tag = state.object("tag")
    if not tag:
        return None
    _Reader(tag).text("id")
    return tag


def _audio(audio: _Reader) -> Audio:
    return Audio(
        state=audio.choice("state", AudioState),
        recorded_in=audio.optional_text("recorded_in"),
        ends=audio.optional_instant("ends_at"),
        actor=audio.optional_actor("actor"),
        codec=audio.optional_text("codec"),
        head=audio.optional_text("head"),
        chunks=audio.number("chunks"),
        reason=audio.optional_text("reason"),
        gaps=tuple(gap for gap in audio.list("gaps") if isinstance(gap, Mapping)),
    )


class _Reader:
    """Takes fields out of an object that may be damaged; ValueError says which one and what was expected."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def _wrong(self, key: str, expected: str) -> ValueError:
        return ValueError(f"{key}: expected {expected}, got {repr(self._body.get(key))[:80]}")

    def text(self, key: str) -> str:
        value = self._body.get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._body else None

    def uuid(self, key: str) -> str:
        value = self.text(key)
        if not is_uuid(value):
            raise self._wrong(key, "a UUID")
        return value

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        try:
            return kind(self.text(key))
        except ValueError:
            raise self._wrong(key, f"one of {', '.join(kind)}") from None

    def number(self, key: str) -> int:
        value = self._body.get(key)
        if not isinstance(value, int) or value < 0:
            raise self._wrong(key, "a whole number from 0")
        return value

    def optional_number(self, key: str) -> int | None:
        return self.number(key) if key in self._body else None

    def instant(self, key: str) -> Instant:
        value = self._body.get(key)
        if not isinstance(value, Instant):
            raise self._wrong(key, "a time")
        return value

    def optional_instant(self, key: str) -> Instant | None:
        return self.instant(key) if key in self._body else None

    def optional_actor(self, key: str) -> Body | None:
        if key not in self._body:
            return None
        actor = self.object(key)
        _Reader(actor).text("id")
        return actor

    def object(self, key: str) -> Body:
        """Return the object, an empty one where there is none."""
        value = self._body.get(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return value

    def list(self, key: str) -> list[Json]:
        """Return the list, an empty one where there is none."""
        value = self._body.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value
