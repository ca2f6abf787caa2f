"""`gatewayd tags scan`: what it keeps of the air, how it shows it, and that it really listens."""

import asyncio
import io
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.layers import Layers
from gatewayd.config.load import assemble
from gatewayd.core.model import ON_AIR_S, Advertisement, Tag
from gatewayd.core.tags import eddystone, minew, moko
from gatewayd.scan import scan
from gatewayd.scan.heard import DEVICES, SETTLE_S, SLOTS, STRANGERS_PER_S, TELL_EVERY_S, Air, Line
from gatewayd.scan.show import (
    HEADINGS,
    LIT_S,
    NEW,
    SETTLED,
    SETTLING,
    LiveView,
    PlainView,
    cells,
    pressed,
    section,
    table,
    to_json,
)
from gatewayd.sim.air import burst
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import BTHOME, Frame, SimulatedTag

TAG = "C4:11:22:33:44:55"
OTHER = "C4:11:22:33:44:66"
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
UUID = "00112233-4455-6677-8899-aabbccddeeff"
IBEACON = bytes.fromhex("0215 00112233445566778899aabbccddeeff 0001 0002 c5")
BASE_IBEACON = bytes.fromhex("0215 00112233445566778899aabbccddeeff 0001 0007 c5")
UID = bytes.fromhex("00 c5" + "11" * 10 + "22" * 6)
TELEMETRY = bytes.fromhex("2000 0bb8 1580 00000010 00000020")


def advertisement(frame: Frame, heard_s: float = 1000.0, rssi_dbm: int | None = -60) -> Advertisement:
    return Advertisement(
        address=frame.address,
        heard_s=heard_s,
        rssi_dbm=rssi_dbm,
        name=frame.name,
        service_data=frame.service_data,
        manufacturer_data=frame.manufacturer_data,
    )


def stranger(number: int) -> Frame:
    return Frame(address="E0:00:" + number.to_bytes(4, "big").hex(":").upper(), manufacturer_data={1: b"1"})


# --- what is kept and told ----------------------------------------------------------------------------------


def test_a_line_is_told_when_it_is_new_and_when_it_changed() -> None:
    """Copies are not told again."""
    air, tag = Air(()), SimulatedTag(TAG)
    beat = tag.heartbeat()
    assert [line.press for line in air.hear(advertisement(beat, 1000))] == [False]
    assert air.hear(advertisement(beat, 1002)) == []
    assert len(air.hear(advertisement(tag.heartbeat(), 1004))) == 1


def test_a_press_is_told_at_once_and_once() -> None:
    """However soon after something else was told of the tag, and however many copies follow."""
    air, tag = Air(()), SimulatedTag(TAG)
    air.hear(advertisement(tag.heartbeat(), 1000))
    press = tag.press()
    assert [line.press for line in air.hear(advertisement(press, 1000.1))] == [True]
    assert air.hear(advertisement(press, 1000.2)) == []
    (line,) = air.lines()
    assert (line.press, line.pressed_s) == (False, 1000.1)


def test_what_changes_all_the_time_is_told_now_and_then() -> None:
    """Telemetry counts its frames; the latest change is told when its time has come."""
    air = Air(())
    told = []
    for tenth in range(30):
        data = TELEMETRY[:6] + tenth.to_bytes(4, "big") + TELEMETRY[10:]
        frame = Frame(address=TAG, service_data={eddystone.SERVICE: data})
        told += air.hear(advertisement(frame, 1000 + tenth / 10))
    assert len(told) == 3 / TELL_EVERY_S


def test_an_identity_that_is_there_when_the_scan_begins_is_no_press_one_that_appears_is() -> None:
    air = Air(())
    air.begin(1000)
    beacon = Frame(address=TAG, manufacturer_data={0x4C: BASE_IBEACON})
    appears = Frame(address=TAG, manufacturer_data={0x4C: IBEACON})
    assert [line.press for line in air.hear(advertisement(beacon, 1000))] == [False]
    later_s = 1000 + SETTLE_S
    assert air.hear(advertisement(beacon, later_s)) == []
    assert [line.press for line in air.hear(advertisement(appears, later_s))] == [True]


def test_a_tag_of_a_ready_made_format_is_heard_as_what_it_sends() -> None:
    """Both its identities are its own, at whatever address; at rest it is no press, however late."""
    named: dict[str, str | int] = {"uuid": UUID, "major": 1, "minor": 2}
    tag = Tag(name="card", format="kontakt_ibeacon", identity=named, resting={**named, "minor": 7})
    air = Air([tag])
    air.begin(1000)
    for data, press in ((BASE_IBEACON, False), (IBEACON, True)):
        (line,) = air.hear(advertisement(Frame(address=OTHER, manufacturer_data={0x4C: data}), 1010))
        assert line.report is not None
        assert (line.tag, line.press, line.report.format) == (tag, press, "ibeacon")


def test_an_identity_that_is_the_first_thing_heard_is_a_press_once_the_scan_has_run_for_a_while() -> None:
    """In a quiet place a tag that is silent at rest is all there is."""
    air = Air(())
    air.begin(1000)
    appears = Frame(address=TAG, manufacturer_data={0x4C: IBEACON})
    assert [line.press for line in air.hear(advertisement(appears, 1020))] == [True]


def test_an_identity_heard_too_soon_is_a_press_when_it_appears_again() -> None:
    """Also one heard before the radio said that it scans; that a scan was replaced begins nothing anew."""
    air = Air(())
    appears = Frame(address=TAG, manufacturer_data={0x4C: IBEACON})
    assert [line.press for line in air.hear(advertisement(appears, 999))] == [False]
    air.begin(1000)
    assert air.hear(advertisement(appears, 1010)) == []
    again_s = 1010 + ON_AIR_S + 1
    air.begin(again_s)
    assert [line.press for line in air.hear(advertisement(appears, again_s))] == [True]


def test_a_radio_that_failed_before_it_knew_what_is_there_listens_anew() -> None:
    """Time in which it did not scan settles nothing. Later on a failure does not matter."""
    air = Air(())
    air.begin(1000)
    air.end(1001)
    assert not air.settled(1100)
    air.begin(1200)
    assert (air.settled(1200 + SETTLE_S - 0.1), air.settled(1200 + SETTLE_S)) == (False, True)
    air.end(1300)
    assert air.settled(1301)


def test_each_slot_of_a_tag_has_its_line_also_when_one_advertisement_holds_two() -> None:
    air = Air(())
    both = Frame(address=TAG, manufacturer_data={0x4C: IBEACON}, service_data={eddystone.SERVICE: TELEMETRY})
    assert len(air.hear(advertisement(both))) == 2
    air.hear(advertisement(Frame(address=TAG, manufacturer_data={0x4C: BASE_IBEACON})))
    assert len(air.lines()) == 3


def test_frames_of_a_tag_that_no_decoder_claims_make_no_line_of_their_own() -> None:
    """Neither before nor after one that is claimed."""
    air = Air(())
    unclaimed = Frame(address=TAG, manufacturer_data={1: b"?"})
    air.hear(advertisement(unclaimed))
    air.hear(advertisement(SimulatedTag(TAG).heartbeat()))
    assert air.hear(advertisement(unclaimed)) == []
    assert [line.stranger for line in air.lines()] == [False]


def test_an_assigned_tag_is_called_by_its_name_and_read_with_its_key() -> None:
    air = Air([Tag(name="anna", format="bthome", address=TAG, key=KEY, key_expected=True)])
    (line,) = air.hear(advertisement(SimulatedTag(TAG, key=KEY).press()))
    said = json.loads(to_json(line))
    assert (said["tag"], said["event"], said["auth"], said["press"]) == ("anna", "press", "ok", True)


def test_the_newest_press_is_on_top() -> None:
    """However weak it is; a press again brings it up again."""
    air, one, two = Air(()), SimulatedTag(TAG), SimulatedTag(OTHER)
    air.hear(advertisement(SimulatedTag("C4:11:22:33:44:77").heartbeat(), 1000, rssi_dbm=-20))
    for second, (tag, rssi_dbm) in enumerate([(one, -90), (two, -50), (one, -90)], start=1001):
        air.hear(advertisement(tag.press(), second, rssi_dbm=rssi_dbm))
        assert air.lines()[0].address == tag.address
    assert [line.rssi_dbm for line in air.lines()] == [-90, -50, -20]


def test_tags_come_before_strangers_and_the_strongest_first() -> None:
    air = Air(())
    air.hear(advertisement(stranger(1), rssi_dbm=-30))
    air.hear(advertisement(SimulatedTag(TAG).heartbeat(), rssi_dbm=-80))
    air.hear(advertisement(SimulatedTag(OTHER).heartbeat(), rssi_dbm=-50))
    air.hear(advertisement(stranger(2), rssi_dbm=None))
    assert [line.rssi_dbm for line in air.lines()] == [-50, -80, -30, None]


def test_that_a_device_is_heard_no_more_is_no_advertisement() -> None:
    air = Air(())
    assert air.hear(Advertisement(address=TAG, heard_s=1.0)) == []
    assert air.lines() == []


def test_signal_strength_and_name_stay_known() -> None:
    air, tag = Air(()), SimulatedTag(TAG)
    air.hear(Advertisement(address=TAG, heard_s=1.0, rssi_dbm=-44, name="BLU"))
    air.hear(advertisement(tag.heartbeat(), 2.0, rssi_dbm=None))
    air.hear(Advertisement(address=OTHER, heard_s=1.0, rssi_dbm=-44, name="BLU"))
    air.hear(advertisement(Frame(address=OTHER, manufacturer_data={1: b""}), 2.0, rssi_dbm=None))
    assert [(line.rssi_dbm, line.name) for line in air.lines() if line.stranger] == [(-44, "BLU")]


def test_a_flood_of_addresses_is_bounded_in_memory_and_in_what_is_told() -> None:
    """The tag stays, though it is the weakest; a stranger that is there stays before one that was."""
    air = Air(())
    air.hear(advertisement(SimulatedTag(TAG).heartbeat(), 0.0, rssi_dbm=-99))
    air.hear(advertisement(stranger(0), 0.5, rssi_dbm=-20))
    told = 0
    for number in range(1, 3 * DEVICES):
        told += len(air.hear(advertisement(stranger(number), 100 + number / 1000, rssi_dbm=-90)))
    addresses = {line.address for line in air.lines()}
    assert len(addresses) <= DEVICES
    assert TAG in addresses
    assert stranger(0).address not in addresses
    assert told <= STRANGERS_PER_S * (3 * DEVICES / 1000 + 1)


def test_a_device_that_changes_its_identity_all_the_time_has_few_lines() -> None:
    air = Air(())
    for number in range(50):
        data = IBEACON[:18] + number.to_bytes(2, "big") + IBEACON[20:]
        air.hear(advertisement(Frame(address=TAG, manufacturer_data={0x4C: data}), 1000 + number))
    assert len(air.lines()) == SLOTS


# --- how it is shown ----------------------------------------------------------------------------------------


def line_of(frame: Frame, *tags: Tag) -> Line:
    air = Air(tags)
    air.hear(advertisement(frame))
    (line,) = air.lines()
    return line


def test_json_of_a_stranger_has_no_format() -> None:
    assert json.loads(to_json(line_of(stranger(1)))) == {
        "address": "E0:00:00:00:00:01",
        "name": None,
        "rssi_dbm": -60,
        "tag": None,
        "press": False,
    }


def test_json_of_a_tag_says_all_that_is_known_of_it() -> None:
    said = json.loads(to_json(line_of(SimulatedTag(TAG, packet_id=6, battery_pct=88).press())))
    assert said == {
        "address": TAG, "name": None, "rssi_dbm": -60, "format": "bthome", "event": "press", "packet_id": 7,
        "encrypted": False, "authenticated": False, "auth": "none", "battery_pct": 88, "tag": None,
        "press": True,
    }  # fmt: skip


def test_the_table_has_a_row_for_each_line_and_marks_who_was_pressed() -> None:
    rows = table([line_of(SimulatedTag(TAG).press()), line_of(stranger(1))])
    assert rows[0].split() == [heading for heading in HEADINGS if heading]
    assert rows[1].split()[:8] == ["*", "-60", "(new)", TAG, "press", "bthome", "none", "100"]
    assert rows[2].split() == ["-60", "E0:00:00:00:00:01"]


@pytest.mark.parametrize(
    ("key", "tag", "expected"),
    [
        (None, None, "none"),
        (KEY, None, "needs its key"),
        (KEY, Tag(name="anna", format="bthome", address=TAG), "needs its key"),
        (KEY, Tag(name="anna", format="bthome", address=TAG, key=KEY, key_expected=True), "ok"),
        (KEY, Tag(name="anna", format="bthome", address=TAG, key=KEY[::-1], key_expected=True), "wrong key"),
        (KEY, Tag(name="anna", format="bthome", address=TAG, key_expected=True), "key not found"),
    ],
)
def test_a_line_says_what_proves_it_or_what_is_missing(
    key: bytes | None, tag: Tag | None, expected: str
) -> None:
    """A key that only root may read is not the same as one that is wrong."""
    line = line_of(SimulatedTag(TAG, key=key).press(), *([] if tag is None else [tag]))
    assert cells(line, lit=False)[HEADINGS.index("proof")] == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (SimulatedTag(TAG).press(0x02), ("double", "double")),
        (SimulatedTag(TAG).heartbeat(), ("none", "none")),
        (SimulatedTag(TAG, key=KEY).press(), ("press?", "")),
        (Frame(address=TAG, manufacturer_data={0x4C: IBEACON}), ("press", "")),
        (Frame(address=TAG, service_data={eddystone.SERVICE: TELEMETRY}), ("", "")),
        (stranger(1), ("", "")),
    ],
    ids=["double", "heartbeat", "encrypted", "identity", "telemetry", "stranger"],
)
def test_a_line_says_what_happened_as_far_as_that_is_known(frame: Frame, expected: tuple[str, str]) -> None:
    """While it is lit, and after: an identity is a press only when it appears."""
    event = HEADINGS.index("event")
    assert (cells(line_of(frame), lit=True)[event], cells(line_of(frame), lit=False)[event]) == expected


def test_the_live_table_shows_what_matters_on_80_columns() -> None:
    """Address, name, proof and battery are whole; what else a tag says gives way."""
    pytest.importorskip("rich", reason="rich draws the live table; it is optional")
    from rich.console import Console  # noqa: PLC0415 - optional

    air = Air([Tag(name="nurse-1-tag", format="bthome", address=TAG, key_expected=True)])
    view = LiveView(air, io.StringIO())
    try:
        air.hear(advertisement(SimulatedTag(TAG, key=KEY).press()))
        air.hear(advertisement(Frame(address=OTHER, name="Blue Charm", manufacturer_data={0x4C: IBEACON})))
        air.hear(advertisement(SimulatedTag("C4:11:22:33:44:77", battery_pct=88).press()))
        console = Console(file=io.StringIO(), width=80)
        with console.capture() as capture:
            console.print(view.draw())
    finally:
        view.close()
    for expected in (TAG, OTHER, "nurse-1-tag", "key not found", "ibeacon", "88 %", "battery"):
        assert expected in capture.get()


def test_a_tag_that_could_be_assigned_is_marked_and_its_battery_shown() -> None:
    """What is assigned has its name there; what has no button, nothing."""
    tag, battery = HEADINGS.index("tag"), HEADINGS.index("battery")
    frame = SimulatedTag(TAG, battery_pct=88).press()
    new = cells(line_of(frame), lit=False)
    assert (new[tag], new[battery]) == (NEW, "88 %")
    assert cells(line_of(frame, Tag(name="anna", format="bthome", address=TAG)), lit=False)[tag] == "anna"
    telemetry = Frame(address=TAG, service_data={eddystone.SERVICE: TELEMETRY})
    assert (cells(line_of(telemetry), lit=False)[tag], cells(line_of(stranger(1)), lit=False)[tag]) == (
        "",
        "",
    )


@given(st.text(max_size=300))
def test_no_name_drives_the_terminal(name: str) -> None:
    """Names come from anybody's device."""
    shown = cells(line_of(Frame(address=TAG, name=name, manufacturer_data={1: b"1"})), lit=False)[-1]
    assert shown.isprintable()
    assert len(shown) <= 24


@pytest.mark.parametrize(
    "frame",
    [
        SimulatedTag(TAG).press(),
        SimulatedTag(TAG, key=KEY).press(),
        Frame(address=TAG, manufacturer_data={0x4C: IBEACON}),
        Frame(address=TAG, service_data={eddystone.SERVICE: UID}),
        Frame(address=TAG, service_data={moko.SERVICE: bytes.fromhex("20 02 0107")}),
    ],
    ids=["bthome", "encrypted bthome", "ibeacon", "eddystone", "moko"],
)
def test_the_section_that_is_offered_assigns_the_tag(frame: Frame) -> None:
    """Pasted into a configuration, it is good, and the tag is known."""
    layers = Layers()
    text = "\n".join(["[mqtt]", "brokers = localhost", *section(line_of(frame))])
    layers.add(text.encode(), "pasted.conf")
    loaded = assemble(layers, credentials=None, machine_id="0" * 32)
    line = line_of(frame, *loaded.config.tags)
    assert line.tag is not None
    assert line.tag.key_expected == (line.report is not None and line.report.encrypted)
    assert section(line) == []


@pytest.mark.parametrize(
    "frame",
    [
        stranger(1),
        Frame(address=TAG, service_data={eddystone.SERVICE: TELEMETRY}),
        Frame(address=TAG, service_data={minew.SERVICE: bytes.fromhex("A1 08 64")}),
        Frame(address=TAG, service_data={BTHOME: bytes.fromhex("40 0164")}),
    ],
    ids=["stranger", "telemetry", "minew", "a sensor"],
)
def test_no_section_is_offered_for_what_names_no_tag_or_has_no_button(frame: Frame) -> None:
    """What cannot be pressed cannot call for help."""
    assert section(line_of(frame)) == []


def test_plain_lines_mark_a_press_and_offer_its_section_once() -> None:
    out, err = io.StringIO(), io.StringIO()
    air = Air(())
    view = PlainView(air, out, err)
    line = line_of(SimulatedTag(TAG).press())
    air.hear(advertisement(SimulatedTag(TAG).press()))
    for _ in range(2):
        view.tell(line)
    view.say("hci0 scans and hears")
    view.tick(1000.0)
    view.close()
    text = out.getvalue()
    assert text.startswith(f"*  -60   (new)       {TAG}")
    assert text.count("[tag NAME]") == 1
    assert text.rstrip().splitlines()[-2].split() == [heading for heading in HEADINGS if heading]
    assert err.getvalue() == "hci0 scans and hears\n"


def test_the_live_table_lights_a_pressed_tag_for_a_while_and_offers_its_section() -> None:
    pytest.importorskip("rich", reason="rich draws the live table; it is optional")
    from rich.console import Console  # noqa: PLC0415 - optional

    air = Air(())
    view = LiveView(air, io.StringIO())
    try:
        (line,) = air.hear(advertisement(SimulatedTag(TAG).press(), 1000.0))
        view.tell(line)
        view.say("hci0 scans and hears")
        pictures = []
        for now_s in (1000.1, 1000.1 + LIT_S):
            view.tick(now_s)
            console = Console(file=io.StringIO(), width=150, force_terminal=True)
            with console.capture() as capture:
                console.print(view.draw())
            pictures.append(capture.get())
        assert "\x1b[1;37;41m" in pictures[0]
        assert "\x1b[1;37;41m" not in pictures[1]
        for expected in (TAG, f"address = {TAG}", "tags add NAME --from-scan", "hci0 scans and hears"):
            assert expected in pictures[1]
    finally:
        view.close()


def test_the_live_table_says_when_to_press() -> None:
    pytest.importorskip("rich", reason="rich draws the live table; it is optional")
    from rich.console import Console  # noqa: PLC0415 - optional

    view = LiveView(Air(()), io.StringIO())
    pictures = []
    try:
        for over in (False, True):
            view.settle(over=over)
            console = Console(file=io.StringIO(), width=80)
            with console.capture() as capture:
                console.print(view.draw())
            pictures.append([text in capture.get() for text in (SETTLING, SETTLED)])
    finally:
        view.close()
    assert pictures == [[True, False], [False, True]]


def test_the_live_table_says_of_a_press_whose_tag_it_is_when_it_is_assigned() -> None:
    assert pressed(line_of(SimulatedTag(TAG).press(), Tag(name="anna", format="bthome", address=TAG))) == [
        "",
        "pressed last: anna, which is assigned already",
    ]


# --- listening ----------------------------------------------------------------------------------------------


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY.hex())
    path = tmp_path / "gatewayd.conf"
    path.write_text(
        f"[gateway]\nid = gw-1\n[tag anna]\nformat = bthome\naddress = {TAG}\nkey_credential = key\n"
    )
    return path


async def test_it_hears_an_encrypted_press_and_a_stranger(
    bluez: BlueZ, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object for the press, with the name of the tag and without its key; exit status 0."""
    listening = asyncio.create_task(
        scan(config=configuration, credentials=configuration.parent, seconds=1.5, as_json=True)
    )
    async with asyncio.timeout(5):
        while not bluez.discovering:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0.01)
    await burst(bluez, SimulatedTag(TAG, key=KEY).press(), 0.5)
    bluez.advertise(stranger(1))
    assert await listening == 0
    out, err = capsys.readouterr()
    said = [json.loads(line) for line in out.splitlines()]
    assert [(one["address"], one["tag"], one["press"]) for one in said] == [
        (TAG, "anna", True),
        ("E0:00:00:00:00:01", None, False),
    ]
    assert said[0]["auth"] == "ok"
    assert KEY.hex() not in out + err
    assert not bluez.discovering


async def test_it_says_when_to_press_and_then_an_identity_alone_on_the_air_is_a_press(
    bluez: BlueZ, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tag that is silent at rest, in a place where nothing else is heard."""
    listening = asyncio.create_task(
        scan(config=tmp_path, credentials=None, seconds=SETTLE_S + 4, as_json=True)
    )
    err = ""
    async with asyncio.timeout(SETTLE_S + 4):
        while SETTLED not in err:
            await asyncio.sleep(0.02)
            err += capsys.readouterr().err
    assert err.index(SETTLING) < err.index(SETTLED)
    await burst(bluez, Frame(address=TAG, manufacturer_data={0x4C: IBEACON}), 0.5)
    assert await listening == 0
    assert [json.loads(line)["press"] for line in capsys.readouterr().out.splitlines()] == [True]


async def test_it_ends_well_when_it_is_interrupted(
    bluez: BlueZ, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a fresh machine without a configuration, too; a bad one is said and does not matter."""
    listening = asyncio.create_task(
        scan(config=tmp_path / "none.conf", credentials=None, seconds=None, as_json=False)
    )
    async with asyncio.timeout(5):
        while not bluez.discovering:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0.01)
    await burst(bluez, SimulatedTag(TAG).press(), 0.3)
    os.kill(os.getpid(), signal.SIGINT)
    assert await listening == 0
    out, err = capsys.readouterr()
    assert f"address = {TAG}" in out
    assert "no tags are assigned, since there is no good configuration" in err
    assert "none.conf: expected a file that can be read, got" in err


async def test_a_scan_that_is_refused_because_of_another_says_what_to_do(
    bluez: BlueZ, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bluez.errors["StartDiscovery"] = "org.bluez.Error.InProgress"
    assert await scan(config=tmp_path, credentials=None, seconds=None, as_json=True) == 1
    assert "or `systemctl stop gatewayd` while this runs" in capsys.readouterr().err


async def test_without_an_adapter_it_fails_and_says_what_to_do(
    bluez: BlueZ, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bluez.unplug()
    assert await scan(config=configuration, credentials=None, seconds=None, as_json=False) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "gatewayd tags scan: no Bluetooth adapter: plug one in" in err
    assert "the credential key in $CREDENTIALS_DIRECTORY" in err


async def test_without_bluetoothd_it_fails_and_says_what_to_do(
    system_bus: PrivateBus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await scan(config=tmp_path, credentials=None, seconds=5, as_json=True) == 1
    assert "bluetoothd is not running: `systemctl start bluetooth`" in capsys.readouterr().err
