"""bluetoothd as its clients see it: a stand-in on a private bus, with a radio that hears what it is told.

It behaves like BlueZ 5.82 where a scanner depends on it: per-client discovery and filters, devices whose data
are kept over time, signals only for what changed unless a client asked for duplicates, monitors that are
read from the client. And it misbehaves on demand: errors, calls that hang, silence, restarts, adapters that
go and come back. `gatewayd.sim.air` runs it as a process of its own.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from dbus_fast import BusType, Message, MessageFlag, MessageType, NameFlag, Variant
from dbus_fast.aio import MessageBus

from gatewayd.sim.devices import Adapter, Monitor, Properties, new_device, news
from gatewayd.sim.gatt import Gatt
from gatewayd.sim.tag import Frame

SERVICE: Final = "org.bluez"
ROOT: Final = "/org/bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
MONITOR: Final = "org.bluez.AdvertisementMonitor1"
MONITOR_MANAGER: Final = "org.bluez.AdvertisementMonitorManager1"
OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
ADDRESS: Final = "F0:F1:F2:F3:F4:F5"  # of the first adapter
_BUS: Final = "org.freedesktop.DBus"
_FULL_WAIT_S: Final = 0.001  # dbus-daemon reads a full socket empty within milliseconds


class BlueZ:
    """The stand-in. `async with BlueZ(bus_address) as bluez:`, then `bluez.advertise(frame)`.

    `monitors=False` is a bluetoothd without `Experimental = true`. `chip_filter=True` is a controller that
    drops repeats by address alone while its duplicate filter is on, which it is during an active scan
    without a monitor. A device not heard for `temporary_s` seconds (BlueZ's TemporaryTimeout) is forgotten
    when the next one is heard. `errors`, `hangs`, `silent` and `meanwhile` may be changed at any time.
    """

    def __init__(
        self, bus_address: str, *, monitors: bool = True, chip_filter: bool = False, temporary_s: float = 30.0
    ) -> None:
        self.errors: dict[str, str] = {}  # member -> the D-Bus error it answers with
        self.hangs: set[str] = set()  # members that take effect and never answer
        self.silent = False  # hears nothing, signals nothing, and says all is well
        self.deaf: set[str] = set()  # adapters (hciN) that do so until they are switched off and on
        self.meanwhile: deque[Frame] = deque()  # each is on the air while devices are being told
        self.calls: list[str] = []  # members that clients called, in order
        self.unasked = 0  # answers to calls that wanted none: the system bus rejects each
        self._bus_address = bus_address
        self._bus: MessageBus | None = None
        self._outgoing: deque[Message] = deque()
        self._monitors = monitors
        self._chip_filter = chip_filter
        self._temporary_s = temporary_s
        self._adapters = {"/org/bluez/hci0": Adapter(address=ADDRESS)}
        self.gatt = Gatt(
            changed=self._changed,
            added=lambda path, found: self._signal(
                "/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, found]
            ),
            device=lambda path: next(
                (a.devices[path] for a in self._adapters.values() if path in a.devices), None
            ),
        )
        self._told: set[int] = set()  # serials of calls that want no answer
        self._reads: dict[int, tuple[str, str]] = {}  # serial of a GetManagedObjects -> client and path
        self._methods: dict[tuple[str | None, str | None], Callable[[Message, Adapter], Message]] = {
            (ADAPTER, "SetDiscoveryFilter"): self._set_discovery_filter,
            (ADAPTER, "StartDiscovery"): self._start_discovery,
            (ADAPTER, "StopDiscovery"): self._stop_discovery,
            (PROPERTIES, "GetAll"): self._get_all,
            (PROPERTIES, "Get"): self._get,
            (PROPERTIES, "Set"): self._set,
        }
        if monitors:
            self._methods[MONITOR_MANAGER, "RegisterMonitor"] = self._register_monitor
            self._methods[MONITOR_MANAGER, "UnregisterMonitor"] = self._unregister_monitor

    async def __aenter__(self) -> BlueZ:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    @property
    def discovering(self) -> bool:
        """Whether a client is scanning."""
        return any(adapter.scans for adapter in self._adapters.values())

    @property
    def scanned(self) -> set[str]:
        """The adapters (hciN) with which a client is scanning."""
        return {path.rpartition("/")[2] for path, adapter in self._adapters.items() if adapter.scans}

    @property
    def monitored(self) -> bool:
        """Whether a client's advertisement monitor is active."""
        return any(adapter.watched for adapter in self._adapters.values())

    # --- the world --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the bus and take the name `org.bluez`."""
        bus = MessageBus(bus_address=self._bus_address, bus_type=BusType.SYSTEM)
        await bus.connect()
        bus.add_message_handler(self._receive)
        rule = "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'"
        await bus.call(_bus_call("AddMatch", "s", rule))
        self._bus = bus
        await bus.request_name(SERVICE, NameFlag.DO_NOT_QUEUE)

    async def stop(self) -> None:
        """Leave the bus as a killed bluetoothd does: scans, monitors and devices are forgotten."""
        self.gatt.lose_all()
        for adapter in self._adapters.values():
            for forgotten in (adapter.scans, adapter.filters, adapter.monitors, adapter.devices):
                forgotten.clear()
        if self._bus is not None:
            bus, self._bus = self._bus, None
            self._outgoing.clear()
            bus.disconnect()
            with suppress(OSError, EOFError):  # the bus may have gone first
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def restart(self) -> None:
        """What `systemctl restart bluetooth` does: a new owner of the name, with no memory."""
        await self.stop()
        await self.start()

    def power(self, on: bool, name: str | None = None) -> None:
        """Switch the adapters, or the one of this name, on or off, as rfkill or another program does."""
        for path, adapter in self._adapters.items():
            if name is not None and path != f"{ROOT}/{name}":
                continue
            adapter.powered = on
            if not on:
                self.deaf.discard(path.rpartition("/")[2])
                self._end_discovery(path, adapter)
                self.gatt.lose_all()
            self._changed(path, ADAPTER, {"Powered": Variant("b", on)})

    def end_discovery(self) -> None:
        """The scans end on bluetoothd's side; no client is told but by `Discovering`."""
        for path, adapter in self._adapters.items():
            self._end_discovery(path, adapter)

    def scan_for_another_program(self) -> None:
        """Another program on this machine scans too: `Discovering` stays true without the gateway's scan."""
        for path, adapter in self._adapters.items():
            adapter.scans.add("another program")
            self._changed(path, ADAPTER, {"Discovering": Variant("b", True)})

    def unplug(self, name: str = "hci0") -> None:
        """The adapter is pulled out."""
        path = f"/org/bluez/{name}"
        adapter = self._adapters.pop(path)
        for device in adapter.devices:
            self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [device, [DEVICE]])
        self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [path, self._interfaces(adapter)])

    def plug(self, name: str = "hci0", address: str = ADDRESS) -> None:
        """An adapter is put in, powered."""
        path = f"/org/bluez/{name}"
        adapter = self._adapters[path] = Adapter(address=address)
        self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, self._interfaces(adapter)])

    def advertise(self, frame: Frame) -> None:
        """One advertisement on the air; every adapter that listens hears it."""
        if self.silent or self._bus is None:
            return
        for path, adapter in self._adapters.items():
            if adapter.powered and path.rpartition("/")[2] not in self.deaf and self._hears(adapter, frame):
                device = f"{path}/dev_{frame.address.replace(':', '_')}"
                self._report(path, adapter, device, frame)

    def _hears(self, adapter: Adapter, frame: Frame) -> bool:
        if not adapter.scans:
            return any(monitor.matches(frame) for monitor in adapter.monitors.values())
        if adapter.watched or not self._chip_filter:
            return True
        if frame.address in adapter.passed:
            return False
        adapter.passed.add(frame.address)
        return True

    def _report(self, path: str, adapter: Adapter, device: str, frame: Frame) -> None:
        for forgotten in adapter.hear(device, asyncio.get_running_loop().time(), self._temporary_s):
            self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [forgotten, [DEVICE]])
        known = adapter.devices.get(device)
        if known is None:
            adapter.devices[device] = known = new_device(path, frame)
            self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [device, {DEVICE: known}])
        else:
            changes = news(known, frame, duplicates=bool(adapter.scans) and adapter.duplicates)
            known.update(changes)
            if changes:
                self._changed(device, DEVICE, changes)
        for (client, root), monitor in adapter.monitors.items():
            if device not in monitor.told and monitor.matches(frame):
                monitor.told.add(device)
                self._tell(client, root, MONITOR, "DeviceFound", device)

    # --- what clients ask -------------------------------------------------------------------------------

    def _receive(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self._overhear(message)
            return None
        if message.message_type is MessageType.METHOD_RETURN:
            if message.reply_serial in self._reads:
                client, root = self._reads.pop(message.reply_serial)
                self._read_monitor(client, root, message.body[0].get(root, {}))
            elif message.reply_serial in self._told:
                self.unasked += 1
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.interface == f"{_BUS}.Peer":
            return None
        return self._answer(message)

    def _answer(self, message: Message) -> Message | bool:
        member = message.member or ""
        self.calls.append(member)
        if member in self.errors:
            return Message.new_error(message, self.errors[member], "simulated")
        if (message.interface, member, message.path) == (OBJECTS, "GetManagedObjects", "/"):
            objects = self._objects()
            if self.meanwhile:
                self.advertise(self.meanwhile.popleft())
            answer = Message.new_method_return(message, "a{oa{sa{sv}}}", [objects])
            return True if member in self.hangs else answer
        adapter = self._adapters.get(message.path or "")
        if adapter is None and (told := self.gatt.answer(message)) is not None:
            return True if member in self.hangs else told
        if adapter is None:
            return Message.new_error(message, f"{_BUS}.Error.UnknownObject", f"no object {message.path}")
        method = self._methods.get((message.interface, member))
        if method is None:
            text = f'Method "{member}" with signature "{message.signature}" doesn\'t exist'
            return Message.new_error(message, f"{_BUS}.Error.UnknownMethod", text)
        answer = method(message, adapter)
        return True if member in self.hangs else answer  # done, and the answer got lost

    def _overhear(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and not message.body[2]:
            self._forget(message.body[0])
        elif message.member == "InterfacesAdded" and message.sender is not None:
            self._read_monitor(message.sender, message.body[0], message.body[1])

    def _forget(self, client: str) -> None:
        """A client left the bus: its scan, its filters and its monitors end."""
        self.gatt.forget(client)
        for path, adapter in self._adapters.items():
            adapter.filters.pop(client, None)
            for key in [key for key in adapter.monitors if key[0] == client]:
                del adapter.monitors[key]
            if client in adapter.scans:
                self._end_discovery(path, adapter, client)

    def _set_discovery_filter(self, message: Message, adapter: Adapter) -> Message:
        adapter.filters[message.sender or ""] = message.body[0]
        return Message.new_method_return(message)

    def _start_discovery(self, message: Message, adapter: Adapter) -> Message:
        if not adapter.powered:
            return _error(message, "NotReady", "Resource Not Ready")
        if message.sender in adapter.scans:
            return _error(message, "InProgress", "Operation already in progress")
        adapter.scans.add(message.sender or "")
        adapter.passed.clear()
        self._changed(message.path or "", ADAPTER, {"Discovering": Variant("b", True)})
        return Message.new_method_return(message)

    def _stop_discovery(self, message: Message, adapter: Adapter) -> Message:
        if not adapter.powered:
            return _error(message, "NotReady", "Resource Not Ready")
        if message.sender not in adapter.scans:
            return _error(message, "Failed", "No discovery started")
        self._end_discovery(message.path or "", adapter, message.sender)
        return Message.new_method_return(message)

    def _end_discovery(self, path: str, adapter: Adapter, client: str | None = None) -> None:
        """End a client's scan, or all; after the last one devices have no signal strength any more."""
        was = bool(adapter.scans)
        adapter.scans.difference_update({client} if client else set(adapter.scans))
        if was and not adapter.scans:
            for device, known in adapter.devices.items():
                if known.pop("RSSI", None):
                    self._changed(device, DEVICE, {}, ["RSSI"])
            self._changed(path, ADAPTER, {"Discovering": Variant("b", False)})

    def _get_all(self, message: Message, adapter: Adapter) -> Message:
        properties = self._interfaces(adapter).get(message.body[0], {})
        return Message.new_method_return(message, "a{sv}", [properties])

    def _get(self, message: Message, adapter: Adapter) -> Message:
        value = self._interfaces(adapter).get(message.body[0], {}).get(message.body[1])
        if value is None:
            return Message.new_error(message, f"{_BUS}.Error.InvalidArgs", f"no property {message.body[1]}")
        return Message.new_method_return(message, "v", [value])

    def _set(self, message: Message, adapter: Adapter) -> Message:
        if message.body[:2] != [ADAPTER, "Powered"]:
            return _error(message, "NotSupported", "simulated")
        self.power(message.body[2].value, (message.path or "").rpartition("/")[2])
        return Message.new_method_return(message)

    # --- monitors ---------------------------------------------------------------------------------------

    def _register_monitor(self, message: Message, adapter: Adapter) -> Message:
        client, root = message.sender or "", message.body[0]
        if (client, root) in adapter.monitors:
            return _error(message, "AlreadyExists", "Already Exists")
        adapter.monitors[client, root] = Monitor()
        # Sent before the reply, so it is in force when the client then exports its monitor.
        rule = f"type='signal',sender='{client}',interface='{OBJECTS}',member='InterfacesAdded'"
        self._send(_bus_call("AddMatch", "s", rule))
        self._reads[self._call(client, root, OBJECTS, "GetManagedObjects")] = (client, root)
        return Message.new_method_return(message)

    def _unregister_monitor(self, message: Message, adapter: Adapter) -> Message:
        if adapter.monitors.pop((message.sender or "", message.body[0]), None) is None:
            return _error(message, "DoesNotExist", "Does Not Exist")
        return Message.new_method_return(message)

    def _read_monitor(self, client: str, root: str, interfaces: Mapping[str, Properties]) -> None:
        properties = interfaces.get(MONITOR)
        for adapter in self._adapters.values():
            monitor = adapter.monitors.get((client, root))
            if monitor is None or properties is None:
                continue
            if properties["Type"].value == "or_patterns" and properties["Patterns"].value:
                monitor.patterns = [
                    (place, kind, content) for place, kind, content in properties["Patterns"].value
                ]
                self._tell(client, root, MONITOR, "Activate")
            else:
                self._tell(client, root, MONITOR, "Release")

    # --- the bus ----------------------------------------------------------------------------------------

    def _interfaces(self, adapter: Adapter) -> dict[str, Properties]:
        interfaces = {ADAPTER: adapter.properties()}
        if self._monitors:
            interfaces[MONITOR_MANAGER] = {
                "SupportedMonitorTypes": Variant("as", ["or_patterns"]),
                "SupportedFeatures": Variant("as", []),
            }
        return interfaces

    def _objects(self) -> dict[str, dict[str, Properties]]:
        objects: dict[str, dict[str, Properties]] = {ROOT: {}}
        for path, adapter in self._adapters.items():
            objects[path] = self._interfaces(adapter)
            objects |= {device: {DEVICE: known} for device, known in adapter.devices.items()}
        return objects | self.gatt.objects()

    def _changed(self, path: str, interface: str, changed: Properties, gone: list[str] | None = None) -> None:
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, changed, gone or []])

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._send(Message.new_signal(path, interface, member, signature, body))

    def _call(self, client: str, path: str, interface: str, member: str) -> int:
        """Call a client's method; returns the call's serial."""
        message = Message(client, path, interface, member)
        self._send(message)
        return message.serial

    def _tell(self, client: str, path: str, interface: str, member: str, *devices: str) -> None:
        """Call a client's method, with object paths as arguments, as bluetoothd does: it wants no answer."""
        flags = MessageFlag.NO_REPLY_EXPECTED
        body = list(devices)
        message = Message(client, path, interface, member, flags=flags, signature="o" * len(body), body=body)
        self._send(message)
        self._told.add(message.serial)

    def _send(self, message: Message) -> None:
        if self._bus is not None:
            message.serial = self._bus.next_serial()
            self._outgoing.append(message)
            self._drain(self._bus)

    def _drain(self, bus: MessageBus) -> None:
        """Send what waits while there is room: dbus-fast takes a full socket for a broken one."""
        while self._outgoing and bus is self._bus and bus.connected:
            if bus._sock is None or not select.select((), (bus._sock,), (), 0)[1]:
                asyncio.get_running_loop().call_later(_FULL_WAIT_S, self._drain, bus)
                return
            bus.send(self._outgoing.popleft())


def _error(message: Message, name: str, text: str) -> Message:
    return Message.new_error(message, f"org.bluez.Error.{name}", text)


def _bus_call(member: str, signature: str, *body: Any) -> Message:
    return Message(_BUS, "/org/freedesktop/DBus", _BUS, member, signature=signature, body=list(body))
