"""The file of the audit log, `evidence/audit.log` in the state directory: daemon and exports write it.

Waits for the disk: not to be called from the event loop.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gatewayd.core.audit import ENTRIES_MAX, entry
from gatewayd.core.payload import Plain

FILE: Final = "evidence/audit.log"
DROPPED: Final = 100  # at once, so that the file is seldom written anew


def append(state: Path, body: Mapping[str, Plain]) -> None:
    """Add an entry, synced. OSError: it could not be written."""
    path = state / FILE
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the other may be as quick
        _give(path.parent, state)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        lines = read(state)
        line = entry(lines[-1] if lines else None, body)
        if len(lines) < ENTRIES_MAX:
            torn = lines and not path.read_bytes().endswith(b"\n")  # the power went
            before = "\n" if torn else ""
            _write(path, f"{before}{line}\n", os.O_APPEND)
        else:
            beside = path.with_name(f"{path.name}.part")
            _write(beside, "".join(f"{each}\n" for each in [*lines[DROPPED:], line]), os.O_TRUNC)
            beside.replace(path)
    finally:
        os.close(folder)  # and with it the lock


def read(state: Path) -> list[str]:
    """Return the entries, oldest first; none where there is no log. OSError: it cannot be read."""
    try:
        return (state / FILE).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def version(state: Path) -> object:
    """Return what is another after each `append`. OSError: it cannot be looked at."""
    try:
        now = (state / FILE).stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def _write(path: Path, text: str, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
        _give(descriptor, path.parent)
    finally:
        os.close(descriptor)


def _give(made: Path | int, owned: Path) -> None:
    """Give what root made to the owner of `owned`: the daemon, another user, goes on writing it."""
    if os.geteuid() == 0:
        owner = owned.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
