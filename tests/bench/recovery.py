"""How long the radio is deaf after what can happen to it: from the moment hearing is possible again.

On the host, with the stand-in for bluetoothd: what remains is the daemon's own. The booted machine's figures
(tests/system/test_radio.py) have BlueZ's and the kernel's in them, too.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Final

from bench.figures import Figure, percentile
from gatewayd.config.model import Radio as Settings
from gatewayd.core.model import Advertisement, State
from gatewayd.core.recovery import LADDER, Finding, Hearing, Rung, Step
from gatewayd.edge.ble import Radio, Remedies, Timing
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import SYSTEM_BUS, PrivateBus
from gatewayd.sim.tag import SimulatedTag

TIMES: Final = 20
QUICK: Final = 2
MOST_S: Final = 2.0
LIMIT_S: Final = 30.0
_COPY_S: Final = 0.02  # a pressed tag's frames: the tag's own pace is not what is measured
_STARTED_S: Final = 1.0  # systemd starts a killed bluetoothd after so long (bluetooth.service.d)
_OFF_S: Final = 1.0
_LOOK_S: Final = 0.001
# Ten minutes become a second, so that a silence is short.
_IMPATIENT: Final = Timing(
    check_s=0.1, silence_s=0.5, ladder={**LADDER, Finding.SILENT: (Rung(step=Step.NEW_SCANNER, after_s=1.0),)}
)
_TAG: Final = "C4:11:22:33:44:55"


async def _power_cycle(bluez: BlueZ) -> None:
    bluez.power(False)
    await asyncio.sleep(_OFF_S)
    bluez.power(True)


async def _restart(bluez: BlueZ) -> None:
    await bluez.restart()


async def _kill(bluez: BlueZ) -> None:
    await bluez.stop()
    await asyncio.sleep(_STARTED_S)
    await bluez.start()


async def _silence(bluez: BlueZ) -> None:
    """Say nothing until the radio makes a fresh scan; the shortest usual burst begins just then."""
    stopped = bluez.calls.count("StopDiscovery")
    while bluez.calls.count("StopDiscovery") == stopped:  # noqa: ASYNC110 -- it has no event
        await asyncio.sleep(_LOOK_S)


EVENTS: Final[dict[str, tuple[str, Callable[[BlueZ], Awaitable[None]]]]] = {
    "power_cycle": ("the adapter was switched off and on", _power_cycle),
    "restart": ("bluetoothd was restarted", _restart),
    "kill": ("bluetoothd was killed and started again", _kill),
    "fresh_scan": ("a silent scan began to be replaced", _silence),
}


class _Ear:
    """What the radio last told."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.heard: Advertisement | None = None

    def report(self, hearing: Hearing) -> None:
        self.state = hearing.state

    def hear(self, advertisement: Advertisement) -> None:
        self.heard = advertisement


async def measure(times: int) -> list[Figure]:
    """Let each of the events happen so many times, one after the other."""
    before = os.environ.get(SYSTEM_BUS)
    with tempfile.TemporaryDirectory() as folder, PrivateBus(Path(folder)) as bus:
        os.environ[SYSTEM_BUS] = bus.address
        try:
            return [await _event(bus, name, times) for name in EVENTS]
        finally:
            os.environ.pop(SYSTEM_BUS)
            if before is not None:
                os.environ[SYSTEM_BUS] = before


async def _event(bus: PrivateBus, name: str, times: int) -> Figure:
    what, happen = EVENTS[name]
    ear = _Ear()
    settings = Settings(enabled=True, adapters=(), canary=None)
    radio = Radio(
        settings,
        on_advertisement=ear.hear,
        report=ear.report,
        alive=lambda: None,
        remedies=Remedies(),
        timing=_IMPATIENT if happen is _silence else None,
    )
    async with BlueZ(bus.address) as bluez:
        running = asyncio.create_task(radio.run(), name="radio")
        try:
            tag = SimulatedTag(_TAG)
            await _pressed(bluez, ear, tag)
            took_s = []
            for _ in range(times):
                await happen(bluez)
                began_s = monotonic()
                took_s.append(await _pressed(bluez, ear, tag) - began_s)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return Figure(
        name=f"hearing_after_{name}",
        what=f"{what}, the stand-in's: hears a press again, slowest of {times}",
        value=max(took_s),
        unit="s",
        beside=percentile(took_s, 0.5),
        beside_what="median",
        most=MOST_S,
    )


async def _pressed(bluez: BlueZ, ear: _Ear, tag: SimulatedTag) -> float:
    """Press until a radio hears it that says that it hears; when its first frame was heard, or never."""
    frame = tag.press()
    first_s = None
    until_s = monotonic() + LIMIT_S
    while monotonic() < until_s:
        bluez.advertise(frame)
        await asyncio.sleep(_COPY_S)
        if first_s is None and ear.heard is not None and ear.heard.service_data == frame.service_data:
            first_s = ear.heard.heard_s
        if first_s is not None and ear.state is State.OK:
            return first_s
    return float("inf")
