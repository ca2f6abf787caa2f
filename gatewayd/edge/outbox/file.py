"""The database file: made whole or not at all, opened, and set aside when it is damaged."""

from __future__ import annotations

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

SCHEMA_VERSION: Final = 1
TABLES: Final = 2
BUSY_S: Final = 5.0  # another reader (the command line) never holds a lock for longer
WAL_LIMIT_BYTES: Final = 4 << 20  # what the write-ahead log is cut back to after a checkpoint
KEPT: Final = 2  # damaged outboxes: the newest, and the one before
# Primary result codes of a file that is not, or no longer, a database.
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


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
    if not path.exists():
        _create(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        with judged():
            _check(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Make a new outbox beside `path` and move it there whole: one sync, and never half of one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    script = resources.files("gatewayd.schema").joinpath("outbox_v1.sql").read_text("utf-8")
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(path)
    sync_directory(path.parent)


def _check(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise NewerDatabaseError(
            f"expected an outbox of version {SCHEMA_VERSION} or older, got version {version}"
        )
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('message', 'record')"
    ).fetchone()
    if version < SCHEMA_VERSION or tables != TABLES:
        raise DamagedDatabaseError(
            f"expected an outbox of version {SCHEMA_VERSION}, got {version} with {tables} of its tables"
        )


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of one's own that only reads."""
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
    ) as connection:
        yield connection


def audio_directory(path: Path) -> Path:
    """Where the segments of the outbox at `path` lie."""
    return path.parent / "audio"


@contextmanager
def judged() -> Iterator[None]:
    """Turn what SQLite says of a damaged file into DamagedDatabaseError; other failures pass."""
    try:
        yield
    except sqlite3.Error as error:
        if is_damage(error):
            raise DamagedDatabaseError(str(error)) from error
        raise


def is_damage(error: BaseException) -> bool:
    """Say whether an error means that the file is not, or no longer, a database."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # absent where the module itself raised
    return code is not None and code & 0xFF in _DAMAGED  # the low byte is the primary code


def set_aside(path: Path, wall_s: float) -> Path:
    """Rename a damaged outbox, its log and its sound to a dated name; return it.

    Of those that were set aside before only the newest is kept: a card that keeps failing must not be filled.
    """
    date = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in count():
        suffix = f".corrupt-{date}" + (f"-{number}" if number else "")
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
        audio.rename(audio.with_name(audio.name + suffix))
    sync_directory(path.parent)
    _delete_older(path, aside)
    return aside


def _delete_older(path: Path, aside: Path) -> None:
    """Delete what was set aside before `aside`, but for the newest of it; what cannot be deleted stays."""
    others = {
        file.name.removesuffix("-wal").removesuffix("-shm")
        for file in path.parent.glob(f"{path.name}.corrupt-*")
    } - {aside.name}
    for name in sorted(others)[: 1 - KEPT]:
        logger.warning("deleting %s: %d newer damaged outboxes are kept", name, KEPT)
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                path.with_name(name + ending).unlink()
        audio = audio_directory(path)
        shutil.rmtree(audio.with_name(audio.name + name.removeprefix(path.name)), ignore_errors=True)
