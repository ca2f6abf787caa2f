"""What BlueZ knows: adapters, the devices they heard, and what their clients asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, TypeAlias

from dbus_fast import Variant

from gatewayd.sim.tag import Frame

Properties: TypeAlias = dict[str, Variant]

_RSSI_STEP_DB: Final = 8  # BlueZ signals a smaller change only to clients that asked for duplicates
_FLAGS: Final = 0x01  # AD type of the flags


@dataclass(slots=True, kw_only=True)
class Monitor:
    """An advertisement monitor of a client; without patterns it is not active yet."""

    patterns: list[tuple[int, int, bytes]] = field(default_factory=list)  # position, AD type, content
    told: set[str] = field(default_factory=set)  # paths of the devices it was told of

    def matches(self, frame: Frame) -> bool:
        """BlueZ 5.82 matches flags; patterns on service data were measured not to match."""
        if frame.flags is None:
            return False
        return any(
            position == 0 and kind == _FLAGS and bytes([frame.flags]).startswith(bytes(content))
            for position, kind, content in self.patterns
        )


@dataclass(slots=True, kw_only=True)
class Adapter:
    address: str
    powered: bool = True
    filters: dict[str, Properties] = field(default_factory=dict)  # by client
    scans: set[str] = field(default_factory=set)  # clients that are discovering
    monitors: dict[tuple[str, str], Monitor] = field(default_factory=dict)  # by client and path
    devices: dict[str, Properties] = field(default_factory=dict)  # by path
    heard: dict[str, float] = field(default_factory=dict)  # when, by path; longest ago first
    passed: set[str] = field(default_factory=set)  # what the chip's own filter has let through

    def hear(self, path: str, now_s: float, temporary_s: float) -> list[str]:
        """A device is heard; the paths of those that are forgotten, not heard for `temporary_s` seconds."""
        self.heard.pop(path, None)
        self.heard[path] = now_s
        silent = takewhile(lambda each: now_s - each[1] > temporary_s, self.heard.items())
        forgotten = [each for each, _ in silent]
        for each in forgotten:
            del self.heard[each]
            self.devices.pop(each, None)
            for monitor in self.monitors.values():
                monitor.told.discard(each)
        return forgotten

    @property
    def watched(self) -> bool:
        return any(monitor.patterns for monitor in self.monitors.values())

    @property
    def duplicates(self) -> bool:
        """Whether a client asked to be told of unchanged data too; BlueZ takes no `DuplicateData` for no."""
        asked = (self.filters.get(client, {}).get("DuplicateData") for client in self.scans)
        return any(value is not None and value.value for value in asked)

    def properties(self) -> Properties:
        return {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", "simulated"),
            "Alias": Variant("s", "simulated"),
            "Class": Variant("u", 0),
            "Powered": Variant("b", self.powered),
            "Discoverable": Variant("b", False),
            "DiscoverableTimeout": Variant("u", 180),
            "Pairable": Variant("b", False),
            "PairableTimeout": Variant("u", 0),
            "Discovering": Variant("b", bool(self.scans)),
            "UUIDs": Variant("as", []),
            "Roles": Variant("as", ["central", "peripheral"]),
        }


def _data(frame: Frame) -> Properties:
    """The properties that an advertisement's data become; absent data become no property."""
    data = {}
    if frame.manufacturer_data:
        values = {company: Variant("ay", value) for company, value in frame.manufacturer_data.items()}
        data["ManufacturerData"] = Variant("a{qv}", values)
    if frame.service_data:
        values_by_uuid = {uuid: Variant("ay", value) for uuid, value in frame.service_data.items()}
        data["ServiceData"] = Variant("a{sv}", values_by_uuid)
    return data


def new_device(adapter: str, frame: Frame) -> Properties:
    device = {
        "Address": Variant("s", frame.address),
        "AddressType": Variant("s", "random"),
        "Alias": Variant("s", frame.name or frame.address.replace(":", "-")),
        "Paired": Variant("b", False),
        "Bonded": Variant("b", False),
        "Trusted": Variant("b", False),
        "Blocked": Variant("b", False),
        "LegacyPairing": Variant("b", False),
        "Connected": Variant("b", False),
        "UUIDs": Variant("as", []),
        "Adapter": Variant("o", adapter),
        "ServicesResolved": Variant("b", False),
        "RSSI": Variant("n", frame.rssi_dbm),
        **_data(frame),
    }
    if frame.name:
        device["Name"] = Variant("s", frame.name)
    return device


def news(known: Properties, frame: Frame, *, duplicates: bool) -> Properties:
    """What BlueZ signals of an advertisement of a device it knows.

    A property of which the frame has no data stays as it was. One of which it has some is replaced where a
    client asked for duplicates, and then always signalled; otherwise the frame's entries are merged into it
    (BlueZ 5.82, `device_set_manufacturer_data` in src/device.c).
    """
    found: Properties = {}
    for name, variant in _data(frame).items():
        before = known[name].value if name in known else {}
        after = variant.value if duplicates else {**before, **variant.value}
        if duplicates or after != before:
            found[name] = Variant(variant.signature, after)
    rssi = known.get("RSSI")
    if duplicates or rssi is None or abs(rssi.value - frame.rssi_dbm) >= _RSSI_STEP_DB:
        found["RSSI"] = Variant("n", frame.rssi_dbm)
    return found
