"""bluetoothd over a D-Bus connection of our own: its adapters, what happens to ours, and a monitor.

The monitor is an advertisement monitor (`org.bluez.AdvertisementMonitor1`) that does nothing when it is told
of a device. It is there for what its existence does: while one is active the kernel leaves the controller's
duplicate filter off, for the scan beside it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, DBusError, InvalidAddressError
from dbus_fast.unpack import unpack_variants

from gatewayd.core.recovery import Finding

T = TypeVar("T")

_ACTIVATE_LIMIT_S: Final = 0.5  # a monitor is active within milliseconds; hearing does not wait for it longer
_CLOSE_LIMIT_S: Final = 1.0

_BLUEZ: Final = "org.bluez"
DEVICE: Final = "org.bluez.Device1"
_ADAPTER: Final = "org.bluez.Adapter1"
_MONITOR: Final = "org.bluez.AdvertisementMonitor1"
_MONITOR_MANAGER: Final = "org.bluez.AdvertisementMonitorManager1"
_DBUS: Final = "org.freedesktop.DBus"
_OBJECTS: Final = "org.freedesktop.DBus.ObjectManager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_MONITOR_PATH: Final = "/org/gatewayd/monitor"

_RULES: Final = (
    f"type='signal',sender='{_DBUS}',member='NameOwnerChanged',arg0='{_BLUEZ}'",
    # arg0 leaves out the devices, of which there may be a thousand a second.
    f"type='signal',sender='{_BLUEZ}',interface='{_PROPERTIES}',member='PropertiesChanged',arg0='{_ADAPTER}'",
)

# Of an adapter that comes or goes, one rule each: by prefix the devices would come too. Linux gives the
# lowest number that is free.
_COMING: Final = tuple(
    f"type='signal',sender='{_BLUEZ}',interface='{_OBJECTS}',arg0path='/org/bluez/hci{number}'"
    for number in range(8)
)

# AD type 0x01 (flags) at position 0, with the values that tags and beacons send: BlueZ 5.82 matches flags,
# but no pattern on service data. A tag without flags is heard by the scan all the same.
_PATTERNS: Final = [[0, 0x01, bytes([flags])] for flags in (0x02, 0x04, 0x05, 0x06, 0x18, 0x1A)]

NONE_FREE: Final = "every adapter is in use, or off"

_NOT_RUNNING: Final = "bluetoothd is not running: `systemctl start bluetooth`"
_ADVICE: Final = {
    f"{_DBUS}.Error.ServiceUnknown": _NOT_RUNNING,
    f"{_DBUS}.Error.NameHasNoOwner": _NOT_RUNNING,
    f"{_DBUS}.Error.NoReply": "bluetoothd went away: `systemctl status bluetooth`",
    f"{_DBUS}.Error.AccessDenied": "not allowed to use bluetoothd: add this user to the group bluetooth",
    f"{_DBUS}.Error.UnknownObject": "the Bluetooth adapter is gone: plug it in, see `bluetoothctl list`",
}
EXPERIMENTAL: Final = "set Experimental = true in /etc/bluetooth/main.conf"
_NO_MONITORS: Final = frozenset({f"{_DBUS}.Error.UnknownMethod", f"{_DBUS}.Error.UnknownInterface"})


_FINDINGS: Final = {
    f"{_DBUS}.Error.ServiceUnknown": Finding.NOT_RUNNING,
    f"{_DBUS}.Error.NameHasNoOwner": Finding.NOT_RUNNING,
    f"{_DBUS}.Error.NoReply": Finding.NOT_RUNNING,
    f"{_DBUS}.Error.UnknownObject": Finding.GONE,
}


class UnavailableError(Exception):
    """The radio cannot hear now; says why and what a person can do. The gateway's answer: core/recovery."""

    def __init__(self, text: str, finding: Finding = Finding.REFUSED) -> None:
        super().__init__(text)
        self.finding = finding


class RefusedError(UnavailableError):
    """bluetoothd or the bus answered with an error; `name` is its D-Bus name."""

    def __init__(self, name: str, text: str) -> None:
        said = _ADVICE.get(name, f"bluetoothd refused: {name.rpartition('.')[2]}: {text}")
        super().__init__(said, _FINDINGS.get(name, Finding.REFUSED))
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter as bluetoothd shows it."""

    path: str
    address: str
    powered: bool
    discovering: bool  # for any program, not only for us

    @property
    def name(self) -> str:
        """Its name of the day, hciN."""
        return self.path.rpartition("/")[2]


def choose(
    adapters: tuple[Adapter, ...], wanted: str | None, taken: Collection[str] = frozenset()
) -> Adapter:
    """The adapter to scan with: by name, by address (numbers change, it does not), or the first that is on.

    `taken`: the addresses of those that others scan with. What is chosen may be off. Raises UnavailableError
    when there is none.
    """
    if not adapters:
        text = "no Bluetooth adapter: plug one in, or see `rfkill list` and `dmesg`"
        raise UnavailableError(text, Finding.GONE)
    candidates = [a for a in adapters if wanted is None or wanted.upper() in {a.name.upper(), a.address}]
    if not candidates:
        found = ", ".join(f"{a.name} {a.address}" for a in adapters)
        text = f"expected adapter {wanted}, found {found}: plug it in or see [radio] adapter"
        raise UnavailableError(text, Finding.GONE)
    free = [adapter for adapter in candidates if adapter.address not in taken]
    if not free:
        raise UnavailableError(NONE_FREE, Finding.TAKEN)
    return next((adapter for adapter in free if adapter.powered), free[0])


async def within(limit_s: float, what: str, call: Coroutine[Any, Any, T]) -> T:
    """Await `call` for at most `limit_s` seconds. Raises UnavailableError when it takes longer."""
    try:
        async with asyncio.timeout(limit_s):
            return await call
    except TimeoutError as error:
        raise UnavailableError(f"no answer within {limit_s:g} s: {what}", Finding.NO_ANSWER) from error


@asynccontextmanager
async def connect(limit_s: float) -> AsyncIterator[Bluetoothd]:
    """A connection to the system bus for as long as the block lasts; each call has `limit_s` seconds.

    Raises UnavailableError where there is no system bus; that bluetoothd runs is not looked at yet.
    """
    bus: MessageBus | None = None
    try:
        try:
            bus = MessageBus(bus_type=BusType.SYSTEM)
            await within(limit_s, "connecting to D-Bus", bus.connect())
        except (OSError, EOFError, AuthError, InvalidAddressError) as error:
            text = f"no system D-Bus ({error}): `systemctl start dbus`"
            raise UnavailableError(text, Finding.NO_BUS) from error
        bluetoothd = Bluetoothd(bus, limit_s)
        await bluetoothd.subscribe()
        yield bluetoothd
    finally:
        if bus is not None:
            await disconnect(bus)


async def disconnect(bus: MessageBus) -> None:
    """Close a connection, whatever state it is in."""
    bus.disconnect()
    if bus.unique_name:  # without one it never was connected
        # Not wait_for: before Python 3.12 it may swallow a cancellation.
        with suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]


class Bluetoothd:
    """What we ask of bluetoothd ourselves. Every call has a time limit and raises UnavailableError."""

    def __init__(self, bus: MessageBus, limit_s: float) -> None:
        self.monitor_active = False  # so the controller's duplicate filter is off
        self.ended: UnavailableError | None = None  # what ended our scan, as soon as bluetoothd says so
        self.news = False  # of an adapter that came, went or was switched, of another bluetoothd, or other
        self._bus = bus
        self._limit_s = limit_s
        self._path: str | None = None  # of the adapter that scans for us
        self._changed = asyncio.Event()
        bus.add_message_handler(self._receive)

    async def subscribe(self) -> None:
        """Ask the bus for the signals that tell of an end."""
        for rule in _RULES:
            await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", rule)

    async def expect_adapters(self) -> None:
        """Ask the bus for the signals that tell of adapters that come and go: `news`."""
        for rule in _COMING:
            await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", rule)

    @property
    def connected(self) -> bool:
        """Whether the bus is still there: without it there will be no signal."""
        return self._bus.connected

    async def adapters(self) -> tuple[Adapter, ...]:
        """All adapters, hci0 first."""
        found = [
            _adapter(path, interfaces[_ADAPTER])
            for path, interfaces in (await self._objects()).items()
            if _ADAPTER in interfaces
        ]
        return tuple(sorted(found, key=lambda adapter: (len(adapter.name), adapter.name)))

    async def devices(self) -> dict[str, dict[str, dict[str, Any]]]:
        """All devices that bluetoothd knows: path, interface, property."""
        objects = await self._objects()
        return {path: unpack_variants(found) for path, found in objects.items() if DEVICE in found}

    async def below(self, path: str) -> dict[str, dict[str, dict[str, Any]]]:
        """An object and what lies below it, a device's services and characteristics: as `devices`."""
        objects = await self._objects()
        return {at: unpack_variants(objects[at]) for at in objects if f"{at}/".startswith(f"{path}/")}

    async def listen(self, path: str, hear: Callable[[Message], None]) -> None:
        """Have `hear` called with each change of a property of an object or what lies below it."""
        rule = f"type='signal',sender='{_BLUEZ}',interface='{_PROPERTIES}',path_namespace='{path}'"
        await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, "AddMatch", rule)

        def receive(message: Message) -> None:
            if message.member == "PropertiesChanged" and f"{message.path}/".startswith(f"{path}/"):
                hear(message)

        self._bus.add_message_handler(receive)

    async def ask(
        self, path: str, interface: str, member: str, *arguments: object, signature: str = ""
    ) -> list[Any]:
        """Call a method of an object; its results."""
        return await self._call(_BLUEZ, path, interface, member, *arguments, signature=signature)

    async def adapter(self, path: str) -> Adapter:
        """One adapter as it is now. Fails at once where bluetoothd died: D-Bus does not start it first."""
        (properties,) = await self._call(
            _BLUEZ, path, _PROPERTIES, "GetAll", _ADAPTER, flags=MessageFlag.NO_AUTOSTART
        )
        return _adapter(path, properties)

    async def power(self, path: str, on: bool) -> None:
        """Switch an adapter on or off."""
        await self._call(
            _BLUEZ, path, _PROPERTIES, "Set", _ADAPTER, "Powered", Variant("b", on), signature="ssv"
        )

    def watch(self, path: str) -> None:
        """From now on note what ends a scan of this adapter."""
        self._path = path
        self.ended = None

    async def change(self, limit_s: float) -> None:
        """Wait for something to happen to bluetoothd or an adapter, or a `nudge`, up to `limit_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        self._changed.clear()

    def nudge(self) -> None:
        """There is other news: end a `change` now."""
        self.news = True
        self._changed.set()

    async def register_monitor(self, path: str) -> str | None:
        """Register the monitor at an adapter; says why where that cannot be done, None when it is active."""
        try:
            await self._call(_BLUEZ, path, _MONITOR_MANAGER, "RegisterMonitor", _MONITOR_PATH, signature="o")
        except RefusedError as error:
            if error.name in _NO_MONITORS:
                return EXPERIMENTAL
            return str(error)
        except UnavailableError as error:
            return str(error)
        # Only now: BlueZ takes no notice of a monitor that was there before it was registered.
        properties = {"Type": Variant("s", "or_patterns"), "Patterns": Variant("a(yyay)", _PATTERNS)}
        added = [_MONITOR_PATH, {_MONITOR: properties}]
        await self._bus.send(
            Message.new_signal(_MONITOR_PATH, _OBJECTS, "InterfacesAdded", "oa{sa{sv}}", added)
        )
        until_s = asyncio.get_running_loop().time() + _ACTIVATE_LIMIT_S
        while not self.monitor_active and (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            await self.change(left_s)
        return None if self.monitor_active else "bluetoothd did not activate one"

    def _receive(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self._note(message)
        elif message.message_type is MessageType.METHOD_CALL and message.path == _MONITOR_PATH:
            answer = self._answer(message)
            # bluetoothd wants no answer where it calls for news. To the system bus one would be an attempt to
            # speak out of turn: it rejects it, and says so in the journal, for every advertisement.
            return True if message.flags & MessageFlag.NO_REPLY_EXPECTED else answer
        return None

    def _note(self, message: Message) -> None:
        if message.member == "NameOwnerChanged" and message.body[0] == _BLUEZ:
            if self.ended is None:
                self.ended = UnavailableError("bluetoothd stopped or was restarted", Finding.NOT_RUNNING)
            self.news = True
            self._changed.set()
        elif message.member in {"InterfacesAdded", "InterfacesRemoved"} and _ADAPTER in message.body[1]:
            self.news = True
            self._changed.set()
        elif message.member == "PropertiesChanged" and message.body[0] == _ADAPTER:
            powered = message.body[1].get("Powered")
            self.news = self.news or powered is not None
            off = message.path == self._path and powered is not None and not powered.value
            if off and self.ended is None:
                self.ended = UnavailableError("the Bluetooth adapter was switched off", Finding.OFF)
            self._changed.set()

    def _answer(self, message: Message) -> Message:
        """What bluetoothd asks of the monitor; that it found or lost a device is no news to us."""
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [{}])
        if message.member in {"Activate", "Release"}:
            self.monitor_active = message.member == "Activate"
            self._changed.set()
        return Message.new_method_return(message)

    async def _objects(self) -> dict[str, dict[str, dict[str, Variant]]]:
        (objects,) = await self._call(_BLUEZ, "/", _OBJECTS, "GetManagedObjects")
        return cast("dict[str, dict[str, dict[str, Variant]]]", objects)

    async def _call(
        self,
        service: str,
        path: str,
        interface: str,
        member: str,
        *arguments: object,
        signature: str | None = None,
        flags: MessageFlag = MessageFlag.NONE,
    ) -> list[Any]:
        """Call a method whose arguments are strings, unless `signature` says otherwise; its results."""
        if not self._bus.connected:
            raise UnavailableError("the connection to D-Bus was lost", Finding.NO_BUS)
        message = Message(
            service,
            path,
            interface,
            member,
            signature="s" * len(arguments) if signature is None else signature,
            body=list(arguments),
            flags=flags,
        )
        try:
            reply = await within(self._limit_s, f"{member} of {service}", self._bus.call(message))
        except (OSError, EOFError, DBusError) as error:
            text = f"the connection to D-Bus was lost: {error!r}"
            raise UnavailableError(text, Finding.NO_BUS) from error
        if reply.message_type is MessageType.ERROR:
            raise RefusedError(reply.error_name or "", " ".join(str(part) for part in reply.body))
        return list(reply.body)


def _adapter(path: str, properties: dict[str, Variant]) -> Adapter:
    """An adapter of its properties. An adapter that is just going away may lack some: then it is off."""

    def value(name: str, default: Any) -> Any:
        return properties[name].value if name in properties else default

    return Adapter(
        path=path,
        address=str(value("Address", "")).upper(),
        powered=bool(value("Powered", False)),
        discovering=bool(value("Discovering", False)),
    )
