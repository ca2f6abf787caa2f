"""The measurements run and say what they promise; how the figures turn out is no test's business."""

from math import inf, isnan, nan

import pytest
from bench import memory
from bench.figures import MISSED, Figure, percentile, table


def figure(value: float, **limits: float) -> Figure:
    return Figure(name="n", what="what", value=value, unit="ms", beside=2.0, beside_what="bare", **limits)


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        ({}, None),
        ({"most": 3.0}, True),
        ({"most": 2.9}, False),
        ({"most_ratio": 1.5}, True),
        ({"most_ratio": 1.4}, False),
    ],
)
def test_a_figure_is_held_against_its_limit(limits: dict[str, float], met: bool | None) -> None:
    """By value or by ratio; without a limit it only informs."""
    assert figure(3.0, **limits).met is met


def test_a_missed_figure_is_shouted() -> None:
    """Somebody who only glances at the table sees it; what never came is missed too."""
    assert table([figure(3.0, most=9.0)]).count(MISSED) == 0
    assert table([figure(3.0, most=1.0), figure(inf, most=1.0)]).count(MISSED) == 2
    assert figure(nan, most=1.0).met is False
    assert figure(inf, most=1.0).as_json()["value"] is None


def test_percentiles_are_values_that_were_measured() -> None:
    """The nearest rank: no value between two is made up."""
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([3, 1, 2], 1.0) == 3
    assert isnan(percentile([], 0.5))


async def test_memory_is_measured_of_the_real_daemon() -> None:
    """Daemon and capture process, idle and during an alarm, the daemon beside its imports."""
    figures = {figure.name: figure for figure in await memory.measure(1.0)}
    assert figures.keys() == {"rss_idle", "rss_alarm", "capture_rss_idle", "capture_rss_alarm"}
    assert all(figure.value > 1 for figure in figures.values())
    assert figures["rss_idle"].ratio is not None
