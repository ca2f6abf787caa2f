"""What is wrong with a configuration: a line for each fault: where, what was expected, what is there.

What a file holds may be anything, and what is shown goes to a terminal and to the journal. So it is cut to a
length, its unprintable characters are escaped, and what looks like a secret is masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SHOWN_CHARACTERS: Final = 80  # of a value; the longest sensible one, a device path, is about that long
MASK: Final = "****"
# A password in an address, mqtt://user:password@host; a device before its @baud has a slash behind the colon.
_PASSWORD_IN_ADDRESS: Final = re.compile(r":[^\s:/@]*@")
_SECRET_KEY: Final = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_KEY_ITSELF: Final = re.compile(r"[0-9A-Fa-f]{32,}")


def shown(text: str) -> str:
    """Return `text` as it may be printed: at most 80 characters, none unprintable, no password."""
    text = text[: SHOWN_CHARACTERS + 1]
    masked = _PASSWORD_IN_ADDRESS.sub(f":{MASK}@", text)
    escaped = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in masked
    )
    return escaped if len(escaped) <= SHOWN_CHARACTERS else escaped[: SHOWN_CHARACTERS - 1] + "…"


def is_credential_name(text: str) -> bool:
    """Say whether `text` names a credential, and is not by its looks the secret itself."""
    return _CREDENTIAL_NAME.fullmatch(text) is not None and _KEY_ITSELF.fullmatch(text) is None


def shown_value(key: str, value: str) -> str:
    """Return a key's value as it may be printed: a secret that stands where none belongs is masked."""
    if _SECRET_KEY.search(key) and not (key.endswith("_credential") and is_credential_name(value)):
        return MASK if value else ""
    return shown(value)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """Where something stands. Lines count from 1; 0: the file or folder as a whole."""

    path: str
    line: int = 0

    def __str__(self) -> str:
        path = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in self.path
        )
        return f"{path}:{self.line}" if self.line else path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One `key = value` line. `section` is as written, with single spaces: `tag front`."""

    section: str
    key: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A fault. As text `path:line: [section] key = value: expected …, got …`, without what is not known."""

    place: Place
    expected: str
    got: str
    section: str | None = None
    key: str | None = None
    value: str | None = None

    @classmethod
    def of(cls, entry: Entry, expected: str, got: str | None = None) -> Problem:
        """Return the fault of an entry; without `got` its value is what was got."""
        value = shown_value(entry.key, entry.value)
        return cls(
            place=entry.place,
            section=entry.section,
            key=entry.key,
            value=value,
            expected=expected,
            got=(value or "nothing") if got is None else got,
        )

    def __str__(self) -> str:
        where = f"{self.place}: "
        if self.section is not None:
            where += f"[{shown(self.section)}]"
            if self.key is not None:
                where += f" {shown(self.key)} = {self.value}"
            where += ": "
        return f"{where}expected {self.expected}, got {self.got}"

    def to_json(self) -> dict[str, str | int | None]:
        """Return the fault for a program to read; `text` is the line that a person reads."""
        return {
            "path": str(Place(path=self.place.path)),
            "line": self.place.line or None,
            "section": self.section and shown(self.section),
            "key": self.key and shown(self.key),
            "value": self.value,
            "expected": self.expected,
            "got": self.got,
            "text": str(self),
        }


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems as they are shown: by file, line, and text."""
    return tuple(sorted(problems, key=lambda problem: (problem.place, str(problem))))


class ConfigurationError(Exception):
    """A configuration that cannot be used. `errors` are all its faults, by file and line."""

    def __init__(self, errors: Iterable[Problem]) -> None:
        self.errors: tuple[Problem, ...] = in_order(errors)
        super().__init__("\n".join(str(error) for error in self.errors))
