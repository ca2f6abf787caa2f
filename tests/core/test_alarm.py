"""The alarm: each rule by itself, then all of them against whatever comes in whatever order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alarming import (
    ADA,
    BOB,
    DAY_S,
    DURATION_S,
    ESCALATING,
    HEAD,
    HERE,
    NO_SOUND,
    ROUGH,
    SOUND,
    VISIT,
    World,
    recording,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gatewayd.core import topic
from gatewayd.core.alarm import (
    TABLE,
    Adopted,
    Alarm,
    AudioState,
    Cause,
    Chunked,
    Commanded,
    Event,
    Forget,
    Handling,
    Hop,
    HopKind,
    Positioned,
    Pressed,
    Publish,
    Raised,
    Resumed,
    Save,
    Settings,
    SoundEnded,
    SoundOpened,
    SoundUnavailable,
    Spent,
    StartAudio,
    StopAudio,
    Ticked,
    Trigger,
    adopt,
    from_json,
    retell,
    step,
    to_json,
)
from gatewayd.core.alarm.model import AT_IT, furthest
from gatewayd.core.alarm.step import CLOCK_S, FORGET_S
from gatewayd.core.command import Actor, Command, ListenStart, ListenStop, Order, Reply
from gatewayd.core.fields import Code
from gatewayd.core.handling import (
    Accept,
    Close,
    Decline,
    Escalate,
    Note,
    OnScene,
    Outcome,
    Raise,
    Raising,
    Received,
    Reopen,
    Respond,
    Review,
)
from gatewayd.core.model import (
    Auth,
    Body,
    ClockSource,
    Draft,
    Instant,
    Intent,
    Json,
    Keep,
    MessageClass,
    Mode,
    Press,
    TagEvent,
)
from gatewayd.core.uuid7 import derive

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture
def world() -> World:
    return World()


# --- the table ----------------------------------------------------------------------------------------------


def diagram() -> str:
    """The table as a picture and a list, for `docs/alarm.md`."""
    moves = [
        f"    {start} --> {end}: {trigger}"
        for trigger, row in TABLE.items()
        for start, ends in row.items()
        for end in ends
        if start is not end
    ]
    stays = [
        f"- `{trigger}` leaves it as it is: {', '.join(same)}"
        for trigger, row in TABLE.items()
        if (same := [f"`{start}`" for start, ends in row.items() if start in ends])
    ]
    picture = [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {Handling.RAISED}: {Trigger.RAISED}",
        *moves,
        "```",
    ]
    return "\n".join(["<!-- table -->", *picture, "", *stays, "<!-- /table -->"])


def test_the_picture_in_the_documentation_is_the_table() -> None:
    """When it is not: put what `diagram` returns there."""
    assert diagram() in (DOCS / "alarm.md").read_text()


def test_every_trigger_is_in_the_table() -> None:
    assert set(TABLE) == set(Trigger)


def test_only_people_and_tests_close() -> None:
    """What is closed is opened again by people alone."""
    closed = Handling.CLOSED
    assert [trigger for trigger, row in TABLE.items() if row.get(closed, (closed,)) != (closed,)] == [
        Trigger.REOPENED
    ]


# --- raising ------------------------------------------------------------------------------------------------


def test_a_press_raises_an_alarm_at_once(world: World) -> None:
    """Event, state, and what is stored, in one step, though there is no position and no sound yet."""
    heard = world.now
    world.after(0.004)
    alarm = world.press(heard=heard, counter=7, press_key="t-1:7", battery_pct=80, rssi_dbm=-60)
    [event] = world.events
    assert event.body == {
        "alarm": alarm.id,
        "type": "raised",
        "mode": "actual",
        "cause": "panic",
        "severity": "critical",
        "press_key": "t-1:7",
        "presses": 1,
        "tag": {
            "id": "t-1",
            "worker": "w-1",
            "battery_pct": 80,
            "rssi_dbm": -60,
            "counter": 7,
            "auth": "none",
            "format": "bthome",
            "event": "press",
            "feedback": "none",
        },
        "recent": [],
        "hops_ms": {"heard": 0, "decided": 4.0},
    }
    assert (event.at, event.message_class, event.keep) == (heard, MessageClass.ALARM, Keep.AT_ONCE)
    assert event.id == derive(alarm.id, "raised")
    state = next(draft for draft in world.drafts if draft.topic == topic.alarm_state(alarm.id))
    assert (state.message_class, state.keep) == (MessageClass.ALARM, Keep.AT_ONCE)
    assert (state.retain, state.replaces, state.expires_s) == (True, True, None)
    assert state.body["handling"] == "raised"
    assert world.effects.count(Save(alarm=world[alarm])) == 1


def test_a_raised_alarm_carries_the_position_there_is(world: World) -> None:
    """And up to two before it."""
    alarm = world.press(position=HERE, recent=(ROUGH, ROUGH))
    assert (world.events[0].body["position"], world.events[0].body["recent"]) == (HERE, [ROUGH, ROUGH])
    assert world.state(alarm)["position"] == HERE


def test_the_wired_button_has_no_tag(world: World) -> None:
    world.press("wired", None)
    assert world.events[0].body["cause"] == "wired"
    assert "tag" not in world.events[0].body
    assert "press_key" not in world.events[0].body
    assert world.press("wired", None).presses == 2


def test_an_alarm_id_that_is_used_is_replaced(world: World) -> None:
    alarm = world.press()
    assert Spent(alarm=alarm.id) in world.effects


def test_an_alarm_is_never_raised_over_another(world: World) -> None:
    """Should a used id not have been replaced, another derives from it."""
    alarm = world.press()
    again = Pressed(
        press=Press(tag="t-2", event=TagEvent.PRESS, heard=world.now),
        next_alarm_id=alarm.id,
        decided=world.now,
    )
    world.do(again)
    assert set(world.alarms) == {alarm.id, derive(alarm.id, "next")}


def test_a_press_heard_again_after_a_kill_is_the_same_alarm() -> None:
    """Nothing of the step was stored; the id was."""
    pressed = Pressed(
        press=Press(tag="t-1", event=TagEvent.PRESS, heard=World().now),
        next_alarm_id=World().new_id(),
        decided=World().now,
    )
    ids = []
    for _ in range(2):
        world = World()
        world.do(pressed)
        ids.append([draft.id for draft in world.events])
    assert ids[0] == ids[1]


# --- derived ------------------------------------------------------------------------------------------------


def test_what_no_press_called_for_is_an_alarm_all_the_same(world: World) -> None:
    """It says why, of whom and on which visit, has its place, and is listened to."""
    name = world.overdue()
    raised = world.events[0].body
    assert (raised["type"], raised["cause"], raised["severity"]) == ("raised", "overdue", "high")
    assert (raised["worker"], raised["visit"], raised["presses"]) == ("w-1", VISIT, 0)
    assert (raised["position"], raised["recent"]) == (HERE, [ROUGH])
    assert StartAudio(alarm=name) in world.effects
    alarm = world.alarms[name]
    assert from_json(to_json(alarm)) == alarm
    assert alarm.who == "worker w-1"


def test_raised_twice_under_one_id_it_has_one_effect(world: World) -> None:
    event = Raised(alarm=world.new_id(), cause=Cause.OVERDUE, at=world.now, worker="w-1", visit=VISIT)
    assert world.do(event) != ()
    assert world.do(event) == ()


def test_a_press_during_it_is_an_alarm_of_its_own(world: World) -> None:
    """A call for help is never counted on what was no press."""
    name = world.overdue()
    alarm = world.after(20).press()
    assert alarm.id != name
    assert world.events[0].body["cause"] == "panic"


def test_it_is_escalated_while_nobody_takes_it(world: World) -> None:
    world.settings = ESCALATING
    world.overdue()
    world.after(31).do(Ticked())
    assert (world.types, world.events[0].body["level"]) == (["escalated"], 1)
    assert world.events[0].body["visit"] == VISIT


@pytest.mark.parametrize("raised", [{"worker": "w-1"}, {"tag": "t-1"}])
def test_ops_who_hear_the_code_word_raise_duress_while_it_is_open(
    world: World, raised: dict[str, str]
) -> None:
    """They rang because the worker was overdue: that is no reason to refuse it."""
    world.settings = ESCALATING
    world.overdue()
    reply = world.command(Raise(cause=Raising.DURESS, **raised))
    assert (reply.code, world.types[0], world.events[0].body["cause"]) == (None, "raised", "duress")


def test_it_is_reopened_whatever_else_its_worker_has_open(world: World) -> None:
    """No press can be mistaken for one of it."""
    first = world.overdue()
    world.command(Close(alarm=first, outcome=Outcome.FALSE))
    world.overdue()
    world.command(Raise(cause=Raising.MANUAL, worker="w-1"))
    assert world.command(Reopen(alarm=first)).code is None
    assert world.alarms[first].handling is Handling.RECEIVED


def test_a_call_of_the_worker_is_reopened_while_it_is_open(world: World) -> None:
    world.command(Raise(cause=Raising.MANUAL, worker="w-1"))
    [call] = world.alarms.values()
    world.command(Close(alarm=call.id, outcome=Outcome.FALSE))
    world.overdue()
    assert world.command(Reopen(alarm=call.id)).code is None


def test_what_was_no_press_verifies_nobody(world: World) -> None:
    world.overdue()
    world.after(20).press("t-2", "w-2")
    assert "corroborated" not in world.types


# --- on a visit ---------------------------------------------------------------------------------------------


def test_an_alarm_tells_the_visit_it_was_raised_on(world: World) -> None:
    """And keeps it when the next press knows of none; a new emergency marks it as the one before."""
    alarm = world.press(visit=VISIT)
    assert world.events[0].body["visit"] == VISIT
    world.after(60).press()
    assert world[alarm].visit == VISIT
    for _ in range(2):
        world.after(700).press()
        assert (world.types[0], world.events[0].body["visit"]) == (
            "repeated",
            {"known_at": alarm.called, **VISIT},
        )
        assert world.state(alarm)["visit"]["known_at"] == alarm.called  # type: ignore[index,call-overload]
    world.after(700).press(visit=VISIT)
    assert world.events[0].body["visit"] == VISIT


def test_a_test_tells_nothing_of_the_visit(world: World) -> None:
    """It sends nobody: whoever tests a button at the door shall not spread whose door it is."""
    for seconds in (0, 20, 301, 301):
        world.after(seconds).press(mode=Mode.TEST, visit=VISIT)
        assert "visit" not in world.events[0].body


def test_a_press_on_another_visit_tells_of_that_one(world: World) -> None:
    """Whoever is sent is sent to where the worker is now."""
    world.press(visit=VISIT)
    alarm = world.after(20).press(visit={**VISIT, "id": "v-2"})
    world.command(Accept(alarm=alarm.id))
    told = world.events[0].body["visit"]
    assert isinstance(told, Mapping)
    assert told["id"] == "v-2"


def test_what_lies_at_the_broker_never_tells_the_address(world: World) -> None:
    """Nor what is said there: of the visit it has what the visit's own topic tells too."""
    alarm = world.press(visit=VISIT)
    lasting = {"id": "v-1", "worker": "w-1", "risk": "high", "expected_end_at": VISIT["expected_end_at"]}
    assert world.state(alarm)["visit"] == lasting
    _, effects = retell(world.alarms, world.now, world.settings)
    [again] = [effect.draft.body for effect in effects if isinstance(effect, Publish)]
    assert again["visit"] == lasting


def test_who_is_sent_is_told_the_address(world: World) -> None:
    """By the event by which people come to the alarm, also after a restart; no other event has it."""
    world.settings = ESCALATING
    alarm = world.press(visit=VISIT)
    world.reboot(31).do(Resumed())
    world.do(Ticked())
    assert (world.types, world.events[0].body["visit"]) == (["escalated"], VISIT)
    for order, told in (
        (Received(alarm=alarm.id), None),
        (Accept(alarm=alarm.id), VISIT),
        (Respond(alarm=alarm.id), VISIT),
        (OnScene(alarm=alarm.id), None),
        (Note(alarm=alarm.id, text="Nobody opens."), None),
        (Close(alarm=alarm.id, outcome=Outcome.REAL), None),
        (Reopen(alarm=alarm.id), None),
    ):
        assert world.command(order).code is None
        assert world.events[0].body.get("visit") == told


def test_an_alarm_read_back_from_the_broker_knows_the_visit_without_its_address(world: World) -> None:
    """The disk was lost: what is left is who, which visit, until when."""
    alarm = world.press(visit=VISIT)
    fresh = World(settings=ESCALATING)
    fresh.do(Adopted(alarm=adopt(retained(world, alarm))))
    fresh.command(Accept(alarm=alarm.id))
    told = fresh.events[0].body["visit"]
    assert isinstance(told, Mapping)
    assert (told["id"], told["worker"], "address" in told) == ("v-1", "w-1", False)


# --- pressing again -----------------------------------------------------------------------------------------


def test_pressed_again_within_ten_seconds_it_is_counted(world: World) -> None:
    """And saved, so that after a restart the same press is not told as a new one."""
    alarm = world.press()
    again = world.after(9.9).press()
    assert (again.id, again.presses) == (alarm.id, 2)
    assert world.effects == (Save(alarm=again),)


def test_pressed_again_later_it_is_repeated(world: World) -> None:
    """Never a second alarm while one is open; who took it keeps it."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id))
    again = world.after(10).press(counter=8, press_key="t-1:8")
    assert (again.id, again.handling, again.owner) == (alarm.id, Handling.ACCEPTED, ADA.body)
    [event] = world.events
    assert (event.body["type"], event.body["presses"], event.body["press_key"]) == ("repeated", 2, "t-1:8")
    assert "cause" not in event.body
    assert not any(isinstance(effect, StartAudio) for effect in world.effects)


def test_a_flood_of_presses_says_something_every_ten_seconds(world: World) -> None:
    """1,000 presses a second for a minute: six events, and the alarm does not grow."""
    alarm = world.press()
    events = []
    for _ in range(6000):
        world.after(0.01).press()
        events += world.types
    assert events == ["repeated"] * 5 + ["repeated"] * (len(events) - 5)
    assert len(events) in {5, 6}
    assert world[alarm].presses == 6001
    assert len(to_json(world[alarm])) < 4_000


def test_the_timeline_holds_the_latest_hundred(world: World) -> None:
    alarm = world.press()
    for _ in range(150):
        world.after(11).press()
    assert len(world[alarm].timeline) == 100
    assert world[alarm].timeline[0]["type"] == "repeated"


def test_more_than_ten_minutes_later_it_is_a_new_emergency(world: World) -> None:
    """Under the same id: all that `raised` carries, sound, and somebody has to take it again."""
    alarm = world.press(position=ROUGH)
    world.command(Accept(alarm=alarm.id))
    world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=HopKind.CONFIRMED, at=world.now))
    world.after(DURATION_S + 1).do(Ticked())
    again = world.press(position=HERE, recent=(ROUGH,))
    [event] = world.events
    assert event.body["type"] == "repeated"
    assert {"cause", "severity", "tag", "position", "recent", "hops_ms"} <= event.body.keys()
    assert (again.id, again.handling, again.owner, again.confirmed) == (alarm.id, Handling.RAISED, None, None)
    assert StartAudio(alarm=alarm.id) in world.effects
    assert world.state(alarm)["hops_ms"] == {"heard": 0, "decided": 0}


def test_ten_minutes_count_from_the_last_press(world: World) -> None:
    """Someone who presses every nine minutes is one emergency."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id))
    for _ in range(3):
        assert world.after(540).press().handling is Handling.ACCEPTED
    assert world.after(600).press().handling is Handling.ACCEPTED
    assert world.after(600.1).press().handling is Handling.RAISED


def test_a_repeated_press_heard_again_after_a_kill_has_the_same_id(world: World) -> None:
    """Another press another one."""
    world.press()
    world.after(11)
    before = world.alarms
    world.press(press_key="t-1:2")
    first = world.events[0].id
    world.alarms = before
    world.press(press_key="t-1:2")
    assert world.events[0].id == first
    world.after(11).press(press_key="t-1:2")
    assert world.events[0].id != first


@pytest.mark.parametrize("tag", ["t-1", "wired"])
@pytest.mark.parametrize("pause_s", [0.5, 700])
def test_another_press_without_a_key_after_a_kill_has_another_id(
    world: World, tag: str, pause_s: float
) -> None:
    """Nothing tells it from the one before; under that one's id consumers would drop it."""
    world.press(tag)
    world.after(700)
    before = world.alarms
    world.press(tag)
    first = world.events[0].id
    world.alarms = before
    alarm = world.after(pause_s).press(tag)
    assert world.events[0].id != first
    assert world.events[0].id == alarm.call_id


def test_a_press_after_a_reboot_with_no_clock_is_a_new_emergency() -> None:
    """How long ago the last one was nobody can tell."""
    world = World()
    world.press()
    assert world.reboot(30, ClockSource.NONE).press().called == world.now
    assert world.types == ["repeated"]


def test_a_press_after_a_short_reboot_is_a_repeated_one(world: World) -> None:
    alarm = world.press()
    again = world.reboot(30).press()
    assert (again.id, again.called) == (alarm.id, alarm.called)


@pytest.mark.parametrize("behind_s", [1, 60, DAY_S])
def test_a_press_after_a_reboot_with_a_clock_that_lies_behind_is_a_new_emergency(behind_s: float) -> None:
    """The last press seems to lie ahead: it is not waited for."""
    world = World()
    world.press()
    assert world.reboot(-behind_s).press().called == world.now
    assert world.types == ["repeated"]


def test_an_emergency_is_never_part_of_a_test(world: World) -> None:
    """Nor the other way round: each mode has its own alarm."""
    test = world.press(mode=Mode.TEST)
    actual = world.press()
    assert world.types == ["raised"]
    assert actual.id != test.id
    assert world.press(mode=Mode.TEST).id == test.id
    assert world.press().id == actual.id


def test_a_closed_alarm_takes_no_press(world: World) -> None:
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    assert world.after(1).press().id != alarm.id


# --- two workers --------------------------------------------------------------------------------------------


def corroborated(world: World) -> list[tuple[object, object]]:
    return [
        (draft.body["alarm"], draft.body["corroborated_by"])
        for draft in world.events
        if draft.body["type"] == "corroborated"
    ]


def test_presses_of_two_workers_within_two_minutes_verify_each_other(world: World) -> None:
    """Both alarms are marked, once."""
    one = world.press("t-1", "w-1")
    two = world.after(120).press("t-2", "w-2")
    assert sorted(corroborated(world), key=str) == sorted([(one.id, [two.id]), (two.id, [one.id])], key=str)
    assert world.state(one)["corroborated_by"] == [two.id]
    world.after(11).press("t-2", "w-2")
    assert corroborated(world) == []


def test_a_third_worker_is_marked_by_itself(world: World) -> None:
    world.press("t-1", "w-1")
    world.press("t-2", "w-2")
    three = world.press("t-3", "w-3")
    assert [alarm for alarm, _ in corroborated(world)] == [three.id]


@pytest.mark.parametrize(
    ("tag", "worker", "seconds", "more"),
    [
        ("t-2", "w-1", 0, {}),  # a worker with two tags
        ("t-2", "w-2", 120.1, {}),
        ("t-2", "w-2", 0, {"mode": Mode.TEST}),
        ("t-2", "w-2", 0, {"auth": Auth.FAILED}),
        ("t-2", "w-2", 0, {"auth": Auth.REPLAYED}),
    ],
)
def test_nothing_else_does(world: World, tag: str, worker: str, seconds: float, more: dict[str, Any]) -> None:
    """One worker with two tags, too late, a test, a press that did not prove itself."""
    world.press("t-1", "w-1")
    world.after(seconds).press(tag, worker, **more)
    assert corroborated(world) == []


def test_a_press_does_not_verify_one_that_did_not_prove_itself(world: World) -> None:
    world.press("t-1", "w-1", auth=Auth.FAILED)
    world.press("t-2", "w-2")
    assert corroborated(world) == []


def test_a_press_from_before_a_clock_that_lies_behind_verifies_nothing(world: World) -> None:
    """It may have been yesterday's."""
    world.press("t-1", "w-1")
    world.reboot(-DAY_S).press("t-2", "w-2")
    assert corroborated(world) == []


def test_presses_of_one_moment_verify_each_other_in_whichever_order_they_come(world: World) -> None:
    """One may have been decided later than the other."""
    world.press("t-1", "w-1")
    world.press("t-2", "w-2", heard=replace(world.now, mono_s=world.now.mono_s - 0.05))
    assert len(corroborated(world)) == 2


def test_a_tag_without_a_worker_is_somebody_of_its_own(world: World) -> None:
    world.press("t-1", None)
    world.press("t-2", None)
    assert len(corroborated(world)) == 2


@pytest.mark.parametrize("tags", [("t-1", "wired"), ("wired", "t-1")])
def test_the_wired_button_verifies_nobody(world: World, tags: tuple[str, str]) -> None:
    """Whose hand it was nobody knows: the worker's own, back in the car."""
    for tag in tags:
        world.press(tag, None if tag == "wired" else "w-1")
        assert corroborated(world) == []


def test_a_closed_alarm_verifies_nothing(world: World) -> None:
    alarm = world.press("t-1", "w-1")
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    world.press("t-2", "w-2")
    assert corroborated(world) == []


# --- position -----------------------------------------------------------------------------------------------


def positions(world: World) -> list[MessageClass]:
    return [draft.message_class for draft in world.events if draft.body["type"] == "position"]


@pytest.mark.parametrize(("raised", "found"), [(None, ROUGH), (None, HERE), (ROUGH, HERE)])
def test_a_better_position_follows_at_once(world: World, raised: Body | None, found: Body) -> None:
    """With the alarm's priority, and in the state."""
    alarm = world.press(position=raised)
    world.do(Positioned(position=found))
    assert positions(world) == [MessageClass.ALARM]
    assert world.state(alarm)["position"] == found


@pytest.mark.parametrize(("raised", "found"), [(HERE, HERE), (HERE, ROUGH), (ROUGH, ROUGH)])
def test_one_no_better_waits_for_its_time(world: World, raised: Body, found: Body) -> None:
    world.press(position=raised)
    world.after(4.9).do(Positioned(position=found))
    assert positions(world) == []
    world.after(0.1).do(Positioned(position=found))
    assert positions(world) == [MessageClass.ALARM]


def test_later_positions_go_every_five_seconds_then_every_thirty(world: World) -> None:
    """With a position's priority. The state follows every 30 s: it is larger than they are."""
    alarm = world.press()
    told, states = [], 0
    for second in range(1200):
        world.do(Positioned(position=HERE))
        if positions(world):
            told.append((second, positions(world)))
        states += any(draft.topic == topic.alarm_state(alarm.id) for draft in world.drafts)
        world.after(1)
    assert [second for second, _ in told] == [*range(0, 600, 5), *range(625, 1200, 30)]
    assert [classes for _, classes in told[1:]] == [[MessageClass.POSITION]] * (len(told) - 1)
    assert states == 1 + 1200 // 30 - 1
    assert len(world[alarm].timeline) == 1


def test_a_clock_that_lies_behind_holds_no_position_back(world: World) -> None:
    """Neither the first nor a later one."""
    world.press(position=HERE)
    world.after(5).do(Positioned(position=HERE))
    world.reboot(-DAY_S).do(Resumed())
    world.do(Positioned(position=HERE))
    assert positions(world) == [MessageClass.POSITION]


def told_after(world: World, event: Event, alarm: Alarm) -> Json:
    """The position in the state that is told next after this."""
    world.do(event)
    world.command(Received(alarm=alarm.id))
    return world.state(alarm)["position"]


def test_a_position_from_before_a_restart_is_the_last_known(world: World) -> None:
    """Not trusted, and of no age that anybody knows; a new one is told at once."""
    alarm = world.press(position={**HERE, "age_s": 0.5})
    world.reboot(30)
    assert told_after(world, Resumed(), alarm) == {**HERE, "trusted": False, "method": "last_known"}
    world.do(Positioned(position=HERE))
    assert positions(world) == [MessageClass.ALARM]


def test_where_a_hub_stands_outlasts_a_restart(world: World) -> None:
    hub: Body = {"lat": 52.0, "lon": 5.0, "trusted": True, "subject": "hub", "method": "hub_fixed"}
    alarm = world.press(position=hub)
    world.reboot(30)
    assert told_after(world, Resumed(), alarm) == hub


def test_an_alarm_without_a_position_has_none_after_a_restart(world: World) -> None:
    alarm = world.press()
    world.reboot(30).do(Resumed())
    assert world[alarm].position is None


def test_a_closed_alarm_gets_no_position(world: World) -> None:
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.REAL))
    assert world.do(Positioned(position=HERE)) == ()


# --- delivery -----------------------------------------------------------------------------------------------


def test_the_hops_of_a_call_are_noted_once_and_wait_for_the_next_telling(world: World) -> None:
    alarm = world.press()
    for kind, ms in ((HopKind.PUBLISHED, 2), (HopKind.STORED, 3), (HopKind.CONFIRMED, 4)):
        at = replace(world.now, mono_s=world.now.mono_s + ms / 1000)
        effects = world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=kind, at=at))
        assert effects == (Save(alarm=world[alarm]),)
        late = replace(at, mono_s=at.mono_s + 9)
        assert world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=kind, at=late)) == ()
    world.after(11).press()
    state = world.state(alarm)
    assert state["hops_ms"] == {"heard": 0, "decided": 0, "published": 2, "stored": 3, "confirmed": 4}
    assert isinstance(state["delivery"], Mapping)
    assert state["delivery"].keys() == {"stored_at", "confirmed_at"}


def test_a_hop_after_a_reboot_with_no_clock_has_no_figure(world: World) -> None:
    """It has arrived; how long it took nobody can tell."""
    alarm = world.press()
    world.reboot(30, ClockSource.NONE)
    world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=HopKind.CONFIRMED, at=world.now))
    assert world[alarm].confirmed == world.now
    assert "confirmed" not in world[alarm].hops_ms


@pytest.mark.parametrize("name", ["t", ""])
def test_other_hops_are_not_noted(world: World, name: str) -> None:
    """Of another message, of an alarm nobody knows."""
    alarm = world.press()
    known = alarm.id if name else "gone"
    assert world.do(Hop(alarm=known, message="other", kind=HopKind.STORED, at=world.now)) == ()


# --- sound --------------------------------------------------------------------------------------------------


def test_an_alarm_opens_the_microphone(world: World) -> None:
    """After what it says; the sound follows in its own time."""
    alarm = world.press()
    assert [type(effect) for effect in world.effects] == [Spent, Publish, StartAudio, Publish, Save]
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert world.types == ["audio_started"]
    audio = world.state(alarm)["audio"]
    assert isinstance(audio, Mapping)
    assert (audio["state"], audio["live"], audio["codec"], audio["head"]) == ("recording", True, "opus", HEAD)
    missing: Body = {"at": alarm.opened, "duration_ms": 40, "cause": "overrun", "filled": True}
    world.do(Chunked(alarm=alarm.id, chunks=8))
    assert world.effects == ()
    world.do(Chunked(alarm=alarm.id, chunks=9, gaps=(missing,)))
    world.do(SoundEnded(alarm=alarm.id))
    assert world.types == ["audio_ended"]
    audio = world.state(alarm)["audio"]
    assert isinstance(audio, Mapping)
    assert (audio["chunks"], audio["gaps"]) == (9, [missing])


def test_a_gap_is_not_forgotten_by_a_kill(world: World) -> None:
    """It is saved with the chunk that stands for it, not only when something else is told."""
    alarm = world.press()
    missing: Body = {"at": alarm.opened, "duration_ms": 900, "cause": "restart", "filled": False}
    world.do(Chunked(alarm=alarm.id, chunks=2, gaps=(missing,)))
    (saved,) = world.effects
    assert isinstance(saved, Save)
    assert saved.alarm.audio.gaps == (missing,)


def test_the_last_chunk_is_told_after_the_recording_was_stopped(world: World) -> None:
    """It is made after the alarm's part has ended; the state then tells the right number."""
    alarm = world.press()
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    world.after(SOUND.duration_s)
    world.do(Ticked())
    assert world.types == ["audio_ended"]
    world.do(Chunked(alarm=alarm.id, chunks=10))
    world.do(SoundEnded(alarm=alarm.id))
    assert world.types == []
    audio = world.state(alarm)["audio"]
    assert isinstance(audio, Mapping)
    assert audio["chunks"] == 10


@pytest.mark.parametrize(("mode", "settings"), [(Mode.TEST, SOUND), (Mode.ACTUAL, NO_SOUND)])
def test_a_test_does_not_nor_without_a_microphone(mode: Mode, settings: Settings) -> None:
    world = World(settings=settings)
    alarm = world.press(mode=mode)
    assert alarm.audio.state is AudioState.OFF
    assert not any(isinstance(effect, StartAudio) for effect in world.effects)


def test_a_microphone_that_does_not_deliver_is_told_once_per_reason(world: World) -> None:
    """And that it delivers after all."""
    alarm = world.press()
    world.do(SoundUnavailable(alarm=alarm.id, reason="no such device"))
    assert world.types == ["audio_unavailable"]
    assert world.events[0].body["reason"] == "no such device"
    world.do(SoundUnavailable(alarm=alarm.id, reason="no such device"))
    assert world.types == []
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert world.types == ["audio_started"]
    world.do(SoundUnavailable(alarm=alarm.id, reason="unplugged"))
    assert world.types == ["audio_unavailable"]


def test_the_recording_ends_with_its_duration(world: World) -> None:
    alarm = world.press()
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    world.after(DURATION_S - 0.1).do(Ticked())
    assert world.effects == ()
    world.after(0.1).do(Ticked())
    assert world.types == ["audio_ended"]
    assert world.effects.count(StopAudio(alarm=alarm.id)) == 1
    world.do(SoundEnded(alarm=alarm.id))
    assert world.types == []  # it was told when its time was up
    assert world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD)) == ()


@pytest.mark.parametrize(
    "event", [SoundOpened(alarm="x", codec="opus", head=HEAD), Chunked(alarm="x", chunks=1)]
)
def test_sound_of_an_alarm_nobody_knows_is_ignored(world: World, event: Event) -> None:
    assert world.do(event) == ()


def left_s(world: World, alarm: Alarm) -> float:
    """For how long the alarm still wants sound."""
    ends = world[alarm].audio.ends
    assert ends is not None
    assert ends.boot == world.now.boot
    return ends.mono_s - world.now.mono_s


def test_an_alarm_raised_meanwhile_is_recorded_in_the_first(world: World) -> None:
    """It says where, and extends the recording; nothing is opened twice."""
    one = recording(world)
    world.after(60)
    two = world.press("t-2", "w-1")
    assert world.types == ["raised", "audio_started"]
    assert world.events[1].body["recorded_in"] == one.id
    assert not any(isinstance(effect, StartAudio) for effect in world.effects)
    world.after(DURATION_S - 60).do(Ticked())
    assert world.effects == ()  # the second still wants it
    world.after(60).do(Ticked())
    assert sorted(str(draft.body["alarm"]) for draft in world.events) == sorted([one.id, two.id])
    assert StopAudio(alarm=one.id) in world.effects


def test_the_second_alarm_waits_with_the_first(world: World) -> None:
    """Raised while the microphone opens, it is told when it does."""
    one = world.press()
    world.press("t-2", "w-1")
    assert world.types == ["raised"]
    world.do(SoundOpened(alarm=one.id, codec="opus", head=HEAD))
    assert world.types == ["audio_started", "audio_started"]


def test_the_second_alarm_learns_that_there_is_no_sound(world: World) -> None:
    one = world.press()
    world.do(SoundUnavailable(alarm=one.id, reason="no such device"))
    world.press("t-2", "w-1")
    assert world.types == ["raised", "audio_unavailable"]
    assert world.events[1].body["reason"] == "no such device"


def test_closing_ends_the_recording(world: World) -> None:
    alarm = recording(world)
    world.command(Close(alarm=alarm.id, outcome=Outcome.REAL))
    assert world.types == ["audio_ended", "closed"]
    assert StopAudio(alarm=alarm.id) in world.effects


def test_closing_leaves_the_recording_to_an_alarm_that_wants_it(world: World) -> None:
    """Though it belongs to the closed one."""
    one = recording(world)
    two = world.press("t-2", "w-1")
    world.command(Close(alarm=one.id, outcome=Outcome.REAL))
    assert world.types == ["closed"]
    assert not any(isinstance(effect, StopAudio) for effect in world.effects)
    world.command(Close(alarm=two.id, outcome=Outcome.REAL))
    assert [(draft.body["alarm"], draft.body["type"]) for draft in world.events] == [
        (one.id, "audio_ended"),
        (two.id, "audio_ended"),
        (two.id, "closed"),
    ]
    assert StopAudio(alarm=one.id) in world.effects


def test_closing_the_second_leaves_the_recording_to_the_first(world: World) -> None:
    recording(world)
    two = world.press("t-2", "w-1")
    world.command(Close(alarm=two.id, outcome=Outcome.REAL))
    assert world.types == ["audio_ended", "closed"]
    assert not any(isinstance(effect, StopAudio) for effect in world.effects)


def test_a_recording_goes_on_after_a_restart_for_what_is_left(world: World) -> None:
    alarm = recording(world)
    world.reboot(100).do(Resumed())
    assert StartAudio(alarm=alarm.id) in world.effects
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert world.types == ["audio_started"]
    world.after(DURATION_S - 100.1).do(Ticked())
    assert world.types == []
    world.after(0.1).do(Ticked())
    assert world.types == ["audio_ended"]


def test_a_recording_that_is_over_after_a_restart_is_told_so(world: World) -> None:
    recording(world)
    world.reboot(DURATION_S + 1).do(Resumed())
    assert world.types == ["audio_ended"]
    assert not any(isinstance(effect, StartAudio) for effect in world.effects)


def test_a_recording_goes_on_in_full_where_nobody_knows_how_long_it_was_dark(world: World) -> None:
    alarm = recording(world)
    world.reboot(0, ClockSource.NONE).do(Resumed())
    assert StartAudio(alarm=alarm.id) in world.effects
    assert left_s(world, alarm) == DURATION_S


@pytest.mark.parametrize("asked_s", [None, 60, 3_600])
def test_a_clock_that_lies_behind_keeps_no_microphone_open(world: World, asked_s: int | None) -> None:
    """A day behind, a day seems to be left: it is the configured duration that goes on."""
    alarm = recording(world)
    if asked_s is not None:
        world.command(ListenStart(alarm=alarm.id, max_s=asked_s))
    world.reboot(-DAY_S).do(Resumed())
    assert StartAudio(alarm=alarm.id) in world.effects
    assert left_s(world, alarm) == DURATION_S


def test_a_longer_listening_goes_on_after_a_restart_for_what_is_left(world: World) -> None:
    """Longer than the configured duration, for somebody asked for it."""
    alarm = recording(world)
    world.command(ListenStart(alarm=alarm.id, max_s=3_600))
    world.reboot(100).do(Resumed())
    assert left_s(world, alarm) == 3_500


def test_a_recording_does_not_go_on_without_a_microphone(world: World) -> None:
    recording(world)
    world.settings = NO_SOUND
    world.reboot(1).do(Resumed())
    assert world.types == ["audio_ended"]


def test_starting_with_nothing_does_nothing(world: World) -> None:
    assert world.do(Resumed()) == ()


def test_a_part_in_a_recording_that_is_lost_ends(world: World) -> None:
    """What was stored of the alarm it belonged to was damaged."""
    one = recording(world)
    world.press("t-2", "w-1")
    world.alarms = {name: alarm for name, alarm in world.alarms.items() if name != one.id}
    world.reboot(1).do(Resumed())
    assert world.types == ["audio_ended"]
    assert not any(isinstance(effect, StartAudio | StopAudio) for effect in world.effects)


# --- people -------------------------------------------------------------------------------------------------


def test_an_alarm_is_received_accepted_and_closed(world: World) -> None:
    """Each by somebody, in the event, the timeline and the state."""
    alarm = world.press()
    assert world.command(Received(alarm=alarm.id), BOB).code is None
    assert world.state(alarm)["handling"] == "received"
    assert world.command(Accept(alarm=alarm.id), ADA).code is None
    assert (world.state(alarm)["handling"], world.state(alarm)["owner"]) == ("accepted", ADA.body)
    order = Close(alarm=alarm.id, outcome=Outcome.REAL, police="P-17", lesson="Knock first.")
    assert world.command(order, ADA).code is None
    closed = world.events[-1].body
    assert (closed["outcome"], closed["police"], closed["lesson"]) == ("real", "P-17", "Knock first.")
    assert [(entry["type"], entry.get("actor")) for entry in world[alarm].timeline] == [
        ("raised", None),
        ("received", BOB.body),
        ("accepted", ADA.body),
        ("audio_ended", ADA.body),
        ("closed", ADA.body),
    ]


def test_the_state_of_a_closed_alarm_leaves_the_broker_after_seven_days(world: World) -> None:
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    [state] = [draft for draft in world.drafts if draft.topic == topic.alarm_state(alarm.id)]
    assert state.expires_s == 604_800
    assert (state.body["handling"], state.body["outcome"]) == ("closed", "false")


def test_a_broker_that_forgot_is_told_every_state_again(world: World) -> None:
    """Open and closed, as they stand, behind new alarms; a closed one leaves when it would have anyway."""
    closed = world.press(tag="t-1")
    world.command(Close(alarm=closed.id, outcome=Outcome.FALSE))
    world.after(3_600.0)
    open_one = world.press(tag="t-2", worker="w-2")
    world.after(10.0)
    world.alarms, world.effects = retell(world.alarms, world.now, world.settings)
    assert world.types == []
    assert world.state(open_one)["handling"] == "raised"
    assert {draft.topic: draft.expires_s for draft in world.drafts} == {
        topic.alarm_state(closed.id): 604_800 - 3_610,
        topic.alarm_state(open_one.id): None,
    }
    assert [draft.message_class for draft in world.drafts] == [MessageClass.TELEMETRY, MessageClass.STATE]
    world.reboot(0.0, ClockSource.NONE)
    world.alarms, world.effects = retell(world.alarms, world.now, world.settings)
    assert {draft.expires_s for draft in world.drafts} == {604_800, None}


def test_an_alarm_may_be_accepted_straight_away(world: World) -> None:
    alarm = world.press()
    assert world.command(Accept(alarm=alarm.id)).code is None
    assert world[alarm].handling is Handling.ACCEPTED


def test_a_console_that_shows_an_accepted_alarm_does_not_set_it_back(world: World) -> None:
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    assert world.command(Received(alarm=alarm.id), BOB).code is None
    assert (world[alarm].handling, world[alarm].owner) == (Handling.ACCEPTED, ADA.body)
    assert world[alarm].timeline[-1]["actor"] == BOB.body


def test_nobody_takes_an_alarm_that_somebody_has(world: World) -> None:
    """The reply says who."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    reply = world.command(Accept(alarm=alarm.id), BOB)
    assert reply.code is Code.CONFLICT
    assert "accepted, taken by Ada" in reply.message
    assert world.types == []


def test_who_has_it_may_say_so_again(world: World) -> None:
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), BOB)
    assert world.command(Accept(alarm=alarm.id), BOB).code is None
    assert world.types == []


@pytest.mark.parametrize("kind", [Received, Accept])
def test_a_closed_alarm_is_a_conflict(world: World, kind: type[Received | Accept]) -> None:
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    reply = world.command(kind(alarm=alarm.id))
    assert reply.code is Code.CONFLICT
    assert "this one is closed" in reply.message
    assert world.command(Close(alarm=alarm.id, outcome=Outcome.REAL)).code is Code.CONFLICT
    assert world[alarm].outcome is Outcome.FALSE


@pytest.mark.parametrize(
    "order", [Received(alarm="x"), Accept(alarm="x"), Close(alarm="x", outcome=Outcome.REAL)]
)
def test_an_alarm_nobody_knows_is_unknown(world: World, order: Order) -> None:
    assert world.command(order).code is Code.UNKNOWN
    assert world.events == []


def test_a_command_carried_out_again_after_a_kill_is_told_under_the_same_id(world: World) -> None:
    """What it did was not stored, and the broker delivers it again."""
    alarm = world.press()
    command = Commanded(command=Command(id="c-1", actor=ADA, order=Accept(alarm=alarm.id)))
    before = world.alarms
    world.do(command)
    first = world.events[0].id
    world.alarms = before
    world.do(command)
    assert world.events[0].id == first


def test_listening_starts_again(world: World) -> None:
    """By whom is told."""
    alarm = recording(world)
    world.after(DURATION_S).do(Ticked())
    assert world.command(ListenStart(alarm=alarm.id, max_s=60), BOB).code is None
    assert StartAudio(alarm=alarm.id) in world.effects
    assert left_s(world, alarm) == 60
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert world.events[0].body["actor"] == BOB.body


def test_the_end_of_the_recording_before_does_not_end_the_next(world: World) -> None:
    """Stopped and started again at once, the old one's last chunk comes after the new one was asked for."""
    alarm = recording(world)
    world.command(ListenStop())
    world.command(ListenStart(alarm=alarm.id, max_s=60))
    world.do(SoundEnded(alarm=alarm.id))
    assert world.types == []  # it was told when its time was up
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert world.types == ["audio_started"]


def test_the_end_of_ones_own_recording_does_not_end_the_part_in_anothers(world: World) -> None:
    """It was stopped, and the alarm is recorded in another's by the time its last chunk comes."""
    alarm = recording(world)
    world.command(ListenStop())
    other = world.press("t-2", "w-2")
    world.command(ListenStart(alarm=alarm.id, max_s=60))
    assert world[alarm].audio.recorded_in == other.id
    for late in (SoundEnded(alarm=alarm.id), SoundUnavailable(alarm=alarm.id, reason="unplugged")):
        world.do(late)
        assert (world.types, world[alarm].audio.state) == ([], AudioState.STARTING)


def test_listening_goes_on_for_longer(world: World) -> None:
    alarm = recording(world)
    world.after(60)
    assert world.command(ListenStart(alarm=alarm.id), BOB).code is None
    assert left_s(world, alarm) == DURATION_S
    assert world.types == ["audio_started"]
    assert world.events[0].body["actor"] == BOB.body


def test_listening_never_gets_shorter(world: World) -> None:
    alarm = recording(world)
    world.command(ListenStart(alarm=alarm.id, max_s=1))
    assert left_s(world, alarm) == DURATION_S


def test_listening_joins_a_recording(world: World) -> None:
    """An alarm whose own has ended."""
    one = recording(world)
    world.after(DURATION_S).do(Ticked())
    two = recording(world, "t-2")
    world.command(ListenStart(alarm=one.id, max_s=30))
    assert world.types == ["audio_started"]
    assert world.events[0].body["recorded_in"] == two.id
    world.after(30).do(Ticked())
    assert [draft.body["alarm"] for draft in world.events] == [one.id]


def test_listening_is_refused_without_an_open_alarm(world: World) -> None:
    """Nobody is listened to without one; a test does not open the microphone."""
    assert world.command(ListenStart(alarm="x")).code is Code.REFUSED
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    assert world.command(ListenStart(alarm=alarm.id)).code is Code.REFUSED
    test = world.press(mode=Mode.TEST)
    assert world.command(ListenStart(alarm=test.id)).code is Code.REFUSED


def test_a_closed_alarm_is_listened_to_on_a_legal_basis_that_is_told() -> None:
    """And for as long as was asked for; an alarm that nobody knows is not, nor a test."""
    world = World(settings=replace(SOUND, listen_basis="court order 12/34"))
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    world.do(SoundEnded(alarm=alarm.id))
    assert world.command(ListenStart(alarm=alarm.id, max_s=60)).code is None
    assert StartAudio(alarm=alarm.id) in world.effects
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head="T2dn"))
    (started,) = world.events
    assert started.body["basis"] == "court order 12/34"
    world.after(30).do(Ticked())
    assert world.effects == ()
    world.after(31).do(Ticked())
    assert StopAudio(alarm=alarm.id) in world.effects
    assert world.command(ListenStart(alarm="x")).code is Code.REFUSED


@pytest.mark.parametrize(("dark_s", "source"), [(0, ClockSource.NONE), (-DAY_S, ClockSource.NTP)])
def test_a_closed_alarm_is_not_listened_to_on_where_nobody_knows_how_long_it_was(
    dark_s: float, source: ClockSource
) -> None:
    """Who is in no danger is not heard on a doubt."""
    world = World(settings=replace(SOUND, listen_basis="court order 12/34"))
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    world.do(SoundEnded(alarm=alarm.id))
    world.command(ListenStart(alarm=alarm.id, max_s=60))
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head="T2dn"))
    world.reboot(dark_s, source).do(Resumed())
    assert world.types == ["audio_ended"]
    assert not any(isinstance(effect, StartAudio) for effect in world.effects)


def test_listening_to_an_open_alarm_needs_no_basis_and_tells_none() -> None:
    world = World(settings=replace(SOUND, listen_basis="court order 12/34"))
    alarm = world.press()
    world.do(SoundOpened(alarm=alarm.id, codec="opus", head="T2dn"))
    assert "basis" not in world.events[0].body


def test_listening_is_unavailable_without_a_microphone() -> None:
    world = World(settings=NO_SOUND)
    alarm = world.press()
    assert world.command(ListenStart(alarm=alarm.id)).code is Code.UNAVAILABLE


def test_listening_stops(world: World) -> None:
    """For everyone, by somebody; there is nothing to stop after that."""
    alarm = recording(world)
    world.press("t-2", "w-1")
    assert world.command(ListenStop(), BOB).code is None
    assert world.types == ["audio_ended", "audio_ended"]
    assert {str(draft.body["actor"]) for draft in world.events} == {str(BOB.body)}
    assert StopAudio(alarm=alarm.id) in world.effects
    assert world.command(ListenStop()).code is Code.CONFLICT


# --- time passes --------------------------------------------------------------------------------------------


def test_no_alarm_that_is_meant_is_closed_by_time(world: World) -> None:
    alarm = world.press()
    exercise = world.press("t-2", mode=Mode.EXERCISE)
    for _ in range(100):
        world.after(DAY_S).do(Ticked())
    assert world[alarm].handling is world[exercise].handling is Handling.RAISED


def test_a_test_ends_ten_minutes_after_its_last_press(world: World) -> None:
    alarm = world.press(mode=Mode.TEST)
    world.after(600).do(Ticked())
    assert world[alarm].open
    world.after(0.1).do(Ticked())
    assert world.types == ["closed"]
    assert world[alarm].outcome is Outcome.TEST


def test_a_test_ends_with_its_window(world: World) -> None:
    """However late its last press came, and across a restart."""
    alarm = world.press(mode=Mode.TEST, test_s=60.0)
    world.after(50)
    assert world.press(mode=Mode.TEST, test_s=10.0).id == alarm.id
    assert from_json(to_json(world[alarm])) == world[alarm]
    world.after(9.9).do(Ticked())
    assert world[alarm].open
    world.after(0.1).do(Ticked())
    assert not world[alarm].open


def test_a_press_after_its_window_is_no_part_of_a_test(world: World) -> None:
    """Though nothing has closed it yet, and though it is a test itself."""
    alarm = world.press(mode=Mode.TEST, test_s=60.0)
    assert world.after(60).press(mode=Mode.TEST).id != alarm.id
    assert world.press().id not in {
        alarm.id,
        *(each.id for each in world.alarms.values() if each.mode is Mode.TEST),
    }


def test_a_test_opens_the_microphone_if_it_is_configured() -> None:
    world = World(settings=replace(SOUND, test_audio=True))
    alarm = world.press(mode=Mode.TEST)
    assert StartAudio(alarm=alarm.id) in world.effects
    assert world.command(ListenStart(alarm=alarm.id)).code is None


def test_a_closed_alarm_is_erased_within_a_day_after_the_broker_had_its_closing(world: World) -> None:
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    closing = str(world[alarm].closing_id)
    assert world.events[-1].id == closing
    world.after(5 * DAY_S).do(Ticked())
    assert alarm.id in world.alarms  # the broker still takes it for open
    assert world.do(Hop(alarm=alarm.id, message=closing, kind=HopKind.PUBLISHED, at=world.now)) == ()
    arrived = Hop(alarm=alarm.id, message=closing, kind=HopKind.CONFIRMED, at=world.now)
    assert world.do(arrived) == (Save(alarm=world[alarm]),)
    assert world.do(arrived) == ()
    world.after(FORGET_S).do(Ticked())
    assert alarm.id in world.alarms
    assert world.after(1).do(Ticked()) == (Forget(alarm=alarm.id),)
    assert not world.alarms
    assert FORGET_S < DAY_S


def test_an_alarm_whose_recording_is_not_proved_yet_is_not_erased(world: World) -> None:
    """However soon it is reviewed: its manifest goes out first."""
    alarm = recording(world)
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    closing = str(world[alarm].closing_id)
    world.command(Review(alarm=alarm.id))
    world.do(Hop(alarm=alarm.id, message=closing, kind=HopKind.CONFIRMED, at=world.now))
    assert world.after(1).do(Ticked(unproved=frozenset({alarm.id}))) == ()
    assert world.after(1).do(Ticked()) == (Forget(alarm=alarm.id),)


def test_a_closed_alarm_whose_closing_was_never_confirmed_is_erased_with_its_state(world: World) -> None:
    """By then its state has left the broker."""
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    world.after(7 * DAY_S).do(Ticked())
    assert alarm.id in world.alarms
    assert world.after(1).do(Ticked()) == (Forget(alarm=alarm.id),)


@pytest.mark.parametrize(("seconds", "source"), [(60, ClockSource.NONE), (-DAY_S, ClockSource.NTP)])
def test_a_closed_alarm_is_not_erased_where_nobody_knows_when_it_was_closed(
    world: World, seconds: float, source: ClockSource
) -> None:
    """The broker may still take it for open."""
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    world.reboot(seconds, source).do(Resumed())
    assert world.do(Ticked()) == ()
    assert alarm.id in world.alarms


def test_a_closed_alarm_is_not_erased_while_another_is_recorded_in_it(world: World) -> None:
    one = recording(world)
    two = world.press("t-2", "w-1")
    world.command(Close(alarm=one.id, outcome=Outcome.REAL))
    closing = str(world[one].closing_id)
    world.do(Hop(alarm=one.id, message=closing, kind=HopKind.CONFIRMED, at=world.now))
    world.command(Review(alarm=one.id))
    world.reboot(1, ClockSource.NONE).do(Resumed())
    assert world.do(Ticked()) == ()
    world.command(Close(alarm=two.id, outcome=Outcome.REAL))
    assert world.do(Ticked()) == (Forget(alarm=one.id),)


def test_a_closed_alarm_is_still_known_after_a_reboot_without_the_time(world: World) -> None:
    """It may have been closed by mistake a moment ago; soon there will be a clock. If not, it is erased."""
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    closing = str(world[alarm].closing_id)
    world.do(Hop(alarm=alarm.id, message=closing, kind=HopKind.CONFIRMED, at=world.now))
    world.reboot(60, ClockSource.NONE).do(Resumed())
    assert world.do(Ticked()) == ()
    assert world.command(Reopen(alarm=alarm.id)).code is None
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    closing = str(world[alarm].closing_id)
    world.now = replace(world.now, source=ClockSource.NTP)
    world.do(Hop(alarm=alarm.id, message=closing, kind=HopKind.CONFIRMED, at=world.now))
    world.reboot(60, ClockSource.NONE).after(CLOCK_S - 2)
    assert world.do(Ticked()) == ()
    assert world.after(1).do(Ticked()) == (Forget(alarm=alarm.id),)


def test_what_ops_wrote_when_they_closed_it_does_not_lie_at_the_broker(world: World) -> None:
    """The event has it, and the gateway's disk while it knows the alarm."""
    alarm = world.press()
    world.command(Close(alarm=alarm.id, outcome=Outcome.REAL, police="P-17", lesson="Dam 1, ring twice."))
    assert world.state(alarm)["police"] is True
    assert not [word for word in ("P-17", "Dam") if word in json.dumps(world.told(world.drafts[-1]))]
    assert (from_json(to_json(world[alarm])).police, world[alarm].lesson) == ("P-17", "Dam 1, ring twice.")


# --- the disk and the broker --------------------------------------------------------------------------------


def full(world: World) -> Alarm:
    """An alarm with everything in it."""
    other = world.press("t-2", "w-2")
    known: dict[str, Any] = {"counter": 3, "press_key": "t-1:3", "battery_pct": 5, "rssi_dbm": -90}
    alarm = world.press(position=HERE, visit=VISIT, button=1, **known)
    for kind in HopKind:
        world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=kind, at=world.now))
    world.do(SoundOpened(alarm=other.id, codec="opus", head=HEAD))
    world.after(5).do(Positioned(position=HERE))
    world.press(intent=Intent.CANCEL)
    world.command(Note(alarm=alarm.id, text="Not now.", refuses_cancel=True))
    world.command(Respond(alarm=alarm.id, eta_s=60))
    world.command(ListenStart(alarm=alarm.id))
    world.command(Close(alarm=alarm.id, outcome=Outcome.REAL, police=True, lesson="Knock first."))
    world.do(Hop(alarm=alarm.id, message=str(world[alarm].closing_id), kind=HopKind.CONFIRMED, at=world.now))
    return world[alarm]


def test_an_alarm_comes_back_from_the_disk_as_it_went(world: World) -> None:
    alarm = full(world)
    missing = [name for name in Alarm.__dataclass_fields__ if getattr(alarm, name) is None]
    assert missing == ["worker", "note", "waiting", "test_s", "reviewed"]
    world.command(Raise(cause=Raising.MANUAL, worker="w-9", note="Rang."))
    world.command(Review(alarm=alarm.id))
    for each in world.alarms.values():
        assert from_json(to_json(each)) == each


def damaged(path: tuple[str | int, ...], value: object) -> str:
    body = json.loads(to_json(full(World())))
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(body)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("alarm",), "x", "alarm: expected a UUID, got 'x'"),
        (("alarm",), 3, "alarm: expected a text, got 3"),
        (("mode",), "real", "mode: expected one of actual, test, exercise, got 'real'"),
        (("handling",), None, "handling: expected one of"),
        (("presses",), -1, "presses: expected a whole number from 0, got -1"),
        (("presses",), "1", "presses: expected a whole number from 0, got '1'"),
        (("opened_at",), "2026", "opened_at: expected a time, got '2026'"),
        (("local",), [], "local: expected an object"),
        (("local", "spoken"), 3, "spoken: expected a time"),
        (("tag",), {"worker": "w"}, "id: expected a text, got None"),
        (("responders",), {}, "responders: expected a list"),
        (("responders", 0, "actor"), {"name": "Ada"}, "id: expected a text, got None"),
        (("responders", 0, "state"), "bored", "state: expected one of"),
        (("audio", "actor"), {"name": "Ada"}, "id: expected a text, got None"),
        (("corroborated_by",), 3, "corroborated_by: expected a list"),
        (("timeline",), {}, "timeline: expected a list"),
        (("audio", "state"), "loud", "state: expected one of"),
    ],
)
def test_a_damaged_alarm_is_refused(path: tuple[str | int, ...], value: object, expected: str) -> None:
    """It says what was expected."""
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")):
        from_json(damaged(path, value))


def retained(world: World, alarm: Alarm) -> bytes:
    """The state message the broker keeps."""
    [draft] = [draft for draft in world.drafts if draft.topic == topic.alarm_state(alarm.id)]
    return json.dumps(world.told(draft)).encode()


def test_an_open_alarm_the_disk_does_not_know_is_adopted(world: World) -> None:
    """As far as its state tells; its id is spent."""
    alarm = world.press(position=HERE, counter=3, press_key="t-1:3")
    world.command(Accept(alarm=alarm.id))
    found = adopt(retained(world, alarm))
    fresh = World()
    fresh.now = replace(world.now, boot="b9", mono_s=3.0)
    fresh.do(Adopted(alarm=found))
    last_known: Body = {**HERE, "trusted": False, "method": "last_known"}
    found = replace(found, position=last_known)
    assert fresh.effects == (Spent(alarm=alarm.id), Save(alarm=found))
    assert (found.handling, found.owner, found.source) == (Handling.ACCEPTED, ADA.body, "t-1")
    assert (found.opened.wall_s, found.opened.boot) == (alarm.opened.wall_s, "")
    assert found.call_id == alarm.call_id
    assert fresh.after(30).press().id == alarm.id
    assert fresh.types == ["repeated"]


@pytest.mark.parametrize("outcome", [None, Outcome.TEST])
def test_a_copy_of_a_press_that_the_broker_knows_is_not_told_again(
    world: World, outcome: Outcome | None
) -> None:
    """The disk has lost that it was heard; its burst goes on, also after ops has closed the alarm."""
    alarm = world.press(counter=3, press_key="t-1:3")
    fresh = World()
    fresh.now = replace(world.now, boot="b9", mono_s=3.0)
    fresh.do(Adopted(alarm=adopt(retained(world, alarm))))
    if outcome is not None:
        fresh.command(Close(alarm=alarm.id, outcome=outcome))
    fresh.after(20)
    copy = Press(tag="t-1", event=TagEvent.PRESS, heard=fresh.now, counter=3, press_key="t-1:3")
    assert fresh.do(Pressed(press=copy, next_alarm_id=fresh.new_id(), decided=fresh.now)) == ()
    assert fresh.after(1).press(counter=4, press_key="t-1:4").presses == (1 if outcome else 2)


def test_a_number_that_comes_round_is_another_press(world: World) -> None:
    """Packet ids are used again within the hour; bursts are over in two minutes."""
    alarm = world.press(counter=3, press_key="t-1:3")
    fresh = World()
    fresh.now = replace(world.now, boot="b9", mono_s=3.0)
    fresh.do(Adopted(alarm=adopt(retained(world, alarm))))
    assert fresh.after(180).press(counter=3, press_key="t-1:3").presses == 2


def test_an_adopted_alarm_does_not_open_the_microphone(world: World) -> None:
    """Where its chunks ended nobody knows; and not everyone who can write there may listen."""
    alarm = recording(world)
    world.after(11).press()
    found = adopt(retained(world, alarm))
    assert found.audio.state is AudioState.ENDED
    fresh = World()
    fresh.do(Adopted(alarm=found))
    assert fresh.do(Resumed()) == ()


def test_the_times_of_an_adopted_alarm_are_compared_by_wall_clock(world: World) -> None:
    """Its monotonic times are not known, so they are not the same either."""
    alarm = world.press()
    stored = replace(world.now, mono_s=world.now.mono_s + 0.25, wall_s=world.now.wall_s + 0.25)
    world.do(Hop(alarm=alarm.id, message=alarm.call_id, kind=HopKind.STORED, at=stored))
    world.command(Accept(alarm=alarm.id))
    assert adopt(retained(world, alarm)).hops_ms == {"heard": 0, "stored": 250.0}


def test_a_closed_alarm_is_not_adopted(world: World) -> None:
    """Nor one that is known: the disk is right. But the id of either is spent."""
    alarm = world.press()
    found = adopt(retained(world, alarm))
    assert world.do(Adopted(alarm=found)) == (Spent(alarm=alarm.id),)
    closed = replace(found, handling=Handling.CLOSED)
    fresh = World()
    assert fresh.do(Adopted(alarm=closed)) == (Spent(alarm=alarm.id),)
    assert not fresh.alarms


def test_only_so_many_are_adopted(world: World) -> None:
    """What the broker says is not ours to bound. But no id it names is used again."""
    alarm = world.press()
    found = adopt(retained(world, alarm))
    crowd = {str(n): found for n in range(1000)}
    assert step(crowd, Adopted(alarm=found), world.now, SOUND) == (crowd, (Spent(alarm=alarm.id),))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"{}", b"\xff", b"[" * 60_000, b" " * 70_000, b'{"clock":3}',
        b'{"clock":{"source":"ntp","uncertainty_ms":5},"opened_at":"yesterday"}',
    ],
)  # fmt: skip
def test_what_is_no_state_message_is_not_adopted(data: bytes) -> None:
    with pytest.raises(ValueError):
        adopt(data)


@pytest.mark.parametrize("nest", ['{"a":%s}', "[%s]"])
@pytest.mark.parametrize("levels", [8, 300, 900])
def test_a_state_message_of_too_many_levels_is_not_adopted(world: World, nest: str, levels: int) -> None:
    """Neither reading it nor storing it later runs out of stack."""
    deep = "1"
    for _ in range(levels):
        deep = nest % deep
    state = json.loads(retained(world, world.press())) | {"tag": {"id": "t-1", "x": "DEEP"}}
    with pytest.raises(ValueError, match="levels"):
        adopt(json.dumps(state).replace('"DEEP"', deep).encode())


# --- all of it ----------------------------------------------------------------------------------------------

TAGS = {"t-1": "w-1", "t-2": "w-2", "t-3": "w-1", "wired": None}


EVE = Actor(id="eve", name="Eve")
KINDS = [
    "received", "accept", "decline", "respond", "on_scene", "escalate", "note", "refuse", "close", "reopen",
    "review", "raise tag", "raise worker", "start", "stop",
]  # fmt: skip


def order_of(kind: str, name: str) -> Order:
    orders: dict[str, Order] = {
        "received": Received(alarm=name),
        "accept": Accept(alarm=name),
        "decline": Decline(alarm=name),
        "respond": Respond(alarm=name, eta_s=300),
        "on_scene": OnScene(alarm=name),
        "escalate": Escalate(alarm=name),
        "note": Note(alarm=name, text="She does not answer."),
        "refuse": Note(alarm=name, text="We come.", refuses_cancel=True),
        "close": Close(alarm=name, outcome=Outcome.REAL),
        "reopen": Reopen(alarm=name),
        "review": Review(alarm=name),
        "raise tag": Raise(cause=Raising.DURESS, tag="t-2"),
        "raise worker": Raise(cause=Raising.MANUAL, worker="w-9", note="Rang."),
        "start": ListenStart(alarm=name, max_s=60),
        "stop": ListenStop(),
    }
    return orders[kind]


def ids(alarm: Alarm) -> set[str]:
    """Who said anything of themselves."""
    return {str(each.actor["id"]) for each in alarm.responders}


class Anything(RuleBasedStateMachine):
    """Whatever comes in whatever order: what must always hold, holds."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(settings=ESCALATING)
        self.spoken: dict[str, Instant] = {}
        self.microphone: str | None = None  # the alarm it records for

    def _do(self, event: Event) -> None:
        before = self.world.alarms
        self.world.do(event)
        for draft in self.world.drafts:
            if draft.retain:
                assert "Dam" not in repr(draft.body)
        for draft in self.world.events:
            self._check_event(before.get(str(draft.body["alarm"])), draft)
        for alarm in before.values():
            if alarm.id in self.world.alarms:
                self._check_change(alarm, self.world.alarms[alarm.id])
        for effect in self.world.effects:
            if isinstance(effect, StartAudio):
                assert self.microphone in {None, effect.alarm}
                self.microphone = effect.alarm
            elif isinstance(effect, StopAudio):
                assert self.microphone in {None, effect.alarm}
                self.microphone = None

    def _check_event(self, before: Alarm | None, draft: Draft) -> None:
        kind, name = draft.body["type"], str(draft.body["alarm"])
        if before is None:
            assert self.world.events[0].body["type"] == "raised"
        else:
            assert kind != "raised"
        if before is not None and not before.open:
            assert kind in {
                "audio_started", "audio_ended", "audio_unavailable", "note", "reopened", "reviewed"
            }  # fmt: skip
        if kind == "closed" and draft.body["mode"] != "test":
            assert draft.body["actor"]
        if kind in {"raised", "repeated"} and (before is None or before.presses):
            last = self.spoken.get(name)
            assert last is None or last.boot != draft.at.boot or draft.at.mono_s - last.mono_s >= 9.99
            self.spoken[name] = draft.at

    def _check_change(self, before: Alarm, after: Alarm) -> None:
        """Nobody is lost; and only some events lead back."""
        types = {str(draft.body["type"]) for draft in self.world.events if draft.body["alarm"] == after.id}
        assert ids(before) <= ids(after)
        order = list(Handling)
        if order.index(after.handling) < order.index(before.handling):
            assert types & {"declined", "reopened", "repeated"}
            assert after.handling in {end for row in TABLE.values() for end in row.get(before.handling, ())}
        if before.level > after.level:
            assert types & {"declined", "reopened", "repeated"}

    @rule()
    def overdue(self) -> None:
        self._do(
            Raised(
                alarm=self.world.new_id(),
                cause=Cause.OVERDUE,
                at=self.world.now,
                worker="w-1",
                visit=VISIT,
            )
        )

    def _some(self, n: int) -> str:
        names = list(self.world.alarms)
        return names[n % len(names)] if names else "none"

    @rule(
        tag=st.sampled_from(sorted(TAGS)),
        mode=st.sampled_from(Mode),
        intent=st.sampled_from([Intent.ALARM, Intent.CANCEL, Intent.DURESS]),
        auth=st.sampled_from(Auth),
        position=st.sampled_from([None, HERE, ROUGH]),
    )
    def press(self, tag: str, mode: Mode, intent: Intent, auth: Auth, position: Body | None) -> None:
        press = Press(
            tag=tag,
            worker=TAGS[tag],
            event=TagEvent.PRESS,
            heard=self.world.now,
            mode=mode,
            intent=intent if mode is Mode.ACTUAL and tag != "wired" else Intent.ALARM,
            auth=auth,
        )
        self._do(
            Pressed(
                press=press,
                next_alarm_id=self.world.new_id(),
                position=position,
                decided=self.world.now,
                visit=VISIT if TAGS[tag] == VISIT["worker"] else None,
            )
        )

    @rule(seconds=st.sampled_from([0.1, 1, 9, 11, 119, 300, 601, 90_000]))
    def wait(self, seconds: float) -> None:
        self.world.after(seconds)
        self._do(Ticked())

    @rule(position=st.sampled_from([HERE, ROUGH]))
    def fix(self, position: Body) -> None:
        self._do(Positioned(position=position))

    @rule(n=st.integers(0, 9), kind=st.sampled_from(["opened", "unavailable", "ended", "chunked"]))
    def sound(self, n: int, kind: str) -> None:
        name = self._some(n)
        events: dict[str, Event] = {
            "opened": SoundOpened(alarm=name, codec="opus", head=HEAD),
            "unavailable": SoundUnavailable(alarm=name, reason="unplugged"),
            "ended": SoundEnded(alarm=name),
            "chunked": Chunked(alarm=name, chunks=n),
        }
        if kind == "ended" and name == self.microphone:
            starting = self.world.alarms[name].audio.state is AudioState.STARTING
            self.microphone = name if starting else None
        self._do(events[kind])

    @rule(n=st.integers(0, 9), kind=st.sampled_from(HopKind), closing=st.booleans())
    def hop(self, n: int, kind: HopKind, closing: bool) -> None:
        alarm = self.world.alarms.get(self._some(n))
        if alarm is not None:
            message = (alarm.closing_id if closing else alarm.call_id) or "none"
            self._do(Hop(alarm=alarm.id, message=message, kind=kind, at=self.world.now))

    @rule(n=st.integers(0, 9), kind=st.sampled_from(KINDS), actor=st.sampled_from([ADA, BOB, EVE]))
    def command(self, n: int, kind: str, actor: Actor) -> None:
        name = self._some(n)
        before = self.world.alarms
        command = Command(id=f"c-{next(self.world.ids)}", actor=actor, order=order_of(kind, name))
        self._do(Commanded(command=command))
        [reply] = [effect for effect in self.world.effects if isinstance(effect, Reply)]
        alarm = self.world.alarms.get(name)
        if reply.code is not None:
            assert (self.world.events, self.world.alarms) == ([], before)
        elif kind not in {"start", "stop"} and self.world.events:
            assert actor.body in [draft.body.get("actor") for draft in self.world.events]
        if reply.code is None and alarm is not None:
            mine = {str(each.actor["id"]): each.part for each in alarm.responders}.get(actor.id)
            if kind in {"accept", "decline", "respond", "on_scene"}:
                assert mine is not None
                assert (kind == "decline") == (mine not in AT_IT)
            if kind == "accept":
                assert alarm.owner == actor.body

    @rule(
        seconds=st.sampled_from([1, 700, -DAY_S]), source=st.sampled_from([ClockSource.NTP, ClockSource.NONE])
    )
    def restart(self, seconds: float, source: ClockSource) -> None:
        self.world.reboot(seconds, source)
        self.microphone = None
        self._do(Resumed())

    @invariant()
    def there_is_one_microphone(self) -> None:
        wanting = [alarm for alarm in self.world.alarms.values() if alarm.audio.wanted]
        recorders = [alarm.id for alarm in wanting if alarm.audio.recorded_in is None]
        assert len(recorders) == bool(wanting)
        assert {alarm.audio.recorded_in for alarm in wanting} <= {None, *recorders}
        assert self.microphone == (recorders[0] if wanting else None)
        assert not wanting or any(alarm.open and alarm.mode is not Mode.TEST for alarm in wanting)

    @invariant()
    def a_tag_has_one_open_alarm_of_each_mode(self) -> None:
        calls = [alarm for alarm in self.world.alarms.values() if alarm.open and not alarm.derived]
        opened = [(alarm.source, alarm.mode) for alarm in calls]
        assert len(opened) == len(set(opened))

    @invariant()
    def the_state_is_whole(self) -> None:
        for alarm in self.world.alarms.values():
            assert from_json(to_json(alarm)) == alarm
            assert len(alarm.timeline) <= 100
            if alarm.open:
                taken = alarm.handling in AT_IT.values()
                assert taken == (alarm.owner is not None) == (alarm.waiting is None)
                assert not taken or alarm.handling is furthest(alarm)
            assert alarm.open == (alarm.outcome is None)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
