"""A day of the week holds every rule of the model, and each rule could have fallen.

`scripts/week` runs whole weeks of other seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from week.days import live
from week.journal import Fact, Journal, Message, Shown
from week.model import RULES, judge
from week.view import View, clock, true_s
from week.world import DAY_S, HUB, VEHICLE

SEED: Final = 1
VISITS: Final = 57  # as on each day of the week
ALARMS: Final = 10  # one of each kind
WANTED: Final = (
    "alarms: actual panic",
    "alarms: actual overdue",
    "alarms: actual duress",
    "alarms: test panic",
    "alarms: exercise panic",
    "asked to cancel",
    "events: corroborated",
    "events: declined",
    "events: escalated",
    "events: on_scene",
    "events: reopened",
    "events: responding",
    "events: reviewed",
    "pressed again",
    "pressed again: anew",
)


def _of(journal: Journal, **fields: Any) -> Message:
    """The first message with these fields in its body."""
    return next(message for message in journal.messages if _is(message, **fields))


def _is(message: Message, **fields: Any) -> bool:
    body = message.body
    return body is not None and all(body.get(name) == value for name, value in fields.items())


def _without(journal: Journal, *messages: Message) -> Journal:
    left = {id(message) for message in messages}
    return replace(journal, messages=[each for each in journal.messages if id(each) not in left])


def _with(journal: Journal, message: Message, **fields: Any) -> Journal:
    """The journal, in which a message tells something else; None: does not tell it."""
    body = {name: value for name, value in {**(message.body or {}), **fields}.items() if value is not None}
    happened_s = message.came_s - fields["late_s"] if "late_s" in fields else message.happened_s
    told = replace(message, body=body, happened_s=happened_s)
    return replace(journal, messages=[told if each is message else each for each in journal.messages])


def _drop(journal: Journal, **fields: Any) -> Journal:
    return _without(journal, _of(journal, **fields))


def _all_but(journal: Journal, drop: Callable[[Message], bool]) -> Journal:
    return replace(journal, messages=[each for each in journal.messages if not drop(each)])


def _states(journal: Journal) -> Iterable[Message]:
    return (each for each in journal.messages if each.topic.endswith("/state") and each.body is not None)


def _second_alarm(journal: Journal) -> Journal:
    raised = _of(journal, type="raised", mode="actual", cause="panic")
    assert raised.body is not None
    other = replace(raised, body={**raised.body, "id": "another", "alarm": "another"})
    return replace(journal, messages=[*journal.messages, other])


def _other_key(journal: Journal) -> Journal:
    raised = next(
        each for each in journal.messages if each.site == HUB and _is(each, type="raised", cause="panic")
    )
    return _with(journal, raised, press_key="other")


def _eve_obeyed(journal: Journal) -> Journal:
    commands = dict(journal.commands)
    name, eve = next(
        (name, each) for name, each in commands.items() if each.body["actor"]["id"] == "eve" and each.reply
    )
    commands[name] = replace(eve, reply={"ok": True})
    return replace(journal, commands=commands)


def _no_reply(journal: Journal) -> Journal:
    commands = dict(journal.commands)
    for name, each in commands.items():
        if each.name == "visit/open" and each.done:
            commands[name] = replace(each, reply=None)
    return replace(journal, commands=commands)


def _long_visit(journal: Journal) -> Journal:
    commands = dict(journal.commands)
    name, found = next(
        (name, each) for name, each in commands.items() if each.name == "visit/open" and each.done
    )
    commands[name] = replace(found, body={**found.body, "expected_end": "2027-01-20T12:00:00Z"})
    return replace(journal, commands=commands)


def _ear_at_night(journal: Journal) -> Journal:
    changes = journal.changes.copy()
    night = [(7_200.0, True), (7_260.0, False)]
    changes[VEHICLE, Fact.MICROPHONE] = night + changes[VEHICLE, Fact.MICROPHONE]
    return replace(journal, changes=changes)


def _told_too_much(journal: Journal) -> Journal:
    shown = Shown(site=VEHICLE, at_s=3_600.0, where="t-01", what="received")
    return replace(journal, shown=[*journal.shown, shown])


def _early_overdue(journal: Journal) -> Journal:
    raised = _of(journal, type="raised", cause="overdue")
    assert raised.body is not None
    early = {**raised.body, "at": "2027-01-18T07:00:00.000Z"}
    told = replace(raised, body=early, happened_s=true_s(early["at"]))
    return replace(journal, messages=[told if each is raised else each for each in journal.messages])


def _address_retained(journal: Journal) -> Journal:
    return _with(journal, next(iter(_states(journal))), note="Street-v-1")


def _found_on_disk(journal: Journal) -> Journal:
    looks = [replace(look, found=True) if look.at_s > DAY_S else look for look in journal.looks]
    return replace(journal, looks=looks)


def _for_ever(journal: Journal) -> Journal:
    changed = [
        replace(each, expires_s=None) if each.topic.startswith("visit/") else each
        for each in journal.messages
    ]
    return replace(journal, messages=changed)


def _position(journal: Journal) -> Message:
    return next(each for each in journal.messages if each.topic == "position" and each.site == VEHICLE)


def _untracked(journal: Journal) -> Journal:
    told = replace(_position(journal), happened_s=7_200.0)
    return replace(journal, messages=[told, *journal.messages])


def _tag(journal: Journal, state: str) -> Message:
    return next(each for each in journal.messages if each.topic.startswith("tag/") and _is(each, state=state))


def _planned_begins(journal: Journal) -> Journal:
    return _with(journal, _of(journal, state="planned", event="planned"), state="open")


def _warned(journal: Journal) -> Journal:
    changed = [
        replace(each, body={**each.body, "warnings": ["tag_lost", "battery_critical"]})
        if each.topic.startswith("visit/") and each.body is not None
        else each
        for each in journal.messages
    ]
    return replace(journal, messages=changed)


def _never_received(journal: Journal) -> Journal:
    return _all_but(journal, lambda each: _is(each, type="accepted"))


# For each rule: what would have it fall.
TAMPERED: Final[dict[str, tuple[Callable[[Journal], Journal], ...]]] = {
    "pressed": (
        lambda journal: _drop(journal, type="raised", mode="actual", cause="panic"),
        lambda journal: _drop(journal, type="raised", mode="test"),
        lambda journal: _drop(journal, type="repeated"),
        lambda journal: _drop(journal, type="cancel_requested"),
        lambda journal: _with(journal, _of(journal, type="raised", cause="duress", presses=1), cause="panic"),
        lambda journal: _with(journal, _of(journal, type="raised", mode="test"), mode="actual"),
        _second_alarm,
    ),
    "corroborated": (lambda journal: _all_but(journal, lambda each: _is(each, type="corroborated")),),
    "one_key": (_other_key,),
    "told_by_whom": (lambda journal: _drop(journal, type="closed", mode="actual"), _never_received),
    "never_closed_by_time": (
        lambda journal: _with(journal, _of(journal, type="closed", mode="actual"), actor=None),
    ),
    "tests_end": (lambda journal: _drop(journal, type="closed", mode="test"),),
    "mode_is_for_life": (
        lambda journal: _with(journal, _of(journal, mode="test", handling="raised"), mode="actual"),
    ),
    "escalated": (
        lambda journal: _drop(journal, type="escalated", reason="time", level=1),
        lambda journal: _with(
            journal, _of(journal, type="received", mode="test"), type="escalated", reason="time", level=1
        ),
    ),
    "human_states_are_of_humans": (
        lambda journal: _with(journal, _of(journal, handling="raised", mode="actual"), handling="received"),
    ),
    "refused": (_eve_obeyed,),
    "answered": (_no_reply,),
    "listened": (_ear_at_night,),
    "wearer_is_told_the_truth": (_told_too_much,),
    "overdue": (lambda journal: _drop(journal, type="raised", cause="overdue"), _early_overdue),
    "reminded": (lambda journal: _all_but(journal, lambda each: _is(each, event="reminded")),),
    "begins_as_planned": (_planned_begins,),
    "timer_is_bounded": (_long_visit,),
    "warned_before": (_warned,),
    "address_travels_in_alarms_only": (_address_retained,),
    "erased": (_found_on_disk,),
    "retained_for_a_day": (_for_ever,),
    "trusted": (
        lambda journal: _with(journal, _position(journal), trusted=False),
        lambda journal: _with(journal, _position(journal), subject="worker"),
    ),
    "age_is_true": (lambda journal: _with(journal, _position(journal), age_s=25.0),),
    "position_in_an_alarm": (lambda journal: _all_but(journal, lambda each: each.topic == "position"),),
    "no_track_between_visits": (_untracked,),
    "tag_states": (
        lambda journal: _with(journal, _tag(journal, "seen"), state="lost"),
        lambda journal: _with(journal, _tag(journal, "lost"), state="seen"),
    ),
    "lost_is_told": (lambda journal: _all_but(journal, lambda each: _is(each, state="lost")),),
    "no_tag_lost_alarm": (lambda journal: _with(journal, _of(journal, type="raised"), cause="tag_lost"),),
    "daily_test": (lambda journal: _all_but(journal, lambda each: each.topic == "test"),),
    "tests_are_told": (
        lambda journal: _with(journal, _of(journal, overall="degraded"), tests={"overdue": []}),
    ),
    "told_times_are_true": (lambda journal: _with(journal, _of(journal, type="accepted"), late_s=60.0),),
}


def test_every_rule_is_tampered_with() -> None:
    assert set(TAMPERED) == set(RULES)


@pytest.fixture
def silence() -> Iterator[None]:
    """An alarm is no news here."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(240)  # 20 s of CPU, beside other tests
@pytest.mark.usefixtures("silence")
def test_a_day_holds_every_rule_and_each_could_have_fallen() -> None:
    """With outages, kills, reboots without the time, and clocks that are set.

    Where what was seen is altered against a rule, that one tells: otherwise the day would prove nothing. In
    one test, for the day takes long.
    """
    day = live(SEED, days=1, visits=VISITS, alarms=ALARMS)
    verdict = judge(day)
    assert verdict.against == []
    assert [name for name in WANTED if not verdict.counts[name]] == []
    blind = [
        (rule, number)
        for rule, changes in TAMPERED.items()
        for number, change in enumerate(changes)
        if not list(RULES[rule](View(change(day))))
    ]
    assert blind == []
    raised = _of(day, type="raised", mode="actual", cause="panic")
    what = f"pressed: {clock(raised.happened_s)} {raised.site}: expected"
    assert [line for line in judge(_without(day, raised)).against if line.startswith(what)]
