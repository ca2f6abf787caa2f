"""Every format together: who claims what, how it is told to people, and what noise does."""

import json
import os
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise import FRAMES, mutated
from noise import heard as heard_at

from gatewayd.core.model import Advertisement, Auth, TagEvent, TagReport
from gatewayd.core.tags import (
    FAMILIES,
    FORMATS,
    bthome,
    decode,
    describe,
    eddystone,
    ela,
    ibeacon,
    itag,
    kontakt,
    minew,
    moko,
    slots,
)
from gatewayd.core.tags.text import (
    parse_address,
    parse_key,
    parse_manufacturer_data,
    parse_service_data,
    parse_uuid,
)

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
VECTOR = bytes.fromhex("41 a47266c95f73 00112233 78237214")
# Random frames for each format; a million each with GATEWAYD_LONG=1.
NOISE = 10**6 if os.environ.get("GATEWAYD_LONG") else 20_000
MUTATED = 10**7 if os.environ.get("GATEWAYD_LONG") else 20_000


def heard(service_data: dict[str, bytes], manufacturer_data: dict[int, bytes] | None = None) -> Advertisement:
    return Advertisement(
        address="54:48:E6:8F:80:A5",
        heard_s=0.0,
        service_data=service_data,
        manufacturer_data=manufacturer_data or {},
    )


def told(service_data: str, key: bytes | None = None) -> dict[str, object]:
    uuid, data = parse_service_data(service_data)
    report = decode(heard({uuid: data}), key=key)
    assert report is not None
    return describe(report)


BEACON = bytes.fromhex("0215") + bytes(16) + bytes.fromhex("0001 0002 C5")


def test_the_first_format_that_claims_it() -> None:
    """Without a format, each is asked; with one, only that one."""
    both = heard({bthome.SERVICE: b"\x44\x3a\x01"}, {ibeacon.COMPANY: BEACON})
    for name in ("bthome", "ibeacon"):
        report = decode(both, format=name)
        assert report is not None
        assert report.format == name
    assert decode(both, format="eddystone") is None
    assert decode(both) == decode(both, format="bthome")
    assert decode(heard({})) is None


def test_a_plain_press_is_told() -> None:
    """The object of `decode advert`: what is known, and nothing else."""
    assert told("FCD2:440005 0164 3A02") == {
        "format": "bthome",
        "event": "double",
        "packet_id": 5,
        "encrypted": False,
        "authenticated": False,
        "auth": "none",
        "battery_pct": 100,
    }


def test_several_buttons_are_told() -> None:
    """All of them, and which one the event is of."""
    told_press = told("FCD2:4400053A003A003A803A00")
    assert (told_press["event"], told_press["button"]) == ("hold", 3)
    assert told_press["buttons"] == ["none", "none", "hold", "none"]
    heartbeat = told("FCD2:4400053A003A00")
    assert heartbeat["event"] == "none"
    assert "button" not in heartbeat


def test_no_button_is_no_event() -> None:
    """A readable frame without a button says none; an event that has no name is absent."""
    assert told("FCD2:400161")["event"] == "none"
    assert "event" not in told("FCD2:4400053A77")


def test_an_encrypted_frame_is_told() -> None:
    """Read with the key; with none or a wrong one the event is absent, and `auth` says why."""
    frame = f"FCD2:{VECTOR.hex()}"
    assert told(frame, KEY) == {
        "format": "bthome",
        "event": "none",
        "counter": 857870592,
        "encrypted": True,
        "authenticated": True,
        "auth": "ok",
        "temperature_c": 25.06,
        "humidity_pct": 50.55,
    }
    unread = {"format": "bthome", "counter": 857870592, "encrypted": True, "authenticated": False}
    assert told(frame) == unread | {"auth": "none"}
    assert told(frame, bytes(16)) == unread | {"auth": "failed"}


def test_an_identity_is_told() -> None:
    """The identity's fields stand beside the rest; a press is for presence to say."""
    report = decode(heard({}, {ibeacon.COMPANY: BEACON}))
    assert report is not None
    assert describe(report) == {
        "format": "ibeacon",
        "event": "none",
        "encrypted": False,
        "authenticated": False,
        "auth": "none",
        "uuid": "00000000-0000-0000-0000-000000000000",
        "major": 1,
        "minor": 2,
        "power_dbm": -59,
    }


# How frames begin, by service or company alike.
BTHOME = (b"\x40", b"\x41", b"\x43", b"\x44", b"\x45", b"\x46", b"\x47")
OTHERS = (b"\x02\x15", b"\x00", b"\x20\x00", b"\x21\x02", b"\xa1\x08", b"\xb2", b"\x03\x04\x11")
frames = st.one_of(
    st.binary(max_size=255),
    st.builds(bytes.__add__, st.sampled_from(BTHOME), st.binary(max_size=254)),
    st.builds(bytes.__add__, st.sampled_from(OTHERS), st.binary(max_size=253)),
)


def judge(data: bytes, key: bytes | None) -> TagReport | None:
    """What every format makes of `data`, told as JSON; the first report."""
    others = (eddystone.SERVICE, kontakt.SERVICE, minew.SERVICE, moko.SERVICE, moko.RESPONSE)
    companies = (ela.COMPANY, ibeacon.COMPANY)
    advertisement = heard(dict.fromkeys((bthome.SERVICE, *others), data), dict.fromkeys(companies, data))
    for name in FAMILIES:
        report = decode(advertisement, format=name, key=key)
        if report is not None:
            json.dumps(describe(report), allow_nan=False)
    return decode(advertisement, key=key)


@pytest.mark.parametrize("name", slots.ON_AIR_S)
def test_a_ready_made_format_claims_no_frame_of_its_own(name: str) -> None:
    """Whose slot it is the frame does not say: it is an iBeacon, and is read as one."""
    frame = heard({}, {ibeacon.COMPANY: BEACON})
    assert decode(frame, format=name) == decode(frame) == decode(frame, format="ibeacon")
    assert decode(heard({"0": b""}), format=name) is None
    assert name not in FAMILIES
    assert FORMATS[name].identified_by == ibeacon.IDENTIFIED_BY


def test_how_long_a_slot_is_on_the_air() -> None:
    """As the makers set it; what is not known by an identity has none."""
    assert {name: family.on_air_s for name, family in FORMATS.items() if family.on_air_s is not None} == {
        "ibeacon": 30.0,
        "eddystone": 30.0,
        "kontakt_ibeacon": 10.0,
        "kkm_ibeacon": 30.0,
        "minew_ibeacon": 30.0,
        "feasycom_ibeacon": 30.0,
    }


@pytest.mark.parametrize(("at_rest", "pressed"), [("23", "24"), ("29", "2a"), ("2f", "20"), ("ff", "f0")])
def test_kontakts_last_digit_is_one_higher_when_pressed(at_rest: str, pressed: str) -> None:
    """F is followed by 0, and nothing is carried; all else is the same."""
    uuid = "cdca0d93-8d39-454a-8816-e603a14847"
    identity: dict[str, str | int] = {"uuid": uuid + at_rest, "major": 1, "minor": 2}
    assert slots.pressed("kontakt_ibeacon", identity) == {**identity, "uuid": uuid + pressed}
    assert slots.resting("kontakt_ibeacon", identity) == identity


@pytest.mark.parametrize("name", ["ibeacon", "eddystone", "kkm_ibeacon", "minew_ibeacon", "feasycom_ibeacon"])
def test_what_other_slots_say_at_rest_is_not_known(name: str) -> None:
    """They are configured with the identity of a press."""
    identity: dict[str, str | int] = {"uuid": "f" * 32, "major": 1, "minor": 2}
    assert slots.pressed(name, identity) == identity
    assert slots.resting(name, identity) is None


@given(frames, st.sampled_from((None, KEY, b"")))
def test_noise_is_claimed_or_not_and_proves_nothing(data: bytes, key: bytes | None) -> None:
    """No bytes a radio can hear raise, and none that nobody sealed are authentic."""
    report = judge(data, key)
    assert report is None or report.auth is not Auth.OK


def test_a_flood_of_noise() -> None:
    """The same with many more frames, from a seed."""
    source = random.Random(20260301)
    heads = (b"", *BTHOME, *OTHERS)
    for index in range(NOISE):
        judge(heads[index % len(heads)] + source.randbytes(source.randrange(254)), KEY if index % 2 else None)


@pytest.mark.timeout(3600 if os.environ.get("GATEWAYD_LONG") else 60)
def test_mutated_frames_are_claimed_or_not() -> None:
    """Frames that are nearly right, of every family: none raises, and what is told of one can be written."""
    assert {name for name, _, _ in FRAMES} == set(FAMILIES) - {itag.NAME}  # which is heard over a connection
    dice = random.Random(20261122)
    for _ in range(MUTATED):
        name, advertisement, key = mutated(dice)
        for report in (decode(advertisement, format=name, key=key), decode(advertisement, key=key)):
            if report is not None:
                json.dumps(describe(report), allow_nan=False)


@pytest.mark.parametrize(("name", "where", "data"), FRAMES)
def test_what_is_mutated_is_claimed_as_it_was(name: str, where: str | int, data: bytes) -> None:
    """Otherwise the mutations would only make noise of noise."""
    assert decode(heard_at(where, data), format=name) is not None


@given(st.binary(max_size=64))
def test_an_unknown_event_is_never_told_as_another(objects: bytes) -> None:
    """The event told is one that the frame holds."""
    report = judge(b"\x44" + objects, None)
    assert report is not None
    event = describe(report).get("event")
    assert event in {"none", None} or TagEvent(str(event)) in report.buttons


# --- the written forms --------------------------------------------------------------------------------------


def test_addresses() -> None:
    """Either case, colons or dashes."""
    assert parse_address(" c4:11:22:33:44:5a ") == parse_address("C4-11-22-33-44-5A") == "C4:11:22:33:44:5A"


@pytest.mark.parametrize(
    "text", ["", "C4:11:22:33:44", "C4:11:22:33:44:5G", "C4:11:22:33:44:55:66", "c4112233445a"]
)
def test_what_is_no_address(text: str) -> None:
    """It says what was expected and what was found."""
    with pytest.raises(ValueError, match=r"expected an address such as .*, got '"):
        parse_address(text)


def test_service_data() -> None:
    """16-, 32- and 128-bit UUIDs name the same thing."""
    expected = (bthome.SERVICE, b"\x44\x3a\x01")
    assert parse_service_data("FCD2:443A01") == expected
    assert parse_service_data("0xfcd2:44 3a 01") == expected
    assert parse_service_data("0000FCD2:443A01") == expected
    assert parse_service_data("0000FCD2-0000-1000-8000-00805F9B34FB:443A01") == expected
    assert parse_uuid("1234FCD2") == "1234fcd2-0000-1000-8000-00805f9b34fb"


def test_manufacturer_data() -> None:
    """The company id is hexadecimal, as the assigned numbers are."""
    assert parse_manufacturer_data("004C:0215") == (0x4C, b"\x02\x15")
    assert parse_manufacturer_data("0x4c:") == (0x4C, b"")


@pytest.mark.parametrize("text", ["", "FCD2", "FCD2:4", "FCD2:zz", "443A01", ":44", "fcd:44", "xyz:44"])
def test_what_is_no_service_data(text: str) -> None:
    """Missing parts, odd digits and unknown UUIDs are refused."""
    with pytest.raises(ValueError, match=r"expected .*, got '"):
        parse_service_data(text)


@pytest.mark.parametrize("text", ["", "0215", "4C:021", "12345:00", "-1:00", ":00", "76 :0g"])
def test_what_is_no_manufacturer_data(text: str) -> None:
    """Missing parts, odd digits and company ids that do not exist are refused."""
    with pytest.raises(ValueError, match=r"expected .*, got '"):
        parse_manufacturer_data(text)


def test_keys() -> None:
    """32 hexadecimal digits are 16 bytes."""
    assert parse_key("231D39C1D7CC1AB1AEE224CD096DB932\n") == KEY


@pytest.mark.parametrize("text", ["", "231d39", KEY.hex() + "00", KEY.hex()[:-1], "g" * 32])
def test_what_is_no_key(text: str) -> None:
    """The error never quotes the key."""
    with pytest.raises(ValueError, match="expected 32 hexadecimal digits, got") as caught:
        parse_key(text)
    assert not text or text not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Only ValueError leaves the readers."""
    for reader in (parse_address, parse_key, parse_uuid, parse_service_data, parse_manufacturer_data):
        with suppress(ValueError):
            reader(text)
