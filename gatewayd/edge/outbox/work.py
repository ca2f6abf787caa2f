"""What goes between the loop and the outbox's threads: work to do, and what was found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gatewayd.core.loss import Losses, added
from gatewayd.core.model import Instant, Message, MessageClass

RecordKey: TypeAlias = tuple[str, str]  # kind, key
EVICTED: Final = "evicted"  # kind of the records that count what was dropped


@dataclass(slots=True, kw_only=True)
class Work:
    """What one transaction is to do. Filled by the loop, done by the writer thread."""

    messages: dict[str, Message] = field(default_factory=dict)
    records: dict[RecordKey, str | None] = field(default_factory=dict)  # None: forget it
    marks: dict[RecordKey, str] = field(default_factory=dict)  # records that say nothing without their sound
    confirmed: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)  # topics whose row gave way to one that needs none
    lost: Losses = field(default_factory=dict)  # dropped, and not counted on disk yet
    damaged: dict[int, tuple[MessageClass, Instant]] = field(default_factory=dict)  # rows to drop, by number
    numbers: dict[str, int] = field(default_factory=dict)  # of saved `messages`: their place in the order
    newest: dict[str, str] = field(default_factory=dict)  # of `messages`, where only the newest counts

    def __bool__(self) -> bool:
        return bool(
            self.messages or self.changes or self.confirmed or self.replaced or self.lost or self.damaged
        )

    @property
    def changes(self) -> dict[RecordKey, str | None]:
        """What is done to records, marks among them."""
        return {**self.records, **self.marks}

    @property
    def topics(self) -> set[str]:
        """The topics whose row is not the newest any more."""
        return self.replaced | self.newest.keys()

    def put(self, message: Message) -> None:
        """Store a message; it takes the place of an older one of its topic that is still pending."""
        self.messages[message.id] = message
        if message.replaces:
            older = self.newest.get(message.topic)
            if older is not None and older != message.id:
                del self.messages[older]
            self.newest[message.topic] = message.id

    def drop(self, message_id: str) -> None:
        """A pending message need not be stored; what lies on disk of its topic is not the newest."""
        message = self.messages.pop(message_id, None)
        if message is not None and message.replaces:
            del self.newest[message.topic]
            self.replaced.add(message.topic)

    def absorb(self, newer: Work) -> None:
        """Take in what came later."""
        for topic_ in newer.replaced & self.newest.keys():
            self.drop(self.newest[topic_])
        self.replaced |= newer.replaced
        for message in newer.messages.values():
            self.put(message)
        self.marks = {key: mark for key, mark in self.marks.items() if key not in newer.records} | newer.marks
        self.records |= newer.records
        self.confirmed |= newer.confirmed
        self.lost = added(self.lost, newer.lost)
        self.damaged |= newer.damaged
        for message_id in newer.confirmed:
            self.drop(message_id)

    def confirm(self, ids: set[str]) -> None:
        """Delete messages. What is only pending leaves nothing behind: a dead disk must not fill memory."""
        self.confirmed |= ids - self.messages.keys()
        for message_id in ids:
            self.drop(message_id)

    def without_lower(self) -> tuple[Work, Work]:
        """Return what a full disk has to take (alarms, records, what is deleted), and the rest of it."""
        now, later = Work(), Work()
        for message in self.messages.values():
            (now if message.message_class is MessageClass.ALARM else later).put(message)
        now.records, now.confirmed, now.replaced = self.records, self.confirmed, self.replaced
        later.marks = self.marks
        now.lost, now.damaged = self.lost, self.damaged
        return now, later


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What was dropped for space: rows of one class, the oldest of it."""

    message_class: MessageClass
    ids: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What a page need not bring: ids, numbers of damaged rows, and topics that have a newer message."""

    ids: Collection[str] = ()
    damaged: Collection[int] = ()
    topics: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The oldest rows of a class, and whether there are more.

    `damaged`: rows that never can be read, by number, and when they happened as far as they still tell;
    `unreadable`: rows whose sound the disk did not give.
    """

    messages: tuple[Message, ...] = ()
    more: bool = False
    damaged: Mapping[int, Instant] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What lies in the outbox: rows and bytes by class, when the oldest happened, what was dropped."""

    rows: Mapping[MessageClass, int] = field(default_factory=dict)
    sizes_bytes: Mapping[MessageClass, int] = field(default_factory=dict)
    oldest: Instant | None = None
    lost: Losses = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return sum(self.sizes_bytes.values())
