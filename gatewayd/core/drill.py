"""Tests: presses that were announced, the gateway's own way to the broker and back, what is overdue. Pure.

Rules:
- A window names its tags and its length. A press of one of them within it is a test; one of another tag is
  real. So is one of a tag with an open alarm that is meant, or whose worker has one: a test never takes an
  emergency.
- An exercise is announced likewise. It is done like an alarm that is meant, with sound, until people close
  it; it is told as an exercise, and only its own tags are part of it.
- A window is over after its length, however its tags are used. After a reboot only wall clocks tell; where
  they cannot, it is over: what may be meant is taken as meant.
- Once a day, and whenever asked, a message of our own goes to the broker and must come back. It is asked for
  anew `RETRY_S` after one that did not.
- A tag is overdue when it was never tested, or longer ago than is configured. While the time is not known
  nobody is called overdue for a test of an earlier boot.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gatewayd.core import payload, topic
from gatewayd.core.alarm.model import elapsed_s, known
from gatewayd.core.model import Body, ClockSource, Draft, Instant, Json, Keep, MessageClass, Mode

KIND: Final = "drill"  # of the one record
DAY_S: Final = 24 * 3600.0
# Gateways of a fleet with one time of day come one after the other: a thousand of them one each 3.6 s.
SPREAD_S: Final = 3600.0
START_S: Final = 120.0  # a modem that was just switched on is registered by then
BACK_S: Final = 30.0  # a message that took longer would be an alarm that came too late
RETRY_S: Final = 900.0  # an outage of minutes is in health anyway; this asks whether it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which a tag's presses are tests."""

    opened: Instant
    for_s: float
    mode: Mode = Mode.TEST

    def left_s(self, at: Instant) -> float:
        """Seconds until it is over; 0 or less: it is, or had not begun."""
        passed_s = elapsed_s(self.opened, at)
        return self.for_s - passed_s if passed_s >= 0 else 0.0

    @property
    def ends(self) -> Instant:
        """When it is over."""
        opened = self.opened
        return replace(opened, mono_s=opened.mono_s + self.for_s, wall_s=opened.wall_s + self.for_s)

    @property
    def body(self) -> Body:
        """What health tells of it."""
        return {"mode": self.mode.value, "ends_at": self.ends}

    @property
    def stored(self) -> Body:
        """What is stored of it."""
        return {"opened": self.opened, "for_s": self.for_s, "mode": self.mode.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A test of the way to the broker and back: `sent`, and how it ended."""

    id: str  # of its message
    sent: Instant
    latency_ms: float | None = None  # None: it is under way, or did not come back
    failed: bool = False

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self.latency_ms is None and not self.failed

    @property
    def body(self) -> Body:
        """What health tells of it."""
        state = "failed" if self.failed else "running" if self.running else "ok"
        detail = f"not back from the broker within {BACK_S:.0f} s" if self.failed else None
        return known({"state": state, "at": self.sent, "latency_ms": self.latency_ms, "detail": detail})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drills:
    """What is known of tests: the windows by tag, and the last trip."""

    windows: Mapping[str, Window] = field(default_factory=dict)
    trip: Trip | None = None

    def open(self, tags: Iterable[str], for_s: float, now: Instant, mode: Mode = Mode.TEST) -> Drills:
        """Begin a window for these tags, in place of what they had; none where `for_s` is 0."""
        named = {tag: Window(opened=now, for_s=for_s, mode=mode) for tag in tags}
        return replace(self, windows=_open({**self.windows, **named}, now))

    def mode(self, tag: str, at: Instant) -> Mode:
        """What a press of a tag at that time is."""
        window = self.windows.get(tag)
        return Mode.ACTUAL if window is None or window.left_s(at) <= 0 else window.mode

    def left_s(self, tag: str, at: Instant) -> float:
        """How long a tag's presses are what was announced from `at` on, seconds; 0: they are not."""
        window = self.windows.get(tag)
        return 0.0 if window is None else max(0.0, window.left_s(at))

    def settle(self, now: Instant) -> Drills:
        """Drop the windows that are over, and give up a trip that takes too long. Itself: nothing changed."""
        windows, trip = _open(self.windows, now), self.trip
        if trip is not None and trip.running and not 0 <= elapsed_s(trip.sent, now) <= BACK_S:
            trip = replace(trip, failed=True)
        if len(windows) == len(self.windows) and trip is self.trip:
            return self
        return Drills(windows=windows, trip=trip)

    def due(self, now: Instant, at_s: float, gateway: str) -> bool:
        """Whether the daily trip is to begin. `at_s`: when, seconds after midnight UTC."""
        trip = self.trip
        if trip is None:
            return True
        since_s = elapsed_s(trip.sent, now)
        if trip.running or (trip.failed and since_s < RETRY_S):
            return False
        if trip.failed or since_s >= DAY_S:
            return True
        if now.source is ClockSource.NONE:
            return False
        begins_s = at_s + zlib.crc32(gateway.encode()) % SPREAD_S
        sent_s = now.wall_s - since_s
        return (sent_s - begins_s) // DAY_S < (now.wall_s - begins_s) // DAY_S

    def send(self, name: str, now: Instant) -> tuple[Drills, Draft]:
        """Begin a trip whose message has this id; the message."""
        draft = Draft(
            topic=topic.TEST,
            message_class=MessageClass.STATE,
            keep=Keep.NEVER,
            at=now,
            body={"type": "end_to_end"},
            id=name,
            replaces=True,
            expires_s=int(BACK_S),
        )
        return replace(self, trip=Trip(id=name, sent=now)), draft

    def back(self, name: str, now: Instant) -> Drills:
        """A trip's message came back. Itself where it is none that is waited for."""
        trip = self.trip
        if trip is None or trip.id != name or not trip.running:
            return self
        return replace(self, trip=replace(trip, latency_ms=round(elapsed_s(trip.sent, now) * 1000, 1)))

    def body(self, tests: Mapping[str, Instant | None], now: Instant, holds_s: float) -> Body:
        """What health tells. `tests`: when each tag was last pressed as a test, which holds so long."""
        windows = {tag: window.body for tag, window in _open(self.windows, now).items()}
        overdue = [tag for tag, last in sorted(tests.items()) if _overdue(last, now, holds_s)]
        trip = None if self.trip is None else self.trip.body
        return known({"end_to_end": trip, "windows": windows or None, "overdue": list[Json](overdue)})


def to_json(drills: Drills) -> str:
    """Return the drills as they are stored."""
    windows: Body = {tag: window.stored for tag, window in drills.windows.items()}
    trip = drills.trip
    return payload.dump({"windows": windows, "trip": None if trip is None else _stored(trip)})


def from_json(text: str) -> Drills:
    """Return the drills `to_json` stored. ValueError that says what was expected when they are damaged."""
    match payload.load(text):
        case {"windows": dict(windows), "trip": trip}:
            return Drills(
                windows={tag: _window(each) for tag, each in windows.items()},
                trip=None if trip is None else _trip(trip),
            )
        case _:
            raise ValueError(f"expected stored tests, got {text[:80]!r}")


def _stored(trip: Trip) -> Body:
    return {"id": trip.id, "sent": trip.sent, "latency_ms": trip.latency_ms, "failed": trip.failed}


def _open(windows: Mapping[str, Window], now: Instant) -> Mapping[str, Window]:
    return {tag: window for tag, window in windows.items() if window.left_s(now) > 0}


def _overdue(last: Instant | None, now: Instant, holds_s: float) -> bool:
    if last is None:
        return True
    if now.source is ClockSource.NONE and last.boot != now.boot:
        return False
    return elapsed_s(last, now) > holds_s


def _window(value: object) -> Window:
    match value:
        case {"opened": Instant() as opened, "for_s": float() | int() as for_s, "mode": str(mode)}:
            return Window(opened=opened, for_s=float(for_s), mode=Mode(mode))
        case _:
            raise ValueError(f"expected a window, got {value!r}")


def _trip(value: object) -> Trip:
    match value:
        case {
            "id": str(name),
            "sent": Instant() as sent,
            "latency_ms": float() | int() | None as ms,
            "failed": bool(failed),
        }:
            return Trip(id=name, sent=sent, latency_ms=None if ms is None else float(ms), failed=failed)
        case _:
            raise ValueError(f"expected a trip, got {value!r}")
