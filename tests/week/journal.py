"""What was seen of a week, from outside: nothing in it comes from inside a gateway.

The messages that reached the broker, the commands that people gave, what wearers pressed, what the room could
notice, and what the world did to the machines. Times are true seconds since the week began.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]  # a message as JSON gives it


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One that the broker took."""

    site: str
    came_s: float
    topic: str  # below the base
    body: Json | None  # None: it withdraws the topic
    retain: bool
    expires_s: int | None
    happened_s: float  # as it tells: when it came, less how late it says that it is
    boot: str  # of the machine that sent it


@dataclass(slots=True, kw_only=True)
class Command:
    """One that somebody gave."""

    id: str
    site: str
    name: str
    body: Json
    sent_s: float
    came_s: float | None = None  # to the gateway; None: never
    reply: Json | None = None

    @property
    def done(self) -> bool:
        """Whether the gateway says that it did it."""
        return self.reply is not None and bool(self.reply["ok"])


@dataclass(slots=True, kw_only=True)
class Press:
    """A use of a button."""

    tag: str
    worker: str
    event: str
    number: int  # of the tag's presses
    at_s: float
    heard: dict[str, list[float]] = field(default_factory=dict)  # by gateway: copies that it was up to hear


class Fact(StrEnum):
    """What is so or not so of a gateway, at any time."""

    UP = "up"  # its daemon runs, and has read its disk
    ONLINE = "online"  # it has a session with the broker
    TIMED = "timed"  # since its machine was switched on it was told the time
    RIGHT = "right"  # its wall clock shows the true time
    MICROPHONE = "microphone"  # it is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Something that a person near the gateway could notice: of a tag, or in the room."""

    site: str
    at_s: float
    where: str  # "room", or a tag's id
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """What the receiver knew."""

    at_s: float
    error_m: float
    lat: float
    lon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look at the gateway's disk for something that must not be there for ever."""

    site: str
    at_s: float
    secret: str
    found: bool


@dataclass(slots=True)
class Journal:
    """All of it."""

    # What was configured, and is known to people: the tags by worker, whose pattern means what, positions.
    settings: Mapping[str, Mapping[str, Any]]  # by gateway
    messages: list[Message] = field(default_factory=list)
    commands: dict[str, Command] = field(default_factory=dict)
    presses: list[Press] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    fixes: dict[str, list[Fix]] = field(default_factory=lambda: defaultdict(list))
    on_air: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))  # site, tag
    batteries: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    ended_s: float = 0.0
    changes: dict[tuple[str, Fact], list[tuple[float, bool]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(self.settings)

    def note(self, site: str, fact: Fact, at_s: float, *, so: bool) -> None:
        """From now on it is so, or not."""
        changes = self.changes[site, fact]
        if not changes or changes[-1][1] is not so:
            changes.append((at_s, so))

    def was(self, site: str, fact: Fact, at_s: float) -> bool:
        """Whether it was so then."""
        changes = self.changes[site, fact]
        index = bisect_right(changes, at_s, key=lambda change: change[0])
        return index > 0 and changes[index - 1][1]

    def spans(self, site: str, fact: Fact) -> Iterator[tuple[float, float]]:
        """From when until when it was so, each time."""
        began_s: float | None = None
        for at_s, so in self.changes[site, fact]:
            if so and began_s is None:
                began_s = at_s
            elif not so and began_s is not None:
                yield began_s, at_s
                began_s = None
        if began_s is not None:
            yield began_s, self.ended_s

    def throughout(self, site: str, fact: Fact, from_s: float, until_s: float) -> bool:
        """Whether it was so all that time."""
        return self.was(site, fact, from_s) and not any(
            from_s < at_s <= until_s for at_s, _ in self.changes[site, fact]
        )

    def first_s(self, site: str, fact: Fact, from_s: float) -> float:
        """The first moment from then on at which it was so; infinity: never."""
        if self.was(site, fact, from_s):
            return from_s
        changes = self.changes[site, fact]
        index = bisect_right(changes, from_s, key=lambda change: change[0])
        return next((at_s for at_s, so in changes[index:] if so), float("inf"))
