"""How full a tag's battery is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.battery import CRITICAL_MV, LOW_MV, MARGIN_MV, Charge, charge

OK, LOW, CRITICAL = Charge.OK, Charge.LOW, Charge.CRITICAL


@pytest.mark.parametrize(
    ("pct", "expected"), [(100, OK), (21, OK), (20, LOW), (11, LOW), (10, CRITICAL), (0, CRITICAL)]
)
def test_a_percentage_counts_whatever_the_voltage_and_before(pct: int, expected: Charge) -> None:
    for before in (None, *Charge):
        assert charge(pct, 2000, before) is expected


@pytest.mark.parametrize(
    ("millivolt", "expected"),
    [
        (3400, OK),
        (3000, OK),
        (LOW_MV + 1, OK),
        (LOW_MV, LOW),
        (CRITICAL_MV + 1, LOW),
        (CRITICAL_MV, CRITICAL),
        (2000, CRITICAL),
        (1, CRITICAL),
    ],
)
def test_a_voltage_is_judged_as_a_coin_cells(millivolt: int, expected: Charge) -> None:
    """Whose 20 and 10 % are 2.753 and 2.540 V."""
    assert charge(None, millivolt, None) is expected


@pytest.mark.parametrize("millivolt", [None, 0, 3401, 3700, 4200])
def test_of_another_battery_nothing_is_claimed(millivolt: int | None) -> None:
    assert charge(None, millivolt, None) is None
    assert charge(None, millivolt, CRITICAL) is None


@pytest.mark.parametrize(
    ("before", "millivolt", "after"),
    [
        (OK, LOW_MV, LOW),
        (OK, CRITICAL_MV, CRITICAL),
        (LOW, LOW_MV + MARGIN_MV, LOW),
        (LOW, LOW_MV + MARGIN_MV + 1, OK),
        (LOW, CRITICAL_MV + 1, LOW),
        (CRITICAL, CRITICAL_MV + MARGIN_MV, CRITICAL),
        (CRITICAL, CRITICAL_MV + MARGIN_MV + 1, LOW),
        (CRITICAL, LOW_MV + MARGIN_MV, LOW),
        (CRITICAL, 3000, OK),
    ],
)
def test_it_gets_worse_at_once_and_better_with_a_margin(
    before: Charge, millivolt: int, after: Charge
) -> None:
    """A new battery is well at its first reading."""
    assert charge(None, millivolt, before) is after


@given(st.integers(1, 3400 - MARGIN_MV), st.lists(st.integers(0, MARGIN_MV - 1), min_size=2))
def test_a_voltage_within_the_margin_changes_its_level_once_at_most(lowest: int, loads: list[int]) -> None:
    """However it moves: it does not flap."""
    levels: list[Charge | None] = [None]
    for load in loads:
        levels.append(charge(None, lowest + load, levels[-1]))
    assert sum(one is not other for one, other in pairwise(levels[1:])) <= 1
