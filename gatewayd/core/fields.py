"""Reading the fields of a command. Each reader returns a value or raises `Refused` with what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from gatewayd.core import payload, topic

NAME_LENGTH: Final = 100  # characters of a person's name, or of a time
Fields: TypeAlias = Mapping[str, payload.Plain]


class Code(StrEnum):
    """Why a command was not carried out."""

    INVALID = "invalid"  # not understood: malformed, too large, a field missing or of the wrong type
    EXPIRED = "expired"  # came too late
    UNKNOWN = "unknown"  # no such command, or no such alarm
    CONFLICT = "conflict"  # the alarm is not in a state that allows it
    REFUSED = "refused"  # understood and possible, but not allowed
    UNAVAILABLE = "unavailable"  # what it needs is not there


class Refused(Exception):  # noqa: N818 a turn of the parser, caught where a command is read, not an error
    """Ends reading with a code and what was expected."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def show(value: object) -> str:
    """Return a value as one can read it in a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 a line a person can read


def wrong(key: str, expected: str, value: object) -> Refused:
    """Return the refusal of a field."""
    got = "nothing" if value is None else show(value)
    return Refused(Code.INVALID, f"{key}: expected {expected}, got {got}")


def text(fields: Fields, key: str, longest: int) -> str:
    """Read a text of 1 to `longest` characters."""
    value = fields.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= longest or not is_unicode(value):
        raise wrong(key, f"a text of 1 to {longest} characters", value)
    return value


def optional_text(fields: Fields, key: str, longest: int) -> str | None:
    """Read a text that may be absent or null."""
    return None if fields.get(key) is None else text(fields, key, longest)


def optional_seconds(fields: Fields, key: str, least: int, most: int) -> int | None:
    """Read a whole number of seconds that may be absent or null."""
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise wrong(key, f"a whole number of seconds from {least} to {most}", value)
    return value


def topic_id(fields: Fields, key: str, whose: str) -> str:
    """Read an id that may stand in a topic."""
    value = fields.get(key)
    if not isinstance(value, str) or not topic.is_id(value):
        raise wrong(key, f"{whose}'s id", value)
    return value


def wall(value: str, key: str) -> float:
    """Return the seconds since 1970 of a time."""
    try:
        return payload.wall(value)
    except ValueError:
        raise wrong(key, "an RFC 3339 time with Z or an offset", value) from None


def is_unicode(value: str) -> bool:
    """Say whether the text can be written as UTF-8: JSON can escape half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
