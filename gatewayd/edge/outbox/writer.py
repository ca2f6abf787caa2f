"""The writer thread: it takes what is pending, again and again, and deals with every way a disk can fail."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from gatewayd.core.loss import Losses, losses
from gatewayd.core.model import Instant
from gatewayd.edge.outbox.database import Database, DeletedError
from gatewayd.edge.outbox.file import (
    DamagedDatabaseError,
    NewerDatabaseError,
    is_full,
    is_read_only,
    set_aside,
)
from gatewayd.edge.outbox.pending import Pending
from gatewayd.edge.outbox.reading import losses_of
from gatewayd.edge.outbox.salvage import salvage
from gatewayd.edge.outbox.work import EVICTED, Evicted, Stored, Work

logger = logging.getLogger(__name__)

STALLED_S: Final = 10.0  # an SD card that collects garbage stalls for a second or two; ten are a fault
TIDY_S: Final = 15.0  # how often ended recordings, room and a deleted database are looked for at least
TIDY_UNDER_LOAD_S: Final = 1.0  # a step of it at least so often, though something waits all the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """The disk takes what is stored; while it is `full`, alarms and records only."""

    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The disk takes nothing, and why."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What these wait for is durable."""

    futures: list[asyncio.Future[Instant]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """It is not the database any more that it was: `what` happened, for a person."""

    what: str


Event: TypeAlias = Works | Failed | Written | Evicted | Replaced


class Writer:
    """Writes what is `pending` to the outbox at `path`. `tell` gets each event, in the writer's thread."""

    def __init__(
        self,
        path: Path,
        pending: Pending,
        *,
        budget_bytes: int,
        retry_s: float,
        tidy_s: float,
        wall_s: Callable[[], float],
        tell: Callable[[Event], None],
    ) -> None:
        self._path = path
        self._pending = pending
        self._budget_bytes = budget_bytes
        self._retry_s = retry_s
        self._tidy_s = tidy_s
        self._wall_s = wall_s
        self._tell = tell
        self._opened = False  # once before
        self._lost_sight = False  # of what was opened then
        self._losses: Losses = {}
        self._tidied_s = float("-inf")

    def run(self) -> None:
        """Run until stopped and all is written that the disk takes."""
        database: Database | None = None
        while True:
            try:
                database = database or self._open()
                with _told_when_deleted(database):
                    stop = self._write_once(database)
            except DeletedError as error:
                logger.error("%s", error)
                database, stop = self._rescue(database), False
            except (NewerDatabaseError, DamagedDatabaseError, sqlite3.Error, OSError) as error:
                if database is not None:
                    database.abandon()
                database, stop = self._recover(error)
            if stop:
                if database is not None:
                    database.close()
                return

    # --- open -----------------------------------------------------------------------------------------------

    def _open(self) -> Database:
        gone = self._lost_sight or (self._opened and not self._path.exists())
        database = self._try_open()
        self._pending.counted(database.losses, _stored(database))
        if gone:
            self._lost_sight = False
            self._replaced("the one before is gone: what memory held is in another")
        if database.damaged_log is not None:
            kept = f"it was kept as {database.damaged_log.name}"
            self._replaced(f"its log was damaged: what was whole of it is in the outbox, {kept}")
        self._tell(Works(full=database.full))
        return database

    def _try_open(self) -> Database:
        self._pending.begin()
        try:
            database = Database(self._path, self._budget_bytes, self._tell)
        finally:
            self._pending.end()
        self._opened = True
        return database

    # --- write ----------------------------------------------------------------------------------------------

    def _write_once(self, database: Database) -> bool:
        """Write what is pending, or tidy when nothing is. True: it is time to stop."""
        self._pending.wait(self._tidy_s if database.counts.complete else 0.0)
        work, waiting, stopping = self._pending.take()
        full = database.full
        left = Work()
        self._pending.begin()
        try:
            if work:
                left = database.write(work, time.monotonic())
        except BaseException:
            self._pending.give_back(work, waiting)
            raise
        finally:
            self._end(database)
        self._tell(Written(futures=self._pending.done(waiting, left, database.losses, _stored(database))))
        if stopping:
            return self._stop(database)
        self._tidy(database)
        if database.full != full:
            self._tell(Works(full=database.full))
        if not database.full:
            self._pending.return_left()
        return False

    def _stop(self, database: Database) -> bool:
        """Count as lost what a full disk did not take. False: more has come to be written."""
        if not self._pending.empty:
            return False
        left = self._pending.drop_left()
        if left:
            database.write(
                Work(lost=losses((each.message_class, each.at) for each in left)), time.monotonic()
            )
        database.check_place()
        return True

    def _tidy(self, database: Database) -> None:
        more, due = True, time.monotonic() - self._tidied_s > TIDY_UNDER_LOAD_S
        while more and (due or self._pending.empty):
            due, self._tidied_s = False, time.monotonic()
            self._pending.begin()
            try:
                more = database.tidy(time.monotonic())
            finally:
                self._end(database)
            self._pending.counted(database.losses, _stored(database))
        self._losses = database.losses

    def _end(self, database: Database) -> None:
        if self._pending.end() > STALLED_S:
            self._tell(Works(full=database.full))

    # --- fail -----------------------------------------------------------------------------------------------

    def _rescue(self, database: Database | None) -> Database | None:
        try:
            if database is not None:
                self._lost_sight = not database.rescue()
                self._pending.begin_anew()
        except (sqlite3.Error, OSError) as error:
            logger.error("the outbox that was deleted could not be written anew: %s", error)
            if database is not None:
                database.abandon()
        return None

    def _recover(self, error: Exception) -> tuple[Database | None, bool]:
        """Begin anew after damage; rest after any other failure. True: it is time to stop."""
        if isinstance(error, NewerDatabaseError):
            return self._rest(f"{error}; left alone, running from memory")
        if isinstance(error, DamagedDatabaseError):
            try:
                return self._begin_anew(error), False
            except (DamagedDatabaseError, sqlite3.Error, OSError) as failure:
                error = failure
        return self._rest(f"{self._in_words(error)}; running from memory")

    def _begin_anew(self, damage: DamagedDatabaseError) -> Database:
        """Set a damaged database aside and begin a new one with what can still be read of it."""
        aside = set_aside(self._path, self._wall_s())
        logger.error("the outbox is damaged (%s): set aside as %s, a new one begins", damage, aside)
        self._pending.begin_anew()
        database = self._try_open()
        database.write(Work(lost=self._losses), time.monotonic())
        saved = 0
        for work in salvage(aside):
            self._take_over_losses(work)
            database.write(work, time.monotonic())
            saved += len(work.messages)
        self._replaced(f"was damaged: {saved} messages were saved, the damaged one was kept as {aside.name}")
        self._tell(Works(full=database.full))
        return database

    def _replaced(self, what: str) -> None:
        logger.error("outbox: %s", what)
        self._tell(Replaced(what=what))

    def _take_over_losses(self, work: Work) -> None:
        """What was dropped from the outbox before counts on, where it is not known from memory."""
        kept = {key: value for key, value in work.records.items() if key[0] != EVICTED}
        if not self._losses:
            dropped = {name: value or "" for (_, name), value in work.records.items() - kept.items()}
            work.lost = losses_of(dropped)
        work.records = kept

    def _in_words(self, error: Exception) -> str:
        if is_full(error, self._path):
            return "the disk is full"
        if is_read_only(error, self._path):
            return "the disk is read-only"
        return f"the disk fails: {error}"

    def _rest(self, failure: str) -> tuple[None, bool]:
        """Say that the disk failed and wait before it is tried again. True: it is time to stop."""
        self._tell(Failed(why=failure))
        self._pending.rest(self._retry_s)
        return None, self._pending.stopping


@contextmanager
def _told_when_deleted(database: Database) -> Iterator[None]:
    """Raise DeletedError instead where the failure is that the database is not there any more: we hold it."""
    try:
        yield
    except (sqlite3.Error, OSError):
        database.check_place()
        raise


def _stored(database: Database) -> Stored | None:
    """Return what is counted; None while it is not."""
    counts = database.counts
    if not counts.complete:
        return None
    return Stored(
        rows={name: rows for name, rows in counts.rows.items() if rows},
        sizes_bytes={name: size for name, size in counts.sizes_bytes.items() if size},
    )
