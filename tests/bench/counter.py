"""A number in a file that one process raises and another reads at any time, at the cost of one addition."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

FILE: Final = "BENCH_COUNTER"  # the environment variable that names it
_NUMBER: Final = struct.Struct("=Q")


class Counter:
    """The number in the file at `path`; made, at zero, where there is none."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_NUMBER.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBER.size)
        self._count = self.value

    @property
    def value(self) -> int:
        """How far it has counted by now."""
        number: int = _NUMBER.unpack_from(self._memory)[0]
        return number

    def add(self) -> None:
        """Count one more."""
        self._count += 1
        _NUMBER.pack_into(self._memory, 0, self._count)
