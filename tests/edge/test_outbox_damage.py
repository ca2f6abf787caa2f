"""Real damage to real files: found, told, set aside, and what can be saved is."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from sending import Maker, Reports, running_outbox, until

from gatewayd.core.loss import Loss
from gatewayd.core.model import Message, MessageClass, State
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.edge.outbox.ballast import Ballast
from gatewayd.edge.outbox.file import SCHEMA_VERSION, DamagedDatabaseError
from gatewayd.edge.outbox.pending import Pending

ALARM, AUDIO, POSITION = MessageClass.ALARM, MessageClass.AUDIO, MessageClass.POSITION
ALARM_ID = "0190a1b2-0000-7000-8000-00000000000a"
PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


async def all_of(outbox: Outbox, name: MessageClass) -> list[Message]:
    page = await outbox.page(name, (), 100_000)
    assert page is not None
    return list(page.messages)


async def filled(path: Path, make: Maker, many: int = 400) -> list[Message]:
    """Leave an outbox with many alarms, a chunk of sound and some records; return the alarms."""
    alarms = [make(body={"alarm": "a", "text": "x" * 400}) for _ in range(many)]
    records = {("alarm", f"{n:04}"): "y" * 200 for n in range(100)}
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(*alarms, make(AUDIO, "alarm/a/audio/0", sound=b"s" * 999))))
        await outbox.store(Batch(records=records))
    return alarms


def asides(path: Path) -> list[Path]:
    """The databases that were set aside."""
    return [
        each for each in path.parent.glob("outbox.db.corrupt-*") if not each.name.endswith(("-wal", "-shm"))
    ]


def flip(path: Path, at: int, length: int = 1) -> None:
    """Turn every bit of some bytes."""
    with path.open("r+b") as file:
        file.seek(at)
        damaged = bytes(byte ^ 0xFF for byte in file.read(length))
        file.seek(at)
        file.write(damaged)


def flip_middle(path: Path) -> None:
    """Damage a page in the middle of the table."""
    flip(path, pages_with(path, b"x" * 400)[20], 100)


def flip_index(path: Path) -> None:
    """Damage the index by class, in its root."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'message_by_class'"
        ).fetchone()
    flip(path, (root - 1) * PAGE_BYTES, 100)


def cut(path: Path) -> None:
    """Take off the last quarter."""
    os.truncate(path, path.stat().st_size * 3 // 4 // PAGE_BYTES * PAGE_BYTES)


def move(path: Path, to: Path) -> None:
    path.rename(to)


def delete(path: Path) -> None:
    path.unlink()


def index_of(path: Path, text: bytes) -> int:
    """Where a text lies in a file."""
    return path.read_bytes().index(text)


def pages_with(path: Path, text: bytes) -> list[int]:
    """Where the pages begin that hold a text, in bytes."""
    whole = path.read_bytes()
    return [at for at in range(0, len(whole), PAGE_BYTES) if text in whole[at : at + PAGE_BYTES]]


async def test_alarms_around_a_damaged_page_are_saved(path: Path) -> None:
    """A page in the middle of the table costs what lies in it; everything else is there again, and said."""
    make, reports = Maker(), Reports()
    alarms = await filled(path, make)
    flip(path, pages_with(path, b"x" * 400)[20], 100)
    async with running_outbox(path, reports, check_after_s=0.0) as outbox:
        await until(lambda: reports.state is State.DEGRADED)
        saved = await all_of(outbox, ALARM)
        assert len(alarms) - 8 <= len(saved) < len(alarms)
        assert saved == [each for each in alarms if each in saved]
        assert len(await outbox.records("alarm")) == 100
        assert [each.sound for each in await all_of(outbox, AUDIO)] == [b"s" * 999]
        (aside,) = asides(path)
        assert reports.said[-1][1] == (
            f"stores, but was damaged: {len(saved) + 1} messages were saved, the damaged one was kept as"
            f" {aside.name}"
        )


async def test_a_damaged_index_costs_nothing(path: Path) -> None:
    """The rows are found without it."""
    make, reports = Maker(), Reports()
    alarms = await filled(path, make)
    flip_index(path)
    async with running_outbox(path, reports, check_after_s=0.0) as outbox:
        await until(lambda: reports.state is State.DEGRADED)
        assert await all_of(outbox, ALARM) == alarms


async def test_a_row_missing_from_an_index_is_found_by_the_check(path: Path) -> None:
    """No query would ever meet it: the alarm would wait for ever."""
    make, reports = Maker(), Reports()
    alarms = await filled(path, make, 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        text = "SELECT sql FROM sqlite_schema WHERE name = 'message_by_class'"
        (statement,) = connection.execute(text).fetchone()
        connection.execute("UPDATE sqlite_schema SET sql = NULL WHERE name = 'none'")
        connection.execute(
            f"UPDATE sqlite_schema SET sql = '{statement} WHERE n <> 2' WHERE sql = '{statement}'"
        )
        connection.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("REINDEX message_by_class")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_schema SET sql = '{statement}' WHERE name = 'message_by_class'")
        connection.commit()
    async with running_outbox(path, check_after_s=1000.0) as outbox:
        assert len(await all_of(outbox, ALARM)) == 2
    async with running_outbox(path, reports, check_after_s=0.0) as outbox:
        await until(lambda: reports.state is State.DEGRADED)
        assert await all_of(outbox, ALARM) == alarms


async def test_a_header_that_is_damaged_sets_everything_aside(path: Path) -> None:
    """Nothing can be read: it is kept, and said."""
    make, reports = Maker(), Reports()
    await filled(path, make, 3)
    flip(path, 0, 100)
    async with running_outbox(path, reports) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        assert len(await all_of(outbox, ALARM)) == 1
        assert "0 messages were saved" in reports.said[-1][1]
        assert len(asides(path)) == 1
        assert asides(path)[0].with_name(asides(path)[0].name.replace("outbox.db", "audio")).is_dir()


async def test_a_database_cut_short_gives_what_is_left_of_it(path: Path) -> None:
    """Truncated by a file system check, for one."""
    make, reports = Maker(), Reports()
    alarms = await filled(path, make)
    cut(path)
    async with running_outbox(path, reports, check_after_s=0.0) as outbox:
        await until(lambda: reports.state is State.DEGRADED)
        saved = await all_of(outbox, ALARM)
        assert len(saved) > 100
        assert saved == [each for each in alarms if each in saved]


@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_what_is_deleted_under_the_daemon_is_written_anew(path: Path, ending: str) -> None:
    """The database or its log: SQLite would go on writing to what is gone with the process."""
    make, reports = Maker(), Reports()
    async with running_outbox(path, reports) as outbox:
        before = [make() for _ in range(50)]
        await outbox.store(Batch(messages=tuple(before), records={("alarm", "a"): "1"}))
        delete(path.with_name(path.name + ending))
        after = make()
        await outbox.store(Batch(messages=(after,)))
        copy = path.parent.parent / "copy"
        shutil.copytree(path.parent, copy)  # what a kill now would leave
        assert await all_of(outbox, ALARM) == [*before, after]
    async with running_outbox(copy / "outbox.db") as outbox:
        assert await all_of(outbox, ALARM) == [*before, after]
        assert await outbox.records("alarm") == {"a": "1"}


async def test_a_state_directory_that_is_gone_is_made_again(path: Path) -> None:
    """With everything but sound, which lies in files of its own; what is missing of it counts as lost."""
    make = Maker()
    async with running_outbox(path) as outbox:
        first, chunk = make(), make(AUDIO, "alarm/a/audio/0", sound=b"s" * 999)
        await outbox.store(Batch(messages=(first, chunk)))
        move(path.parent, path.parent.with_name("elsewhere"))
        second = make()
        later = make(AUDIO, "alarm/a/audio/1", sound=b"t" * 999)
        await outbox.store(Batch(messages=(second, later)))
    async with running_outbox(path) as outbox:
        assert await all_of(outbox, ALARM) == [first, second]
        assert [each.sound for each in await all_of(outbox, AUDIO)] == [b"t" * 999]
        await outbox.store(Batch())
        assert outbox.losses == {AUDIO: Loss(count=1, first=chunk.at, last=chunk.at)}


async def test_a_state_directory_that_goes_while_it_is_tidied_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails then is some other file in it, which is no reason to let go of what is held open."""
    message, elsewhere, make = Maker()(), path.parent.with_name("elsewhere"), Ballast.make

    def gone_first(ballast: Ballast) -> bool:
        if not elsewhere.exists():
            move(path.parent, elsewhere)
        return make(ballast)

    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(message,)))
    path.with_name(path.name + ".ballast").unlink(missing_ok=True)
    monkeypatch.setattr(Ballast, "make", gone_first)
    async with running_outbox(path):
        await until(elsewhere.exists)
    async with running_outbox(path) as outbox:
        assert await all_of(outbox, ALARM) == [message]


async def test_a_state_directory_that_goes_before_the_end_costs_nothing(path: Path) -> None:
    """It is looked for once more, though nothing is to be written."""
    message = Maker()()
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(message,)))
        await asyncio.sleep(0.2)  # it is tidy by then
        move(path.parent, path.parent.with_name("elsewhere"))
    async with running_outbox(path) as outbox:
        assert await all_of(outbox, ALARM) == [message]


async def test_a_bit_that_flipped_in_a_row_is_noticed(path: Path) -> None:
    """A position that says something else is dropped and counted; the class behind it goes on."""
    make = Maker()
    positions = [make(POSITION, "position", body={"lat": f"{n}-52.123456"}) for n in range(3)]
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=tuple(positions)))
    flip(path, index_of(path, b"1-52.123456") + 3)
    async with running_outbox(path, check_after_s=0.0) as outbox:
        assert await all_of(outbox, POSITION) == [positions[0], positions[2]]
        await outbox.store(Batch())
        assert outbox.losses == {POSITION: Loss(count=1, first=positions[1].at, last=positions[1].at)}


async def test_an_alarm_that_is_damaged_goes_out_marked(path: Path) -> None:
    """A word of it may be wrong: worth more than no alarm."""
    message = Maker()(topic=f"alarm/{ALARM_ID}/event", body={"alarm": ALARM_ID, "worker": "w-1234"})
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(message,)))
    flip(path, index_of(path, b"w-1234") + 3)
    async with running_outbox(path) as outbox:
        (found,) = await all_of(outbox, ALARM)
        assert found.id == message.id
        assert found.body["damaged"] is True


async def test_sound_whose_bits_flipped_is_dropped_and_counted(path: Path) -> None:
    """Its hash would vouch for something nobody recorded."""
    make = Maker()
    chunks = [make(AUDIO, f"alarm/a/audio/{n}", sound=bytes([n]) * 999) for n in range(2)]
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=tuple(chunks)))
    flip(path.parent / "audio" / "a" / "0.seg", 500)
    async with running_outbox(path) as outbox:
        assert [each.sound for each in await all_of(outbox, AUDIO)] == [chunks[1].sound]
        await outbox.store(Batch())
        assert outbox.losses == {AUDIO: Loss(count=1, first=chunks[0].at, last=chunks[0].at)}


@pytest.mark.parametrize("damage", [flip_middle, flip_index])
async def test_losses_outlive_a_damaged_database(path: Path, damage: Callable[[Path], None]) -> None:
    """What was dropped before still counts in the one that begins: found at the start, or later."""
    make = Maker()
    async with running_outbox(path) as outbox:
        lost = make(POSITION, "position")
        outbox.drop((lost,))
        await outbox.store(Batch())
    await filled(path, make)
    damage(path)
    reports = Reports()
    async with running_outbox(path, reports, check_after_s=0.0) as outbox:
        await until(lambda: reports.state is State.DEGRADED)
        await outbox.store(Batch())
        assert outbox.losses == {POSITION: Loss(count=1, first=lost.at, last=lost.at)}


async def test_a_database_of_version_1_is_carried_over(path: Path) -> None:
    """Its rows, which have no checksum, go out as they are; new ones have one."""
    make = Maker()
    old, new = make(), make()
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(old,), records={("alarm", "a"): "1"}))
    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute("SELECT * FROM message").fetchall()
    delete(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(resources.files("gatewayd.schema").joinpath("outbox_v1.sql").read_text())
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"INSERT INTO message VALUES ({', '.join('?' * (len(row) - 1))})", row[:-1])
        connection.execute("INSERT INTO record VALUES ('alarm', 'a', '1')")
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")
    for _ in range(2):
        async with running_outbox(path) as outbox:
            await outbox.store(Batch(messages=(new,)))
            assert await all_of(outbox, ALARM) == [old, new]
            assert await outbox.records("alarm") == {"a": "1"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        checksums = connection.execute("SELECT crc FROM message ORDER BY n").fetchall()
    assert [crc is None for (crc,) in checksums] == [True, False]


async def unfinished(path: Path, make: Maker, turns: int = 20) -> tuple[list[Message], list[int]]:
    """What a kill leaves: nothing checkpointed. Return the alarms, and where each turn's log ended."""
    alarms, ends = [], []
    live = path.parent.with_name("live") / path.name
    async with running_outbox(live) as outbox:
        for _ in range(turns):
            alarms += [make(body={"alarm": "a", "text": "x" * 400}) for _ in range(5)]
            await outbox.store(Batch(messages=tuple(alarms[-5:])))
            ends.append(size_of(live.with_name("outbox.db-wal")))
        copy(live.parent, path.parent)
    return alarms, ends


def size_of(path: Path) -> int:
    return path.stat().st_size


def copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to)


async def test_what_was_synced_behind_a_damaged_part_of_the_log_is_there(path: Path) -> None:
    """SQLite forgets it without a word: alarms that were told as stored."""
    make, reports = Maker(), Reports()
    alarms, ends = await unfinished(path, make)
    flip(path.with_name("outbox.db-wal"), ends[9] - 100)
    async with running_outbox(path, reports) as outbox:
        found = await all_of(outbox, ALARM)
        assert found == [each for each in alarms if each in found]
        assert found[-20:] == alarms[-20:]
        assert "its log was damaged" in reports.said[-1][1]
        assert path.with_name("outbox.db-wal.damaged").exists()


async def test_a_transaction_that_a_power_cut_tore_is_left_out(path: Path) -> None:
    """It was told to nobody; that is no damage."""
    make, reports = Maker(), Reports()
    alarms, ends = await unfinished(path, make)
    flip(path.with_name("outbox.db-wal"), ends[-1] - 100)
    async with running_outbox(path, reports) as outbox:
        assert await all_of(outbox, ALARM) == alarms[:-5]
        assert reports.state is State.OK


async def test_looking_at_the_log_ends_no_lock_of_sqlite(path: Path) -> None:
    """Another process that reads would take the index for nobody's, and cut it off under our feet."""
    await filled(path, Maker(), many=5)
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
        killed = path.parent.with_name("killed")
        shutil.copytree(path.parent, killed)
    async with running_outbox(killed / path.name) as outbox:
        await outbox.store(Batch(messages=(Maker()(),)))
        # pending, reserved and shared bytes of the database; the index's byte that says that it is in use
        assert is_locked(killed / path.name, 0x4000_0000 + 2)
        assert is_locked(killed / f"{path.name}-shm", 128)


def is_locked(file: Path, at: int) -> bool:
    """Whether another process, as a child of ours is, would find this byte locked (fcntl(2))."""
    asked = (
        "import fcntl, struct, sys\n"
        "lock = struct.pack('hhqqi', fcntl.F_WRLCK, 0, int(sys.argv[2]), 1, 0)\n"
        "found = fcntl.fcntl(open(sys.argv[1], 'r+b'), fcntl.F_GETLK, lock)\n"
        "print(struct.unpack('hhqqi', found)[0] != fcntl.F_UNLCK)"
    )
    command = (sys.executable, "-c", asked, str(file), str(at))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "True"


def test_a_finding_about_the_database_before_is_not_believed() -> None:
    """A reader may have begun before the damaged one was set aside: the new one is not damaged."""
    pending = Pending()
    before = pending.database
    pending.begin_anew()
    pending.found(DamagedDatabaseError("malformed"), before)
    pending.take()
    pending.found(DamagedDatabaseError("malformed"), pending.database)
    with pytest.raises(DamagedDatabaseError):
        pending.take()
