"""Takes values out of what may be damaged: the disk's records, what a broker retained. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from gatewayd.core.model import Body, Instant
from gatewayd.core.uuid7 import is_uuid

_Choice = TypeVar("_Choice", bound=StrEnum)


class Reader:
    """Takes fields out of an object; each ValueError says which one and what was expected."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def _wrong(self, key: str, expected: str) -> ValueError:
        return ValueError(f"{key}: expected {expected}, got {repr(self._body.get(key))[:80]}")

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._body.get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a text, None where there is none."""
        return self.text(key) if key in self._body else None

    def uuid(self, key: str) -> str:
        """Return a UUID."""
        value = self.text(key)
        if not is_uuid(value):
            raise self._wrong(key, "a UUID")
        return value

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        """Return one of the values there are."""
        try:
            return kind(self.text(key))
        except ValueError:
            raise self._wrong(key, f"one of {', '.join(kind)}") from None

    def number(self, key: str) -> int:
        """Return a whole number from 0."""
        value = self._body.get(key)
        if not isinstance(value, int) or value < 0:
            raise self._wrong(key, "a whole number from 0")
        return value

    def seconds(self, key: str) -> float:
        """Return seconds."""
        value = self._body.get(key)
        if not isinstance(value, float):
            raise self._wrong(key, "seconds")
        return value

    def optional_seconds(self, key: str) -> float | None:
        """Return seconds, None where there are none."""
        return self.seconds(key) if key in self._body else None

    def optional_number(self, key: str) -> int | None:
        """Return the number; None: there is none."""
        return self.number(key) if key in self._body else None

    def instant(self, key: str) -> Instant:
        """Return a time."""
        value = self._body.get(key)
        if not isinstance(value, Instant):
            raise self._wrong(key, "a time")
        return value

    def optional_instant(self, key: str) -> Instant | None:
        """Return a time, None where there is none."""
        return self.instant(key) if key in self._body else None

    def actor(self, key: str) -> Body:
        """Return a person at ops: an object with an id."""
        actor = self.object(key)
        Reader(actor).text("id")
        return actor

    def optional_actor(self, key: str) -> Body | None:
        """Return a person at ops, None where there is none."""
        return self.actor(key) if key in self._body else None

    def object(self, key: str) -> Body:
        """Return the object, an empty one where there is none."""
        value = self._body.get(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return value

    def objects(self, key: str) -> tuple[Body, ...]:
        """Return the objects of a list, none where there is none."""
        value = self._body.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return tuple(item for item in value if isinstance(item, Mapping))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the texts of a list, none where there is none."""
        value = self._body.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return tuple(str(item) for item in value)
