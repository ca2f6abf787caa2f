"""The writer's side of the database: everything that is pending goes into one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from gatewayd.core import topic
from gatewayd.core.loss import Losses, added, losses, taken_back
from gatewayd.core.model import Instant, Message, MessageClass
from gatewayd.edge.outbox.ballast import BALLAST_BYTES, Ballast
from gatewayd.edge.outbox.counting import Counts
from gatewayd.edge.outbox.file import (
    audio_directory,
    free_bytes,
    is_full,
    judged,
    move_into_place,
    open_database,
)
from gatewayd.edge.outbox.log import Log
from gatewayd.edge.outbox.reading import losses_of
from gatewayd.edge.outbox.rows import INSERT, instant_of_any, to_row
from gatewayd.edge.outbox.segments import Place, Segments
from gatewayd.edge.outbox.work import EVICTED, Evicted, Work

ALARM_SHARE: Final = 0.1  # of the budget is kept for alarms
# What was deleted is in the log until that begins anew: it is emptied so long after a deletion at most. Every
# time costs writing again what it holds, so not at once.
EMPTY_LOG_S: Final = 3600.0
EMPTY_FIRST_S: Final = 60.0  # after a start, which has other things to do: shorter than any drive
EVICT_ROWS: Final = 200  # at a time, so that a full outbox never holds up an alarm's transaction for long
EVICTED_KEPT: Final = 10_000  # more than any window has in flight
# Evicted first to last. Alarms are not in it.
EVICTION: Final = (
    MessageClass.TELEMETRY,
    MessageClass.AUDIO,
    MessageClass.POSITION,
    MessageClass.STATE,
)


class DeletedError(Exception):
    """The database or its log was deleted while it was open: what is written to it would be gone."""


class Database:
    """The writer's connection. Methods raise sqlite3.Error or OSError when the disk fails.

    `on_evicted` is told in the writer's thread what was dropped for space, after it was.
    """

    def __init__(self, path: Path, budget_bytes: int, on_evicted: Callable[[Evicted], None]) -> None:
        """Open or create the outbox at `path`.

        NewerDatabaseError and DamagedDatabaseError as their docstrings say.
        """
        self._path = path
        self._ballast = Ballast(path)
        self.damaged_log: Path | None = None  # where it was kept
        self._connection = self._open()
        self._files = self._identities()
        self._segments = Segments(audio_directory(path))
        self._budget_bytes = budget_bytes
        self._on_evicted = on_evicted
        self._evicted: dict[str, tuple[MessageClass, Instant]] = {}  # the last, whose PUBACK may still come
        self._swept = False
        self._remains = True  # of what was deleted may be in the log, from an earlier run
        self._empty_from_s: float | None = None
        self.full = False  # the ballast is given up: what room there is belongs to alarms
        self.counts = Counts(self._connection)
        with judged():
            records = self._connection.execute("SELECT key, value FROM record WHERE kind = ?", (EVICTED,))
            self.losses: Losses = losses_of(dict(records.fetchall()))

    def _open(self) -> sqlite3.Connection:
        try:
            log = Log(self._path)
            connection = open_database(self._path)
            if log.forgotten:
                connection.close()
                self.damaged_log = log.put_back()
                connection = open_database(self._path)
            return connection
        except (sqlite3.Error, OSError) as error:
            if not is_full(error, self._path) or not self._ballast.give_up():
                raise
            return self._open()

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, work: Work, now_s: float) -> Work:
        """Do `work` in one transaction; it is durable on return. `now_s`: monotonic.

        Return what could not be done now: while the disk is full, the messages that are no alarm's.
        DeletedError when the database is not where it was any more; then nothing is done.
        """
        self.check_place()
        later = Work()
        if self.full:
            work, later = work.without_lower()
        try:
            self._write(work, now_s)
        except (sqlite3.Error, OSError) as error:
            if not is_full(error, self._path):
                raise
            if not self.full:
                self.full = True
                work, later = work.without_lower()
            self._write_though_full(work, now_s, error)
        return later

    def _write_though_full(self, work: Work, now_s: float, error: Exception) -> None:
        """Give up the ballast, then what is worth least, until the disk takes it."""
        while self._make_room():
            try:
                return self._write(work, now_s)
            except (sqlite3.Error, OSError) as again:
                if not is_full(again, self._path):
                    raise
                error = again
        raise error

    def _make_room(self) -> bool:
        """Give up some of the ballast, or of what is worth least when it is gone. False: only alarms are.

        SQLite's log begins anew once all of it is in the database, which grows by it. What is given up goes
        there first: the log would take all of it, and then there would be room for neither.
        """
        while self._ballast.give_up():
            if self._empty_log():
                return True
        return self._evict()

    def _empty_log(self) -> bool:
        """Put what is in the log into the database. False: the disk is too full for that."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if not is_full(error, self._path):
                raise
            return False
        return True

    def _write(self, work: Work, now_s: float) -> None:
        with judged():
            self.counts.begin()
            places = {
                message.id: self._segments.append(_alarm(message), message.sound, now_s)
                for message in work.messages.values()
                if message.sound is not None
            }
            self._segments.sync()
            changes = _Changes()
            with self._transaction():
                self._delete(changes, "replaces AND topic = ?", ((topic_,) for topic_ in work.replaced))
                for message in work.messages.values():
                    self._insert(changes, message, places.get(message.id), work.numbers.get(message.id))
                confirmed = json.dumps([*work.confirmed])
                self._delete(changes, "id IN (SELECT value FROM json_each(?))", [(confirmed,)])
                for (kind, key), value in work.changes.items():
                    self._record(kind, key, value)
                lost = self._count_lost(self._newly_lost(changes, work))
            self._done(changes, lost)
            for message_id in self._evicted.keys() & work.confirmed:
                del self._evicted[message_id]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:  # commits, or rolls back and raises
            yield

    def _insert(self, changes: _Changes, message: Message, place: Place | None, n: int | None) -> None:
        if message.replaces:
            self._delete(changes, "replaces AND topic = ?", [(message.topic,)])
        row = to_row(message, place)
        if self._connection.execute(INSERT, (n, *row)).rowcount:
            changes.inserted.append((MessageClass(row[1]), row[-1]))

    def _delete(self, changes: _Changes, where: str, values: Iterable[tuple[str | int, ...]]) -> None:
        statement = f"DELETE FROM message WHERE {where} RETURNING n, class, size, segment"  # noqa: S608 - our own words
        for value in values:
            changes.deleted += self._connection.execute(statement, value).fetchall()

    def _newly_lost(self, changes: _Changes, work: Work) -> Losses:
        """Delete rows that can never be read; return what is lost by this work.

        What was in flight when it was dropped for space, and has arrived after all, is taken off again.
        """
        self._delete(changes, "n = ?", ((n,) for n in work.damaged))
        deleted = {n for n, *_ in changes.deleted}
        lost = added(work.lost, losses(each for n, each in work.damaged.items() if n in deleted))
        for message_id in self._evicted.keys() & work.confirmed:
            lost = added(lost, taken_back(*self._evicted[message_id]))
        return lost

    def _record(self, kind: str, key: str, value: str | None) -> None:
        if value is None:
            self._remains = True
            self._connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))
        else:
            self._connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (kind, key, value))

    def _count_lost(self, lost: Losses) -> Losses:
        """Record the losses with the others; return them all."""
        together = added(self.losses, lost)
        for name in lost:
            self._record(EVICTED, name, together[name].to_json() if name in together else None)
        return together

    def _done(self, changes: _Changes, lost: Losses) -> None:
        """A transaction is on disk: count what it did, erase the sound that nobody needs any more."""
        self.losses = lost
        self._remains = self._remains or bool(changes.deleted)
        for name, size in changes.inserted:
            self.counts.inserted(name, size)
        for n, class_, size, _ in changes.deleted:
            self.counts.deleted(n, class_, size)
        self._release({segment for *_, segment in changes.deleted if segment is not None})

    def _release(self, segments: Iterable[str]) -> None:
        """Erase those segments that no row points into and no recording writes to."""
        for segment in segments:
            pointed = "SELECT EXISTS (SELECT 1 FROM message WHERE segment = ?)"
            if not self._segments.is_open(segment) and not self._one(pointed, segment):
                self._segments.remove(segment)

    def _one(self, statement: str, *values: str) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])

    # --- tidying --------------------------------------------------------------------------------------------

    def tidy(self, now_s: float) -> bool:
        """Do a little of what can wait: erase ended segments, count, keep the ballast and the budget.

        To be called while nothing else waits. False: there is nothing to do for now.
        """
        self.check_place()
        with judged():
            ended = self._segments.ended(now_s)
            if ended is not None:
                self._release({ended})
            if not self._swept:
                # what a kill between a segment's sync and its row's commit, or before an erasure, left
                self._release(self._segments.names())
                self._swept = True
            self.counts.go_on()
            if not self.counts.complete:
                return True
            self._keep_ballast()
            self._erase_remains(now_s)
            return (self._lacks_room() or self._is_over_budget()) and self._evict_though_full()

    def _erase_remains(self, now_s: float) -> None:
        """Empty the log of what was deleted, at its time. Whoever reads just now is not waited for."""
        if self._empty_from_s is None:
            self._empty_from_s = now_s + EMPTY_FIRST_S
        if not self._remains or self.full or now_s < self._empty_from_s:
            return
        (wait_ms,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        if not busy:
            self._remains, self._empty_from_s = False, now_s + EMPTY_LOG_S

    def _keep_ballast(self) -> None:
        if not self._ballast.whole:
            self.full = not self._ballast.make()

    def _lacks_room(self) -> bool:
        """Whether a full disk leaves alarms less than the ballast would."""
        if not self.full:
            return False
        free = self._one("PRAGMA freelist_count") * self._one("PRAGMA page_size")
        return free_bytes(self._path.parent) + self._ballast.size_bytes + free < BALLAST_BYTES

    def _is_over_budget(self) -> bool:
        size_bytes = self.counts.size_bytes
        lower_bytes = size_bytes - self.counts.sizes_bytes[MessageClass.ALARM]
        return size_bytes > self._budget_bytes or lower_bytes > self._budget_bytes * (1 - ALARM_SHARE)

    def _evict_though_full(self) -> bool:
        """Deleting takes room too, for the log."""
        try:
            return self._evict()
        except (sqlite3.Error, OSError) as error:
            if not is_full(error, self._path):
                raise
            self.full = True
            return self._make_room()

    def _evict(self) -> bool:
        """Drop the oldest rows of the lowest class there is. False: only alarms are left."""
        for message_class in EVICTION:
            rows = self._connection.execute(
                "SELECT n, id, boot, mono, wall, source, uncertainty FROM message WHERE class = ?"
                " ORDER BY n LIMIT ?",
                (message_class, EVICT_ROWS),
            ).fetchall()
            if not rows:
                continue
            changes = _Changes()
            dropped = {message_id: (message_class, instant_of_any(*at)) for _, message_id, *at in rows}
            with self._transaction():
                self._delete(changes, "n = ?", ((n,) for n, *_ in rows))
                lost = self._count_lost(losses(dropped.values()))
            self._done(changes, lost)
            self._remember(dropped)
            self._on_evicted(Evicted(message_class=message_class, ids=frozenset(dropped)))
            return True
        return False

    def _remember(self, dropped: Mapping[str, tuple[MessageClass, Instant]]) -> None:
        self._evicted |= dropped
        while len(self._evicted) > EVICTED_KEPT:
            del self._evicted[next(iter(self._evicted))]

    # --- the end --------------------------------------------------------------------------------------------

    def rescue(self) -> bool:
        """Write the database anew that was deleted under us, for we still have it open; and close.

        False: there is another in its place (a file system was mounted over it), which is left as it is.
        """
        if self._identities()[0] not in {None, self._files[0]}:
            self.abandon()
            return False
        new = self._path.with_name(self._path.name + ".new")
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        with closing(sqlite3.connect(new)) as copy:
            self._connection.backup(copy)
        self.abandon()
        move_into_place(new, self._path)
        return True

    def close(self) -> None:
        """Close cleanly; what was written is checkpointed."""
        self._segments.close()
        self._connection.close()

    def abandon(self) -> None:
        """Let go of everything though the disk failed. Never raises."""
        self._segments.abandon()
        try:
            self._connection.close()
        except sqlite3.Error:
            return  # the connection is gone either way

    def check_place(self) -> None:
        """DeletedError when the database or its log is not where it was opened."""
        if self._identities() != self._files:
            raise DeletedError(f"expected {self._path} and its log where they were, got others or none")

    def _identities(self) -> tuple[tuple[int, int] | None, ...]:
        """Which files stand where the database and its log were opened."""
        return tuple(_identity(self._path.with_name(self._path.name + ending)) for ending in ("", "-wal"))


class _Changes:
    """What a transaction inserted (class, size) and deleted (n, class, size, segment)."""

    def __init__(self) -> None:
        self.inserted: list[tuple[MessageClass, int]] = []
        self.deleted: list[tuple[int, str, int, str | None]] = []


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _alarm(message: Message) -> str:
    """The folder of a chunk: its alarm."""
    parsed = topic.parse(message.topic)
    return parsed.alarm if parsed is not None and parsed.alarm is not None else "other"
