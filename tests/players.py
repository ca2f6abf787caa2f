"""What real players make of a recording: opusinfo and ffmpeg."""

import cmath
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

RATE_HZ = 16_000

needs_players = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("opusinfo")),
    reason="ffmpeg and opusinfo (opus-tools) are needed to judge a recording",
)


def opusinfo(file: Path) -> str:
    """What opusinfo says; whoever asks looks for warnings."""
    run = subprocess.run(["opusinfo", file], capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def decode(file: Path) -> tuple[list[int], str]:
    """The samples at 16 kHz, and what ffmpeg complained of."""
    arguments = ["-v", "warning", "-i", str(file), "-f", "s16le", "-ac", "1", "-ar", str(RATE_HZ), "-"]
    run = subprocess.run(["ffmpeg", *arguments], capture_output=True, check=True)
    return list(struct.unpack(f"<{len(run.stdout) // 2}h", run.stdout)), run.stderr.decode()


def accepted(file: Path) -> list[int]:
    """The samples of a file that neither player has a word against."""
    said = opusinfo(file)
    assert "WARNING" not in said, said
    assert "ERROR" not in said, said
    samples, complaints = decode(file)
    assert complaints == ""
    return samples


def share_of(frequency_hz: float, samples: list[int]) -> float:
    """How much of the samples' power is at one frequency, 0 to 1 (Goertzel's question, asked directly)."""
    power = sum(sample * sample for sample in samples)
    step = -2j * cmath.pi * frequency_hz / RATE_HZ
    line = abs(sum(sample * cmath.exp(step * index) for index, sample in enumerate(samples)))
    return 2 * line * line / len(samples) / power if power else 0.0
