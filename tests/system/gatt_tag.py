"""A button that must be connected, of the iTAG kind, by Bumble: it advertises, takes a connection, notifies.

Its services are those of `gatewayd.core.tags.itag`. No bonding, like the real ones.
"""

from __future__ import annotations

from typing import Final

from bumble.core import UUID
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service

from gatewayd.core.tags import itag

EVERY_MS: Final = 200  # between its advertisements
BATTERY_PCT: Final = 80
_Properties = Characteristic.Properties
# Flags (general discoverable, no BR/EDR), then the name (Core Specification Supplement, part A, 1.2 and 1.3).
_ADVERTISEMENT: Final = b"\x02\x01\x06" + b"\x05\x09iTAG"


class GattTag:
    """Such a tag, on a device of the air's."""

    def __init__(self, device: Device) -> None:
        self.beeps = 0
        self.connected = False
        self._device = device
        self._button: Characteristic[bytes] = Characteristic(
            UUID(itag.BUTTON[1]), _Properties.READ | _Properties.NOTIFY, Characteristic.READABLE, b"\x00"
        )
        alert: Characteristic[bytes] = Characteristic(
            UUID(itag.ALERT[1]),
            _Properties.WRITE | _Properties.WRITE_WITHOUT_RESPONSE,
            Characteristic.WRITEABLE,
            CharacteristicValue(write=self._alert),
        )
        battery = Characteristic(
            UUID(itag.BATTERY[1]), _Properties.READ, Characteristic.READABLE, bytes([BATTERY_PCT])
        )
        device.add_services(
            [
                Service(UUID(itag.BUTTON[0]), [self._button]),
                Service(UUID(itag.ALERT[0]), [alert]),
                Service(UUID(itag.BATTERY[0]), [battery]),
            ]
        )
        device.on(device.EVENT_CONNECTION, self._on_connection)

    async def advertise(self) -> None:
        """Wait for connections from now on, again after each."""
        self._device.advertising_data = _ADVERTISEMENT
        await self._device.start_advertising(
            advertising_interval_min=EVERY_MS, advertising_interval_max=EVERY_MS, auto_restart=True
        )

    async def press(self) -> None:
        """Press it once: whoever subscribed is told."""
        await self._device.notify_subscribers(self._button, b"\x01")

    async def lose(self) -> None:
        """End the connection, as a battery that was taken out does; it waits for another."""
        for connection in list(self._device.connections.values()):
            await connection.disconnect()

    async def stop(self) -> None:
        """Be gone."""
        await self._device.stop_advertising()
        await self.lose()

    def _on_connection(self, connection: Connection) -> None:
        self.connected = True
        connection.on(connection.EVENT_DISCONNECTION, self._on_disconnection)

    def _on_disconnection(self, _reason: int) -> None:
        self.connected = False

    def _alert(self, _connection: Connection, value: bytes) -> None:
        self.beeps += value == itag.BEEP
