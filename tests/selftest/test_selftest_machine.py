"""The machine's rows: disk, clock, supply and pins."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory
from looking import OnDisk, loaded, machine, program, said, worst

from gatewayd.core.health import HostFacts
from gatewayd.core.model import ClockSource, ClockState, State
from gatewayd.edge.clock import Clock, boot_id
from gatewayd.edge.outbox.file import SCHEMA_VERSION, open_database
from gatewayd.selftest import clock, disk, gpio, power
from gatewayd.selftest.disk import Disk, Outbox
from gatewayd.selftest.gpio import Tried
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.power import Power
from gatewayd.selftest.row import Finding, Verdict
from gatewayd.timekeeper import RECORD

ROW = (
    "INSERT INTO message (id, class, topic, body, boot, mono, wall, source, uncertainty, run, seq, retain,"
    " replaces, clears, size) VALUES (?, ?, 'position', '{}', 'b', 1, 1, 'ntp', 1, 'r', 1, 0, 0, 0, 400)"
)

# --- disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with an empty outbox, as a daemon leaves it."""
    folder = tmp_path / "state"
    open_database(folder / "outbox.db").close()
    return folder


def found(folder: Path) -> list[Finding]:
    return disk.judge(disk.look(folder, folder / "outbox.db", 10**6, OnDisk()), user_id=os.getuid())


def store(folder: Path, *classes: str) -> None:
    with closing(sqlite3.connect(folder / "outbox.db")) as connection:
        connection.executemany(ROW, ((str(number), name) for number, name in enumerate(classes)))
        connection.commit()


def test_a_disk_that_is_well_says_how_fast_it_is_and_what_waits(state: Path) -> None:
    """And nothing is left behind in it."""
    before = set(state.iterdir())
    row = said(found(state))
    assert row.verdict is Verdict.OK
    assert f"{state} (" in row.findings[0].found
    assert "takes a write in" in row.findings[0].found
    assert row.findings[-1].found == "0 messages waiting in the outbox (0 B)"
    assert {path for path in state.iterdir() if "selftest" in path.name} == set()
    assert before <= set(state.iterdir())


def test_alarms_that_wait_are_told(state: Path) -> None:
    """Positions that wait are nothing to worry about."""
    store(state, "position", "position")
    assert worst(found(state))[0] is Verdict.OK
    with closing(sqlite3.connect(state / "outbox.db")) as connection:
        connection.execute("UPDATE message SET class = 'alarm' WHERE id = '0'")
        connection.commit()
    verdict, text, do = worst(found(state))
    assert verdict is Verdict.WARN
    assert text.startswith("2 messages waiting in the outbox (800 B), 1 of them of alarms")
    assert "row broker" in do


def test_an_outbox_can_be_read_while_somebody_writes_to_it(state: Path) -> None:
    with closing(open_database(state / "outbox.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(ROW, ("1", "alarm"))
        assert worst(found(state))[0] is Verdict.OK
        writer.commit()
        assert worst(found(state))[0] is Verdict.WARN


def test_an_outbox_of_a_newer_version_is_told_and_left_alone(state: Path) -> None:
    with closing(sqlite3.connect(state / "outbox.db")) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    verdict, text, do = worst(found(state))
    assert (verdict, f"of version {SCHEMA_VERSION + 1}, newer" in text) == (Verdict.FAIL, True)
    assert "newer package" in do


def test_a_damaged_outbox_is_told(state: Path) -> None:
    """Whether it is no database at all or one with a hole."""
    store(state, *["position"] * 2000)
    with closing(sqlite3.connect(state / "outbox.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (state / "outbox.db").read_bytes()
    for damaged in (
        b"no database" * 1000,
        whole[:8192] + bytes(len(whole) // 2) + whole[8192 + len(whole) // 2 :],
    ):
        for ending in ("-wal", "-shm"):
            (state / f"outbox.db{ending}").unlink(missing_ok=True)
        (state / "outbox.db").write_bytes(damaged)
        verdict, text, do = worst(found(state))
        assert (verdict, "damaged" in text) == (Verdict.FAIL, True)
        assert "systemctl restart gatewayd" in do


def test_an_outbox_that_cannot_be_read_is_told(state: Path) -> None:
    """Here: of no version this program ever made."""
    (state / "outbox.db").unlink()
    with closing(sqlite3.connect(state / "outbox.db")) as connection:
        connection.execute("CREATE TABLE other (a)")
    verdict, text, _ = worst(found(state))
    assert (verdict, "could not be read" in text) == (Verdict.WARN, True)


def test_a_check_that_takes_too_long_is_given_up_and_said_to_be(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "CHECK_S", -1.0)
    monkeypatch.setattr(disk, "_STEPS", 1)
    verdict, text, _ = worst(found(state))
    assert verdict is Verdict.OK
    row = said(found(state))
    assert "too big to be checked whole" in row.findings[-1].found, text


def test_a_folder_that_takes_no_file_is_told() -> None:
    """In the system's words."""
    verdict, text, do = worst(found(Path("/proc/self")))
    assert (verdict, "cannot be written: " in text) == (Verdict.FAIL, True)
    assert "sudo gatewayd selftest" in do


def test_a_state_that_is_not_there_yet_is_made_by_the_daemon(tmp_path: Path) -> None:
    verdict, text, _ = worst(found(tmp_path / "not" / "yet"))
    assert (verdict, "not there yet" in text) == (Verdict.OK, True)


def test_what_was_set_aside_is_told(state: Path) -> None:
    """Once, however many files it has."""
    for ending in ("", "-wal", "-shm"):
        (state / f"outbox.db.corrupt-20260301T120000Z{ending}").write_text("")
    verdict, text, do = worst(found(state))
    assert verdict is Verdict.WARN
    assert text.endswith(": outbox.db.corrupt-20260301T120000Z")
    assert "SD card" in do


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    """With its name's spaces as the kernel writes them."""
    space = tmp_path / "a b"
    space.mkdir()
    escaped = str(space).replace(" ", "\\040")
    mounts = (
        "21 1 179:2 / / rw - overlay overlay rw\n"
        f"22 21 179:3 / {escaped} rw,noatime - ext4 /dev/mmcblk0p3 rw\n"
        "23 21 0:21 / /nowhere rw - tmpfs tmpfs rw\nodd\n"
    )
    root = machine(tmp_path / "root", {"/proc/self/mountinfo": mounts})
    for folder, on, expected in (
        (space, root, "ext4"),
        (tmp_path, root, "overlay"),
        (tmp_path, machine(tmp_path / "none"), ""),
    ):
        assert disk.look(folder, folder / "outbox.db", 10**6, on).filesystem == expected


WELL = Disk(
    folder=Path("/var/lib/gatewayd"),
    exists=True,
    owner=999,
    filesystem="ext4",
    free_bytes=10**10,
    budget_bytes=10**9,
    sync_s=0.01,
)
OUTBOX = Outbox(version=SCHEMA_VERSION, check="ok", owner=999)


@pytest.mark.parametrize(
    ("looked", "verdict", "text", "do"),
    [
        (WELL, Verdict.OK, "takes a write in 10 ms, 10 GB free", ""),
        (replace(WELL, read_only=True), Verdict.FAIL, "read-only", "partition"),
        (replace(WELL, owner=0), Verdict.FAIL, "does not belong to", "chown -R gatewayd:"),
        (
            replace(WELL, outbox=replace(OUTBOX, owner=0)),
            Verdict.FAIL,
            "does not belong to",
            "chown -R gatewayd:",
        ),
        (
            replace(WELL, sync_s=None, problem="No space left on device"),
            Verdict.FAIL,
            "cannot be written: No space left",
            "df -h",
        ),
        (replace(WELL, sync_s=0.9), Verdict.WARN, "900 ms", "SD card"),
        (replace(WELL, filesystem="overlay"), Verdict.WARN, "lost when the power goes", "partition"),
        (replace(WELL, filesystem="tmpfs"), Verdict.WARN, "lost when the power goes", "partition"),
        (replace(WELL, free_bytes=10**6), Verdict.FAIL, "only 1 MB are free", "make room"),
        (
            replace(WELL, free_bytes=10**8, outbox=replace(OUTBOX, size_bytes=10**8)),
            Verdict.WARN,
            "less than the outbox may take",
            "[outbox] budget",
        ),
        (
            replace(WELL, free_bytes=10**8, outbox=replace(OUTBOX, size_bytes=95 * 10**7)),
            Verdict.OK,
            "takes a write",
            "",
        ),
    ],
)
def test_a_disk_is_judged(looked: Disk, verdict: Verdict, text: str, do: str) -> None:
    got = worst(disk.judge(looked, user_id=999))
    assert got[0] is verdict
    assert text in got[1]
    assert do in got[2]


# --- clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "rtc", "verdict", "text"),
    [
        (ClockSource.NTP, True, Verdict.OK, "synchronised by the system to 7 ms; a real-time clock is there"),
        (ClockSource.NTP, False, Verdict.OK, "no real-time clock"),
        (ClockSource.GNSS, False, Verdict.OK, "the receiver gives the time"),
        (ClockSource.RTC, True, Verdict.WARN, "from the real-time clock alone"),
        (ClockSource.NONE, False, Verdict.FAIL, "nothing says that it is true"),
        (ClockSource.NONE, True, Verdict.FAIL, "nothing says that it is true"),
    ],
)
def test_a_clock_is_judged_by_its_source(source: ClockSource, rtc: bool, verdict: Verdict, text: str) -> None:
    """And what to do names the battery only where there is a clock for it."""
    known = ClockState(boot="b", offset_s=0.0, source=source, uncertainty_ms=7)
    got = worst(clock.judge(known, 1_772_366_400.0, rtc=rtc))
    assert got[0] is verdict
    assert got[1].startswith("2026-03-01 12:00:00 UTC")
    assert text in got[1]
    if source is ClockSource.NONE:
        assert "timedatectl" in got[2]
        assert ("battery" in got[2]) is rtc


def test_what_the_daemon_remembers_of_the_real_time_clock_counts(state: Path) -> None:
    """Without its outbox, or with a damaged record, nothing does."""
    assert clock.rtc_was_right_s(state / "none.db") is None
    assert clock.rtc_was_right_s(state / "outbox.db") is None
    for value, expected in (("1772366400.0", 1_772_366_400.0), ("lately", None)):
        with closing(sqlite3.connect(state / "outbox.db")) as connection:
            connection.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (*RECORD, value))
            connection.commit()
        assert clock.rtc_was_right_s(state / "outbox.db") == expected


def test_a_real_time_clock_is_found_by_its_folder(tmp_path: Path) -> None:
    assert not clock.has_rtc(Machine(tmp_path))
    assert clock.has_rtc(machine(tmp_path, {"/sys/class/rtc/rtc0/since_epoch": "1\n"}))


# --- power --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looked", "verdict", "text"),
    [
        (Power(undervoltage=None, logged=0, temperature_c=None), Verdict.OFF, "does not tell"),
        (Power(undervoltage=False, logged=0, temperature_c=51.2), Verdict.OK, "no undervoltage"),
        (Power(undervoltage=True, logged=4, temperature_c=51.2), Verdict.WARN, "undervoltage now"),
        (Power(undervoltage=False, logged=1, temperature_c=51.2), Verdict.WARN, "once since the boot"),
        (Power(undervoltage=False, logged=4, temperature_c=51.2), Verdict.WARN, "4 times since the boot"),
        (Power(undervoltage=False, logged=0, temperature_c=82.0), Verdict.WARN, "82 °C"),
    ],
)
def test_a_supply_is_judged(looked: Power, verdict: Verdict, text: str) -> None:
    got = worst(power.judge(looked))
    assert got[0] is verdict
    assert text in got[1]
    if "undervoltage" in text and verdict is Verdict.WARN:
        assert "supply" in got[2]


async def test_the_kernels_log_is_asked_where_a_machine_tells_of_its_voltage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "journalctl", "echo 'hwmon hwmon1: Undervoltage detected!'\necho the same again")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (await power.look(HostFacts(undervoltage=False))).logged == 2
    assert (await power.look(HostFacts(undervoltage=None))).logged == 0


# --- gpio ---------------------------------------------------------------------------------------------------

WIRED = loaded("[gateway]\nid = a\n[gpio]\npanic_button = 17\npower_sense = 27\nbuzzer = 4\n").config.gpio
BARE = loaded("[gateway]\nid = a\n").config.gpio


def test_without_pins_the_missing_library_is_said_and_no_failure() -> None:
    verdict, text, _ = worst(gpio.judge_hardware(BARE, (), ()))
    assert (verdict, text) == (Verdict.OFF, "no pin is configured; no pin library (lgpio)")


def test_with_pins_the_library_and_a_chip_are_needed() -> None:
    assert worst(gpio.judge_hardware(WIRED, ("lgpio",), ("gpiochip0",)))[0] is Verdict.OK
    verdict, text, do = worst(gpio.judge_hardware(WIRED, (), ("gpiochip0",)))
    assert (verdict, "no pin library (lgpio)" in text) == (Verdict.FAIL, True)
    assert "apt install python3-lgpio" in do
    verdict, text, do = worst(gpio.judge_hardware(WIRED, ("lgpio",), ()))
    assert (verdict, "no GPIO chip" in text) == (Verdict.FAIL, True)
    assert "/dev/gpiochip" in do


def test_libraries_and_chips_are_found(tmp_path: Path) -> None:
    """Libraries without importing them, which may touch the hardware."""
    assert set(gpio.libraries()) <= set(gpio.LIBRARIES)
    root = machine(tmp_path, {"/dev/gpiochip4": "", "/dev/gpiochip0": "", "/dev/gpiomem": ""})
    assert gpio.chips(root) == ("gpiochip0", "gpiochip4")


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> MockFactory:
    factory = MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    return factory


async def tried_with(pins: MockFactory, *, button_down: bool, power: bool) -> Tried:
    """What is read of wires that hold the pins (opening a mock pin sets it by its pull)."""
    trying = asyncio.create_task(gpio.try_inputs(WIRED, Clock(boot=boot_id())))
    while len(pins.pins) < 2:  # noqa: ASYNC110 - they are opened in a thread
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    if button_down:
        pins.pin(17).drive_low()
    if power:
        pins.pin(27).drive_high()
    return await trying


async def test_inputs_are_read_and_outputs_left_alone(pins: MockFactory) -> None:
    """A buzzer must not sound because somebody looks."""
    tried = await tried_with(pins, button_down=False, power=True)
    assert (tried.said and tried.said[0], tried.pressed, tried.power) == (State.OK, False, True)
    assert {number for number, pin in pins.pins.items() if pin.function == "output"} == set()
    assert worst(gpio.judge_inputs(WIRED, tried)) == (Verdict.OK, "external power is there", "")


async def test_a_button_that_is_down_and_power_that_is_lost_are_told(pins: MockFactory) -> None:
    row = said(gpio.judge_inputs(WIRED, await tried_with(pins, button_down=True, power=False)))
    texts = [finding.found for finding in row.findings]
    assert row.verdict is Verdict.WARN
    assert any("panic button is down" in text for text in texts)
    assert any("no external power" in text for text in texts)


async def test_pins_that_do_not_open_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pin library says."""

    class Broken(MockFactory):  # type: ignore[misc]  # gpiozero has no types
        def pin(self, name: object) -> object:
            raise gpiozero.PinUnsupported(f"no pin {name} here")

    monkeypatch.setattr(gpiozero.Device, "pin_factory", Broken())
    tried = await gpio.try_inputs(WIRED, Clock(boot=boot_id()))
    verdict, text, do = worst(gpio.judge_inputs(WIRED, tried))
    assert (verdict, "here" in text) == (Verdict.FAIL, True)
    assert "python3-lgpio" in do


def test_pins_that_hang_are_told() -> None:
    verdict, text, _ = worst(gpio.judge_inputs(WIRED, Tried()))
    assert (verdict, "did not open" in text) == (Verdict.FAIL, True)


def test_outputs_alone_need_not_be_read() -> None:
    """There is nothing to read them for."""
    only = replace(BARE, buzzer=4)
    assert gpio.judge_inputs(only, Tried(said=(State.OFF, "not configured"))) == []


def test_every_combination_of_inputs_has_an_answer() -> None:
    for state_, pressed, there in itertools.product(State, (False, True), (None, False, True)):
        tried = Tried(said=(state_, "so it is"), pressed=pressed, power=there)
        if findings := gpio.judge_inputs(WIRED, tried):
            said(findings)
