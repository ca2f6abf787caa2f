"""The capture process's frames, and sound kept in time."""

import contextlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.sound import (
    Closed,
    Decoder,
    Failed,
    Frame,
    Opened,
    Pace,
    Packet,
    Ready,
    Verdict,
    encode,
)

times = st.floats(0, 1e9, allow_nan=False)
frames = st.one_of(
    st.builds(Ready, at_s=times, problem=st.text(max_size=200)),
    st.builds(Opened, at_s=times, pre_skip=st.integers(0, 65535)),
    st.builds(Packet, at_s=times, opus=st.binary(min_size=1, max_size=1275)),
    st.builds(Failed, at_s=times, reason=st.text(max_size=200)),
    st.builds(Closed, at_s=times),
)


@given(st.lists(frames, max_size=8), st.integers(1, 500))
def test_frames_come_back_from_pieces_of_any_size(said: list[Frame], size: int) -> None:
    """What the pipe cuts, the decoder joins."""
    data = b"".join(map(encode, said))
    decoder = Decoder()
    heard = [frame for at in range(0, len(data), size) for frame in decoder.feed(data[at : at + size])]
    assert heard == said


@given(st.text(min_size=1, max_size=20).map(lambda text: text * 300))
def test_a_frame_fits_in_one_write(reason: str) -> None:
    """Whatever a driver says, a frame stays below PIPE_BUF and readable."""
    data = encode(Failed(at_s=1.0, reason=reason))
    assert len(data) <= 4096
    assert len(Decoder().feed(data)) == 1


@given(st.binary(max_size=400))
def test_nonsense_is_an_error_of_the_documented_kind(data: bytes) -> None:
    """Any bytes give frames, or one of two errors."""
    with contextlib.suppress(ValueError, struct.error):
        Decoder().feed(data)


def test_an_unknown_frame_is_named() -> None:
    """The message says what was expected and what came."""
    with pytest.raises(ValueError, match="expected a frame of the capture process, got one of kind b'X'"):
        Decoder().feed(struct.pack("<cHd", b"X", 0, 1.0))


# --- time ---------------------------------------------------------------------------------------------------

RATE = 16_000
PERIOD = 320


class Device:
    """A sound card with a ring of 32 periods and a clock of its own, read by somebody who may be late."""

    def __init__(self, *, ppm: float = 0.0, jitter_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.period_s = 0.02 * (1 - ppm / 1e6)
        self.due_s = self.now_s  # when the oldest period not read was complete
        self.jitter_s = jitter_s
        self.chance = random.Random(1)
        self.pace = Pace(rate_hz=RATE, start_s=self.now_s)

    def read(self, frames: int = PERIOD) -> Verdict:
        self.due_s += self.period_s
        before_s = self.now_s
        self.now_s = max(before_s + 0.0001, self.due_s + self.chance.random() * self.jitter_s)
        return self.pace.judge(frames, before_s=before_s, after_s=self.now_s)

    def lose(self, periods: int) -> None:
        self.due_s += periods * self.period_s


@pytest.mark.parametrize("ppm", [-1000, -100, 0, 100, 1000])
def test_a_drifting_clock_is_no_gap(ppm: float) -> None:
    """An hour at 1,000 ppm, ten times a cheap microphone's worst, is 3.6 s of drift and not one gap."""
    device = Device(ppm=ppm, jitter_s=0.01)
    assert {device.read() for _ in range(180_000)} == {Verdict.IN_TIME}


@pytest.mark.parametrize("periods", [4, 10, 32, 75, 500])
def test_what_was_lost_is_counted(periods: int) -> None:
    """From 80 ms to 10 s: unsure until the device paces again, then the loss, to the packet; once."""
    device = Device()
    for _ in range(50):
        device.read()
    device.lose(periods)
    assert [device.read() for _ in range(4)] == [
        Verdict.UNSURE,
        Verdict.UNSURE,
        Verdict.LOST,
        Verdict.IN_TIME,
    ]
    assert device.pace.lost == periods


@pytest.mark.parametrize("late_s", [0.05, 0.3, 0.6])
def test_reading_late_is_no_gap(late_s: float) -> None:
    """What waited in the buffer is read at once: late, and all there."""
    device = Device()
    for _ in range(50):
        device.read()
    device.now_s += late_s
    verdicts = [device.read() for _ in range(60)]
    assert Verdict.LOST not in verdicts
    assert verdicts[-1] is Verdict.IN_TIME


def test_one_wait_among_waiting_sound_proves_nothing() -> None:
    """A reader that is late and preempted once more, in the middle of a read, is still only late."""
    device = Device()
    device.now_s += 0.4
    device.read()
    before_s = device.now_s
    device.now_s += 0.1
    device.due_s += 0.02
    assert device.pace.judge(PERIOD, before_s=before_s, after_s=device.now_s) is Verdict.UNSURE
    verdicts = [device.read() for _ in range(60)]
    assert Verdict.LOST not in verdicts
    assert verdicts[-1] is Verdict.IN_TIME


@pytest.mark.parametrize("late_s", [0.1, 0.3, 0.6])
def test_a_late_first_read_is_no_fault_of_the_device(late_s: float) -> None:
    """On a busy machine more is waiting at the first read; later, what is lost is found as ever."""
    device = Device()
    device.now_s += late_s
    device.pace = Pace(rate_hz=RATE, start_s=device.now_s - 0.02, late_s=late_s)
    assert {device.read() for _ in range(200)} == {Verdict.IN_TIME}
    device.lose(50)
    verdicts = [device.read() for _ in range(200)]
    assert verdicts.count(Verdict.LOST) == 1
    assert 50 - 3 <= device.pace.lost <= 50, "three packets are what sound may be off its time"


def test_more_sound_than_time_is_no_microphone() -> None:
    """A file behind ALSA, or a driver gone mad, is found after some packets."""
    pace = Pace(rate_hz=RATE, start_s=0.0)
    verdicts = [pace.judge(PERIOD, before_s=0.02, after_s=0.02) for _ in range(8)]
    assert verdicts[0] is Verdict.IN_TIME
    assert verdicts[-1] is Verdict.AHEAD
