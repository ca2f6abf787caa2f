"""The measurements run and say what they promise; how the figures turn out is no test's business."""

from math import inf, isfinite, isnan, nan

import pytest
from bench import memory
from bench.__main__ import PARTS
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
        ({"least": 3.0}, True),
        ({"least": 3.1}, False),
        ({"least_ratio": 1.5}, True),
        ({"least_ratio": 1.6}, False),
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


@pytest.mark.parametrize(
    ("part", "names"),
    {
        "flood": {
            f"{shape}_{figure}"
            for shape in ("crowd", "shouter")
            for figure in ("delay_p50", "delay_max", "cpu", "growth")
        },
        "decode": {"decode_mutated", "decode_mutated_any"},
        "thin": {
            "alarm_behind_sound",
            "alarm_amid_drain",
            "alarm_amid_live",
            "alarm_amid_live_and_back_fill",
        },
        "failover": {"dead_link_second_broker", "dead_link_new_path"},
        "drain": {"drain_inflight_20", "drain_same_20", "drain_inflight_100", "drain_same_100"},
        "accept": {"accepted_per_s", "accepted_alone"},
        "million": {"rss_million_waiting", "rss_million_draining", "start_million"},
        "wear": {"written_quiet", "written_sound_online", "written_sound_offline"},
        "fleet": {"fleet_up", "fleet_dials", "fleet_storm"},
    }.items(),
)
async def test_each_part_gives_its_figures(part: str, names: set[str]) -> None:
    """In its small form: every figure is there and is a number, and there are targets among them."""
    figures = {figure.name: figure for figure in await PARTS[part](True)}
    assert figures.keys() == names
    assert all(isfinite(figure.value) for figure in figures.values())
    assert any(figure.target for figure in figures.values())
