"""The writer's side of the database: everything that is pending goes into one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gatewayd.core import payload, topic
from gatewayd.core.model import Message, MessageClass
from gatewayd.edge.outbox.file import audio_directory, judged, open_database
from gatewayd.edge.outbox.segments import Place, Segments
from gatewayd.edge.outbox.work import EVICTED, Evicted, Work

# What a row weighs beyond its body and sound: ids, times, index entries, page overhead (measured: 390–430).
ROW_BYTES: Final = 420
ALARM_SHARE: Final = 0.1  # of the budget is kept for alarms
EVICT_ROWS: Final = 200  # at a time, so that a full outbox never holds up an alarm's transaction for long
# Evicted first to last. Alarms are not in it.
EVICTION: Final = (
    MessageClass.TELEMETRY,
    MessageClass.AUDIO,
    MessageClass.POSITION,
    MessageClass.STATE,
)


_INSERT: Final = """
    INSERT OR IGNORE INTO message (id, class, topic, body, boot, mono, wall, source, uncertainty, run, seq,
    retain, replaces, clears, expires, response_topic, correlation, size, segment, offset, length)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Database:
    """The writer's connection. Methods raise sqlite3.Error or OSError when the disk fails."""

    def __init__(self, path: Path, budget_bytes: int) -> None:
        """Open or create the outbox at `path`.

        NewerDatabaseError and DamagedDatabaseError as their docstrings say.
        """
        self._connection = open_database(path)
        self._segments = Segments(audio_directory(path))
        self._budget_bytes = budget_bytes
        self._size_bytes: int | None = None  # not counted yet: a million rows must not delay the first alarm

    def write(self, work: Work, now_s: float) -> None:
        """Do all of `work` in one transaction; it is durable on return. `now_s`: monotonic."""
        with judged():
            places = {
                message.id: self._segments.append(_alarm(message), message.sound, now_s)
                for message in work.messages.values()
                if message.sound is not None
            }
            self._segments.sync()
            with self._transaction():
                self._delete("replaces AND topic = ?", ((topic_,) for topic_ in work.replaced))
                for message in work.messages.values():
                    self._insert(message, places.get(message.id))
                emptied = self._delete("id = ?", ((message_id,) for message_id in work.confirmed))
                for (kind, key), value in work.records.items():
                    self._record(kind, key, value)
            self._release(emptied)

    def tidy(self, now_s: float) -> Evicted | None:
        """After a transaction, when nothing else waits: keep the budget, erase ended segments."""
        with judged():
            ended = self._segments.ended(now_s)
            if ended is not None:
                self._release({ended})
            if self._size_bytes is None:
                self._sweep()
                self._size_bytes = self._one("SELECT coalesce(sum(size), 0) FROM message")
            if not self._over_budget(self._size_bytes):
                return None
            return self._evict()

    def _over_budget(self, size_bytes: int) -> bool:
        others_budget = self._budget_bytes * (1 - ALARM_SHARE)
        if size_bytes <= others_budget:
            return False
        alarms = self._one("SELECT coalesce(sum(size), 0) FROM message WHERE class = 'alarm'")
        return size_bytes > self._budget_bytes or size_bytes - alarms > others_budget

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

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        self._connection.commit()

    def _insert(self, message: Message, place: Place | None) -> None:
        body = payload.dump(message.body)
        size = len(body) + ROW_BYTES + (place.length if place else 0)
        if message.replaces:
            self._delete("replaces AND topic = ?", [(message.topic,)])
        inserted = self._connection.execute(
            _INSERT,
            (
                message.id,
                _stored_class(message),
                message.topic,
                body,
                message.at.boot,
                message.at.mono_s,
                message.at.wall_s,
                message.at.source,
                message.at.uncertainty_ms,
                message.run,
                message.seq,
                message.retain,
                message.replaces,
                message.clears,
                message.expires_s,
                message.response_topic,
                message.correlation,
                size,
                place.segment if place else None,
                place.offset if place else None,
                place.length if place else None,
            ),
        ).rowcount
        if inserted and self._size_bytes is not None:
            self._size_bytes += size

    def _delete(self, where: str, values: Iterable[tuple[str | int, ...]]) -> set[str]:
        """Delete rows; return the segments they pointed into."""
        segments: set[str] = set()
        statement = f"DELETE FROM message WHERE {where} RETURNING size, segment"  # noqa: S608 - our own words
        for value in values:
            for size, segment in self._connection.execute(statement, value).fetchall():
                if self._size_bytes is not None:
                    self._size_bytes -= size
                if segment is not None:
                    segments.add(segment)
        return segments

    def _record(self, kind: str, key: str, value: str | None) -> None:
        if value is None:
            self._connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))
        else:
            self._connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (kind, key, value))

    def _release(self, segments: Iterable[str]) -> None:
        """Erase those segments that no row points into and no recording writes to."""
        for segment in segments:
            if not self._segments.is_open(segment) and not self._one(
                "SELECT EXISTS (SELECT 1 FROM message WHERE segment = ?)", segment
            ):
                self._segments.remove(segment)

    def _sweep(self) -> None:
        """Erase what a kill between a segment's sync and its row's commit, or before an erasure, left."""
        self._release(self._segments.names())

    def _evict(self) -> Evicted | None:
        """Drop the oldest rows of the lowest class there is. None: only alarms are left."""
        for message_class in EVICTION:
            rows = self._connection.execute(
                "SELECT n, id, wall FROM message WHERE class = ? ORDER BY n LIMIT ?",
                (message_class, EVICT_ROWS),
            ).fetchall()
            if not rows:
                continue
            with self._transaction():
                emptied = self._delete("n = ?", ((n,) for n, _, _ in rows))
                self._count_evicted(message_class, [wall_s for _, _, wall_s in rows])
            self._release(emptied)
            return Evicted(message_class=message_class, ids=frozenset(row[1] for row in rows))
        return None

    def _count_evicted(self, message_class: MessageClass, walls: list[float]) -> None:
        row = self._connection.execute(
            "SELECT value FROM record WHERE kind = ? AND key = ?", (EVICTED, message_class)
        ).fetchone()
        total = json.loads(row[0]) if row else {"count": 0, "from": min(walls)}
        total |= {"count": total["count"] + len(walls), "to": max(walls)}
        self._record(EVICTED, message_class, json.dumps(total))

    def _one(self, statement: str, *values: str) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])


def _stored_class(message: Message) -> MessageClass:
    """Sound that is read back from disk is no longer live."""
    return MessageClass.AUDIO if message.message_class is MessageClass.AUDIO_LIVE else message.message_class


def _alarm(message: Message) -> str:
    """The folder of a chunk: its alarm."""
    parsed = topic.parse(message.topic)
    return parsed.alarm if parsed is not None and parsed.alarm is not None else "other"
