"""On what machine, and with which versions, something was measured."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Final

import gatewayd

LIBRARIES: Final = ("bleak", "dbus-fast", "paho-mqtt", "cryptography", "pyalsaaudio", "opuslib")


def describe() -> dict[str, str]:
    """What a reader needs to compare figures, from the outside in."""
    return {
        "machine": _model(),
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "gatewayd": gatewayd.__version__,
    }


def _model() -> str:
    """The board where the firmware tells (a Raspberry Pi does), else the processor."""
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text().strip("\0\n")
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{found[1] if found else 'unknown processor'} ({platform.machine()})"
