"""A disk that is full, read-only or gone: real file systems, small enough to be filled."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sending import Maker, Reports, running_outbox, until

from gatewayd.core.model import Message, MessageClass, State
from gatewayd.edge.outbox import Batch, Outbox, Page
from gatewayd.edge.outbox.ballast import BALLAST_BYTES
from gatewayd.edge.outbox.pending import Pending
from gatewayd.edge.outbox.reading import read_stored
from gatewayd.edge.outbox.work import Work

ALARM, AUDIO, POSITION = MessageClass.ALARM, MessageClass.AUDIO, MessageClass.POSITION
DISK_BYTES = 6 * BALLAST_BYTES


class Disk:
    """An ext4 file system of its own, in a file behind a loop device."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.point = folder / "disk"
        self.point.mkdir()
        # What lies below it takes nothing: as on a gateway whose root is never written to.
        run("mount", "--bind", str(self.point), str(self.point))
        run("mount", "-o", "remount,bind,ro", str(self.point))
        with self.image.open("wb") as image:
            image.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", str(self.image))
        self.device = run("losetup", "--find", "--show", str(self.image))
        self.mount()

    def mount(self, *options: str) -> None:
        run("mount", *options, self.device, str(self.point))

    def unmount(self) -> None:
        run("umount", str(self.point))

    def break_down(self) -> None:
        """Refuse every write from now on, as Linux does with a file system on a failing SD card."""
        run("mount", "-o", "remount,abort", str(self.point))

    def mend(self) -> None:
        """Take writes again, mounted anew."""
        self.unmount()
        self.mount()

    def fill(self) -> None:
        """Let something else take all that is left."""
        with (self.point / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(1 << 16)):
                pass
        with (self.point / "filler").open("ab", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(512)):
                pass

    def leave(self, size_bytes: int) -> None:
        """Let it give back so much."""
        filler = self.point / "filler"
        os.truncate(filler, filler.stat().st_size - size_bytes)
        os.sync()

    def relieve(self) -> None:
        (self.point / "filler").unlink()
        os.sync()  # ext4 frees blocks with its next commit

    def give_back(self) -> None:
        unmount = ["umount", "-l", str(self.point)]
        for command in (unmount, unmount, ["losetup", "--detach", self.device]):
            subprocess.run(command, check=False, capture_output=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("only root may mount a file system of its own")
    try:
        found = Disk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine mounts no loop device: {error.stderr.strip()}")
    yield found
    found.give_back()


async def all_of(outbox: Outbox, name: MessageClass) -> tuple[Message, ...]:
    page = await outbox.page(name, (), 10_000)
    assert isinstance(page, Page)
    return page.messages


async def alarms(outbox: Outbox) -> int:
    return len(await all_of(outbox, ALARM))


async def whole(ballast: Path) -> None:
    await until(lambda: ballast.exists() and ballast.stat().st_blocks * 512 >= BALLAST_BYTES)


async def test_alarms_still_go_in_when_the_disk_is_full_and_sound_gives_way(disk: Disk) -> None:
    """The ballast is given up for them; sound waits in memory, and goes in once there is room again."""
    make, reports = Maker(), Reports()
    path = disk.point / "state" / "outbox.db"
    ballast = path.with_name("outbox.db.ballast")
    async with running_outbox(path, reports, tidy_s=0.05) as outbox:
        await whole(ballast)
        disk.fill()
        stored = [
            await outbox.store(Batch(messages=(make(),), records={("alarm", "a"): f"{n}" * 2000}))
            for n in range(300)
        ]
        sound = outbox.store(Batch(messages=(make(AUDIO, "alarm/a/audio/0", sound=b"s" * 9000),)))
        await outbox.store(Batch())
        assert len(stored) == await alarms(outbox) == 300
        assert ballast.stat().st_size < BALLAST_BYTES
        assert not sound.done()
        assert not outbox.takes_sound
        assert reports.state is State.DEGRADED
        assert "the disk is full: alarms go in" in reports.said[-1][1]
        disk.relieve()
        await sound
        await whole(ballast)
        await until(lambda: reports.state is State.OK)
    async with running_outbox(path) as outbox:
        assert await alarms(outbox) == 300
        assert not outbox.losses


async def test_where_sound_ends_is_stored_with_the_sound_only(disk: Disk) -> None:
    """A kill then leaves no sound that is missing and that nobody tells: what the disk has not is a gap."""
    make = Maker()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path, tidy_s=0.05) as outbox:
        await whole(path.with_name("outbox.db.ballast"))
        first = make(AUDIO, "alarm/a/audio/0", sound=b"s" * 9000)
        await outbox.store(Batch(messages=(first,), marks={("recording", "a"): "1"}))
        disk.fill()
        for n in range(300):
            await outbox.store(Batch(messages=(make(),), records={("alarm", "a"): f"{n}" * 2000}))
        second = make(AUDIO, "alarm/a/audio/1", sound=b"s" * 9000)
        both = Batch(messages=(second,), records={("alarm", "a"): "x"}, marks={("recording", "a"): "2"})
        stored = outbox.store(both)
        await outbox.store(Batch())
        assert await outbox.records("recording") == {"a": "1"}
        assert await outbox.records("alarm") == {"a": "x"}
        disk.relieve()
        await stored
        assert await outbox.records("recording") == {"a": "2"}


async def test_a_full_disk_costs_the_lowest_classes_and_no_alarm(disk: Disk) -> None:
    """More alarms than the ballast holds: positions go, oldest first, counted as lost; alarms all go in."""
    make = Maker()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path, tidy_s=0.05) as outbox:
        await whole(path.with_name("outbox.db.ballast"))
        positions = tuple(make(POSITION, "position", body={"x": "p" * 1000}) for _ in range(8000))
        await outbox.store(Batch(messages=positions))
        disk.fill()
        for _ in range(40):
            await outbox.store(Batch(messages=tuple(make(body={"x": "a" * 2000}) for _ in range(100))))
        assert await alarms(outbox) == 4000
        await until(lambda: POSITION in outbox.losses)
        loss = outbox.losses[POSITION]
        assert loss.first == positions[0].at
        assert loss.last == positions[loss.count - 1].at
        await outbox.store(Batch())
    stored = read_stored(path)
    assert stored.rows[ALARM] == 4000
    assert stored.rows.get(POSITION, 0) + stored.lost[POSITION].count == 8000


async def test_an_outbox_begins_on_a_full_disk_by_the_room_of_its_ballast(disk: Disk) -> None:
    """What waits is read and alarms are stored, though nothing was free at the start."""
    make = Maker()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path, tidy_s=0.05) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        await whole(path.with_name("outbox.db.ballast"))
    disk.fill()
    async with running_outbox(path, tidy_s=0.05) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        assert await alarms(outbox) == 2


@pytest.mark.parametrize("left_kib", [8, 16, 24])
async def test_a_disk_that_is_all_but_full_when_the_outbox_is_opened_kills_nobody(
    disk: Disk, left_kib: int
) -> None:
    """SQLite's index of its log is memory of a file: where its blocks are missing, the kernel sends SIGBUS.

    With blocks of 1 KiB, as on this disk, SQLite takes a quarter of what it touches later.
    """
    make = Maker()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path, tidy_s=0.05) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        await whole(path.with_name("outbox.db.ballast"))
    disk.fill()
    disk.leave(left_kib << 10)
    async with running_outbox(path, tidy_s=0.05) as outbox:
        for _ in range(50):
            await outbox.store(Batch(messages=tuple(make() for _ in range(20))))
        assert await alarms(outbox) == 1001


async def test_a_disk_full_of_other_things_is_run_without_until_there_is_room(disk: Disk) -> None:
    """A new gateway with no room for a database: it says why, and begins one when there is room."""
    reports = Reports()
    disk.fill()
    async with running_outbox(disk.point / "state" / "outbox.db", reports) as outbox:
        assert reports.said == [(State.FAILED, "the disk is full; running from memory")]
        stored = outbox.store(Batch(messages=(Maker()(),)))
        await asyncio.sleep(0.2)
        assert not stored.done()
        disk.relieve()
        await stored
        assert reports.state is State.OK


async def test_a_damaged_outbox_is_set_aside_on_a_full_disk_too(disk: Disk) -> None:
    """The new one begins by the room of the ballast."""
    make, reports = Maker(), Reports()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        await whole(path.with_name("outbox.db.ballast"))
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    disk.fill()
    async with running_outbox(path, reports, tidy_s=0.05) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        assert await alarms(outbox) == 1
    assert len(list(path.parent.glob("outbox.db.corrupt-*"))) == 1


async def test_a_disk_that_refuses_writes_is_run_without_until_it_takes_them(disk: Disk) -> None:
    """From memory meanwhile; what was on it is there again, and what waited goes in."""
    make, reports = Maker(), Reports()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path, reports, tidy_s=0.05) as outbox:
        await outbox.store(Batch(messages=(make(),)))
        disk.break_down()
        stored = outbox.store(Batch(messages=(make(),)))
        await until(lambda: reports.state is State.FAILED)
        assert reports.said[-1][1].endswith("; running from memory")
        assert not stored.done()
        disk.mend()
        await stored
        await until(lambda: reports.state is State.OK)
        assert await alarms(outbox) == 2


@pytest.mark.parametrize("killed", [False, True])
async def test_alarms_are_read_from_a_disk_that_is_read_only(disk: Disk, killed: bool) -> None:
    """They go out though nothing can be written; it is said, and over once the disk is writable."""
    make, reports = Maker(), Reports()
    path = disk.point / "state" / "outbox.db"
    async with running_outbox(path) as outbox:
        await outbox.store(
            Batch(messages=(make(), make(POSITION, "position")), records={("alarm", "a"): "1"})
        )
        shutil.copytree(path.parent, disk.point / "killed")
    if killed:
        path = disk.point / "killed" / "outbox.db"
    disk.unmount()
    disk.mount("-o", "ro")
    async with running_outbox(path, reports) as outbox:
        assert reports.said == [(State.FAILED, "the disk is read-only; running from memory")]
        assert await alarms(outbox) == 1
        assert await outbox.records("alarm") == {"a": "1"}
        assert await outbox.page(POSITION, (), 10) is None
        run("mount", "-o", "remount,rw", str(disk.point))
        await outbox.store(Batch(messages=(make(),)))
        assert reports.state is State.OK
        assert await alarms(outbox) == 2


async def test_a_file_system_mounted_over_the_outbox_keeps_what_is_on_it(disk: Disk) -> None:
    """A daemon that began before its disk was there goes on with what it finds, and overwrites nothing."""
    make = Maker()
    path = disk.point / "outbox.db"
    async with running_outbox(path) as outbox:
        await outbox.store(Batch(messages=(make(),)))
    disk.unmount()
    run("mount", "-o", "remount,bind,rw", str(disk.point))
    replaced: list[bool] = []
    async with running_outbox(path) as outbox:
        outbox.on_replaced = lambda: replaced.append(True)
        await outbox.store(Batch(messages=(make(),)))
        disk.mount()
        await outbox.store(Batch(messages=(make(),)))
        assert await alarms(outbox) == 2
        assert replaced == [True]


def test_what_was_confirmed_while_a_full_disk_did_not_take_it_is_not_stored_later() -> None:
    """Its row would stay for ever: nobody waits for its PUBACK any more."""
    message, pending = Maker()(POSITION, "position"), Pending()
    pending.put(Work(messages={message.id: message}))
    work, waiting, _ = pending.take()
    pending.confirm({message.id}, failed=False)
    _, later = work.without_lower()
    pending.done(waiting, later, {}, None)
    pending.take()
    pending.return_left()
    work, _, _ = pending.take()
    assert not work.messages
