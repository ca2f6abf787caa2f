"""The disk: whether the state outlives a power cut, how fast a write is durable, what waits in the outbox."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.core.model import MessageClass
from gatewayd.edge.outbox.file import SCHEMA_VERSION, DamagedDatabaseError, asides, is_damage, read_only
from gatewayd.edge.outbox.reading import read_stored
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.row import Finding, amount, count, fail, ok, warn

# A page of the outbox and the like: what an alarm's transaction writes.
_WRITTEN_BYTES: Final = 4096
_WRITES: Final = 3
# A good SD card takes 5 to 30 ms; one that takes this long for nothing wears out or is a fake.
SLOW_S: Final = 0.5
# A database of a gigabyte takes longer than anybody waits; what is looked at until then is looked at.
CHECK_S: Final = 5.0
_STEPS: Final = 10_000  # of SQLite's machine between two looks at the time: some milliseconds
# Below this not even the alarms of a bad week have room.
LEAST_BYTES: Final = 50_000_000
VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """What lies in the outbox."""

    version: int | None = None
    check: str = ""  # what SQLite says of the file: ok, what is damaged, or why it was not looked at whole
    rows: int = 0
    alarms: int = 0
    size_bytes: int = 0
    problem: str = ""  # why it could not be read
    damaged: bool = False
    owner: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What was found about the state directory."""

    folder: Path
    exists: bool
    owner: int | None = None
    filesystem: str = ""
    read_only: bool = False
    free_bytes: int = 0
    budget_bytes: int = 0  # what the outbox may take
    sync_s: float | None = None  # the slowest of some writes; None: could not write
    problem: str = ""  # why not
    outbox: Outbox | None = None  # None: there is none yet
    aside: tuple[str, ...] = ()  # damaged databases that were set aside


def look(folder: Path, path: Path, budget_bytes: int, machine: Machine) -> Disk:
    """Look at the state directory and write a little into it; blocks for as long as the disk does.

    `path`: of the outbox, which may take `budget_bytes`.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    space = os.statvfs(there)
    sync_s, problem = None, ""
    if folder.exists():
        try:
            sync_s = _sync_s(folder)
        except OSError as error:
            problem = error.strerror or str(error)
    return Disk(
        folder=folder,
        exists=folder.exists(),
        owner=folder.stat().st_uid if folder.exists() else None,
        filesystem=filesystem(there, machine.text("/proc/self/mountinfo")),
        read_only=bool(space.f_flag & os.ST_RDONLY),
        free_bytes=space.f_bavail * space.f_frsize,
        budget_bytes=budget_bytes,
        sync_s=sync_s,
        problem=problem,
        outbox=_outbox(path) if path.exists() else None,
        aside=tuple(_databases_aside(path)),
    )


def _sync_s(folder: Path) -> float:
    slowest = 0.0
    descriptor, name = tempfile.mkstemp(prefix=".selftest-", dir=folder)
    try:
        for _ in range(_WRITES):
            os.pwrite(descriptor, os.urandom(_WRITTEN_BYTES), 0)
            began_s = time.monotonic()
            os.fdatasync(descriptor)
            slowest = max(slowest, time.monotonic() - began_s)
    finally:
        os.close(descriptor)
        Path(name).unlink()
    return slowest


def filesystem(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds a path (proc_pid_mountinfo(5))."""
    best, found = "", ""
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        words = mount.split()
        if len(words) < 5 or not rest:  # noqa: PLR2004 - the mount point is the fifth
            continue
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), words[4])
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, found = point, rest.split()[0]
    return found


def _databases_aside(path: Path) -> list[str]:
    with suppress(OSError):
        return [file.name for file in asides(path)]
    return []


def _outbox(path: Path) -> Outbox:
    owner = path.stat().st_uid
    version = None
    try:
        with read_only(path) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                return Outbox(version=version, owner=owner)
            end_s = time.monotonic() + CHECK_S
            connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS)
            check = _check(connection)
        stored = read_stored(path)
    except (DamagedDatabaseError, sqlite3.Error, OSError) as error:
        return Outbox(version=version, problem=str(error), damaged=is_damage(error), owner=owner)
    return Outbox(
        version=version,
        check=check,
        damaged=check not in {"ok", ""},
        rows=sum(stored.rows.values()),
        alarms=stored.rows.get(MessageClass.ALARM, 0),
        size_bytes=stored.size_bytes or 0,
        owner=owner,
    )


def _check(connection: sqlite3.Connection) -> str:
    """Return what SQLite's quick check says; empty when it took too long."""
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return ""
        raise
    return str(said)


# --- the verdict --------------------------------------------------------------------------------------------

_KEEP: Final = "give the state a partition of its own that is mounted writable at"


def judge(disk: Disk, *, user_id: int | None) -> list[Finding]:
    """Say how the disk is. `user_id`: of the service's user; None where there is no service."""
    findings = [*_folder(disk, user_id)]
    if disk.filesystem in VOLATILE:
        findings.append(
            warn(
                f"{disk.folder} lies on {disk.filesystem}: what waits there is lost when the power goes",
                f"{_KEEP} {disk.folder} (ext4)",
            )
        )
    if disk.free_bytes < LEAST_BYTES:
        findings.append(
            fail(
                f"only {amount(disk.free_bytes)} are free in {disk.folder}",
                "make room: `journalctl --vacuum-size=50M`, `apt clean`, `du -xh / | sort -h | tail`",
            )
        )
    elif disk.outbox is not None and disk.free_bytes + disk.outbox.size_bytes < disk.budget_bytes:
        findings.append(
            warn(
                f"{amount(disk.free_bytes)} are free, less than the outbox may take"
                f" ({amount(disk.budget_bytes)})",
                "make room, or lower [outbox] budget",
            )
        )
    if disk.outbox is not None:
        findings += _judge_outbox(disk, disk.outbox, user_id)
    if disk.aside:
        findings.append(
            warn(
                f"a damaged outbox was set aside: {', '.join(disk.aside)}",
                "the SD card may be failing: replace it; copy the file off the gateway, what waited is in it",
            )
        )
    return findings


def _folder(disk: Disk, user_id: int | None) -> list[Finding]:
    if disk.read_only:
        return [
            fail(
                f"{disk.folder} lies on a file system that is read-only: nothing outlives a power cut",
                "`dmesg | grep -i ext4` tells of errors of the card; with a read-only root"
                f" {_KEEP} {disk.folder}",
            )
        ]
    if not disk.exists:
        return [ok(f"{disk.folder} is not there yet: the daemon makes it at its first start")]
    if user_id is not None and disk.owner != user_id:
        return [_not_its_own(disk.folder)]
    if disk.sync_s is None:
        return [
            fail(
                f"{disk.folder} cannot be written: {disk.problem}",
                "run the self-test as root: `sudo gatewayd selftest`; if it is root, `df -h` and `dmesg`",
            )
        ]
    what = (
        f"{disk.folder} ({disk.filesystem}) takes a write in {disk.sync_s * 1000:.0f} ms,"
        f" {amount(disk.free_bytes)} free"
    )
    if disk.sync_s > SLOW_S:
        return [warn(what, "the SD card is slow, worn or a fake: replace it by an industrial or A2 one")]
    return [ok(what)]


def _not_its_own(path: Path) -> Finding:
    return fail(
        f"{path} does not belong to the service's user, so the service cannot write it",
        f"systemctl stop gatewayd; chown -R gatewayd: {path}; systemctl start gatewayd",
    )


def _judge_outbox(disk: Disk, outbox: Outbox, user_id: int | None) -> list[Finding]:
    if outbox.version is not None and outbox.version > SCHEMA_VERSION:
        return [
            fail(
                f"the outbox is of version {outbox.version}, newer than this gatewayd knows"
                f" ({SCHEMA_VERSION}); it is left alone, and the daemon runs from memory",
                "install the newer package of gatewayd again",
            )
        ]
    if outbox.damaged:
        return [
            fail(
                f"the outbox is damaged: {outbox.problem or outbox.check}",
                "systemctl restart gatewayd, which sets it aside and begins a new one; replace the SD card",
            )
        ]
    if outbox.problem:
        return [
            warn(
                f"the outbox could not be read: {outbox.problem}", "run the self-test as root, or look again"
            )
        ]
    findings = []
    if user_id is not None and outbox.owner != user_id:
        findings.append(_not_its_own(disk.folder))
    whole = "" if outbox.check else ", too big to be checked whole here"
    waiting = f"{count(outbox.rows, 'message')} waiting in the outbox ({amount(outbox.size_bytes)})"
    if outbox.alarms:
        findings.append(
            warn(
                f"{waiting}, {outbox.alarms} of them of alarms{whole}",
                "see the row broker: they go first when it is reached",
            )
        )
    else:
        findings.append(ok(waiting + whole))
    return findings
