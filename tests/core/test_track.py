"""Where the gateway is and was."""

from dataclasses import replace
from typing import Any

import pytest

from gatewayd.core.alarm import Alarm, Pressed, Settings, step
from gatewayd.core.model import Body, ClockSource, Fix, FixMode, Instant, Press, Subject, TagEvent
from gatewayd.core.track import LEFT_FIXES, MOVED_M, PARKED_M, PARKED_S, POOR_LEFT_FIXES, Track


def at(mono_s: float) -> Instant:
    return Instant(boot="b", mono_s=mono_s, wall_s=1.8e9 + mono_s, source=ClockSource.NTP, uncertainty_ms=5)


def fix(mono_s: float, lat: float | None = 52.0) -> Fix:
    mode = FixMode.NONE if lat is None else FixMode.FIX_3D
    return Fix(mode=mode, received=at(mono_s), lat=lat, lon=None if lat is None else 4.0, hdop=1.0)


def driven(until_s: int) -> Track:
    """A degree north every second."""
    track = Track()
    for second in range(until_s):
        track.take(fix(second, float(second)), at(second), subject=Subject.VEHICLE)
    return track


def test_a_fix_without_a_position_leaves_the_last_known_one() -> None:
    """It ages, and is still there."""
    track = driven(3)
    track.take(fix(9, None), at(9), subject=Subject.VEHICLE)
    where = track.position(at(9), subject=Subject.VEHICLE, hub=None)
    assert where is not None
    assert (where["lat"], where["age_s"]) == (2.0, 7.0)


def test_without_any_fix_there_is_no_position() -> None:
    assert Track().position(at(0), subject=Subject.VEHICLE, hub=None) is None
    assert Track().recent == ()


def test_recent_positions_are_two_and_five_seconds_apart() -> None:
    """The newest one is no part of them."""
    assert [where["lat"] for where in driven(4).recent] == []
    assert [where["lat"] for where in driven(18).recent] == [9.0, 14.0]


def alarm(called_s: float) -> Alarm:
    """One that is open since then."""
    press = Press(tag="t-1", event=TagEvent.PRESS, heard=at(called_s))
    pressed = Pressed(press=press, next_alarm_id="019ca945-0a00-7000-8000-000000000001", decided=at(called_s))
    alarms, _ = step({}, pressed, at(called_s), Settings(audio=False, duration_s=600))
    (found,) = alarms.values()
    return found


def test_the_topic_is_told_every_5_s_for_10_min_of_an_alarm_then_every_30_s() -> None:
    track, alarms = Track(), [alarm(0)]
    told = [second for second in range(691) if track.due(at(second), alarms=alarms, followed=False)]
    assert told == [*range(0, 600, 5), *range(625, 691, 30)]


def test_the_topic_is_told_every_30_s_when_it_always_is() -> None:
    track = Track()
    told = [second for second in range(61) if track.due(at(second), alarms=(), followed=True)]
    assert told == [0, 30, 60]


def test_the_topic_is_not_told_otherwise() -> None:
    assert not Track().due(at(99), alarms=(), followed=False)


# --- parked -------------------------------------------------------------------------------------------------

METRE = 360 / 40_007_863  # degrees north


def place(track: Track, mono_s: float) -> Body:
    where = track.position(at(mono_s), subject=Subject.VEHICLE, hub=None)
    assert where is not None
    return where


def stood(seconds: int, lon: float = 4.0) -> Track:
    """Fixes 10 m to the north and to the south in turn, one a second."""
    track = Track()
    for second in range(seconds):
        away = 10 * METRE * (1 if second % 2 else -1)
        track.take(
            replace(fix(second, 52.0 + away), lon=lon, speed_mps=0.2), at(second), subject=Subject.VEHICLE
        )
    return track


def test_a_vehicle_that_stood_still_is_parked_where_its_fixes_lay_on_average() -> None:
    """Not before 2 min; then nearer than any fix was, and without a speed."""
    assert place(stood(int(PARKED_S)), PARKED_S - 1)["method"] == "gnss"
    where = place(stood(201), 200)
    assert (where["method"], where["trusted"], where["parked_at"]) == ("parked", True, at(0))
    assert where["lat"] == pytest.approx(52.0, abs=METRE)
    assert "speed_mps" not in where


def test_a_parked_vehicle_stays_so_without_a_fix() -> None:
    """In a garage its place is known; that it is still there nobody vouches for."""
    track = stood(201)
    track.take(fix(201, None), at(201), subject=Subject.VEHICLE)
    where = place(track, 900)
    assert (where["method"], where["trusted"], where["age_s"]) == ("parked", False, 700.0)


def test_one_reflection_does_not_move_a_parked_vehicle_and_leaving_does() -> None:
    track = stood(201)
    away = 52.0 + 2 * PARKED_M * METRE
    for second in range(LEFT_FIXES - 1):
        track.take(fix(201 + second, away), at(201 + second), subject=Subject.VEHICLE)
    assert place(track, 203)["method"] == "parked"
    track.take(fix(203, 52.0), at(203), subject=Subject.VEHICLE)
    for second in range(LEFT_FIXES):
        track.take(fix(204 + second, away), at(204 + second), subject=Subject.VEHICLE)
    where = place(track, 207)
    assert where["method"] == "gnss"
    assert where["lat"] == pytest.approx(away)


def test_a_parked_vehicle_that_leaves_on_fixes_that_are_not_trusted_is_not_said_to_be_there() -> None:
    """An antenna on the dashboard, streets like canyons: told is where the fixes are, as doubtful."""
    track = stood(201)
    for second in range(201, 801):
        north = 52.0 + (second - 201) * 11 * METRE
        track.take(replace(fix(second, north), hdop=6.0), at(second), subject=Subject.VEHICLE)
    where = place(track, 801)
    assert (where["method"], where["trusted"]) == ("gnss", False)
    assert where["lat"] == pytest.approx(52.0 + 599 * 11 * METRE)


def test_no_reflection_moves_who_stands_where_poor_fixes_come_between() -> None:
    """The gate of trusted fixes stays what it is."""
    track = stood(201)
    for second in range(201, 260):
        away = 52.0 + (2 * PARKED_M * METRE if second % LEFT_FIXES == 0 else 0.0)
        poor = second % LEFT_FIXES == 1
        track.take(replace(fix(second, away), hdop=9.0 if poor else 1.0), at(second), subject=Subject.VEHICLE)
    assert place(track, 260)["method"] == "parked"


@pytest.mark.parametrize("away_m", [PARKED_M + 55, 5 * PARKED_M])
def test_a_few_poor_fixes_do_not_move_a_parked_vehicle(away_m: float) -> None:
    """Within their own error any number of them, farther away not for long."""
    track = stood(201)
    for second in range(201, 300):
        near = away_m > PARKED_M + 60 and not (second - 201) % POOR_LEFT_FIXES
        poor = fix(second, 52.0 if near else 52.0 + away_m * METRE)
        track.take(replace(poor, hdop=6.0), at(second), subject=Subject.VEHICLE)
    assert place(track, 300)["method"] == "parked"
    assert place(track, 300)["lat"] == pytest.approx(52.0, abs=METRE)


@pytest.mark.parametrize("more", [{"hdop": 9.0}, {"hdop": None, "estimated": True}, {"received": None}])
def test_fixes_that_are_not_trusted_or_of_no_known_time_park_nobody(more: dict[str, Any]) -> None:
    track = Track()
    for second in range(300):
        track.take(replace(fix(second), **more), at(second), subject=Subject.VEHICLE)
    assert place(track, 299)["method"] != "parked"


def test_a_vehicle_is_parked_on_the_date_line_too() -> None:
    """Fixes on both sides of it lie beside each other."""
    track = Track()
    for second in range(201):
        lon = (180.0 - 10 * METRE) * (1 if second % 2 else -1)
        track.take(replace(fix(second, 0.0), lon=lon), at(second), subject=Subject.VEHICLE)
    where = place(track, 200)
    assert where["method"] == "parked"
    assert abs(float(str(where["lon"]))) == pytest.approx(180.0, abs=METRE)


# --- across restarts ----------------------------------------------------------------------------------------


def test_the_last_known_position_outlives_a_restart() -> None:
    """After a reboot nobody can tell how old it is: it is not trusted. A new fix takes its place."""
    record = driven(3).record()
    track = Track()
    track.restore(record)
    later = replace(at(5), boot="another")
    where = track.position(later, subject=Subject.VEHICLE, hub=None)
    assert where is not None
    assert (where["lat"], where["method"], where["trusted"]) == (2.0, "last_known", False)
    assert "age_s" not in where
    assert track.record() is None
    track.take(fix(6, 3.0), at(6), subject=Subject.VEHICLE)
    track.restore(record)
    assert place(track, 6)["lat"] == 3.0


def test_what_is_stored_is_news_a_street_further_only() -> None:
    """So a vehicle that stands still writes nothing."""
    track = Track()
    assert track.record() is None
    track.take(fix(0), at(0), subject=Subject.VEHICLE)
    assert track.record() is not None
    track.take(fix(1, 52.0 + 0.9 * MOVED_M * METRE), at(1), subject=Subject.VEHICLE)
    assert track.record() is None
    track.take(fix(2, 52.0 + 1.1 * MOVED_M * METRE), at(2), subject=Subject.VEHICLE)
    assert track.record() is not None


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"mode": "3d", "lat": 1}', '{"mode": "3d", "what": 1}', '{"mode": "4d"}']
)
def test_a_damaged_record_counts_as_none(text: str) -> None:
    track = Track()
    track.restore(text)
    assert track.position(at(0), subject=Subject.VEHICLE, hub=None) is None
