"""MOKO BXP-B frames, made by the layout in the module's docstring."""

import pytest

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport
from gatewayd.core.tags import moko

RESPONSE = bytes.fromhex("00 00 0010 0001 0002 03E8 0190 BA 0BB8 C41122334455")


def decode(frame: str = "", response: bytes = b"") -> TagReport | None:
    data = {moko.SERVICE: bytes.fromhex(frame), moko.RESPONSE: response}
    return moko.decode(
        Advertisement(
            address="C4:11:22:33:44:55",
            heard_s=0.0,
            service_data={service: each for service, each in data.items() if each},
        )
    )


@pytest.mark.parametrize(
    ("kind", "event"),
    [("20", TagEvent.PRESS), ("21", TagEvent.DOUBLE), ("22", TagEvent.LONG)],
)
def test_each_kind_of_press_has_a_count(kind: str, event: TagEvent) -> None:
    """The kind, its count, and whether it is triggered now."""
    pressed = decode(f"{kind} 02 0107 C41122334455")
    resting = decode(f"{kind} 00 0107")
    assert pressed == TagReport(format="moko", buttons=(event,), presses=Presses(count=263, now=True))
    assert resting == TagReport(format="moko", buttons=(event,), presses=Presses(count=263, now=False))
    assert pressed is not None
    assert resting is not None
    assert (pressed.event, resting.event) == (event, TagEvent.NONE)


def test_the_scan_response_has_the_battery() -> None:
    """In mV, up to 100 in percent; 0 is not known. It may come with a frame or alone."""
    both = decode("20 00 0001", RESPONSE)
    assert both is not None
    assert both.battery_mv == 3000
    assert decode(response=RESPONSE) == TagReport(format="moko", battery_mv=3000)
    assert decode(response=RESPONSE[:13] + b"\x00\x64") == TagReport(format="moko", battery_pct=100)
    assert decode(response=RESPONSE[:13] + b"\x00\x65") == TagReport(format="moko", battery_mv=101)
    assert decode(response=RESPONSE[:13] + bytes(2)) is None
    assert decode(response=RESPONSE[:12]) is None
    assert decode(response=b"\x01" + RESPONSE[1:]) is None


def test_inactivity_is_no_press() -> None:
    """The tag is near, and nobody called."""
    assert decode("23 02 0001") == TagReport(format="moko")


@pytest.mark.parametrize("frame", ["", "20", "20 02 01", "24 02 0001", "00 02 0001"])
def test_what_is_no_such_frame_is_not_claimed(frame: str) -> None:
    """Cut off, or of another kind."""
    assert decode(frame) is None
