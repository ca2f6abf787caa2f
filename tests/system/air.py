"""The air around the gateway's adapter: a virtual controller and tags that advertise, by Bumble.

Each tag is a device with a controller of its own on the same link. What Bumble does not do: it enforces no
scan type or window, and every report has the same signal strength. The duplicate filter that it lacks is
modelled here, in the two ways in which chips are known to have one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any, Final, cast

from bumble.controller import Controller
from bumble.device import Device
from bumble.hci import (
    HCI_EVENT_PACKET,
    HCI_LE_ADVERTISING_REPORT_EVENT,
    HCI_LE_EXTENDED_ADVERTISING_REPORT_EVENT,
    HCI_LE_META_EVENT,
    Address,
    HCI_LE_Set_Extended_Scan_Enable_Command,
    HCI_LE_Set_Scan_Enable_Command,
    HCI_Reset_Command,
    HCI_StatusReturnParameters,
)
from bumble.host import Host
from bumble.link import LocalLink
from bumble.ll import AdvExtInd, AdvInd
from bumble.transport.common import AsyncPipeSink, StreamPacketSink, StreamPacketSource

from gatewayd.sim.tag import Frame, SimulatedTag

ADAPTER: Final = "F0:F1:F2:F3:F4:F5"
PRESS_MS: Final = 100  # between a pressed tag's advertisements
_FLAGS: Final = 0x01  # AD types: Bluetooth Core Specification Supplement, part A, section 1
_SERVICE_DATA_16: Final = 0x16
_MANUFACTURER: Final = 0xFF
_SCAN_RESPONSE: Final = 0x04  # a legacy report's event type
_OF_A_SCAN_RESPONSE: Final = 0x08  # a bit of an extended one's


class Duplicate(StrEnum):
    """What a controller takes for a duplicate, and drops, while its host asks it to filter them.

    The Core Specification leaves it to the controller whether data count (vol. 4, part E, section 7.8.11).
    """

    NOTHING = "nothing"
    SAME_DATA = "address and data"
    SAME_ADDRESS = "address"


class Air:
    """Who is in range."""

    def __init__(self) -> None:
        self.reports = (
            0  # HCI events that the adapters gave to their machine: nearly all tell of an advertisement
        )
        self.duplicate = Duplicate.NOTHING
        self.scans = 0  # how often an adapter was told to scan: its filter's memory begins anew with each
        self.dropped = 0  # advertisements that its filter kept from the machine
        self.unscanned = 0  # advertisements that fell between two scans
        self.scan_responses = True  # whether devices answer the scan, with what they advertise
        self._adapters: set[_Adapter] = set()
        self._link = _Link()  # type: ignore[no-untyped-call]  # Bumble's own

    @asynccontextmanager
    async def adapter(self, socket: Path) -> AsyncIterator[None]:
        """Have a controller for every emulator that plugs into `socket`."""
        server = await asyncio.get_running_loop().create_unix_server(lambda: _Plug(self), str(socket))
        async with server:
            yield

    def attach(self, plug: _Plug, transport: asyncio.WriteTransport) -> _Adapter:
        """A controller for one boot."""
        adapter = _Adapter(
            self,
            "adapter",
            host_source=plug,
            host_sink=_Counted(transport, self),
            link=self._link,
            public_address=ADAPTER,
        )
        self._adapters.add(adapter)
        return adapter

    def detach(self, controller: _Adapter) -> None:
        """Its boot is over."""
        self._adapters.discard(controller)
        self._link.remove_controller(controller)

    def say(self, address: Address, data: bytes) -> None:
        """Have an advertisement be on the air once, at this moment, from a device that is not modelled."""
        for adapter in self._adapters:
            adapter.on_advertising_pdu(AdvInd(address, data))

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


class _Link(LocalLink):
    """The air between two that are connected: from the address with which the connection was made.

    Bumble sends from the random address, which Linux sets anew for each scan and does not connect with.
    """

    def send_acl_data(
        self, sender_controller: Controller, destination_address: Address, transport: Any, data: bytes
    ) -> None:
        """See `LocalLink`."""
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is not None and receiver is not None:
            own = connection.self_address
            asyncio.get_running_loop().call_soon(receiver.on_link_acl_data, own, transport, data)


class _Adapter(Controller):
    """The adapter's controller, with what Bumble leaves out: a filter, and that a reset ends the scan."""

    def __init__(self, air: Air, name: str, **parts: Any) -> None:
        super().__init__(name, **parts)
        self._air = air
        self._reported: set[tuple[Address, bytes]] = set()  # since this scan was enabled

    def on_hci_reset_command(self, command: HCI_Reset_Command) -> HCI_StatusReturnParameters:
        """End the scan (vol. 4, part E, section 7.3.2), or an adapter that comes back could not scan."""
        self.le_scan_enable = False
        return super().on_hci_reset_command(command)

    def on_hci_le_set_scan_enable_command(
        self, command: HCI_LE_Set_Scan_Enable_Command
    ) -> HCI_StatusReturnParameters:
        self._begin(command.le_scan_enable)
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_extended_scan_enable_command(
        self, command: HCI_LE_Set_Extended_Scan_Enable_Command
    ) -> HCI_StatusReturnParameters:
        self._begin(command.enable)
        return super().on_hci_le_set_extended_scan_enable_command(command)

    def on_advertising_pdu(self, pdu: AdvInd | AdvExtInd) -> None:
        """Report it, unless it is filtered. A connection that is being made is not the filter's business."""
        self._air.unscanned += not self.le_scan_enable
        if self.pending_le_connection is None and self._is_duplicate(pdu):
            self._air.dropped += 1
        else:
            super().on_advertising_pdu(pdu)

    def _begin(self, enable: int) -> None:
        self._air.scans += bool(enable)
        self._reported.clear()

    def _is_duplicate(self, pdu: AdvInd | AdvExtInd) -> bool:
        if not (self.le_scan_enable and self.filter_duplicates) or self._air.duplicate is Duplicate.NOTHING:
            return False
        heard = (pdu.advertiser_address, pdu.data if self._air.duplicate is Duplicate.SAME_DATA else b"")
        if heard in self._reported:
            return True
        self._reported.add(heard)
        return False


class _Counted(StreamPacketSink):
    """What goes to the machine, counted."""

    def __init__(self, transport: asyncio.WriteTransport, air: Air) -> None:
        super().__init__(transport)
        self._air = air

    def on_packet(self, packet: bytes) -> None:
        kind = _kind(packet)
        self._air.reports += kind is _Told.ADVERTISEMENT
        if kind is not _Told.SCAN_RESPONSE or self._air.scan_responses:
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


class Button:
    """A device that is silent until it is pressed; `frame` is what a press says, made anew for each."""

    def __init__(self, transmitter: Transmitter, frame: Callable[[], Frame]) -> None:
        self._transmitter = transmitter
        self._frame = frame

    async def press(self) -> None:
        """Press it: from now on it sends this press, ten times a second."""
        await self._transmitter.advertise(self._frame(), PRESS_MS)

    async def release(self) -> None:
        """The burst is over."""
        await self._transmitter.stop()


class Tag(Button):
    """A worker's tag, which numbers what it says."""

    def __init__(self, transmitter: Transmitter, tag: SimulatedTag) -> None:
        super().__init__(transmitter, tag.press)
        self._tag = tag

    @property
    def counter(self) -> int:
        """The anti-replay counter of its last frame."""
        return self._tag.counter


class _Told(Enum):
    ADVERTISEMENT = auto()
    SCAN_RESPONSE = auto()
    OTHER = auto()


def _kind(packet: bytes) -> _Told:
    """What an HCI packet tells of (Core Specification, vol. 4, part E, sections 7.7.65.2 and 7.7.65.13)."""
    if packet[:2] != bytes([HCI_EVENT_PACKET, HCI_LE_META_EVENT]):
        return _Told.OTHER
    if packet[3] == HCI_LE_ADVERTISING_REPORT_EVENT:
        answers = packet[5] == _SCAN_RESPONSE
    elif packet[3] == HCI_LE_EXTENDED_ADVERTISING_REPORT_EVENT:
        answers = bool(packet[5] & _OF_A_SCAN_RESPONSE)
    else:
        return _Told.OTHER
    return _Told.SCAN_RESPONSE if answers else _Told.ADVERTISEMENT


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
