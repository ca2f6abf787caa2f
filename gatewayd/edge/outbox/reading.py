"""What lies in the outbox, read over a connection of one's own: a reader never waits for the writer.

WAL lets both go on, so a page comes though the writer is in its fdatasync.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from gatewayd.core import payload
from gatewayd.core.model import ClockSource, Instant, Keep, Message, MessageClass
from gatewayd.edge.outbox.file import audio_directory, read_only
from gatewayd.edge.outbox.segments import Place, read_sound
from gatewayd.edge.outbox.work import EVICTED, Page, Stored

_SELECT: Final = """
    SELECT id, class, topic, body, boot, mono, wall, source, uncertainty, run, seq,
    retain, replaces, clears, expires, response_topic, correlation, segment, offset, length
    FROM message WHERE class = ? ORDER BY n
"""
_TOPIC: Final = 2  # columns of it
_REPLACES: Final = 12


def read_page(
    path: Path, message_class: MessageClass, known: Collection[str], replaced: Collection[str], limit: int
) -> Page:
    """Return the oldest rows of a class, at most `limit`.

    Without those whose ids are `known`, and those whose topic is `replaced` and has a newer message.
    """
    messages: list[Message] = []
    damaged: set[str] = set()
    unreadable: set[str] = set()
    more = False
    with read_only(path) as connection:
        for row in connection.execute(_SELECT, (message_class,)):
            if row[0] in known or (row[_REPLACES] and row[_TOPIC] in replaced):
                continue
            if len(messages) == limit:
                more = True
                break
            try:
                messages.append(_message(row, audio_directory(path)))
            except (ValueError, FileNotFoundError):
                damaged.add(row[0])
            except OSError:  # a bad sector must not hold up what lies behind it
                unreadable.add(row[0])
    return Page(
        messages=tuple(messages), more=more, damaged=frozenset(damaged), unreadable=frozenset(unreadable)
    )


def read_records(path: Path, kind: str) -> dict[str, str]:
    """Return the records of a kind: key to value."""
    with read_only(path) as connection:
        return dict(connection.execute("SELECT key, value FROM record WHERE kind = ?", (kind,)).fetchall())


def read_stored(path: Path) -> Stored:
    """Return what lies in the outbox."""
    with read_only(path) as connection:
        rows = connection.execute("SELECT class, count(*), sum(size) FROM message GROUP BY class").fetchall()
        oldest = connection.execute(
            "SELECT boot, mono, wall, source, uncertainty FROM message ORDER BY n LIMIT 1"
        ).fetchone()
    return Stored(
        rows={MessageClass(name): number for name, number, _ in rows},
        size_bytes=sum(size for *_, size in rows),
        oldest=oldest and _instant(*oldest),
        evicted={
            MessageClass(name): json.loads(value)["count"]
            for name, value in read_records(path, EVICTED).items()
        },
    )


def _message(row: tuple[Any, ...], audio: Path) -> Message:  # Any: SQLite's word; the table is STRICT
    """Return the message of a row.

    ValueError or FileNotFoundError when it is damaged, another OSError when the disk does not give it.
    """
    (message_id, name, topic_, body, boot, mono_s, wall_s, source, uncertainty_ms, run, seq, *rest) = row
    retain, replaces, clears, expires_s, response_topic, correlation, segment, offset, length = rest
    place = None if segment is None else Place(segment=segment, offset=offset, length=length)
    return Message(
        id=message_id,
        run=run,
        seq=seq,
        topic=topic_,
        message_class=MessageClass(name),
        keep=Keep.AT_ONCE,
        at=_instant(boot, mono_s, wall_s, source, uncertainty_ms),
        body=payload.load(body),
        retain=bool(retain),
        replaces=bool(replaces),
        clears=bool(clears),
        expires_s=expires_s,
        response_topic=response_topic,
        correlation=correlation,
        sound=None if place is None else read_sound(audio, place),
    )


def _instant(boot: str, mono_s: float, wall_s: float, source: str, uncertainty_ms: int) -> Instant:
    return Instant(
        boot=boot,
        mono_s=mono_s,
        wall_s=wall_s,
        source=ClockSource(source),
        uncertainty_ms=uncertainty_ms,
    )
