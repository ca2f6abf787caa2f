"""The uplink: what is sent is stored and published, neither waits; what is confirmed is deleted.

It keeps one session with one of the brokers and publishes what the backlog says is next. It decides nothing
but when to dial.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from gatewayd.config.model import Broker, Gateway, Mqtt
from gatewayd.core import command, topic
from gatewayd.core.alarm import HopKind
from gatewayd.core.drain import BRIEF_S, PAGE, Backlog
from gatewayd.core.health import Alive, OutboxFacts, Report
from gatewayd.core.lane import age_s
from gatewayd.core.link import backoff_s
from gatewayd.core.model import ClockState, Draft, Instant, Keep, Message, MessageClass, State
from gatewayd.edge.mqtt import FAILURE, Incoming, LinkError
from gatewayd.edge.outbox import Batch, Evicted, Outbox, Stored
from gatewayd.uplink.race import first_link
from gatewayd.uplink.wire import Link, Wire

logger = logging.getLogger(__name__)

TICK_S: Final = 0.5  # a suspect link is found at most this much late
REDIAL_S: Final = 10.0  # a suspect link is given up at most so often: a slow one must be able to prove itself
STEADY_S: Final = (
    10.0  # a session that lasted less has failed: two gateways with one id must not fight at speed
)
HURRY_S: Final = 1.0  # an alarm dials at once, alarms not faster than this
ADOPT_S: Final = (
    5.0  # retained alarms follow a subscription at once; a broker without them must not hold us up
)
WAITED_S: Final = 10.0  # then a position or a figure goes to disk
SOUND_WAITS_S: Final = 1.0  # for the disk; then live sound goes without it (live lag ≤ 3 s)
REFUSAL_SHOWN_S: Final = 60.0  # after the last refusal, if nothing refused waits, all is well again

OnCommand: TypeAlias = Callable[[command.Incoming], None]
OnHop: TypeAlias = Callable[[Message, HopKind, Instant], None]  # how far a message has come, and when
OnRetainedState: TypeAlias = Callable[[str, bytes], None]  # an alarm's id and its state as the broker has it


class Uplink:
    """The way to the brokers. `run` must run; everything else is called on its event loop.

    `stamp` makes messages of drafts. `on_hop` is told how far each message of the class `alarm` has come,
    also those of an earlier run; never from inside `send`. `on_command` gets what came in below `cmd/`;
    `on_retained_state` the alarms the broker knows of us, once a run, then `on_adopted`.
    `on_outbox_replaced`: the database was damaged and a new one began; whoever keeps records there stores
    them again (messages are cared for). `backlog`: what waits; it outlives an uplink that gives way to one
    with other settings.
    """

    def __init__(
        self,
        *,
        mqtt: Mqtt,
        gateway: Gateway,
        version: str,
        outbox: Outbox,
        stamp: Callable[[Draft], Message],
        now: Callable[[], Instant],
        clock: Callable[[], ClockState],
        credentials: Path | None,
        report: Report,
        alive: Alive,
        on_hop: OnHop,
        on_command: OnCommand,
        on_retained_state: OnRetainedState,
        on_adopted: Callable[[], None] = lambda: None,
        on_outbox_replaced: Callable[[], None] = lambda: None,
        backlog: Backlog | None = None,
    ) -> None:
        self._wire = Wire(
            mqtt=mqtt,
            gateway=gateway,
            version=version,
            stamp=stamp,
            now=now,
            clock=clock,
            credentials=credentials,
        )
        self._brokers = mqtt.brokers
        self._outbox = outbox
        self._now = now
        self._clock = clock
        self._report = report
        self._alive = alive
        self._on_hop = on_hop
        self._on_command = on_command
        self._on_retained_state = on_retained_state
        self._on_adopted = on_adopted
        self._on_outbox_replaced = on_outbox_replaced
        self._jitter = secrets.SystemRandom().random
        self._backlog = Backlog() if backlog is None else backlog
        self._link: Link | None = None
        self._pumping = False
        self._tasks: asyncio.TaskGroup | None = None
        self._hurry = asyncio.Event()  # an alarm waits: dial now
        self._dialled_s = float("-inf")
        self._adopted = False
        self._addresses: dict[str, str] = {}  # broker -> the last address it was reached at
        self._sound: dict[str, Message] = {}  # waits for the disk
        self._saving: set[str] = set()  # on their way to the disk, after they had waited
        self._said: tuple[State, str] | None = None
        self._refused: Counter[str] = Counter()
        self._refused_s = float("-inf")
        self._refusal = "the broker refuses messages"  # and the last one's reason
        outbox.on_evicted = self._evicted
        outbox.on_replaced = self._replaced

    # --- what the daemon asks -------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return self._link is not None

    @property
    def puback_s(self) -> float | None:
        """Smoothed time from publish to PUBACK, seconds; None: not measured yet."""
        return self._backlog.puback_s

    @property
    def sent_today_bytes(self) -> int:
        """Published since midnight UTC, retries included."""
        return self._wire.sent_today_bytes

    @property
    def counters(self) -> Mapping[str, int]:
        """What brokers refused, by reason."""
        return dict(self._refused)

    async def facts(self) -> OutboxFacts | None:
        """What waits, on disk and in memory, and what was dropped for space; None while it is counted."""
        stored = await self._outbox.stored()
        unstored = self._backlog.unstored
        if stored is None and self._outbox.usable:
            return None
        stored = stored or Stored()
        return OutboxFacts(
            depth=sum(stored.rows.values()) + len(unstored),
            size_bytes=stored.size_bytes,
            oldest_s=None if stored.oldest is None else age_s(stored.oldest, self._now()),
            lost=self._outbox.losses,
        )

    def send(self, batch: Batch) -> None:
        """Store and publish a batch; neither waits for the other, nor the caller for either."""
        loop = asyncio.get_running_loop()
        durable = tuple(message for message in batch.messages if message.keep is Keep.AT_ONCE)
        if durable or batch.records or batch.forget:
            stored = self._outbox.store(Batch(messages=durable, records=batch.records, forget=batch.forget))
            stored.add_done_callback(partial(self._stored, durable))
        for message in batch.messages:
            if message.sound is not None and self._outbox.takes_sound:
                self._sound[message.id] = message
                loop.call_later(SOUND_WAITS_S, self._release_sound, message.id)
            else:
                self._backlog.add(message)
        if self._link is None and any(each.message_class is MessageClass.ALARM for each in batch.messages):
            self._hurry.set()
        self._drop_overfull()
        self._pump()

    def save(self) -> None:
        """Hand everything that is only in memory to the disk now: the power may go."""
        self._save(self._unsaved())

    async def run(self) -> None:
        """Keep a session up until cancelled; then say "stopped" and leave."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._tick_forever(), name="uplink tick")
                tasks.create_task(self._remember_addresses(), name="uplink addresses")
                await self._dial_forever()
        finally:
            self._tasks = None
            self.save()
            link, self._link = self._link, None
            if link is not None:
                await link.leave()
            self._backlog.disconnected()

    # --- the session ----------------------------------------------------------------------------------------

    async def _dial_forever(self) -> None:
        brokers, failures = self._brokers, 0
        while True:
            self._dialled_s = self._now().mono_s
            self._hurry.clear()
            try:
                link = await first_link(brokers, self._connect, self._backlog.alarm_waits)
            except LinkError:
                failures += 1
            else:
                brokers = (link.broker, *(each for each in brokers if each != link.broker))
                self._begin(link)
                self._hurry.clear()
                why = await asyncio.shield(link.ended)  # a stop must still be able to say so
                self._say(State.FAILED, f"not connected: {why}")
                steady = self._now().mono_s - link.began_s > STEADY_S
                failures = 0 if steady else failures + 1
                if steady and self._backlog.alarm_waits():
                    continue
            await self._pause(failures)

    async def _connect(self, broker: Broker) -> Link:
        try:
            return await self._wire.connect(broker, self, self._addresses)
        except LinkError as error:
            self._say(State.FAILED, f"not connected: {error}")
            raise

    async def _remember_addresses(self) -> None:
        """Where the brokers were last reached: known as soon as the disk says so, waited for by nobody."""
        self._addresses = await self._outbox.records("broker") | self._addresses

    async def _pause(self, failures: int) -> None:
        """Wait before the next dial; a new alarm cuts it short."""
        wait_s = backoff_s(failures, self._jitter(), alarm_waits=self._backlog.alarm_waits())
        try:
            async with asyncio.timeout(wait_s):  # Python 3.11's wait_for may swallow a cancellation
                await self._hurry.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._dialled_s + HURRY_S - self._now().mono_s)

    def _begin(self, link: Link) -> None:
        """A session is there: say so, ask what the broker knows, publish what waits."""
        session = link.session
        if session is None or link.ended.done():
            return
        self._link = link
        self._backlog.connected(session.receive_maximum)
        self._say_connected(link, self._now())
        try:
            link.subscribe([topic.COMMANDS, topic.STATUS, *([] if self._adopted else [topic.ALARM_STATES])])
            link.announce()
        except LinkError as error:
            link.give_up(str(error))
        if self._addresses.get(link.name) != session.address:
            self._addresses[link.name] = session.address
            self._outbox.store(Batch(records={("broker", link.name): session.address}))
        self._pump()

    def on_lost(self, link: Link) -> None:
        """A session ended: what was in flight waits again."""
        if link is self._link:
            self._link = None
            self._backlog.disconnected()

    # --- out ------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Publish what is next for as long as the link has room."""
        self._load()
        if self._pumping:
            return  # the loop below is running further up the stack
        self._pumping = True
        try:
            while (link := self._link) is not None:
                message = self._backlog.next(self._now())
                if message is None:
                    return
                self._publish(link, message)
        finally:
            self._pumping = False

    def _publish(self, link: Link, message: Message) -> None:
        try:
            size = link.publish(message)
        except LinkError as error:
            link.give_up(str(error))
            return
        except ValueError as error:
            logger.error("%s cannot be published: %s", message.topic, error)
            self.on_answer(message.id, FAILURE)
            return
        now = self._now()
        self._backlog.sent(message.id, size, now)
        self._hop(message, HopKind.PUBLISHED, now)

    def on_answer(self, message_id: str, reason: int) -> None:
        """A PUBACK came: done, or refused and to be tried again."""
        now = self._now()
        stored = message_id in self._saving or self._backlog.is_stored(message_id)
        if reason >= FAILURE:
            self._refused[f"refused_0x{reason:02x}"] += 1
            self._refused_s = now.mono_s
            self._refusal = f"the broker refuses messages (reason 0x{reason:02x})"
            self._done(self._backlog.refused(message_id, now), stored=stored)
            if self._link is not None:
                self._say_connected(self._link, now)
        else:
            message = self._backlog.confirmed(message_id, now)
            self._done(message, stored=stored)
            if message is not None:
                self._hop(message, HopKind.CONFIRMED, now)
        self._pump()

    def _done(self, message: Message | None, *, stored: bool) -> None:
        """Its row, if it has or is about to get one, is not needed any more."""
        if message is not None and (stored or message.keep is Keep.AT_ONCE):
            self._outbox.confirm((message.id,))

    def _hop(self, message: Message, kind: HopKind, now: Instant) -> None:
        """Tell of an alarm's message, in the order things happened; whoever is told may send at once."""
        if message.message_class is MessageClass.ALARM:
            asyncio.get_running_loop().call_soon(self._on_hop, message, kind, now)

    # --- in -------------------------------------------------------------------------------------------------

    def on_incoming(self, link: Link, incoming: Incoming) -> None:
        """A message came in: a command, our own status, or an alarm the broker knows of us."""
        below = self._wire.below(incoming.topic)
        parsed = topic.parse(below)
        if below.startswith("cmd/"):
            self._on_command(
                command.Incoming(
                    name=below.removeprefix("cmd/"),
                    payload=incoming.payload,
                    retained=incoming.retained,
                    response_topic=incoming.response_topic,
                    correlation=incoming.correlation,
                )
            )
        elif below == topic.STATUS:
            self._own_status(link, _object(incoming.payload))
        elif parsed is not None and parsed.kind is topic.Kind.ALARM_STATE and incoming.retained:
            self._known_alarm(parsed.alarm, incoming.payload)

    def _known_alarm(self, alarm: str | None, state: bytes) -> None:
        """The broker knows an alarm of ours; an empty state is one that was withdrawn."""
        if alarm is not None and state and not self._adopted:
            self._on_retained_state(alarm, state)

    def _own_status(self, link: Link, status: Mapping[str, Any] | None) -> None:
        """Our birth came back, so every retained alarm did before it; or our will did, and is not true."""
        if status is None or link is not self._link:
            return
        if status.get("state") == "online" and status.get("session") == link.number:
            self._adopt()
        elif status.get("state") == "offline":
            logger.info("our own will came back from the broker; saying that we are online")
            try:
                link.announce()
            except LinkError as error:
                link.give_up(str(error))

    def _adopt(self) -> None:
        if self._adopted:
            return
        self._adopted = True
        if self._link is not None:
            self._link.unsubscribe(topic.ALARM_STATES)
        self._on_adopted()

    # --- disk -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        if self._tasks is None:
            return
        for name in self._backlog.to_load(self._now()):
            self._tasks.create_task(self._load_page(name), name=f"uplink load {name}")
            # what may wait for the page no longer than a moment goes then, not at the next tick
            asyncio.get_running_loop().call_later(BRIEF_S + 0.001, self._pump)

    async def _load_page(self, name: MessageClass) -> None:
        page = None
        try:
            page = await self._outbox.page(name, self._backlog.known, PAGE)
        finally:  # a stop: the backlog may go on with another uplink
            if page is None:
                self._backlog.unreadable(name, self._now())
            else:
                self._backlog.loaded(name, page.messages, more=page.more)
        self._pump()

    def _stored(self, messages: tuple[Message, ...], future: asyncio.Future[Instant]) -> None:
        if future.cancelled():
            return
        for message in messages:
            if self._sound.pop(message.id, None) is not None:
                self._backlog.add(message, stored=True)
            self._hop(message, HopKind.STORED, future.result())
        self._backlog.stored(message.id for message in messages)
        self._pump()

    def _release_sound(self, message_id: str) -> None:
        message = self._sound.pop(message_id, None)
        if message is not None:
            self._backlog.add(message)
            self._pump()

    def _unsaved(self) -> list[Message]:
        """What waits in memory and would go to disk only later."""
        return [
            message
            for message in self._backlog.unstored
            if message.keep is Keep.WHEN_WAITING and message.id not in self._saving
        ]

    def _save(self, messages: list[Message]) -> None:
        if not messages:
            return
        ids = {message.id for message in messages}
        self._saving |= ids

        def done(future: asyncio.Future[Instant]) -> None:
            self._saving.difference_update(ids)
            if not future.cancelled():
                self._backlog.stored(ids)

        self._outbox.store(Batch(messages=tuple(messages))).add_done_callback(done)

    def _evicted(self, evicted: Evicted) -> None:
        self._backlog.forget(evicted.ids)

    def _replaced(self) -> None:
        self._backlog.reload()
        self._outbox.store(Batch(messages=self._backlog.held))
        self._on_outbox_replaced()

    def _drop_overfull(self) -> None:
        lost = self._backlog.overfull()
        if lost:
            self._outbox.drop(lost)
            logger.warning("memory is full and the disk takes nothing: dropped %d messages", len(lost))

    # --- time -----------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            self._tick(self._now())
            self._alive()
            await asyncio.sleep(TICK_S)

    def _tick(self, now: Instant) -> None:
        link = self._link
        if link is not None:
            if not link.judged and self._clock().source.vouched:
                link.give_up("the time is known now: certificate dates are judged anew")
            elif self._backlog.suspect(now) and now.mono_s - link.began_s > REDIAL_S:
                link.give_up("an alarm waits for its PUBACK: the link is suspect")
            else:
                self._say_connected(link, now)
            if not self._adopted and now.mono_s - link.began_s > ADOPT_S:
                self._adopt()
        self._save([message for message in self._unsaved() if now.mono_s - message.at.mono_s > WAITED_S])
        self._drop_overfull()
        self._pump()

    def _say_connected(self, link: Link, now: Instant) -> None:
        if not link.judged:
            why = "certificate dates are not judged: neither NTP nor GNSS tells the time"
            self._say(State.DEGRADED, f"connected to {link.name}; {why}")
        elif self._backlog.refuses or now.mono_s - self._refused_s < REFUSAL_SHOWN_S:
            self._say(State.DEGRADED, self._refusal)
        else:
            self._say(State.OK, f"connected to {link.name}")

    def _say(self, state: State, detail: str) -> None:
        if (state, detail) != self._said:
            self._said = (state, detail)
            logger.log(logging.INFO if state is State.OK else logging.WARNING, "uplink: %s", detail)
            self._report(state, detail)


def _object(payload: bytes) -> Mapping[str, Any] | None:
    """Return a payload's JSON object; None when it is none (a cleared topic, or not ours)."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
