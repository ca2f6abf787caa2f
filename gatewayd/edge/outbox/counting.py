"""How many rows there are, and how large, by class: counted once after the start, in slices, then kept.

A count of a million rows takes seconds on a Raspberry Pi, and the writer thread must be free for an alarm.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from gatewayd.core.model import MessageClass

SLICE_ROWS: Final = 5_000  # entries of an index, 40 bytes each: 1 ms on a PC, some 20 ms on a Raspberry Pi
_CLASSES: Final = tuple(MessageClass)
_COUNT: Final = """
    SELECT count(*), coalesce(sum(size), 0), max(n)
    FROM (SELECT n, size FROM message WHERE class = ? AND n > ? AND n <= ? ORDER BY n LIMIT ?)
"""


class Counts:
    """Rows and bytes by class, as far as they are counted."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.rows = dict.fromkeys(_CLASSES, 0)
        self.sizes_bytes = dict.fromkeys(_CLASSES, 0)
        self._connection = connection
        self._newest: int | None = None  # the rows up to it were there at the start
        self._at = 0  # the class being counted
        self._n = 0  # its rows up to this one are

    @property
    def complete(self) -> bool:
        """Whether everything is counted."""
        return self._at == len(_CLASSES)

    @property
    def size_bytes(self) -> int:
        """All that is counted."""
        return sum(self.sizes_bytes.values())

    def begin(self) -> None:
        """Before the first row is written: what comes from now on is counted as it comes."""
        if self._newest is None:
            (newest,) = self._connection.execute("SELECT coalesce(max(n), 0) FROM message").fetchone()
            self._newest = int(newest)

    def go_on(self) -> None:
        """Count a slice of what was there at the start."""
        self.begin()
        most = SLICE_ROWS
        while most and not self.complete:
            name = _CLASSES[self._at]
            values = (name, self._n, self._newest, most)
            rows, size, last = self._connection.execute(_COUNT, values).fetchone()
            self.rows[name] += rows
            self.sizes_bytes[name] += size
            if rows < most:
                self._at, self._n = self._at + 1, 0
            else:
                self._n = last
            most -= rows

    def inserted(self, name: MessageClass, size: int) -> None:
        """Count a row that was inserted."""
        self.rows[name] += 1
        self.sizes_bytes[name] += size

    def deleted(self, n: int, class_: str, size: int) -> None:
        """Take off a row that was deleted, if it was counted."""
        if class_ not in self.rows:
            return  # a damaged row
        name = MessageClass(class_)
        if self._is_counted(n, name):
            self.rows[name] -= 1
            self.sizes_bytes[name] -= size

    def _is_counted(self, n: int, name: MessageClass) -> bool:
        if self._newest is None or n > self._newest:
            return True
        index = _CLASSES.index(name)
        return index < self._at or (index == self._at and n <= self._n)
