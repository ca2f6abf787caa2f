"""A connection to one GATT device, over bluetoothd and a D-Bus connection of its own.

Not through bleak: its client hears through the connection of its scan, which is closed with every scan that
dies, and is then deaf without a word. Here a scan that is replaced disturbs nobody. Nothing here searches: a
device is connected that bluetoothd knows, by the path it has there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from dbus_fast import Message

from gatewayd.edge.ble.bluez import DEVICE, Bluetoothd, UnavailableError, within

# (service, characteristic), 128-bit UUIDs in lower case.
Name: TypeAlias = tuple[str, str]

_SERVICE: Final = "org.bluez.GattService1"
_CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_FAINTEST_DBM: Final = -128  # below all that a signal strength can be
# The edges must be down within 1.5 s. A device that stays connected is found by the next run.
_RELEASE_LIMIT_S: Final = 1.0


class Connection:
    """A device that is connected, its services known."""

    def __init__(self, bluetoothd: Bluetoothd, path: str) -> None:
        self.connected = False
        self._bluetoothd = bluetoothd
        self._path = path
        self._resolved = False
        self._paths: dict[Name, str] = {}
        self._hearers: dict[str, Callable[[bytes], None]] = {}

    def has(self, name: Name) -> bool:
        """Whether the device has this characteristic."""
        return name in self._paths

    async def confirm(self) -> None:
        """Ask bluetoothd whether the device is connected. Raises UnavailableError when it is not."""
        (connected,) = await self._bluetoothd.ask(
            self._path, _PROPERTIES, "Get", DEVICE, "Connected", signature="ss"
        )
        self.connected = self.connected and bool(connected.value)
        if self._bluetoothd.ended or not self.connected:
            raise self._bluetoothd.ended or UnavailableError("the connection was lost")

    async def read(self, name: Name) -> bytes:
        """Ask the device for a value."""
        (value,) = await self._bluetoothd.ask(
            self._paths[name], _CHARACTERISTIC, "ReadValue", {}, signature="a{sv}"
        )
        return bytes(value)

    async def write(self, name: Name, value: bytes) -> None:
        """Give the device a value."""
        await self._bluetoothd.ask(
            self._paths[name], _CHARACTERISTIC, "WriteValue", value, {}, signature="aya{sv}"
        )

    async def notify(self, name: Name, hear: Callable[[bytes], None]) -> None:
        """Have `hear` called with each value notified; and with what is read of it, so never read it."""
        self._hearers[self._paths[name]] = hear
        await self._bluetoothd.ask(self._paths[name], _CHARACTERISTIC, "StartNotify")

    async def join(self, *, limit_s: float) -> None:
        """Connect, unless it is, and wait up to `limit_s` seconds for its services to be known."""
        await self._bluetoothd.listen(self._path, self._note)
        # Once more: what changed before we listened was not signalled to us.
        (found,) = await self._bluetoothd.ask(self._path, _PROPERTIES, "GetAll", DEVICE, signature="s")
        self.connected, self._resolved = found["Connected"].value, found["ServicesResolved"].value
        if not self.connected:
            await self._bluetoothd.ask(self._path, DEVICE, "Connect")
            self.connected = True
        await within(limit_s, "reading the services of the device", self._resolve())
        objects = await self._bluetoothd.below(self._path)
        for path, interfaces in objects.items():
            if _CHARACTERISTIC in interfaces:
                characteristic = interfaces[_CHARACTERISTIC]
                service = objects.get(characteristic.get("Service", ""), {}).get(_SERVICE, {})
                self._paths[service.get("UUID", ""), characteristic.get("UUID", "")] = path

    async def leave(self) -> None:
        """Disconnect, or give up connecting."""
        with suppress(UnavailableError):  # gone already, or bluetoothd is
            await within(
                _RELEASE_LIMIT_S, "disconnecting", self._bluetoothd.ask(self._path, DEVICE, "Disconnect")
            )

    async def _resolve(self) -> None:
        while not self._resolved:
            if self._bluetoothd.ended or not self.connected:
                raise self._bluetoothd.ended or UnavailableError("the connection was lost at once")
            await self._bluetoothd.change(_RELEASE_LIMIT_S)

    def _note(self, message: Message) -> None:
        interface, changed, _ = message.body
        if interface == DEVICE and message.path == self._path:
            self.connected = changed["Connected"].value if "Connected" in changed else self.connected
            self._resolved = (
                changed["ServicesResolved"].value if "ServicesResolved" in changed else self._resolved
            )
            self._bluetoothd.nudge()
        elif interface == _CHARACTERISTIC and "Value" in changed and message.path in self._hearers:
            self._hearers[message.path](bytes(changed["Value"].value))


@asynccontextmanager
async def joined(
    bluetoothd: Bluetoothd, address: str, *, search: bool, limit_s: float
) -> AsyncIterator[Connection | None]:
    """A connection for as long as the block lasts; None where there is none to be had now.

    Without `search` only a device is taken that bluetoothd has connected already. Of several adapters that
    know the device the one that has it connected is taken, or else the one that hears it best.
    """
    known = {
        path: device
        for path, interfaces in (await bluetoothd.devices()).items()
        if (device := interfaces[DEVICE]).get("Address") == address and (search or device.get("Connected"))
    }
    if not known:
        yield None
        return
    path = max(
        known, key=lambda path: (bool(known[path].get("Connected")), known[path].get("RSSI", _FAINTEST_DBM))
    )
    bluetoothd.watch(path.rpartition("/")[0])
    connection = Connection(bluetoothd, path)
    try:
        await connection.join(limit_s=limit_s)
        yield connection
    finally:
        await connection.leave()
