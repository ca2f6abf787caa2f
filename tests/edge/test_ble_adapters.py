"""Several adapters: who hears with which, and how one is chosen."""

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from listening import ANY_ADAPTER, CANARY, HURRIED, SECOND, STEPS, TAG, Ear, listening, press, until

from gatewayd.config import model as config
from gatewayd.core.model import ClockSource, Instant, State, Tag
from gatewayd.core.presence import observe
from gatewayd.core.recovery import Finding, Rung, Step
from gatewayd.core.tag_record import TagPresence
from gatewayd.core.tags import decode
from gatewayd.edge.ble import Remedies, Timing
from gatewayd.edge.ble.bluez import NONE_FREE, Adapter, UnavailableError, choose
from gatewayd.sim.bluez import ADDRESS, BlueZ
from gatewayd.sim.tag import SimulatedTag


async def test_an_adapter_whose_scan_hangs_is_no_sign_of_life(bluez: BlueZ) -> None:
    """The systemd watchdog is for all of them: what the others do does not feed it."""
    bluez.plug("hci1", SECOND)
    async with listening(config.Radio(enabled=True, adapters=("hci0", "hci1"), canary=None)) as ear:
        await until(lambda: bluez.scanned == {"hci0", "hci1"})
        alive = len(ear.alive_s)
        await until(lambda: len(ear.alive_s) > alive + 3)
        (hung,) = (task for task in asyncio.all_tasks() if task.get_name() == "radio hci1")
        hung.cancel()
        await asyncio.wait([hung])
        alive, frames = len(ear.alive_s), len(bluez.calls)
        await until(lambda: len(bluez.calls) > frames + 10)
        assert len(ear.alive_s) <= alive + 1


async def test_every_adapter_that_is_on_hears_and_what_both_hear_is_one_press(bluez: BlueZ) -> None:
    """Two reports of one advertisement: the second is a copy to core/presence."""
    bluez.plug("hci1", SECOND)
    tag = Tag(name="t", format="bthome", address=TAG)
    async with listening() as ear:
        await until(lambda: bluez.scanned == {"hci0", "hci1"})
        bluez.advertise(SimulatedTag(TAG).press())
        await until(lambda: len(ear.of(TAG)) == 2)
    presence, presses = TagPresence(), []
    for heard in ear.of(TAG):
        report = decode(heard, format=tag.format)
        assert report is not None
        instant = Instant(
            boot="b", mono_s=heard.heard_s, wall_s=0.0, source=ClockSource.NONE, uncertainty_ms=0
        )
        presence, pressed = observe(presence, tag, report, instant, heard.rssi_dbm)
        presses.extend([pressed] if pressed else [])
    assert len(presses) == 1


async def test_an_adapter_that_comes_is_used_and_one_that_goes_is_not_missed(bluez: BlueZ) -> None:
    """Where none is configured any one that hears will do."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await press(bluez, ear, tag)
        bluez.plug("hci1", SECOND)
        await until(lambda: bluez.scanned == {"hci0", "hci1"})
        await press(bluez, ear, tag)
        await until(lambda: ear.detail == "hci0 scans and hears; hci1 scans and hears")
        bluez.unplug("hci0")
        await press(bluez, ear, tag)
        await until(lambda: ear.detail == "hci1 scans and hears")
        assert all(state is not State.FAILED for state, _ in ear.reports)


async def test_an_adapter_that_is_off_is_left_off_while_another_hears(bluez: BlueZ) -> None:
    """It is used once somebody switches it on; where it is the only one left it is switched on."""
    bluez.plug("hci1", SECOND)
    bluez.power(False, "hci1")
    remedies = Remedies()
    async with listening(remedies=remedies, timing=HURRIED) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        assert ear.radio is not None
        ears = ear.radio._ears
        await until(lambda: any(each.hearing and each.hearing.detail == NONE_FREE for each in ears))
        await asyncio.sleep(1.0)  # a tenth of that is when it would be switched on
        assert (bluez.scanned, bluez.calls.count("Set")) == ({"hci0"}, 0)
        bluez.power(True, "hci1")
        await until(lambda: bluez.scanned == {"hci0", "hci1"})
        bluez.power(False, "hci1")
        bluez.unplug("hci0")
        await until(lambda: bluez.scanned == {"hci1"})


def rung(finding: Finding, *rungs: Rung) -> Timing:
    """In a hurry, but for one finding."""
    return replace(HURRIED, ladder={**STEPS, finding: rungs})


@asynccontextmanager
async def one_off_on_purpose(
    bluez: BlueZ,
    settings: config.Radio = ANY_ADAPTER,
    timing: Timing = HURRIED,
    hears: Set[str] = frozenset({"hci1"}),
) -> AsyncIterator[Ear]:
    """hci0 is off from the start, hci1 and what else is plugged in hears."""
    bluez.power(False, "hci0")
    bluez.plug("hci1", SECOND)
    async with listening(settings, timing, Remedies()) as ear:
        await until(lambda: bluez.scanned == hears)
        yield ear


async def test_an_adapter_that_is_off_is_switched_on_when_the_one_that_hears_is_gone(bluez: BlueZ) -> None:
    """Hearing comes first."""
    async with one_off_on_purpose(bluez) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.unplug("hci1")
        await until(lambda: bluez.scanned == {"hci0"})


async def test_an_adapter_that_is_off_is_switched_on_when_no_scan_starts_with_the_other(bluez: BlueZ) -> None:
    """It is still there, so there is no news of it: who looks out is told by the one that fails."""
    async with one_off_on_purpose(bluez, timing=rung(Finding.REFUSED)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.errors["StartDiscovery"] = "org.bluez.Error.Failed"
        bluez.end_discovery()
        await until(lambda: "Set" in bluez.calls)
        bluez.errors.clear()
        await until(lambda: bluez.scanned == {"hci0", "hci1"})


async def test_an_adapter_that_is_off_is_switched_on_when_the_canary_shows_the_other_deaf(
    bluez: BlueZ,
) -> None:
    """But not for a silence that proves nothing."""
    settings = replace(ANY_ADAPTER, canary=CANARY)
    async with one_off_on_purpose(bluez, settings, rung(Finding.CANARY_SILENT)) as ear:
        await until(lambda: ear.detail.startswith("unproven: "))
        await asyncio.sleep(1.0)
        assert "Set" not in bluez.calls
        await press(bluez, ear, SimulatedTag(CANARY))
        bluez.deaf.add("hci1")
        await until(lambda: bluez.scanned == {"hci0", "hci1"})
        await press(bluez, ear, SimulatedTag(CANARY))


async def test_an_adapter_that_is_off_stays_off_when_bluetoothd_was_down_for_long(bluez: BlueZ) -> None:
    """It is not that one's trouble: the other scans again a moment later."""
    on = Rung(step=Step.POWER_ON, after_s=2.0)
    async with one_off_on_purpose(bluez, timing=rung(Finding.OFF, on)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        await bluez.stop()
        await asyncio.sleep(2.5)
        await bluez.start()
        await press(bluez, ear, SimulatedTag(TAG))
        await asyncio.sleep(2.5)
        assert (bluez.scanned, bluez.calls.count("Set")) == ({"hci1"}, 0)


async def test_an_adapter_that_is_off_is_no_substitute_while_a_third_one_hears(bluez: BlueZ) -> None:
    bluez.plug("hci2", "F0:00:00:00:00:03")
    async with one_off_on_purpose(bluez, hears={"hci1", "hci2"}) as ear:
        bluez.unplug("hci1")
        await press(bluez, ear, SimulatedTag(TAG))
        await asyncio.sleep(1.0)
        assert (bluez.scanned, bluez.calls.count("Set")) == ({"hci2"}, 0)


async def test_who_looks_out_for_an_adapter_asks_nothing_until_it_is_told(bluez: BlueZ) -> None:
    """To ask costs a good part of a second among a thousand devices; one that comes is taken at once."""
    async with listening(timing=Timing(check_s=0.1)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        assert ear.radio is not None
        ears = ear.radio._ears
        await until(lambda: any(each.hearing and each.hearing.detail == NONE_FREE for each in ears))
        asked, alive = bluez.calls.count("GetManagedObjects"), len(ear.alive_s)
        await asyncio.sleep(2.0)
        assert bluez.calls.count("GetManagedObjects") == asked
        assert len(ear.alive_s) > alive + 5
        bluez.plug("hci1", SECOND)
        await until(lambda: bluez.scanned == {"hci0", "hci1"})


async def test_an_adapter_of_which_nothing_was_told_is_found_all_the_same(bluez: BlueZ) -> None:
    """Signals are listened to for hci0 to hci7; for any other adapter bluetoothd is asked now and then."""
    async with listening(timing=replace(HURRIED, look_out_s=0.5)) as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        bluez.plug("hci8", SECOND)
        await until(lambda: bluez.scanned == {"hci0", "hci8"})


async def test_a_configured_adapter_that_is_missing_degrades_while_another_hears(bluez: BlueZ) -> None:
    """And nothing but its own scan is interrupted; it is found again under any number, by its address."""
    bluez.plug("hci1", SECOND)
    tag = SimulatedTag(TAG)
    settings = config.Radio(enabled=True, adapters=(ADDRESS, SECOND), canary=None)
    async with listening(settings) as ear:
        await press(bluez, ear, tag)
        await until(lambda: ear.state is State.OK)
        bluez.unplug("hci1")
        await until(lambda: f"expected adapter {SECOND}" in ear.detail)
        assert (ear.state, ear.detail.startswith("hci0 scans and hears; ")) == (State.DEGRADED, True)
        bluez.plug("hci7", SECOND)
        await press(bluez, ear, tag)
        await until(lambda: ear.detail == "hci0 scans and hears; hci7 scans and hears")


def adapter(name: str, *, powered: bool = True) -> Adapter:
    address = f"F0:00:00:00:00:0{name[-1]}"
    return Adapter(path=f"/org/bluez/{name}", address=address, powered=powered, discovering=False)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, "hci1"), ("hci1", "hci1"), ("HCI2", "hci2"), ("f0:00:00:00:00:02", "hci2")],
)
def test_the_adapter_is_chosen_by_name_or_address_or_is_the_first_that_is_on(
    wanted: str | None, chosen: str
) -> None:
    adapters = (adapter("hci0", powered=False), adapter("hci1"), adapter("hci2"))
    assert choose(adapters, wanted).name == chosen


def test_an_adapter_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnavailableError, match=r"expected adapter hci7, found hci1 F0:00:00:00:00:01"):
        choose((adapter("hci1"),), "hci7")


def test_the_wanted_adapter_is_not_replaced_by_another_when_it_is_off() -> None:
    assert choose((adapter("hci0", powered=False), adapter("hci1")), "hci0").name == "hci0"


def test_an_adapter_that_another_scan_has_is_left_to_it() -> None:
    adapters = (adapter("hci0"), adapter("hci1"))
    assert choose(adapters, None, {adapters[0].address}).name == "hci1"
    with pytest.raises(UnavailableError, match="every adapter is in use"):
        choose(adapters[:1], None, {adapters[0].address})
