"""The air around the gateway's adapter: a virtual controller and tags that advertise, by Bumble.

Each tag is a device with a controller of its own on the same link. What Bumble does not do: it enforces no
duplicate filter, scan type or window, and every report has the same signal strength.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from bumble.controller import Controller
from bumble.device import Device
from bumble.hci import (
    HCI_EVENT_PACKET,
    HCI_LE_ADVERTISING_REPORT_EVENT,
    HCI_LE_EXTENDED_ADVERTISING_REPORT_EVENT,
    HCI_LE_META_EVENT,
    Address,
    HCI_Reset_Command,
    HCI_StatusReturnParameters,
)
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, StreamPacketSink, StreamPacketSource

from gatewayd.sim.tag import Frame, SimulatedTag

ADAPTER: Final = "F0:F1:F2:F3:F4:F5"
PRESS_MS: Final = 100  # between a pressed tag's advertisements
_FLAGS: Final = 0x01  # AD types: Bluetooth Core Specification Supplement, part A, section 1
_SERVICE_DATA_16: Final = 0x16
_MANUFACTURER: Final = 0xFF
_SCAN_RESPONSE: Final = 0x04  # a legacy report's event type
_OF_A_SCAN_RESPONSE: Final = 0x08  # a bit of an extended one's


class Air:
    """Who is in range."""

    def __init__(self) -> None:
        self.reports = (
            0  # HCI events that the adapters gave to their machine: nearly all tell of an advertisement
        )
        self._link = LocalLink()  # type: ignore[no-untyped-call]  # Bumble's own

    @asynccontextmanager
    async def adapter(self, socket: Path) -> AsyncIterator[None]:
        """Have a controller for every emulator that plugs into `socket`."""
        server = await asyncio.get_running_loop().create_unix_server(lambda: _Plug(self), str(socket))
        async with server:
            yield

    def attach(self, plug: _Plug, transport: asyncio.WriteTransport) -> Controller:
        """A controller for one boot."""
        return _Adapter(
            "adapter",
            host_source=plug,
            host_sink=_Counted(transport, self),
            link=self._link,
            public_address=ADAPTER,
        )

    def detach(self, controller: Controller) -> None:
        """Its boot is over."""
        self._link.remove_controller(controller)

    async def transmitter(self, address: str) -> Transmitter:
        """A device that can advertise."""
        return Transmitter(await self.device(address))

    async def device(self, address: str) -> Device:
        """A device with a controller of its own."""
        controller = Controller("tag", link=self._link)
        device = Device(
            name="tag", address=Address(address), host=Host(controller, AsyncPipeSink(controller))
        )
        await device.power_on()
        return device


class _Adapter(Controller):
    """The adapter's controller. What Bumble leaves out and a chip does: a reset ends its scan.

    Bluetooth Core Specification, vol. 4, part E, section 7.3.2. An adapter that comes back could not scan.
    """

    def on_hci_reset_command(self, command: HCI_Reset_Command) -> HCI_StatusReturnParameters:
        self.le_scan_enable = False
        return super().on_hci_reset_command(command)


class _Counted(StreamPacketSink):
    """What goes to the machine, counted."""

    def __init__(self, transport: asyncio.WriteTransport, air: Air) -> None:
        super().__init__(transport)
        self._air = air

    def on_packet(self, packet: bytes) -> None:
        self._air.reports += _tells_of_an_advertisement(packet)
        super().on_packet(packet)


class _Plug(StreamPacketSource):
    """One boot's connection: it has a controller of its own, which ends with it."""

    def __init__(self, air: Air) -> None:
        super().__init__()
        self._air = air

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._controller = self._air.attach(self, cast("asyncio.WriteTransport", transport))

    def connection_lost(self, _error: Exception | None) -> None:
        self._air.detach(self._controller)


class Transmitter:
    """One device on the air."""

    def __init__(self, device: Device) -> None:
        self._device = device

    async def advertise(self, frame: Frame, every_ms: int) -> None:
        """Send this frame, and no other, until told otherwise."""
        if self._device.is_advertising:
            await self._device.stop_advertising()
        self._device.advertising_data = written(frame)
        await self._device.start_advertising(
            advertising_interval_min=every_ms, advertising_interval_max=every_ms, auto_restart=False
        )

    async def stop(self) -> None:
        """Fall silent."""
        if self._device.is_advertising:
            await self._device.stop_advertising()


class Tag:
    """A worker's tag: silent until it is pressed."""

    def __init__(self, transmitter: Transmitter, tag: SimulatedTag) -> None:
        self._transmitter = transmitter
        self._tag = tag

    @property
    def counter(self) -> int:
        """The anti-replay counter of its last frame."""
        return self._tag.counter

    async def press(self) -> None:
        """Press it: from now on it sends this press, ten times a second."""
        await self._transmitter.advertise(self._tag.press(), PRESS_MS)

    async def release(self) -> None:
        """The burst is over."""
        await self._transmitter.stop()


def _tells_of_an_advertisement(packet: bytes) -> bool:
    """Whether it is an advertising report, not of a scan response (Core Specification, vol. 4, E, 7.7.65)."""
    if packet[:2] != bytes([HCI_EVENT_PACKET, HCI_LE_META_EVENT]):
        return False
    legacy = packet[3] == HCI_LE_ADVERTISING_REPORT_EVENT and packet[5] != _SCAN_RESPONSE
    extended = packet[3] == HCI_LE_EXTENDED_ADVERTISING_REPORT_EVENT and not packet[5] & _OF_A_SCAN_RESPONSE
    return legacy or extended


def written(frame: Frame) -> bytes:
    """A frame as it is on the air (Bluetooth Core Specification, vol. 3, part C, section 11)."""
    structures = []
    if frame.flags is not None:
        structures.append((_FLAGS, bytes([frame.flags])))
    for uuid, data in frame.service_data.items():
        structures.append((_SERVICE_DATA_16, bytes.fromhex(uuid[4:8])[::-1] + data))
    for company, data in frame.manufacturer_data.items():
        structures.append((_MANUFACTURER, company.to_bytes(2, "little") + data))
    return b"".join(bytes([len(data) + 1, kind]) + data for kind, data in structures)
