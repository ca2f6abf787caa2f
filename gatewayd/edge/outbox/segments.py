"""Sound on disk: append-only segment files, one alarm's sound after the other; rows only point into them.

As rows, chunks of a second cost 6 to 12 times their size in writes (measured); as segments, once. Used by
the outbox's writer thread alone, but for `read_sound`, which opens and closes for itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

# Small enough that confirmed sound leaves the disk within minutes (24 kbit/s: 1 MiB is 6 min), large enough
# that creating files, a directory sync each, costs nothing beside the sound.
SEGMENT_BYTES: Final = 1 << 20
# A recording that wrote nothing for so long has ended: chunks come every half second.
IDLE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chunk's Ogg pages lie."""

    segment: str  # path below the audio directory
    offset: int
    length: int


class Segments:
    """The segment files below one directory. Every method may raise OSError: the disk failed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._alarm = ""
        self._name = ""
        self._descriptor: int | None = None
        self._length = 0
        self._synced = True
        self._written_s = 0.0

    def append(self, alarm: str, sound: bytes, now_s: float) -> Place:
        """Append one chunk. It is durable after the next `sync`. `now_s`: monotonic."""
        if alarm != self._alarm or self._length >= SEGMENT_BYTES or self._deleted():
            self.close()
        if self._descriptor is None:
            self._descriptor = self._create(alarm)
        place = Place(segment=self._name, offset=self._length, length=len(sound))
        rest = memoryview(sound)
        while rest:
            written = os.pwrite(self._descriptor, rest, self._length)
            self._length += written
            rest = rest[written:]
        self._synced = False
        self._written_s = now_s
        return place

    def _deleted(self) -> bool:
        """Say whether the file is not where it was: what is written to it would not be found again."""
        if self._descriptor is None:
            return False
        try:
            there = (self._directory / self._name).stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(os.fstat(self._descriptor), there)

    def sync(self) -> None:
        """Make everything appended so far durable."""
        if self._descriptor is not None and not self._synced:
            os.fdatasync(self._descriptor)
        self._synced = True

    def close(self) -> None:
        """End the current segment; the next chunk begins a new one."""
        if self._descriptor is not None:
            self.sync()
            os.close(self._descriptor)
        self._alarm, self._name, self._descriptor, self._length = "", "", None, 0

    def abandon(self) -> None:
        """Let go of the current segment though the disk failed. Never raises."""
        self._synced = True
        descriptor, self._descriptor = self._descriptor, None
        self.close()
        if descriptor is not None:
            try:
                os.close(descriptor)
            except OSError:
                return  # Linux closes the descriptor even when it reports an error

    def ended(self, now_s: float) -> str | None:
        """End the current segment if its recording has, and return its name."""
        if self._descriptor is None or now_s - self._written_s < IDLE_S:
            return None
        name = self._name
        self.close()
        return name

    def is_open(self, segment: str) -> bool:
        """Say whether chunks may still be appended to this segment."""
        return self._descriptor is not None and segment == self._name

    def remove(self, segment: str) -> None:
        """Erase a segment nobody needs any more, and its alarm's directory with the last one."""
        path = self._directory / segment
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def names(self) -> set[str]:
        """The segments that are there."""
        return {str(path.relative_to(self._directory)) for path in self._directory.glob("*/*.seg")}

    def _create(self, alarm: str) -> int:
        directory = self._directory / alarm
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in count():
            path = directory / f"{number}.seg"
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            break
        for folder in (directory, self._directory, self._directory.parent):
            sync_directory(folder)
        self._alarm, self._name, self._length = alarm, f"{alarm}/{path.name}", 0
        return descriptor


def read_sound(directory: Path, place: Place) -> bytes:
    """Return a chunk's bytes. OSError when it cannot be read, ValueError when it is not whole."""
    with (directory / place.segment).open("rb", buffering=0) as file:
        sound = os.pread(file.fileno(), place.length, place.offset)
    if len(sound) != place.length:
        raise ValueError(
            f"expected {place.length} bytes at {place.offset} of {place.segment}, got {len(sound)}"
        )
    return sound


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a new file is lost in a power cut without it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
