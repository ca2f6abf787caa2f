"""The database file: made whole or not at all, opened, and set aside when it is damaged."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Final

from gatewayd.edge.outbox.segments import sync_directory

logger = logging.getLogger(__name__)

# One script each: outbox_v1.sql begins, every later one carries the version before it over.
SCHEMA_VERSION: Final = 2
TABLES: Final = 2
BUSY_S: Final = 5.0  # another reader (the command line) never holds a lock for longer
WAL_LIMIT_BYTES: Final = 4 << 20  # what the write-ahead log is cut back to after a checkpoint
# SQLite's index of its log is memory of a file, 32 KiB for each 4,062 pages, of which it takes one byte in
# each 4 KiB beforehand. Where blocks are smaller and the disk is full, touching the rest of them is SIGBUS.
INDEX_BYTES: Final = 1 << 16
KEPT: Final = 2  # damaged outboxes: the newest, and the one before
NO_SPACE_BYTES: Final = 1 << 16  # with less left, what fails otherwise fails for want of space
ASIDE: Final = ".corrupt-"  # in the names of what was set aside, before the date
_DESCRIPTORS: Final = Path("/proc/self/fd")
# Primary result codes of a file that is not, or no longer, a database.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# And of a disk that failed, SQLite does not say how.
_UNCLEAR: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


class NewerDatabaseError(Exception):
    """The database was made by a newer gatewayd: stop, and leave it alone."""


class DamagedDatabaseError(Exception):
    """The database cannot be read: set it aside and begin a new one."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the outbox at `path`, made first where there is none.

    NewerDatabaseError and DamagedDatabaseError as their docstrings say; sqlite3.Error and OSError when the
    disk fails.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _expect_room(path)
    if not path.exists():
        _create(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.text_factory = lenient
        with judged():
            connection.execute("PRAGMA synchronous = FULL")
            # Deleted is overwritten, for it told of people: Debian's SQLite does so anyway, others may not.
            connection.execute("PRAGMA secure_delete = ON")
            _carry_over(connection, check_schema(connection))
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            # SQLite opens what it may not write for reading, and says nothing.
            connection.execute("DELETE FROM record WHERE 0")
        _reserve_index(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _expect_room(path: Path) -> None:
    """OSError where there is no room for the index: an earlier one's becomes the next one's."""
    index = path.with_name(path.name + "-shm")
    has_bytes = index.stat().st_blocks * 512 if index.exists() else 0
    if free_bytes(path.parent) + has_bytes < INDEX_BYTES:
        raise OSError(errno.ENOSPC, "expected room for the index of the log, found less", str(path.parent))


def _reserve_index(path: Path) -> None:
    """Take all blocks of the index in use: no write to it can lack one then. OSError: there are none left."""
    index = descriptor_of(path.with_name(path.name + "-shm"))
    if index is not None:
        os.posix_fallocate(index, 0, INDEX_BYTES)


def descriptor_of(file: Path) -> int | None:
    """Return SQLite's own descriptor of a file; None when it has none.

    To open the file ourselves, and to close it, would end SQLite's locks on it (fcntl(2); howtocorrupt.html,
    2.2): the next process that reads the outbox would take it for nobody's and make the index anew under us.
    """
    where = str(file.resolve())
    for descriptor in _DESCRIPTORS.iterdir():
        try:
            if str(descriptor.readlink()) == where:
                return int(descriptor.name)
        except FileNotFoundError:  # closed meanwhile, such as the one of the listing
            continue
    return None


def _create(path: Path) -> None:
    """Make a new outbox beside `path` and move it there whole: one sync, and never half of one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        _carry_over(connection, 0)
    move_into_place(new, path)


def move_into_place(new: Path, path: Path) -> None:
    """Let the whole database `new`, which nobody has open, be the one at `path`, durably."""
    descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for ending in ("-wal", "-shm"):  # of another database, which SQLite would take for this one's
        path.with_name(path.name + ending).unlink(missing_ok=True)
    new.rename(path)
    sync_directory(path.parent)


def _carry_over(connection: sqlite3.Connection, version: int) -> None:
    """Make a database of this version one of ours, in one transaction."""
    if version == SCHEMA_VERSION:
        return
    folder = resources.files("gatewayd.schema")
    scripts = [
        folder.joinpath(f"outbox_v{number}.sql").read_text("utf-8")
        for number in range(version + 1, SCHEMA_VERSION + 1)
    ]
    script = "".join(scripts)
    connection.executescript(f"BEGIN; {script} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def check_schema(connection: sqlite3.Connection) -> int:
    """Return the version of an outbox. NewerDatabaseError and DamagedDatabaseError as they say."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise NewerDatabaseError(
            f"expected an outbox of version {SCHEMA_VERSION} or older, got version {version}"
        )
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('message', 'record')"
    ).fetchone()
    if version < 1 or tables != TABLES:
        raise DamagedDatabaseError(
            f"expected an outbox of version 1 to {SCHEMA_VERSION}, got {version} with {tables} of its tables"
        )
    return int(version)


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of one's own that only reads, also from a disk that is read-only."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK):
        uri += "&immutable=1"  # SQLite would want to make its log's index first
    with legible(), closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
        connection.text_factory = lenient
        yield connection


def lenient(text: bytes) -> str:
    """Return the text of a column: a damaged one must not keep the others of its page from being read."""
    return text.decode("utf-8", "replace")


@contextmanager
def legible() -> Iterator[None]:
    """Have damage told as sqlite3.DatabaseError, also where Python cannot read SQLite's words for it.

    They quote the schema, which may be what is damaged.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        damage = sqlite3.DatabaseError(f"the schema is damaged: {error.object[:80]!r}")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage from error


def audio_directory(path: Path) -> Path:
    """Return where the sound of the outbox at `path` lies, also of one that was set aside."""
    _, mark, date = path.name.rpartition(ASIDE)
    return path.with_name(f"audio{mark}{date}" if mark else "audio")


@contextmanager
def judged() -> Iterator[None]:
    """Turn what SQLite says of a damaged file into DamagedDatabaseError; other failures pass."""
    try:
        with legible():
            yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedDatabaseError(str(error)) from error
        raise


def is_damage(error: BaseException) -> bool:
    """Say whether an error means that the file is not, or no longer, a database."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent where the module itself raised
    return code is not None and code & 0xFF in _DAMAGED  # the low byte is the primary code


def is_full(error: BaseException, path: Path) -> bool:
    """Say whether an error means that the disk of `path` is full."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _UNCLEAR:
        return free_bytes(path.parent) < NO_SPACE_BYTES
    return code == sqlite3.SQLITE_FULL


def is_read_only(error: BaseException, path: Path) -> bool:
    """Say whether an error means that the disk of `path` may only be read."""
    if isinstance(error, OSError):
        return error.errno == errno.EROFS
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _UNCLEAR:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    return code == sqlite3.SQLITE_READONLY


def free_bytes(folder: Path) -> int:
    """Return what the disk of a folder has left for us."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def set_aside(path: Path, wall_s: float) -> Path:
    """Rename a damaged outbox, its log and its sound to a dated name; return it.

    Of those that were set aside before only the newest is kept: a card that keeps failing must not be filled.
    """
    date = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in count():
        suffix = f"{ASIDE}{date}" + (f"-{number}" if number else "")
        aside = path.with_name(path.name + suffix)
        if not aside.exists():
            break
    # the log keeps the name SQLite looks for beside the database
    for ending in ("", "-wal", "-shm"):
        file = path.with_name(path.name + ending)
        if file.exists():
            file.rename(aside.with_name(aside.name + ending))
    audio = audio_directory(path)
    if audio.exists():
        audio.rename(audio_directory(aside))
    sync_directory(path.parent)
    _delete_older(path, aside)
    return aside


def asides(path: Path) -> list[Path]:
    """Return the databases of the outbox at `path` that were set aside."""
    files = path.parent.glob(f"{path.name}{ASIDE}*")
    return sorted({file.with_name(file.name.removesuffix("-wal").removesuffix("-shm")) for file in files})


def _delete_older(path: Path, aside: Path) -> None:
    """Delete what was set aside before `aside`, but for the newest of it; what cannot be deleted stays."""
    others = {file.name for file in asides(path)} - {aside.name}
    for name in sorted(others)[: 1 - KEPT]:
        logger.warning("deleting %s: %d newer damaged outboxes are kept", name, KEPT)
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                path.with_name(name + ending).unlink()
        shutil.rmtree(audio_directory(path.with_name(name)), ignore_errors=True)
