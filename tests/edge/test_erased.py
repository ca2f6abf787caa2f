"""What was delivered and deleted is gone from the files: the database, its log, the sound."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sending import Maker, running_outbox, until

from gatewayd.core.model import MessageClass
from gatewayd.edge.outbox import Batch, Outbox, database
from gatewayd.edge.outbox.file import open_database

WORDS = "Kerkstraat 12 bis, second floor"
LONG = WORDS * 2_000  # of several pages, which end up free
PAGES = b"OggS" + b"what was heard behind the door " * 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def found(path: Path) -> list[str]:
    """The files below the outbox's folder in which any of it is still to be read."""
    traces = (WORDS.encode(), b"behind the door")
    files = [each for each in path.parent.rglob("*") if each.is_file()]
    return [each.name for each in files if any(trace in each.read_bytes() for trace in traces)]


async def told(outbox: Outbox) -> list[str]:
    """Store what tells of people: messages, a record, sound. Returns the messages' ids."""
    make = Maker()
    messages = [replace(make(), body={"text": text}) for text in (WORDS, LONG, WORDS)]
    sound = replace(make(MessageClass.AUDIO), topic="alarm/a-1/audio/0", sound=PAGES)
    records = {("alarm", "a-1"): WORDS, ("reply", "r-1"): LONG}
    await outbox.store(Batch(messages=(*messages, sound), records=records))
    return [message.id for message in (*messages, sound)]


async def erased(outbox: Outbox, names: list[str]) -> None:
    """All of it was delivered, and its time is over."""
    outbox.confirm(names)
    await outbox.store(Batch(forget=(("alarm", "a-1"), ("reply", "r-1"))))


async def test_what_was_delivered_leaves_no_byte_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs: neither in the pages, used or free, nor in the log, nor as sound."""
    monkeypatch.setattr(database, "EMPTY_LOG_S", 0.0)
    monkeypatch.setattr(database, "EMPTY_FIRST_S", 0.0)
    monkeypatch.setattr("gatewayd.edge.outbox.segments.IDLE_S", 0.0)
    async with running_outbox(path, tidy_s=0.05) as outbox:
        names = await told(outbox)
        assert set(found(path)) >= {"0.seg"}
        await until(lambda: len(found(path)) >= 2)
        await erased(outbox, names)
        await until(lambda: not found(path))
        assert (path.parent / "outbox.db").exists()


async def test_nor_when_it_is_stopped_first(path: Path) -> None:
    """The log goes with the last who has it open."""
    async with running_outbox(path) as outbox:
        await erased(outbox, await told(outbox))
    assert [name for name in found(path) if not name.endswith(".seg")] == []


async def test_the_free_pages_are_overwritten_not_only_let_go(path: Path) -> None:
    """By us, whatever SQLite does by itself: it may be built so that it does not."""
    async with running_outbox(path) as outbox:
        await erased(outbox, await told(outbox))
    with closing(open_database(path)) as connection:
        assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] > 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)


async def test_somebody_who_reads_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is emptied once they are done; alarms go on being stored meanwhile."""
    monkeypatch.setattr(database, "EMPTY_LOG_S", 0.0)
    monkeypatch.setattr(database, "EMPTY_FIRST_S", 0.0)
    async with running_outbox(path, tidy_s=0.05) as outbox:
        names = await told(outbox)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM message").fetchone()
            await erased(outbox, names)
            async with asyncio.timeout(4):  # SQLite itself would wait for 5 s
                await outbox.store(Batch(messages=(Maker()(),)))
            assert "outbox.db-wal" in found(path)
            reader.execute("COMMIT")
        await until(lambda: not any(name.startswith("outbox.db") for name in found(path)))
