"""What `step` is told, and what it asks to be done. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gatewayd.core.alarm.model import Alarm, Cause
from gatewayd.core.command import Command, Reply
from gatewayd.core.model import Body, Draft, Instant, Press, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is configured of alarms."""

    audio: bool  # [audio] enabled
    duration_s: float  # [audio] duration
    listen_basis: str | None = None  # [audio] listen_basis: why closed alarms may be listened to
    test_audio: bool = False  # [test] microphone
    escalate_after_s: tuple[float, ...] = ()  # [alarm] escalate_after, rising
    tags: tuple[Tag, ...] = ()  # that are assigned: ops may raise an alarm for one


# --- what happened ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """A tag's or the wired button was pressed, and not to check out: that is a visit's affair."""

    press: Press
    next_alarm_id: str  # what `NextIds` gives for it: the id of an alarm that it raises
    position: Body | None = None  # the contract's position object
    recent: tuple[Body, ...] = ()  # up to two positions before it
    decided: Instant  # when the press was known to be one
    test_s: float | None = None  # how much is left of the window that makes it a test; None: there is none
    visit: Body | None = None  # the visit its worker is on


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """What did not happen calls for help. Told again under the same id it has no second effect."""

    alarm: str  # its id
    cause: Cause  # one of `DERIVED`
    at: Instant
    worker: str  # whose it is
    visit: Body | None = None  # as in `Pressed`, and so are these
    position: Body | None = None
    recent: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Positioned:
    """There is a position. To be told at every fix: `step` knows when it is due."""

    position: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundOpened:
    """The microphone delivers sound for this alarm."""

    alarm: str
    codec: str
    head: str  # the stream's two header pages, base64


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundUnavailable:
    """The microphone does not deliver; it is tried again until the recording ends."""

    alarm: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundEnded:
    """The recording of this alarm is complete."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked:
    """So many chunks of this alarm exist by now; `gaps`: what sound is missing in the newest one."""

    alarm: str
    chunks: int
    gaps: tuple[Body, ...] = ()


class HopKind(StrEnum):
    """How far a message has come."""

    STORED = "stored"  # on the disk, synced
    PUBLISHED = "published"  # handed to the broker
    CONFIRMED = "confirmed"  # PUBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One of an alarm's events has come that far. To be told of every one: `step` knows which count."""

    alarm: str
    message: str  # the message's id
    kind: HopKind
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Commanded:
    """Somebody at ops gave a command that was understood and is new."""

    command: Command
    position: Body | None = None  # for an alarm that ops raise, as in `Pressed`, and so are these
    recent: tuple[Body, ...] = ()
    visit: Body | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """The broker holds an alarm of ours, open or closed (`adopt` read it); the disk may not know it."""

    alarm: Alarm
    lasting: bool = True  # it is stored: the disk has answered, and has nothing better


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The daemon has started and `alarms` is what its disk held: recordings that were running go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """The disk has answered late: it holds these, and some may have been adopted meanwhile."""

    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed. To be told about once a second."""

    unproved: frozenset[str] = frozenset()  # alarms whose sound is not over, or not told of in a manifest


Event: TypeAlias = (
    Pressed
    | Raised
    | Positioned
    | SoundOpened
    | SoundUnavailable
    | SoundEnded
    | Chunked
    | Hop
    | Commanded
    | Adopted
    | Resumed
    | Recalled
    | Ticked
)


# --- what to do ---------------------------------------------------------------------------------------------
# Whatever one step asks to be published and saved goes into one transaction, with the tag's presence.


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Publish this."""

    draft: Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Store this alarm (`to_json`) in place of what is stored of it."""

    alarm: Alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Erase what is stored of this alarm."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """This id is in use: what it was made from is replaced (`NextIds.spent`)."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAudio:
    """Record for this alarm until `StopAudio`."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAudio:
    """End this alarm's recording."""

    alarm: str


Effect: TypeAlias = Publish | Save | Forget | Spent | StartAudio | StopAudio | Reply
