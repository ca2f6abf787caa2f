"""What waits of one class, and in which order it goes.

Rules: a class's oldest goes first. What people hear must be now: sound that comes too late for a listener
gives way to what does not, and is of the class of older sound from then on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from gatewayd.core.model import ClockSource, Instant, Message, MessageClass

ENTRY_BYTES: Final = 1_000  # what a message weighs in memory beside its sound
# A listener waits 2 s for a chunk that is late (`monitor.sound.Order`), and its way takes up to half a second
# longer than the next one's: what has waited longer than this fills the gap, and newer sound goes before it.
LEAD_S: Final = 1.5


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A message in memory."""

    message: Message
    name: MessageClass  # the lane it is in: live sound changes over
    stored: bool
    failures: int = 0  # how often the broker refused it
    sent_s: float = 0.0
    refusal: int = 0  # the last one's number, while it waits for another try
    blamed: bool = False  # the broker ended a session over it: not tried again before its time
    gone: bool = False  # replaced, dropped or on disk only: to be skipped wherever it still stands

    @property
    def size(self) -> int:
        """What it weighs in memory, bytes."""
        return ENTRY_BYTES + len(self.message.sound or b"")

    def leads(self, now: Instant) -> bool:
        """Whether a chunk is in time for whoever listens along."""
        duration_ms = self.message.body.get("duration_ms", 0)
        lasts_s = duration_ms / 1000 if isinstance(duration_ms, int) else 0.0
        return since_s(self.message, now) - lasts_s <= LEAD_S

    def is_older(self, other: Entry) -> bool:
        """Whether it happened before `other`; of two boots nobody knows, and neither is."""
        mine, theirs = self.message.at, other.message.at
        return mine.boot == theirs.boot and mine.mono_s < theirs.mono_s


@dataclass(slots=True, kw_only=True)
class Lane:
    """What waits of one class: the oldest in `queue`; `more` on disk; then `overflow`, not on disk yet.

    Beside them `refused` waits for another try; `retried` is in flight after it was refused.
    """

    queue: deque[Entry] = field(default_factory=deque)
    overflow: dict[str, Entry] = field(default_factory=dict)
    refused: dict[str, Entry] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    more: bool = True
    loading_s: float | None = None  # since when a page is awaited
    again_s: float = 0.0  # when an unreadable disk is asked again
    spilled: bool = False  # while a page is awaited, more went to disk only
    replaced: set[str] = field(default_factory=set)  # topics replaced while a page is awaited

    def head(self) -> Entry | None:
        """The oldest that waits."""
        while self.queue and self.queue[0].gone:
            self.queue.popleft()
        return self.queue[0] if self.queue else None

    def insert(self, entry: Entry) -> bool:
        """Put it before what is newer, if anything in memory is; say whether it was."""
        newer: deque[Entry] = deque()
        while self.queue and entry.is_older(self.queue[-1]):
            newer.appendleft(self.queue.pop())
        if newer:
            self.queue.append(entry)
            self.queue.extend(newer)
        return bool(newer)

    def oldest(self) -> Entry | None:
        """The oldest of what memory may let go of."""
        return (
            next(iter(self.refused.values()), None) or self.head() or next(iter(self.overflow.values()), None)
        )

    def refuses(self, most: int) -> bool:
        """Whether the broker refused as many as `most` of it."""
        return len(self.refused) + len(self.retried) >= most


def since_s(message: Message, now: Instant) -> float:
    """How old a message is, seconds; of another boot: older than anything live."""
    return now.mono_s - message.at.mono_s if message.at.boot == now.boot else float("inf")


def age_s(at: Instant, now: Instant) -> float | None:
    """Return how long ago something happened, seconds; None when no clock tells."""
    if at.boot == now.boot:
        return now.mono_s - at.mono_s
    if ClockSource.NONE in (at.source, now.source):
        return None
    return max(0.0, now.wall_s - at.wall_s)
