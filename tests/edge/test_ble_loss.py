"""A radio that loses its power, its adapter, its bluetoothd or its bus, and finds it again."""

import asyncio
import time

import pytest
from listening import CANARY, HURRIED, TAG, listening, press, until

from gatewayd.config import model as config
from gatewayd.core.health import OUTAGE_S
from gatewayd.core.model import State
from gatewayd.edge.ble import Timing
from gatewayd.sim.bluez import ADDRESS, BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import SimulatedTag


@pytest.mark.parametrize("away_s", [0.0, 0.3])
async def test_an_adapter_power_cycle_is_survived(bluez: BlueZ, away_s: float) -> None:
    """The scan that died with the power is noticed and replaced, however short the interruption."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        await press(bluez, ear, tag)
        bluez.power(False)
        await asyncio.sleep(away_s)
        bluez.power(True)
        # Not only after the next press: the monitor hears that, scan or no scan, before the loss is noticed.
        await until(lambda: any(state is State.FAILED and "off" in detail for state, detail in ear.reports))
        await press(bluez, ear, tag)


async def test_a_power_cycle_is_noticed_though_another_program_scans(bluez: BlueZ) -> None:
    """`Discovering` is true for anybody's scan, so the loss of power is remembered."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await press(bluez, ear, tag)
        bluez.power(False)
        bluez.power(True)
        bluez.scan_for_another_program()
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: bluez.calls.count("StartDiscovery") > scans)
        await press(bluez, ear, tag)


async def test_a_restarted_bluetoothd_is_noticed(bluez: BlueZ) -> None:
    """A new owner of org.bluez knows nothing of our scan."""
    tag = SimulatedTag(TAG)
    async with listening(timing=Timing()) as ear:
        await press(bluez, ear, tag)
        await bluez.restart()
        await until(lambda: ear.state is State.FAILED, 2.0)
        await press(bluez, ear, tag)
        assert bluez.monitored


async def test_the_end_of_bluetoothd_is_said_before_the_next_one_answers(bluez: BlueZ) -> None:
    """Whoever asks a bluetoothd that is only starting waits for seconds; what is known is said first."""
    async with listening(timing=Timing()) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.hangs.add("GetAll")
        await bluez.restart()
        await until(lambda: ear.state is State.FAILED, 2.0)
        assert ear.detail == "bluetoothd stopped or was restarted"


async def test_an_adapter_that_is_pulled_and_comes_back_under_another_number_is_followed(
    bluez: BlueZ,
) -> None:
    """hciN is not stable: the adapter is found again by its address."""
    tag = SimulatedTag(TAG)
    async with listening(config.Radio(enabled=True, adapters=(ADDRESS.lower(),), canary=None)) as ear:
        await press(bluez, ear, tag)
        bluez.unplug("hci0")
        await until(lambda: ear.state is State.FAILED)
        bluez.plug("hci0", "F0:00:00:00:00:00")
        bluez.plug("hci1", ADDRESS)
        await press(bluez, ear, tag)
        assert ear.detail == "hci1 scans and hears"


async def test_no_adapter_fails_says_what_to_do_and_recovers(bluez: BlueZ) -> None:
    """A missing radio is reported and tried again for as long as it takes; the loop shows that it lives."""
    bluez.unplug()
    async with listening() as ear:
        await until(lambda: ear.state is State.FAILED)
        assert ear.detail.startswith("no Bluetooth adapter: plug one in")
        await until(lambda: len(ear.alive_s) > 6)
        assert len(ear.reports) == 1
        bluez.plug()
        await press(bluez, ear, SimulatedTag(TAG))


async def test_an_adapter_that_is_off_fails_and_says_what_to_do(bluez: BlueZ) -> None:
    bluez.power(False)
    async with listening() as ear:
        await until(lambda: ear.state is State.FAILED)
        assert "rfkill unblock bluetooth" in ear.detail
        bluez.power(True)
        await press(bluez, ear, SimulatedTag(TAG))


async def test_no_bluetoothd_fails_and_is_waited_for(system_bus: PrivateBus) -> None:
    async with listening() as ear:
        await until(lambda: ear.state is State.FAILED)
        assert ear.detail == "bluetoothd is not running: `systemctl start bluetooth`"
        async with BlueZ(system_bus.address) as bluez:
            await press(bluez, ear, SimulatedTag(TAG))


# dbus-fast 2.44 leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")
async def test_no_bus_at_all_fails_and_a_bus_that_dies_is_survived(system_bus: PrivateBus) -> None:
    """D-Bus itself may be missing or restarted."""
    system_bus.stop()
    async with listening() as ear:
        await until(lambda: ear.state is State.FAILED)
        assert ear.detail.startswith("no system D-Bus")
        for _ in range(2):
            system_bus.start()
            async with BlueZ(system_bus.address) as bluez:
                await press(bluez, ear, SimulatedTag(TAG))
                system_bus.stop()
                await until(lambda: ear.state is State.FAILED)


@pytest.mark.parametrize("error", ["InProgress", "NotReady", "Failed"])
async def test_a_scan_that_is_refused_is_tried_again(bluez: BlueZ, error: str) -> None:
    bluez.errors["StartDiscovery"] = f"org.bluez.Error.{error}"
    async with listening() as ear:
        await until(lambda: ear.state is State.FAILED)
        assert error in ear.detail
        bluez.errors.clear()
        await press(bluez, ear, SimulatedTag(TAG))


async def test_a_start_whose_answer_is_lost_does_not_block_the_next(bluez: BlueZ) -> None:
    """bluetoothd counts a scan that bleak gave up; only a fresh connection gets another one."""
    bluez.hangs.add("StartDiscovery")
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        await until(lambda: ear.state is State.FAILED, 10.0)
        assert ear.detail == "no answer within 1 s: starting the scan"
        bluez.hangs.clear()
        await press(bluez, ear, SimulatedTag(TAG))


async def test_a_bluetoothd_that_stops_answering_is_noticed(bluez: BlueZ) -> None:
    """A scan of which nothing can be learnt any more is not trusted."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await press(bluez, ear, tag)
        bluez.hangs.add("GetAll")
        hung_s = time.monotonic()
        await until(lambda: ear.state is State.FAILED, 10.0)
        assert ear.until_s is not None  # it is known a second later, and is so since it hung
        assert hung_s - HURRIED.check_s < ear.until_s <= hung_s + HURRIED.check_s
        bluez.hangs.clear()
        await press(bluez, ear, tag)
        assert max(b - a for a, b in zip(ear.alive_s, ear.alive_s[1:], strict=False)) < 5


async def test_a_canary_that_falls_silent_degrades_and_a_fresh_scan_is_made(bluez: BlueZ) -> None:
    """A scan can die while bluetoothd says all is well: only a tag that always advertises shows it."""
    canary = SimulatedTag(CANARY)
    async with listening(config.Radio(enabled=True, adapters=(), canary=CANARY.lower())) as ear:
        await press(bluez, ear, canary)
        bluez.silent = True
        scans = bluez.calls.count("StartDiscovery")
        await until(lambda: ear.state is State.DEGRADED and "has not heard the canary" in ear.detail)
        await until(lambda: bluez.calls.count("StartDiscovery") > scans)
        bluez.silent = False
        await press(bluez, ear, canary)


async def test_strangers_do_not_stand_in_for_the_canary(bluez: BlueZ) -> None:
    async with listening(config.Radio(enabled=True, adapters=(), canary=CANARY)) as ear:
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        assert "canary" in ear.detail


async def test_signal_strength_that_bluez_withdraws_is_no_proof_of_hearing(bluez: BlueZ) -> None:
    """Some calls of the callback are no advertisements; they are passed on without a signal strength."""
    async with listening(timing=Timing(check_s=0.1, doubt_s=0.6)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.end_discovery()
        await until(lambda: ear.heard[-1].rssi_dbm is None)


def test_a_canary_s_silence_is_in_health_within_ten_seconds() -> None:
    """It is judged, looked at once more, and told when it lasts."""
    timing = Timing()
    assert timing.canary_s + timing.check_s + OUTAGE_S <= 10
