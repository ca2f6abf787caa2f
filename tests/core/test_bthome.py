"""BTHome v2 frames, plain and encrypted, as tags send them and as they arrive broken."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.model import Advertisement, Auth, TagEvent, TagReport
from gatewayd.core.tags import bthome

ADDRESS = "54:48:E6:8F:80:A5"
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
VECTOR = bytes.fromhex("41 a47266c95f73 00112233 78237214")


def heard(data: bytes, address: str = ADDRESS) -> Advertisement:
    return Advertisement(address=address, heard_s=0.0, service_data={bthome.SERVICE: data})


def read(data: str | bytes, key: bytes | None = None) -> TagReport:
    report = bthome.decode(heard(bytes.fromhex(data) if isinstance(data, str) else data), key)
    assert report is not None
    return report


def sealed(objects: bytes, counter: int, *, head: bytes = b"\x45", own: bytes | None = None) -> bytes:
    """An encrypted frame, made as the specification says; `own` is the address in the nonce."""
    nonce = (own or bytes.fromhex(ADDRESS.replace(":", ""))) + b"\xd2\xfc" + head[:1]
    count = counter.to_bytes(4, "little")
    box = AESCCM(KEY, tag_length=4).encrypt(nonce + count, objects, None)
    return head + box[:-4] + count + box[-4:]


def test_a_plain_button_frame() -> None:
    """Button1 says packet id, battery and event; nothing else is made up."""
    assert read("44 00 05 01 64 3A 01") == TagReport(
        format="bthome", buttons=(TagEvent.PRESS,), packet_id=5, battery_pct=100
    )


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("00", TagEvent.NONE),
        ("01", TagEvent.PRESS),
        ("02", TagEvent.DOUBLE),
        ("03", TagEvent.TRIPLE),
        ("04", TagEvent.LONG),
        ("05", TagEvent.LONG_DOUBLE),
        ("06", TagEvent.LONG_TRIPLE),
        ("80", TagEvent.HOLD),
        ("81", TagEvent.HOLD),
        ("FE", TagEvent.HOLD),
        ("07", TagEvent.UNKNOWN),
    ],
)
def test_every_button_event(code: str, event: TagEvent) -> None:
    """Each event has its name; one that is not known is a button that was used."""
    assert read(f"44 00 05 3A {code}").event is event


def test_several_buttons_keep_their_order() -> None:
    """A four-button tag sends four objects; the event is that of the one that was used."""
    report = read("44 00 84 01 64 3A 00 3A 00 3A FE 3A 00")
    assert report.buttons == (TagEvent.NONE, TagEvent.NONE, TagEvent.HOLD, TagEvent.NONE)
    assert report.event is TagEvent.HOLD


def test_what_a_tag_measures() -> None:
    """Temperature, humidity, voltage and dimmer are scaled, signs kept."""
    report = read("40 02 0CFE 03 BF13 0C 020C 3C 01 03")
    assert report.measurements == {
        "temperature_c": -5.0,
        "humidity_pct": 50.55,
        "voltage_v": 3.074,
        "dimmer_steps": -3,
    }
    assert read("40 3C 02 0A 45 1101 4A 0201").measurements == {
        "dimmer_steps": 10,
        "temperature_c": 27.3,
        "voltage_v": 25.8,
    }


def test_a_battery_above_full_is_not_believed() -> None:
    """A share is 0 to 100 %."""
    assert read("40 01 64").battery_pct == 100
    assert read("40 01 65").battery_pct is None


@given(st.sampled_from(sorted(bthome.LENGTHS.items())), st.binary(min_size=4, max_size=4))
def test_an_object_of_known_length_is_passed_over(known: tuple[int, int], filling: bytes) -> None:
    """What follows any object of the specification is found."""
    object_id, length = known
    report = read(bytes([0x44, object_id, *filling[:length], 0x3A, 0x02]))
    assert report.buttons[-1] is TagEvent.DOUBLE


@given(st.sampled_from((0x53, 0x54)), st.binary(max_size=20))
def test_text_and_raw_carry_their_length(object_id: int, text: bytes) -> None:
    """What follows a text is found."""
    assert read(bytes([0x44, object_id, len(text), *text, 0x3A, 0x02])).event is TagEvent.DOUBLE


@pytest.mark.parametrize(
    "rest",
    ["FF 3A 01", "0C 0C", "3A", "53", "53 05 61", "01", "3B 00 02"],
    ids=["unknown", "truncated", "no value", "no length", "short text", "no battery", "command"],
)
def test_an_unknown_or_truncated_object_ends_the_reading(rest: str) -> None:
    """What came before it stands; what follows cannot be told apart."""
    assert read(f"44 00 05 3A 03 {rest}") == TagReport(
        format="bthome", buttons=(TagEvent.TRIPLE,), packet_id=5
    )


def test_the_address_in_the_frame_is_passed_over() -> None:
    """Device information bit 1: six bytes of address before the objects."""
    assert read("46 A5808FE64854 00 05 3A 01").buttons == (TagEvent.PRESS,)
    assert read("46 A5808F").buttons == ()


@pytest.mark.parametrize("data", ["", "04 3A 01", "24 3A 01", "64 3A 01", "E4 3A 01"])
def test_other_versions_are_not_claimed(data: str) -> None:
    """Only version 2, and only with device information."""
    assert bthome.decode(heard(bytes.fromhex(data))) is None


def test_other_service_data_is_not_claimed() -> None:
    """A frame of another service is not ours."""
    assert bthome.decode(Advertisement(address=ADDRESS, heard_s=0.0)) is None


def test_the_vector_of_the_specification() -> None:
    """The published example is opened: 25.06 °C, 50.55 %, no button."""
    report = read(VECTOR, KEY)
    assert report == TagReport(
        format="bthome",
        counter=0x33221100,
        encrypted=True,
        authenticated=True,
        auth=Auth.OK,
        measurements={"temperature_c": 25.06, "humidity_pct": 50.55},
    )


def test_an_encrypted_press() -> None:
    """The button of an encrypted frame, its counter and its proof."""
    report = read(sealed(bytes.fromhex("00 07 01 5A 3A 04"), 77), KEY)
    assert (report.event, report.packet_id, report.counter) == (TagEvent.LONG, 7, 77)
    assert (report.battery_pct, report.auth, report.authenticated) == (90, Auth.OK, True)


def test_an_encrypted_frame_may_be_empty() -> None:
    """A proof of nothing is a proof: the tag is there."""
    assert read(sealed(b"", 1), KEY).auth is Auth.OK


def test_the_address_in_an_encrypted_frame_counts() -> None:
    """Where the frame holds the address, that one is in the nonce, whatever the radio calls the sender."""
    head = bytes.fromhex("47 010203040506")
    frame = sealed(b"\x3a\x01", 9, head=head, own=bytes.fromhex("060504030201"))
    assert read(frame, KEY).event is TagEvent.PRESS


def test_without_a_key_the_counter_is_known_and_nothing_else() -> None:
    """An encrypted frame is claimed; its event cannot be known, and nothing was due."""
    assert read(VECTOR) == TagReport(
        format="bthome", counter=0x33221100, encrypted=True, auth=Auth.NONE, raw=VECTOR
    )


@pytest.mark.parametrize("key", [bytes(16), b"short"], ids=["another key", "not a key"])
def test_a_wrong_key_fails(key: bytes) -> None:
    """A proof was due and was wrong; the frame is claimed all the same."""
    report = read(VECTOR, key)
    assert (report.auth, report.authenticated, report.buttons) == (Auth.FAILED, False, ())
    assert report.counter == 0x33221100


def test_an_address_that_is_none_fails() -> None:
    """An address the nonce cannot be made from is a failed proof, not an error."""
    for address in ("unknown", "01:02"):
        report = bthome.decode(heard(VECTOR, address), KEY)
        assert report is not None
        assert report.auth is Auth.FAILED


@given(st.integers(0, len(VECTOR) * 8 - 1))
def test_a_flipped_bit_fails(bit: int) -> None:
    """No bit of an encrypted frame can be changed: it fails, or is not taken for encrypted version 2."""
    frame = bytearray(VECTOR)
    frame[bit // 8] ^= 1 << bit % 8
    report = bthome.decode(heard(bytes(frame)), KEY)
    assert report is None or not report.authenticated


@given(st.integers(1, len(VECTOR) - 1))
def test_a_short_encrypted_frame_fails(length: int) -> None:
    """However much of its end is missing, it is claimed as broken; without its counter that is absent."""
    report = read(VECTOR[:length], KEY)
    assert (report.encrypted, report.auth, report.buttons) == (True, Auth.FAILED, ())
    assert (report.counter is None) == (length < 9)
