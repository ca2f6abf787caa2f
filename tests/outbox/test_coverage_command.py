"""`gatewayd coverage`: what it says beside a running daemon, of a dead one's card, and of what is none."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sending import running_outbox

from gatewayd.core import coverage
from gatewayd.core.coverage import Record
from gatewayd.core.model import ClockSource, Instant, Tag
from gatewayd.core.supervision import Ear, Hearing
from gatewayd.edge.outbox import Batch
from gatewayd.outbox.coverage import moment

BEGIN = Instant(boot="b", mono_s=100.0, wall_s=1_772_360_000.0, source=ClockSource.NTP, uncertainty_ms=5)
END = Instant(boot="b", mono_s=700.0, wall_s=1_772_360_600.0, source=ClockSource.NTP, uncertainty_ms=5)
HEARD_TEXT = "2026-03-01T10:14:00Z"  # 40 s after the beginning
DEAF_TEXT = "2026-03-01T10:20:00Z"


async def stored(path: Path, *damaged: str) -> None:
    """Have an outbox with ten minutes of a record: its tag was heard, then the adapter went."""
    record = Record([Tag(name="nurse-1", format="bthome")], Ear(hearing=Hearing.HEARS, since_s=100.0), BEGIN)
    for at_s in range(100, 200, 8):
        record.heard("nurse-1", float(at_s), faint=False)
    record.radio(Ear(hearing=Hearing.DEAF, since_s=200.0, why="no adapter"))
    records = {(coverage.KIND, key): text for key, text in record.save(END).put.items()}
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(records=records | {(coverage.KIND, text): text for text in damaged}))


async def ask(tag: str, *arguments: str | Path, status: int = 0) -> str:
    """Run `gatewayd coverage`; return what it says, on stderr where it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatewayd", "coverage", tag, *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == status, err.decode()
    return (err if status else out).decode()


async def test_a_dead_gateways_card_is_asked(tmp_path: Path) -> None:
    """For a person and for a program; a damaged record leaves the others readable."""
    database = tmp_path / "card.db"
    await stored(database, "{")
    covered = json.loads(await ask("nurse-1", "--database", database, "--at", HEARD_TEXT, "--json"))
    assert (covered["verdict"], covered["at"]) == ("covered", "2026-03-01T10:14:00.000Z")
    assert covered["heard_from_at"] == "2026-03-01T10:13:20.000Z"
    assert await ask("nurse-1", "--database", database, "--at", DEAF_TEXT) == (
        "nurse-1 at 2026-03-01T10:20:00.000Z: the gateway could not hear\n"
        "  no adapter\n"
        "  so from 2026-03-01T10:14:57.000Z to the end of the record\n"
        "  heard last before: 2026-03-01T10:14:56.000Z; first after: not yet\n"
    )
    assert "at 2026-03-01T10:23:20.000Z" in await ask("nurse-1", "--database", database)


async def test_it_is_asked_beside_the_running_daemon(tmp_path: Path) -> None:
    """What is not written yet is not known, and said so."""
    await stored(tmp_path / "outbox.db")
    configuration = tmp_path / "gatewayd.conf"
    configuration.write_text("[mqtt]\nbrokers = localhost\n")
    async with running_outbox(tmp_path / "outbox.db"):
        said = await ask(
            *("nurse-1", "--at", "2026-03-01T10:25:00Z"), "--state", tmp_path, "--config", configuration
        )
    assert "not known" in said
    assert "the gateway writes every 10 min" in said


async def test_a_tag_without_a_record_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    """Also where there is no record at all."""
    await stored(tmp_path / "card.db")
    said = await ask("nurse-2", "--database", tmp_path / "card.db", status=1)
    assert (
        said == "gatewayd coverage: expected a tag that this gateway has a record of (nurse-1), got nurse-2\n"
    )
    async with running_outbox(tmp_path / "empty.db"):
        pass
    assert "(none yet)" in await ask("nurse-1", "--database", tmp_path / "empty.db", status=1)


async def test_a_time_that_is_none_or_to_come_is_wrong_usage(tmp_path: Path) -> None:
    said = await ask("nurse-1", "--at", "noon", "--database", tmp_path / "card.db", status=2)
    assert said == "gatewayd coverage: --at: expected a time like 2026-03-01T10:14:00Z or 10:14, got 'noon'\n"
    later = (datetime.now().astimezone() + timedelta(hours=1)).isoformat()
    assert "expected a time that has passed" in await ask("nurse-1", "--at", later, status=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10:14", "2026-03-02T10:14:00"),
        ("10:14:30", "2026-03-02T10:14:30"),
        ("23:59", "2026-03-01T23:59:00"),
        ("2026-02-28T23:59", "2026-02-28T23:59:00"),
    ],
)
def test_a_time_of_the_day_is_the_last_one(text: str, expected: str) -> None:
    """By this machine's zone; yesterday's when today's is to come."""
    now = datetime.fromisoformat("2026-03-02T12:00:00").astimezone()
    assert moment(text, now) == datetime.fromisoformat(expected).astimezone().timestamp()


async def test_a_clock_that_was_not_set_is_said(tmp_path: Path) -> None:
    clockless = Instant(boot="c", mono_s=0.0, wall_s=5.0, source=ClockSource.NONE, uncertainty_ms=0)
    record = Record(
        [Tag(name="nurse-1", format="bthome")], Ear(hearing=Hearing.HEARS, since_s=0.0), clockless
    )
    record.heard("nurse-1", 0.0, faint=False)
    records = {(coverage.KIND, key): text for key, text in record.save(clockless).put.items()}
    async with running_outbox(tmp_path / "card.db") as outbox:
        await outbox.store(Batch(records=records))
    assert "clock was not set then" in await ask("nurse-1", "--database", tmp_path / "card.db")
