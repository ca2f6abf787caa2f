"""The radio: real bleak against the BlueZ stand-in on a private bus."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gatewayd.config import model as config
from gatewayd.core.health import OUTAGE_S
from gatewayd.core.model import Advertisement, ClockSource, Instant, Press, State, Tag
from gatewayd.core.presence import TagPresence, observe
from gatewayd.core.recovery import LADDER
from gatewayd.core.roster import Roster
from gatewayd.core.tags import decode, eddystone
from gatewayd.edge.ble import Radio, Remedies, Timing
from gatewayd.edge.ble.bluez import NONE_FREE, Adapter, UnavailableError, choose
from gatewayd.edge.ble.ear import Concerns
from gatewayd.sim.air import burst, flood
from gatewayd.sim.bluez import ADDRESS, BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import BTHOME, Frame, SimulatedTag

TAG = "C4:11:22:33:44:55"
CANARY = "C4:00:00:00:00:01"
MINEW = "0000ffe1-0000-1000-8000-00805f9b34fb"
ANY_ADAPTER = config.Radio(enabled=True, adapters=(), canary=None)
# Ten minutes become two seconds.
STEPS = {
    finding: tuple(replace(rung, after_s=rung.after_s / 300) for rung in rungs)
    for finding, rungs in LADDER.items()
}
HURRIED = Timing(
    check_s=0.1, doubt_s=0.05, call_s=1.0, canary_s=0.4, silence_s=1.0, retry_s=(0.05, 0.1), ladder=STEPS
)


@dataclass
class Ear:
    """What the radio told its neighbours."""

    heard: list[Advertisement] = field(default_factory=list)
    reports: list[tuple[State, str]] = field(default_factory=list)
    alive_s: list[float] = field(default_factory=list)

    radio: Radio | None = None

    @property
    def state(self) -> State | None:
        return self.reports[-1][0] if self.reports else None

    @property
    def detail(self) -> str:
        return self.reports[-1][1] if self.reports else ""

    def of(self, address: str) -> list[Advertisement]:
        return [advertisement for advertisement in self.heard if advertisement.address == address]


@asynccontextmanager
async def listening(
    settings: config.Radio = ANY_ADAPTER,
    timing: Timing = HURRIED,
    remedies: Remedies | None = None,
    concerns: Concerns = lambda *_: True,
) -> AsyncIterator[Ear]:
    """A radio that runs while the block does, and must not have ended by itself."""
    ear = Ear()
    radio = Radio(
        settings,
        on_advertisement=ear.heard.append,
        report=lambda state, detail: ear.reports.append((state, detail)),
        alive=lambda: ear.alive_s.append(time.monotonic()),
        concerns=concerns,
        remedies=remedies,
        timing=timing,
    )
    ear.radio = radio
    task = asyncio.create_task(radio.run(), name="radio")
    try:
        yield ear
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for a condition; generous, since the machine may be busy or emulated."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def press(bluez: BlueZ, ear: Ear, tag: SimulatedTag, *, then: State = State.OK) -> None:
    """Press a tag, which advertises until the press is heard and the radio is in the state `then`."""
    frame = tag.press()
    async with asyncio.timeout(30.0):
        while ear.state is not then or all(
            a.service_data != frame.service_data for a in ear.of(frame.address)
        ):
            bluez.advertise(frame)
            await asyncio.sleep(0.02)


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
        await until(lambda: ear.state is State.FAILED, 10.0)
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


def test_a_canary_s_silence_is_in_health_within_ten_seconds() -> None:
    """It is judged, looked at once more, and told when it lasts."""
    timing = Timing()
    assert timing.canary_s + timing.check_s + OUTAGE_S <= 10


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


SECOND = "F0:00:00:00:00:02"


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
