"""What can still be read of a damaged outbox: alarms first, and everything else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from gatewayd.core.model import Message, MessageClass
from gatewayd.edge.outbox.file import (
    DamagedDatabaseError,
    NewerDatabaseError,
    audio_directory,
    check_schema,
    read_only,
)
from gatewayd.edge.outbox.rows import Row, columns, to_message
from gatewayd.edge.outbox.work import RecordKey, Work

BATCH: Final = 200  # messages written at a time
# A new alarm is stored only when this is over (it is sent all the same), and the daemon waits 3 s for what
# the disk knows: what is not reached by then stays in what was set aside.
SALVAGE_S: Final = 2.5
# Failed reads, each of which halves a range of rows: a damaged page of 4 KiB costs some 20 to 60 of them.
FAILURES: Final = 5_000
_LAST: Final = (1 << 63) - 1  # the largest row number there may be
# First by the index of classes, then the whole table, should the index be what is damaged.
_ALARMS: Final = f"FROM message WHERE class = '{MessageClass.ALARM}' AND"
_ALL: Final = "FROM message NOT INDEXED WHERE"


def salvage(aside: Path) -> Iterator[Work]:
    """Yield what can be read of the outbox that was set aside as `aside`: records, alarms, everything.

    Reads for `SALVAGE_S` at most.
    """
    end_s = time.monotonic() + SALVAGE_S
    with suppress(sqlite3.Error, DamagedDatabaseError, NewerDatabaseError), read_only(aside) as connection:
        version = _check(connection)
        yield Work(records=dict(_records(connection)))
        known: set[int] = set()
        for source in (_ALARMS, _ALL):
            rows = ((n, row) for n, row in _rows(connection, version, source) if n not in known)
            messages = _messages(rows, audio_directory(aside))
            while time.monotonic() < end_s and (batch := list(islice(messages, BATCH))):
                known.update(n for n, _ in batch)
                work = Work(numbers={message.id: n for n, message in batch})
                for _, message in batch:
                    work.put(message)
                yield work


def read_damaged(path: Path) -> Iterator[Row]:
    """Yield every row that can be read of an outbox that was set aside."""
    with read_only(path) as connection:
        version = _check(connection)
        for _, row in _rows(connection, version, _ALL):
            yield row


def read_damaged_records(path: Path, kind: str) -> list[str]:
    """Return the records of a kind that can be read of an outbox that was set aside."""
    with read_only(path) as connection:
        _check(connection)
        return [value for (of, _), value in dict(_records(connection)).items() if of == kind]


def _check(connection: sqlite3.Connection) -> int:
    connection.execute("PRAGMA writable_schema = ON")  # SQLite's way to read a file that is too short
    return check_schema(connection)


def _records(connection: sqlite3.Connection) -> Iterator[tuple[RecordKey, str]]:
    """Yield the records from both ends, as far as they can be read."""
    for order in ("", " DESC"):
        with suppress(sqlite3.DatabaseError):
            statement = f"SELECT kind, key, value FROM record ORDER BY kind{order}, key{order}"  # noqa: S608 - our own words
            for kind, key, value in connection.execute(statement):
                yield (kind, key), value


def _rows(connection: sqlite3.Connection, version: int, source: str) -> Iterator[tuple[int, Row]]:
    """Yield the numbers and rows that can be read, oldest first: around what cannot, a range is halved."""
    statement = f"SELECT n, {columns(version)} {source} n BETWEEN ? AND ? ORDER BY n"
    failures, ranges = 0, [(1, _LAST)]
    while ranges and failures < FAILURES:
        first, last = ranges.pop()
        try:
            for n, *row in connection.execute(statement, (first, last)):
                yield n, tuple(row)
                first = n + 1
        except sqlite3.DatabaseError:
            failures += 1
            middle = (first + last) // 2
            if first < last:
                ranges += [(middle + 1, last), (first, middle)]


def _messages(rows: Iterable[tuple[int, Row]], audio: Path) -> Iterator[tuple[int, Message]]:
    for n, row in rows:
        with suppress(ValueError, OSError):
            yield n, to_message(row, audio)
