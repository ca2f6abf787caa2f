"""A message as a row of the database, and back.

Every row carries a checksum of itself and its sound: SQLite notices damage to its own structure only, and a
bit that flipped in a time or a position must not go out as if it were true.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gatewayd.core import payload, topic
from gatewayd.core.model import ClockSource, Instant, Keep, Message, MessageClass
from gatewayd.core.uuid7 import is_uuid
from gatewayd.edge.outbox.segments import Place, read_sound

_FIELDS: Final = (
    "id, class, topic, body, boot, mono, wall, source, uncertainty, run, seq,"
    " retain, replaces, clears, expires, response_topic, correlation"
)
_CHECKED: Final = len(_FIELDS.split(","))
# What a row weighs beyond its body and sound: ids, times, index entries, page overhead (measured: 390–430).
ROW_BYTES: Final = 420
_VALUES: Final = ", ".join("?" * (_CHECKED + 6))
INSERT: Final = (
    f"INSERT OR IGNORE INTO message (n, {_FIELDS}, segment, offset, length, crc, size) VALUES ({_VALUES})"  # noqa: S608 - our own words
)
ID, TOPIC, REPLACES = (_FIELDS.split(", ").index(name) for name in ("id", "topic", "replaces"))
_BODY: Final = 3
_AT: Final = slice(4, 9)
Row = tuple[Any, ...]  # SQLite's word; the table is STRICT, and what is damaged may be anything


def columns(version: int) -> str:
    """Return what a row consists of in a database of this version."""
    return f"{_FIELDS}, segment, offset, length, {'crc' if version > 1 else 'NULL'}"


def to_row(message: Message, place: Place | None) -> Row:
    """Return what `INSERT` takes beside the row's number; the last of it is the size that counts."""
    body = payload.dump(message.body)
    at = message.at
    fields = (
        message.id,
        str(_stored_class(message)),
        message.topic,
        body,
        at.boot,
        at.mono_s + 0.0,  # the very number that is read back: a float, and no negative zero
        at.wall_s + 0.0,
        str(at.source),
        at.uncertainty_ms,
        message.run,
        message.seq,
        int(message.retain),
        int(message.replaces),
        int(message.clears),
        message.expires_s,
        message.response_topic,
        message.correlation,
    )
    where = (None, None, None) if place is None else (place.segment, place.offset, place.length)
    size = len(body) + ROW_BYTES + (place.length if place else 0)
    return (*fields, *where, _checksum(fields, message.sound), size)


def to_message(row: Row, audio: Path) -> Message:
    """Return the message of a row, its sound read from the directory `audio`.

    ValueError or FileNotFoundError when it is damaged, another OSError when the disk does not give its sound.
    An alarm's that is damaged and can still be understood goes out all the same, marked as such: a word that
    is wrong in it is worth more than no alarm.
    """
    place = place_of(row)
    fields, crc = row[:_CHECKED], row[-1]
    try:
        sound = None if place is None else read_sound(audio, place)
        message = _message(fields, sound)
    except TypeError as error:
        raise ValueError(f"expected a message, got {str(row)[:80]}") from error
    if crc is None or crc == _checksum(fields, sound):
        return message
    about = topic.parse(message.topic)
    if message.message_class is not MessageClass.ALARM or about is None or not is_uuid(message.id):
        raise ValueError(f"expected the checksum {crc}, got another: {message.topic} is damaged")
    if about.alarm != message.body.get("alarm"):
        raise ValueError(f"expected the alarm of {message.topic}, got {message.body.get('alarm')!r}")
    return replace(message, body={**message.body, "damaged": True})


def happened(row: Row) -> Instant:
    """Return when the message of a row happened, as far as one that is damaged still tells."""
    return instant_of_any(*row[_AT])


def size_bytes(row: Row) -> int:
    """Return the length of a row's body and sound."""
    place = place_of(row)
    return len(row[_BODY]) + (0 if place is None else place.length)


def _message(fields: Row, sound: bytes | None) -> Message:
    (message_id, name, topic_, body, boot, mono_s, wall_s, source, uncertainty_ms, run, seq, *rest) = fields
    retain, replaces, clears, expires_s, response_topic, correlation = rest
    return Message(
        id=message_id,
        run=run,
        seq=seq,
        topic=topic_,
        message_class=MessageClass(name),
        keep=Keep.AT_ONCE,
        at=instant(boot, mono_s, wall_s, source, uncertainty_ms),
        body=payload.load(body),
        retain=bool(retain),
        replaces=bool(replaces),
        clears=bool(clears),
        expires_s=expires_s,
        response_topic=response_topic,
        correlation=correlation,
        sound=sound,
    )


def instant(boot: str, mono_s: float, wall_s: float, source: str, uncertainty_ms: int) -> Instant:
    """Return the instant that a row's columns are. ValueError when they are none."""
    return Instant(
        boot=boot,
        mono_s=mono_s,
        wall_s=wall_s,
        source=ClockSource(source),
        uncertainty_ms=uncertainty_ms,
    )


def instant_of_any(boot: Any, mono_s: Any, wall_s: Any, source: Any, uncertainty_ms: Any) -> Instant:
    """Return the instant of a row that may be damaged: where it is, nobody vouches for the time it gives."""
    known = source if source in set(ClockSource) else ClockSource.NONE
    numbers = (each if isinstance(each, int | float) else 0 for each in (mono_s, wall_s, uncertainty_ms))
    mono_s, wall_s, uncertainty_ms = numbers
    return instant(str(boot), mono_s, wall_s, known, uncertainty_ms)


def _checksum(fields: Row, sound: bytes | None) -> int:
    return zlib.crc32(sound or b"", zlib.crc32(repr(fields).encode()))


def _stored_class(message: Message) -> MessageClass:
    """Sound that is read back from disk is no longer live."""
    return MessageClass.AUDIO if message.message_class is MessageClass.AUDIO_LIVE else message.message_class


def place_of(row: Row) -> Place | None:
    """Return where the sound of a row lies; None: it has none."""
    segment, offset, length = row[_CHECKED : _CHECKED + 3]
    return None if segment is None else Place(segment=segment, offset=offset, length=length)
