"""What goes out next: by class, oldest first within a class, live sound before sound that waited.

Rules: memory holds the oldest of each class and what is not on disk yet; the rest lies on disk only and is
loaded page by page. Nothing here publishes, stores or waits. A message is in one place at a time: waiting,
in flight, or refused and waiting for another try.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

from gatewayd.core.lane import Entry, Lane
from gatewayd.core.link import Window, refused_s, smoothed, suspect_after_s
from gatewayd.core.model import Instant, Keep, Message, MessageClass

ORDER: Final = tuple(MessageClass)
# Dropped first to last when memory is full and the disk does not take it. Alarms are not in it.
DROPPED: Final = (
    MessageClass.TELEMETRY,
    MessageClass.AUDIO,
    MessageClass.AUDIO_LIVE,
    MessageClass.POSITION,
    MessageClass.STATE,
)
PAGE: Final = 200  # messages loaded at a time: 0.1 s of draining at 2,000 a second, 0.3 MB of sound
LOW: Final = PAGE // 2  # the next page is asked for while half of one is left, so that the link never idles
QUEUE: Final = 2 * PAGE  # beyond it a class waits on disk only
# A page takes milliseconds from a card that works. It may hold up an alarm, and lower classes, for so long;
# within another class, whose order matters more than a moment, it may for as long as a card may stall.
BRIEF_S: Final = 0.05
LONG_S: Final = 5.0
UNREADABLE_S: Final = 5.0  # a disk that could not be read is asked again so often
# Without a disk: an hour and a half of sound, or a day and more of positions, in less RAM than one import.
MEMORY_BYTES: Final = 16 << 20
# So many refused messages say that the broker refuses the class: the rest of it stays on disk meanwhile.
REFUSED: Final = 100
# A broker may refuse one kind of alarm message and take another: alarms never wait for each other. What is
# refused of them is only kept from filling memory (5 MB; a year and more of a gateway's events).
REFUSED_ALARMS: Final = 5_000
PACKETS_KEPT: Final = 1  # of the broker's Receive Maximum: the farewell is counted nowhere


class Backlog:
    """Everything that waits for its PUBACK, as far as memory holds it."""

    def __init__(self) -> None:
        self.puback_s: float | None = None  # smoothed
        self._window: Window | None = None
        self._lanes = {name: Lane() for name in MessageClass}
        self._lanes[MessageClass.AUDIO_LIVE].more = False
        self._entries: dict[str, Entry] = {}
        self._in_flight: dict[str, Entry] = {}  # in the order they were published
        self._refused: list[tuple[float, int, str]] = []  # heap: when it is due, which refusal it was, its id
        self._refusals = 0
        self._by_topic: dict[str, Entry] = {}  # where only the newest counts
        self._latest: dict[str, Message] = {}  # never stored: published again on each session
        self._bytes = 0

    # --- what comes in --------------------------------------------------------------------------------------

    def add(self, message: Message, *, stored: bool = False) -> None:
        """Let a message wait. One that replaces takes the older one's place, if that is before its own."""
        if message.id in self._entries:
            return
        if message.keep is Keep.NEVER and message.retain:
            self._latest[message.topic] = message
        older = self._by_topic.get(message.topic) if message.replaces else None
        classes = [message.message_class] if older is None else [message.message_class, older.name]
        entry = Entry(message=message, name=min(classes, key=ORDER.index), stored=stored)
        self._enter(entry)
        self._put(entry)

    def stored(self, ids: Iterable[str]) -> None:
        """These are on disk now; memory lets go of what is not next."""
        for message_id in ids:
            entry = self._entries.get(message_id)
            if entry is None:
                continue
            entry.stored = True
            lane = self._lanes[entry.name]
            if message_id in lane.overflow:
                del lane.overflow[message_id]
                self._spill(entry)

    def loaded(self, name: MessageClass, messages: Iterable[Message], *, more: bool) -> None:
        """A page came: the class's oldest on disk, without those `known`."""
        lane = self._lanes[name]
        for message in messages:
            replaced = message.topic in lane.replaced or message.topic in self._by_topic
            if message.id in self._entries or (message.replaces and replaced):
                continue
            entry = Entry(message=message, name=name, stored=True)
            self._enter(entry)
            lane.queue.append(entry)
        lane.more = more or lane.spilled
        lane.loading_s, lane.spilled = None, False
        lane.replaced.clear()
        if not lane.more:
            self._promote(lane)

    def unreadable(self, name: MessageClass, now: Instant) -> None:
        """The page did not come: what is in memory goes on without it, and it is asked for again later."""
        lane = self._lanes[name]
        lane.loading_s, lane.spilled = None, False
        lane.replaced.clear()
        lane.again_s = now.mono_s + UNREADABLE_S
        self._promote(lane)

    def reload(self) -> None:
        """Another database began: it may hold what memory does not know."""
        for name, lane in self._lanes.items():
            if name is not MessageClass.AUDIO_LIVE:
                lane.more = True
                lane.spilled = lane.loading_s is not None

    def forget(self, ids: Iterable[str]) -> None:
        """These were dropped for space; those in flight stay, their PUBACK may still come."""
        for message_id in ids:
            entry = self._entries.get(message_id)
            if entry is not None and message_id not in self._in_flight:
                self._leave(entry)

    # --- what is asked of the disk --------------------------------------------------------------------------

    @property
    def known(self) -> frozenset[str]:
        """Every id in memory: what a page need not bring."""
        return frozenset(self._entries)

    @property
    def unstored(self) -> tuple[Message, ...]:
        """What waits or is in flight and is not on disk, oldest first; without what never goes there."""
        return tuple(
            entry.message
            for entry in self._entries.values()
            if not entry.stored and entry.message.keep is not Keep.NEVER
        )

    @property
    def held(self) -> tuple[Message, ...]:
        """Everything in memory that belongs on disk: stored again when the disk lost what it had."""
        return tuple(
            entry.message for entry in self._entries.values() if entry.message.keep is not Keep.NEVER
        )

    def is_stored(self, message_id: str) -> bool:
        """Say whether a message in memory is on disk too."""
        entry = self._entries.get(message_id)
        return entry is not None and entry.stored

    def to_load(self, now: Instant) -> tuple[MessageClass, ...]:
        """Return the classes whose next page is due, and count them as asked for."""
        due = tuple(name for name in self._lanes if self._is_due(name, now))
        for name in due:
            self._lanes[name].loading_s = now.mono_s
        return due

    def overfull(self) -> tuple[Message, ...]:
        """Drop what memory cannot hold, lowest class and oldest first, never an alarm; return what is lost.

        What is on disk too is only let go of.
        """
        lost: list[Message] = []
        for name in DROPPED:
            lane = self._lanes[name]
            while self._bytes > MEMORY_BYTES and (entry := lane.oldest()) is not None:
                if entry.stored:
                    self._spill(entry)
                else:
                    self._leave(entry)
                    lost.append(entry.message)
        return tuple(lost)

    # --- what goes out --------------------------------------------------------------------------------------

    def connected(self, receive_maximum: int) -> None:
        """A session began. The broker may be another one: what was refused is tried again."""
        self._window = Window(max(1, receive_maximum - PACKETS_KEPT))
        self._return_refused(float("inf"), blamed=False)

    def retell(self) -> None:
        """The broker may have lost what it retained: what is never stored is published anew."""
        for message in self._latest.values():
            self.add(message)

    def next(self, now: Instant) -> Message | None:
        """Return what to publish now; it is in flight from then on. None: nothing, or no room for it."""
        if self._window is None:
            return None
        self._return_refused(now.mono_s)
        self._age(now)
        for name in ORDER:
            lane = self._lanes[name]
            alarm = name is MessageClass.ALARM
            if not alarm and not self._window.has_room:
                return None
            if not alarm and lane.refuses(REFUSED):
                continue
            entry = lane.head()
            if entry is None and lane.overflow and not self._waits_for_page(name, lane, now):
                self._promote(lane)
                entry = lane.head()
            if entry is None:
                if lane.loading_s is not None and now.mono_s - lane.loading_s <= BRIEF_S:
                    return None  # a lower class must not overtake what the disk is about to bring
                continue
            if alarm and not self._window.has_room_for_alarm:
                return None
            lane.queue.popleft()
            entry.sent_s = now.mono_s
            if entry.failures:
                lane.retried.add(entry.message.id)
            self._in_flight[entry.message.id] = entry
            return entry.message
        return None

    def sent(self, message_id: str, size: int, now: Instant) -> None:
        """It was published: `size` bytes on the wire."""
        if self._window is not None:
            entry = self._in_flight.get(message_id)  # none: the session's birth
            alarm = entry is not None and entry.message.message_class is MessageClass.ALARM
            self._window.sent(message_id, size, now.mono_s, alarm=alarm)

    def confirmed(self, message_id: str, now: Instant) -> Message | None:
        """Its PUBACK came with success: it is done. Return it, if it was in flight."""
        entry = self._answered(message_id, now)
        if entry is None:
            return None
        self._leave(entry)
        return entry.message

    def refused(self, message_id: str, now: Instant) -> Message | None:
        """Its PUBACK came with a failure: it is tried again later, and holds up nobody meanwhile.

        Once the broker refuses the whole class, what is on disk waits there.

        Return it if it is done instead: a reply whose asker named a topic we may not use. Whoever sends
        commands could otherwise fill the outbox.
        """
        entry = self._answered(message_id, now)
        if entry is None or entry.gone:
            return None
        if entry.message.response_topic is not None:
            self._leave(entry)
            return entry.message
        lane = self._lanes[entry.name]
        if entry.stored and entry.name is not MessageClass.ALARM and lane.refuses(REFUSED):
            self._spill(entry)
            return None
        entry.failures += 1
        self._refusals += 1
        entry.refusal = self._refusals
        lane.refused[message_id] = entry
        heappush(self._refused, (now.mono_s + refused_s(entry.failures), entry.refusal, message_id))
        return None

    def blame(self) -> str | None:
        """The broker ended the session over something it was sent: return what it was, to be `refused`.

        It is the oldest in flight, for a broker acknowledges in order (MQTT 5, section 4.6). It is tried
        again when it is due, not with the next session, which would end as this one did.
        """
        entry = next(iter(self._in_flight.values()), None)
        if entry is None:
            return None
        entry.blamed = True
        return entry.message.id

    def disconnected(self) -> None:
        """The session ended: what was in flight waits again, before everything else of its class."""
        self._window = None
        for entry in reversed(self._in_flight.values()):
            if not entry.gone:
                self._lanes[entry.name].queue.appendleft(entry)
        self._in_flight.clear()
        for lane in self._lanes.values():
            lane.retried.clear()

    def alarm_waits(self) -> bool:
        """Say whether an alarm waits or is in flight."""
        lane = self._lanes[MessageClass.ALARM]
        return lane.head() is not None or bool(lane.overflow) or self._oldest_alarm_s() is not None

    def suspect(self, now: Instant) -> bool:
        """Say whether an alarm has been in flight for so long that its link must be doubted."""
        oldest_s = self._oldest_alarm_s()
        return oldest_s is not None and now.mono_s - oldest_s > suspect_after_s(self.puback_s)

    def stalled(self, now: Instant) -> bool:
        """Say whether the broker has acknowledged nothing for long, though something is in flight."""
        return self._window is not None and self._window.stalled(now.mono_s)

    @property
    def refuses(self) -> bool:
        """Whether anything waits that the broker refused."""
        return any(lane.refuses(1) for lane in self._lanes.values())

    # --- inside ---------------------------------------------------------------------------------------------

    def _enter(self, entry: Entry) -> None:
        message = entry.message
        if message.replaces:
            older = self._by_topic.get(message.topic)
            if older is not None:
                self._leave(older)
            self._by_topic[message.topic] = entry
            self._note_replaced(message)
        self._entries[message.id] = entry
        self._bytes += entry.size

    def _leave(self, entry: Entry) -> None:
        """Take an entry out of memory; deques skip it later."""
        message = entry.message
        if self._entries.pop(message.id, None) is None:
            return
        entry.gone = True
        self._bytes -= entry.size
        lane = self._lanes[entry.name]
        lane.overflow.pop(message.id, None)
        lane.refused.pop(message.id, None)
        if self._by_topic.get(message.topic) is entry:
            del self._by_topic[message.topic]
            self._note_replaced(message)

    def _note_replaced(self, message: Message) -> None:
        """An older row of the topic may be in a page that is on its way."""
        for lane in self._lanes.values():
            if lane.loading_s is not None:
                lane.replaced.add(message.topic)

    def _put(self, entry: Entry) -> None:
        """Behind everything of its class, wherever that lies."""
        lane = self._lanes[entry.name]
        if not lane.more and not lane.overflow and len(lane.queue) < QUEUE:
            lane.queue.append(entry)
        elif entry.stored:
            self._spill(entry)
        else:
            lane.overflow[entry.message.id] = entry

    def _spill(self, entry: Entry) -> None:
        """Let go of what is on disk; a page brings it back."""
        name = entry.message.message_class
        lane = self._lanes[MessageClass.AUDIO if name is MessageClass.AUDIO_LIVE else name]
        self._leave(entry)
        lane.more = True
        lane.spilled = lane.loading_s is not None

    def _is_due(self, name: MessageClass, now: Instant) -> bool:
        """Say whether a class's next page is to be asked for."""
        lane = self._lanes[name]
        return (
            lane.more
            and lane.loading_s is None
            and len(lane.queue) < LOW
            and lane.again_s <= now.mono_s
            and not lane.refuses(REFUSED_ALARMS if name is MessageClass.ALARM else REFUSED)
        )

    def _waits_for_page(self, name: MessageClass, lane: Lane, now: Instant) -> bool:
        """Say whether a class has to wait for a page: one that is due, or was asked for a moment ago."""
        if self._is_due(name, now):
            return True
        patience_s = BRIEF_S if name is MessageClass.ALARM else LONG_S
        return lane.loading_s is not None and now.mono_s - lane.loading_s <= patience_s

    def _promote(self, lane: Lane) -> None:
        while lane.overflow and len(lane.queue) < QUEUE:
            entry = lane.overflow.pop(next(iter(lane.overflow)))
            lane.queue.append(entry)

    def _age(self, now: Instant) -> None:
        """Live sound that no listener waits for any more takes its place among older sound."""
        live, older = self._lanes[MessageClass.AUDIO_LIVE], self._lanes[MessageClass.AUDIO]
        while (entry := live.head()) is not None and not entry.leads(now):
            live.queue.popleft()
            entry.name = MessageClass.AUDIO
            if not older.insert(entry):
                self._put(entry)

    def _return_refused(self, now_s: float, *, blamed: bool = True) -> None:
        """What is due goes before everything else of its class, in its order."""
        due, kept = [], []
        while self._refused and self._refused[0][0] <= now_s:
            item = heappop(self._refused)
            _, refusal, message_id = item
            entry = self._entries.get(message_id)
            if entry is None or entry.refusal != refusal:
                continue
            if entry.blamed and not blamed:
                kept.append(item)
            else:
                due.append(entry)
        for item in kept:
            heappush(self._refused, item)
        for entry in reversed(due):
            lane = self._lanes[entry.name]
            del lane.refused[entry.message.id]
            entry.refusal, entry.blamed = 0, False
            lane.queue.appendleft(entry)

    def _answered(self, message_id: str, now: Instant) -> Entry | None:
        """Its PUBACK came: return what is not in flight any more, if it was."""
        took_s = None if self._window is None else self._window.answered(message_id, now.mono_s)
        if took_s is not None:
            self.puback_s = smoothed(self.puback_s, took_s)
        entry = self._in_flight.pop(message_id, None)
        if entry is not None:
            self._lanes[entry.name].retried.discard(message_id)
        return entry

    def _oldest_alarm_s(self) -> float | None:
        alarms = (each for each in self._in_flight.values() if each.name is MessageClass.ALARM)
        return next((each.sent_s for each in alarms), None)
