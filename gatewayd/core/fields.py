"""Reading the fields of a command. Each reader returns a value or raises `Refused` with what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from gatewayd.core import payload, topic

NAME_LENGTH: Final = 100  # characters of a person's name, or of a time
TEXT_LENGTH: Final = 2_000  # of a note or a lesson: a page
_REFERENCE: Final = re.compile(r"[A-Za-z0-9._:@-]{1,64}")  # as [tag NAME] worker takes it
Fields: TypeAlias = Mapping[str, payload.Plain]

_Choice = TypeVar("_Choice", bound=StrEnum)


class Code(StrEnum):
    """Why a command was not carried out."""

    INVALID = "invalid"  # not understood: malformed, too large, a field missing or of the wrong type
    EXPIRED = "expired"  # came too late
    UNKNOWN = "unknown"  # no such command, or no such alarm
    CONFLICT = "conflict"  # the alarm is not in a state that allows it
    REFUSED = "refused"  # understood and possible, but not allowed
    UNAVAILABLE = "unavailable"  # what it needs is not there


# Why a command was not carried out, in a code and in words; None: it was.
Refusal: TypeAlias = tuple[Code, str] | None


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


def reference(fields: Fields, key: str) -> str:
    """Read a reference to a worker, never a name."""
    value = fields.get(key)
    if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
        raise wrong(key, "a reference of 1 to 64 letters, digits and ._:@-", value)
    return value


def choice(fields: Fields, key: str, kind: type[_Choice]) -> _Choice:
    """Read one of the values there are."""
    value = fields.get(key)
    if not isinstance(value, str) or value not in list(kind):
        raise wrong(key, f"one of {', '.join(kind)}", value)
    return kind(value)


def wall(value: str, key: str) -> float:
    """Return the seconds since 1970 of a time."""
    try:
        return payload.wall(value)
    except ValueError:
        raise wrong(key, "an RFC 3339 time with Z or an offset", value) from None


def is_unicode(value: str) -> bool:
    """Say whether the text can be written as UTF-8: JSON can escape half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
