"""Where the gateway is and was."""

from gatewayd.core.model import ClockSource, Fix, FixMode, Instant, Subject
from gatewayd.core.track import Track


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


def test_the_topic_is_told_every_5_s_while_an_alarm_is_open() -> None:
    track = Track()
    told = [second for second in range(12) if track.due(at(second), alarm_open=True, always=False)]
    assert told == [0, 5, 10]


def test_the_topic_is_told_every_30_s_when_it_always_is() -> None:
    track = Track()
    told = [second for second in range(61) if track.due(at(second), alarm_open=False, always=True)]
    assert told == [0, 30, 60]


def test_the_topic_is_not_told_otherwise() -> None:
    assert not Track().due(at(99), alarm_open=False, always=False)
