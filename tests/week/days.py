"""What is planned for each day of the week: visits, emergencies, tests, and what fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from simulated import Act

from gatewayd.core.model import ClockSource
from week.journal import Journal
from week.site import Site
from week.world import (
    CANCEL,
    CHECK_OUT,
    DAY_S,
    DURESS,
    GRACE_S,
    HOUR_S,
    MINUTE_S,
    PRE_ALARM_S,
    UNANSWERED_S,
    VEHICLE,
    Week,
    Worker,
)

DAYS: Final = 7
VISITS: Final = 400
ALARMS: Final = 30
COMING_S: Final = 6.5 * HOUR_S  # the tags come to the vehicle
TESTING_S: Final = 6.8 * HOUR_S
FIRST_S: Final = 7.5 * HOUR_S  # the first visits
GOING_S: Final = 19.5 * HOUR_S
LENGTHS_S: Final = tuple(minutes * MINUTE_S for minutes in (5, 8, 15, 20, 30, 45, 60))
WINDOW_S: Final = 600.0
FAULTS: Final = 5  # of each kind, a day and gateway


def live(seed: int, *, days: int = DAYS, visits: int = VISITS, alarms: int = ALARMS) -> Journal:
    """Live through the week that this seed draws; what was seen of it."""
    week = Week(seed, days=days)
    _plan(week, visits, alarms)
    return week.run()


def _plan(week: Week, count: int, alarms: int) -> None:
    emergencies = _Emergencies(week)
    visits = _Visits(week)
    each = count // week.days
    for day in range(week.days):
        begins_s = day * DAY_S
        _tags(week, begins_s)
        _tests(week, begins_s)
        more = count - each * week.days if day == week.days - 1 else 0
        visits.plan(begins_s, each + more)
        for site in week.sites.values():
            _faults(week, site, begins_s)
        for _ in range(8):
            week.at(begins_s + week.dice.uniform(FIRST_S, GOING_S), week.drive)
    for number in range(alarms):
        day = number % week.days
        at_s = day * DAY_S + week.dice.uniform(FIRST_S + HOUR_S, GOING_S - 2 * HOUR_S)
        week.at(at_s, partial(emergencies.happen, number))


# --- tags ---------------------------------------------------------------------------------------------------


def _tags(week: Week, begins_s: float) -> None:
    """They are there while their workers are on duty, but for those that were forgotten or have run down."""

    def be(worker: Worker, *, here: bool) -> None:
        worker.here = here
        week.attend(5.0)

    for worker in week.workers:
        coming_s = begins_s + COMING_S + week.dice.uniform(0, 600)
        week.at(coming_s, partial(be, worker, here=True))
        week.at(begins_s + GOING_S + week.dice.uniform(0, 600), partial(be, worker, here=False))
        if week.dice.random() < 0.15:
            away_s = begins_s + week.dice.uniform(FIRST_S, GOING_S - 3 * HOUR_S)
            week.at(away_s, partial(be, worker, here=False))
            week.at(away_s + week.dice.uniform(200, 2 * HOUR_S), partial(be, worker, here=True))
        if week.dice.random() < 0.15:
            week.at(coming_s - 1.0, partial(week.set_battery, worker, week.dice.choice((8, 10, 11, 20, 21))))
            week.at(begins_s + GOING_S + 900, partial(week.set_battery, worker, 90))


# --- tests --------------------------------------------------------------------------------------------------


def _tests(week: Week, begins_s: float) -> None:
    """Some tags are tested before the shift; another one is pressed meanwhile, now and then."""
    dice = week.dice
    testers = dice.sample(week.workers, 7)
    announced, outsider = testers[:6], testers[6]
    _announce(week, begins_s + TESTING_S, announced)
    week.at(begins_s + TESTING_S + WINDOW_S - 3, partial(week.attend, 10.0))
    for worker in announced:
        week.at(begins_s + TESTING_S + dice.uniform(20, WINDOW_S - 20), partial(_press, week, worker))
    if dice.random() < 0.5:
        week.at(begins_s + TESTING_S + dice.uniform(20, WINDOW_S - 20), partial(_press, week, outsider))
    if dice.random() < 0.5:
        # Announced, and pressed too late: it is meant.
        week.at(begins_s + TESTING_S + WINDOW_S + dice.uniform(5, 300), partial(_press, week, announced[0]))
    exercised = dice.choice(week.workers)
    at_s = begins_s + FIRST_S + dice.uniform(0, 600)
    _announce(week, at_s, [exercised], mode="exercise")
    if dice.random() < 0.8:
        week.at(at_s + dice.uniform(20, 500), partial(_press, week, exercised))


def _announce(week: Week, at_s: float, workers: Sequence[Worker], **more: str) -> None:
    """Tell every gateway that hears them that these workers' presses are tests."""
    for site in week.sites.values():
        tags = [worker.tag.name for worker in workers if site in week.hearing(worker)]
        if tags:
            order = partial(week.desk.say, site.name, "test/press_window", tags=tags, for_s=int(WINDOW_S))
            week.at(at_s, partial(order, **more))


def _press(week: Week, worker: Worker, event: str = "press") -> None:
    """Press, where the tag is there and no burst is on the air."""
    if worker.here and week.now_s - worker.pressed_s > 1.0:
        week.press(worker, event)


# --- emergencies --------------------------------------------------------------------------------------------


class _Emergencies:
    """Each kind in turn, so that none is left out."""

    def __init__(self, week: Week) -> None:
        self._week = week
        self._kinds: list[Callable[[Worker], None]] = [
            self._once,
            self._again,
            self._long_after,
            self._two,
            self._cancelled,
            self._under_duress,
            self._by_ops,
            self._before_a_kill,
            self._offline,
            self._turned_to_duress,
        ]

    def happen(self, number: int) -> None:
        """An emergency befalls some worker."""
        there = [worker for worker in self._week.workers if worker.here]
        if there:
            self._kinds[number % len(self._kinds)](self._week.dice.choice(there))

    def _presses(self, worker: Worker, *presses: tuple[float, str]) -> None:
        for wait_s, event in presses:
            self._week.time.after(wait_s, partial(_press, self._week, worker, event))

    def _once(self, worker: Worker) -> None:
        self._presses(worker, (0.0, "press"))

    def _again(self, worker: Worker) -> None:
        dice = self._week.dice
        soon_s = dice.uniform(2, 9)
        self._presses(worker, (0.0, "press"), (soon_s, "double"), (soon_s + dice.uniform(15, 500), "press"))

    def _long_after(self, worker: Worker) -> None:
        self._week.desk.keeps.add(worker.tag.name)
        self._presses(worker, (0.0, "press"), (self._week.dice.uniform(610, 1_200), "press"))

    def _two(self, worker: Worker) -> None:
        other = self._week.dice.choice([each for each in self._week.workers if each is not worker])
        self._presses(worker, (0.0, "press"))
        self._presses(other, (self._week.dice.choice((5.0, 60.0, 110.0, 130.0)), "press"))

    def _cancelled(self, worker: Worker) -> None:
        self._presses(worker, (0.0, "press"), (self._week.dice.uniform(15, 120), CANCEL))

    def _under_duress(self, worker: Worker) -> None:
        self._presses(worker, (0.0, DURESS))

    def _turned_to_duress(self, worker: Worker) -> None:
        self._presses(worker, (0.0, "press"), (self._week.dice.uniform(15, 40), DURESS))

    def _by_ops(self, worker: Worker) -> None:
        who: dict[str, Any] = self._week.dice.choice(({"tag": worker.tag.name}, {"worker": worker.name}))
        cause = self._week.dice.choice(("manual", "duress"))
        self._week.attend(700.0)
        self._week.desk.say(VEHICLE, "alarm/raise", "bo", cause=cause, note="called", **who)
        self._presses(worker, (self._week.dice.choice((30.0, 300.0)), "press"))

    def _before_a_kill(self, worker: Worker) -> None:
        self._presses(worker, (0.0, "press"))
        wait_s = self._week.dice.choice((0.001, 0.01, 0.03, 0.4))
        site = self._week.sites[VEHICLE]
        self._week.time.after(wait_s, lambda: self._week.restart(site, killed=True, down_s=3.0))

    def _offline(self, worker: Worker) -> None:
        self._week.outage(self._week.sites[VEHICLE], for_s=self._week.dice.uniform(300, 2_000))
        self._presses(worker, (60.0, "press"))


# --- what fails ---------------------------------------------------------------------------------------------


def _faults(week: Week, site: Site, begins_s: float) -> None:
    dice = week.dice

    def some(act: Act, most: int) -> None:
        for _ in range(dice.randint(1, most)):
            week.at(begins_s + dice.uniform(0, DAY_S - HOUR_S), act)

    some(lambda: week.outage(site, for_s=dice.choice((20, 120, 900, 4_000)) * dice.uniform(0.5, 1.5)), FAULTS)
    some(lambda: week.restart(site, killed=True, down_s=dice.uniform(1, 20)), FAULTS)
    some(lambda: week.restart(site, killed=False, down_s=dice.uniform(1, 20)), 2)
    some(
        lambda: week.reboot(
            site,
            down_s=dice.choice((40.0, 200.0, 1_500.0)),
            untold_s=dice.choice((5.0, 30.0, 30.0, 60.0, 600.0)),
        ),
        2,
    )
    some(
        lambda: week.step_clock(
            site,
            wrong_s=dice.choice((-7_200.0, -600.0, 600.0, 7_200.0)),
            source=ClockSource.NONE,
            for_s=dice.uniform(60, 600),
        ),
        3,
    )


# --- visits -------------------------------------------------------------------------------------------------


class _Visits:
    """Each worker goes from door to door; most say in time that they are out."""

    def __init__(self, week: Week) -> None:
        self._week = week
        self._number = 0

    def plan(self, begins_s: float, count: int) -> None:
        """Arrange a day's visits."""
        dice = self._week.dice
        free_s = {worker.name: begins_s + FIRST_S + dice.uniform(0, HOUR_S) for worker in self._week.workers}
        for length_s in (3 * MINUTE_S, 25 * HOUR_S):
            at_s = begins_s + dice.uniform(FIRST_S, GOING_S)
            fields = {
                "visit": f"mistyped-{at_s:.0f}",
                "worker": "w-99",
                "expected_end": self._week.text(at_s + length_s),
            }
            self._week.at(at_s, partial(self._week.desk.say, VEHICLE, "visit/open", "eve", **fields))
        for _ in range(count):
            worker = min(self._week.workers, key=lambda each: free_s[each.name] + dice.uniform(0, HOUR_S))
            length_s = dice.choice(LENGTHS_S)
            starts_s = free_s[worker.name]
            self._number += 1
            self._arrange(worker, f"v-{self._number}", starts_s, length_s, begins_s)
            free_s[worker.name] = starts_s + length_s + dice.uniform(20, 50) * MINUTE_S

    def _arrange(self, worker: Worker, visit: str, starts_s: float, length_s: float, begins_s: float) -> None:
        week, dice = self._week, self._week.dice
        planned = dice.random() < 0.3
        fields = {
            "visit": visit,
            "worker": worker.name,
            "expected_end": week.text(starts_s + length_s),
            "address": {"street": f"Street-{visit}-", "number": "12", "floor": "3", "city": "Amsterdam"},
            "note": f"Note-{visit}-",
            "risk": dice.choice(("low", "medium", "high")),
            "code_word_ref": "card 7",
        }
        if planned:
            fields["expected_start"] = week.text(starts_s)
        opens_s = begins_s + COMING_S if planned else starts_s
        week.at(opens_s, partial(self._say, worker, "visit/open", fields))
        week.at(starts_s - 1.0, partial(week.attend, 5.0))
        self._end(worker, visit, starts_s + length_s, length_s)
        street = f"Street-{visit}-"
        week.at(starts_s + length_s + 26 * HOUR_S, partial(week.sites[worker.site].look, street))

    def _say(self, worker: Worker, name: str, fields: dict[str, Any]) -> None:
        week = self._week
        timed = week.sites[worker.site].machine.source is ClockSource.NTP
        week.attend(5.0 if timed else LENGTHS_S[0] + GRACE_S + PRE_ALARM_S + UNANSWERED_S)
        week.desk.say(worker.site, name, **fields)

    def _end(self, worker: Worker, visit: str, end_s: float, length_s: float) -> None:
        """How it comes to its end."""
        week, dice = self._week, self._week.dice
        chance = dice.random()
        close = partial(self._say, worker, "visit/close", {"visit": visit})
        if chance < 0.60:
            week.at(end_s - dice.uniform(10, length_s * 0.5), close)
        elif chance < 0.72:
            week.at(end_s - dice.uniform(10, 200), partial(_press, week, worker, CHECK_OUT))
            week.at(end_s + 600.0, close)  # the press was not heard
        elif chance < 0.84:
            extended_s = end_s + dice.choice((-100.0, -100.0, 30.0))
            new_s = max(end_s, extended_s) + 15 * MINUTE_S
            week.at(extended_s, partial(self._say, worker, "visit/extend", {"visit": visit}))
            week.at(new_s + dice.choice((-200.0, -200.0, 40.0, 600.0)), close)
        elif chance < 0.92:
            week.at(end_s + dice.choice((10.0, 50.0, 70.0, 80.0)), close)
        else:
            week.at(end_s + dice.uniform(150, 800), close)
