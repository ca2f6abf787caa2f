"""Which tag an advertisement is of."""

from dataclasses import replace

import pytest

from gatewayd.core.model import Advertisement, Tag
from gatewayd.core.roster import Roster
from gatewayd.core.tags import eddystone, ibeacon

UUID = "f7826da6-4fa2-4e98-8024-bc5b71e0893e"
NAMESPACE = "00112233445566778899"
STRANGER = "AA:BB:CC:DD:EE:FF"

BUTTON = Tag(name="button", format="bthome", address="C4:11:22:33:44:55")
BEACON = Tag(name="beacon", format="ibeacon", identity={"uuid": UUID.upper(), "major": 1, "minor": 2})
STONE = Tag(name="stone", format="eddystone", identity={"namespace": NAMESPACE, "instance": "AABBCCDDEEFF"})
ROSTER = Roster([BUTTON, BEACON, STONE])


def beacon(major: int, minor: int, uuid: str = UUID) -> Advertisement:
    data = bytes.fromhex("0215" + uuid.replace("-", "")) + major.to_bytes(2, "big") + minor.to_bytes(2, "big")
    return Advertisement(address=STRANGER, heard_s=0.0, manufacturer_data={ibeacon.COMPANY: data + b"\xc5"})


def stone(data: str) -> Advertisement:
    return Advertisement(address=STRANGER, heard_s=0.0, service_data={eddystone.SERVICE: bytes.fromhex(data)})


def test_by_address() -> None:
    """Whatever it sends, even nothing that can be decoded."""
    assert ROSTER.find(Advertisement(address="C4:11:22:33:44:55", heard_s=0.0)) is BUTTON
    assert ROSTER.find(Advertisement(address=STRANGER, heard_s=0.0)) is None


@pytest.mark.parametrize(
    ("advertisement", "tag"),
    [
        (beacon(1, 2), BEACON),
        (beacon(1, 3), None),
        (beacon(1, 2, "00" * 16), None),
        (stone("00E7" + NAMESPACE + "aabbccddeeff"), STONE),
        (stone("00E7" + NAMESPACE + "aabbccddeeff0000"), STONE),
        (stone("00E7" + NAMESPACE + "aabbccddee00"), None),
        (stone("2000" + NAMESPACE + "aabbccddeeff"), None),
    ],
)
def test_by_identity(advertisement: Advertisement, tag: Tag | None) -> None:
    """The whole identity, at whatever address."""
    assert ROSTER.find(advertisement) is tag


def test_another_frame_of_the_same_company_is_not_an_identity() -> None:
    """Apple's other frames are looked at no further than their first bytes."""
    assert (
        ROSTER.find(
            Advertisement(address=STRANGER, heard_s=0.0, manufacturer_data={ibeacon.COMPANY: b"\x10\x05"})
        )
        is None
    )


def test_without_identities_only_addresses_count() -> None:
    """A gateway with button tags alone looks into no frame."""
    assert Roster([BUTTON]).find(beacon(1, 2)) is None


def test_a_tag_that_nothing_can_find_is_left_out() -> None:
    """A tag with neither address nor identity is never found, and is no error here."""
    assert Roster([Tag(name="lost", format="bthome")]).find(beacon(1, 2)) is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("2000 0BB8 1500 00000102 00000A00", True),  # telemetry
        ("2001 0BB8 1500 00000102 00000A00", False),  # encrypted: it is not read
        ("00E7" + NAMESPACE + "aabbccddeeff", True),  # its identity
        ("00E7" + NAMESPACE + "aabbccddee00", False),  # another one: not its press
        ("", False),
    ],
)
def test_of_an_address_beside_an_identity_the_telemetry_counts_alone(data: str, *, found: bool) -> None:
    """Which carries no identity. Whatever else is sent there is no press of the tag."""
    tag = replace(STONE, address=STRANGER)
    assert Roster([tag]).find(stone(data)) is (tag if found else None)
    assert Roster([tag, BEACON]).find(beacon(1, 2)) is BEACON
    assert Roster([tag, BEACON]).find(beacon(1, 3)) is None


def test_a_tag_is_found_by_what_it_says_at_rest_too() -> None:
    """Both identities are its own; nobody else's is, not even a neighbour's."""
    tag = Tag(
        name="card",
        format="kontakt_ibeacon",
        identity={"uuid": UUID[:-1] + "f", "major": 1, "minor": 2},
        resting={"uuid": UUID, "major": 1, "minor": 2},
    )
    roster = Roster([tag])
    assert roster.find(beacon(1, 2)) is roster.find(beacon(1, 2, UUID[:-1] + "f")) is tag
    assert roster.find(beacon(1, 3)) is roster.find(beacon(1, 2, UUID[:-1] + "0")) is None


def test_an_identity_counts_before_the_address() -> None:
    """A device whose frame at rest is assigned by address, and whose pressed slot by its identity."""
    device = Tag(name="device", format="minew", address=STRANGER)
    roster = Roster([device, BEACON])
    assert roster.find(beacon(1, 2)) is BEACON
    assert roster.find(beacon(1, 3)) is device
