"""The outbox: what must not be lost lies on disk before it counts as stored.

One writer thread; everything that is pending goes into one transaction. Nobody ever waits for the disk but
that thread: `store` returns a future. While the disk fails the gateway runs from memory: what is pending
stays pending and is written once the disk is back.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast

from gatewayd.core.health import Alive, Report
from gatewayd.core.model import Instant, Message, MessageClass, State
from gatewayd.edge.outbox.database import Database
from gatewayd.edge.outbox.file import DamagedDatabaseError, NewerDatabaseError, is_damage, set_aside
from gatewayd.edge.outbox.reading import read_page, read_records, read_stored
from gatewayd.edge.outbox.work import Evicted, Page, RecordKey, Stored, Work

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

RETRY_S: Final = 30.0  # a failed disk is tried again so often
STALLED_S: Final = 10.0  # an SD card that collects garbage stalls for a second or two; ten are a fault
TIDY_S: Final = 15.0  # how often ended recordings are looked for when nothing is written
TICK_S: Final = 1.0  # how often `run` looks at its writer; the systemd watchdog wants a sign each 5 s
CLOSE_S: Final = 3.0  # what a stop may wait for the last transaction (SIGTERM: 5 s in all)
# Futures nobody resolved while the disk failed: older ones are let go. Hours of sound at two chunks a second.
FUTURES: Final = 20_000
# Confirmed while one page was read: a page that takes longer hangs, and what it brings is not believed.
MEANWHILE: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is stored together or not at all."""

    messages: tuple[Message, ...] = ()
    records: Mapping[RecordKey, str] = field(default_factory=lambda: MappingProxyType({}))  # put or replaced
    forget: tuple[RecordKey, ...] = ()


class Outbox:
    """The outbox at `path`; its sound lies in `audio/` beside it.

    `run` must run. Everything else is called on the event loop and never blocks it. `on_evicted` is told
    what was dropped for space; `on_replaced` that a damaged database was set aside and a new, empty one
    began, so that whoever still holds messages in memory stores them again.
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
    ) -> None:
        self.path = path
        self.on_evicted: Callable[[Evicted], None] = lambda _: None
        self.on_replaced: Callable[[], None] = lambda: None
        self._budget_bytes = budget_bytes
        self._now = now
        self._report = report
        self._alive = alive
        self._retry_s = retry_s
        self._decided = asyncio.Event()  # open, or declared failed
        self._failed = False
        self._aside: str | None = None  # the name of the damaged database that was set aside
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = 0
        self._read_meanwhile: set[str] = set()  # confirmed while a page was being read
        self._outdated = 0  # how often that was given up
        self._unreadable: set[str] = set()  # rows whose sound the disk did not give: not asked for again
        # Shared with the writer thread, under `_wake`:
        self._wake = threading.Condition()
        self._work = Work()
        self._futures: deque[asyncio.Future[Instant]] = deque(maxlen=FUTURES)
        self._writing = Work()  # the transaction under way
        self._busy_since_s: float | None = None
        self._damage: DamagedDatabaseError | None = None  # found by a reader
        self._stopping = False

    @property
    def usable(self) -> bool:
        """Whether the disk takes what is stored: open, not failed, not stalled."""
        return self._decided.is_set() and not self._failed

    async def decided(self) -> None:
        """Wait until the outbox is open or declared failed: what READY waits for."""
        await self._decided.wait()

    def store(self, batch: Batch) -> asyncio.Future[Instant]:
        """Make a batch durable; the future has the instant it was. It never fails, it may never come."""
        future: asyncio.Future[Instant] = asyncio.get_running_loop().create_future()
        newer = Work(records=dict(batch.records) | dict.fromkeys(batch.forget))
        for message in batch.messages:
            newer.put(message)
        with self._wake:
            if self._stopping:
                return future
            self._work.absorb(newer)
            self._futures.append(future)
            self._wake.notify()
        return future

    def confirm(self, ids: Iterable[str]) -> None:
        """Delete messages: confirmed by the broker, or dropped. What is pending is not stored any more."""
        done = set(ids)
        if self._reading:
            self._read_meanwhile |= done
            if len(self._read_meanwhile) > MEANWHILE:
                self._read_meanwhile.clear()
                self._outdated += 1
        with self._wake:
            if self._failed:
                self._work.confirm(done)
            else:
                self._work.absorb(Work(confirmed=done))
            self._wake.notify()

    async def page(self, message_class: MessageClass, known: Collection[str], limit: int) -> Page | None:
        """Return the oldest stored messages of a class without those `known`; None when it cannot be read.

        Waits for the outbox to be decided.
        """
        await self._decided.wait()
        if not self.usable:
            return None
        self._reading += 1
        outdated = self._outdated
        try:
            with self._wake:
                gone = self._unreadable.union(known) | self._work.confirmed | self._writing.confirmed
                replaced = self._work.topics | self._writing.topics
            page = await _in_thread(lambda: read_page(self.path, message_class, gone, replaced, limit))
            if page.damaged:
                logger.error("%d rows of the outbox are damaged and were dropped", len(page.damaged))
                self.confirm(page.damaged)
            self._leave_unread(page.unreadable)
            if outdated != self._outdated:
                return None
            fresh = tuple(message for message in page.messages if message.id not in self._read_meanwhile)
            return replace(page, messages=fresh)
        except (sqlite3.Error, OSError) as error:
            logger.warning("the outbox could not be read: %s", error)
            if is_damage(error):
                self._found_damaged(error)
            return None
        finally:
            self._reading -= 1
            if not self._reading:
                self._read_meanwhile.clear()

    def _leave_unread(self, ids: Collection[str]) -> None:
        """Keep rows the disk does not give; the next start tries them again."""
        if ids:
            self._unreadable.update(ids)
            logger.error(
                "%d rows of the outbox cannot be read; kept, and left out until the next start", len(ids)
            )
            if self.usable:
                self._decide(None)

    def _found_damaged(self, error: Exception) -> None:
        with self._wake:
            self._damage = DamagedDatabaseError(str(error))
            self._wake.notify()

    async def records(self, kind: str) -> dict[str, str]:
        """Return the records of a kind, those still pending included. Waits for the outbox to be decided."""
        await self._decided.wait()
        before = self._pending(kind)  # may be written while we read
        found: dict[str, str] = {}
        if self.usable:
            try:
                found = await _in_thread(lambda: read_records(self.path, kind))
            except (sqlite3.Error, OSError) as error:
                logger.warning("the outbox's records could not be read: %s", error)
        newest = found | before | self._pending(kind)
        return {key: value for key, value in newest.items() if value is not None}

    def _pending(self, kind: str) -> dict[str, str | None]:
        with self._wake:
            records = self._writing.records | self._work.records
        return {key: value for (of, key), value in records.items() if of == kind}

    async def stored(self) -> Stored | None:
        """Return what lies in the outbox; None when it cannot be read."""
        if not self.usable:
            return None
        try:
            return await _in_thread(lambda: read_stored(self.path))
        except (sqlite3.Error, OSError) as error:
            logger.debug("the outbox could not be counted: %s", error)
            return None

    async def run(self) -> None:
        """Keep the writer thread and watch over it. On cancellation what is pending is written first."""
        self._loop = asyncio.get_running_loop()
        writer = threading.Thread(target=self._write_forever, name="outbox", daemon=True)
        writer.start()
        try:
            while writer.is_alive():
                self._watch()
                self._alive()
                await asyncio.sleep(TICK_S)
        finally:
            with self._wake:
                self._stopping = True
                self._wake.notify()
            await asyncio.to_thread(writer.join, CLOSE_S)
        raise RuntimeError("the outbox's writer thread died: see the traceback above")

    def _watch(self) -> None:
        """Declare the disk failed when it does not answer; the writer itself says when it does again."""
        with self._wake:
            since_s = self._busy_since_s
        if since_s is not None and time.monotonic() - since_s > STALLED_S and not self._failed:
            self._decide(f"the disk has not answered for {STALLED_S:.0f} s; running from memory")

    def _decide(self, failure: str | None) -> None:
        """On the loop: the disk works (None), or it does not."""
        changed = not self._decided.is_set() or self._failed != (failure is not None)
        self._failed = failure is not None
        self._decided.set()
        if failure is not None:
            self._report(State.FAILED, failure)
        elif flaws := self._flaws():
            self._report(State.DEGRADED, f"stores, but {flaws}")
        elif changed:
            self._report(State.OK, "stores")

    def _flaws(self) -> str:
        flaws = []
        if self._aside is not None:
            flaws.append(f"was damaged: the damaged one was kept as {self._aside}")
        if self._unreadable:
            flaws.append(f"{len(self._unreadable)} chunks of sound cannot be read")
        return "; ".join(flaws)

    # --- the writer thread ----------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        database: Database | None = None
        while True:
            try:
                if database is None:
                    database = self._open()
                    self._tell(self._decide, None)
                stop = self._write_once(database)
            except (NewerDatabaseError, DamagedDatabaseError, sqlite3.Error, OSError) as error:
                if database is not None:
                    database.abandon()
                database, stop = None, self._recover(error)
            if stop:
                if database is not None:
                    database.close()
                return

    def _open(self) -> Database:
        self._begin()
        try:
            return Database(self.path, self._budget_bytes)
        finally:
            self._end()

    def _write_once(self, database: Database) -> bool:
        """Write what is pending, or tidy when nothing is. True: it is time to stop."""
        with self._wake:
            if not (self._work or self._futures or self._stopping or self._damage):
                self._wake.wait(TIDY_S)
            damage, self._damage = self._damage, None
            if damage is not None:
                raise damage
            work, self._work = self._work, Work()
            futures, self._futures = self._futures, deque(maxlen=FUTURES)
            self._writing = work
            stopping = self._stopping
        self._begin()
        try:
            if work:
                database.write(work, time.monotonic())
        except BaseException:
            with self._wake:
                work.absorb(self._work)
                self._work = work
                futures.extend(self._futures)
                self._futures = futures
            raise
        finally:
            self._end()
        self._tell(self._written, futures)
        if not stopping:
            self._tidy(database)
        return stopping and not self._work

    def _tidy(self, database: Database) -> None:
        while not self._work:
            self._begin()
            try:
                evicted = database.tidy(time.monotonic())
            finally:
                self._end()
            if evicted is None:
                return
            self._tell(self._evicted, evicted)

    def _recover(self, error: Exception) -> bool:
        """Set a damaged database aside; rest after any other failure. True: it is time to stop."""
        if isinstance(error, NewerDatabaseError):
            return self._rest(f"{error}; left alone, running from memory")
        if isinstance(error, DamagedDatabaseError):
            try:
                aside = set_aside(self.path, self._now().wall_s)
            except OSError as failure:
                error = failure
            else:
                logger.error("the outbox is damaged (%s): set aside as %s, a new one begins", error, aside)
                self._tell(self._replaced, aside.name)
                return False
        return self._rest(f"{type(error).__name__}: {error}; running from memory")

    def _rest(self, failure: str) -> bool:
        """Say that the disk failed and wait before it is tried again. True: it is time to stop."""
        self._tell(self._decide, failure)
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, self._retry_s)
            return self._stopping

    def _begin(self) -> None:
        with self._wake:
            self._busy_since_s = time.monotonic()

    def _end(self) -> None:
        with self._wake:
            stalled = self._busy_since_s is not None and time.monotonic() - self._busy_since_s > STALLED_S
            self._busy_since_s, self._writing = None, Work()
        if stalled:
            self._tell(self._decide, None)

    def _tell(self, function: Callable[[Value], None], value: Value) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread began
        try:
            self._loop.call_soon_threadsafe(function, value)
        except RuntimeError:
            logger.debug("the event loop is closed; nobody is left to be told")

    # --- back on the loop -----------------------------------------------------------------------------------

    def _written(self, futures: Iterable[asyncio.Future[Instant]]) -> None:
        now = self._now()
        for future in futures:
            if not future.done():
                future.set_result(now)

    def _evicted(self, evicted: Evicted) -> None:
        logger.warning("the outbox is full: dropped %d of %s", len(evicted.ids), evicted.message_class)
        self.on_evicted(evicted)

    def _replaced(self, aside: str) -> None:
        self._aside = aside
        self.on_replaced()


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
