"""The values that travel between modules. Frozen; built whole or not at all; no behaviour beyond reading.

What only one module needs lives in that module. Times are `Instant`s, never bare numbers: a gateway without
a clock of its own learns the right wall time later, and everything that was queued must then be told rightly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

# A JSON value as it lies in a message body. An `Instant` is allowed anywhere in it: `payload` renders it as
# RFC 3339 when the message is published, `payload.dump`/`payload.load` carry it unharmed through the outbox.
Json: TypeAlias = "bool | int | float | str | Instant | list[Json] | Mapping[str, Json] | None"
Body: TypeAlias = "Mapping[str, Json]"


class ClockSource(StrEnum):
    """Where the wall clock's time comes from, best first."""

    NTP = "ntp"
    GNSS = "gnss"
    RTC = "rtc"
    NONE = "none"

    @property
    def vouched(self) -> bool:
        """Whether somebody beyond this machine tells the time now."""
        return self in {ClockSource.NTP, ClockSource.GNSS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """A moment: monotonic within one kernel boot, and what the wall clock said of it at the time."""

    boot: str  # kernel boot id
    mono_s: float  # CLOCK_MONOTONIC, seconds
    wall_s: float  # seconds since 1970-01-01 UTC, as known then
    source: ClockSource
    uncertainty_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What is known about the clock now: wall time = monotonic time of this boot + `offset_s`."""

    boot: str
    offset_s: float
    source: ClockSource
    uncertainty_ms: int


# --- what the radio hears -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """One advertisement as a radio heard it."""

    address: str  # "C4:11:22:33:44:55", upper case
    heard_s: float  # CLOCK_MONOTONIC, taken first thing in the callback
    rssi_dbm: int | None = None
    name: str | None = None
    service_data: Mapping[str, bytes] = field(default_factory=dict)  # by 128-bit UUID, lower case
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)  # by company id


class Auth(StrEnum):
    """Whether an advertisement proved that the assigned tag sent it, now."""

    OK = "ok"  # encrypted, authentic, and its counter is new
    NONE = "none"  # nothing to prove it with: a plain format, or no key
    FAILED = "failed"  # a proof was due and was wrong or missing
    REPLAYED = "replayed"  # authentic once; its counter is not new (a copy, or a changed battery)


class TagEvent(StrEnum):
    """What a tag's button says of itself. `UNKNOWN`: it could not be read (encrypted, no or wrong key)."""

    NONE = "none"
    PRESS = "press"
    DOUBLE = "double"
    TRIPLE = "triple"
    LONG = "long"
    LONG_DOUBLE = "long_double"
    LONG_TRIPLE = "long_triple"
    HOLD = "hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presses:
    """What a tag tells that counts its presses in every frame, also while nobody presses."""

    count: int  # of presses of this kind since its battery was put in; it wraps
    now: bool  # the button is down, or was a moment ago: the frame is on the air because of it


@dataclass(frozen=True, slots=True, kw_only=True)
class TagReport:
    """A decoded advertisement. A field the frame does not carry is None; nothing is guessed."""

    format: str  # the name of its family
    buttons: tuple[TagEvent, ...] = ()  # one per button in the frame's order; empty: the frame has no button
    packet_id: int | None = None  # rolling number of the content
    counter: int | None = None  # anti-replay counter of an encrypted frame
    encrypted: bool = False
    authenticated: bool = False
    auth: Auth = Auth.NONE  # without replay, which only `presence` can judge
    battery_pct: int | None = None
    battery_mv: int | None = None
    identity: Mapping[str, str | int] | None = None  # iBeacon uuid/major/minor, Eddystone namespace/instance
    presses: Presses | None = None  # of the event in `buttons`, which is there whether or not it happens now
    measurements: Mapping[str, float] = field(default_factory=dict)  # e.g. temperature_c
    once: bool = False  # told once for each press, over a connection: never a copy
    raw: bytes = b""  # the frame as heard where it could not be read: tells a copy from another

    @property
    def event(self) -> TagEvent:
        """The frame's event: that of the first button that has one."""
        if self.presses is not None and not self.presses.now:
            return TagEvent.NONE
        return next((event for event in self.buttons if event is not TagEvent.NONE), TagEvent.NONE)


# The usual advertising time of an alarm slot (KKM, Blue Charm: 30 s at 400 ms); inside it a tag ignores its
# button.
ON_AIR_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag assigned to this gateway: one `[tag NAME]` section."""

    name: str
    format: str
    address: str | None = None  # upper case; or else `identity`, or with it: for what carries none
    identity: Mapping[str, str | int] | None = None  # on the air when it is pressed
    resting: Mapping[str, str | int] | None = None  # the identity it has while nobody presses, where known
    on_air_s: float = ON_AIR_S  # how long its identity is on the air after a press
    key: bytes | None = field(default=None, repr=False)
    key_expected: bool = False  # a key is configured, whether or not it could be read
    worker: str | None = None  # a reference, never a name
    alarm_on: frozenset[TagEvent] = frozenset(set(TagEvent) - {TagEvent.NONE})
    test_on: frozenset[TagEvent] = frozenset()
    cancel_on: frozenset[TagEvent] = frozenset()
    duress_on: frozenset[TagEvent] = frozenset()
    checkout_on: frozenset[TagEvent] = frozenset()
    lost_after_s: float = 60.0
    beep: bool = False  # it tells its wearer how far the alarm has come

    @property
    def calls(self) -> bool:
        """Whether any press of it means something. If none does, it is only looked for."""
        return any((self.alarm_on, self.test_on, self.cancel_on, self.duress_on, self.checkout_on))

    @property
    def feedback(self) -> str:
        """How the gateway tells its wearer about an alarm: "beep", or "none"."""
        return "beep" if self.beep else "none"


class Mode(StrEnum):
    """Whether an alarm is meant."""

    ACTUAL = "actual"
    TEST = "test"
    EXERCISE = "exercise"


class Intent(StrEnum):
    """What a press is to say, as its tag's configuration has it."""

    ALARM = "alarm"  # help; in a test: that the button works
    CANCEL = "cancel"  # never mind
    DURESS = "duress"  # somebody makes me cancel: help
    CHECK_OUT = "check_out"  # the visit is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """One activation of a button, however many copies of it were heard."""

    tag: str  # the tag's id, or "wired" for the wired button
    event: TagEvent
    heard: Instant
    mode: Mode = Mode.ACTUAL
    intent: Intent = Intent.ALARM
    button: int | None = None  # 1-based, where the tag has several
    auth: Auth = Auth.NONE
    format: str | None = None
    worker: str | None = None
    counter: int | None = None  # the frame's counter, or its packet id
    press_key: str | None = None  # tag + packet id, or else counter; None where the format has neither
    copy_key: str | None = None  # what its copies have in common, and no press near it; None: only time tells
    battery_pct: int | None = None
    rssi_dbm: int | None = None
    feedback: str = "none"  # `Tag.feedback`


class Told(StrEnum):
    """What a wearer can be told of their alarm."""

    STORED = "stored"  # the disk has it, or the broker: it cannot get lost any more
    RECEIVED = "received"  # somebody's console at ops has it
    ON_THE_WAY = "on the way"  # somebody is coming
    TIME_UP = "time up"  # the visit's time is over: an alarm follows unless they check out


# --- where we are -------------------------------------------------------------------------------------------


class FixMode(StrEnum):
    """How much a position solution solves."""

    NONE = "none"
    FIX_2D = "2d"
    FIX_3D = "3d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A position solution of the receiver. `lat`/`lon` are None exactly when `mode` is NONE."""

    mode: FixMode
    received: Instant | None = None  # when its last sentence came in; None when read from a file
    lat: float | None = None  # degrees, WGS 84
    lon: float | None = None
    alt_m: float | None = None  # above mean sea level
    speed_mps: float | None = None
    course_deg: float | None = None
    hdop: float | None = None
    eph_m: float | None = None  # estimated horizontal error, 95 %
    satellites: int | None = None  # used
    utc_s: float | None = None  # the receiver's own time of the fix, since 1970; None when not credible
    simulated: bool = False
    estimated: bool = False  # by dead reckoning, or typed in: reported, never trusted


class Subject(StrEnum):
    """Whose position it is: never the worker's."""

    VEHICLE = "vehicle"
    HUB = "hub"


class Method(StrEnum):
    """How the position was determined."""

    GNSS = "gnss"
    LAST_KNOWN = "last_known"
    PARKED = "parked"
    HUB_FIXED = "hub_fixed"


# --- what goes out ------------------------------------------------------------------------------------------


class MessageClass(StrEnum):
    """What goes out first, first to last."""

    ALARM = "alarm"
    STATE = "state"
    AUDIO_LIVE = "audio_live"
    POSITION = "position"
    AUDIO = "audio"
    TELEMETRY = "telemetry"


class Keep(StrEnum):
    """When a message reaches the disk."""

    AT_ONCE = "at_once"  # alarms, sound, replies
    WHEN_WAITING = "when_waiting"  # position, telemetry: after 10 s of waiting
    NEVER = "never"  # status, health, tag: the latest per topic, in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What the core wants published; `payload.Stamper` makes a `Message` of it."""

    topic: str  # below the base
    message_class: MessageClass
    keep: Keep
    at: Instant  # when it happened
    body: Body
    id: str | None = None  # a derived id; None: a fresh UUIDv7
    retain: bool = False
    replaces: bool = False  # only the newest message of this topic counts
    clears: bool = False  # an empty retained payload: the topic is withdrawn
    expires_s: int | None = None  # MQTT 5 message expiry
    response_topic: str | None = None  # a reply's whole topic, in place of `topic`, as its command asked
    correlation: bytes | None = None  # MQTT 5 correlation data of the command that is answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A stamped message: what the outbox stores and the uplink publishes. Never a rendered payload."""

    id: str  # UUIDv7, the idempotency key
    run: str  # UUID of the start of the daemon that made it
    seq: int  # from 1 within the run, rising
    topic: str
    message_class: MessageClass
    keep: Keep
    at: Instant
    body: Body
    retain: bool = False
    replaces: bool = False
    clears: bool = False
    expires_s: int | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    sound: bytes | None = field(default=None, repr=False)  # an audio chunk's Ogg pages; `body` describes them


# --- how we are ---------------------------------------------------------------------------------------------


class Component(StrEnum):
    """What health speaks about."""

    RADIO = "radio"
    GPS = "gps"
    MIC = "mic"
    GPIO = "gpio"
    OUTBOX = "outbox"
    UPLINK = "uplink"
    CLOCK = "clock"
    POWER = "power"


class State(StrEnum):
    """How a component is. OFF: not configured."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    OFF = "off"
