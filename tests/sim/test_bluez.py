"""The BlueZ stand-in, judged by real bleak: what was measured on a real bluetoothd must hold here."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Literal

import pytest
from bleak import BleakScanner
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError

from gatewayd.core.model import Advertisement, Auth, TagEvent
from gatewayd.core.tags import decode
from gatewayd.edge.ble.ear import drop
from gatewayd.sim.air import Air, burst, flood
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import BTHOME, Frame, SimulatedTag

TAG = "C4:11:22:33:44:55"
OTHER = "C4:11:22:33:44:66"
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
Heard = list[tuple[str, AdvertisementData]]


def scanner(heard: Heard, mode: Literal["active", "passive"] = "active", **arguments: object) -> BleakScanner:
    """A scanner as any program would make it, which keeps what its callback is given."""

    def callback(device: BLEDevice, data: AdvertisementData) -> None:
        heard.append((device.address, data))

    if mode == "passive":
        arguments["or_patterns"] = [(0, 0x01, b"\x06")]
    old_form: dict[str, Any] = {"adapter": "hci0"} if version("bleak").startswith("0.") else {}
    bluez: Any = {"adapter": "hci0", **arguments}
    return BleakScanner(callback, None, mode, bluez=bluez, **old_form)


@asynccontextmanager
async def scanning(bluez: BlueZ, *, duplicates: bool = False, passive: bool = False) -> AsyncIterator[Heard]:
    """A scan that runs; yields what was heard. It ends with its connection, as when a program is killed."""
    heard: Heard = []
    filters = {"DuplicateData": True} if duplicates else {}
    try:
        await scanner(heard, "passive" if passive else "active", filters=filters).start()
        async with asyncio.timeout(5):
            while passive and not bluez.monitored:  # noqa: ASYNC110 -- it has no event
                await asyncio.sleep(0.01)
        yield heard
    finally:
        await drop(await get_global_bluez_manager())


async def settle() -> None:
    """Let everything that is under way on the bus arrive."""
    await asyncio.sleep(0.1)


async def test_an_unchanged_payload_is_told_once(bluez: BlueZ) -> None:
    """bleak's default: one callback per tag, ever, while its payload stays the same."""
    async with scanning(bluez) as heard:
        await burst(bluez, SimulatedTag(TAG).press(), 0.5)
        await settle()
        assert len(heard) == 1


async def test_with_duplicate_data_every_report_is_told(bluez: BlueZ) -> None:
    async with scanning(bluez, duplicates=True) as heard:
        frame = SimulatedTag(TAG).press()
        for _ in range(5):
            bluez.advertise(frame)
        await settle()
        assert len(heard) == 5


async def test_a_passive_scan_is_told_of_changed_data_and_of_8_db(bluez: BlueZ) -> None:
    async with scanning(bluez, passive=True) as heard:
        tag = SimulatedTag(TAG)
        frame = tag.press()
        for rssi_dbm in (-60, -60, -67, -68):
            bluez.advertise(Frame(address=TAG, service_data=frame.service_data, rssi_dbm=rssi_dbm))
        bluez.advertise(tag.heartbeat())
        await settle()
        assert [data.rssi for _, data in heard] == [-60, -68, -60]


async def test_a_passive_scan_does_not_hear_a_tag_without_flags(bluez: BlueZ) -> None:
    async with scanning(bluez, passive=True) as heard:
        bluez.advertise(Frame(address=TAG, service_data={BTHOME: b"\x44\x00\x01"}, flags=None))
        bluez.advertise(Frame(address=OTHER, service_data={BTHOME: b"\x44\x00\x01"}))
        await settle()
        assert [address for address, _ in heard] == [OTHER]


async def test_a_chip_drops_repeats_until_a_monitor_exists(system_bus: PrivateBus) -> None:
    """Real controllers drop repeats by address while their duplicate filter is on; a monitor turns it off."""
    async with BlueZ(system_bus.address, chip_filter=True) as bluez:
        tag = SimulatedTag(TAG)
        async with scanning(bluez, duplicates=True) as heard:
            bluez.advertise(tag.heartbeat())
            bluez.advertise(tag.press())
            await settle()
            assert len(heard) == 1
        async with scanning(bluez, passive=True) as heard:
            await scanner([], filters={"DuplicateData": True}).start()
            bluez.advertise(tag.press())
            bluez.advertise(tag.press())
            await settle()
            assert len(heard) == 2


async def test_with_duplicate_data_a_property_holds_what_the_last_frame_that_has_it_sent(
    bluez: BlueZ,
) -> None:
    """Of the other property bleak remembers what was sent before."""
    async with scanning(bluez, duplicates=True) as heard:
        bluez.advertise(Frame(address=TAG, manufacturer_data={1: b"1"}, service_data={BTHOME: b"\x44"}))
        bluez.advertise(Frame(address=TAG, manufacturer_data={2: b"2"}))
        await settle()
        assert heard[-1][1].manufacturer_data == {2: b"2"}
        assert heard[-1][1].service_data == {BTHOME: b"\x44"}


async def test_without_duplicate_data_the_entries_of_several_frames_are_merged(bluez: BlueZ) -> None:
    async with scanning(bluez) as heard:
        bluez.advertise(Frame(address=TAG, manufacturer_data={1: b"1"}))
        bluez.advertise(Frame(address=TAG, manufacturer_data={2: b"2"}))
        await settle()
        assert heard[-1][1].manufacturer_data == {1: b"1", 2: b"2"}


async def test_data_of_several_slots_are_merged(bluez: BlueZ) -> None:
    async with scanning(bluez) as heard:
        bluez.advertise(Frame(address=TAG, manufacturer_data={0x004C: b"\x02\x15"}))
        bluez.advertise(Frame(address=TAG, service_data={BTHOME: b"\x44\x00\x01"}))
        await settle()
        assert heard[-1][1].manufacturer_data == {0x004C: b"\x02\x15"}
        assert heard[-1][1].service_data == {BTHOME: b"\x44\x00\x01"}


async def test_a_scan_does_not_survive_a_power_cycle_and_cannot_be_stopped(bluez: BlueZ) -> None:
    """A running scanner hears nothing more, without an exception; its stop() raises."""
    heard: Heard = []
    dead = scanner(heard)
    await dead.start()
    bluez.power(False)
    bluez.power(True)
    bluez.advertise(SimulatedTag(TAG).press())
    await settle()
    assert heard == []
    with pytest.raises(BleakError, match="Failed"):
        await dead.stop()
    await drop(await get_global_bluez_manager())


async def test_a_scan_with_an_adapter_that_is_off_is_refused(bluez: BlueZ) -> None:
    bluez.power(False)
    with pytest.raises(BleakError, match="NotReady"):
        async with scanning(bluez):
            pass


async def test_a_second_scan_on_the_same_connection_is_refused(bluez: BlueZ) -> None:
    with pytest.raises(BleakError, match="InProgress"):
        async with scanning(bluez), scanning(bluez):
            pass


async def test_without_experimental_a_passive_scan_is_refused(system_bus: PrivateBus) -> None:
    async with BlueZ(system_bus.address, monitors=False) as bluez:
        with pytest.raises(BleakError, match="experimental"):
            async with scanning(bluez, passive=True):
                pass


async def test_a_client_that_leaves_the_bus_takes_its_scan_along(bluez: BlueZ) -> None:
    async with scanning(bluez):
        assert bluez.discovering
        await drop(await get_global_bluez_manager())
        await settle()
        assert not bluez.discovering


async def test_a_flood_has_the_rate_that_was_asked_for(bluez: BlueZ) -> None:
    async with scanning(bluez, duplicates=True) as heard:
        sent = await flood(bluez, 2000, 50, 0.5)
        await settle()
        assert len(heard) == sent
        assert 900 <= sent <= 1000
        assert len({address for address, _ in heard}) == 50


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_the_simulated_tag_sends_what_the_gateway_reads(key: bytes | None) -> None:
    """Two presses: packet id and, with a key, counter rise, and the frames prove themselves."""
    tag = SimulatedTag(TAG, key=key, packet_id=254, battery_pct=55)
    reports = []
    for frame in (tag.press(), tag.press(event=0x04), tag.heartbeat()):
        heard = Advertisement(address=TAG, heard_s=0.0, service_data=frame.service_data)
        reports.append(decode(heard, format="bthome", key=key))
    assert all(report is not None for report in reports)
    read = [report for report in reports if report is not None]
    assert [report.event for report in read] == [TagEvent.PRESS, TagEvent.LONG, TagEvent.NONE]
    assert [report.packet_id for report in read] == [255, 0, 1]
    assert [report.counter for report in read] == ([1, 2, 3] if key else [None] * 3)
    assert {report.auth for report in read} == {Auth.OK if key else Auth.NONE}
    assert {report.battery_pct for report in read} == {55}


async def test_orders_are_carried_out(bluez: BlueZ) -> None:
    """The process that plays BlueZ does what it is told, and remembers its tags."""
    air = Air(bluez)
    async with scanning(bluez, duplicates=True) as heard:
        await air.obey({"do": "heartbeat", "address": TAG, "key": KEY.hex()})
        await air.obey({"do": "press", "address": TAG, "for_s": 0})
        assert await air.obey({"do": "flood", "rate": 100, "addresses": 1, "for_s": 0.05}) != {"sent": 0}
        await air.obey({"do": "misbehave", "silent": True})
        await air.obey({"do": "heartbeat", "address": TAG})
        await settle()
        counters = [data.service_data[BTHOME][-8:-4] for address, data in heard if address == TAG]
        assert counters == [b"\1\0\0\0", b"\2\0\0\0"]
        await air.obey({"do": "restart"})
        assert not bluez.discovering
        await air.obey({"do": "unplug"})
        await air.obey({"do": "plug", "adapter": "hci3"})
        await air.obey({"do": "power", "on": False})
    with pytest.raises(ValueError, match="expected a known order, got 'sing'"):
        await air.obey({"do": "sing"})


def test_the_process_answers_each_order_with_a_line(system_bus: PrivateBus) -> None:
    orders = ['{"do": "press", "address": "C4:11:22:33:44:55", "for_s": 0}', "noise", '{"do": "power"}']
    done = subprocess.run(
        [sys.executable, "-m", "gatewayd.sim.air"],
        input="\n".join(orders),
        capture_output=True,
        text=True,
        env=system_bus.environment() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=20,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"ready": True}
    assert answers[1].keys() == {"did", "at_s"}
    assert answers[2]["error"].startswith("JSONDecodeError")
    assert answers[3] == {"error": "KeyError: 'on'"}
