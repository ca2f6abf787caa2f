"""What is known of one tag, how it is stored, and when. Pure; what it means is for `presence` to say.

What is saved may be older than what was heard, by at most `SAVE_EVERY_S`, never older than the last press.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from gatewayd.core import payload
from gatewayd.core.model import Auth, Body, ClockSource, Instant, Json

# Below the 34 min in which heartbeats every 8 s use up 256 packet ids, and rare enough for an SD card.
SAVE_EVERY_S: Final = 600.0
# While an edge is on the air its last hearing is saved more often, a third of the silence that ends most,
# so that a restart in the middle of a burst does not raise it again; for as long as bursts last (60 to 90 s).
# Where less silence ends it the burst is shorter, too: what was saved with the press is enough.
BURST_SAVE_EVERY_S: Final = 10.0
BURST_S: Final = 120.0

_T = TypeVar("_T")


class Kind(StrEnum):
    """What a frame is, for telling copies: only frames of one kind are compared."""

    PLAIN = "plain"
    PROVEN = "proven"
    REPLAYED = "replayed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The last frame of a kind: what it said, and its counter where it has one."""

    content: str
    counter: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An event or identity without a number, on the air since and until."""

    content: str
    since: Instant
    heard: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A tag's count of a kind of press, and when it last said so, at all and with the button in use."""

    count: int
    heard: Instant
    used: Instant | None = None  # None: never with this count, or it was stored before this was known


@dataclass(frozen=True, slots=True, kw_only=True)
class TagPresence:
    """What is known of one tag."""

    last_seen: Instant | None = None
    rssi_dbm: int | None = None
    battery_pct: int | None = None
    battery_mv: int | None = None
    auth: Auth | None = None  # of the last frame
    frames: Mapping[Kind, Frame] = field(default_factory=dict)
    edge: Edge | None = None
    counts: Mapping[str, Count] = field(default_factory=dict)  # by event, where a tag counts its presses
    last_test: Instant | None = None  # when it was last pressed as a test

    @property
    def numbered(self) -> bool:
        """Whether the tag numbers what it says, so that copies of a press can be told by it."""
        return bool(self.frames or self.counts)

    def due(self, saved_at: Instant | None, now: Instant) -> bool:
        """Whether it must be saved now, having last been saved at `saved_at` (None: not by this process).

        A press is saved with its alarm, whatever this says.
        """
        seen = self.last_seen
        if seen is None or seen.boot != now.boot:
            return False
        if saved_at is None or saved_at.boot != now.boot:
            return True
        unsaved_s = now.mono_s - saved_at.mono_s
        if unsaved_s >= SAVE_EVERY_S:
            return seen.mono_s > saved_at.mono_s
        if self.edge is None or unsaved_s < BURST_SAVE_EVERY_S:
            return False
        burst_s = elapsed_s(self.edge.since, self.edge.heard)
        return self.edge.heard.mono_s > saved_at.mono_s and burst_s is not None and burst_s <= BURST_S

    def to_json(self) -> str:
        """The record as text for the disk."""
        edge = self.edge
        return payload.dump(
            {
                "last_seen": self.last_seen,
                "rssi_dbm": self.rssi_dbm,
                "battery_pct": self.battery_pct,
                "battery_mv": self.battery_mv,
                "auth": None if self.auth is None else self.auth.value,
                "frames": {
                    kind.value: {"content": frame.content, "counter": frame.counter}
                    for kind, frame in self.frames.items()
                },
                "edge": None
                if edge is None
                else {"content": edge.content, "since": edge.since, "heard": edge.heard},
                "counts": {
                    event: {"count": count.count, "heard": count.heard, "used": count.used}
                    for event, count in self.counts.items()
                },
                "last_test": self.last_test,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TagPresence:
        """The record that `to_json` wrote; a fresh one when `text` is damaged: the next press raises."""
        try:
            body = payload.load(text)
            auth = _optional(body.get("auth"), str)
            return cls(
                last_seen=_optional(body.get("last_seen"), Instant),
                rssi_dbm=_optional(body.get("rssi_dbm"), int),
                battery_pct=_optional(body.get("battery_pct"), int),
                battery_mv=_optional(body.get("battery_mv"), int),
                auth=None if auth is None else Auth(auth),
                frames={Kind(kind): _frame(item) for kind, item in _object(body.get("frames")).items()},
                edge=None if body.get("edge") is None else _edge(body["edge"]),
                counts={event: _count(item) for event, item in _object(body.get("counts", {})).items()},
                last_test=_optional(body.get("last_test"), Instant),
            )
        except ValueError:
            return cls()


def elapsed_s(earlier: Instant, later: Instant) -> float | None:
    """Seconds between; None where that cannot be known: another boot, and a clock not set or set back."""
    if earlier.boot == later.boot:
        return later.mono_s - earlier.mono_s
    if ClockSource.NONE in {earlier.source, later.source} or later.wall_s < earlier.wall_s:
        return None
    return later.wall_s - earlier.wall_s


def _optional(value: Json, kind: type[_T]) -> _T | None:
    if value is None:
        return None
    return _required(value, kind)


def _required(value: Json, kind: type[_T]) -> _T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"expected {kind.__name__}, got {value!r}")
    return value


def _object(value: Json) -> Body:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r}")
    return value


def _frame(value: Json) -> Frame:
    body = _object(value)
    return Frame(content=_required(body.get("content"), str), counter=_optional(body.get("counter"), int))


def _count(value: Json) -> Count:
    body = _object(value)
    return Count(
        count=_required(body.get("count"), int),
        heard=_required(body.get("heard"), Instant),
        used=_optional(body.get("used"), Instant),
    )


def _edge(value: Json) -> Edge:
    body = _object(value)
    return Edge(
        content=_required(body.get("content"), str),
        since=_required(body.get("since"), Instant),
        heard=_required(body.get("heard"), Instant),
    )
