"""Tests of people and of the way to the broker: when a press is one, when the daily one is due."""

import json
from dataclasses import replace

import pytest

from gatewayd.core.drill import (
    BACK_S,
    DAY_S,
    RETRY_S,
    SPREAD_S,
    Drills,
    Trip,
    from_json,
    to_json,
)
from gatewayd.core.model import ClockSource, Instant, Keep, Mode

MIDNIGHT_S = 1_772_323_200.0  # 2026-03-01
FOUR_S = 4 * 3600.0
MONTH_S = 30 * DAY_S


def at(seconds: float, *, boot: str = "b", source: ClockSource = ClockSource.NTP) -> Instant:
    """So long after a midnight."""
    return Instant(boot=boot, mono_s=seconds, wall_s=MIDNIGHT_S + seconds, source=source, uncertainty_ms=5)


def ended(sent: Instant, *, failed: bool = False) -> Drills:
    """A trip came back, or not."""
    return Drills(trip=Trip(id="t", sent=sent, latency_ms=None if failed else 40.0, failed=failed))


# --- windows ------------------------------------------------------------------------------------------------


def test_presses_are_tests_within_the_window_of_their_tag_only() -> None:
    """Neither before it, nor from its end on, nor of a tag that it does not name."""
    drills = Drills().open(["t-1", "t-2"], 60, at(100))
    assert [drills.left_s("t-1", at(second)) for second in (99, 100, 159, 160, 999)] == [0, 60, 1, 0, 0]
    assert drills.left_s("t-2", at(110)) == 50
    assert drills.left_s("t-3", at(110)) == 0


def test_a_new_window_takes_the_place_of_a_tags_old_one_and_none_ends_it() -> None:
    drills = Drills().open(["t-1", "t-2"], 60, at(100)).open(["t-1"], 30, at(150))
    assert (drills.left_s("t-1", at(160)), drills.left_s("t-2", at(155))) == (20, 5)
    assert drills.open(["t-1"], 0, at(155)).windows.keys() == {"t-2"}


def test_a_window_outlives_a_reboot_where_clocks_can_tell() -> None:
    """Where they cannot it is over: a press then is real."""
    drills = from_json(to_json(Drills().open(["t-1"], 60, at(100))))
    assert drills.left_s("t-1", at(120, boot="c")) == 40
    assert drills.left_s("t-1", at(120, boot="c", source=ClockSource.NONE)) == 0
    assert drills.left_s("t-1", at(50, boot="c")) == 0
    assert drills.settle(at(50, boot="c")).windows == {}


def test_an_exercise_is_announced_likewise() -> None:
    """For its own tags; after it they are what they were."""
    drills = Drills().open(["t-1"], 60, at(100), Mode.EXERCISE).open(["t-2"], 60, at(100))
    asked = (("t-1", 110), ("t-2", 110), ("t-3", 110), ("t-1", 160))
    modes = [drills.mode(tag, at(second)) for tag, second in asked]
    assert modes == [Mode.EXERCISE, Mode.TEST, Mode.ACTUAL, Mode.ACTUAL]
    assert from_json(to_json(drills)) == drills


def test_windows_that_are_over_are_dropped() -> None:
    drills = Drills().open(["t-1"], 60, at(100)).open(["t-2"], 600, at(100))
    assert drills.settle(at(159)) is drills
    assert drills.settle(at(160)).windows.keys() == {"t-2"}


# --- the way to the broker and back -------------------------------------------------------------------------


def test_a_trip_that_comes_back_tells_how_long_it_took() -> None:
    """Once; another message's return means nothing."""
    drills, draft = Drills().send("t-1", at(100))
    assert (draft.topic, draft.id, draft.retain, draft.keep) == ("test", "t-1", False, Keep.NEVER)
    assert drills.body({}, at(100), MONTH_S)["end_to_end"] == {"state": "running", "at": at(100)}
    assert drills.back("t-0", at(100.05)) is drills
    back = drills.back("t-1", at(100.05))
    assert back.body({}, at(101), MONTH_S)["end_to_end"] == {"state": "ok", "at": at(100), "latency_ms": 50.0}
    assert back.back("t-1", at(110)) is back
    assert Drills().back("t-1", at(1)).trip is None


def test_a_trip_that_does_not_come_back_has_failed() -> None:
    """A return that is later than an alarm may be is none."""
    drills, _ = Drills().send("t-1", at(100))
    assert drills.settle(at(100 + BACK_S)) is drills
    failed = drills.settle(at(101 + BACK_S))
    told = failed.body({}, at(200), MONTH_S)["end_to_end"]
    assert told == {"state": "failed", "at": at(100), "detail": "not back from the broker within 30 s"}
    assert failed.back("t-1", at(102 + BACK_S)) is failed


def test_a_trip_is_due_once_a_day_at_its_time() -> None:
    """At the fleet's time and up to an hour later."""
    drills = ended(at(12 * 3600))
    due = [s for s in range(12 * 3600, 48 * 3600, 60) if drills.due(at(s), FOUR_S, "gw-1")]
    assert 0 <= due[0] - DAY_S - FOUR_S <= SPREAD_S
    assert not ended(at(due[0])).due(at(due[0] + DAY_S - 120), FOUR_S, "gw-1")


def test_the_gateways_of_a_fleet_come_one_after_the_other() -> None:
    """Sixty of them leave no ten minutes of the hour empty."""
    drills = ended(at(12 * 3600))
    first = [
        next(s for s in range(int(DAY_S), 36 * 3600, 30) if drills.due(at(s), FOUR_S, f"gw-{number}"))
        for number in range(60)
    ]
    assert {int(s - DAY_S - FOUR_S) // 600 for s in first} >= set(range(6))


def test_the_first_trip_is_due_at_once_and_none_while_one_runs() -> None:
    assert Drills().due(at(0), FOUR_S, "gw-1")
    running, _ = Drills().send("t-1", at(0))
    assert not running.due(at(1), FOUR_S, "gw-1")


def test_after_a_failure_it_is_tried_again() -> None:
    drills = ended(at(0), failed=True)
    assert not drills.due(at(RETRY_S - 1), FOUR_S, "gw-1")
    assert drills.due(at(RETRY_S), FOUR_S, "gw-1")


def test_without_a_clock_a_day_is_counted_from_the_last_trip() -> None:
    """Of another boot nobody knows how long ago that was: then it is due."""
    drills = ended(at(0, source=ClockSource.NONE))
    assert not drills.due(at(DAY_S - 1, source=ClockSource.NONE), FOUR_S, "gw-1")
    assert drills.due(at(DAY_S, source=ClockSource.NONE), FOUR_S, "gw-1")
    assert drills.due(at(10, source=ClockSource.NONE, boot="c"), FOUR_S, "gw-1")


# --- what health tells --------------------------------------------------------------------------------------


def test_tags_that_were_not_tested_for_long_or_never_are_overdue() -> None:
    """Of an earlier boot's test nobody is called overdue while the time is not known."""
    last = {"new": None, "old": at(-MONTH_S - 1, boot="a"), "good": at(-MONTH_S + 1, boot="a")}
    assert Drills().body(last, at(0), MONTH_S)["overdue"] == ["new", "old"]
    assert Drills().body(last, at(0, source=ClockSource.NONE), MONTH_S)["overdue"] == ["new"]
    assert Drills().body(
        {"own": at(0, source=ClockSource.NONE)}, at(MONTH_S + 1, source=ClockSource.NONE), MONTH_S
    )["overdue"] == ["own"]


def test_health_tells_whose_presses_are_tests_and_until_when() -> None:
    drills = Drills().open(["t-1"], 60, at(100))
    assert drills.body({}, at(110), MONTH_S)["windows"] == {"t-1": {"mode": "test", "ends_at": at(160)}}
    assert "windows" not in drills.body({}, at(160), MONTH_S)


# --- on disk ------------------------------------------------------------------------------------------------


def test_what_is_known_outlives_a_restart() -> None:
    drills = replace(ended(at(5)), windows=Drills().open(["t-1"], 60, at(100)).windows)
    assert from_json(to_json(drills)) == drills
    assert from_json(to_json(Drills())) == Drills()


@pytest.mark.parametrize(
    "body",
    [{}, {"windows": 1, "trip": None}, {"windows": {"t": 1}, "trip": None}, {"windows": {}, "trip": 1}],
    ids=str,
)
def test_a_damaged_record_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        from_json(json.dumps(body))
