"""The readers' side of the database: each read is a connection of its own, in whatever thread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gatewayd.core.loss import Loss, Losses
from gatewayd.core.model import Instant, Message, MessageClass
from gatewayd.edge.outbox.file import audio_directory, check_schema, judged, read_only
from gatewayd.edge.outbox.rows import ID, REPLACES, TOPIC, Row, columns, happened, instant, to_message
from gatewayd.edge.outbox.work import EVICTED, Gone, Page, Stored

_NEXT: Final = "WHERE class = ? AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY n"


def read_page(path: Path, message_class: MessageClass, gone: Gone, limit: int) -> Page:
    """Return the oldest rows of a class, at most `limit`, without what is `gone`."""
    messages: list[Message] = []
    damaged: dict[int, Instant] = {}
    unreadable: set[str] = set()
    more = False
    with read_only(path) as connection:
        statement = f"SELECT n, {columns(check_schema(connection))} FROM message {_NEXT}"  # noqa: S608 - our own words
        for n, *row in connection.execute(statement, (message_class, json.dumps([*gone.ids]))):
            if (row[REPLACES] and row[TOPIC] in gone.topics) or n in gone.damaged:
                continue
            if len(messages) == limit:
                more = True
                break
            try:
                messages.append(to_message(tuple(row), audio_directory(path)))
            except (ValueError, FileNotFoundError):
                damaged[n] = happened(tuple(row))
            except OSError:  # a bad sector must not hold up what lies behind it
                unreadable.add(row[ID])
    return Page(messages=tuple(messages), more=more, damaged=damaged, unreadable=frozenset(unreadable))


def read_rows(path: Path, message_class: MessageClass, many: int) -> Iterator[tuple[int, Row]]:
    """Yield the numbers and rows of a class, oldest first, also while the daemon writes.

    `many` are read at a time, so that the daemon's log never has to wait for us with its beginning anew.
    """
    last = 0
    with read_only(path) as connection:
        version = check_schema(connection)
        statement = f"SELECT n, {columns(version)} FROM message WHERE class = ? AND n > ? ORDER BY n LIMIT ?"  # noqa: S608 - our own words
        while rows := connection.execute(statement, (message_class, last, many)).fetchall():
            yield from ((n, tuple(row)) for n, *row in rows)
            last = rows[-1][0]


def read_records(path: Path, kind: str) -> dict[str, str]:
    """Return the records of a kind: key to value."""
    with read_only(path) as connection:
        check_schema(connection)
        return dict(connection.execute("SELECT key, value FROM record WHERE kind = ?", (kind,)).fetchall())


def read_oldest(path: Path) -> Instant | None:
    """Return when the oldest message happened; None: there is none, or it is damaged."""
    with read_only(path) as connection:
        oldest = connection.execute(
            "SELECT boot, mono, wall, source, uncertainty FROM message ORDER BY n LIMIT 1"
        ).fetchone()
    try:
        return oldest and instant(*oldest)
    except ValueError:
        return None


def read_stored(path: Path) -> Stored:
    """Count what lies in the outbox: reads an entry for every row, so not for the daemon's loop."""
    with read_only(path) as connection:
        check_schema(connection)
        rows = connection.execute("SELECT class, count(*), sum(size) FROM message GROUP BY class").fetchall()
    known = set(MessageClass)
    return Stored(
        rows={MessageClass(name): number for name, number, _ in rows if name in known},
        sizes_bytes={MessageClass(name): size for name, _, size in rows if name in known},
        oldest=read_oldest(path),
        lost=losses_of(read_records(path, EVICTED)),
    )


def losses_of(records: Mapping[str, str]) -> Losses:
    """Return the losses that records tell; one that is damaged tells none."""
    found = {}
    for name, text in records.items():
        try:
            found[MessageClass(name)] = Loss.from_json(text)
        except ValueError:
            continue
    return found


def find_damage(path: Path) -> str | None:
    """Look at the whole database; return what is wrong with it. Takes seconds for a hundred thousand rows.

    The full check, for a quick one does not see that an index has lost a row: an alarm would never be found.
    """
    with judged(), read_only(path) as connection:
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    return None if said == "ok" else str(said)
