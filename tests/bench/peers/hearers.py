"""Who hears presses: each whole, as it is shipped, on a bus of its own, with the broker of its own.

The button is one that all three can decode: a Shelly BLU Button1 by its name and its BTHome service data,
not encrypted, with the packet id once more in manufacturer data, since ThingsBoard reads nothing else. All
of it fits into one advertisement of 31 bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from bench.peers.install import THEENGS, THINGSBOARD, THINGSBOARD_BLE, installed
from bench.peers.rig import Rig
from bench.peers.session_limits import SessionLimits
from bench.peers.systems import (
    GATEWAYD,
    THEENGS_GATEWAY,
    Process,
    configure_thingsboard,
    run_theengs,
    run_thingsboard,
    with_bluez,
)
from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.tag import Frame, SimulatedTag

NAME: Final = "SBBT-002C"  # Theengs knows the button by it
COMPANY: Final = 0xFFFF  # reserved for tests
_TAG: Final = """
[tag {name}]
format = bthome
address = {address}
worker = bench
"""
_CONFIGURATION: Final = """\
[gateway]
id = bench

[mqtt]
brokers = {host}:{port}
"""
_CALLS: Final = {"raised", "repeated"}  # the events that tell of a press


class Button:
    """Button `number`, up to 255. Each press has the next packet id."""

    def __init__(self, number: int) -> None:
        self._tag = SimulatedTag(address_of(number))
        self._number = number

    def press(self) -> tuple[str, Frame]:
        """Return the mark of one more press, and its frame."""
        frame = self._tag.press()
        counted = {COMPANY: self._tag.packet_id.to_bytes(2, "big")}
        told = replace(frame, name=NAME, manufacturer_data=counted)
        return mark(self._number, self._tag.packet_id), told


def address_of(number: int) -> str:
    """The address of a button."""
    return f"C4:44:00:00:00:{number:02X}"


def name_of(number: int) -> str:
    """What a button is called where it has a name."""
    return f"button-{number}"


def mark(number: int, packet_id: int) -> str:
    """What a press is known by wherever it arrives."""
    return f"{number}/{packet_id}"


class Hearer(Protocol):
    """One system that hears by Bluetooth and sends by MQTT."""

    async def start(self, rig: Rig, bus: str, buttons: int) -> None:
        """Start it between the BlueZ on `bus` and the broker of `rig`; it is told of so many buttons."""

    def must_run(self) -> None:
        """RuntimeError when it has ended by itself: what it did not hear says nothing then."""

    async def stop(self) -> None:
        """End it."""


class WholeGatewayd(Process):
    """The whole daemon as installed; no receiver and no microphone."""

    async def start(self, rig: Rig, bus: str, buttons: int) -> None:
        """See `Hearer`."""
        tags = (_TAG.format(name=name_of(each), address=address_of(each)) for each in range(buttons))
        configuration = self.folder / "gatewayd.conf"
        configuration.write_text(_CONFIGURATION.format(host=LOOPBACK, port=rig.proxy.port) + "".join(tags))
        files = ("--config", str(configuration), "--state", str(self.folder / "state"))
        more = with_bluez(self.folder, bus)
        await self.run(sys.executable, "-m", "gatewayd", "run", *files, more=more, piped=False)


class ThingsBoardBle(Process):
    """ThingsBoard IoT Gateway with its own BLE connector."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._venv = installed(THINGSBOARD, THINGSBOARD_BLE)
        self._limits: SessionLimits | None = None

    async def start(self, rig: Rig, bus: str, buttons: int) -> None:
        """See `Hearer`."""
        self._limits = SessionLimits(rig.broker.port)
        value = {"key": "press", "dataSourceType": "advertisement", "valueExpression": "[0:2]"}
        devices = [
            {
                "name": name_of(each),
                "MACAddress": address_of(each),
                "telemetry": [value],
                "attributes": [],
            }
            for each in range(buttons)
        ]
        connector = {"name": "BLE Connector", "type": "ble"}
        configuration = {"name": "BLE Connector", "devices": devices}
        configure_thingsboard(self, self._venv, rig.proxy.port, connector, configuration, tuned={})
        await run_thingsboard(self, self._venv, with_bluez(self.folder, bus))

    async def stop(self) -> None:
        """See `Hearer`."""
        await super().stop()
        if self._limits is not None:
            self._limits.close()


class TheengsBle(Process):
    """Theengs Gateway: it needs to be told of no button."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._venv = installed(THEENGS)

    async def start(self, rig: Rig, bus: str, buttons: int) -> None:
        """See `Hearer`."""
        del buttons
        await run_theengs(self, self._venv, rig.proxy.port, bus)


def marks_of_gatewayd(payload: bytes) -> Iterable[str]:
    """A press is told by the event of its alarm."""
    event = _object(payload)
    if event.get("type") in _CALLS:
        yield mark(_number(event["tag"]["id"]), event["tag"]["counter"])


def marks_of_thingsboard(payload: bytes) -> Iterable[str]:
    """A press is a value of telemetry; one message has those of several devices."""
    for device, entries in _object(payload).items():
        if isinstance(entries, list):
            for entry in entries:
                yield mark(_number(device), entry["values"]["press"])


def marks_of_theengs(payload: bytes) -> Iterable[str]:
    """A press is an advertisement that was decoded as a button's."""
    told = _object(payload)
    if "packet" in told:
        yield mark(int(told["id"].rpartition(":")[2], 16), told["packet"])


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _object(payload: bytes) -> dict[str, Any]:
    """What a system sent, if it is a JSON object; else an empty one."""
    try:
        value = json.loads(payload)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


Make: TypeAlias = tuple[Callable[[Path], Hearer], Callable[[bytes], Iterable[str]]]

HEARS_ALREADY: Final[Mapping[str, Make]] = {GATEWAYD: (WholeGatewayd, marks_of_gatewayd)}
HEARERS: Final[Mapping[str, Make]] = {
    **HEARS_ALREADY,
    "ThingsBoard gateway, as shipped": (ThingsBoardBle, marks_of_thingsboard),
    THEENGS_GATEWAY: (TheengsBle, marks_of_theengs),
}
