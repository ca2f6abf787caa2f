"""The capture process: reads the microphone, encodes, writes frames of `core.sound` to its output.

A process of its own, started before it is needed, because alsaaudio holds the interpreter's lock while a PCM
opens, and because what hangs in a driver can only be left behind with its process. It decides nothing: it
opens when told, and `edge/mic` kills it when it is late. The device is open only between START and STOP.

    python -m gatewayd.edge.capture DEVICE RATE_HZ BITRATE_BPS    (commands on stdin, frames on stdout)

It imports little, so that it stays small: no asyncio, no logging.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import alsaaudio
import opuslib

from gatewayd.core.ogg import GRANULE_HZ, PACKET_MS
from gatewayd.core.sound import (
    PACKET_S,
    Closed,
    Command,
    Failed,
    Frame,
    Opened,
    Pace,
    Packet,
    Ready,
    Verdict,
    encode,
)

HEARTBEAT_S: Final = 2.0  # an idle process says so this often
# Of 20 ms each: a buffer of 640 ms, which outlasts any stall of ours a loaded Pi was seen to have.
_PERIODS: Final = 32
_SAMPLE_BYTES: Final = 2  # S16_LE, mono
# No call into the device lasts longer: then the kernel ends this process (SIGALRM, which needs no lock of the
# interpreter). Longer than `edge/mic` waits; for the case that nobody is left to wait.
_CALL_LIMIT_S: Final = 5.0
_CARDS: Final = Path("/proc/asound/cards")


def absent_card(device: str, cards: str) -> str:
    """The card that `device` needs and `cards` (/proc/asound/cards) lacks; empty when none is known to be.

    `device` is a PCM name. One that the ALSA configuration defines (`default`, `mic`) cannot be judged
    without opening it.
    """
    named = re.match(r"\w+:(?:.*\b)?CARD=([^,]+)", device) or re.match(r"(?:plug)?hw:([^,=]+)", device)
    if named is None:
        return ""
    present = {name for entry in re.findall(r"^\s*(\d+) \[(\S+)\s*\]", cards, re.MULTILINE) for name in entry}
    return "" if named[1] in present else named[1]


class _Stream:
    """What one opening of the device captured: its sound in packets, each at its time."""

    def __init__(self, encoder: Any, *, rate_hz: int, start_s: float, late_s: float) -> None:
        self._encoder = encoder  # opuslib is untyped
        self._samples = rate_hz * PACKET_MS // 1000  # in a packet
        self._start_s = start_s
        self._pace = Pace(rate_hz=rate_hz, start_s=start_s, late_s=late_s)
        self._sound = b""  # less than a packet
        self._held: list[bytes] = []
        self._placed = 0

    def take(self, frames: int, sound: bytes, *, before_s: float, after_s: float) -> list[Packet]:
        """The packets whose time is known now.

        Raises:
            alsaaudio.ALSAAudioError: sound comes faster than time.
        """
        size = self._samples * _SAMPLE_BYTES
        self._sound += sound
        while len(self._sound) >= size:
            self._held.append(self._encoder.encode(self._sound[:size], self._samples))
            self._sound = self._sound[size:]
        match self._pace.judge(max(0, frames), before_s=before_s, after_s=after_s):
            case Verdict.UNSURE:
                return []
            case Verdict.AHEAD:
                raise alsaaudio.ALSAAudioError("expected sound as time goes, got more than time gives")
            case Verdict.LOST:
                self._placed += self._pace.lost
        packets = [
            Packet(at_s=self._start_s + (self._placed + index) * PACKET_S, opus=opus)
            for index, opus in enumerate(self._held)
        ]
        self._placed += len(packets)
        self._held.clear()
        return packets


class Capture:
    """Obeys commands read from one descriptor, writes frames to another, until the commands end."""

    def __init__(self, device: str, *, rate_hz: int, bitrate_bps: int, commands: int, frames: int) -> None:
        self._device = device
        self._rate_hz = rate_hz
        self._commands = commands
        self._frames = frames
        os.set_blocking(frames, False)
        self._encoder: Any = opuslib.Encoder(rate_hz, 1, "voip")
        self._encoder.bitrate = bitrate_bps

    def run(self) -> None:
        """Serve until the commands end.

        Raises:
            BrokenPipeError: nobody reads the frames any more.
        """
        self._ready()
        while (command := self._command(HEARTBEAT_S)) != b"":
            if command == Command.START:
                self._record()
            self._ready()

    def _ready(self) -> None:
        cards = _CARDS.read_text(errors="replace") if _CARDS.exists() else ""
        absent = absent_card(self._device, cards)
        problem = f"{self._device}: there is no sound card {absent}" if absent else ""
        self._say(Ready(at_s=time.monotonic(), problem=problem))

    def _command(self, wait_s: float) -> bytes | None:
        """The next command; None when none came in `wait_s`, empty when none will come."""
        readable, _, _ = select.select([self._commands], [], [], wait_s)
        return os.read(self._commands, 1) if readable else None

    def _say(self, frame: Frame) -> None:
        # The pipe is the queue, and its bound: 64 KiB, some 10 s of sound. When it is full because the daemon
        # stalls, the frame is dropped whole; later packets' times then show the gap.
        with contextlib.suppress(BlockingIOError):
            os.write(self._frames, encode(frame))

    def _record(self) -> None:
        try:
            began_s = time.monotonic()
            pcm = self._open()
            try:
                self._stream(pcm, began_s)
            finally:
                signal.setitimer(signal.ITIMER_REAL, _CALL_LIMIT_S)
                pcm.close()
        except alsaaudio.ALSAAudioError as error:
            self._say(Failed(at_s=time.monotonic(), reason=str(error)))
        else:
            self._say(Closed(at_s=time.monotonic()))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _open(self) -> Any:
        signal.setitimer(signal.ITIMER_REAL, _CALL_LIMIT_S)
        pcm = alsaaudio.PCM(
            type=alsaaudio.PCM_CAPTURE,
            mode=alsaaudio.PCM_NORMAL,
            device=self._device,
            rate=self._rate_hz,
            channels=1,
            format=alsaaudio.PCM_FORMAT_S16_LE,
            periodsize=self._rate_hz * PACKET_MS // 1000,
            periods=_PERIODS,
        )
        got = pcm.info()  # ALSA gives the nearest it has, without an error
        if (got["rate"], got["channels"], got["format_name"]) != (self._rate_hz, 1, "S16_LE"):
            pcm.close()
            raise alsaaudio.ALSAAudioError(
                f"expected {self._rate_hz} Hz, 1 channel, S16_LE, got {got['rate']} Hz, {got['channels']}, "
                f"{got['format_name']}: use a plughw: device, which converts [{self._device}]"
            )
        return pcm

    def _stream(self, pcm: Any, began_s: float) -> None:
        """Pass the sound on until told to stop. `began_s`: the device did not begin to capture before."""
        self._encoder.reset_state()
        pre_skip = self._encoder.lookahead * GRANULE_HZ // self._rate_hz
        stream = None
        while True:
            signal.setitimer(signal.ITIMER_REAL, _CALL_LIMIT_S)
            before_s = time.monotonic()
            frames, sound = pcm.read()  # negative after an overrun, which `Pace` sees by itself
            after_s = time.monotonic()
            if stream is None:
                start_s = after_s - max(0, frames) / self._rate_hz
                late_s = min(max(0.0, start_s - began_s), _PERIODS * PACKET_S)
                stream = _Stream(self._encoder, rate_hz=self._rate_hz, start_s=start_s, late_s=late_s)
                self._say(Opened(at_s=start_s, pre_skip=pre_skip))
            for packet in stream.take(frames, sound, before_s=before_s, after_s=after_s):
                self._say(packet)
            if (command := self._command(0)) is not None and command != Command.START:
                return


def main() -> None:
    """Run the capture process on stdin and stdout."""
    # Ctrl-C and systemd's stop reach this process too; it ends with its commands, after the last sound.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    device, rate_hz, bitrate_bps = sys.argv[1:]
    capture = Capture(device, rate_hz=int(rate_hz), bitrate_bps=int(bitrate_bps), commands=0, frames=1)
    try:
        capture.run()
    except BrokenPipeError:
        os._exit(0)  # the daemon is gone


if __name__ == "__main__":
    main()
