"""GATT buttons of the iTAG kind: what their notifications and battery say."""

import pytest

from gatewayd.core.model import Advertisement, TagEvent, TagReport
from gatewayd.core.tags import itag


@pytest.mark.parametrize(
    ("value", "event"),
    [
        (b"\x01", TagEvent.PRESS),
        (b"\x02", TagEvent.PRESS),  # kin that send another number: a press is never dropped
        (b"\x00", TagEvent.NONE),
        (b"", TagEvent.NONE),
    ],
)
def test_a_notification_is_a_press_unless_it_says_nothing(value: bytes, event: TagEvent) -> None:
    """01 is what iTAGs send; 00 is a button that was let go."""
    assert itag.notified(value) == TagReport(format="itag", buttons=(event,), once=True)


@pytest.mark.parametrize(
    ("battery", "pct"),
    [(b"\x63", 99), (b"\x00", 0), (b"\x64", 100), (b"\xff", None), (b"", None), (None, None)],
)
def test_the_battery_is_in_percent(battery: bytes | None, pct: int | None) -> None:
    """What is above 100 is not known. It says nothing of the button."""
    assert itag.present(battery) == TagReport(format="itag", battery_pct=pct)


def test_an_advertisement_says_nothing() -> None:
    """While it advertises it is not connected, and its presses are not heard: it must not pass for seen."""
    assert itag.decode(Advertisement(address="C4:11:22:33:44:55", heard_s=0.0, name="iTAG")) is None
