"""A microphone behind alsa-lib: real PCM opens, reads and errors, with sound of our own in real time.

alsa-lib's file plugin reads from a FIFO; a thread writes to it what a microphone would hear, as time goes,
and like a sound card loses what is not fetched. Give `environment` to the process that records from PCM
`mic`.
"""

from __future__ import annotations

import fcntl
import itertools
import math
import os
import random
import struct
import threading
import time
import wave
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

RATE_HZ: Final = 16_000
DEVICE: Final = "mic"

_PERIOD_S: Final = 0.02  # what is written at once, and the period the gateway reads
_PERIOD_BYTES: Final = 2 * RATE_HZ // 50
_LOOK_S: Final = 0.005  # how often a closed device is looked at for somebody opening it
# What the "card" holds before it loses sound. The kernel gives a pipe at least a page: 128 ms here.
_BUFFER_BYTES: Final = 4096
_CONFIGURATION: Final = """\
pcm.{device} {{
    type file
    slave {{ pcm {{ type null }} }}
    file "/dev/null"
    infile "{fifo}"
    format raw
}}
"""

# Samples, S16_LE, played over and over.
Sound: TypeAlias = bytes


def _pcm(samples: Iterable[float]) -> Sound:
    return b"".join(struct.pack("<h", round(32767 * max(-1.0, min(1.0, sample)))) for sample in samples)


def tone(frequency_hz: int = 440, level: float = 0.5) -> Sound:
    """A sine."""
    step = 2 * math.pi * frequency_hz / RATE_HZ
    return _pcm(level * math.sin(step * index) for index in range(RATE_HZ))


def speech(seed: int = 1, seconds: int = 4) -> Sound:
    """Noise with the pitch, formants and rhythm of a voice, over the hum of a room."""
    chance = random.Random(seed)  # noqa: S311 (it is to be the same each time, and hides nothing)
    samples = []
    phase = 0.0
    for index in range(seconds * RATE_HZ):
        turn = 2 * math.pi * index / RATE_HZ
        pitch_hz = 140 + 25 * math.sin(0.75 * turn)
        phase += 2 * math.pi * pitch_hz / RATE_HZ
        voice = sum(math.sin(phase * harmonic) / harmonic for harmonic in (1, 2, 4, 5, 9, 17))
        syllable = max(0.0, math.sin(3.5 * turn)) * max(0.0, math.sin(0.25 * turn) + 0.5)
        samples.append(0.2 * syllable * voice + chance.gauss(0, 0.004))
    return _pcm(samples)


def recorded(path: Path) -> Sound:
    """A WAV file of 16 kHz, mono, 16 bits.

    Raises:
        ValueError: the file is of another kind.
    """
    with wave.open(str(path)) as file:
        kind = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        if kind != (RATE_HZ, 1, 2):
            raise ValueError(f"{path}: expected {RATE_HZ} Hz, 1 channel, 2 bytes, got {kind}")
        return bytes(file.readframes(file.getnframes()))


class _Condition(StrEnum):
    PLUGGED = "plugged"
    HUNG = "hung"  # there, and neither opens nor gives sound
    UNPLUGGED = "unplugged"


class Microphone:
    """Plugged from the start until `close`, unless told otherwise. Safe to steer from any thread."""

    def __init__(self, folder: Path, sound: Sound) -> None:
        """`folder` exists and takes the FIFO and the ALSA configuration."""
        self._fifo = folder / "microphone.pcm"
        self._configuration = folder / "asound.conf"
        self._configuration.write_text(_CONFIGURATION.format(device=DEVICE, fifo=self._fifo))
        os.mkfifo(self._fifo)
        self._sound = sound
        self._condition = _Condition.PLUGGED
        self._deaf_until_s = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated microphone", daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What makes alsa-lib know the microphone."""
        return {"ALSA_CONFIG_PATH": str(self._configuration)}

    def plug(self) -> None:
        """(Back) in its socket, and well."""
        if not self._fifo.exists():
            os.mkfifo(self._fifo)
        self._condition = _Condition.PLUGGED

    def unplug(self) -> None:
        """Pulled out: an open device fails, and does not open again."""
        self._condition = _Condition.UNPLUGGED
        self._fifo.unlink(missing_ok=True)

    def hang(self) -> None:
        """Neither sound nor an error, and an open does not return."""
        self._condition = _Condition.HUNG

    def overrun(self, seconds: float) -> None:
        """Lose the next `seconds` of sound."""
        self._deaf_until_s = time.monotonic() + seconds

    def close(self) -> None:
        """Take everything away."""
        self._closing.set()
        self._thread.join()
        self.unplug()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        whole = len(self._sound) // _PERIOD_BYTES * _PERIOD_BYTES
        periods = itertools.cycle(
            self._sound[start : start + _PERIOD_BYTES] for start in range(0, whole, _PERIOD_BYTES)
        )
        while not self._closing.wait(_LOOK_S):
            if self._condition is not _Condition.PLUGGED:
                continue
            try:
                card = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # ENXIO: nobody has the device open; ENOENT: unplugged meanwhile
                continue
            try:
                self._play(card, periods)
            finally:
                os.close(card)

    def _play(self, card: int, periods: Iterator[bytes]) -> None:
        """Give sound until the device is closed or pulled out."""
        fcntl.fcntl(card, fcntl.F_SETPIPE_SZ, _BUFFER_BYTES)
        due_s = time.monotonic()
        while self._condition is not _Condition.UNPLUGGED:
            period = next(periods)
            due_s += _PERIOD_S
            if self._closing.wait(max(0.0, due_s - time.monotonic())):
                return
            if self._condition is _Condition.HUNG or due_s < self._deaf_until_s:
                continue
            try:
                os.write(card, period)  # up to PIPE_BUF: whole or not at all
            except BlockingIOError:
                continue  # not fetched in time: an overrun
            except BrokenPipeError:
                return
