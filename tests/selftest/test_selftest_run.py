"""The self-test as a whole: with and without a daemon, installed and from a clone, when something hangs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from end_to_end.conftest import heard
from end_to_end.ops import Ops
from looking import ADDRESS, KEY, RUNNING, OnDisk, loaded, machine, systemd

from gatewayd.config.load import keep
from gatewayd.core.topic import Kind
from gatewayd.edge.clock import Clock, KernelSync
from gatewayd.selftest.machine import Machine, Process
from gatewayd.selftest.row import Finding, Row, Source, Subject, Verdict, ok
from gatewayd.selftest.run import Result, examine
from gatewayd.selftest.site import Options, Site
from gatewayd.sim import world as sim
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.broker import free_port
from gatewayd.sim.world import World

ALONE = frozenset({Subject.GPS, Subject.MIC})  # what only one program can use at a time
GOOD = f"""\
[gateway]
id = gw-1
[mqtt]
brokers = 127.0.0.1:{{port}}
[tag nurse-1-tag]
address = {ADDRESS}
[gps]
source = serial:/dev/gps
[gpio]
buzzer = 4
power_sense = 27
"""


class Here(OnDisk):
    """This machine, without the daemons of other tests, which give their microphones the same name."""

    def processes(self) -> Iterator[Process]:
        return (process for process in super().processes() if self._descends(process.pid))

    def _descends(self, pid: int) -> bool:
        while pid not in {0, os.getpid()}:
            status = self.text(f"/proc/{pid}/status")
            pid = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")), 0)
        return pid != 0


def row(result: Result, subject: Subject) -> Row:
    (found,) = (each for each in result.rows if each.subject is subject)
    return found


def sources(row: Row) -> set[Source]:
    return {finding.source for finding in row.findings}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short name: sockets lie in it."""
    with TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


@pytest.fixture
async def world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The surroundings of a gateway, for this process too; the tag is near."""
    world = World(folder)
    async with world.up():
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        yield world


def options(world: World, *only: Subject, listen_s: float = 8.0) -> Options:
    return Options(
        config=world.configuration,
        state=world.state,
        own_state=world.state,
        credentials=world.folder / "credentials",
        only=frozenset(only or Subject),
        listen_s=listen_s,
    )


@asynccontextmanager
async def tag_near(world: World) -> AsyncIterator[None]:
    """The tag says once a second that it is there."""

    async def beat() -> None:
        while True:
            await world.order(do="heartbeat", address=sim.ADDRESS, key=sim.KEY)
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


async def test_without_a_daemon_everything_is_measured(world: World) -> None:
    """The receiver's time included, which this machine may lack otherwise."""
    async with tag_near(world):
        result = await examine(options(world), Here())
    assert [each.subject for each in result.rows] == list(Subject)
    for subject in (
        Subject.CONFIGURATION,
        Subject.RADIO,
        Subject.GPS,
        Subject.MIC,
        Subject.BROKER,
        Subject.DISK,
    ):
        assert row(result, subject).verdict is Verdict.OK, row(result, subject)
    assert row(result, Subject.CLOCK).verdict is Verdict.OK
    assert {source for each in result.rows for source in sources(each)} == {Source.MEASURED}
    assert sim.TAG in row(result, Subject.RADIO).findings[0].found
    assert result.status == 0


async def test_beside_a_running_daemon_nothing_is_taken_from_it(world: World) -> None:
    """It is asked for what only it can use; it keeps its session, its receiver and its microphone."""
    async with heard(world) as ops, tag_near(world):
        await world.start()
        await ops.ready()
        await ops.until("all well", lambda: states(ops.health()) <= {"ok", "off"})
        session, before = ops.status()["session"], len(ops.heard)
        result = await examine(options(world), Here())
        for subject in ALONE:
            assert row(result, subject).worst_first[0].source is Source.DAEMON
            assert row(result, subject).verdict is Verdict.OK
        assert "not measured while the daemon runs" in row(result, Subject.MIC).findings[1].found
        assert "fix from" in row(result, Subject.GPS).findings[0].found
        assert "health message of" in row(result, Subject.GPS).findings[0].found
        assert sources(row(result, Subject.RADIO)) == {Source.MEASURED}
        assert row(result, Subject.BROKER).verdict is Verdict.OK
        assert_undisturbed(ops, session, before)
        await world.press(for_s=0)
        alarm = await ops.raised()
        await ops.until("sound", lambda: ops.chunks(alarm))


def assert_undisturbed(ops: Ops, session: object, before: int) -> None:
    """No word of offline, no new session, no outage; of alarms only the withdrawal of one that never was."""
    told = ops.heard[before:]
    assert ops.status()["session"] == session
    assert [each for each in told if each.where.kind is Kind.STATUS] == []
    assert [each.payload for each in told if each.where.alarm is not None] == [b""]
    for health in (each.body for each in told if each.where.kind is Kind.HEALTH):
        assert states(health) <= {"ok", "off"}


def states(health: dict[str, Any]) -> set[str]:
    """How the components are, by a health message; odd where there is none yet."""
    return {part["state"] for part in health.get("components", {"none": {"state": "unknown"}}).values()}


async def test_a_daemon_of_a_clone_whose_broker_is_gone_cannot_be_asked(world: World) -> None:
    """That is said, and its receiver is left alone all the same."""
    async with heard(world) as ops:
        await world.start()
        await ops.ready(fix=False)
    world.broker.stop()
    result = await examine(options(world, *ALONE), Here())
    for subject in ALONE:
        finding = row(result, subject).worst_first[0]
        assert (finding.verdict, finding.source) == (Verdict.WARN, Source.MEASURED)
        assert "could not be read" in finding.found
        assert f"gatewayd selftest --only {subject}" in finding.do


# --- installed ----------------------------------------------------------------------------------------------


STATUS = (
    "hearing 0 tags, offline, 0 waiting, gps degraded: no fix from /dev/gps, 2 satellites,"
    " uplink failed: no broker, power degraded: external power lost, on battery"
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which the service runs, and says what it lacks."""
    files = {
        "/etc/gatewayd/gatewayd.conf": GOOD.format(port=free_port()),
        "/var/lib/gatewayd/last_good.conf": "",
        "/dev/gps": "",
        "/proc/77/cmdline": "/usr/libexec/bluetooth/bluetoothd\0",
    }
    root = machine(tmp_path, files)
    (tmp_path / "dev/gps").chmod(0o666)
    units = {"gatewayd.service": RUNNING | {"StatusText": STATUS}, "bluetooth.service": {"MainPID": "77"}}
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", systemd(tmp_path / "bin", units))
    return root


def of_the_service(*only: Subject) -> Options:
    return Options(own_state=Path("/nowhere"), only=frozenset(only), listen_s=1.0)


async def test_a_service_is_asked_through_systemd_when_there_is_no_network(installed: Machine) -> None:
    """What its status line does not name is well, as it says."""
    result = await examine(
        of_the_service(*ALONE, Subject.GPIO, Subject.POWER, Subject.SERVICE, Subject.BROKER), installed
    )
    (gps,) = row(result, Subject.GPS).findings
    assert (gps.verdict, gps.source) == (Verdict.WARN, Source.DAEMON)
    assert gps.found == "no fix from /dev/gps, 2 satellites (in its status line)"
    assert "systemctl stop gatewayd; gatewayd selftest --only gps; systemctl start gatewayd" in gps.do
    mic = row(result, Subject.MIC).worst_first[0]
    assert (mic.verdict, mic.source) == (Verdict.OK, Source.DAEMON)
    assert row(result, Subject.SERVICE).verdict is Verdict.OK
    for subject in (Subject.BROKER, Subject.GPIO, Subject.POWER):
        assert Source.DAEMON in sources(row(result, subject))
    assert [each.found for each in row(result, Subject.BROKER).findings][1:] == [
        "no broker (in its status line)"
    ]
    assert "on battery" in row(result, Subject.POWER).worst_first[0].found


async def test_an_installed_gateway_is_read_from_where_it_is_installed(installed: Machine) -> None:
    """Its configuration, its credentials, its state."""
    result = await examine(
        of_the_service(Subject.CONFIGURATION, Subject.CREDENTIALS, Subject.DISK, Subject.INSTALLATION),
        installed,
    )
    assert (
        str(installed.root / "etc/gatewayd/gatewayd.conf")
        in row(result, Subject.CONFIGURATION).findings[0].found
    )
    assert row(result, Subject.CREDENTIALS).verdict is Verdict.OFF
    assert any(
        str(installed.root / "var/lib/gatewayd") in each.found for each in row(result, Subject.DISK).findings
    )
    lacking = [each.do for each in row(result, Subject.INSTALLATION).findings if "group" in each.found]
    assert [do.split()[2] for do in lacking] == ["bluetooth", "dialout", "audio", "gpio"]


async def test_a_bluetoothd_that_was_started_otherwise_is_told(installed: Machine) -> None:
    """Its own command line says so; a file that says otherwise counts too."""
    result = await examine(of_the_service(Subject.INSTALLATION), installed)
    assert any("experimental part" in each.found for each in row(result, Subject.INSTALLATION).findings)
    machine(installed.root, {"/etc/bluetooth/main.conf": "[General]\nExperimental = true\n"})
    result = await examine(of_the_service(Subject.INSTALLATION), installed)
    assert not any("experimental part" in each.found for each in row(result, Subject.INSTALLATION).findings)


async def test_a_credential_that_was_changed_since_the_start_is_told(installed: Machine) -> None:
    """The service has what systemd gave it then."""
    files = {
        "/etc/gatewayd/conf.d/tag.conf": "[tag nurse-1-tag]\nkey_credential = tag-key\n",
        "/etc/gatewayd/credentials/tag-key": KEY,
        "/run/credentials/gatewayd.service/gatewayd_tag-key": KEY[::-1],
    }
    (machine(installed.root, files).root / "etc/gatewayd/credentials").chmod(0o700)
    result = await examine(of_the_service(Subject.CREDENTIALS), installed)
    (changed, there, _) = row(result, Subject.CREDENTIALS).worst_first
    assert (changed.verdict, changed.do) == (Verdict.FAIL, "systemctl restart gatewayd")
    assert "tag-key" in there.found


async def test_the_daemons_time_counts_where_the_system_has_none(
    installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have learnt it from its receiver."""
    unknown = partial(
        Clock, sync=lambda: KernelSync(synchronised=False, max_error_us=0), rtc=Path("/nowhere")
    )
    monkeypatch.setattr("gatewayd.selftest.site.Clock", unknown)
    result = await examine(of_the_service(Subject.CLOCK), installed)
    (finding,) = row(result, Subject.CLOCK).findings
    assert (finding.verdict, finding.source) == (Verdict.OK, Source.DAEMON)


async def test_what_is_not_configured_is_not_looked_at(installed: Machine) -> None:
    machine(
        installed.root, {"/etc/gatewayd/conf.d/off.conf": "[gps]\nsource = none\n[audio]\nenabled = no\n"}
    )
    result = await examine(of_the_service(*ALONE), installed)
    assert [row(result, subject).verdict for subject in sorted(ALONE)] == [Verdict.OFF, Verdict.OFF]


async def test_a_port_that_the_service_may_not_use_is_told_though_it_runs(installed: Machine) -> None:
    (installed.root / "dev/gps").chmod(0o600)
    result = await examine(of_the_service(Subject.GPS), installed)
    assert row(result, Subject.GPS).verdict is Verdict.FAIL
    assert sources(row(result, Subject.GPS)) == {Source.MEASURED, Source.DAEMON}


async def test_a_service_that_does_not_run_has_its_devices_measured(
    installed: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is gone, pins without a library: and nobody is quoted."""
    (installed.root / "dev/gps").unlink()
    stopped = RUNNING | {"MainPID": "0", "ActiveState": "inactive", "StatusText": ""}
    monkeypatch.setenv("PATH", systemd(installed.root / "bin", {"gatewayd.service": stopped}))
    result = await examine(of_the_service(Subject.GPS, Subject.GPIO, Subject.SERVICE), installed)
    assert row(result, Subject.GPS).findings[0].found == "/dev/gps is not there"
    assert row(result, Subject.GPIO).verdict is Verdict.FAIL
    assert row(result, Subject.SERVICE).findings[0].do == "systemctl start gatewayd"
    assert {source for each in result.rows for source in sources(each)} == {Source.MEASURED}


# --- a bad configuration, and what hangs --------------------------------------------------------------------


async def test_a_bad_configuration_ends_with_78_and_the_rest_is_looked_at(
    system_bus: object, tmp_path: Path
) -> None:
    """As far as that is possible without knowing which broker and receiver are meant."""
    del system_bus
    (tmp_path / "bad.conf").write_text("[mqtt]\ntls = perhaps\n")
    only = {Subject.GPS, Subject.BROKER, Subject.CREDENTIALS, Subject.DISK, Subject.CLOCK}
    asked = Options(
        config=tmp_path / "bad.conf", state=tmp_path, own_state=tmp_path, only=frozenset(only), listen_s=1.0
    )
    result = await examine(asked, OnDisk())
    assert result.status == 78
    assert row(result, Subject.CONFIGURATION).verdict is Verdict.FAIL
    for subject in (Subject.GPS, Subject.BROKER, Subject.CREDENTIALS):
        assert row(result, subject).verdict is Verdict.OFF
    assert row(result, Subject.DISK).verdict is Verdict.OK
    assert "UTC" in row(result, Subject.CLOCK).findings[0].found


async def test_beside_a_bad_configuration_the_last_good_one_is_tested(tmp_path: Path) -> None:
    """As the daemon would run on it."""
    keep(loaded(GOOD.format(port=free_port())), tmp_path)
    (tmp_path / "bad.conf").write_text("[mqtt]\ntls = perhaps\n")
    asked = Options(
        config=tmp_path / "bad.conf",
        state=tmp_path,
        own_state=tmp_path,
        only=frozenset({Subject.BROKER}),
        listen_s=1.0,
    )
    result = await examine(asked, Machine())
    assert "starts on the last good one" in row(result, Subject.CONFIGURATION).findings[0].found
    assert "127.0.0.1" in row(result, Subject.BROKER).findings[0].found
    assert result.status == 78


async def test_what_hangs_gets_a_row_and_the_others_theirs(bluez: BlueZ, tmp_path: Path) -> None:
    bluez.hangs = {"RegisterMonitor"}
    (tmp_path / "good.conf").write_text(GOOD.format(port=free_port()))
    asked = Options(
        config=tmp_path / "good.conf",
        state=tmp_path,
        own_state=tmp_path,
        only=frozenset({Subject.RADIO, Subject.DISK}),
        listen_s=1.0,
    )
    began_s = time.monotonic()
    result = await examine(asked, OnDisk(), limit_s=1.5)
    assert time.monotonic() - began_s < 5
    assert "no answer within" in row(result, Subject.RADIO).findings[0].found
    assert "reboot" in row(result, Subject.RADIO).findings[0].do
    assert row(result, Subject.DISK).verdict is Verdict.OK
    assert (result.hangs, result.status) == (True, 1)


async def test_a_machine_that_hangs_as_a_whole_gets_its_rows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(_options: Options, _machine: Machine) -> Site:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(Site, "find", find)
    asked = Options(own_state=tmp_path, only=frozenset({Subject.DISK}), listen_s=1.0)
    result = await examine(asked, Machine(), limit_s=0.1)
    assert (row(result, Subject.DISK).verdict, result.hangs) == (Verdict.FAIL, True)


async def test_a_check_with_a_bug_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are as if nothing were."""

    async def broken(_site: Site) -> list[Finding]:
        raise ZeroDivisionError("a bug")

    async def fine(_site: Site) -> list[Finding]:
        return [ok("fine")]

    monkeypatch.setattr("gatewayd.selftest.run.CHECKS", {Subject.CLOCK: broken, Subject.DISK: fine})
    asked = Options(own_state=tmp_path, only=frozenset({Subject.CLOCK, Subject.DISK}), listen_s=1.0)
    result = await examine(asked, Machine(tmp_path))
    assert "ZeroDivisionError: a bug" in row(result, Subject.CLOCK).findings[0].found
    assert row(result, Subject.DISK).verdict is Verdict.OK


# --- the command --------------------------------------------------------------------------------------------


def gatewayd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gatewayd", "selftest", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def good(tmp_path: Path) -> tuple[str | Path, ...]:
    (tmp_path / "good.conf").write_text(GOOD.format(port=free_port()))
    return ("--config", tmp_path / "good.conf", "--state", tmp_path)


def test_a_program_reads_one_object(good: tuple[str | Path, ...]) -> None:
    run = gatewayd(*good, "--json", "--only", "disk", "--only", "configuration")
    assert run.returncode == 0, run.stderr
    read = json.loads(run.stdout)
    assert read["ok"] is True
    assert [row["subject"] for row in read["rows"]] == ["configuration", "disk"]


def test_a_failure_is_the_exit_status_1(good: tuple[str | Path, ...]) -> None:
    """And the last line names what failed."""
    run = gatewayd(*good, "--only", "broker")
    assert run.returncode == 1
    assert run.stdout.startswith("FAIL  broker")
    assert run.stdout.splitlines()[-1] == "broker failed"


def test_a_bad_configuration_is_the_exit_status_78(tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text("[mqtt]\ntls = perhaps\n")
    run = gatewayd("--config", tmp_path / "bad.conf", "--state", tmp_path, "--only", "disk")
    assert run.returncode == 78
    assert f"{tmp_path / 'bad.conf'}:2" in run.stdout


@pytest.mark.parametrize(
    "arguments", [("--only", "nonsense"), ("--listen-s", "99"), ("--listen-s", "soon"), ("--loud",)]
)
def test_wrong_usage_is_the_exit_status_2(arguments: tuple[str, ...]) -> None:
    run = gatewayd(*arguments)
    assert run.returncode == 2
    assert run.stderr
