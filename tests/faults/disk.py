"""A small file system of the site's own, in a file: it can be full, and it can fail as a worn card does."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

SIZE_BYTES: Final = 64 << 20  # the gateway's own files take 5 MB at most, and mke2fs wants some room
LEFT_BYTES: Final = 4096  # a full file system still has the odd block


def why_not() -> str | None:
    """Why no file system can be mounted here; None: one can be."""
    if os.geteuid() != 0:
        return "root is needed to mount a file system"
    if not Path("/dev/loop-control").exists():
        return "a loop device is needed to mount a file system"
    if shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        return "mke2fs is needed to make a file system"
    return None


class Disk:
    """ext4 in a file beside `place`, mounted there from `mount` to `unmount`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._image = place.with_suffix(".img")
        self._filler = place / "filler"

    def mount(self) -> None:
        """Make it and mount it."""
        self._place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-J", "size=4", str(self._image))
        self._attach()

    def unmount(self) -> None:
        """Take it away, whoever still has a file open."""
        _run("umount", "-l", str(self._place))

    def fill(self) -> None:
        """Take all the room there is."""
        with self._filler.open("wb") as filler, suppress(OSError):
            status = os.statvfs(self._place)
            os.posix_fallocate(filler.fileno(), 0, status.f_bavail * status.f_frsize - LEFT_BYTES)
            while True:
                os.write(filler.fileno(), bytes(LEFT_BYTES))

    def clear(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def fail(self) -> None:
        """Turn read-only under everyone who writes: what ext4 does when the card below it fails."""
        _run("mount", "-o", "remount,abort", str(self._place))

    def mend(self) -> None:
        """Mount what the card holds anew; who still has a file of the old one open has it there for ever."""
        self.unmount()
        copy = self._image.with_suffix(".new")
        _run("cp", "--sparse=always", str(self._image), str(copy))
        copy.replace(self._image)
        self._attach()

    def _attach(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self._place))


def _run(*command: str) -> None:
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
