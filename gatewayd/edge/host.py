"""What the machine says of itself: supply, temperature, uptime, bytes written, versions. Reads files only."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

import gatewayd
from gatewayd.core.health import HostFacts

# Libraries whose version explains a difference between two gateways.
LIBRARIES: Final = ("bleak", "dbus-fast", "gpiozero", "paho-mqtt", "pyalsaaudio", "pyserial")

_THROTTLED: Final = Path("sys/devices/platform/soc/soc:firmware/get_throttled")
_UNDERVOLTAGE_NOW: Final = 0x1  # bit 0 of get_throttled; bit 16 would say "at some time since boot"


class Host:
    """The machine below `root` (tests pass a folder). Every figure it does not tell is None."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._versions = _versions(root)

    def facts(self) -> HostFacts:
        """Read everything once: a dozen small files, a few milliseconds on a Pi."""
        return HostFacts(
            undervoltage=self._undervoltage(),
            temperature_c=self._temperature_c(),
            uptime_s=self._uptime_s(),
            written_bytes=self._written_bytes(),
            versions=self._versions,
        )

    def _undervoltage(self) -> bool | None:
        """Ask the kernel's voltage alarm (driver raspberrypi-hwmon), else the firmware's older flags."""
        for name in sorted((self._root / "sys/class/hwmon").glob("*/name")):
            if _read(name) == "rpi_volt" and (alarm := _read(name.parent / "in0_lcrit_alarm")) is not None:
                return alarm != "0"
        flags = _read(self._root / _THROTTLED)
        try:
            return None if flags is None else bool(int(flags, 16) & _UNDERVOLTAGE_NOW)
        except ValueError:
            return None

    def _temperature_c(self) -> float | None:
        """Read the processor's zone, else the first one that tells."""
        zones = sorted((self._root / "sys/class/thermal").glob("thermal_zone*"))
        zones.sort(key=lambda zone: "cpu" not in (_read(zone / "type") or ""))
        for zone in zones:
            thousandths = _number(_read(zone / "temp"))
            if thousandths is not None:
                return round(thousandths / 1000, 1)
        return None

    def _uptime_s(self) -> float | None:
        return _number((_read(self._root / "proc/uptime") or "").partition(" ")[0])

    def _written_bytes(self) -> int | None:
        """Bytes this process caused to be written to storage (proc_pid_io(5), `write_bytes`)."""
        for line in (_read(self._root / "proc/self/io") or "").splitlines():
            name, _, value = line.partition(": ")
            if name == "write_bytes" and value.isdecimal():
                return int(value)
        return None


def _versions(root: Path) -> Mapping[str, str]:
    versions = {
        "gatewayd": gatewayd.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    for line in (_read(root / "etc/os-release") or "").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            versions["os"] = value.strip("\"'")
    model = (_read(root / "proc/device-tree/model") or "").rstrip("\0")
    if model:
        versions["machine"] = model
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
