"""ELA Touch frames, made by the layout in the module's docstring."""

import pytest

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport
from gatewayd.core.tags import ela


def decode(data: str) -> TagReport | None:
    return ela.decode(
        Advertisement(
            address="C4:11:22:33:44:55", heard_s=0.0, manufacturer_data={ela.COMPANY: bytes.fromhex(data)}
        )
    )


@pytest.mark.parametrize(
    ("data", "count", "now"),
    [("B2 0F00", 7, True), ("B2 0E00", 7, False), ("B2 FFFF", 32_767, True), ("B2 0000", 0, False)],
)
def test_presses_are_counted_and_the_button_is_told(data: str, count: int, *, now: bool) -> None:
    """Bit 0 says that it is down; the rest is the count."""
    assert decode(data) == TagReport(
        format="ela", buttons=(TagEvent.PRESS,), presses=Presses(count=count, now=now)
    )


@pytest.mark.parametrize(
    ("data", "pct", "mv"),
    [
        ("B2 0200 F1 5A", 90, None),
        ("B2 0200 F1 FF", None, None),
        ("B2 0200 F1", None, None),
        ("B2 0200 F2 B80B", None, 3000),
        ("B2 0200 F2 B8", None, None),
        ("B2 0200 F2 0000", None, None),
        ("B2 0200 F3 5A", None, None),
    ],
)
def test_the_battery_follows_as_configured(data: str, pct: int | None, mv: int | None) -> None:
    """Percent or mV; what makes no sense is not known."""
    report = decode(data)
    assert report is not None
    assert (report.battery_pct, report.battery_mv) == (pct, mv)


@pytest.mark.parametrize("data", ["", "B2", "B2 01", "B1 0100"])
def test_what_is_no_such_frame_is_not_claimed(data: str) -> None:
    """Cut off, or another sensor's."""
    assert decode(data) is None
