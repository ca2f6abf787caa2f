"""Frames that others captured, or that makers print, each with its source and what that source says of it.

None was changed to suit a decoder. What a source does not say is read by the specification named beside it.
"""

from uuid import UUID

import pytest

from gatewayd.core.model import Advertisement, Auth, Presses, TagEvent, TagReport
from gatewayd.core.tags import bthome, decode, eddystone, ela, ibeacon, kontakt, minew, moko

ADDRESS = "C4:11:22:33:44:55"


def heard(
    where: str | int, frame: str, *, address: str = ADDRESS, key: str | None = None
) -> TagReport | None:
    """What `decode` makes of service data (a UUID) or manufacturer data (a company), its format not told."""
    data = bytes.fromhex(frame)
    service = {where: data} if isinstance(where, str) else {}
    company = {where: data} if isinstance(where, int) else {}
    advertisement = Advertisement(
        address=address, heard_s=0.0, service_data=service, manufacturer_data=company
    )
    return decode(advertisement, key=None if key is None else bytes.fromhex(key))


def read(where: str | int, frame: str, *, address: str = ADDRESS, key: str | None = None) -> TagReport:
    report = heard(where, frame, address=address, key=key)
    assert report is not None
    return report


# BTHome. "theengs": github.com/theengs/decoder, tests/BLE/test_ble.cpp, test_uuid_name_svcdata, with
# expected_uuid_name_svcdata. "bthome-ble": github.com/Bluetooth-Devices/bthome-ble, tests/test_parser_v2.py.
NONE, PRESS, DOUBLE, TRIPLE, LONG, HOLD = (
    TagEvent.NONE,
    TagEvent.PRESS,
    TagEvent.DOUBLE,
    TagEvent.TRIPLE,
    TagEvent.LONG,
    TagEvent.HOLD,
)


@pytest.mark.parametrize(
    ("frame", "packet_id", "battery_pct", "buttons"),
    [
        pytest.param("40001d01643a01", 29, 100, (PRESS,), id="theengs SBBT-002C press"),
        pytest.param("40001e01643a02", 30, 100, (DOUBLE,), id="theengs SBBT-002C double press"),
        pytest.param("40001f01643a03", 31, 100, (TRIPLE,), id="theengs SBBT-002C triple press"),
        pytest.param("40002001643a04", 32, 100, (LONG,), id="theengs SBBT-002C long press"),
        pytest.param("4400ab01643a01", 171, 100, (PRESS,), id="theengs SBBT-002C press, newer firmware"),
        pytest.param("4400ac01643afe", 172, 100, (HOLD,), id="theengs SBBT-002C hold"),
        pytest.param(
            "44001e01643a003a023a003a00",
            30,
            100,
            (NONE, DOUBLE, NONE, NONE),
            id="theengs SBBT-004CUS button2",
        ),
        pytest.param(
            "4400ab01643a003a003a003afe", 171, 100, (NONE, NONE, NONE, HOLD), id="theengs SBBT-004CEU button4"
        ),
        pytest.param("40005201643a01", 82, 100, (PRESS,), id="bthome-ble test_bthome_shelly_button"),
        pytest.param(
            "403a003a013a03",
            None,
            None,
            (NONE, PRESS, TRIPLE),
            id="bthome-ble test_bthome_event_triple_button",
        ),
    ],
)
def test_shelly_buttons(
    frame: str, packet_id: int | None, battery_pct: int | None, buttons: tuple[TagEvent, ...]
) -> None:
    """Packet id, battery and each button."""
    assert read(bthome.SERVICE, frame) == TagReport(
        format="bthome", packet_id=packet_id, battery_pct=battery_pct, buttons=buttons
    )


# A Shelly BLU Button1: the frame is theengs' "SBBT-002C encrypted"; the address and the key are those of
# github.com/koenvervloesem/BTHome-Kaitai-Struct, tests/test_bthome_v2.py,
# test_bthome_shelly_button_encrypted. That they belong together neither says: the MIC does.
BUTTON1 = "4562511158bd25b8f093645b573115"
BUTTON1_ADDRESS = "BC:02:6E:C3:BA:95"
BUTTON1_KEY = "a0bcc8ba8aa8bb1a8e98d89eadbf13db"


def test_an_encrypted_press_of_a_shelly_button1() -> None:
    """Captured, and opened with its key: battery 100 %, pressed."""
    report = read(bthome.SERVICE, BUTTON1, address=BUTTON1_ADDRESS, key=BUTTON1_KEY)
    assert (report.event, report.battery_pct, report.packet_id) == (TagEvent.PRESS, 100, 0x48)
    assert (report.auth, report.counter) == (Auth.OK, 0x6493F0B8)


def test_an_encrypted_press_of_a_shelly_button1_without_its_key() -> None:
    """What theengs reads of it: the counter "b8f09364", in the order on the air."""
    report = read(bthome.SERVICE, BUTTON1)
    assert report.counter is not None
    assert report.counter.to_bytes(4, "little").hex() == "b8f09364"
    assert (report.encrypted, report.auth, report.buttons) == (True, Auth.NONE, ())


@pytest.mark.parametrize(
    ("frame", "counter"),
    [
        pytest.param("41e445f3c9962b332211006c7c4519", 1122867, id="bthome-ble test_same_service_data"),
        pytest.param("413e932cc7175f34221100553876af", 1122868, id="bthome-ble test_increasing_counter"),
        pytest.param("41723d3035fb88322211009e7414c0", 1122866, id="bthome-ble test_decreasing_counter"),
        pytest.param("41ba0db07aeef6ffffffff21fd4600", 2**32 - 1, id="bthome-ble test_reset_counter, before"),
        pytest.param("41de40b50e676600000000d7cb95de", 0, id="bthome-ble test_reset_counter, after"),
    ],
)
def test_counters_of_encrypted_frames(frame: str, counter: int) -> None:
    """Each is opened by the key of bthome-ble, and has the counter it says."""
    key = "231d39c1d7cc1ab1aee224cd096db932"
    report = read(bthome.SERVICE, frame, address="54:48:E6:8F:80:A5", key=key)
    assert (report.auth, report.counter) == (Auth.OK, counter)


# Eddystone and iBeacon. "AOSP": the Android Open Source Project, packages/modules/Bluetooth,
# framework/tests/unit/src/android/bluetooth/le/ScanRecordTest.java, "raw beacons captured from a Blue Charm
# BC011"; it only splits them, so what they say is read by github.com/google/eddystone,
# eddystone-uid/README.md and eddystone-tlm/tlm-plain.md. "ble_monitor":
# github.com/custom-components/ble_monitor, custom_components/ble_monitor/test/.
@pytest.mark.parametrize(
    ("frame", "namespace", "instance", "power_dbm"),
    [
        pytest.param(
            "00ee626c7565636861726d310000000000010000",
            b"bluecharm1".hex(),
            "000000000001",
            -18,
            id="AOSP, Blue Charm BC011",
        ),
        # github.com/reelyactive/advlib-ble-services, test/unit/eddystone.test.js, INPUT_DATA_EDDYSTONE_UID
        pytest.param(
            "00fc00112233445566778899aabbccddeeff0000",
            "00112233445566778899",
            "aabbccddeeff",
            -4,
            id="advlib-ble-services",
        ),
    ],
)
def test_eddystone_uid(frame: str, namespace: str, instance: str, power_dbm: int) -> None:
    """Namespace, instance and power."""
    assert read(eddystone.SERVICE, frame) == TagReport(
        format="eddystone",
        identity={"namespace": namespace, "instance": instance},
        measurements={"power_dbm": power_dbm},
    )


@pytest.mark.parametrize(
    ("frame", "battery_mv", "temperature_c", "adv_count", "uptime_s"),
    [
        pytest.param(
            "20000bf017000008874803fb9354",
            3056,
            23.0,
            0x00088748,
            0x03FB9354 / 10,
            id="AOSP, Blue Charm BC011",
        ),
        # test_eddystone_tlm_parser.py says nothing of the time; its field is read by the specification
        pytest.param(
            "20000c6f1e000002006d41db9ab6",
            3183,
            30.0,
            131181,
            0x41DB9AB6 / 10,
            id="ble_monitor test_eddystone_tlm",
        ),
        pytest.param(
            "2000000080000002006d41db9ab6",
            None,
            None,
            131181,
            0x41DB9AB6 / 10,
            id="ble_monitor test_eddystone_tlm_unsupported_readings",
        ),
        # github.com/reelyactive/advlib-ble-services, test/unit/eddystone.test.js, INPUT_DATA_EDDYSTONE_TLM
        pytest.param("20000bb815000000004500000258", 3000, 21.0, 69, 60.0, id="advlib-ble-services"),
    ],
)
def test_eddystone_tlm(
    frame: str, battery_mv: int | None, temperature_c: float | None, adv_count: int, uptime_s: float
) -> None:
    """Battery and temperature, where they are measured; count and time."""
    report = read(eddystone.SERVICE, frame)
    assert (report.format, report.battery_mv) == ("eddystone", battery_mv)
    assert report.measurements.get("temperature_c") == temperature_c
    assert (report.measurements["adv_count"], report.measurements["uptime_s"]) == (adv_count, uptime_s)


def test_another_frame_under_eddystones_uuid_is_not_claimed() -> None:
    """KKM's K6 sensor, ble_monitor test_kkm.py: type 21, KKM's own."""
    assert heard(eddystone.SERVICE, "21010f0e07192a224ffffcffec03eb") is None


@pytest.mark.parametrize(
    ("frame", "uuid", "major", "minor", "power_dbm"),
    [
        # AOSP has the frame, theengs (test_mfgdata, "BlueCharm_135727") what it says
        pytest.param(
            "0215426c7565436861726d426561636f6e730efe1355c5",
            "426c7565436861726d426561636f6e73",
            3838,
            4949,
            -59,
            id="AOSP and theengs, Blue Charm BC011",
        ),
        pytest.param(
            "0215e2c56db5dffb48d2b060d0f5a71096e000640000c5",
            "e2c56db5dffb48d2b060d0f5a71096e0",
            100,
            0,
            -59,
            id="ble_monitor test_ibeacon_sensor",
        ),
    ],
)
def test_an_ibeacon(frame: str, uuid: str, major: int, minor: int, power_dbm: int) -> None:
    """The identity and the power."""
    assert read(ibeacon.COMPANY, frame) == TagReport(
        format="ibeacon",
        identity={"uuid": str(UUID(uuid)), "major": major, "minor": minor},
        measurements={"power_dbm": power_dbm},
    )


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("0f06a033bd08c5001002440c", id="ble_monitor test_ibeacon_iphone_ble_packet_var_1"),
        pytest.param("1005441cbd08c5", id="ble_monitor test_ibeacon_iphone_ble_packet_var_2"),
        pytest.param("0719010e2022f58f00000a7d9fff27234873d4305e0fed1b39e2b8", id="theengs AirPods"),
    ],
)
def test_what_else_apple_sends_is_not_claimed(frame: str) -> None:
    """Telephones and ear phones are no tags."""
    assert heard(ibeacon.COMPANY, frame) is None


# Minew. "E8": Minew, "E8 TagBeacon, MiniBeaconPlus Configuration Instruction", section 2.2, Advertising Data
# Format (Info), the example. "suntech": github.com/shafiqnik/Suntech, analyze_macs.py, what a tracker heard.
@pytest.mark.parametrize(
    ("frame", "battery_pct"),
    [
        pytest.param("a10864001302e4cdab504c5553303031", 100, id="E8"),
        pytest.param("a108649519293f23ac566563696d61", 100, id="suntech AC:23:3F:29:19:95"),
        pytest.param("a10864052b5e3f23ac566563696d61", 100, id="suntech AC:23:3F:5E:2B:05"),
        # github.com/reelyactive/advlib-ble-services, test/unit/minew.test.js, INPUT_DATA_NAME
        pytest.param("a10801aabbccddeeff504c5553", 1, id="advlib-ble-services"),
    ],
)
def test_minew_information(frame: str, battery_pct: int) -> None:
    """The battery, in percent."""
    assert read(minew.SERVICE, frame) == TagReport(format="minew", battery_pct=battery_pct)


@pytest.mark.parametrize("frame", ["a1016315803200aabbccddeeff", "a10364ff8000000080aabbccddeeff"])
def test_other_frames_of_minew_are_not_claimed(frame: str) -> None:
    """advlib-ble-services, test/unit/minew.test.js: temperature, acceleration."""
    assert heard(minew.SERVICE, frame) is None


# MOKO. "LW003-B": MOKO SMART's decoder for its LW003-B gateway as found on GitHub (the repository of this
# copy is not known; the maker's own is LoRaWAN-Product-Decoder/MOKOSMART-LoRaWAN-Product-Decoder, LW003-B/),
# its last lines: an "MK Button" at DC:68:BE:FC:35:C4, advertisement and response as heard. "V3": in the
# maker's own, LW003-V3 Frimware/LW003-B V3 on Chirpstack_v4.js, its last lines: two buttons in the gateway's
# record, whose fields have the order of the frames, here put back into them. "sheet": MOKO, "MOKO Beacon -
# ADV Format Summary Sheet", BXP-B Series, as github.com/hvieira512/havicare-hub has it in
# tests/Unit/Ingress/Mqtt/Moko/W6rDecoderTest.php.
@pytest.mark.parametrize(
    ("frame", "event", "count", "now"),
    [
        pytest.param("20 03 0034 000001 00 00", PRESS, 0x34, True, id="LW003-B"),
        pytest.param("20 01 0000 000001 01", PRESS, 0, False, id="V3 FB:3F:A0:BF:DF:6E"),
        pytest.param("20 02 0005 000000000001 00 00", PRESS, 5, True, id="sheet, single"),
        pytest.param("21 02 0007 000000000001 00 00", DOUBLE, 7, True, id="sheet, double"),
        pytest.param("22 02 0003 000000000001 00 00", LONG, 3, True, id="sheet, long"),
        pytest.param("20 01 0005 000000000001 00 00", PRESS, 5, False, id="sheet, bit 0 is the password"),
    ],
)
def test_presses_of_a_moko_button(frame: str, event: TagEvent, count: int, *, now: bool) -> None:
    """The kind, whether the alarm is triggered, the trigger count."""
    assert read(moko.SERVICE, frame) == TagReport(
        format="moko", buttons=(event,), presses=Presses(count=count, now=now)
    )


def test_inactivity_of_a_moko_button() -> None:
    """Sheet: abnormal inactivity, which is no press."""
    assert read(moko.SERVICE, "23 02 0005 000000000001 00 00") == TagReport(format="moko")


@pytest.mark.parametrize(
    ("response", "battery_mv", "battery_pct"),
    [
        pytest.param("00 00 0010 ffc8 0010 fc1c 0067 00 0bdc dc68befc35c4", 3036, None, id="LW003-B"),
        pytest.param("00 00 0010 0028 ff84 03d8 006c 00 0ccc d3a45f30321f", 3276, None, id="sheet"),
        # Up to 100 it is percent, say V3 and havicare-hub
        pytest.param("00 00 0050 fce0 fe68 0228 00f5 00 0064 fb3fa0bfdf6e", None, 100, id="V3, FB:3F:…"),
        pytest.param("00 00 0050 0090 0388 0368 0142 00 0055 f4830ce59808", None, 85, id="V3, F4:83:…"),
    ],
)
def test_the_battery_of_a_moko_button(response: str, battery_mv: int | None, battery_pct: int | None) -> None:
    """In mV, or in percent."""
    assert read(moko.RESPONSE, response) == TagReport(
        format="moko", battery_mv=battery_mv, battery_pct=battery_pct
    )


# ELA. "advlib": github.com/reelyactive/advlib-ble-manufacturers, test/unit/elainnovation.js. It says of the
# touch that the button is up; its count is the formula in lib/elainnovation.js. No press of such a tag was
# found.
def test_an_ela_touch_that_was_let_go() -> None:
    """advlib INPUT_DATA_TOUCH."""
    assert read(ela.COMPANY, "b29c00") == TagReport(
        format="ela", buttons=(TagEvent.PRESS,), presses=Presses(count=0x9C // 2, now=False)
    )


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("f145", id="advlib INPUT_DATA_BATT_PERCENT, 69 %"),
        # And wiki.teltonika-gps.com, "How to capture ELA Beacon internal battery voltage?": a scan response
        pytest.param("f2ac0b", id="advlib INPUT_DATA_BATT_VOLTAGE, 2.988 V"),
    ],
)
def test_the_battery_of_an_ela_tag_alone_is_not_claimed(frame: str) -> None:
    """bluetoothd shows it in place of the press: a tag of which no press would be heard is not seen."""
    assert heard(ela.COMPANY, frame) is None


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("122e07", id="ble_monitor test_ela_blue_puck_T"),
        pytest.param("320a00", id="advlib INPUT_DATA_MAG"),
        pytest.param("420c00", id="advlib INPUT_DATA_MOV"),
        pytest.param("929c00", id="advlib INPUT_DATA_PIR"),
    ],
)
def test_other_tags_of_ela_are_not_claimed(frame: str) -> None:
    """Temperature, magnet, movement, infrared: no button."""
    assert heard(ela.COMPANY, frame) is None


# Kontakt. Three files on GitHub whose repositories are not known. "go": the Go package kontaktparser, its
# tests TestParse…, which name the fields; how they are read is Kontakt.io, "Telemetry packet". "js": a parser
# in JavaScript (parseKontakt; 11 is clickId and buttonClick), the first advertisement in its last lines.
# "env": a test in Go, TestDecodeMinewS1ScanOnlyAdvertisementSample, heard on 2026-06-02.
@pytest.mark.parametrize(
    ("frame", "count", "measurements"),
    [
        pytest.param(
            "03 020a64 0411065ba0", 6, {"clicked_s": float(0xA05B)}, id="go TelemetryFrameManyFields"
        ),
        pytest.param("03 050610fe208d 041100ffff 041600ffff 03139f17 021231", 0, {}, id="js"),
        pytest.param("03 050610ff2098 041103ffff 041600ffff 03133a1a 02123b", 3, {}, id="env"),
    ],
)
def test_clicks_of_kontakt_among_other_fields(frame: str, count: int, measurements: dict[str, float]) -> None:
    """Light, acceleration, movement, temperature and humidity are passed over; no click is fresh."""
    assert read(kontakt.SERVICE, frame) == TagReport(
        format="kontakt",
        buttons=(TagEvent.PRESS,),
        presses=Presses(count=count, now=False),
        measurements=measurements,
    )


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("03 020a64", id="go TelemetryFrameOneField"),
        pytest.param("03", id="go TelemetryFrameEmpty"),
        # js, the third: fields inside one of a maker's own
        pytest.param("03 0bff6afe021a5c041c042700 051708fcc247 03137d18", id="js, a maker's own field"),
    ],
)
def test_kontakt_telemetry_without_clicks(frame: str) -> None:
    """It is telemetry, and there is no button in it."""
    assert read(kontakt.SERVICE, frame) == TagReport(format="kontakt")


@pytest.mark.parametrize("frame", ["0206010f6404616263646566", "05f4250a01414243444546"])
def test_other_packets_of_kontakt_are_not_claimed(frame: str) -> None:
    """go KontaktPlain, LocationFrame."""
    assert heard(kontakt.SERVICE, frame) is None
