"""`gatewayd outbox`: what it says of an outbox in use, of a dead gateway's, and of what is none."""

import asyncio
import json
import shutil
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from players import accepted, needs_players
from sending import Maker, running_outbox

from gatewayd.core import alarm as alarms
from gatewayd.core import ogg
from gatewayd.core.alarm import Pressed, Settings
from gatewayd.core.model import ClockSource, Instant, MessageClass, Press, TagEvent
from gatewayd.edge.outbox import Batch

ALARM = "0190a1b2-0000-7000-8000-00000000000a"
OTHER = "0190a1b2-0000-7000-8000-00000000000b"
AT = Instant(boot="b", mono_s=1.0, wall_s=1.8e9, source=ClockSource.NTP, uncertainty_ms=5)
AT_TEXT = "2027-01-15T08:00:00.000Z"
CONFIGURATION = "[gateway]\nid = gw-7\n\n[mqtt]\nbrokers = localhost\n"


class Gateway:
    """A gateway's state and configuration on disk."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.path = self.state / "outbox.db"
        self.configuration = folder / "gatewayd.conf"
        self.configuration.write_text(CONFIGURATION)

    async def ask(self, *arguments: str | Path, status: int = 0) -> str:
        """Run `gatewayd outbox` as this gateway's; return what it says, on stderr where it fails."""
        where = ("--config", self.configuration, "--state", self.state)
        return await ask(*arguments, *where, status=status)


async def ask(*arguments: str | Path, status: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gatewayd", "outbox", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == status, err.decode()
    return (err if status else out).decode()


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def lines(archive: zipfile.ZipFile, name: str) -> list[Any]:
    return [json.loads(line) for line in archive.read(name).splitlines()]


def read(file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(file)


def remove(path: Path) -> None:
    path.unlink()


def chunks(make: Maker, count: int) -> list[Any]:
    """Chunks of silence after the first one, which was delivered; the header went with it."""
    link = ogg.Link(7)
    link.header(pre_skip=312, rate_hz=16_000)
    packets = [ogg.concealed(b"\x48")] * 25
    pages = [link.audio(packets) for _ in range(count + 1)]
    topics = [f"alarm/{ALARM}/audio/{n}" for n in range(count + 1)]
    return [
        make(MessageClass.AUDIO_LIVE, topic, sound=sound, at=AT, body={"duration_ms": 500})
        for topic, sound in zip(topics[1:], pages[1:], strict=True)
    ]


async def test_what_waits_is_counted_while_the_daemon_runs(gateway: Gateway) -> None:
    """By class, with the oldest, and what was dropped; for a person and for a program."""
    make = Maker()
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=(make(at=AT), make(MessageClass.POSITION, "position"))))
        outbox.drop((make(MessageClass.AUDIO, at=AT),))
        await outbox.store(Batch())
        found = json.loads(await gateway.ask("stats", "--json"))
        said = await gateway.ask("stats")
    assert found["path"] == str(gateway.path)
    assert {name: each["messages"] for name, each in found["classes"].items()} == {"alarm": 1, "position": 1}
    assert found["oldest_at"] == AT_TEXT
    assert found["lost"] == {"audio": {"count": 1, "from_at": AT_TEXT, "to_at": AT_TEXT}}
    assert f"the oldest is of {AT_TEXT}" in said
    assert f"dropped: 1 of audio, of {AT_TEXT} to {AT_TEXT}" in said


async def test_each_message_is_listed_alarms_first(gateway: Gateway) -> None:
    """Also of a dead gateway."""
    make = Maker()
    position, alarm = make(MessageClass.POSITION, "position", at=AT), make(at=AT)
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=(position, alarm)))
    found = [json.loads(line) for line in (await gateway.ask("list", "--json")).splitlines()]
    assert [(each["class"], each["id"], each["at"]) for each in found] == [
        ("alarm", alarm.id, AT_TEXT),
        ("position", position.id, AT_TEXT),
    ]
    assert (await gateway.ask("list")).splitlines()[0].split() == [
        AT_TEXT,
        "alarm",
        str(found[0]["bytes"]),
        "alarm/a/event",
    ]


async def test_an_export_has_the_messages_as_they_would_go_out(gateway: Gateway, tmp_path: Path) -> None:
    """Whole topics and payloads; the alarms as the gateway knew them; nobody else may read it."""
    event = Maker()(topic=f"alarm/{ALARM}/event", body={"alarm": ALARM, "type": "raised", "heard": AT}, at=AT)
    press = Press(tag="t", event=TagEvent.PRESS, heard=AT)
    known, _ = alarms.step(
        {}, Pressed(press=press, next_alarm_id=ALARM, decided=AT), AT, Settings(audio=False, duration_s=600)
    )
    record = {("alarm", ALARM): alarms.to_json(known[ALARM])}
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=(event,), records=record))
    file = tmp_path / "export.zip"
    assert await gateway.ask("export", file) == f"1 messages of {gateway.path} are in {file}\n"
    with read(file) as archive:
        (line,) = lines(archive, "messages.jsonl")
        (state,) = lines(archive, "alarms.jsonl")
    assert line["topic"] == f"gatewayd/gw-7/alarm/{ALARM}/event"
    assert (
        line["payload"].items()
        >= {"id": event.id, "gateway": "gw-7", "heard": AT_TEXT, "at": AT_TEXT}.items()
    )
    assert state.items() >= {"alarm": ALARM, "handling": "raised", "gateway": "gw-7"}.items()
    assert oct(file.stat().st_mode)[-3:] == "600"
    assert "is there already" in await gateway.ask("export", file, status=1)


@needs_players
async def test_the_sound_of_an_export_plays(gateway: Gateway, tmp_path: Path) -> None:
    """Though its beginning was delivered: the header comes from the alarm, or is made."""
    waiting = chunks(Maker(), 4)
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=tuple(waiting)))
        await gateway.ask("export", tmp_path / "export.zip")
    with read(tmp_path / "export.zip") as archive:
        sounds = [line for line in lines(archive, "messages.jsonl") if "sha256" in line]
        (tmp_path / "sound.opus").write_bytes(archive.read(f"sound/{ALARM}.opus"))
    assert [line["topic"] for line in sounds] == [
        f"gatewayd/gw-7/alarm/{ALARM}/audio/{n}" for n in range(1, 5)
    ]
    assert len(accepted(tmp_path / "sound.opus")) / 16_000 == pytest.approx(2.0, abs=0.05)


async def test_of_another_machines_card_nobody_guesses_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    """Its id may be made from that machine's; what the configuration there says holds."""
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
    card = tmp_path / "card.db"
    shutil.copy(gateway.path, card)
    nothing = tmp_path / "none.conf"
    await ask("export", tmp_path / "a.zip", "--database", card, "--config", nothing)
    await ask("export", tmp_path / "b.zip", "--database", card, "--config", gateway.configuration)
    with read(tmp_path / "a.zip") as a, read(tmp_path / "b.zip") as b:
        (unknown,), (known) = lines(a, "messages.jsonl"), lines(b, "messages.jsonl")[0]
    assert unknown["topic"] == "alarm/a/event"
    assert "gateway" not in unknown["payload"]
    assert known["payload"]["gateway"] == "gw-7"


async def test_a_database_that_was_set_aside_is_exported_as_far_as_it_can_be_read(
    gateway: Gateway, tmp_path: Path
) -> None:
    """What the daemon had no time to save can still be carried off."""
    make = Maker()
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=tuple(make(body={"text": "x" * 400}) for _ in range(200))))
    aside = gateway.path.with_name("outbox.db.corrupt-20270115T080000Z")
    whole = bytearray(gateway.path.read_bytes())
    middle = whole.index(b"x" * 400, len(whole) // 2) // 4096 * 4096
    whole[middle : middle + 100] = bytes(100)
    aside.write_bytes(whole)
    await gateway.ask("export", tmp_path / "export.zip", "--database", aside)
    with read(tmp_path / "export.zip") as archive:
        assert 180 < len(lines(archive, "messages.jsonl")) < 200


async def test_what_cannot_be_read_is_said_with_what_to_do(gateway: Gateway) -> None:
    """No outbox, another program's file, a newer one, a bad configuration: in words, with the exit status."""
    assert "got none: name its folder by --state" in await gateway.ask("stats", status=1)
    gateway.state.mkdir()
    gateway.path.write_bytes(b"no database" * 999)
    assert "is damaged" in await gateway.ask("list", status=1)
    remove(gateway.path)
    with closing(sqlite3.connect(gateway.path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert "got version 7: ask the gatewayd that made it" in await gateway.ask("stats", status=1)
    gateway.configuration.write_text("[gateway]\nid = ?\n")
    assert "expected" in await gateway.ask("stats", status=78)


async def test_reading_leaves_the_daemon_and_its_files_alone(gateway: Gateway, tmp_path: Path) -> None:
    """What is stored meanwhile is stored, and what was there is still there."""
    make = Maker()
    async with running_outbox(gateway.path) as outbox:
        await outbox.store(Batch(messages=tuple(make() for _ in range(2000))))
        exporting = asyncio.create_task(gateway.ask("export", tmp_path / "export.zip"))
        while not exporting.done():
            await asyncio.wait_for(outbox.store(Batch(messages=(make(),))), 5)
            await asyncio.sleep(0.005)
        await exporting
        page = await outbox.page(MessageClass.ALARM, (), 100_000)
        assert page is not None
        assert len(page.messages) >= 2000
    with read(tmp_path / "export.zip") as archive:
        assert len(lines(archive, "messages.jsonl")) >= 2000
