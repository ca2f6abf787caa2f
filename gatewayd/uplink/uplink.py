"""The uplink: what is sent is stored and published, neither waits; what is confirmed is deleted.

It publishes what the backlog says is next on the session that the keeper keeps up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from gatewayd.config.model import Broker, Gateway, Mqtt
from gatewayd.core.alarm import HopKind
from gatewayd.core.drain import Backlog
from gatewayd.core.health import Alive, OutboxFacts, Report
from gatewayd.core.model import ClockState, Draft, Instant, Keep, Message, MessageClass
from gatewayd.edge.mqtt import FAILURE, STUMBLED, Incoming, LinkError, RefusedError, reason_text
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.uplink.condition import Condition
from gatewayd.uplink.inbox import Inbox, OnCommand, OnRetainedState
from gatewayd.uplink.keeper import Keeper
from gatewayd.uplink.store import Store
from gatewayd.uplink.wire import Link, Wire

logger = logging.getLogger(__name__)

TICK_S: Final = 0.5  # a suspect link is found at most this much late
# What a broker retains is told again with a session it may have lost it with; on a link that flaps it would
# take the room of what is new, so where the broker says that it remembers us, not more often than this.
RETELL_S: Final = 60.0

OnHop: TypeAlias = Callable[[Message, HopKind, Instant], None]  # how far a message has come, and when


class Uplink:
    """The way to the brokers. `run` must run; everything else is called on its event loop.

    `stamp` makes messages of drafts. `on_hop` is told how far each message of the class `alarm` has come,
    also those of an earlier run; never from inside `send`. `on_command` gets what came in below `cmd/`;
    `on_retained_state` the alarms the broker knows of us, once a run, then `on_adopted`.
    `on_test` gets our own test message as it comes back.
    `on_outbox_replaced`: the database was damaged and a new one began; whoever keeps records there stores
    them again (messages are cared for). `on_forgotten`: a broker may have lost what it retained; whoever
    keeps alarms tells their states again (what is never stored is cared for). `backlog`: what waits; it
    outlives an uplink that gives way to one with other settings.
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
        on_test: Callable[[bytes], None] = lambda _payload: None,
        on_adopted: Callable[[], None] = lambda: None,
        on_outbox_replaced: Callable[[], None] = lambda: None,
        on_forgotten: Callable[[], None] = lambda: None,
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
        self._outbox = outbox
        self._now = now
        self._clock = clock
        self._alive = alive
        self._on_hop = on_hop
        self._on_forgotten = on_forgotten
        self._backlog = Backlog() if backlog is None else backlog
        self._link: Link | None = None
        self._pumping = False
        self._condition = Condition(report=report, backlog=self._backlog, now=now, gateway=gateway.id)
        self._keeper = Keeper(
            wire=self._wire,
            owner=self,
            need=self._backlog,
            now=now,
            failed=self._condition.failed,
            twin=self._condition.has_twin,
        )
        self._inbox = Inbox(
            below=self._wire.below,
            on_command=on_command,
            on_retained_state=on_retained_state,
            on_adopted=on_adopted,
            on_test=on_test,
            on_twin=self._condition.on_twin,
            announce=self._announce,
        )
        self._told: Broker | None = None  # who has been told all that is retained,
        self._told_s = float("-inf")  # and when
        self._store = Store(
            outbox=outbox,
            backlog=self._backlog,
            now=now,
            pump=self._pump,
            hop=self._hop,
            on_replaced=on_outbox_replaced,
        )

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
        return self._condition.refused

    async def facts(self) -> OutboxFacts | None:
        """What waits, on disk and in memory, and what was dropped for space; None while it is counted."""
        return await self._store.facts()

    def send(self, batch: Batch) -> None:
        """Store and publish a batch; neither waits for the other, nor the caller for either."""
        self._store.put(batch)
        if self._link is None and any(each.message_class is MessageClass.ALARM for each in batch.messages):
            self._keeper.hurry()
        self._pump()

    def save(self) -> None:
        """Hand everything that is only in memory to the disk now: the power may go."""
        self._store.save()

    async def run(self) -> None:
        """Keep a session up until cancelled; then say "stopped" and leave."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._store.tasks = tasks
                tasks.create_task(self._tick_forever(), name="uplink tick")
                tasks.create_task(self._remember_addresses(), name="uplink addresses")
                await self._keeper.run()
        finally:
            self._store.tasks = None
            self._store.release()
            self.save()
            link, self._link = self._link, None
            if link is not None:
                await link.leave()
            self._backlog.disconnected()

    # --- the session ----------------------------------------------------------------------------------------

    async def _remember_addresses(self) -> None:
        """Where the brokers were last reached: known as soon as the disk says so, waited for by nobody."""
        self._keeper.addresses = await self._outbox.records("broker") | self._keeper.addresses

    def on_begun(self, link: Link) -> None:
        """A session is there: say so, ask what the broker knows, publish what waits."""
        session = link.session
        if session is None or link.ended.done():
            return
        self._link = link
        self._backlog.connected(session.terms.receive_maximum)
        try:
            self._inbox.subscribe(link)
            self._announce(link)
        except LinkError as error:
            link.give_up(str(error))
        if self._keeper.addresses.get(link.name) != session.address:
            self._keeper.addresses[link.name] = session.address
            self._outbox.store(Batch(records={("broker", link.name): session.address}))
        forgot = session.terms.keeps and not session.terms.resumed
        if forgot or link.broker != self._told:
            self._told = None
        self._retell(link, self._now())
        self._pump()

    def _announce(self, link: Link) -> None:
        birth, size = link.announce()
        self._backlog.sent(birth, size, self._now())

    def _retell(self, link: Link, now: Instant) -> None:
        """Tell what is retained once more, when its time has come."""
        if self._told is None or (self._told_s < link.began_s and now.mono_s - self._told_s > RETELL_S):
            self._told, self._told_s = link.broker, now.mono_s
            self._backlog.retell()
            self._on_forgotten()

    def on_denied(self, link: Link, whole: str, reason: int) -> None:
        """The broker refused a subscription: nobody can give us commands, and that is to be known."""
        link.denied = f"the broker refuses the subscription to {whole}: {reason_text(reason)}"
        self._condition.connected(link)

    def on_lost(self, link: Link, reason: int | None) -> None:
        """A session ended: what was in flight waits again; what the broker stumbled over, for longer."""
        if link is not self._link:
            return
        self._link = None
        if reason in STUMBLED and (blamed := self._backlog.blame()) is not None:
            self.on_answer(blamed, reason)
        self._backlog.disconnected()

    # --- out ------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Publish what is next for as long as the link has room."""
        self._store.load()
        if self._pumping:
            return  # the loop below is running further up the stack
        self._pumping = True
        try:
            while (link := self._link) is not None:
                now = self._now()
                message = self._backlog.next(now)
                if message is None:
                    self._store.load()  # what was let go of meanwhile
                    return
                self._publish(link, message, now)
        finally:
            self._pumping = False

    def _publish(self, link: Link, message: Message, now: Instant) -> None:
        try:
            size = link.publish(message, now)
        except LinkError as error:
            link.give_up(str(error))
            return
        except RefusedError as error:
            logger.debug("%s: %s", message.topic, error)
            self.on_answer(message.id, error.reason)
            return
        self._backlog.sent(message.id, size, now)
        self._hop(message, HopKind.PUBLISHED, now)

    def on_answer(self, message_id: str, reason: int) -> None:
        """A PUBACK came, or stands to reason: done, or refused and to be tried again."""
        now, link = self._now(), self._link
        stored = self._store.has(message_id)
        if reason >= FAILURE:
            self._condition.on_refusal(reason)
            self._done(self._backlog.refused(message_id, now), stored=stored)
        else:
            message = self._backlog.confirmed(message_id, now)
            self._done(message, stored=stored)
            if message is not None:
                self._hop(message, HopKind.CONFIRMED, now)
        if link is not None:
            (self._condition.connected if reason >= FAILURE else self._condition.on_answer)(link)
        self._pump()

    def _done(self, message: Message | None, *, stored: bool) -> None:
        """Its row, if it has or is about to get one, is not needed any more."""
        if message is not None and (stored or message.keep is Keep.AT_ONCE):
            self._store.erase(message.id)

    def _hop(self, message: Message, kind: HopKind, now: Instant) -> None:
        """Tell of an alarm's message, in the order things happened; whoever is told may send at once."""
        if message.message_class is MessageClass.ALARM:
            asyncio.get_running_loop().call_soon(self._on_hop, message, kind, now)

    def on_incoming(self, link: Link, incoming: Incoming) -> None:
        """A message came in."""
        self._inbox.take(link, incoming)

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
                link.give_up("the time is known now: certificate dates are judged anew", again=True)
            elif self._backlog.stalled(now):
                link.give_up(f"{link.name} acknowledges nothing", elsewhere=True)
            else:
                self._look_after(link, now)
        self._store.save_waited(now)
        self._store.drop_overfull()
        self._pump()

    def _look_after(self, link: Link, now: Instant) -> None:
        if self._backlog.suspect(now):
            self._keeper.doubt()
        self._condition.connected(link)
        self._inbox.tick(link, now)
        self._retell(link, now)
