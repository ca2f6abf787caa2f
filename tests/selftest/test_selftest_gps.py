"""The receiver's row: through real pyserial on a pseudo-terminal, and from what a machine's files say."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from looking import machine, said, worst

from gatewayd.config.model import Gps, GpsdSource, SerialSource
from gatewayd.core.model import ClockSource, Fix, FixMode, State
from gatewayd.edge.clock import Clock, KernelSync, boot_id
from gatewayd.selftest.gps import Heard, Port, judge, judge_port, listen, look_at_port, tty_name
from gatewayd.selftest.machine import Process
from gatewayd.selftest.row import Finding, Verdict
from gatewayd.sim.broker import free_port
from gatewayd.sim.gps import GpsReceiver

SOURCE = SerialSource(device="/dev/gps", baud=None)
HERE = Port(exists=True)


def settings(device: Path | str, baud: int | None = None) -> Gps:
    return Gps(source=SerialSource(device=str(device), baud=baud), publish="alarm")


def unsynchronised() -> Clock:
    return Clock(boot=boot_id(), sync=lambda: KernelSync(synchronised=False, max_error_us=0))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "gps"


@asynccontextmanager
async def plugged(receiver: GpsReceiver) -> AsyncIterator[None]:
    """A receiver that sends while the block lasts."""
    task = asyncio.create_task(receiver.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def found(source: Gps, listen_s: float = 15.0, clock: Clock | None = None) -> list[Finding]:
    clock = clock or unsynchronised()
    return judge(source, await listen(source, now=clock.now, learn=clock.learn, listen_s=listen_s))


async def test_a_fix_is_told_with_its_mode_satellites_and_age(device: Path) -> None:
    """The clock learns the time from it meanwhile, and three fixes are enough."""
    clock = unsynchronised()
    async with plugged(GpsReceiver(device, baud=115200, rate_hz=5)):
        verdict, text, _ = worst(await found(settings(device, 115200), clock=clock))
    assert verdict is Verdict.OK
    assert text.startswith(f"{device} at 115200 baud: 3d fix, 9 satellites, hdop 0.9, 0.")
    assert clock.state().source is ClockSource.GNSS


async def test_the_port_is_given_back(device: Path) -> None:
    receiver = GpsReceiver(device, baud=115200, rate_hz=5)
    async with plugged(receiver):
        await found(settings(device, 115200))
        descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


async def test_sentences_without_a_fix_are_told(device: Path) -> None:
    receiver = GpsReceiver(device, baud=115200, rate_hz=5)
    receiver.fix = False
    async with plugged(receiver):
        verdict, text, do = worst(await found(settings(device, 115200), 1.5))
    assert verdict is Verdict.WARN
    assert "sentences, but no fix in " in text
    assert text.endswith(", 0 satellites used")
    assert "sky" in do


async def test_bytes_that_are_no_sentences_are_told(device: Path) -> None:
    receiver = GpsReceiver(device, baud=115200, rate_hz=5)
    receiver.damaged = True
    async with plugged(receiver):
        verdict, text, do = worst(await found(settings(device, 115200), 1.5))
    assert verdict is Verdict.FAIL
    assert " bytes in " in text
    assert text.endswith("but no NMEA at 115200 baud")
    assert "baud" in do


async def test_another_rate_than_the_configured_one_is_found_and_told(device: Path) -> None:
    async with plugged(GpsReceiver(device, baud=9600)):
        heard = await listen(
            settings(device), now=(clock := unsynchronised()).now, learn=clock.learn, listen_s=15.0
        )
    verdict, text, do = worst(judge(settings(device, 115200), heard))
    assert verdict is Verdict.WARN
    assert "at 9600 baud" in text
    assert "configured: 115200" in text
    assert "@" in do


async def test_silence_is_a_matter_of_wiring(device: Path) -> None:
    receiver = GpsReceiver(device)
    receiver.silent = True
    async with plugged(receiver):
        verdict, text, do = worst(await found(settings(device), 1.0))
    assert (verdict, "nothing at all came from it" in text) == (Verdict.FAIL, True)
    assert "wiring" in do


async def test_a_port_that_does_not_open_is_told(tmp_path: Path) -> None:
    """Here: no terminal at all."""
    (tmp_path / "file").write_text("")
    verdict, text, do = worst(await found(settings(tmp_path / "file"), 1.0))
    assert verdict is Verdict.FAIL
    assert str(tmp_path / "file") in text
    assert "dmesg" in do


async def test_a_receiver_that_gives_no_credible_date_is_told(device: Path) -> None:
    """A week number that rolled over is 19.6 years behind."""
    async with plugged(GpsReceiver(device, baud=115200, rate_hz=5, wall=lambda: 1_150_000_000.0)):
        verdict, text, do = worst(await found(settings(device, 115200)))
    assert (verdict, "date" in text) == (Verdict.WARN, True)
    assert "firmware" in do


async def test_a_gpsd_that_is_not_there_is_told() -> None:
    source = Gps(source=GpsdSource(host="127.0.0.1", port=free_port()), publish="alarm")
    verdict, text, do = worst(await found(source, 1.0))
    assert (verdict, "is gpsd running?" in text) == (Verdict.FAIL, True)
    assert "systemctl status gpsd" in do


async def test_a_gpsd_without_a_receiver_is_told() -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"class":"VERSION"}\r\n')
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        source = Gps(source=GpsdSource(host="127.0.0.1", port=port), publish="alarm")
        verdict, text, do = worst(await found(source, 0.5))
        await left.wait()
    assert (verdict, "no sentence in" in text) == (Verdict.FAIL, True)
    assert "cgps" in do


def test_no_receiver_is_looked_for_where_none_is_configured() -> None:
    assert worst(judge(Gps(source=None, publish="alarm"), Heard()))[0] is Verdict.OFF


def test_a_receiver_that_simulates_is_told() -> None:
    fix = Fix(mode=FixMode.FIX_2D, lat=52.0, lon=4.3, simulated=True)
    heard = Heard(sentences=9, bauds=(9600,), fixes=1, last=fix, said=(State.OK, "fix"))
    verdict, text, _ = worst(judge(settings("/dev/gps"), heard))
    assert (verdict, "simulated" in text) == (Verdict.WARN, True)


# --- the port from outside ----------------------------------------------------------------------------------


def test_a_port_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """On a Pi with how to switch its UART on."""
    root = machine(tmp_path, {"/dev/serial/by-id/usb-u-blox_7-if00": "", "/dev/ttyACM0": ""})
    port = look_at_port("/dev/gps", root, getty=False, groups=None)
    verdict, text, do = worst(judge_port(SOURCE, port, daemon=None, pi=False))
    assert (verdict, text) == (Verdict.FAIL, "/dev/gps is not there")
    assert "usb-u-blox_7-if00" in do
    assert "raspi-config" not in do
    nothing = look_at_port("/dev/gps", machine(tmp_path / "empty"), getty=False, groups=None)
    verdict, _, do = worst(judge_port(SOURCE, nothing, daemon=None, pi=True))
    assert verdict is Verdict.FAIL
    assert "raspi-config nonint do_serial_hw 0" in do


@pytest.mark.parametrize(
    ("cmdline", "console"),
    [
        ("console=ttyAMA0,115200 console=tty1 root=/dev/mmcblk0p2", "console=ttyAMA0,115200"),
        ("root=/dev/sda console=ttyAMA0", "console=ttyAMA0"),
        ("console=tty1", ""),
        ("console=ttyAMA01", ""),
        ("xconsole=ttyAMA0", ""),
    ],
)
def test_the_kernels_console_is_read_from_its_command_line(
    tmp_path: Path, cmdline: str, console: str
) -> None:
    """By the port that /dev/gps points to."""
    root = machine(tmp_path, {"/proc/cmdline": f"{cmdline}\n", "/dev/ttyAMA0": ""})
    (tmp_path / "dev/gps").symlink_to("ttyAMA0")
    assert look_at_port("/dev/gps", root, getty=False, groups=None).console == console
    assert tty_name(tmp_path / "dev/gps") == "ttyAMA0"


@pytest.mark.parametrize(
    "port",
    [
        replace(HERE, console="console=ttyAMA0,115200"),
        replace(HERE, getty=True),
        replace(HERE, holders=(Process(pid=9, arguments=("/sbin/agetty", "-o", "ttyAMA0")),)),
    ],
)
def test_a_serial_console_on_the_port_is_told(port: Port) -> None:
    """By each of its signs, once."""
    row = said(judge_port(SOURCE, port, daemon=None, pi=True))
    (finding,) = row.findings
    assert row.verdict is Verdict.FAIL
    assert "is the serial console" in finding.found
    assert "raspi-config nonint do_serial_cons 1" in finding.do
    (elsewhere,) = judge_port(SOURCE, port, daemon=None, pi=False)
    assert "systemctl disable --now serial-getty@gps" in elsewhere.do


def test_another_program_that_has_the_port_is_named() -> None:
    other = Process(pid=9, arguments=("/usr/bin/minicom",))
    verdict, text, do = worst(judge_port(SOURCE, replace(HERE, holders=(other,)), daemon=None, pi=False))
    assert (verdict, "minicom" in text) == (Verdict.FAIL, True)
    assert "kill 9" in do


def test_gpsd_on_the_port_is_to_be_the_source() -> None:
    gpsd = Process(pid=9, arguments=("/usr/sbin/gpsd", "-n"))
    do = worst(judge_port(SOURCE, replace(HERE, holders=(gpsd,)), daemon=None, pi=False))[2]
    assert "gpsd://localhost" in do


def test_the_daemon_may_have_its_port() -> None:
    ours = Process(pid=9, arguments=("python3", "/usr/bin/gatewayd", "run"))
    assert judge_port(SOURCE, replace(HERE, holders=(ours,)), daemon=9, pi=False) == []


@pytest.mark.parametrize(
    ("mode", "ours", "permitted"),
    [(0o660, True, True), (0o660, False, False), (0o600, True, False), (0o666, False, True)],
)
def test_the_service_must_be_let_at_the_port(tmp_path: Path, mode: int, ours: bool, permitted: bool) -> None:
    root = machine(tmp_path, {"/dev/gps": ""})
    (tmp_path / "dev/gps").chmod(mode)
    group = (tmp_path / "dev/gps").stat().st_gid
    port = look_at_port("/dev/gps", root, getty=False, groups=frozenset({group if ours else group + 1}))
    assert port.permitted is permitted
    findings = judge_port(SOURCE, port, daemon=None, pi=False)
    assert bool(findings) is not permitted
    if findings:
        assert "usermod -aG dialout gatewayd" in findings[0].do


def test_who_has_a_real_port_open_is_seen(device: Path) -> None:
    """As /proc of this machine tells it."""
    receiver = GpsReceiver(device)
    receiver.plug()
    reader = (
        "import os,sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(device)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        port = look_at_port(str(device), machine(Path("/")), getty=False, groups=None)
        assert [holder.pid for holder in port.holders] == [other.pid]
        other.communicate()
    receiver.unplug()
