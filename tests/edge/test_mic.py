"""The microphone through real alsa-lib, real Opus and a real capture process, judged by real players."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from players import accepted, needs_players, share_of

from gatewayd.config.model import Audio
from gatewayd.core.model import ClockSource, Instant, State
from gatewayd.core.recording import Chunk, Gap, GapCause, Recording
from gatewayd.core.sound import (
    Closed,
    Command,
    Decoder,
    Event,
    Failed,
    Frame,
    Missing,
    Opened,
    Packet,
    Ready,
)
from gatewayd.edge.capture import absent_card
from gatewayd.edge.mic import STUCK, Microphone
from gatewayd.sim import microphone as sim

Kill = Callable[[Process], None]


def settings(device: str = sim.DEVICE) -> Audio:
    return Audio(
        enabled=True,
        device=device,
        rate_hz=sim.RATE_HZ,
        bitrate_bps=24_000,
        chunk_s=0.5,
        duration_s=600.0,
        pre_roll_s=0.0,
    )


def now() -> Instant:
    return Instant(
        boot="b", mono_s=time.monotonic(), wall_s=time.time(), source=ClockSource.NTP, uncertainty_ms=1
    )


def in_vain(process: Process) -> None:
    """What killing does to a process in an uninterruptible sleep."""


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait until a condition holds; generous, since the machine may be busy or emulated."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (what is waited for is outside this process)
            await asyncio.sleep(0.01)


class Ear:
    """A running microphone, all it says, and the recording of it."""

    def __init__(self, device: str = sim.DEVICE, kill: Kill = Process.kill) -> None:
        self.events: list[Event] = []
        self.reports: list[tuple[State, str]] = []
        self.chunks: list[Chunk] = []
        self.progress = 0
        self._recording = Recording("alarm-1", rate_hz=sim.RATE_HZ, chunk_s=0.5)
        self.microphone = Microphone(
            settings(device),
            on_sound=self._hear,
            report=lambda state, detail: self.reports.append((state, detail)),
            alive=self._progress,
            retry_s=0.3,
            kill=kill,
        )

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.chunks += self._recording.take(event, now())

    def _progress(self) -> None:
        self.progress += 1

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def story(self) -> list[str]:
        """The events without the sound between them."""
        return [type(event).__name__ for event in self.events if not isinstance(event, Packet | Missing)]

    @property
    def state(self) -> tuple[State, str]:
        return self.reports[-1]

    @property
    def gaps(self) -> list[Gap]:
        return [gap for chunk in self.chunks for gap in chunk.gaps]

    @property
    def heard_s(self) -> float:
        return sum(chunk.duration_ms for chunk in self.chunks) / 1000

    def write(self, file: Path) -> Path:
        file.write_bytes(b"".join(chunk.pages for chunk in self.chunks))
        return file

    async def start(self) -> None:
        """Want sound, and wait for it."""
        opened = self.count(Opened)
        self.microphone.start()
        await until(lambda: self.count(Opened) > opened)

    async def stop(self) -> None:
        closed = self.count(Closed)
        self.microphone.stop()
        await until(lambda: self.count(Closed) > closed, within_s=3.0)


@contextlib.asynccontextmanager
async def listening(device: str = sim.DEVICE, kill: Kill = Process.kill) -> AsyncIterator[Ear]:
    ear = Ear(device, kill)
    task = asyncio.create_task(ear.microphone.run())
    try:
        await until(lambda: ear.reports)
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sim.Microphone]:
    with sim.Microphone(tmp_path, sim.tone(440)) as microphone:
        for name, value in microphone.environment.items():
            monkeypatch.setenv(name, value)
        yield microphone


@pytest.fixture
async def ear(card: sim.Microphone) -> AsyncIterator[Ear]:
    async with listening() as listener:
        yield listener


def children() -> list[int]:
    """The capture processes."""
    pids = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"edge.capture" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def child() -> int:
    """The one capture process."""
    (pid,) = children()
    return pid


def resident_kb() -> int:
    """What the capture process holds of memory."""
    status = Path(f"/proc/{child()}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def device_is_open() -> bool:
    """Whether the capture process holds the microphone's FIFO."""
    links = Path(f"/proc/{child()}/fd").iterdir()
    return any(str(link.readlink()).endswith("microphone.pcm") for link in links if link.is_symlink())


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make ALSA know these devices and no others."""
    (folder / "asound.conf").write_text(text)
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(folder / "asound.conf"))


# --- sound --------------------------------------------------------------------------------------------------


@needs_players
async def test_what_is_played_is_what_is_recorded(ear: Ear, tmp_path: Path) -> None:
    """A tone of 440 Hz, whole, in a file that no player complains of, as long as it was wanted."""
    await ear.start()
    began_s = time.monotonic()
    await asyncio.sleep(2.0)
    wanted_s = time.monotonic() - began_s
    await ear.stop()
    samples = accepted(ear.write(tmp_path / "alarm.opus"))
    assert len(samples) / sim.RATE_HZ == pytest.approx(wanted_s, abs=0.1)
    assert ear.gaps == []
    for second in range(2):
        part = samples[second * 16_000 + 1600 : second * 16_000 + 12_800]
        assert share_of(440, part) > 0.9
        assert share_of(700, part) < 0.05


async def test_sound_comes_at_once(ear: Ear) -> None:
    """The first chunk is there well within the 2 s in which the broker has it."""
    began_s = time.monotonic()
    ear.microphone.start()
    await until(lambda: ear.chunks)
    assert time.monotonic() - began_s < 1.0
    assert ear.state == (State.OK, "recording")
    await ear.stop()


async def test_an_idle_microphone_listens_to_nobody(ear: Ear) -> None:
    """The device is open between start and stop, and at no other time."""
    assert not device_is_open()
    await ear.start()
    assert device_is_open()
    await ear.stop()
    assert not device_is_open()
    assert ear.story == ["Opened", "Closed"]


async def test_stop_and_start_at_once_are_two_recordings(ear: Ear) -> None:
    """Each start gets its Closed, in order, whatever the haste."""
    await ear.start()
    ear.microphone.stop()
    ear.microphone.start()
    ear.microphone.start()
    await until(lambda: ear.count(Opened) == 2)
    await ear.stop()
    ear.microphone.stop()
    assert ear.story == ["Opened", "Closed", "Opened", "Closed"]


async def test_the_capture_process_is_small(ear: Ear) -> None:
    """At most 25 MB while it records."""
    await ear.start()
    await until(lambda: ear.count(Packet) > 50)
    assert resident_kb() < 25_000
    await ear.stop()


async def test_it_makes_progress_while_idle(ear: Ear) -> None:
    """The capture process says so when it is well, and that feeds the systemd watchdog."""
    before = ear.progress
    await until(lambda: ear.progress > before, within_s=5.0)


# --- what goes wrong ----------------------------------------------------------------------------------------


@needs_players
async def test_an_overrun_is_a_gap_that_keeps_time(ear: Ear, card: sim.Microphone, tmp_path: Path) -> None:
    """Lost sound is listed with its length, and the file is as long as the time was."""
    await ear.start()
    began_s = time.monotonic()
    await asyncio.sleep(0.5)
    card.overrun(0.5)
    await asyncio.sleep(1.2)
    wanted_s = time.monotonic() - began_s
    await ear.stop()
    (gap,) = ear.gaps
    assert gap.cause is GapCause.OVERRUN
    assert gap.duration_ms == pytest.approx(500, abs=40)
    assert gap.at.mono_s == pytest.approx(began_s + 0.5, abs=0.2)
    samples = accepted(ear.write(tmp_path / "alarm.opus"))
    assert len(samples) / sim.RATE_HZ == pytest.approx(wanted_s, abs=0.1)


@needs_players
async def test_unplugged_and_back_goes_on_in_step(ear: Ear, card: sim.Microphone, tmp_path: Path) -> None:
    """It is told once, tried again until it is back, and the time without it is a gap."""
    await ear.start()
    began_s = time.monotonic()
    await asyncio.sleep(0.3)
    card.unplug()
    await until(lambda: ear.count(Missing))
    card.plug()
    await until(lambda: ear.count(Opened) == 2)
    await asyncio.sleep(0.3)
    wanted_s = time.monotonic() - began_s
    await ear.stop()
    assert ear.story == ["Opened", "Failed", "Opened", "Closed"]
    assert {gap.cause for gap in ear.gaps} == {GapCause.DEVICE}
    missing_s = sum(gap.duration_ms or 0 for gap in ear.gaps) / 1000
    assert ear.count(Packet) * 0.02 + missing_s == pytest.approx(ear.heard_s, abs=0.001)
    samples = accepted(ear.write(tmp_path / "alarm.opus"))
    assert len(samples) / sim.RATE_HZ == pytest.approx(wanted_s, abs=0.1)


async def test_an_absent_device_is_told_at_once(ear: Ear, card: sim.Microphone) -> None:
    """Why, in ALSA's words; afterwards it is not claimed to be well; what comes later is announced."""
    card.unplug()
    ear.microphone.start()
    await until(lambda: ear.events, within_s=2.0)
    assert ear.events == [Failed(at_s=ear.events[0].at_s, reason="No such file or directory [mic]")]
    assert ear.state == (State.FAILED, "No such file or directory [mic]")
    await ear.stop()
    await until(lambda: ear.state[0] is State.DEGRADED)
    card.plug()
    await ear.start()
    assert ear.state == (State.OK, "recording")
    await ear.stop()


async def test_a_device_that_is_slow_to_open_is_told_within_2_s(ear: Ear, card: sim.Microphone) -> None:
    """And sound that comes later is announced."""
    card.hang()
    began_s = time.monotonic()
    ear.microphone.start()
    await until(lambda: ear.events)
    assert time.monotonic() - began_s < 2.0
    assert isinstance(ear.events[0], Failed)
    assert ear.events[0].reason == "no sound within 1.5 s, waiting for the device to open"
    card.plug()
    await until(lambda: ear.count(Opened))
    assert ear.story == ["Failed", "Opened"]
    await ear.stop()


async def test_a_process_that_hangs_in_open_is_left_behind(ear: Ear, card: sim.Microphone) -> None:
    """Another one tries again; what was told is not told again."""
    card.hang()
    stuck = child()
    ear.microphone.start()
    await until(lambda: stuck not in children())
    await until(lambda: ear.state[1] == "device did not open within 4.0 s")
    card.plug()
    await until(lambda: ear.count(Opened))
    assert ear.story == ["Failed", "Opened"]
    await ear.stop()


@pytest.mark.usefixtures("card")
async def test_a_process_that_cannot_be_killed_stays_the_only_one() -> None:
    """No other one is sent into the driver that holds it; when that lets go, sound comes again."""
    async with listening(kill=in_vain) as ear:
        await ear.start()
        stuck = child()
        os.kill(stuck, signal.SIGSTOP)
        await until(lambda: ear.state == (State.FAILED, STUCK))
        before = ear.progress
        await until(lambda: ear.progress >= before + 5)
        assert children() == [stuck]
        assert ear.state == (State.FAILED, STUCK)
        os.kill(stuck, signal.SIGKILL)
        await until(lambda: ear.count(Opened) == 2)
        assert ear.story == ["Opened", "Failed", "Opened"]
        await ear.stop()


@pytest.mark.usefixtures("card")
async def test_a_process_that_cannot_be_killed_does_not_hold_up_a_stop() -> None:
    """The sound is closed within its second, and the daemon's stop waits for no driver."""
    async with listening(kill=in_vain) as ear:
        await ear.start()
        stuck = child()
        os.kill(stuck, signal.SIGSTOP)
        await ear.stop()
        await until(lambda: ear.state == (State.FAILED, STUCK))
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s
    os.kill(stuck, signal.SIGKILL)
    await until(lambda: not Path(f"/proc/{stuck}").exists())
    await asyncio.sleep(0.1)  # asyncio takes note of it
    assert took_s < 1.0


async def test_a_device_that_falls_silent_without_an_error_is_a_gap(ear: Ear, card: sim.Microphone) -> None:
    """No data for 2 s is a failure, not silence."""
    await ear.start()
    card.hang()
    await until(lambda: ear.count(Failed))
    card.plug()
    await until(lambda: ear.count(Opened) == 2)
    await until(lambda: ear.count(Packet) > 50)
    await ear.stop()
    assert sum(gap.duration_ms or 0 for gap in ear.gaps) > 1900
    assert {gap.cause for gap in ear.gaps} == {GapCause.DEVICE}


async def test_a_killed_capture_process_is_replaced(ear: Ear) -> None:
    """Mid-recording: the sound goes on in the same recording."""
    await ear.start()
    os.kill(child(), signal.SIGKILL)
    await until(lambda: ear.count(Opened) == 2)
    await ear.stop()
    assert ear.story == ["Opened", "Failed", "Opened", "Closed"]


async def test_a_daemon_that_stalls_loses_no_sound(ear: Ear) -> None:
    """The pipe keeps what is captured meanwhile, and silence that is our own is not the device's."""
    await ear.start()
    time.sleep(2.5)  # noqa: ASYNC251
    await asyncio.sleep(0.3)
    await ear.stop()
    assert ear.story == ["Opened", "Closed"]
    assert ear.gaps == []
    assert ear.heard_s > 2.7


async def test_sound_that_ignores_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALSA's null device gives silence as fast as it is asked: not a microphone."""
    configure(tmp_path, monkeypatch, "pcm.null { type null }")
    async with listening("null") as ear:
        ear.microphone.start()
        await until(lambda: ear.count(Failed))
        assert ear.state == (State.FAILED, "expected sound as time goes, got more than time gives")
        ear.microphone.stop()


async def test_a_device_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALSA gives the nearest it has; that must not be recorded as something else."""
    channel = "{{ slave a channel {} }}".format
    bindings = f"bindings.0 {channel(0)} bindings.1 {channel(1)}"
    stereo = f"pcm.stereo {{ type multi slaves.a {{ pcm null channels 2 }} {bindings} }}"
    configure(tmp_path, monkeypatch, "pcm.null { type null }\n" + stereo)
    async with listening("stereo") as ear:
        ear.microphone.start()
        await until(lambda: ear.count(Failed))
        assert ear.state[1].startswith("expected 16000 Hz, 1 channel, S16_LE, got 16000 Hz, 2, S16_LE: use a")
        ear.microphone.stop()


async def test_a_missing_card_is_seen_before_it_is_needed() -> None:
    """A device that names its card is looked for while idle, without opening anything."""
    async with listening("plughw:CARD=NoSuchCard,DEV=0") as ear:
        assert ear.state == (State.FAILED, "plughw:CARD=NoSuchCard,DEV=0: there is no sound card NoSuchCard")


# --- the capture process alone ------------------------------------------------------------------------------

CAPTURE = [sys.executable, "-m", "gatewayd.edge.capture", sim.DEVICE, str(sim.RATE_HZ), "24000"]


def frames_of(capture: subprocess.Popen[bytes], kind: type[Frame], decoder: Decoder) -> list[Frame]:
    """What it says up to and with the first frame of a kind."""
    assert capture.stdout is not None
    said: list[Frame] = []
    while not any(isinstance(frame, kind) for frame in said):
        data = os.read(capture.stdout.fileno(), 65_536)
        assert data, "it ended"
        said += decoder.feed(data)
    return said


@pytest.mark.usefixtures("card")
def test_the_capture_process_ends_with_its_daemon_and_not_before() -> None:
    """Signals meant for the daemon do not end a recording; the end of its input does."""
    with subprocess.Popen(CAPTURE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as capture:
        assert capture.stdin is not None
        decoder = Decoder()
        frames_of(capture, Ready, decoder)
        capture.stdin.write(Command.START)
        frames_of(capture, Opened, decoder)
        capture.send_signal(signal.SIGINT)
        capture.send_signal(signal.SIGTERM)
        frames_of(capture, Packet, decoder)
        capture.stdin.close()
        frames_of(capture, Closed, decoder)
        assert capture.wait(timeout=5) == 0


@pytest.mark.usefixtures("card")
def test_what_the_daemon_does_not_fetch_is_dropped_whole() -> None:
    """A full pipe costs packets, whose place the times of later ones show; it stops nothing."""
    with subprocess.Popen(CAPTURE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as capture:
        assert capture.stdin is not None
        assert capture.stdout is not None
        fcntl.fcntl(capture.stdout, fcntl.F_SETPIPE_SZ, 4096)
        decoder = Decoder()
        frames_of(capture, Ready, decoder)
        capture.stdin.write(Command.START)
        time.sleep(2.0)
        said = frames_of(capture, Packet, decoder)
        time.sleep(0.2)
        capture.stdin.write(Command.STOP)
        said += frames_of(capture, Closed, decoder)
    times = [frame.at_s for frame in said if isinstance(frame, Packet)]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(step > 0.03 for step in steps) == 1
    assert times[-1] - times[0] > 2.0


CARDS = """\
 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones
                      bcm2835 Headphones
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed
"""


@pytest.mark.parametrize(
    ("device", "absent"),
    [
        ("plughw:CARD=Device,DEV=0", ""),
        ("plughw:CARD=Other,DEV=0", "Other"),
        ("sysdefault:CARD=Other", "Other"),
        ("front:DEV=0,CARD=Other", "Other"),
        ("hw:1,0", ""),
        ("hw:2,0", "2"),
        ("plughw:Device", ""),
        ("plughw:Gone,0", "Gone"),
        ("default", ""),
        ("mic", ""),
    ],
)
def test_a_card_that_a_device_names_is_looked_up(device: str, absent: str) -> None:
    """By name or number; a device that names none is not judged."""
    assert absent_card(device, CARDS) == absent


def test_a_simulated_voice_is_sound(tmp_path: Path) -> None:
    """The stand-in's other voices: speech, and a file of somebody's."""
    import wave  # noqa: PLC0415

    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, sim.RATE_HZ, 0, "NONE", ""))
        file.writeframes(sim.speech(seconds=1))
    assert sim.recorded(tmp_path / "voice.wav") == sim.speech(seconds=1)
    with wave.open(str(tmp_path / "music.wav"), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))
    with pytest.raises(ValueError, match="expected 16000 Hz, 1 channel, 2 bytes, got"):
        sim.recorded(tmp_path / "music.wav")
