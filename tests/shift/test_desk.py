"""What the desk knows of a real gateway's shift, from messages alone; and the judge that is given it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

import pytest
from end_to_end.ops import Heard

from gatewayd.core.payload import wall
from gatewayd.core.topic import parse
from shift.desk import NAME, Desk, deaf_s
from shift.judge import judge
from shift.site import Absence
from shift.tags import BTHome, Tag
from shift.world import Press

AHEAD_S: Final = wall("2026-03-01T08:00:00Z")  # the gateway's clock, to ours
TAG: Final = BTHome("nurse-1", "C4:11:22:33:44:55", random.Random(1))
SAID: Final = {"id": "nurse-1", "auth": "none", "event": "press"}


def at(ours_s: float) -> str:
    """How the gateway writes a moment of our clock."""
    seconds, ms = divmod(round(ours_s * 1000), 1000)
    return f"2026-03-01T08:{seconds // 60:02}:{seconds % 60:02}.{ms:03}Z"


def message(topic: str, came_s: float, late_s: float = 0.0, run: str = "run-1", **body: Any) -> Heard:
    """A message that happened `late_s` before it came."""
    where = parse(topic)
    assert where is not None
    fields = {"at": at(came_s - late_s), "late_s": late_s, "run": run, **body}
    return Heard(where=where, payload=b"{}", body=fields, retained=False, came_s=came_s)


def event(came_s: float, presses: int = 1, late_s: float = 0.0, **more: Any) -> Heard:
    kind = "raised" if presses == 1 else "repeated"
    fields: dict[str, Any] = {
        "alarm": "a-1",
        "type": kind,
        "presses": presses,
        "tag": SAID,
        "press_key": f"{presses}",
    }
    return message("alarm/a-1/event", came_s, late_s, **fields | more)


def state(came_s: float, presses: int, pressed_s: float) -> Heard:
    fields: dict[str, Any] = {"alarm": "a-1", "presses": presses, "tag": SAID, "pressed_at": at(pressed_s)}
    return message("alarm/a-1/state", came_s, **fields)


def radio(came_s: float, says: str, since_s: float, run: str = "run-1", **more: Any) -> Heard:
    components = {"radio": {"state": says, "since": at(since_s), **more}}
    return message("health", came_s, run=run, components=components)


def offline(came_s: float, run: str = "run-1") -> Heard:
    """The broker's last will: it tells no time."""
    where = parse("status")
    assert where is not None
    body = {"state": "offline", "run": run}
    return Heard(where=where, payload=b"{}", body=body, retained=False, came_s=came_s)


def desk(*messages: Heard, end_s: float = 600.0) -> Desk:
    """A desk that took them in."""
    found = Desk(tags={"nurse-1"})
    for each in messages:
        found.take(each)
    found.end(end_s)
    return found


def deaf(found: Desk) -> list[tuple[float, float]]:
    return [(round(each.began_s, 2), round(each.ended_s, 2)) for each in found.absences]


def test_a_press_is_one_however_often_it_is_told() -> None:
    """Its event, its double and the alarm's state are of one press, at the time when it was heard."""
    found = desk(event(20.0, late_s=4.0), event(21.0, late_s=5.0), state(22.0, 1, 16.0))
    (told,) = found.activations
    assert told.heard_s == pytest.approx(16.0)
    assert (told.raised, told.press_key, told.event) == (True, "1", "press")


def test_a_press_that_is_only_counted_is_found_in_the_state() -> None:
    """One within ten seconds of another has no event: when it was is in the alarm's state."""
    found = desk(event(20.0), state(28.0, 2, 27.0), event(40.0, 3))
    assert [each.heard_s for each in found.activations] == pytest.approx([20.0, 27.0, 40.0])
    assert [each.raised for each in found.activations] == [True, False, False]


def test_presses_of_other_tags_are_not_looked_at() -> None:
    """The rig has tags of its own."""
    assert not desk(event(20.0, tag={**SAID, "id": "somebody"})).activations


def test_a_radio_that_is_not_ok_is_deaf_until_it_is() -> None:
    """From when it is said to be, not from when the message came, and through changes for the worse."""
    failed = radio(13.0, "degraded", 11.5), radio(14.0, "failed", 12.5)
    assert deaf(desk(radio(10.0, "ok", 1.0), *failed, radio(20.0, "ok", 19.0))) == [(11.5, 19.0)]


def test_an_outage_that_was_over_when_it_was_told_is_deaf() -> None:
    """And it is one, in however many messages it is told."""
    outage = {"began_at": at(12.0), "lasted_s": 1.5}
    told = [radio(came_s, "ok", 13.5, last_outage=outage) for came_s in (14.0, 19.0)]
    assert deaf(desk(radio(10.0, "ok", 1.0), *told)) == [(12.0, 13.5)]


def test_a_run_that_ended_is_deaf_from_its_last_message_until_the_next_one_hears() -> None:
    """Also where the will did not fire, and where it came after the next run's birth."""
    before = message("status", 1.0, state="online"), radio(10.0, "ok", 2.0)
    after = radio(20.0, "degraded", 19.0, run="run-2"), radio(25.0, "ok", 24.0, run="run-2")
    assert deaf(desk(*before, *after)) == [(10.0, 24.0)]
    assert deaf(desk(*before, offline(13.0), *after)) == [(10.0, 24.0)]
    assert deaf(desk(*before, *after, offline(26.0))) == [(10.0, 24.0)]


def test_a_gateway_that_did_not_come_back_is_deaf_to_the_end() -> None:
    """As its will says."""
    assert deaf(desk(radio(10.0, "ok", 2.0), offline(13.0), end_s=60.0)) == [(10.0, 60.0)]


def test_its_clock_is_known_from_what_it_says() -> None:
    """So that its record can be asked about a moment of ours."""
    found = desk(radio(10.0, "ok", 2.0), radio(20.0, "ok", 2.0))
    assert found.wall_s(15.0) == pytest.approx(AHEAD_S + 15.0)
    assert found.wall_s(99.0) == pytest.approx(AHEAD_S + 99.0)


def test_deaf_times_that_overlap_are_counted_once() -> None:
    """For the figure at the end of a shift."""
    times = [(1.0, 5.0), (2.0, 3.0), (4.0, 7.0), (10.0, 11.0)]
    assert deaf_s([Absence(began_s=began, ended_s=ended) for began, ended in times]) == 7.0


@dataclass(slots=True, kw_only=True)
class Shift:
    presses: list[Press]
    sites: list[Desk]

    def renewed(self, _tag: Tag) -> bool:
        return False


def judged(press: Press, *messages: Heard) -> list[str]:
    return judge(Shift(presses=[press], sites=[desk(*messages)])).against


def pressed(began_s: float, ended_s: float) -> Press:
    """A press whose frames are on the air twice a second."""
    frames = [began_s + number / 2 for number in range(int(2 * (ended_s - began_s)))]
    return Press(tag=TAG, stream="", began_s=began_s, until_s=ended_s + 5.0, reached={NAME: frames})


AWAY: Final = (radio(10.0, "ok", 1.0), radio(21.0, "failed", 20.0), radio(31.0, "ok", 30.0))


def test_a_press_that_is_told_is_well() -> None:
    """Once, while it was on the air, or a moment later."""
    assert judged(pressed(12.0, 16.0), *AWAY, event(12.5)) == []
    assert judged(pressed(12.0, 16.0), *AWAY, event(17.0)) == []


def test_a_press_within_an_announced_deaf_time_need_not_be_told() -> None:
    """Nobody could have heard it."""
    assert judged(pressed(22.0, 28.0), *AWAY) == []


@pytest.mark.parametrize(("began_s", "ended_s"), [(12.0, 16.0), (26.0, 34.0), (12.0, 24.0)])
def test_a_press_that_reached_hearing_time_and_is_not_told_is_missed(began_s: float, ended_s: float) -> None:
    """Wholly, or at its end, or at its beginning."""
    (fallen,) = judged(pressed(began_s, ended_s), *AWAY)
    assert "is missed" in fallen


def test_a_press_that_is_told_twice_falls() -> None:
    """By two alarms, or once more on the same."""
    (fallen,) = judged(pressed(12.0, 16.0), event(12.5), event(14.0, 2))
    assert "raised 2 times" in fallen


def test_what_nobody_pressed_is_a_false_alarm() -> None:
    """Before the press, or long after it."""
    (early,) = judged(pressed(12.0, 16.0), event(12.5), event(8.0, alarm="a-2"))
    (late,) = judged(pressed(12.0, 16.0), event(12.5), event(40.0, alarm="a-2"))
    assert "false alarm" in early
    assert "false alarm" in late
