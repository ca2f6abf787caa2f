"""The ballast: a file that only takes up room, given up when the disk is full so that an alarm still fits."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from gatewayd.edge.outbox.file import free_bytes
from gatewayd.edge.outbox.segments import sync_directory

# Deleting takes room too, for SQLite writes what it changes to its log first. The log grows to 1,000 pages of
# 4 KiB before it begins anew (`wal_autocheckpoint`), and another 4 MiB are 2,000 messages of an alarm (1 to
# 1.5 kB and what a row weighs), a hundred alarms from raised to closed.
BALLAST_BYTES: Final = 8 << 20


STEP_BYTES: Final = 1 << 20  # given up at a time: whoever filled the disk would take the rest, too


class Ballast:
    """The ballast of the outbox at `path`, a file beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".ballast")

    @property
    def size_bytes(self) -> int:
        """How much of it there is."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return self.size_bytes == BALLAST_BYTES

    def make(self) -> bool:
        """Make it whole if as much again is left then: or the disk would be full at once again."""
        if free_bytes(self._path.parent) + self.size_bytes < 2 * BALLAST_BYTES:
            return False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)  # takes room, writes nothing
        except OSError:
            os.ftruncate(descriptor, 0)  # a quota, or somebody was quicker
            return False
        finally:
            os.close(descriptor)
        return True

    def give_up(self) -> bool:
        """Give up a step of it. False: nothing of it is left."""
        size_bytes = self.size_bytes
        if size_bytes == 0:
            return False
        os.truncate(self._path, max(0, size_bytes - STEP_BYTES))
        with suppress(OSError):
            sync_directory(self._path.parent)  # a journalling file system frees blocks with its next commit
        return True
