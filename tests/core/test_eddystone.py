"""Eddystone UID and TLM."""

import pytest

from gatewayd.core.model import Advertisement, TagReport
from gatewayd.core.tags import eddystone

UID = bytes.fromhex("00 E7 00112233445566778899 AABBCCDDEEFF 0000")
TLM = bytes.fromhex("20 00 0BB8 1980 00000102 00000064")


def decode(data: bytes) -> TagReport | None:
    return eddystone.decode(
        Advertisement(address="C4:11:22:33:44:55", heard_s=0.0, service_data={eddystone.SERVICE: data})
    )


@pytest.mark.parametrize("data", [UID, UID[:-2]], ids=["whole", "without the reserved bytes"])
def test_an_identity(data: bytes) -> None:
    """Namespace, instance and power; the two reserved bytes may be missing."""
    assert decode(data) == TagReport(
        format="eddystone",
        identity={"namespace": "00112233445566778899", "instance": "aabbccddeeff"},
        measurements={"power_dbm": -25},
    )


def test_telemetry() -> None:
    """Battery, temperature, count and time, in units."""
    assert decode(TLM) == TagReport(
        format="eddystone",
        battery_mv=3000,
        measurements={"temperature_c": 25.5, "adv_count": 258, "uptime_s": 10.0},
    )


def test_cold_is_negative() -> None:
    """The temperature is signed 8.8."""
    report = decode(TLM[:4] + bytes.fromhex("FE80") + TLM[6:])
    assert report is not None
    assert report.measurements["temperature_c"] == -1.5


def test_telemetry_that_is_not_supported_is_absent() -> None:
    """0 mV and 0x8000 mean that the tag does not measure."""
    assert decode(bytes.fromhex("20 00 0000 8000 00000000 00000000")) == TagReport(
        format="eddystone", measurements={"adv_count": 0, "uptime_s": 0.0}
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        UID[:-3],
        TLM[:-1],
        b"\x20\x01" + TLM[2:],
        bytes.fromhex("10 E7 02 61"),
        bytes.fromhex("30 E7") + bytes(8),
    ],
    ids=["empty", "short identity", "short telemetry", "encrypted telemetry", "URL", "EID"],
)
def test_other_frames_are_not_claimed(data: bytes) -> None:
    """What is broken, or says nothing a tag is known by."""
    assert decode(data) is None


def test_other_service_data_is_not_claimed() -> None:
    """A frame of another service is not ours."""
    assert eddystone.decode(Advertisement(address="C4:11:22:33:44:55", heard_s=0.0)) is None
