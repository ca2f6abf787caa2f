"""The outbox: what must not be lost lies on disk before it counts as stored.

One writer thread; everything that is pending goes into one transaction. Nobody ever waits for the disk but
that thread: `store` returns a future. While the disk fails the gateway runs from memory: what is pending
stays pending and is written once the disk is back. While it is full alarms and records still go in.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast

from gatewayd.core.health import Alive, Report
from gatewayd.core.loss import Losses, losses
from gatewayd.core.model import Instant, Message, MessageClass, State
from gatewayd.edge.outbox.file import DamagedDatabaseError, NewerDatabaseError, is_damage
from gatewayd.edge.outbox.pending import Pending
from gatewayd.edge.outbox.reading import find_damage, read_oldest, read_page, read_records
from gatewayd.edge.outbox.work import Evicted, Page, RecordKey, Stored, Work
from gatewayd.edge.outbox.writer import STALLED_S, TIDY_S, Event, Failed, Replaced, Works, Writer, Written

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

RETRY_S: Final = 30.0  # a failed disk is tried again so often
TICK_S: Final = 1.0  # how often `run` looks at its writer; the systemd watchdog wants a sign each 5 s
WARN_S: Final = 300.0  # between two warnings that messages are dropped; health tells of it all the time
CLOSE_S: Final = 3.0  # what a stop may wait for the last transaction (SIGTERM: 5 s in all)
# The whole database is looked at when the start, and the first alarms after it, are long over.
CHECK_AFTER_S: Final = 30.0
# Confirmed while one page was read: a page that takes longer hangs, and what it brings is not believed.
MEANWHILE: Final = 20_000
_FAILURES: Final = (sqlite3.Error, OSError, DamagedDatabaseError, NewerDatabaseError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is stored together or not at all; a full disk takes alarms and `records` of it.

    `marks` are records that say where its sound ends, and are nothing without that.
    """

    messages: tuple[Message, ...] = ()
    records: Mapping[RecordKey, str] = field(default_factory=lambda: MappingProxyType({}))  # put or replaced
    forget: tuple[RecordKey, ...] = ()
    marks: Mapping[RecordKey, str] = field(default_factory=lambda: MappingProxyType({}))


class Outbox:
    """The outbox at `path`; its sound lies in `audio/` beside it.

    `run` must run. Everything else is called on the event loop and never blocks it. `on_evicted` is told
    what was dropped for space; `on_replaced` that another database began, with what could be saved of a
    damaged one, so that whoever still holds messages in memory stores them again.
    """

    def __init__(
        self,
        path: Path,
        *,
        budget_bytes: int,
        now: Callable[[], Instant],
        report: Report,
        alive: Alive,
        retry_s: float = RETRY_S,
        tidy_s: float = TIDY_S,
        check_after_s: float = CHECK_AFTER_S,
    ) -> None:
        self.path = path
        self.on_evicted: Callable[[Evicted], None] = lambda _: None
        self.on_replaced: Callable[[], None] = lambda: None
        self._now = now
        self._report = report
        self._alive = alive
        self._check_after_s = check_after_s
        self._decided = asyncio.Event()  # open, or declared failed
        self._state: Works | Failed | None = None  # None: not decided
        self._said = ""
        self._warned_s = float("-inf")
        self._replaced = ""  # what became of the database before
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = 0
        self._read_meanwhile: set[str] = set()  # confirmed while a page was being read
        self._outdated = 0  # how often that was given up
        self._unreadable: set[str] = set()  # rows whose sound the disk did not give: not asked for again
        self._pending = Pending()
        self._writer = Writer(
            path,
            self._pending,
            budget_bytes=budget_bytes,
            retry_s=retry_s,
            tidy_s=tidy_s,
            wall_s=lambda: now().wall_s,
            tell=self._tell,
        )

    @property
    def usable(self) -> bool:
        """Whether the disk takes what is stored: open, not failed, not stalled."""
        return self._decided.is_set() and isinstance(self._state, Works)

    @property
    def takes_sound(self) -> bool:
        """Whether the disk takes sound: usable, and not full."""
        return self._decided.is_set() and self._state == Works(full=False)

    @property
    def losses(self) -> Losses:
        """All that was dropped since the outbox began."""
        return self._pending.losses

    async def decided(self) -> None:
        """Wait until the outbox is open or declared failed: what READY waits for."""
        await self._decided.wait()

    def store(self, batch: Batch) -> asyncio.Future[Instant]:
        """Make a batch durable; the future has the instant it was. It never fails, it may never come."""
        future: asyncio.Future[Instant] = asyncio.get_running_loop().create_future()
        newer = Work(records=dict(batch.records) | dict.fromkeys(batch.forget), marks=dict(batch.marks))
        for message in batch.messages:
            newer.put(message)
        self._pending.put(newer, future)
        return future

    def confirm(self, ids: Iterable[str]) -> None:
        """Delete messages: confirmed by the broker. What is pending is not stored any more."""
        done = set(ids)
        if self._reading:
            self._read_meanwhile |= done
            if len(self._read_meanwhile) > MEANWHILE:
                self._read_meanwhile.clear()
                self._outdated += 1
        self._pending.confirm(done, failed=isinstance(self._state, Failed))

    def drop(self, messages: Iterable[Message]) -> None:
        """Give up messages that memory has no room for, and record that they are lost."""
        dropped = tuple(messages)
        self.confirm(message.id for message in dropped)
        self._pending.put(Work(lost=losses((each.message_class, each.at) for each in dropped)))

    # --- reading --------------------------------------------------------------------------------------------

    async def page(self, message_class: MessageClass, known: Collection[str], limit: int) -> Page | None:
        """Return the oldest stored messages of a class without those `known`; None when it cannot be read.

        Waits for the outbox to be decided. While the disk takes nothing only alarms are read from it: what
        was sent cannot be deleted there, and must be remembered.
        """
        await self._decided.wait()
        if not self.usable and message_class is not MessageClass.ALARM:
            return None
        self._reading += 1
        outdated, database = self._outdated, self._pending.database
        try:
            gone = self._pending.gone(self._unreadable.union(known))
            page = await _in_thread(lambda: read_page(self.path, message_class, gone, limit))
            self._drop_damaged(message_class, page.damaged)
            self._leave_unread(page.unreadable)
            if outdated != self._outdated:
                return None
            fresh = tuple(message for message in page.messages if message.id not in self._read_meanwhile)
            return replace(page, messages=fresh)
        except _FAILURES as error:
            level = logging.WARNING if self.usable else logging.DEBUG  # that it fails is said already
            logger.log(level, "the outbox could not be read: %s", error)
            if is_damage(error):
                self._pending.found(DamagedDatabaseError(str(error)), database)
            return None
        finally:
            self._reading -= 1
            if not self._reading:
                self._read_meanwhile.clear()

    def _drop_damaged(self, message_class: MessageClass, damaged: Mapping[int, Instant]) -> None:
        """Drop rows that never can be read; they count as lost."""
        if damaged:
            logger.error("%d rows of the outbox are damaged and were dropped", len(damaged))
            self._pending.put(Work(damaged={n: (message_class, at) for n, at in damaged.items()}))

    def _leave_unread(self, ids: Collection[str]) -> None:
        """Keep rows the disk does not give; the next start tries them again."""
        if ids:
            self._unreadable.update(ids)
            logger.error(
                "%d rows of the outbox cannot be read; kept, and left out until the next start", len(ids)
            )
            self._say()

    async def records(self, kind: str) -> dict[str, str]:
        """Return the records of a kind, those still pending included. Waits for the outbox to be decided."""
        await self._decided.wait()
        before = self._pending.records(kind)  # may be written while we read
        found: dict[str, str] = {}
        try:
            found = await _in_thread(lambda: read_records(self.path, kind))
        except _FAILURES as error:
            logger.warning("the outbox's records could not be read: %s", error)
        newest = found | before | self._pending.records(kind)
        return {key: value for key, value in newest.items() if value is not None}

    async def stored(self) -> Stored | None:
        """Return what lies in the outbox; None while it is not counted or cannot be read."""
        stored = self._pending.stored
        if stored is None or not self.usable:
            return None
        try:
            # where nothing waits nothing is opened: for root SQLite would set its log's owner anew, a write
            oldest = await _in_thread(lambda: read_oldest(self.path)) if stored.rows else None
        except _FAILURES as error:
            logger.debug("the outbox could not be read: %s", error)
            return None
        return replace(stored, oldest=oldest, lost=self.losses)

    async def _check(self) -> None:
        """Look at the whole database once, in a thread of its own, long after the start."""
        await self._decided.wait()
        await asyncio.sleep(self._check_after_s)
        database = self._pending.database
        try:
            said = await _in_thread(lambda: find_damage(self.path))
        except DamagedDatabaseError as error:
            said = str(error)
        except (sqlite3.Error, OSError) as error:
            logger.warning("the outbox could not be looked at: %s", error)
            return
        if said is not None:
            self._pending.found(DamagedDatabaseError(said), database)

    # --- running --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the writer thread and watch over it. On cancellation what is pending is written first."""
        self._loop = asyncio.get_running_loop()
        writer = threading.Thread(target=self._writer.run, name="outbox", daemon=True)
        writer.start()
        checking = asyncio.create_task(self._check(), name="outbox check")
        try:
            while writer.is_alive():
                if self._pending.busy_s > STALLED_S and not isinstance(self._state, Failed):
                    self._on(
                        Failed(why=f"the disk has not answered for {STALLED_S:.0f} s; running from memory")
                    )
                self._alive()
                await asyncio.sleep(TICK_S)
        finally:
            checking.cancel()
            self._pending.stop()
            await asyncio.to_thread(writer.join, CLOSE_S)
        raise RuntimeError("the outbox's writer thread died: see the traceback above")

    def _tell(self, event: Event) -> None:
        """In the writer's thread: let the event loop know."""
        assert self._loop is not None  # noqa: S101 - set before the thread began
        try:
            self._loop.call_soon_threadsafe(self._on, event)
        except RuntimeError:
            logger.debug("the event loop is closed; nobody is left to be told")

    def _on(self, event: Event) -> None:
        match event:
            case Works() | Failed():
                self._state = event
                self._decided.set()
                self._say()
            case Written():
                now = self._now()
                for future in event.futures:
                    if not future.done():
                        future.set_result(now)
            case Evicted():
                self._warn_of_loss()
                self.on_evicted(event)
            case Replaced():
                self._replaced = event.what
                self.on_replaced()

    def _warn_of_loss(self) -> None:
        """Say what was dropped, now and then: it comes in hundreds."""
        now_s = self._now().mono_s
        if now_s - self._warned_s > WARN_S:
            self._warned_s = now_s
            total = ", ".join(f"{loss.count} of {name}" for name, loss in self.losses.items())
            logger.warning("no room: dropped so far %s", total)

    def _say(self) -> None:
        """Report how the outbox is, when that changed."""
        if isinstance(self._state, Failed):
            state, detail = State.FAILED, self._state.why
        elif flaws := self._flaws():
            state, detail = State.DEGRADED, f"stores, but {flaws}"
        else:
            state, detail = State.OK, "stores"
        if detail != self._said:
            self._said = detail
            self._report(state, detail)

    def _flaws(self) -> str:
        flaws = []
        if self._state == Works(full=True):
            flaws.append("the disk is full: alarms go in, sound and positions wait in memory")
        if self._replaced:
            flaws.append(self._replaced)
        if self._unreadable:
            flaws.append(f"{len(self._unreadable)} chunks of sound cannot be read")
        return "; ".join(flaws)


def _in_thread(function: Callable[[], Value]) -> asyncio.Future[Value]:
    """Run a blocking function in a daemon thread: a disk that hangs must not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Value | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("Value", value))

    def work() -> None:
        value: Value | None = None
        failure: Exception | None = None
        try:
            value = function()
        except Exception as error:  # noqa: BLE001 - handed on, whatever it is
            failure = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:
            logger.debug("the event loop is closed; nobody waits for this any more")

    threading.Thread(target=work, name="outbox-read", daemon=True).start()
    return future
