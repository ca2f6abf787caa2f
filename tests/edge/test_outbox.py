"""The outbox: what it says is stored is on disk, and it never makes anybody wait."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sending import BOOT, Maker, Reports, now, running_outbox, until

from gatewayd.core.loss import Loss
from gatewayd.core.model import ClockSource, Instant, Message, MessageClass, State
from gatewayd.edge.outbox import Batch, Evicted, Outbox, Page
from gatewayd.edge.outbox.file import set_aside
from gatewayd.edge.outbox.reading import read_records
from gatewayd.edge.outbox.rows import ROW_BYTES
from gatewayd.edge.outbox.segments import IDLE_S, SEGMENT_BYTES, Segments
from gatewayd.edge.outbox.work import Work

ALARM = MessageClass.ALARM
AUDIO = MessageClass.AUDIO


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


async def page(outbox: Outbox, name: MessageClass = ALARM, limit: int = 1000) -> Page:
    found = await outbox.page(name, (), limit)
    assert found is not None
    return found


def put(path: Path, content: bytes) -> None:
    """Write a file, its directory first."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def content(path: Path) -> bytes:
    return path.read_bytes()


async def settle(outbox: Outbox) -> None:
    """Wait until everything asked for so far is written."""
    await outbox.store(Batch())


async def test_what_is_stored_comes_back_as_it_was(path: Path) -> None:
    """A message survives a restart whole: ids, times with their source, body, flags."""
    make = Maker()
    message = replace(
        make(at=Instant(boot=BOOT, mono_s=1.5, wall_s=2.5, source=ClockSource.NONE, uncertainty_ms=9)),
        body={"heard": now(), "text": "ä\ud800"},
        retain=True,
        clears=True,
        expires_s=77,
        response_topic="ops/answers",
        correlation=b"\x00\xff",
    )
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(message,)))
    async with running_outbox(path) as outbox:
        assert (await page(outbox)).messages == (message,)


async def test_messages_come_back_in_order_and_by_class(path: Path) -> None:
    """A page holds the oldest of one class, without those known, and says whether there are more."""
    make = Maker()
    messages = [make(topic=f"alarm/a{n}/event") for n in range(7)]
    other = make(MessageClass.POSITION)
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(*messages, other)))
        first = await outbox.page(ALARM, {messages[1].id}, 3)
        assert first == Page(messages=(messages[0], messages[2], messages[3]), more=True)
        assert await outbox.page(ALARM, {each.id for each in messages}, 3) == Page()


async def test_only_the_confirmed_row_is_deleted(path: Path) -> None:
    """A PUBACK deletes its row and no other."""
    make = Maker()
    messages = [make() for _ in range(3)]
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=tuple(messages)))
        outbox.confirm([messages[1].id])
        await settle(outbox)
        assert (await page(outbox)).messages == (messages[0], messages[2])


async def test_what_was_confirmed_is_erased_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is stored next, or once it is many; one row more or less is not worth a transaction."""
    monkeypatch.setattr("gatewayd.edge.outbox.pending.ERASE_S", 60.0)
    monkeypatch.setattr("gatewayd.edge.outbox.pending.ERASE_ROWS", 2)

    def rows() -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            return [row[0] for row in connection.execute("SELECT id FROM message ORDER BY n")]

    make = Maker()
    ids = []
    async with running_outbox(path) as outbox:
        for _ in range(5):
            message = make()
            ids.append(message.id)
            await outbox.store(Batch(messages=(message,)))
        outbox.confirm(ids[:1])
        await asyncio.sleep(0.2)
        assert rows() == ids
        await outbox.store(Batch(records={("kind", "key"): "value"}))
        assert rows() == ids[1:]
        outbox.confirm(ids[1:4])
        await until(lambda: rows() == ids[4:])


async def test_a_puback_before_the_store_leaves_no_row(path: Path) -> None:
    """However the two race, what is confirmed is not on disk afterwards."""
    make = Maker()
    async with running_outbox(path) as outbox:
        for turn in range(50):
            message = make()
            outbox.store(Batch(messages=(message,)))
            await asyncio.sleep(0.0001 * turn)
            outbox.confirm([message.id])
        await settle(outbox)
        assert (await page(outbox)).messages == ()


async def test_a_state_replaces_the_older_one_of_its_topic(path: Path) -> None:
    """One row per topic, also across transactions."""
    make = Maker()
    states = [make(topic="alarm/a/state", replaces=True) for _ in range(4)]
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(states[0],)))
        await outbox.store(Batch(messages=tuple(states[1:3])))
        outbox.store(Batch(messages=(states[3],)))
        await settle(outbox)
        assert (await page(outbox)).messages == (states[3],)


async def test_a_state_confirmed_before_it_was_stored_still_replaces(path: Path) -> None:
    """The older state on disk must not be published after the newer one."""
    make = Maker()
    older, newer = (make(topic="alarm/a/state", replaces=True) for _ in range(2))
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(older,)))
        outbox.store(Batch(messages=(newer,)))
        outbox.confirm([newer.id])
        assert (await page(outbox)).messages == ()
        await settle(outbox)
        assert (await page(outbox)).messages == ()


async def test_the_same_id_again_is_the_same_message(path: Path) -> None:
    """A `raised` made again after a kill has the same id; it is stored once."""
    message = Maker()(id="0190a1b2-0000-7000-8000-000000000001")
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(message,)))
        await outbox.store(Batch(messages=(message,)))
        assert (await page(outbox)).messages == (message,)


async def test_records_are_put_replaced_and_forgotten(path: Path) -> None:
    """Small facts outlive a restart; those still pending are seen as well."""
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(records={("alarm", "a"): "1", ("alarm", "b"): "2", ("tag", "a"): "3"}))
        await outbox.store(Batch(records={("alarm", "a"): "4"}, forget=(("alarm", "b"),)))
    async with running_outbox(path) as outbox:
        assert await outbox.records("alarm") == {"a": "4"}
        outbox.store(Batch(records={("alarm", "c"): "5"}, forget=(("alarm", "a"),)))
        assert await outbox.records("alarm") == {"c": "5"}


async def test_sound_lies_in_segments_and_is_erased_when_confirmed(path: Path) -> None:
    """Rows only point into the files; a segment goes when nobody needs it and its recording has ended."""
    make = Maker()
    chunks = [make(MessageClass.AUDIO_LIVE, f"alarm/a/audio/{n}", sound=bytes([n]) * 1500) for n in range(3)]
    other = make(MessageClass.AUDIO_LIVE, "alarm/b/audio/0", sound=b"b")
    audio = path.parent / "audio"
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=tuple(chunks)))
        assert (await page(outbox, AUDIO)).messages == tuple(
            replace(each, message_class=AUDIO) for each in chunks
        )
        assert (audio / "a" / "0.seg").stat().st_size == 4500
        await outbox.store(Batch(messages=(other,)))
        outbox.confirm([chunks[0].id, chunks[1].id])
        await settle(outbox)
        assert (audio / "a" / "0.seg").exists()
        outbox.confirm([chunks[2].id])
        await settle(outbox)
        assert not (audio / "a").exists()
        assert (audio / "b" / "0.seg").exists()


async def test_segments_nobody_points_into_are_swept_at_the_start(path: Path) -> None:
    """What a kill between a sync and its commit left behind is erased; new segments never overwrite."""
    make = Maker()
    kept = make(AUDIO, "alarm/a/audio/0", sound=b"kept")
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(kept,)))
    left = path.parent / "audio" / "gone" / "3.seg"
    left.parent.mkdir()
    left.write_bytes(b"left behind")
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(make(AUDIO, "alarm/a/audio/1", sound=b"new"),)))
        await until(lambda: not left.exists())
        assert [each.sound for each in (await page(outbox, AUDIO)).messages] == [b"kept", b"new"]


def test_a_segment_ends_when_it_is_full_or_its_recording_is(tmp_path: Path) -> None:
    """Confirmed sound leaves the disk within minutes, a recording's last within a minute."""
    segments = Segments(tmp_path)
    first = segments.append("a", b"x" * SEGMENT_BYTES, 0.0)
    second = segments.append("a", b"y", 1.0)
    assert (first.segment, second.segment) == ("a/0.seg", "a/1.seg")
    assert segments.is_open("a/1.seg")
    assert segments.ended(1.0 + IDLE_S - 0.1) is None
    assert segments.ended(1.0 + IDLE_S) == "a/1.seg"
    assert segments.ended(500.0) is None
    segments.abandon()


def test_sound_goes_on_elsewhere_when_its_file_is_gone(tmp_path: Path) -> None:
    """Deleted or moved: what is written to it would not be found again."""
    segments = Segments(tmp_path)
    segments.append("a", b"x", 0.0)
    (tmp_path / "a").rename(tmp_path / "b")
    place = segments.append("a", b"y", 1.0)
    assert (tmp_path / place.segment).read_bytes() == b"y"
    segments.abandon()


async def test_a_damaged_chunk_is_dropped_and_the_rest_still_comes(path: Path) -> None:
    """A segment that is cut short costs what it held, not the class behind it."""
    make = Maker()
    chunks = [make(AUDIO, f"alarm/{n}/audio/0", sound=b"0123456789") for n in ("a", "b")]
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=tuple(chunks)))
        (path.parent / "audio" / "a" / "0.seg").write_bytes(b"01234")
        found = await page(outbox, AUDIO)
        assert found.messages == (chunks[1],)
        assert list(found.damaged.values()) == [chunks[0].at]
        assert not (await page(outbox, AUDIO)).damaged
        await settle(outbox)
        assert not (await page(outbox, AUDIO)).damaged
        assert outbox.losses == {AUDIO: Loss(count=1, first=chunks[0].at, last=chunks[0].at)}


async def test_sound_the_disk_does_not_give_holds_up_nothing_and_is_kept(path: Path) -> None:
    """A bad sector costs what lies in it until the next start; it is said, and the row stays."""
    make, reports = Maker(), Reports()
    chunks = [make(AUDIO, f"alarm/{n}/audio/0", sound=b"0123456789") for n in ("a", "b")]
    async with running_outbox(path, reports) as outbox:
        await outbox.store(Batch(messages=tuple(chunks)))
        segment = path.parent / "audio" / "a" / "0.seg"
        segment.rename(segment.with_name("aside"))
        segment.mkdir()  # a read of it fails with an OSError, as one of a bad sector does
        found = await page(outbox, AUDIO)
        assert found.messages == (chunks[1],)
        assert found.unreadable == {chunks[0].id}
        assert (await page(outbox, AUDIO)).unreadable == frozenset()
        assert reports.said[-1] == (State.DEGRADED, "stores, but 1 chunks of sound cannot be read")
        segment.rmdir()
        segment.with_name("aside").rename(segment)
    async with running_outbox(path) as outbox:
        assert (await page(outbox, AUDIO)).messages == tuple(chunks)


async def test_a_page_that_hangs_does_not_fill_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is confirmed meanwhile is remembered up to a bound; a page older than that is not believed."""
    monkeypatch.setattr("gatewayd.edge.outbox.outbox.MEANWHILE", 3)
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
        reading = asyncio.create_task(outbox.page(ALARM, (), 10))
        await asyncio.sleep(0)
        outbox.confirm(str(n) for n in range(4))
        assert not outbox._read_meanwhile
        assert await reading is None
        assert len((await page(outbox)).messages) == 1


def test_what_is_only_pending_leaves_nothing_behind_when_it_is_confirmed() -> None:
    """A dead disk must not fill memory with what it never had."""
    message = Maker()()
    work = Work()
    work.put(message)
    work.confirm({message.id, "stored before"})
    assert (work.messages, work.confirmed) == ({}, {"stored before"})


def test_two_damaged_databases_are_kept(path: Path) -> None:
    """The newest and the one before, whatever the clock says; older ones go with their log and sound."""
    for wall_s in (3e8, 1e8, 2e8, 0.0):
        put(path, b"damaged")
        put(path.with_name("outbox.db-wal"), b"log")
        put(path.parent / "audio" / "0.seg", b"sound")
        newest = set_aside(path, wall_s)
    assert newest.name == "outbox.db.corrupt-19700101T000000Z"
    kept = ["19700101T000000Z", "19790705T052000Z"]
    assert sorted(each.name for each in path.parent.iterdir()) == [
        *(f"audio.corrupt-{date}" for date in kept),
        *(f"outbox.db.corrupt-{date}{ending}" for date in kept for ending in ("", "-wal")),
    ]


async def test_store_never_waits_for_the_disk(path: Path, tmp_path: Path) -> None:
    """A database somebody else holds locked delays nobody but the future."""
    make = Maker()
    async with running_outbox(path) as outbox:
        await settle(outbox)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began_s = asyncio.get_running_loop().time()
        futures = [outbox.store(Batch(messages=(make(),))) for _ in range(100)]
        assert asyncio.get_running_loop().time() - began_s < 0.5
        await asyncio.sleep(0.05)
        assert not any(future.done() for future in futures)
        holder.execute("ROLLBACK")
        holder.close()
        await asyncio.gather(*futures)
        assert len((await page(outbox)).messages) == 100


async def test_a_corrupt_database_is_set_aside_and_a_new_one_begins(path: Path) -> None:
    """Nothing is deleted; it is said, and stays said."""
    put(path, b"this is no database, whatever its name says" * 100)
    reports = Reports()
    async with running_outbox(path, reports) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
        assert len((await page(outbox)).messages) == 1
    (aside,) = path.parent.glob("outbox.db.corrupt-*")
    assert content(aside).startswith(b"this is no database")
    assert reports.state is State.DEGRADED
    assert aside.name in reports.said[-1][1]


async def test_damage_that_cannot_be_put_into_words_is_set_aside_too(path: Path) -> None:
    """SQLite quotes the schema it cannot read, and Python cannot read the quotation."""
    async with running_outbox(path) as outbox:
        await settle(outbox)
    put(path, content(path).replace(b"CREATE INDEX", b"CREATE \xc5NDEX"))
    with pytest.raises(sqlite3.DatabaseError, match="the schema is damaged"):
        read_records(path, "tag")
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
        assert len((await page(outbox)).messages) == 1
    assert list(path.parent.glob("outbox.db.corrupt-*"))


async def test_damage_found_while_running_is_set_aside_and_memory_is_stored_again(path: Path) -> None:
    """Whoever holds messages in memory is told to store them again."""
    make = Maker()
    replaced: list[bool] = []
    async with running_outbox(path) as outbox:
        outbox.on_replaced = lambda: replaced.append(True)
        await outbox.store(Batch(messages=tuple(make(topic="x" * 500) for _ in range(200))))
    pages = (content(path)[at : at + 4096] for at in range(0, len(content(path)), 4096))
    put(path, b"".join(b"\xaa" * 4096 if b"x" * 500 in page else page for page in pages))
    async with running_outbox(path) as outbox:
        outbox.on_replaced = lambda: replaced.append(True)
        found = await outbox.page(ALARM, (), 10)
        assert found is None or not found.messages  # whoever comes to the damage first: we, or the writer
        await until(lambda: replaced)
        await outbox.store(Batch(messages=(make(),)))
        assert len((await page(outbox)).messages) == 1


async def test_a_database_of_something_else_is_set_aside(path: Path) -> None:
    """A file with other tables is not ours to write into."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE something (x)")
    connection.close()
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
    assert len(list(path.parent.glob("outbox.db.corrupt-*"))) == 1


async def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    """A downgrade must not destroy what a newer gatewayd stored."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE future (x)")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = content(path)
    reports = Reports()
    async with running_outbox(path, reports) as outbox:
        stored = outbox.store(Batch(messages=(Maker()(),)))
        await asyncio.sleep(0.1)
        assert not stored.done()
        assert reports.state is State.FAILED
        assert "expected an outbox of version 2 or older, got version 7" in reports.said[-1][1]
        assert await outbox.page(ALARM, (), 1) is None
        assert await outbox.records("alarm") == {}
        assert await outbox.stored() is None
    assert content(path) == before


async def test_a_disk_that_fails_is_run_without_and_written_when_it_is_back(path: Path) -> None:
    """From memory meanwhile; what is confirmed meanwhile is never written."""
    put(path.parent, b"a file where the directory should be")
    make = Maker()
    first, second = make(), make()
    reports = Reports()
    async with running_outbox(path, reports) as outbox:
        assert [state for state, _ in reports.said] == [State.FAILED]
        assert not outbox.usable
        futures = [outbox.store(Batch(messages=(each,))) for each in (first, second)]
        outbox.confirm([first.id])
        assert not outbox._pending.gone(()).ids  # the disk never had it
        await asyncio.sleep(0.1)
        assert not any(future.done() for future in futures)
        path.parent.unlink()
        await asyncio.gather(*futures)
        assert reports.state is State.OK
        assert (await page(outbox)).messages == (second,)


async def test_over_budget_the_lowest_class_goes_first_and_alarms_never(path: Path) -> None:
    """Telemetry before sound before position; what was dropped is counted, told, and kept count of."""
    make = Maker()
    evicted: list[Evicted] = []

    async def fill(outbox: Outbox, name: MessageClass, count: int) -> tuple[Message, ...]:
        messages = tuple(make(name, f"{name}/{n}") for n in range(count))
        await outbox.store(Batch(messages=messages))
        return messages

    async with running_outbox(path, budget_bytes=600 * (ROW_BYTES + 20)) as outbox:
        outbox.on_evicted = evicted.append
        telemetry = await fill(outbox, MessageClass.TELEMETRY, 250)
        positions = await fill(outbox, MessageClass.POSITION, 250)
        assert not evicted
        await fill(outbox, ALARM, 150)
        await until(lambda: evicted)
        assert evicted[0] == Evicted(
            message_class=MessageClass.TELEMETRY, ids=frozenset(each.id for each in telemetry[:200])
        )
        await fill(outbox, ALARM, 800)
        await until(lambda: len(evicted) == 4)
        await settle(outbox)
        stored = await outbox.stored()
        assert stored is not None
        assert stored.rows == {ALARM: 950}
        assert stored.lost == {
            MessageClass.TELEMETRY: Loss(count=250, first=telemetry[0].at, last=telemetry[-1].at),
            MessageClass.POSITION: Loss(count=250, first=positions[0].at, last=positions[-1].at),
        }
    async with running_outbox(path) as outbox:
        await settle(outbox)
        assert outbox.losses == stored.lost


async def test_what_arrives_although_it_was_dropped_is_not_lost(path: Path) -> None:
    """In flight when it was dropped for space: accepted is delivered and lost, to the message."""
    make = Maker()
    async with running_outbox(path, budget_bytes=210 * (ROW_BYTES + 20)) as outbox:
        positions = tuple(make(MessageClass.POSITION, "position") for _ in range(250))
        await outbox.store(Batch(messages=positions))
        await until(lambda: outbox.losses)
        outbox.confirm(each.id for each in positions[:50])
        outbox.confirm(each.id for each in positions[:50])
        await settle(outbox)
        assert outbox.losses == {
            MessageClass.POSITION: Loss(count=150, first=positions[0].at, last=positions[199].at)
        }


async def test_what_memory_drops_is_counted_on_disk(path: Path) -> None:
    """Before the disk has it health knows; after a restart it is known still."""
    make = Maker()
    dropped = make(MessageClass.POSITION, "position")
    async with running_outbox(path) as outbox:
        outbox.drop((dropped,))
        loss = {MessageClass.POSITION: Loss(count=1, first=dropped.at, last=dropped.at)}
        assert outbox.losses == loss
        await settle(outbox)
        assert outbox.losses == loss
    async with running_outbox(path) as outbox:
        await settle(outbox)
        assert outbox.losses == loss


async def test_a_stop_writes_what_is_pending(path: Path) -> None:
    """SIGTERM loses nothing."""
    make = Maker()
    async with running_outbox(path) as outbox:
        for _ in range(500):
            outbox.store(Batch(messages=(make(),)))
    async with running_outbox(path) as outbox:
        assert len((await page(outbox)).messages) == 500


async def test_counting_what_is_stored(path: Path) -> None:
    """Rows and bytes by class, and the oldest."""
    make = Maker()
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(make(), make(), make(AUDIO, "alarm/a/audio/0", sound=b"x" * 99))))
        while (stored := await outbox.stored()) is None:  # noqa: ASYNC110 - it is counted soon after the start
            await asyncio.sleep(0.005)
        assert stored.rows == {ALARM: 2, AUDIO: 1}
        assert stored.size_bytes > 3 * ROW_BYTES + 99
        assert stored.oldest is not None
        assert stored.oldest.wall_s == pytest.approx(now().wall_s, abs=30)


async def test_the_watchdog_is_fed_while_the_disk_fails(path: Path) -> None:
    """A dead disk is reported, not punished with a restart."""
    put(path.parent, b"in the way")
    fed: list[bool] = []
    outbox = Outbox(path, budget_bytes=1 << 30, now=now, report=Reports(), alive=lambda: fed.append(True))
    task = asyncio.create_task(outbox.run())
    await outbox.decided()
    await until(lambda: len(fed) >= 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
