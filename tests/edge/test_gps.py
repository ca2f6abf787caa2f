"""The GPS edge on real pyserial and a pseudo-terminal, over TCP, and behind the real gpsd."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import serial

from gatewayd.config.model import Gps as Settings
from gatewayd.config.model import GpsdSource, SerialSource
from gatewayd.core.model import ClockSource, Fix, FixMode, Instant, State
from gatewayd.edge.gps import TICK_S, Gps
from gatewayd.sim.gps import GpsReceiver

# Ten seconds of silence are a fault: a clock this many times faster makes a test of it short. It is not so
# fast that a receiver with ten epochs a second, which is one tenth of a second real time, seems silent.
FASTER = 10.0
PARKED = ((52.0116, 4.3571),)
LIMIT_S = 15.0  # real; on a busy machine
NOISE_BYTES = 10**6 if os.environ.get("GATEWAYD_LONG") else 50_000


OpenPort = Callable[..., serial.Serial]


class Watcher:
    """Runs the edge and keeps what it tells."""

    def __init__(
        self, source: SerialSource | GpsdSource | None, *, faster: float, open_port: OpenPort
    ) -> None:
        self.fixes: list[Fix] = []
        self.told: list[tuple[State, str]] = []
        self.lives = 0
        self._faster = faster
        self._began_s = time.monotonic()
        self._edge = Gps(
            Settings(source=source, publish="alarm"),
            on_fix=self.fixes.append,
            report=lambda state, detail: self.told.append((state, detail)),
            alive=self._live,
            now=self.now,
            open_port=open_port,
        )
        self._task: asyncio.Task[None] | None = None

    def now(self) -> Instant:
        mono_s = (time.monotonic() - self._began_s) * self._faster
        return Instant(boot="b", mono_s=mono_s, wall_s=mono_s, source=ClockSource.NONE, uncertainty_ms=0)

    def _live(self) -> None:
        self.lives += 1

    async def run(self) -> None:
        await self._edge.run()

    @property
    def positions(self) -> int:
        return sum(fix.lat is not None for fix in self.fixes)

    def says(self, state: State, text: str = "") -> bool:
        return bool(self.told) and self.told[-1][0] is state and text in self.told[-1][1]

    async def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, (self.told, self.fixes[-1:])
            await asyncio.sleep(0.01)

    async def next_position(self) -> None:
        count = self.positions
        await self.until(lambda: self.positions > count)


@asynccontextmanager
async def watching(
    source: SerialSource | GpsdSource | None,
    receiver: GpsReceiver | None = None,
    *,
    faster: float = FASTER,
    open_port: OpenPort = serial.serial_for_url,
) -> AsyncIterator[Watcher]:
    watcher = Watcher(source, faster=faster, open_port=open_port)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watcher.run(), name="gps")]
        if receiver is not None:
            tasks.append(group.create_task(receiver.run(), name="receiver"))
        yield watcher
        for task in tasks:
            task.cancel()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "ttyGPS"


def receiver(
    device: Path, *, baud: int = 115200, rate_hz: float = 10.0, wall: Callable[[], float] = time.time
) -> GpsReceiver:
    return GpsReceiver(device, route=PARKED, baud=baud, rate_hz=rate_hz, wall=wall)


def port(device: Path, baud: int | None = 115200) -> SerialSource:
    return SerialSource(device=str(device), baud=baud)


async def test_a_fix_comes_from_a_receiver(device: Path) -> None:
    """Position, mode, error, and when it was received."""
    async with watching(port(device), receiver(device)) as watcher:
        await watcher.next_position()
        fix = watcher.fixes[-1]
        assert fix.mode is FixMode.FIX_3D
        assert (fix.lat, fix.lon) == PARKED[0]
        assert fix.eph_m is not None
        assert fix.received is not None
        await watcher.until(lambda: watcher.says(State.OK, "at 115200 baud"))


async def test_a_fix_does_not_wait_for_the_next_epoch(device: Path) -> None:
    """A receiver with one epoch in ten seconds: its pause is enough."""
    simulated = receiver(device, rate_hz=0.1)
    simulated.plug()
    async with watching(port(device), faster=1.0) as watcher:
        await watcher.until(lambda: watcher.says(State.DEGRADED, "waiting"))
        sending = asyncio.create_task(simulated.run())
        await asyncio.wait_for(watcher.next_position(), 3.0)
        sending.cancel()


@pytest.mark.parametrize("baud", [115200, 4800])
async def test_the_baud_rate_is_found(device: Path, baud: int) -> None:
    """None is configured: each is tried until sentences come."""
    async with watching(port(device, None), receiver(device, baud=baud, rate_hz=2.0), faster=4.0) as watcher:
        await watcher.until(lambda: watcher.says(State.OK, f"at {baud} baud"))


async def test_a_wrong_baud_rate_is_found_and_told(device: Path) -> None:
    """Ten seconds of garbage at the configured rate: the others are tried, and it is said."""
    async with watching(port(device, 9600), receiver(device, baud=38400)) as watcher:
        await watcher.until(lambda: watcher.says(State.OK, "at 38400 baud, not 9600 as configured"))
        assert any("bytes but no sentence for 10 s" in detail for _, detail in watcher.told)


async def test_a_found_baud_rate_is_used_again_after_a_replug(device: Path) -> None:
    """Without another search."""
    simulated = receiver(device, baud=57600)
    async with watching(port(device, None), simulated) as watcher:
        await watcher.until(lambda: watcher.says(State.OK))
        simulated.unplug()
        await watcher.until(lambda: watcher.says(State.FAILED, "is it plugged in?"))
        simulated.plug()
        await watcher.until(lambda: watcher.says(State.OK, "at 57600 baud"))


async def test_an_unplugged_receiver_is_found_again(device: Path) -> None:
    """Told as failed, retried, and fixes come again."""
    simulated = receiver(device)
    async with watching(port(device), simulated) as watcher:
        for _ in range(2):
            await watcher.next_position()
            simulated.unplug()
            await watcher.until(lambda: watcher.says(State.FAILED, "is it plugged in?"))
            simulated.plug()
            await watcher.until(lambda: watcher.says(State.OK))
            await watcher.next_position()


async def test_a_missing_device_is_told_once_and_the_loop_lives(device: Path) -> None:
    """With what to do; no line a second."""
    async with watching(port(device)) as watcher:
        await watcher.until(lambda: watcher.lives >= 4)
        assert watcher.told == [
            (State.FAILED, f"{device}: No such file or directory; is it plugged in?"),
        ]


async def test_what_is_no_terminal_is_told() -> None:
    """Another kind of file in the device's place."""
    async with watching(port(Path("/dev/null"))) as watcher:
        await watcher.until(lambda: watcher.says(State.FAILED, "Inappropriate ioctl"))


async def test_a_port_that_another_program_holds_is_told(device: Path) -> None:
    """Two readers would each get half of every sentence."""
    async with watching(port(device), receiver(device)) as first:
        await first.next_position()
        async with watching(port(device)) as second:
            await second.until(lambda: second.says(State.FAILED, "another program holds it"))
        await first.next_position()


async def test_silence_is_told(device: Path) -> None:
    """Ten seconds without a sentence; then it is heard again."""
    simulated = receiver(device)
    async with watching(port(device), simulated) as watcher:
        await watcher.next_position()
        simulated.silent = True
        await watcher.until(lambda: watcher.says(State.DEGRADED, f"no sentence for 10 s from {device}"))
        simulated.silent = False
        await watcher.until(lambda: watcher.says(State.OK))


async def test_damaged_sentences_are_told_and_never_used(device: Path) -> None:
    """A loose wire: bytes, and no checksum that fits."""
    simulated = receiver(device)
    simulated.damaged = True
    async with watching(port(device), simulated) as watcher:
        await watcher.until(lambda: watcher.says(State.DEGRADED, "bytes but no sentence"))
        assert watcher.fixes == []


async def test_no_fix_is_told_after_ten_seconds(device: Path) -> None:
    """A garage: sentences come, each saying there is no fix."""
    simulated = receiver(device)
    async with watching(port(device), simulated) as watcher:
        await watcher.next_position()
        simulated.fix = False
        await watcher.until(lambda: watcher.says(State.DEGRADED, "baud, 0 satellites"))
        assert watcher.fixes[-1].mode is FixMode.NONE
        simulated.fix = True
        await watcher.until(lambda: watcher.says(State.OK))


async def test_a_rolled_over_week_is_told(device: Path) -> None:
    """The position is used, the date is not."""
    async with watching(port(device), receiver(device, wall=lambda: 1.1e9)) as watcher:
        await watcher.until(lambda: watcher.says(State.OK, "its date 2004-11-09 is before this release"))
        assert watcher.fixes[-1].utc_s is None


async def test_without_a_source_it_is_off() -> None:
    """And there is nothing to run."""
    watcher = Watcher(None, faster=FASTER, open_port=serial.serial_for_url)
    await watcher.run()
    assert watcher.told == [(State.OFF, "not configured")]


async def test_cancelling_gives_the_port_back(device: Path) -> None:
    """The next one can open it at once."""
    simulated = receiver(device)
    task = asyncio.create_task(simulated.run())
    for _ in range(2):
        async with watching(port(device)) as watcher:
            await watcher.next_position()
            assert all(state is not State.FAILED for state, _ in watcher.told[1:])
    task.cancel()


async def test_noise_does_not_leave_the_edge(device: Path) -> None:
    """Random bytes for a while, and then the receiver is understood."""
    ours, theirs = os.openpty()
    source = SerialSource(device=os.ttyname(theirs), baud=9600)
    try:
        async with watching(source, faster=1.0) as watcher:
            await watcher.until(lambda: watcher.says(State.DEGRADED, "waiting"))
            for _ in range(NOISE_BYTES // 1000):
                os.write(ours, os.urandom(1000))
                await asyncio.sleep(0.002)
            os.write(ours, GpsReceiver(device, route=PARKED).sentences(0.0))
            await watcher.next_position()
    finally:
        os.close(ours)
        os.close(theirs)


# --- over the network ---------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(greeting: bytes = b"") -> AsyncIterator[int]:
    """A receiver behind TCP, as a serial server or gpsd offers it, that hangs up after each epoch."""
    simulated = GpsReceiver(Path("unused"), route=PARKED)

    busy: set[asyncio.Task[None] | None] = set()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.current_task())
        writer.write(greeting)
        await asyncio.sleep(0.1)  # pyserial drops what came before its port was open
        writer.write(simulated.sentences(0.0))
        await asyncio.sleep(0.2)  # … and what came together with the end
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*(task for task in busy if task is not None))


async def test_a_port_may_be_a_url() -> None:
    """A serial server on the network, for an engineer's desk; each time it hangs up it is dialled again."""
    async with (
        serving() as number,
        watching(SerialSource(device=f"socket://127.0.0.1:{number}", baud=9600)) as watcher,
    ):
        for _ in range(2):
            await watcher.next_position()
        await watcher.until(lambda: any(state is State.FAILED for state, _ in watcher.told))


async def test_a_port_that_hangs_while_it_is_opened_is_told() -> None:
    """The loop lives on; a device that does not answer keeps only a thread waiting."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        with socket.create_connection(address):  # the one that fits in its backlog
            source = SerialSource(device=f"socket://127.0.0.1:{address[1]}", baud=9600)
            async with watching(source) as watcher:
                await watcher.until(lambda: watcher.says(State.FAILED, "hangs while it is opened"))
                assert watcher.lives > 0


async def test_a_port_that_hangs_while_it_is_closed_does_not_hold_up_a_stop(device: Path) -> None:
    """The daemon's stop waits a second for it; only a thread is left behind."""
    stopping, released = threading.Event(), threading.Event()

    class Hanging(serial.Serial):
        def close(self) -> None:
            if stopping.is_set():
                released.wait(LIMIT_S)
            super().close()

    async with watching(port(device), receiver(device), faster=1.0, open_port=Hanging) as watcher:
        await watcher.next_position()
        stopping.set()
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s
    released.set()
    assert 0.9 < took_s < 3.0


async def test_gpsd_is_asked_for_nmea_and_dialled_again() -> None:
    """Its JSON greeting is passed over; when it goes away it is told and retried."""
    greeting = b'{"class":"VERSION","release":"3.22","proto_major":3}\r\n{"class":"DEVICES","devices":[]}\r\n'
    async with (
        serving(greeting) as number,
        watching(GpsdSource(host="127.0.0.1", port=number)) as watcher,
    ):
        for _ in range(2):
            await watcher.next_position()
        closed = (State.FAILED, f"gpsd://127.0.0.1:{number}: gpsd closed the connection")
        await watcher.until(lambda: closed in watcher.told)


async def test_a_gpsd_that_is_not_there_is_told() -> None:
    """With what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        source = GpsdSource(host="127.0.0.1", port=taken.getsockname()[1])
        async with watching(source) as watcher:
            await watcher.until(lambda: watcher.says(State.FAILED, "Connection refused; is gpsd running?"))


@pytest.mark.skipif(shutil.which("gpsd") is None, reason="gpsd is not installed")
async def test_a_receiver_behind_the_real_gpsd(device: Path) -> None:
    """gpsd reads the port and passes the sentences on; killed, it is dialled again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    # gpsd does not look for the baud rate of a pseudo-terminal: it takes the one that a new one has.
    simulated = receiver(device, baud=38400, rate_hz=1.0)
    terminal = simulated.plug()
    command = ["gpsd", "-N", "-n", "-D0", "-S", str(number), terminal]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    gpsd = start()
    try:
        async with watching(GpsdSource(host="127.0.0.1", port=number), simulated, faster=1.0) as watcher:
            await watcher.next_position()
            fix = watcher.fixes[-1]
            assert fix.mode is FixMode.FIX_3D
            assert (fix.lat, fix.lon) == PARKED[0]
            await watcher.until(lambda: watcher.says(State.OK, f"gpsd://127.0.0.1:{number}"))
            gpsd.kill()
            gpsd.wait()
            await watcher.until(lambda: watcher.says(State.FAILED, "is gpsd running?"))
            gpsd = start()
            await watcher.next_position()
    finally:
        gpsd.kill()
        gpsd.wait()


def test_the_systemd_watchdog_is_fed_often_enough() -> None:
    """Signs of life at least every five seconds, also while a device is missing."""
    assert TICK_S <= 5.0
