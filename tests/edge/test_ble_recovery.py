"""What the radio does about an adapter that does not hear: the ladder, and who may climb it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from listening import CANARY, HURRIED, TAG, listening, press, until

from gatewayd.config import model as config
from gatewayd.core.model import State
from gatewayd.core.recovery import LADDER
from gatewayd.edge.ble import Remedies
from gatewayd.sim.air import burst
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.tag import SimulatedTag


async def test_a_stranger_s_hearing_is_told_beside_the_silent_canary(bluez: BlueZ) -> None:
    """Then the scan hears, so nothing is restarted: it is the canary that must be looked at."""
    settings = config.Radio(enabled=True, adapters=(), canary=CANARY)
    async with listening(settings) as ear:
        tag = SimulatedTag(TAG)
        await press(bluez, ear, SimulatedTag(CANARY))
        scans = bluez.calls.count("StartDiscovery")
        async with asyncio.timeout(30.0):
            while "look at its battery" not in ear.detail:
                bluez.advertise(tag.heartbeat())
                await asyncio.sleep(0.02)
        assert not ear.detail.startswith("unproven: ")
        assert bluez.calls.count("StartDiscovery") == scans


async def test_a_silence_after_hearing_is_unproven_and_answered_with_a_fresh_scan(bluez: BlueZ) -> None:
    """The fresh scan keeps the monitor, so that what is pressed meanwhile is not merged or filtered away."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await press(bluez, ear, tag)
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: ear.detail == "unproven: hci0 scans; has not heard anything for 1 s")
        assert ear.until_s == ear.heard[-1].heard_s
        await until(lambda: bluez.calls.count("StartDiscovery") > scans)
        await press(bluez, ear, tag)
        assert bluez.calls.count("RegisterMonitor") == 1
        assert all(state is not State.FAILED for state, _ in ear.reports)


async def test_without_a_canary_no_silence_costs_more_than_a_fresh_scan(bluez: BlueZ) -> None:
    """A quiet road is no reason to switch the adapter off."""
    async with listening(remedies=Remedies()) as ear:
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: bluez.calls.count("StartDiscovery") > scans + 1)
        assert "Set" not in bluez.calls
        assert all(state is not State.FAILED for state, _ in ear.reports)


async def test_a_deaf_adapter_is_switched_off_and_on_when_the_canary_shows_it(bluez: BlueZ) -> None:
    """A fresh scan does not help a chip that lies; the second rung does. Meanwhile health says so."""
    settings = config.Radio(enabled=True, adapters=(), canary=CANARY)
    canary = SimulatedTag(CANARY)
    async with listening(settings, remedies=Remedies()) as ear:
        await press(bluez, ear, canary)
        bluez.deaf.add("hci0")
        await press(bluez, ear, canary)
        assert bluez.calls.count("Set") == 2
        said = [detail for _, detail in ear.reports]
        assert "unproven: hci0 scans; has not heard the canary for 0.4 s" in said
        assert (State.FAILED, "hci0 hears nothing: adapter power cycle") in ear.reports


async def test_a_canary_that_was_never_heard_costs_no_more_than_none(bluez: BlueZ) -> None:
    """Its address is mistyped, say: a quiet road is no reason to switch the adapter off."""
    settings = config.Radio(enabled=True, adapters=(), canary=CANARY)
    async with listening(settings, remedies=Remedies()) as ear:
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: bluez.calls.count("StartDiscovery") > scans)
        assert ear.detail == "unproven: hci0 scans; has not heard the canary yet"
        assert "Set" not in bluez.calls
        assert all(state is not State.FAILED for state, _ in ear.reports)


async def test_a_canary_whose_battery_is_empty_proves_nothing_until_it_is_heard_again(bluez: BlueZ) -> None:
    """Others were heard in its place, so their silence is a quiet road."""
    settings = config.Radio(enabled=True, adapters=(), canary=CANARY)
    canary, tag = SimulatedTag(CANARY), SimulatedTag(TAG)
    async with listening(settings, remedies=Remedies()) as ear:
        await press(bluez, ear, canary)
        async with asyncio.timeout(30.0):
            while "look at its battery" not in ear.detail:
                bluez.advertise(tag.heartbeat())
                await asyncio.sleep(0.02)
        await burst(bluez, tag.heartbeat(), 0.5)
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: bluez.calls.count("StartDiscovery") > scans)
        assert ear.detail.startswith("unproven: ")
        assert "Set" not in bluez.calls
        await press(bluez, ear, canary)
        bluez.deaf.add("hci0")
        await press(bluez, ear, canary)
        assert bluez.calls.count("Set") == 2


async def test_an_adapter_that_stays_off_is_switched_on(bluez: BlueZ) -> None:
    tag = SimulatedTag(TAG)
    async with listening(remedies=Remedies()) as ear:
        await press(bluez, ear, tag)
        bluez.power(False)
        await until(lambda: ear.state is State.FAILED)
        await press(bluez, ear, tag)


async def test_whoever_only_listens_switches_nothing(bluez: BlueZ) -> None:
    """A scan beside the daemon leaves the adapter to it."""
    bluez.power(False)
    async with listening() as ear:
        await until(lambda: len(ear.alive_s) > 12)
        assert "Set" not in bluez.calls
        assert ear.state is State.FAILED


async def test_a_hanging_bluetoothd_is_for_the_helper(bluez: BlueZ, tmp_path: Path) -> None:
    """The daemon asks in a file; it restarts nothing itself."""
    request = tmp_path / "recover"
    tag = SimulatedTag(TAG)
    async with listening(remedies=Remedies(runtime=tmp_path)) as ear:
        await press(bluez, ear, tag)
        bluez.hangs |= {"GetAll", "GetManagedObjects"}
        await until(request.exists)
        assert request.read_text("ascii") == "bluetoothd\n"
        bluez.hangs.clear()
        await press(bluez, ear, tag)


async def test_a_bluetoothd_that_never_answered_is_for_the_helper_too(bluez: BlueZ, tmp_path: Path) -> None:
    """It hangs already when the daemon starts, so no adapter was ever seen."""
    request = tmp_path / "recover"
    bluez.hangs.add("GetManagedObjects")
    async with listening(remedies=Remedies(runtime=tmp_path)) as ear:
        await until(request.exists)
        assert request.read_text("ascii") == "bluetoothd\n"
        bluez.hangs.clear()
        await press(bluez, ear, SimulatedTag(TAG))


async def test_who_only_looks_out_for_an_adapter_asks_for_nothing(
    bluez: BlueZ, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The restart of bluetoothd is asked for once: by the one whose adapter is gone."""
    request = tmp_path / "recover"
    async with listening(remedies=Remedies(runtime=tmp_path)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.unplug("hci0")
        await until(request.exists)
        alive = len(ear.alive_s)
        await until(lambda: len(ear.alive_s) > alive + 10)
        asked = [record.getMessage() for record in caplog.records if "restart" in record.getMessage()]
        assert [text.partition(" ")[0] for text in asked] == ["hci0"]


def usb_adapter(sysfs: Path) -> None:
    """Make hci0 the USB device 1-1.4."""
    interface = sysfs / "devices/usb1/1-1.4/1-1.4:1.0"
    (interface / "bluetooth/hci0").mkdir(parents=True)
    (interface.parent / "authorized").write_text("1\n")
    (sysfs / "class/bluetooth").mkdir(parents=True)
    (sysfs / "class/bluetooth/hci0").symlink_to(interface / "bluetooth/hci0")
    (interface / "bluetooth/hci0/device").symlink_to(interface)


async def test_who_lost_an_adapter_to_another_scan_does_nothing_to_it(bluez: BlueZ, tmp_path: Path) -> None:
    """It went and came back, and whoever looked out for one had it first: that one hears, or will."""
    usb_adapter(tmp_path)
    request = tmp_path / "recover"
    ladder = {
        finding: tuple(replace(rung, after_s=rung.after_s / 30) for rung in rungs)
        for finding, rungs in LADDER.items()
    }
    remedies = Remedies(runtime=tmp_path, sysfs=tmp_path)
    async with listening(remedies=remedies, timing=replace(HURRIED, ladder=ladder)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        assert ear.radio is not None
        first, second = ear.radio._ears
        while second.adapter is None:  # by chance: who is the first to look
            bluez.unplug("hci0")
            await until(lambda: first.adapter is None and second.adapter is None)
            bluez.plug("hci0")
            await until(lambda: bluez.discovering)
            await press(bluez, ear, SimulatedTag(TAG))
        request.unlink(missing_ok=True)
        await asyncio.sleep(3.0)
        assert not request.exists()
        assert (first.path, second.path) == (None, "/org/bluez/hci0")


async def test_an_adapter_that_refuses_climbs_to_the_reset_of_its_usb_device(
    bluez: BlueZ, tmp_path: Path
) -> None:
    """Switched off and on, bluetoothd restarted, the device reset: in that order."""
    usb_adapter(tmp_path)
    bluez.errors["StartDiscovery"] = "org.bluez.Error.Failed"
    request, asked = tmp_path / "recover", []
    async with listening(remedies=Remedies(runtime=tmp_path, sysfs=tmp_path)) as ear:
        for expected in ("bluetoothd\n", "usb 1-1.4\n"):
            await until(lambda: request.exists() and request.read_text() == expected)  # noqa: B023
            asked.append("Set" in bluez.calls)
        assert asked == [True, True]
        bluez.errors.clear()
        await press(bluez, ear, SimulatedTag(TAG))
