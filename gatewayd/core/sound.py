"""What is said between the capture process and the daemon, and how captured sound is placed in time.

Lives here: the events of a capture, their frames on the pipe, and `Pace`, which tells lost sound from late
reading. Not here: what is made of them (`recording`) and the device (`edge/capture`, `edge/mic`). All times
are CLOCK_MONOTONIC seconds, which processes of one boot share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from gatewayd.core.ogg import PACKET_MS

PACKET_S: Final = PACKET_MS / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The capture process is idle and well; said at its start and every few seconds."""

    at_s: float
    problem: str = ""  # what is seen to be wrong without opening the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The device is open and its first sound came."""

    at_s: float  # of the first sample
    pre_skip: int  # the encoder's delay, samples at 48 kHz


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """20 ms of sound. A step in `at_s` of more than 20 ms: what lies between was lost."""

    at_s: float  # of its first sample
    opus: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There is no sound, though it is wanted; it is being tried again until `Opened`."""

    at_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Still no sound. Never on the pipe: the daemon's side says it while the device is away."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The device is closed, as asked."""

    at_s: float


Frame: TypeAlias = Ready | Opened | Packet | Failed | Closed  # what the pipe carries
Event: TypeAlias = Opened | Packet | Failed | Missing | Closed  # what a recording is made of


class Command(bytes, Enum):
    """What the capture process is told, a byte each; the end of its input tells it to go."""

    START = b"+"
    STOP = b"-"


# --- the pipe -----------------------------------------------------------------------------------------------

_HEADER: Final = struct.Struct("<cHd")  # kind, bytes that follow, at_s
_PRE_SKIP: Final = struct.Struct("<H")
# A frame is written whole or not at all, since Linux keeps writes up to PIPE_BUF (4096 bytes) in one piece
# (pipe(7)). A packet of 20 ms has at most 1275 bytes (RFC 6716, 3.4); texts are cut to this.
_TEXT_BYTES: Final = 1024


def encode(frame: Frame) -> bytes:
    """One frame as it goes through the pipe, at most 4096 bytes."""
    kind, rest = b"C", b""  # Closed
    match frame:
        case Ready():
            kind, rest = b"R", frame.problem.encode()[:_TEXT_BYTES]
        case Opened():
            kind, rest = b"O", _PRE_SKIP.pack(frame.pre_skip)
        case Packet():
            kind, rest = b"P", frame.opus
        case Failed():
            kind, rest = b"F", frame.reason.encode()[:_TEXT_BYTES]
    return _HEADER.pack(kind, len(rest), frame.at_s) + rest


def _frame(kind: bytes, at_s: float, rest: bytes) -> Frame:
    match kind:
        case b"R":
            return Ready(at_s=at_s, problem=rest.decode(errors="replace"))
        case b"O":
            return Opened(at_s=at_s, pre_skip=_PRE_SKIP.unpack(rest)[0])
        case b"P":
            return Packet(at_s=at_s, opus=rest)
        case b"F":
            return Failed(at_s=at_s, reason=rest.decode(errors="replace"))
        case b"C":
            return Closed(at_s=at_s)
    raise ValueError(f"expected a frame of the capture process, got one of kind {kind!r}")


class Decoder:
    """Bytes of the pipe, in pieces of any size, to frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises:
            ValueError, struct.error: it is not what a capture process says; the decoder is of no more use.
        """
        self._rest += data
        frames = []
        while len(self._rest) >= _HEADER.size:
            kind, length, at_s = _HEADER.unpack_from(self._rest)
            end = _HEADER.size + length
            if len(self._rest) < end:
                break
            frames.append(_frame(kind, at_s, self._rest[_HEADER.size : end]))
            self._rest = self._rest[end:]
        return frames


# --- time ---------------------------------------------------------------------------------------------------

# How far sound may be off its time before that means something. An overrun throws the whole buffer away
# (snd_pcm_prepare resets it), 640 ms here; one in a smaller buffer below us loses a period at least, and
# nobody hears less than three packets' loss as a loss. Below it: jitter of waking up.
_OFF_S: Final = 3 * PACKET_S
# A reader that was late finds the sound waiting and gets it at once; a read that took half the time the sound
# took was paced by the device, so nothing waits any more. Three in a row, since one wait may be a preemption.
_PACED_SHARE: Final = 0.5
_PACED_READS: Final = 3
# What the device's clock drifts against ours is followed with this weight a read, 10 s at 50 reads a second:
# 100 ppm (a cheap USB microphone) lag 1 ms, 1,000 ppm 10 ms, far below `_OFF_S`, however long it runs.
_DRIFT_WEIGHT: Final = 1 / 500


class Verdict(Enum):
    """How the sound of a read stands in time."""

    IN_TIME = "in_time"
    UNSURE = "unsure"  # late, or something was lost before it: to be held until the next verdict
    LOST = "lost"  # something was lost before what was held; `Pace.lost` tells how many packets
    AHEAD = "ahead"  # more sound than time: not a microphone


class Pace:
    """Tells overruns from late reading and drifting clocks, by counting frames against the clock.

    alsaaudio 0.10 does not report an overrun on read, and no version tells how much was lost.
    """

    def __init__(self, *, rate_hz: int, start_s: float, late_s: float = 0.0) -> None:
        """`start_s`: when the first sample was taken; it may have been up to `late_s` earlier."""
        self._late_s = late_s
        self._rate_hz = rate_hz
        self._start_s = start_s
        self._frames = 0
        self._drift_s = 0.0
        self._paced: list[float] = []  # the deficits at the paced reads since it became unsure
        self.lost = 0  # packets, at the last verdict LOST

    def judge(self, frames: int, *, before_s: float, after_s: float) -> Verdict:
        """What a read of `frames` samples means that lasted from `before_s` to `after_s`."""
        self._frames += frames
        deficit_s = after_s - self._start_s - self._frames / self._rate_hz - self._drift_s
        if deficit_s < -_OFF_S:
            if -deficit_s > _OFF_S + self._late_s:
                return Verdict.AHEAD
            # A busy machine read for the first time when more was waiting, and that came at once.
            self._late_s += deficit_s
            self._drift_s += deficit_s
            deficit_s = 0.0
        if deficit_s <= _OFF_S:
            self._drift_s += deficit_s * _DRIFT_WEIGHT
            self._paced.clear()
            return Verdict.IN_TIME
        if after_s - before_s >= _PACED_SHARE * frames / self._rate_hz:
            self._paced.append(deficit_s)
        if len(self._paced) < _PACED_READS:
            return Verdict.UNSURE
        self.lost = round(min(self._paced) / PACKET_S)
        self._frames += round(self.lost * PACKET_S * self._rate_hz)
        self._paced.clear()
        return Verdict.LOST
