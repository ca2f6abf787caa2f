"""GATT buttons: the edge against the BlueZ stand-in on a private bus; and bleak against the stand-in."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from bleak import BleakClient, BleakScanner

from gatewayd.config import model as config
from gatewayd.core.model import Advertisement, Tag, TagEvent, TagReport, Told
from gatewayd.core.tags import itag
from gatewayd.edge.ble import Buttons, Radio, Timing, button
from gatewayd.sim.air import wait_for_connections
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.gatt import GattTag
from gatewayd.sim.tag import Frame

ADDRESS = "C4:11:22:33:44:77"
TAG = Tag(name="anna", format="itag", address=ADDRESS, beep=True)
RADIO_HURRIED = Timing(check_s=0.1, doubt_s=0.05, call_s=1.0, retry_s=(0.05, 0.1))
HURRIED = button.Timing(look_s=0.05, call_s=1.0, resolve_s=1.0, beat_s=0.2)


@dataclass
class Ear:
    """What the buttons and the scan beside them told."""

    tag: Tag
    timing: button.Timing
    reports: list[tuple[str, TagReport, float]] = field(default_factory=list)
    heard: list[Advertisement] = field(default_factory=list)
    alive_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.buttons = Buttons(
            (self.tag,),
            on_report=lambda *told: self.reports.append(told),
            alive=lambda: self.alive_s.append(time.monotonic()),
            timing=self.timing,
        )

    @property
    def presses(self) -> int:
        return sum(report.event is TagEvent.PRESS for _, report, _ in self.reports)

    @property
    def seen(self) -> int:
        """How often a tag was said to be there."""
        return sum(not report.buttons for _, report, _ in self.reports)

    def hear(self, advertisement: Advertisement) -> None:
        self.heard.append(advertisement)
        self.buttons.hear(advertisement)


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for a condition; generous, since the machine may be busy or emulated."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    bluez: BlueZ, *tags: GattTag, tag: Tag = TAG, timing: button.Timing = HURRIED
) -> AsyncIterator[Ear]:
    """A scan, buttons beside it, and tags that advertise, while the block runs; none may have ended."""
    ear = Ear(tag, timing)
    radio = Radio(
        config.Radio(enabled=True, adapters=(), canary=None),
        on_advertisement=ear.hear,
        report=lambda _: None,
        alive=lambda: None,
        timing=RADIO_HURRIED,
    )
    running = [
        radio.run(),
        ear.buttons.run(),
        *(wait_for_connections(bluez, bluez.gatt.add(one)) for one in tags),
    ]
    tasks = [asyncio.create_task(one) for one in running]
    try:
        yield ear
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connected(bluez: BlueZ, tag: GattTag) -> None:
    """Wait until a press would be told; a press that is told to nobody is none."""
    await until(lambda: tag.connected and bluez.gatt.press(tag, b"\x00"))


async def test_a_press_is_heard_over_the_connection(bluez: BlueZ) -> None:
    """Notified once, told once, with the time at which it came."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        before_s = time.monotonic()
        assert bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)
        name, report, heard_s = next(told for told in ear.reports if told[1].event is TagEvent.PRESS)
        assert (name, report) == ("anna", itag.notified(b"\x01"))
        assert before_s <= heard_s <= time.monotonic()


async def test_each_of_several_presses_in_a_row_is_heard(bluez: BlueZ) -> None:
    """Identical values are no copies here: each was notified once."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        for _ in range(5):
            bluez.gatt.press(tag)
        await until(lambda: ear.presses == 5)


async def test_it_is_seen_while_it_answers_and_not_because_it_advertises(bluez: BlueZ) -> None:
    """Its battery is asked for, again and again; advertising alone is no hearing."""
    tag = GattTag(address=ADDRESS, battery_pct=63)
    bluez.errors["Connect"] = "org.bluez.Error.Failed"
    async with serving(bluez, tag) as ear:
        await until(lambda: bluez.calls.count("Connect") >= 1)
        assert not ear.reports
        del bluez.errors["Connect"]
        await until(lambda: ear.seen >= 3)
        assert all(report.battery_pct == 63 for _, report, _ in ear.reports if not report.buttons)
        bluez.errors["ReadValue"] = "org.bluez.Error.Failed"
        reads, seen = bluez.calls.count("ReadValue"), ear.seen
        await until(lambda: bluez.calls.count("ReadValue") >= reads + 3)
        assert ear.seen <= seen + 1  # one may have been under way
        bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)  # the connection is worth keeping all the same


async def test_a_tag_without_a_battery_service_is_seen_while_it_is_connected(bluez: BlueZ) -> None:
    tag = GattTag(address=ADDRESS, has=(itag.BUTTON,))
    async with serving(bluez, tag) as ear:
        await until(lambda: ear.seen >= 3)
        bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)


async def test_a_lost_connection_is_no_press_and_is_made_anew(bluez: BlueZ) -> None:
    """Nothing is heard while it is lost; then presses are heard again."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        bluez.gatt.lose(tag)
        assert not bluez.gatt.press(tag)
        await connected(bluez, tag)
        assert ear.presses == 0
        assert tag.connections == 2
        bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)


async def test_a_scan_that_is_replaced_does_not_end_the_connection(bluez: BlueZ) -> None:
    """The scan dies and a fresh one follows on a fresh connection: presses are heard throughout."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        scans = bluez.calls.count("StartDiscovery")
        bluez.end_discovery()
        await until(lambda: bluez.calls.count("StartDiscovery") > scans and bluez.discovering)
        assert bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)
        assert tag.connections == 1


@pytest.mark.parametrize("happens", ["power", "restart"])
async def test_it_is_connected_again_after_the_adapter_or_bluetoothd_was_away(
    bluez: BlueZ, happens: str
) -> None:
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        if happens == "power":
            bluez.power(False)
            bluez.power(True)
        else:
            await bluez.restart()
        await until(lambda: tag.connections == 2)
        await connected(bluez, tag)
        bluez.gatt.press(tag)
        await until(lambda: ear.presses == 1)


async def test_a_tag_that_an_earlier_run_left_connected_is_taken_over(bluez: BlueZ) -> None:
    """A daemon that was killed leaves the tag connected: it does not advertise, and must not stay unheard."""
    tag = bluez.gatt.add(GattTag(address=ADDRESS))
    async with BleakScanner() as scanner:  # the earlier run
        await until(lambda: bluez.discovering)
        bluez.advertise(Frame(address=ADDRESS, name="iTAG"))
        await until(lambda: bool(scanner.discovered_devices))
        client = BleakClient(scanner.discovered_devices[0])
        await client.connect()
    async with serving(bluez) as ear:
        await connected(bluez, tag)
        bluez.gatt.press(tag)
        await until(lambda: ear.presses >= 1)
        assert tag.connections == 1
    await until(lambda: not tag.connected)  # the end of ours frees it
    await client.disconnect()


async def test_a_connection_that_hangs_is_given_up_and_tried_again(bluez: BlueZ) -> None:
    """No call lasts for ever; the attempt is called off, so that bluetoothd does not go on with it."""
    tag = GattTag(address=ADDRESS)
    bluez.hangs.add("Connect")
    async with serving(bluez, tag) as ear:
        await until(lambda: bluez.calls.count("Connect") >= 2)
        assert bluez.calls.count("Disconnect") >= 1
        bluez.hangs.clear()
        await connected(bluez, tag)
        assert ear.alive_s


async def test_a_device_without_such_a_button_is_let_go(
    bluez: BlueZ, caplog: pytest.LogCaptureFixture
) -> None:
    """Something else with the address: said once, connected for no longer than it takes to see that."""
    tag = GattTag(address=ADDRESS, has=(itag.BATTERY,))
    async with serving(bluez, tag):
        await until(lambda: tag.connections >= 2 and not tag.connected)
    said = [record.message for record in caplog.records if "FFE1" in record.message]
    assert said == [
        "tag anna: not connected, its presses are not heard:"
        " it has no button of the iTAG kind (service FFE0, characteristic FFE1)"
    ]


async def test_the_wearer_is_told_by_beeps_of_their_own_at_once(bluez: BlueZ) -> None:
    """Stored one, received two, on the way four; each is ended. It waits for no other turn."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag, timing=replace(HURRIED, beat_s=300.0)) as ear:
        await connected(bluez, tag)
        await until(lambda: ear.seen >= 1)
        for told, beeps in ((Told.STORED, 1), (Told.RECEIVED, 3), (Told.ON_THE_WAY, 7)):
            ear.buttons.tell("anna", told)
            await until(lambda beeps=beeps: tag.written.count((itag.ALERT, itag.QUIET)) == beeps)  # type: ignore[misc]
            assert tag.beeps == beeps


async def test_a_tag_is_silent_unless_configured(bluez: BlueZ) -> None:
    """It is told nothing; and it is told to keep still when its connection is lost."""
    tag = GattTag(address=ADDRESS)
    quiet = Tag(name="anna", format="itag", address=ADDRESS)
    async with serving(bluez, tag, tag=quiet) as ear:
        await until(lambda: ear.seen >= 1)
        ear.buttons.tell("anna", Told.STORED)
        seen = ear.seen
        await until(lambda: ear.seen >= seen + 2)
        assert tag.written == [(itag.LINK_LOSS, itag.QUIET)]


async def test_what_could_not_be_told_is_not_told_late(bluez: BlueZ) -> None:
    """A tag that comes back does not beep for what happened before, or while it was away."""
    tag = GattTag(address=ADDRESS)
    async with serving(bluez, tag) as ear:
        await connected(bluez, tag)
        for told in Told:
            ear.buttons.tell("anna", told)
        await until(lambda: tag.beeps == 1)
        bluez.errors["Connect"] = "org.bluez.Error.Failed"
        bluez.gatt.lose(tag)
        tries = bluez.calls.count("Connect")
        await until(lambda: bluez.calls.count("Connect") > tries)
        ear.buttons.tell("anna", Told.RECEIVED)
        bluez.errors.clear()
        await connected(bluez, tag)
        seen = ear.seen
        await until(lambda: ear.seen >= seen + 5)
        assert tag.beeps == 1


async def test_bleak_finds_the_stand_in_to_be_bluez(bluez: BlueZ) -> None:
    """Connect, be notified, read, write, disconnect, through a client that was written for the real one."""
    tag = bluez.gatt.add(GattTag(address=ADDRESS, battery_pct=42))
    heard: list[bytes] = []
    async with BleakScanner() as scanner:
        await until(lambda: bluez.discovering)
        bluez.advertise(Frame(address=ADDRESS, name="iTAG"))
        await until(lambda: bool(scanner.discovered_devices))
        async with BleakClient(scanner.discovered_devices[0]) as client:
            await client.start_notify(itag.BUTTON[1], lambda _, value: heard.append(bytes(value)))
            bluez.gatt.press(tag)
            await until(lambda: heard == [b"\x01"])
            assert await client.read_gatt_char(itag.BATTERY[1]) == b"\x2a"
            service = client.services.get_service(itag.ALERT[0])
            assert service is not None
            alert = service.get_characteristic(itag.ALERT[1])
            assert alert is not None
            await client.write_gatt_char(alert, itag.BEEP, response=False)
            assert tag.beeps == 1
        assert not tag.connected
