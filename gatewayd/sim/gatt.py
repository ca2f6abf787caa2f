"""Tags that must be connected, of the iTAG kind, as bluetoothd shows them.

`bluez.gatt.add(GattTag(address=…))`, then let it advertise like any other: it connects when a client asks.
Like BlueZ 5.82 as far as a button depends on it: services appear with the first connection, a value is
signalled only while somebody asked to be notified, a client that leaves ends its notifications but not the
connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dbus_fast import Message, Variant

from gatewayd.core.tags.itag import ALERT, BATTERY, BUTTON, LINK_LOSS
from gatewayd.sim.devices import Properties

_SERVICE: Final = "org.bluez.GattService1"
_CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
_DEVICE: Final = "org.bluez.Device1"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_FLAGS: Final[Mapping[tuple[str, str], list[str]]] = {
    BUTTON: ["read", "notify"],
    ALERT: ["write-without-response"],
    LINK_LOSS: ["read", "write"],
    BATTERY: ["read", "notify"],
}

Objects = dict[str, dict[str, Properties]]


@dataclass(slots=True, kw_only=True)
class GattTag:
    """The tag itself. `has` may be made smaller: cheap ones lack this and that."""

    address: str
    battery_pct: int = 80
    has: tuple[tuple[str, str], ...] = (BUTTON, ALERT, LINK_LOSS, BATTERY)
    connected: bool = False
    connections: int = 0
    written: list[tuple[tuple[str, str], bytes]] = field(default_factory=list)  # what it was told, in order

    @property
    def beeps(self) -> int:
        """How often it was told to beep."""
        return self.written.count((ALERT, b"\x01"))


class Gatt:
    """The tags that can be connected. `changed` and `added` send bluetoothd's signals."""

    def __init__(
        self,
        *,
        changed: Callable[[str, str, Properties], None],
        added: Callable[[str, dict[str, Properties]], None],
        device: Callable[[str], Properties | None],
    ) -> None:
        self._changed = changed
        self._added = added
        self._device = device  # what bluetoothd knows of the device of a path
        self._tags: dict[str, GattTag] = {}  # by the last part of the path
        self._notified: dict[str, set[str]] = {}  # clients by the path of a characteristic
        self._shown: dict[str, GattTag] = {}  # those whose services are known, by path

    def add(self, tag: GattTag) -> GattTag:
        """A tag is there from now on."""
        self._tags[f"dev_{tag.address.replace(':', '_')}"] = tag
        return tag

    def press(self, tag: GattTag, value: bytes = b"\x01") -> bool:
        """Press it; whether anybody was told."""
        told = False
        for path in [path for path, shown in self._shown.items() if shown is tag and tag.connected]:
            button = _paths(path, tag)[BUTTON]
            if self._notified.get(button):
                self._changed(button, _CHARACTERISTIC, {"Value": Variant("ay", value)})
                told = True
        return told

    def lose(self, tag: GattTag) -> None:
        """The connection ends: out of range, its battery is empty, or somebody ended it."""
        for path in [path for path, shown in self._shown.items() if shown is tag]:
            self._end(path, tag)

    def lose_all(self) -> None:
        """The adapter was switched off, or bluetoothd ended."""
        for tag in self._tags.values():
            self.lose(tag)

    def forget(self, client: str) -> None:
        """A client left the bus: nothing is notified for it any more."""
        for clients in self._notified.values():
            clients.discard(client)

    def objects(self) -> Objects:
        """What bluetoothd shows of the services."""
        found: Objects = {}
        for path, tag in self._shown.items():
            found |= _services(path, tag)
        return found

    def answer(self, message: Message) -> Message | None:
        """The answer to a call of a device or what lies below it; None where that is not here."""
        device, _, below = (message.path or "").partition("/service")
        tag = self._tags.get(device.rpartition("/")[2])
        known = self._device(device)
        if tag is None or known is None:
            return None
        if (message.interface, message.member) == (_PROPERTIES, "Get") and not below:
            return Message.new_method_return(message, "v", [known[message.body[1]]])
        if (message.interface, message.member) == (_PROPERTIES, "GetAll") and not below:
            return Message.new_method_return(message, "a{sv}", [known])
        if message.interface == _DEVICE and message.member == "Connect":
            self._connect(device, tag)
            return Message.new_method_return(message)
        if not tag.connected:
            return Message.new_error(message, "org.bluez.Error.NotConnected", "Not Connected")
        if message.interface == _DEVICE and message.member == "Disconnect":
            self._end(device, tag)
            return Message.new_method_return(message)
        return self._use(message, tag, device)

    def _use(self, message: Message, tag: GattTag, device: str) -> Message | None:
        name = next((name for name, path in _paths(device, tag).items() if path == message.path), None)
        match message.member:
            case "StartNotify":
                self._notified.setdefault(message.path or "", set()).add(message.sender or "")
                return Message.new_method_return(message)
            case "ReadValue" if name == BATTERY:
                return Message.new_method_return(message, "ay", [bytes([tag.battery_pct])])
            case "WriteValue" if name is not None:
                tag.written.append((name, bytes(message.body[0])))
                return Message.new_method_return(message)
            case _:
                return None

    def _connect(self, device: str, tag: GattTag) -> None:
        if tag.connected:
            return
        tag.connected = True
        tag.connections += 1
        self._tell(device, "Connected", now=True)
        if device not in self._shown:
            self._shown[device] = tag
            for path, interfaces in _services(device, tag).items():
                self._added(path, interfaces)
        self._tell(device, "ServicesResolved", now=True)

    def _end(self, device: str, tag: GattTag) -> None:
        tag.connected = False
        for path in _paths(device, tag).values():
            self._notified.pop(path, None)
        self._tell(device, "ServicesResolved", now=False)
        self._tell(device, "Connected", now=False)

    def _tell(self, device: str, name: str, *, now: bool) -> None:
        known = self._device(device)
        if known is not None:
            known[name] = Variant("b", now)
            self._changed(device, _DEVICE, {name: known[name]})


def _paths(device: str, tag: GattTag) -> dict[tuple[str, str], str]:
    """Where each of a tag's characteristics is."""
    numbered = enumerate(tag.has, start=1)
    return {name: f"{device}/service{16 * number:04x}/char{16 * number + 1:04x}" for number, name in numbered}


def _services(device: str, tag: GattTag) -> Objects:
    found: Objects = {}
    for (service, characteristic), path in _paths(device, tag).items():
        parent = path.rpartition("/")[0]
        about: dict[str, Any] = {"UUID": ("s", service), "Device": ("o", device), "Primary": ("b", True)}
        found[parent] = {_SERVICE: {key: Variant(*value) for key, value in about.items()}}
        about = {
            "UUID": ("s", characteristic),
            "Service": ("o", parent),
            "Flags": ("as", _FLAGS[service, characteristic]),
            "Notifying": ("b", False),
            "MTU": ("q", 23),
        }
        found[path] = {_CHARACTERISTIC: {key: Variant(*value) for key, value in about.items()}}
    return found
