"""What the machine tells, from files laid out as a Pi's."""

from pathlib import Path

import pytest

import gatewayd
from gatewayd.core.health import HostFacts
from gatewayd.edge.host import Host


def lay(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root)


def test_a_pi_tells_everything(tmp_path: Path) -> None:
    """Voltage alarm, processor temperature, uptime and bytes written are read from the kernel's files."""
    facts = lay(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
            "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
            "sys/class/thermal/thermal_zone0/type": "battery\n",
            "sys/class/thermal/thermal_zone0/temp": "20000\n",
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "51121\n",
            "proc/uptime": "350735.47 234388.90\n",
            "proc/self/io": "rchar: 1\nwchar: 2\nwrite_bytes: 323932160\ncancelled_write_bytes: 0\n",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
        },
    ).facts()
    assert facts.undervoltage is False
    assert facts.temperature_c == 51.1
    assert facts.uptime_s == 350735.47
    assert facts.written_bytes == 323932160
    assert facts.versions["gatewayd"] == gatewayd.__version__
    assert facts.versions["os"] == "Debian GNU/Linux 13 (trixie)"
    assert facts.versions["machine"] == "Raspberry Pi 4 Model B Rev 1.5"
    assert "bleak" in facts.versions


@pytest.mark.parametrize(("alarm", "expected"), [("0", False), ("1", True)])
def test_the_voltage_alarm_counts(tmp_path: Path, alarm: str, expected: bool) -> None:
    """The kernel's alarm is undervoltage now."""
    host = lay(
        tmp_path,
        {
            "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon1/in0_lcrit_alarm": f"{alarm}\n",
        },
    )
    assert host.facts().undervoltage is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [("0\n", False), ("50005\n", True), ("50000\n", False), ("junk\n", None)]
)
def test_the_firmwares_flags_count_where_there_is_no_alarm(
    tmp_path: Path, flags: str, expected: bool | None
) -> None:
    """Bit 0 is undervoltage now; bit 16, some time since boot, is not now."""
    host = lay(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": flags})
    assert host.facts().undervoltage is expected


def test_a_machine_that_tells_nothing_leaves_it_open(tmp_path: Path) -> None:
    """What cannot be read is None, never zero."""
    facts = Host(tmp_path).facts()
    assert facts == HostFacts(versions=facts.versions)


def test_a_file_of_noise_is_not_a_figure(tmp_path: Path) -> None:
    """Text where a number is expected counts as not told."""
    facts = lay(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "hot\n",
            "proc/uptime": "long\n",
            "proc/self/io": "write_bytes: many\n",
        },
    ).facts()
    assert (facts.temperature_c, facts.uptime_s, facts.written_bytes) == (None, None, None)


def test_this_machine_tells_its_uptime() -> None:
    """The real /proc is read."""
    facts = Host().facts()
    assert facts.uptime_s is not None
    assert facts.uptime_s > 0
    assert facts.written_bytes is not None
