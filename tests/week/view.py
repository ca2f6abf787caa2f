"""What the rules look at: the journal's messages, in the order in which things happened."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from simulated import WALL_S

from gatewayd.core.payload import wall
from week.journal import Command, Fact, Journal, Json, Message

NEVER_S: Final = float("inf")
# A daemon acts within a second or two of what is due; one that comes back has its disk to read first.
LATE_S: Final = 2.5
SAME_S: Final = 0.7  # two times this near tell of one moment
COARSE_S: Final = 11.0  # where nothing was to be expected, time passes in steps of 10 s
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A claim that does not hold."""

    at_s: float
    site: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{clock(self.at_s)} {self.site}: expected {self.expected}, got {self.seen}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One of an alarm."""

    site: str
    alarm: str
    type: str
    body: Json
    at_s: float  # when it happened
    came_s: float
    sure: bool  # whether the gateway could know when it happened

    @property
    def mode(self) -> str:
        return str(self.body["mode"])

    @property
    def tag(self) -> str | None:
        """The tag's id, where the event tells of one."""
        tag = self.body.get("tag")
        return None if tag is None else str(tag["id"])

    @property
    def actor(self) -> str | None:
        actor = self.body.get("actor")
        return None if actor is None else str(actor["id"])

    def __str__(self) -> str:
        return f"{self.type} of {self.alarm[-6:]} at {clock(self.at_s)}"


@dataclass(slots=True)
class View:
    """A journal, sorted."""

    journal: Journal
    events: list[Event] = field(default_factory=list)
    alarms: dict[tuple[str, str], list[Event]] = field(default_factory=dict)
    states: dict[tuple[str, str], list[Message]] = field(default_factory=lambda: defaultdict(list))
    visits: dict[tuple[str, str], list[Message]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for message in self.journal.messages:
            kind, _, rest = message.topic.partition("/")
            if message.body is None:
                continue
            if kind == "visit":
                self.visits[message.site, rest].append(message)
            elif kind == "alarm" and rest.endswith("/state"):
                self.states[message.site, rest.split("/")[0]].append(message)
            elif kind == "alarm" and rest.endswith("/event"):
                told = {(message.site, message.body["id"])}
                self.events += [] if told <= seen else [_event(message)]  # told again: the same id
                seen |= told
        self.events.sort(key=lambda event: event.at_s)
        for event in self.events:
            self.alarms.setdefault((event.site, event.alarm), []).append(event)

    def story(self, site: str, alarm: str) -> list[Event]:
        """An alarm's events; none: it was never told."""
        return self.alarms.get((site, alarm), [])

    def of_type(self, site: str, *types: str) -> Iterator[Event]:
        return (event for event in self.events if event.site == site and event.type in types)

    def near(self, site: str, at_s: float, within_s: float = SAME_S) -> Iterator[Event]:
        """The events of a moment."""
        first = bisect_left(self.events, at_s - within_s, key=lambda event: event.at_s)
        last = bisect_right(self.events, at_s + within_s, key=lambda event: event.at_s)
        return (event for event in self.events[first:last] if event.site == site)

    def done(self, site: str, *names: str) -> list[tuple[float, Command]]:
        """What commands this gateway carried out, and when: those that came early, with its disk read."""
        found = [
            (self.up_s(site, command.came_s), command)
            for command in self.journal.commands.values()
            if command.site == site and command.name in names and command.done and command.came_s is not None
        ]
        return sorted(found, key=lambda each: each[0])

    def up_s(self, site: str, from_s: float) -> float:
        """The first moment from then on at which its daemon was there to act."""
        return self.journal.first_s(site, Fact.UP, from_s)

    def up_all(self, site: str, from_s: float, until_s: float) -> bool:
        return self.journal.throughout(site, Fact.UP, from_s, until_s)

    def timed_all(self, site: str, from_s: float, until_s: float) -> bool:
        """Whether its machine had been told the time since it was switched on, all that time."""
        return self.journal.throughout(site, Fact.TIMED, from_s, until_s)

    def known(self, site: str, at_s: float) -> bool:
        """Whether what it did then must have come to the broker by the end of the week."""
        return self.journal.first_s(site, Fact.ONLINE, at_s + COARSE_S) < self.journal.ended_s - 60.0


def true_s(text: str) -> float:
    """When a time is that a message tells."""
    return wall(text) - WALL_S


def clock(at_s: float) -> str:
    """A time as people say it."""
    day, rest = divmod(at_s, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    return f"{_DAYS[int(day) % 7]} {hours:02.0f}:{minutes:02.0f}:{seconds:05.2f}"


def _event(message: Message) -> Event:
    body = message.body
    assert body is not None
    told = body["clock"]["source"] == "ntp"
    return Event(
        site=message.site,
        alarm=str(body["alarm"]),
        type=str(body["type"]),
        body=body,
        at_s=true_s(body["at"]) if told else message.happened_s,
        came_s=message.came_s,
        sure=told or message.boot == body["boot"],
    )
