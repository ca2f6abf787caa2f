"""Kontakt telemetry, made by the layout in the module's docstring."""

import pytest

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport
from gatewayd.core.tags import kontakt


def decode(data: str) -> TagReport | None:
    return kontakt.decode(
        Advertisement(
            address="C4:11:22:33:44:55", heard_s=0.0, service_data={kontakt.SERVICE: bytes.fromhex(data)}
        )
    )


@pytest.mark.parametrize(
    ("data", "count", "now", "measurements"),
    [
        ("03 04 11 05 0200", 5, True, {"clicked_s": 2.0}),
        ("03 04 11 05 1E00", 5, True, {"clicked_s": 30.0}),
        ("03 04 11 05 1F00", 5, False, {"clicked_s": 31.0}),
        ("03 04 11 00 FFFF", 0, False, {}),
        ("03 02 0F 40 04 11 05 0200", 5, True, {"clicked_s": 2.0}),
        ("03 04 11 05 0200 09 01 00", 5, True, {"clicked_s": 2.0}),
        ("03 02 11 05", 5, False, {}),
    ],
)
def test_clicks_are_counted(data: str, count: int, measurements: dict[str, float], *, now: bool) -> None:
    """With the seconds since the last one, which say whether it is new."""
    assert decode(data) == TagReport(
        format="kontakt",
        buttons=(TagEvent.PRESS,),
        presses=Presses(count=count, now=now),
        measurements=measurements,
    )


def test_seconds_alone_are_no_press() -> None:
    """Without a count nobody can tell one click from the next."""
    assert decode("03 03 0D 0400") == TagReport(format="kontakt", measurements={"clicked_s": 4.0})
    assert decode("03") == TagReport(format="kontakt")
    assert decode("03 00 04 11 05 0200") == TagReport(format="kontakt")


@pytest.mark.parametrize(
    ("data", "pct"),
    [
        ("03 02 0C 64", 100),
        ("03 02 0C 00", 0),
        ("03 06 01 BEAE333C 5A", 90),
        ("03 02 0C 50 06 01 BEAE333C 5A", 80),
        ("03 02 0C 65", None),
        ("03 06 01 BEAE333C FF", None),
        ("03 05 01 BEAE333C", None),
        ("03 01 0C", None),
        ("03 02 0B 20", None),
    ],
)
def test_the_battery_is_in_percent(data: str, pct: int | None) -> None:
    """In a field of its own or after the time; what is no percentage is not known. It is no press."""
    report = decode(data)
    assert report == TagReport(format="kontakt", battery_pct=pct)


def test_the_battery_comes_with_the_clicks() -> None:
    """In any order of the fields."""
    for data in ("03 02 0C 5A 04 11 05 0200", "03 04 11 05 0200 02 0C 5A"):
        report = decode(data)
        assert report is not None
        assert (report.battery_pct, report.presses) == (90, Presses(count=5, now=True))


@pytest.mark.parametrize("data", ["", "02 04 11 05 0200"])
def test_what_is_no_telemetry_is_not_claimed(data: str) -> None:
    """Location packets and others."""
    assert decode(data) is None
