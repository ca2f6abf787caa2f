"""The ladder of recovery, and what several adapters are together."""

import itertools
from dataclasses import replace

import pytest

from gatewayd.core.model import State
from gatewayd.core.recovery import (
    AGAIN_MOST_S,
    AGAIN_S,
    LADDER,
    UNPROVEN,
    Climb,
    Finding,
    Hearing,
    Step,
    climb,
    together,
    trusted,
)

EVERYTHING = frozenset(Step)
SCANNING = (Finding.SILENT, Finding.CANARY_SILENT)


def steps(finding: Finding, for_s: int, able: frozenset[Step] = EVERYTHING) -> list[tuple[int, Step]]:
    """What is done beyond the usual, and how many seconds after the trouble began."""
    state, taken = Climb(since_s=1000.0), []
    for second in range(for_s):
        state, step = climb(state, finding, 1000.0 + second, able)
        if step is not (Step.LISTEN if finding in SCANNING else Step.NEW_SCANNER):
            taken.append((second, step))
    return taken


@pytest.mark.parametrize("finding", Finding)
def test_every_finding_has_its_rungs_in_the_order_of_their_ages(finding: Finding) -> None:
    """And each step stands on it once: it is taken once in a round."""
    rungs = LADDER[finding]
    assert all(one.after_s < other.after_s for one, other in itertools.pairwise(rungs))
    assert len({rung.step for rung in rungs}) == len(rungs)


@pytest.mark.parametrize("finding", Finding)
def test_each_rung_is_climbed_once_at_its_age(finding: Finding) -> None:
    expected = [(int(rung.after_s), rung.step) for rung in LADDER[finding]]
    assert steps(finding, 601) == expected


@pytest.mark.parametrize("finding", [each for each in Finding if each not in SCANNING])
def test_a_scan_that_failed_is_made_anew_at_once(finding: Finding) -> None:
    assert climb(Climb(since_s=5.0), finding, 5.0, EVERYTHING)[1] is Step.NEW_SCANNER


@pytest.mark.parametrize("finding", SCANNING)
def test_a_scan_that_is_only_silent_goes_on_at_first(finding: Finding) -> None:
    assert climb(Climb(since_s=5.0), finding, 5.0, EVERYTHING)[1] is Step.LISTEN


def test_a_quiet_road_never_costs_more_than_a_fresh_scan_and_ever_more_rarely() -> None:
    """A day of silence: 24 at most, once the pauses have grown."""
    taken = steps(Finding.SILENT, 86_400)
    assert {step for _, step in taken} == {Step.NEW_SCANNER}
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(taken)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= AGAIN_S
    assert gaps[-1] >= AGAIN_MOST_S
    assert len(taken) < 24


def test_what_was_climbed_in_vain_is_climbed_again_after_a_pause() -> None:
    """In the same order; the pause doubles up to an hour."""
    taken = steps(Finding.REFUSED, 20_000)
    ladder = [rung.step for rung in LADDER[Finding.REFUSED]]
    assert [step for _, step in taken[:6]] == ladder * 2
    ends = [second for second, step in taken if step is ladder[-1]]
    pauses = [
        later - earlier - LADDER[Finding.REFUSED][-1].after_s for earlier, later in itertools.pairwise(ends)
    ]
    assert pauses[:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S, AGAIN_MOST_S]


def test_a_step_that_cannot_be_taken_is_left_out() -> None:
    """The others keep their times."""
    able = EVERYTHING - {Step.RESTART_BLUETOOTHD}
    assert steps(Finding.REFUSED, 100, able) == [(6, Step.POWER_CYCLE), (40, Step.RESET_USB)]


def test_nothing_able_means_fresh_scans_for_ever() -> None:
    assert steps(Finding.GONE, 10_000, frozenset({Step.NEW_SCANNER})) == []


def test_a_step_is_not_repeated_when_the_trouble_takes_another_form() -> None:
    """A restart of bluetoothd that ends in an adapter refusing is not answered with another restart."""
    state, step = climb(Climb(since_s=0.0), Finding.NO_ANSWER, 9.0, EVERYTHING)
    assert step is Step.RESTART_BLUETOOTHD
    state, step = climb(state, Finding.REFUSED, 30.0, EVERYTHING)
    assert step is Step.POWER_CYCLE
    state, step = climb(state, Finding.REFUSED, 31.0, EVERYTHING)
    assert step is Step.NEW_SCANNER


def test_an_adapter_without_bluetoothd_is_not_power_cycled() -> None:
    """bluetoothd is who would do it."""
    for finding in (Finding.NO_ANSWER, Finding.NOT_RUNNING, Finding.NO_BUS, Finding.GONE):
        assert Step.POWER_CYCLE not in {rung.step for rung in LADDER[finding]}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("heard_s", "canary_s", "expected"),
    [
        (None, None, None),  # nobody: as before
        (100.0, 100.0, True),
        (106.0, 100.0, True),  # a deaf radio heard both last in one moment, more or less
        (108.0, 100.0, False),
        (7.0, None, None),  # the scan began a moment ago: the canary may not have had its turn
        (8.0, None, False),
    ],
)
def test_a_canary_is_trusted_once_heard_and_until_others_are_heard_in_its_place(
    before: bool, heard_s: float | None, canary_s: float | None, expected: bool | None
) -> None:
    """Its battery may be empty, or its address mistyped."""
    found = trusted(before, heard_s=heard_s, canary_s=canary_s, began_s=0.5, within_s=7.0)
    assert found is (before if expected is None else expected)


OK = Hearing(state=State.OK, detail="a scans and hears")
POOR = Hearing(state=State.DEGRADED, detail="b scans; no monitor")
UNPROVED = Hearing(state=State.DEGRADED, detail=f"{UNPROVEN}c scans; has not heard anything yet")
DEAF = Hearing(state=State.FAILED, detail="d is off")


@pytest.mark.parametrize(
    ("each", "state", "detail"),
    [
        ([OK], State.OK, OK.detail),
        ([OK, OK], State.OK, OK.detail),
        ([DEAF, OK], State.DEGRADED, "a scans and hears; d is off"),
        ([UNPROVED, OK], State.DEGRADED, f"a scans and hears; {UNPROVED.detail}"),
        ([DEAF, POOR], State.DEGRADED, "b scans; no monitor; d is off"),
        ([DEAF, UNPROVED], State.DEGRADED, f"{UNPROVED.detail}; d is off"),
        ([DEAF], State.FAILED, DEAF.detail),
    ],
)
def test_configured_adapters_are_told_together(each: list[Hearing], state: State, detail: str) -> None:
    """The best one leads; that another does not hear is told. What only scans proves nothing."""
    assert together(each, all_wanted=True) == Hearing(state=state, detail=detail)


def test_the_radio_heard_until_the_last_of_its_adapters_did() -> None:
    """Also where two of them say the same."""
    each = [replace(DEAF, until_s=10.0), replace(UNPROVED, until_s=12.0), replace(DEAF, until_s=14.0)]
    assert together(each, all_wanted=False).until_s == 14.0
    assert together([DEAF, UNPROVED], all_wanted=False).until_s is None


@pytest.mark.parametrize(
    ("each", "expected"),
    [([OK, DEAF, UNPROVED], OK), ([UNPROVED, DEAF], UNPROVED), ([POOR, DEAF], POOR), ([DEAF], DEAF)],
)
def test_where_any_adapter_will_do_the_best_one_counts(each: list[Hearing], expected: Hearing) -> None:
    assert together(each, all_wanted=False) == expected
