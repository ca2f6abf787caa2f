"""The alarm as a value, and the state it is told in. `reading` has the way back, and to the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Final, TypeAlias

from gatewayd.core.alarm.table import Handling
from gatewayd.core.handling import Outcome
from gatewayd.core.model import Body, ClockSource, Instant, Json, Mode, Tag

TIMELINE: Final = 100  # entries in the state; the events themselves are the full record
GAPS: Final = 50  # in the state; one a minute for the longest listening of an hour is a broken microphone
WIRED: Final = "wired"  # the tag id of the wired button, which is no tag
# Of a visit.
_RETAINABLE: Final = frozenset({"id", "worker", "expected_end_at", "risk", "known_at", "before"})
UNKNOWN_BOOT: Final = ""  # of the times in a retained state: they have no monotonic time to compare


class Cause(StrEnum):
    """Why an alarm was raised."""

    PANIC = "panic"  # a tag's button
    WIRED = "wired"  # the wired button
    DURESS = "duress"  # a tag's duress pattern, or ops who heard the code word
    MANUAL = "manual"  # ops
    OVERDUE = "overdue"  # a visit's end passed, and nobody said that it is over
    TAG_LOST = "tag_lost"  # a tag fell silent where it should not


DERIVED: Final = frozenset({Cause.OVERDUE, Cause.TAG_LOST})  # by the gateway itself, from what did not happen
SEVERITY: Final[Mapping[Cause, str]] = {cause: "high" if cause in DERIVED else "critical" for cause in Cause}


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


class Part(StrEnum):
    """What one person does about an alarm, by their own word."""

    ACCEPTED = "accepted"  # took it
    RESPONDING = "responding"  # is on the way
    ON_SCENE = "on_scene"
    DECLINED = "declined"  # cannot, or not any longer
    ASKED = "asked"  # was at it before it was raised again or reopened, and has not answered since


# Whoever has one of these is at it; and what the alarm's handling then is.
AT_IT: Final[Mapping[Part, Handling]] = {
    Part.ACCEPTED: Handling.ACCEPTED,
    Part.RESPONDING: Handling.RESPONDING,
    Part.ON_SCENE: Handling.ON_SCENE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """A person, and their part in an alarm."""

    actor: Body
    part: Part
    since: Instant
    eta: Instant | None = None  # when they think to be there

    @property
    def at_it(self) -> bool:
        """Whether the alarm is in this person's hands, among others."""
        return self.part in AT_IT

    @property
    def body(self) -> Body:
        """The responder as the alarm's state tells."""
        return known(
            {"actor": self.actor, "state": self.part.value, "since_at": self.since, "eta_at": self.eta}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm, from raised to closed."""

    id: str  # UUIDv7
    mode: Mode
    cause: Cause
    handling: Handling
    tag: Body | None  # the contract's tag object of the last press that was told; None: there is none
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
    worker: str | None = None  # whose alarm it is, where no tag tells
    visit: Body | None = None  # the visit that its worker was on
    note: str | None = None  # why ops raised it
    responders: tuple[Responder, ...] = ()  # who said anything of themselves; who came back is last
    waiting: Instant | None = None  # since when nobody has it; None: somebody has
    level: int = 0  # how far it has been escalated since nobody had it
    cancelled: Instant | None = None  # when its wearer asked to cancel it,
    cancel_refused: Instant | None = None  # and when ops said no
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
    reviewed: Instant | None = None  # its state has been withdrawn
    timeline: tuple[Body, ...] = ()

    @property
    def open(self) -> bool:
        """Whether people still have to do something about it."""
        return self.handling is not Handling.CLOSED

    @property
    def source(self) -> str:
        """The tag's id, or "wired", or, in a text that is no id, the worker where no tag tells."""
        if self.worker is not None:
            return f"worker {self.worker}"
        return WIRED if self.tag is None else str(self.tag["id"])

    @property
    def wearer(self) -> str | None:
        """The worker whose alarm it is, where that is known."""
        worker = self.worker if self.tag is None else self.tag.get("worker")
        return None if worker is None else str(worker)

    @property
    def who(self) -> str:
        """Whose alarm it is, to tell one from another: the worker, or else the tag itself."""
        return f"tag {self.source}" if self.wearer is None else f"worker {self.wearer}"

    @property
    def derived(self) -> bool:
        """Whether the gateway raised it by itself: then no press belongs to it, nor does it count as one."""
        return self.cause in DERIVED

    @property
    def owner(self) -> Body | None:
        """Who has it: of those who are at it the one who came first."""
        return next((responder.actor for responder in self.responders if responder.at_it), None)

    @property
    def hushed(self) -> bool:
        """Whether nothing near the worker may tell of it: whoever stands there believes that it is over.

        So a cancelling and a duress press look alike; and what nobody pressed is nobody's to show.
        """
        return self.cancelled is not None or self.cause is Cause.DURESS or not self.presses

    @property
    def for_people(self) -> Body:
        """What those need who come to it, and what must not lie at the broker: the state leaves it out."""
        return known({"visit": self.visit, "note": self.note})

    @property
    def written(self) -> Body:
        """What ops wrote of it when they closed it, and what must not lie at the broker either."""
        return known({"police": self.police, "lesson": self.lesson})

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
                "responders": [responder.body for responder in self.responders],
                "escalation": known({"level": self.level, "waiting_at": self.waiting}),
                "cancel": known({"requested_at": self.cancelled, "refused_at": self.cancel_refused}) or None,
                "worker": self.worker,
                "visit": self.visit and retainable(self.visit),
                "audio": _audio_body(self.audio),
                "position": self.position,
                "corroborated_by": list(self.corroborated_by) or None,
                "outcome": self.outcome.value if self.outcome else None,
                "police": None if self.police is None else bool(self.police),
                "opened_at": self.opened,
                "pressed_at": self.pressed,
                "updated_at": self.updated,
                "closed_at": self.closed,
                "timeline": list(self.timeline),
            }
        )


Alarms: TypeAlias = Mapping[str, Alarm]


def sources(alarms: Alarms) -> set[str]:
    """Return whose alarms are open and meant (`Alarm.source`)."""
    return {alarm.source for alarm in alarms.values() if alarm.open and alarm.mode is Mode.ACTUAL}


def meant(alarms: Alarms, tags: Iterable[Tag]) -> set[str]:
    """Return the tags whose press is no test: an alarm that is meant is open, of theirs or their worker's."""
    workers = {alarm.wearer for alarm in alarms.values() if alarm.open and alarm.mode is Mode.ACTUAL} - {None}
    return sources(alarms) | {tag.name for tag in tags if tag.worker in workers}


def furthest(alarm: Alarm) -> Handling:
    """Return how far those who are at it have come; received where nobody is."""
    reached = [AT_IT[responder.part] for responder in alarm.responders if responder.at_it]
    return max(reached, key=list(Handling).index, default=Handling.RECEIVED)


def retainable(visit: Body) -> Body:
    """Return what of a visit may lie at the broker: never where it is, nor what is said or feared there.

    The events by which people come to an alarm tell all of it (`Alarm.for_people`); they are not retained.
    """
    return {name: value for name, value in visit.items() if name in _RETAINABLE}


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
