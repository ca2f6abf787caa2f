"""The supply: undervoltage now and since the boot, heat, and what the power-sense pin says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gatewayd.core.health import HostFacts
from gatewayd.selftest.machine import command
from gatewayd.selftest.row import Finding, off, ok, warn

# A Pi's processor slows down from 80 °C on.
HOT_C: Final = 80.0
# What a Pi's kernel logs when the voltage drops (driver raspberrypi-hwmon, and the firmware before it).
_LOGGED: Final = "[Uu]nder-?voltage detected"
_SUPPLY: Final = (
    "use the supply made for this Pi (5.1 V, 3 A; Pi 5: 5 A) and a short, thick cable; in a vehicle a"
    " converter for 5 A; take what draws current off its USB ports"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What was found about the supply; None where nothing tells."""

    undervoltage: bool | None
    logged: int  # how often the kernel told of undervoltage since the boot
    temperature_c: float | None


async def look(facts: HostFacts) -> Power:
    """Ask the kernel's log too, where the machine is one that tells of its voltage."""
    logged = None
    if facts.undervoltage is not None:
        logged = await command(
            "journalctl", "--dmesg", "--boot", "--quiet", "--output=cat", f"--grep={_LOGGED}"
        )
    return Power(
        undervoltage=facts.undervoltage,
        logged=len((logged or "").splitlines()),
        temperature_c=facts.temperature_c,
    )


def judge(power: Power) -> list[Finding]:
    """Say how the supply is; what the power-sense pin says is the pins' business."""
    findings = []
    if power.undervoltage:
        findings.append(warn("undervoltage now: the supply or its cable is too weak", _SUPPLY))
    elif power.logged:
        times = "once" if power.logged == 1 else f"{power.logged} times"
        findings.append(warn(f"undervoltage {times} since the boot, not now", _SUPPLY))
    elif power.undervoltage is None:
        findings.append(off("this machine does not tell of its voltage"))
    else:
        findings.append(ok("no undervoltage since the boot"))
    if power.temperature_c is not None:
        degrees = f"{power.temperature_c:.0f} °C"
        if power.temperature_c >= HOT_C:
            findings.append(
                warn(f"the processor has {degrees}, and slows down", "give it air, shade or a heat sink")
            )
        else:
            findings.append(ok(f"processor at {degrees}"))
    return findings
