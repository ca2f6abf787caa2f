"""What the radio hears: real bleak against the BlueZ stand-in on a private bus."""

import asyncio
import random
import time
from dataclasses import replace

import pytest
from listening import HURRIED, TAG, listening, press, until

from gatewayd.core.model import Advertisement, ClockSource, Instant, Press, State, Tag
from gatewayd.core.presence import observe
from gatewayd.core.roster import Roster
from gatewayd.core.tag_record import TagPresence
from gatewayd.core.tags import decode, eddystone
from gatewayd.edge.ble import Timing
from gatewayd.sim.air import burst, flood
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import BTHOME, Frame, SimulatedTag

MINEW = "0000ffe1-0000-1000-8000-00805f9b34fb"


async def test_a_press_is_heard_with_all_it_says(bluez: BlueZ) -> None:
    """An advertisement carries address, data, signal strength, name, and when it was heard."""
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        before_s = time.monotonic()
        frame = SimulatedTag(TAG).press()
        bluez.advertise(frame)
        await until(lambda: bool(ear.heard))
        (heard,) = ear.heard
        assert before_s < heard.heard_s <= time.monotonic()
        assert heard == Advertisement(
            address=TAG,
            heard_s=heard.heard_s,
            rssi_dbm=-60,
            service_data={BTHOME: frame.service_data[BTHOME]},
        )


async def test_every_copy_is_heard_and_a_monitor_stands_beside_the_scan(system_bus: PrivateBus) -> None:
    """Repeats come through a controller that would drop them, because a monitor switches its filter off."""
    async with BlueZ(system_bus.address, chip_filter=True) as bluez, listening() as ear:
        await until(lambda: bluez.discovering)
        assert bluez.monitored
        await burst(bluez, SimulatedTag(TAG).press(), 0.3)
        await until(lambda: len(ear.of(TAG)) >= 3)
        await press(bluez, ear, SimulatedTag(TAG))


async def test_what_wants_no_answer_gets_none(bluez: BlueZ) -> None:
    """bluetoothd's news for the monitor go unanswered: the system bus would reject and log every answer."""
    async with listening() as ear:
        await until(lambda: bluez.monitored and bluez.discovering)
        bluez.advertise(Frame(address="C4:11:22:33:44:55"))
        await until(lambda: len(ear.heard) > 0)
        bluez.advertise(Frame(address="C4:11:22:33:44:56"))
        await until(lambda: len(ear.heard) > 1)
    assert "RegisterMonitor" in bluez.calls
    assert bluez.unasked == 0


async def test_without_monitors_it_scans_all_the_same_and_says_so(system_bus: PrivateBus) -> None:
    """A bluetoothd without Experimental = true degrades the radio, it does not silence it."""
    async with BlueZ(system_bus.address, monitors=False) as bluez, listening() as ear:
        await until(lambda: bluez.discovering)
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        await until(lambda: "anything" not in ear.detail)
        assert ear.state is State.DEGRADED
        assert "monitors are not available" in ear.detail
        assert "Experimental = true" in ear.detail


async def test_a_monitor_that_is_refused_does_not_keep_the_radio_from_scanning(bluez: BlueZ) -> None:
    """Whatever bluetoothd says to the monitor, the scan starts."""
    bluez.errors["RegisterMonitor"] = "org.bluez.Error.Failed"
    async with listening() as ear:
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        await until(lambda: ear.detail.startswith("hci0 scans; advertisement monitors are not available"))


async def test_a_monitor_that_hangs_does_not_keep_the_radio_from_scanning(bluez: BlueZ) -> None:
    bluez.hangs.add("RegisterMonitor")
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        assert "monitors are not available (no answer within 1 s: RegisterMonitor" in ear.detail


async def test_a_monitor_that_failed_once_is_registered_again(bluez: BlueZ) -> None:
    """A bluetoothd that was only busy must not cost presses for as long as the scan runs."""
    bluez.errors["RegisterMonitor"] = "org.bluez.Error.Failed"
    tag = SimulatedTag(TAG)
    async with listening(timing=replace(HURRIED, monitor_s=0.5)) as ear:
        await press(bluez, ear, tag, then=State.DEGRADED)
        del bluez.errors["RegisterMonitor"]
        await until(lambda: bluez.monitored)
        await press(bluez, ear, tag)


async def test_what_was_heard_is_not_forgotten_for_another_try_at_a_monitor(bluez: BlueZ) -> None:
    """Or no tag could be found lost: the radio would not have heard for long enough, ever."""
    bluez.errors["RegisterMonitor"] = "org.bluez.Error.Failed"
    async with listening(timing=replace(HURRIED, monitor_s=0.2, silence_s=60.0)) as ear:
        await press(bluez, ear, SimulatedTag(TAG), then=State.DEGRADED)
        await until(lambda: not ear.detail.startswith("unproven: "))
        said, tries = len(ear.reports), bluez.calls.count("RegisterMonitor")
        await until(lambda: bluez.calls.count("RegisterMonitor") > tries + 2)
        assert len(ear.reports) == said


async def test_hearing_nothing_is_not_ok(bluez: BlueZ) -> None:
    """A scan that runs and has heard nothing yet is unproven."""
    async with listening() as ear:
        await until(lambda: bool(ear.reports))
        assert (ear.state, ear.detail) == (
            State.DEGRADED,
            "unproven: hci0 scans; has not heard anything yet",
        )
        await press(bluez, ear, SimulatedTag(TAG))


async def test_a_tag_that_appears_while_a_scan_begins_is_heard(bluez: BlueZ) -> None:
    """bleak drops what it is told between its question for all devices and its use of the answer.

    Of a device it does not know it hands on nothing, so that tag would be silent for as long as it sends.
    """
    tags = [SimulatedTag(f"C4:11:22:33:44:{number:02X}") for number in range(2)]
    bluez.meanwhile.extend(tag.press() for tag in tags)
    async with listening(timing=Timing()) as ear:
        await until(lambda: bluez.discovering)
        assert not bluez.meanwhile
        for tag in tags:
            await press(bluez, ear, tag)


async def test_no_press_is_lost_in_a_flood(bluez: BlueZ) -> None:
    """1,000 advertisements a second for 2 s: every one of 10 presses among them is heard."""
    tag = SimulatedTag(TAG)
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        strangers = asyncio.create_task(flood(bluez, 1000, 40, 2.0))
        frames = [tag.press() for _ in range(10)]
        for frame in frames:
            bluez.advertise(frame)
            await asyncio.sleep(0.15)
        sent = await strangers
        await until(lambda: len(ear.heard) == sent + len(frames))
        assert [heard.service_data for heard in ear.of(TAG)] == [frame.service_data for frame in frames]


async def test_addresses_that_never_come_again_do_not_stay_in_memory(system_bus: PrivateBus) -> None:
    """Phones change theirs every quarter of an hour: what BlueZ has forgotten bleak remembers no longer."""
    async with BlueZ(system_bus.address, temporary_s=0.5) as bluez, listening() as ear:
        await press(bluez, ear, SimulatedTag(TAG))
        await flood(bluez, rate=400, addresses=1_000_000, for_s=1.0)
        assert ear.radio is not None
        (manager,) = [each._manager for each in ear.radio._ears if each._manager is not None]
        await until(lambda: len(manager._properties) > 50)
        await asyncio.sleep(0.6)
        await press(bluez, ear, SimulatedTag(TAG, packet_id=7))
        await until(lambda: sum("dev_" in path for path in manager._properties) == 1)


async def test_noise_is_passed_on_and_ends_nothing(bluez: BlueZ) -> None:
    """Advertisements of up to 255 bytes of anything; what they mean is not the radio's business."""
    noise = random.Random(1)
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        for number in range(300):
            bluez.advertise(
                Frame(
                    address=f"{noise.randrange(256):02X}:00:00:00:00:00",
                    service_data={BTHOME: noise.randbytes(noise.randrange(256))},
                    manufacturer_data={noise.randrange(65536): noise.randbytes(noise.randrange(256))},
                    name="".join(chr(noise.randrange(1, 0xD800)) for _ in range(number % 40)) or None,
                    rssi_dbm=noise.randrange(-127, 21),
                )
            )
        await until(lambda: len(ear.heard) == 300)
        await press(bluez, ear, SimulatedTag(TAG))


async def test_it_stops_at_once_and_leaves_nothing_behind(bluez: BlueZ) -> None:
    """Cancelled, the radio ends its scan and its monitor."""
    async with listening() as ear:
        await press(bluez, ear, SimulatedTag(TAG))
    await until(lambda: not bluez.discovering and not bluez.monitored)


async def test_an_advertisement_holds_what_was_sent_now_not_what_bluez_remembers(bluez: BlueZ) -> None:
    """A tag with several slots: data of its other slots do not come back; its name stays known."""
    one = Frame(address=TAG, manufacturer_data={0x004C: b"\x02\x15"}, name="slot")
    other = Frame(address=TAG, service_data={BTHOME: b"\x44\x00\x01"}, flags=None)
    neither = Frame(address=TAG, rssi_dbm=-50)
    both = Frame(
        address=TAG, manufacturer_data=one.manufacturer_data, service_data=other.service_data, rssi_dbm=-70
    )
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        for frame in (one, other, neither, both, other, one):
            bluez.advertise(frame)
        await until(lambda: len(ear.heard) == 6)
        assert [(heard.manufacturer_data, heard.service_data, heard.rssi_dbm) for heard in ear.heard] == [
            (frame.manufacturer_data, frame.service_data, frame.rssi_dbm)
            for frame in (one, other, neither, both, other, one)
        ]
        assert {heard.name for heard in ear.heard} == {"slot"}


async def test_what_a_stranger_sent_is_not_heard_again_when_it_is_assigned(bluez: BlueZ) -> None:
    """A tag that is pressed to be assigned: its press must not come with its first frame at rest."""
    strangers: list[str] = []
    assigned = False

    def concerns(address: str, *_: object) -> bool:
        strangers.append(address)
        return assigned

    async with listening(concerns=concerns) as ear:
        await until(lambda: bluez.discovering)
        bluez.advertise(Frame(address=TAG, manufacturer_data={0x004C: IBEACON}))
        await until(lambda: TAG in strangers)
        assigned = True
        bluez.advertise(Frame(address=TAG, service_data={eddystone.SERVICE: TELEMETRY}))
        await until(lambda: len(ear.heard) == 1)
        assert ear.heard[0].manufacturer_data == {}


async def test_what_bluez_remembers_of_an_earlier_scan_is_not_heard_again(bluez: BlueZ) -> None:
    """After a restart of the gateway a tag's old press must not come with its next frame."""
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        bluez.advertise(Frame(address=TAG, manufacturer_data={0x004C: b"\x02\x15"}))
        await until(lambda: len(ear.heard) == 1)
    async with listening() as ear:
        await until(lambda: bluez.discovering)
        bluez.advertise(Frame(address=TAG, service_data={BTHOME: b"\x44\x00\x01"}))
        await until(lambda: len(ear.heard) == 1)
        assert ear.heard[0].manufacturer_data == {}


IBEACON_TAG = Tag(
    name="t",
    format="ibeacon",
    identity={"uuid": "00112233-4455-6677-8899-aabbccddeeff", "major": 1, "minor": 2},
)
IBEACON = bytes.fromhex("0215 00112233445566778899aabbccddeeff 0001 0002 c5")
EDDYSTONE_TAG = Tag(name="t", format="eddystone", identity={"namespace": "11" * 10, "instance": "22" * 6})
UID = bytes.fromhex("00 c5" + "11" * 10 + "22" * 6)
TELEMETRY = bytes.fromhex("2000 0bb8 1580 00000010 00000020")


@pytest.mark.parametrize(
    ("tag", "identity", "base"),
    [
        (
            IBEACON_TAG,
            Frame(address=TAG, manufacturer_data={0x004C: IBEACON}),
            Frame(address=TAG, service_data={eddystone.SERVICE: TELEMETRY}),
        ),
        (
            IBEACON_TAG,
            Frame(address=TAG, manufacturer_data={0x004C: IBEACON}),
            Frame(address=TAG, manufacturer_data={0x0A01: b"battery"}),
        ),
        (
            EDDYSTONE_TAG,
            Frame(address=TAG, service_data={eddystone.SERVICE: UID}),
            Frame(address=TAG, service_data={MINEW: b"\xa1\x08\x64"}),
        ),
    ],
    ids=["identity and base of two kinds", "two company ids", "two services"],
)
async def test_the_second_press_of_a_tag_with_several_slots_is_not_lost(
    bluez: BlueZ, tag: Tag, identity: Frame, base: Frame
) -> None:
    """The base slot goes on while the alarm slot is silent: the alarm slot's next burst is a press again."""
    roster, presence = Roster([tag]), TagPresence()
    presses: list[Press] = []

    async def hear(frames: list[Frame], later_s: float) -> None:
        """Air frames, and judge what was heard as if it were `later_s` seconds after it was."""
        nonlocal presence
        heard_before = len(ear.heard)
        for frame in frames:
            bluez.advertise(frame)
        await until(lambda: len(ear.heard) == heard_before + len(frames))
        for advertisement in ear.heard[heard_before:]:
            if roster.find(advertisement) is None:
                continue
            report = decode(advertisement, format=tag.format)
            assert report is not None
            instant = Instant(
                boot="b", mono_s=advertisement.heard_s + later_s, wall_s=0.0, source=ClockSource.NONE,
                uncertainty_ms=0,
            )  # fmt: skip
            presence, press = observe(presence, tag, report, instant, advertisement.rssi_dbm)
            presses.extend([press] if press else [])

    async with listening() as ear:
        await until(lambda: bluez.discovering)
        for second in range(0, 30, 10):
            await hear([base, identity, base, identity], second)
        assert len(presses) == 1
        for second in range(30, 100, 10):
            await hear([base, base], second)
        assert len(presses) == 1
        await hear([base, identity, base, identity], 100)
        assert len(presses) == 2
