"""iBeacon: the identity on the air."""

import pytest

from gatewayd.core.model import Advertisement, TagReport
from gatewayd.core.tags import ibeacon

FRAME = bytes.fromhex("0215 F7826DA64FA24E988024BC5B71E0893E 0102 FFFE C5")


def decode(data: bytes, company: int = ibeacon.COMPANY) -> TagReport | None:
    return ibeacon.decode(
        Advertisement(address="C4:11:22:33:44:55", heard_s=0.0, manufacturer_data={company: data})
    )


def test_identity_and_power() -> None:
    """UUID, major and minor are big-endian, the power is signed."""
    assert decode(FRAME) == TagReport(
        format="ibeacon",
        identity={"uuid": "f7826da6-4fa2-4e98-8024-bc5b71e0893e", "major": 0x0102, "minor": 0xFFFE},
        measurements={"power_dbm": -59},
    )


def test_more_than_the_frame_is_no_harm() -> None:
    """Bytes after the power are not ours to judge."""
    assert decode(FRAME + b"\x00") == decode(FRAME)


@pytest.mark.parametrize("data", [b"", FRAME[:-1], b"\x10\x05" + FRAME[2:]], ids=["empty", "short", "other"])
def test_other_frames_are_not_claimed(data: bytes) -> None:
    """Apple's devices send much else under the same company id."""
    assert decode(data) is None


def test_other_companies_are_not_claimed() -> None:
    """The layout alone is not an iBeacon."""
    assert decode(FRAME, company=0x0757) is None
