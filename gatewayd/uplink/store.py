"""The backlog's disk: what waits is stored, what is next is loaded, what is done with is erased.

Nobody here waits for the disk; when it has done something, the uplink may go on (`pump`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from gatewayd.core.alarm import HopKind
from gatewayd.core.drain import BRIEF_S, PAGE, Backlog
from gatewayd.core.health import OutboxFacts
from gatewayd.core.lane import age_s
from gatewayd.core.model import Instant, Keep, Message, MessageClass
from gatewayd.edge.outbox import Batch, Outbox, Stored

logger = logging.getLogger(__name__)

WAITED_S: Final = 10.0  # then a position or a figure goes to disk
HELD_S: Final = 1.0  # for the disk; then live sound goes without it (live lag ≤ 3 s), and so do others


class Store:
    """Keeps the backlog on disk as far as it belongs there.

    `pump`: more may be published now. `hop` is told of each message that is durable, and since when.
    `on_replaced`: another database began, and gets what memory holds.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        backlog: Backlog,
        now: Callable[[], Instant],
        pump: Callable[[], None],
        hop: Callable[[Message, HopKind, Instant], None],
        on_replaced: Callable[[], None],
    ) -> None:
        self.tasks: asyncio.TaskGroup | None = None  # None: nothing is loaded
        self._outbox = outbox
        self._backlog = backlog
        self._now = now
        self._pump = pump
        self._hop = hop
        self._on_replaced = on_replaced
        self._held: dict[str, Message] = {}  # for the disk
        self._saving: set[str] = set()  # on their way to the disk, after they had waited
        self._done_with: set[str] = set()  # their rows are to be erased
        outbox.on_evicted = lambda evicted: backlog.forget(evicted.ids)
        outbox.on_replaced = self._replaced

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

    # --- to the disk ----------------------------------------------------------------------------------------

    def put(self, batch: Batch) -> None:
        """Store a batch and let it wait to be published.

        Alarms go at once. What else outlives a restart goes once it does: nobody at ops is told that a visit
        is watched which a kill would lose. It waits for the disk for a moment only.
        """
        loop = asyncio.get_running_loop()
        durable = tuple(message for message in batch.messages if message.keep is Keep.AT_ONCE)
        if durable or batch.records or batch.forget:
            stored = self._outbox.store(replace(batch, messages=durable))
            stored.add_done_callback(partial(self._stored, durable))
        for message in batch.messages:
            if message.keep is not Keep.AT_ONCE or message.message_class is MessageClass.ALARM:
                self._backlog.add(message)
                continue
            self._held[message.id] = message
            if self._outbox.takes_sound:
                loop.call_later(HELD_S, self._release, message.id)
            else:
                self._release(message.id)
        self.drop_overfull()

    def release(self) -> None:
        """Let go of all that is held for the disk: we leave."""
        for message_id in tuple(self._held):
            self._release(message_id)

    def save(self) -> None:
        """Hand everything that is only in memory to the disk."""
        self._save(self._unsaved())

    def save_waited(self, now: Instant) -> None:
        """Hand to the disk what has waited for long."""
        self._save([message for message in self._unsaved() if now.mono_s - message.at.mono_s > WAITED_S])

    def drop_overfull(self) -> None:
        """Drop what memory cannot hold and the disk does not take."""
        lost = self._backlog.overfull()
        if lost:
            self._outbox.drop(lost)
            logger.warning("memory is full and the disk takes nothing: dropped %d messages", len(lost))

    def has(self, message_id: str) -> bool:
        """Whether a message has a row, or is about to get one."""
        return message_id in self._saving or self._backlog.is_stored(message_id)

    def erase(self, message_id: str) -> None:
        """A row is not needed any more."""
        if not self._done_with:
            asyncio.get_running_loop().call_soon(
                self._erase
            )  # with what the same reading of the socket brought
        self._done_with.add(message_id)

    def _erase(self) -> None:
        done_with, self._done_with = self._done_with, set()
        self._outbox.confirm(done_with)

    def _stored(self, messages: tuple[Message, ...], future: asyncio.Future[Instant]) -> None:
        if future.cancelled():
            return
        for message in messages:
            if self._held.pop(message.id, None) is not None:
                self._backlog.add(message, stored=True)
            self._hop(message, HopKind.STORED, future.result())
        self._backlog.stored(message.id for message in messages)
        self._pump()

    def _release(self, message_id: str) -> None:
        """Let it go without the disk, and before it what has waited longer."""
        while message_id in self._held:
            self._backlog.add(self._held.pop(next(iter(self._held))))
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

    def _replaced(self) -> None:
        self._backlog.reload()
        self._outbox.store(Batch(messages=self._backlog.held))
        self._on_replaced()

    # --- from the disk --------------------------------------------------------------------------------------

    def load(self) -> None:
        """Ask for the pages that are due."""
        if self.tasks is None:
            return
        for name in self._backlog.to_load(self._now()):
            self.tasks.create_task(self._load_page(name), name=f"uplink load {name}")
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
