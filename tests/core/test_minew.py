"""Minew's information frame, made by the layout in the module's docstring."""

import pytest

from gatewayd.core.model import Advertisement, TagReport
from gatewayd.core.tags import minew


def decode(data: str) -> TagReport | None:
    return minew.decode(
        Advertisement(
            address="AC:23:3F:AA:BB:CC", heard_s=0.0, service_data={minew.SERVICE: bytes.fromhex(data)}
        )
    )


@pytest.mark.parametrize(
    ("data", "pct"), [("A1 08 64 CCBBAA3F23AC 423130", 100), ("A1 08 05", 5), ("A1 08 FF", None)]
)
def test_it_tells_the_battery(data: str, pct: int | None) -> None:
    """Percent; there is no button in it."""
    assert decode(data) == TagReport(format="minew", battery_pct=pct)


@pytest.mark.parametrize("data", ["", "A1 08", "A1 01 64", "A0 08 64"])
def test_what_is_no_such_frame_is_not_claimed(data: str) -> None:
    """Cut off, or another version."""
    assert decode(data) is None
