"""The pins: the library, the chips, and each configured input opened for a moment.

Outputs are never switched: a buzzer must not sound because somebody looks. While the daemon runs it has the
pins, and is asked.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

from gatewayd.config.model import Gpio
from gatewayd.core.model import Instant, State
from gatewayd.edge import gpio
from gatewayd.edge.clock import Clock
from gatewayd.selftest.machine import Machine, end
from gatewayd.selftest.row import Finding, fail, off, ok, warn

# What gpiozero can drive pins with, in the order in which it tries them.
LIBRARIES: Final = ("lgpio", "RPi.GPIO", "pigpio")
_BEST: Final = LIBRARIES[0]
# A pin library's first import takes seconds from a slow card; a level has settled 0.1 s after it is open.
_OPEN_S: Final = 8.0
_SETTLE_S: Final = 0.5
_INSTALL: Final = "apt install python3-lgpio"


@dataclass(slots=True, kw_only=True)
class Tried:
    """What came of opening the inputs."""

    said: tuple[State, str] | None = None  # by the pins' edge, last
    pressed: bool = False  # the panic button is down
    power: bool | None = None  # external power is there


def libraries() -> tuple[str, ...]:
    """Return the pin libraries that are installed, without importing them."""
    found = []
    for name in LIBRARIES:
        with suppress(ModuleNotFoundError):  # of the package before the dot
            if find_spec(name) is not None:
                found.append(name)
    return tuple(found)


def chips(machine: Machine) -> tuple[str, ...]:
    """Return the kernel's GPIO chips."""
    return tuple(sorted(chip.name for chip in machine.path("/dev").glob("gpiochip*")))


def pins(settings: Gpio) -> dict[str, int]:
    """Return what is configured: its name and its BCM number."""
    named = {
        "panic button": settings.panic_button,
        "status LED": settings.status_led,
        "buzzer": settings.buzzer,
        "power sense": settings.power_sense,
    }
    return {name: number for name, number in named.items() if number is not None}


async def try_inputs(settings: Gpio, clock: Clock) -> Tried:
    """Open the inputs for a moment and read them."""
    tried = Tried()
    told = asyncio.Event()

    def report(state: State, detail: str) -> None:
        tried.said = (state, detail)
        told.set()

    def on_press(_heard: Instant) -> None:
        tried.pressed = True

    def on_power(present: bool | None) -> None:
        tried.power = present

    inputs = gpio.Gpio(
        replace(settings, status_led=None, buzzer=None),
        now=clock.now,
        on_press=on_press,
        on_power=on_power,
        report=report,
        alive=lambda: None,
    )
    task = asyncio.create_task(inputs.run(), name="selftest gpio")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                await told.wait()
            await asyncio.sleep(_SETTLE_S)
    finally:
        await end(task)
    return tried


# --- the verdict --------------------------------------------------------------------------------------------


def judge_hardware(settings: Gpio, found: tuple[str, ...], there: tuple[str, ...]) -> list[Finding]:
    """Say whether pins can be used at all. `found`: libraries, `there`: chips."""
    wired = pins(settings)
    library = f"pin library {', '.join(found)}" if found else f"no pin library ({_BEST})"
    if not wired:
        return [off(f"no pin is configured; {library}")]
    names = ", ".join(f"{name} on GPIO{number}" for name, number in wired.items())
    findings = (
        []
        if found
        else [fail(f"{library}, but configured: {names}", f"{_INSTALL}; systemctl restart gatewayd")]
    )
    if not there:
        findings.append(
            fail(
                f"the kernel has no GPIO chip, but configured: {names}",
                "no /dev/gpiochip*: is this a Raspberry Pi? Else take the pins out of [gpio]",
            )
        )
    return findings or [ok(f"{names}; {library}, {', '.join(there)}")]


def judge_inputs(settings: Gpio, tried: Tried) -> list[Finding]:
    """Say how the inputs that were opened are."""
    state, detail = tried.said or (State.FAILED, f"the pins did not open within {_OPEN_S:.0f} s")
    if state is State.OFF:
        return []
    findings = []
    if state is not State.OK:
        findings.append(fail(detail, f"see what it says; {_INSTALL}; `gpioinfo` shows who holds a pin"))
    if tried.pressed:
        findings.append(
            warn(
                "the panic button is down, or its wire is shorted: each start of the daemon raises an alarm",
                "release it; unplug it and run this again to tell a short in the wire",
            )
        )
    if settings.power_sense is not None and state is State.OK:
        if tried.power:
            findings.append(ok("external power is there"))
        else:
            findings.append(
                warn(
                    "no external power at the power-sense pin: on battery, or the wire is off",
                    "switch the ignition on; look at the fuse and at the wire to the pin (3.3 V at most)",
                )
            )
    return findings
