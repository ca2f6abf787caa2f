"""SQLite's write-ahead log, looked at behind its back, and put to use where it was damaged.

SQLite takes the log up to the first frame that is not as it was written and forgets the rest without a word:
so it ends a transaction that a power cut tore. But where a whole transaction follows, the one in front of
it had been synced and told as stored, and was damaged since. Each frame's checksum goes on from that of the
frame before, which is written in it, so those behind the damage can still be judged one by one. They are put
into the database as a checkpoint would; the damaged one is missing then, which matters only where no later
one has its page, and is found by the check of the whole database. The format: sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.edge.outbox.file import descriptor_of

_HEADER_BYTES: Final = 32
_FRAME: Final = struct.Struct(">II8s8s")  # page, the database's pages after a commit or 0, salts, checksum
_JUDGED_BYTES: Final = 8  # of a frame's head, before its page, go into its checksum
_SALTS: Final = slice(16, 24)  # in the log's header: those of the frames of its last round
_CHECKSUM: Final = slice(24, 32)
_PAGE_SIZE: Final = slice(8, 12)  # in the log's header
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))
_OUR_PAGE: Final = 4096  # SQLite's own choice
_MAGIC: Final = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}  # the byte order of checksums
_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_TAKEN_AT: Final = 16  # in the log's index, the -shm file: how many frames SQLite takes
_TORN: Final = 1  # transaction at the end may be one that a power cut tore; more cannot
_MASK: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    page: int
    commits: int  # the pages of the database from here on, where it ends a transaction; else 0
    whole: bool
    image: bytes


class Log:
    """What lies beside the database at `path` as its log, before it is opened."""

    def __init__(self, path: Path) -> None:
        """OSError when it cannot be read."""
        self._path = path
        file = path.with_name(path.name + "-wal")
        self.data = file.read_bytes() if file.exists() else b""
        self._page_bytes = _page_bytes(self.data)

    @property
    def forgotten(self) -> bool:
        """Whether SQLite, which has opened the database by now, leaves a synced transaction out."""
        if len(self.data) <= _HEADER_BYTES:
            return False
        index = descriptor_of(self._path.with_name(self._path.name + "-shm"))
        if index is None:
            return False
        (taken,) = struct.unpack(f"{_NATIVE}I", os.pread(index, 4, _TAKEN_AT))
        return sum(commits > 0 for _, commits in list(self._heads())[taken:]) > _TORN

    def put_back(self) -> Path:
        """Put what is whole into the database, which nobody has open; return where the log itself is kept."""
        kept = self._path.with_name(f"{self._path.name}-wal.damaged")
        kept.write_bytes(self.data)
        self._put_whole()
        for ending in ("-wal", "-shm"):  # SQLite would put what it takes of it over what we put
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        return kept

    def _put_whole(self) -> None:
        frames = list(self._frames())
        while frames and not frames[-1].commits:
            frames.pop()
        if not frames:
            return
        size = self._page_bytes
        with self._path.open("r+b") as database:
            for frame in frames:
                if frame.whole:
                    database.seek((frame.page - 1) * size)
                    database.write(frame.image)
            database.truncate(frames[-1].commits * size)
            database.flush()
            os.fsync(database.fileno())

    @property
    def _salts(self) -> bytes:
        """What the frames of the last round carry: as the header says, or if it is damaged the first one."""
        order = _MAGIC.get(self.data[:4], _NATIVE)
        if self.data[_CHECKSUM] == _checksum(bytes(8), self.data[: _CHECKSUM.start], order):
            return self.data[_SALTS]
        _, _, salts, _ = _FRAME.unpack_from(self.data.ljust(_HEADER_BYTES + _FRAME.size), _HEADER_BYTES)
        return bytes(salts)

    def _heads(self) -> Iterator[tuple[int, int]]:
        """Yield where the frames of the last round lie in the log, and their `commits`."""
        step, round_ = _FRAME.size + self._page_bytes, self._salts
        for at in range(_HEADER_BYTES, len(self.data) - step + 1, step):
            _, commits, salts, _ = _FRAME.unpack_from(self.data, at)
            yield at, commits if salts == round_ else 0

    def _frames(self) -> Iterator[_Frame]:
        order = _MAGIC.get(self.data[:4], _NATIVE)
        size = self._page_bytes
        before = self.data[_CHECKSUM]
        for at, commits in self._heads():
            page, _, salts, checksum = _FRAME.unpack_from(self.data, at)
            image = self.data[at + _FRAME.size : at + _FRAME.size + size]
            whole = salts == self._salts and checksum == _checksum(
                before, self.data[at : at + _JUDGED_BYTES] + image, order
            )
            yield _Frame(page=page, commits=commits if whole else 0, whole=whole, image=image)
            before = checksum


def _page_bytes(log: bytes) -> int:
    """Return the size of the database's pages: as the log's header says, or as ours is if damaged."""
    size = int.from_bytes(log[_PAGE_SIZE], "big")
    return size if size in _PAGE_SIZES else _OUR_PAGE


def _checksum(before: bytes, data: bytes, order: str) -> bytes:
    """Return the checksum that goes on from another (the format's section 4.2)."""
    one, other = struct.unpack(">II", before)
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = one + first + other & _MASK
        other = other + second + one & _MASK
    return struct.pack(">II", one, other)
