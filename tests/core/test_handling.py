"""What people do about an alarm: who has it, who is coming, who is told when nobody is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from alarming import ADA, BOB, ESCALATING, HERE, World
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.core import desk, topic
from gatewayd.core.alarm import (
    Adopted,
    Alarm,
    Commanded,
    Forget,
    Handling,
    Hop,
    HopKind,
    Pressed,
    Publish,
    Resumed,
    StartAudio,
    Ticked,
    adopt,
    retell,
)
from gatewayd.core.alarm.model import meant, sources
from gatewayd.core.alarm.orders import RESPONDERS
from gatewayd.core.command import Actor, Command, Incoming, UpkeepCommand
from gatewayd.core.coverage import Record
from gatewayd.core.fields import Code, Refusal
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
from gatewayd.core.model import Auth, ClockSource, Intent, Mode, Press, Tag, TagEvent
from gatewayd.core.supervision import Ear, Hearing
from gatewayd.core.uuid7 import uuid7

EVE = Actor(id="eve")


@pytest.fixture
def world() -> World:
    return World(settings=ESCALATING)


def parts(world: World, alarm: Alarm) -> dict[str, str]:
    """What each responder does, by the state as it was last told."""
    told: Any = world.state(alarm)["responders"]
    return {responder["actor"]["id"]: responder["state"] for responder in told}


def stands(world: World, alarm: Alarm) -> tuple[str, str | None]:
    """The alarm's handling, and who has it."""
    owner: Any = world[alarm].owner
    return world[alarm].handling.value, owner and owner["id"]


# --- who has it ---------------------------------------------------------------------------------------------


def test_several_respond_each_in_their_own_way(world: World) -> None:
    """The alarm is as far as the furthest of them; it is whose who came first."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    world.command(Respond(alarm=alarm.id, eta_s=240), BOB)
    [told] = world.events
    assert (told.body["type"], told.body["eta_s"], told.body["actor"]) == ("responding", 240, BOB.body)
    assert parts(world, alarm) == {"ada": "accepted", "bob": "responding"}
    world.command(OnScene(alarm=alarm.id), EVE)
    assert parts(world, alarm) == {"ada": "accepted", "bob": "responding", "eve": "on_scene"}
    assert stands(world, alarm) == ("on_scene", "ada")


def test_a_responder_tells_when_they_think_to_be_there(world: World) -> None:
    """And may tell again."""
    alarm = world.press()
    world.command(Respond(alarm=alarm.id, eta_s=240))
    world.after(60).command(Respond(alarm=alarm.id, eta_s=300))
    told: Any = world.state(alarm)["responders"]
    assert told[0]["eta_at"].mono_s == world.now.mono_s + 300
    assert len(told) == 1


def test_who_sets_out_while_nobody_has_it_has_taken_it(world: World) -> None:
    alarm = world.press()
    world.command(Respond(alarm=alarm.id), BOB)
    assert stands(world, alarm) == ("responding", "bob")
    assert world.command(Accept(alarm=alarm.id), ADA).code is Code.CONFLICT


def test_it_is_handed_over_by_declining_and_accepting(world: World) -> None:
    """Before that, a second accept is a conflict that names who has it."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    refused = world.command(Accept(alarm=alarm.id), BOB)
    assert (refused.code, "taken by Ada" in refused.message) == (Code.CONFLICT, True)
    world.command(Decline(alarm=alarm.id), ADA)
    assert stands(world, alarm) == ("received", None)
    world.command(Accept(alarm=alarm.id), BOB)
    assert stands(world, alarm) == ("accepted", "bob")
    assert parts(world, alarm) == {"ada": "declined", "bob": "accepted"}


@pytest.mark.parametrize(
    ("leaves", "left"),
    [(EVE, ("responding", "ada")), (BOB, ("on_scene", "ada")), (ADA, ("on_scene", "bob"))],
)
def test_who_leaves_leaves_it_to_the_others(world: World, leaves: Actor, left: tuple[str, str]) -> None:
    """It goes down to what they do; the next of them has it."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    world.command(Respond(alarm=alarm.id), BOB)
    world.command(OnScene(alarm=alarm.id), EVE)
    world.command(Decline(alarm=alarm.id), leaves)
    assert stands(world, alarm) == left


def test_who_comes_back_comes_behind_the_others(world: World) -> None:
    """Who has it meanwhile keeps it."""
    alarm = world.press()
    for order, actor in (
        (Accept(alarm=alarm.id), ADA),
        (Decline(alarm=alarm.id), ADA),
        (Accept(alarm=alarm.id), BOB),
        (Respond(alarm=alarm.id), ADA),
    ):
        world.command(order, actor)
    assert stands(world, alarm) == ("responding", "bob")


def test_who_cannot_come_says_so_without_having_had_it(world: World) -> None:
    """It is noted; nothing else changes."""
    alarm = world.press()
    world.command(Decline(alarm=alarm.id), BOB)
    assert (stands(world, alarm), parts(world, alarm)) == (("raised", None), {"bob": "declined"})


@pytest.mark.parametrize("kind", [Accept, Decline, Respond, OnScene])
def test_said_twice_it_is_simply_so(world: World, kind: Any) -> None:
    """Also under another id, and by a name that was spelt otherwise: nothing more is told."""
    alarm = world.press()
    world.command(kind(alarm=alarm.id), ADA)
    assert world.command(kind(alarm=alarm.id), Actor(id="ada", name="A.")).code is None
    assert world.events == []


def test_who_is_there_is_not_on_the_way(world: World) -> None:
    """They left first, which they say."""
    alarm = world.press()
    world.command(OnScene(alarm=alarm.id))
    assert world.command(Respond(alarm=alarm.id)).code is Code.CONFLICT
    world.command(Decline(alarm=alarm.id))
    assert world.command(Respond(alarm=alarm.id)).code is None


def test_only_so_many_respond(world: World) -> None:
    alarm = world.press()
    for n in range(RESPONDERS):
        assert world.command(Respond(alarm=alarm.id), Actor(id=f"a{n}")).code is None
    assert world.command(Respond(alarm=alarm.id), ADA).code is Code.REFUSED
    assert world.command(OnScene(alarm=alarm.id), Actor(id="a0")).code is None


def test_in_a_new_emergency_everybody_is_asked_again(world: World) -> None:
    """Nobody is forgotten, and nobody is said to come who has not said so."""
    alarm = world.press()
    world.command(Accept(alarm=alarm.id), ADA)
    world.command(Respond(alarm=alarm.id, eta_s=9), BOB)
    world.after(601).press()
    assert stands(world, alarm) == ("raised", None)
    assert parts(world, alarm) == {"ada": "asked", "bob": "asked"}


# --- after it -----------------------------------------------------------------------------------------------


def closed(world: World, **more: Any) -> Alarm:
    alarm = world.press(**more)
    world.command(Accept(alarm=alarm.id), ADA)
    world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE, police=True, lesson="Knock."))
    return alarm


def test_what_was_not_over_is_reopened(world: World) -> None:
    """It waits for somebody again; a press belongs to it; it can be closed again."""
    alarm = closed(world)
    world.command(Reopen(alarm=alarm.id), BOB)
    state = world.state(alarm)
    assert not {"outcome", "police", "lesson", "closed_at"} & state.keys()
    assert (stands(world, alarm), parts(world, alarm)) == (("received", None), {"ada": "asked"})
    assert world.press().id == alarm.id
    assert world.command(Close(alarm=alarm.id, outcome=Outcome.REAL)).code is None


@pytest.mark.parametrize("late", [False, True])
def test_a_reopened_alarm_is_not_erased_by_its_first_closing(world: World, late: bool) -> None:
    """Which the broker had before it was reopened, or after: it is closed again, and only that counts."""
    alarm = closed(world)
    first = Hop(alarm=alarm.id, message=str(world[alarm].closing_id), kind=HopKind.CONFIRMED, at=world.now)
    if not late:
        world.do(first)
    world.command(Reopen(alarm=alarm.id))
    if late:
        world.do(first)
    world.after(30 * 24 * 3600).do(Ticked())
    assert world[alarm].open
    world.command(Close(alarm=alarm.id, outcome=Outcome.REAL))
    world.after(25 * 3600).do(Ticked())
    assert alarm.id in world.alarms


def test_an_alarm_is_not_reopened_beside_another_of_its_tag(world: World) -> None:
    """A tag has one open alarm."""
    alarm = closed(world)
    other = world.press()
    refused = world.command(Reopen(alarm=alarm.id))
    assert (refused.code, other.id in refused.message) == (Code.CONFLICT, True)


def test_a_test_is_not_reopened(world: World) -> None:
    assert world.command(Reopen(alarm=closed(world, mode=Mode.TEST).id)).code is Code.REFUSED


def test_a_review_withdraws_the_state(world: World) -> None:
    """For good: no later news brings it back; and the gateway does not know the alarm any more."""
    alarm = closed(world)
    world.command(Review(alarm=alarm.id), BOB)
    assert world.types == ["reviewed"]
    [state] = [draft for draft in world.drafts if draft.topic == topic.alarm_state(alarm.id)]
    assert (state.clears, state.retain, state.replaces, state.expires_s) == (True, True, True, None)
    assert retell(world.alarms, world.now, world.settings)[1] == ()
    for order in (Note(alarm=alarm.id, text="x"), Reopen(alarm=alarm.id), Review(alarm=alarm.id)):
        assert world.command(order).code is Code.UNKNOWN


def test_a_reviewed_alarm_is_erased_once_the_broker_knows_that_it_is_closed(world: World) -> None:
    """Before that the broker would hand it back as open."""
    alarm = closed(world)
    world.command(Review(alarm=alarm.id))
    assert world.after(60).do(Ticked()) == ()
    closing = str(world[alarm].closing_id)
    world.do(Hop(alarm=alarm.id, message=closing, kind=HopKind.CONFIRMED, at=world.now))
    assert world.after(1).do(Ticked()) == (Forget(alarm=alarm.id),)


def test_an_open_alarm_is_not_reviewed(world: World) -> None:
    assert world.command(Review(alarm=world.press().id)).code is Code.CONFLICT


def test_a_note_may_be_made_of_a_closed_alarm(world: World) -> None:
    """Its text is in the event."""
    alarm = closed(world)
    world.command(Note(alarm=alarm.id, text="The lock is broken."))
    [told] = world.events
    assert (told.body["type"], told.body["text"]) == ("note", "The lock is broken.")


# --- when nobody takes it -----------------------------------------------------------------------------------


def escalated(world: World) -> list[Any]:
    return [draft.body["level"] for draft in world.events if draft.body["type"] == "escalated"]


def test_an_alarm_nobody_takes_is_escalated_step_by_step(world: World) -> None:
    """A console that shows it has not taken it. After the last step there is no more; it stays open."""
    alarm = world.press()
    world.command(Received(alarm=alarm.id))
    found = []
    for _ in range(300):
        world.after(1).do(Ticked())
        found += [(elapsed, level) for level in escalated(world) for elapsed in [world.now.mono_s - 100]]
    assert found == [(30, 1), (60, 2), (120, 3)]
    world.after(400 * 24 * 3600).do(Ticked())
    assert (escalated(world), world[alarm].open) == ([], True)


@pytest.mark.parametrize("kind", [Accept, Respond, OnScene])
def test_it_stops_when_somebody_takes_it(world: World, kind: Any) -> None:
    alarm = world.press()
    world.after(30).do(Ticked())
    assert escalated(world) == [1]
    world.command(kind(alarm=alarm.id))
    world.after(1_000).do(Ticked())
    assert escalated(world) == []


@pytest.mark.parametrize("again", [Decline, Reopen, None])
def test_it_begins_anew_when_nobody_has_it_any_more(world: World, again: Any) -> None:
    """Handed back, reopened, or raised again: from the first level on."""
    alarm = world.press()
    world.after(60).do(Ticked())
    world.command(Accept(alarm=alarm.id))
    world.after(1_000)
    if again is None:
        world.press()
    elif again is Reopen:
        world.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    if again is not None:
        world.command(again(alarm=alarm.id))
    world.after(29).do(Ticked())
    assert escalated(world) == []
    world.after(1).do(Ticked())
    assert escalated(world) == [1]


def test_ops_escalate_and_time_goes_on_from_there(world: World) -> None:
    """The level that they reached is not told again."""
    alarm = world.press()
    world.command(Escalate(alarm=alarm.id))
    [told] = world.events
    assert (told.body["level"], told.body["reason"], told.body["actor"]) == (1, "command", ADA.body)
    world.after(30).do(Ticked())
    assert escalated(world) == []
    world.after(30).do(Ticked())
    assert escalated(world) == [2]


def test_ops_may_escalate_what_somebody_has(world: World) -> None:
    alarm = world.press()
    world.command(OnScene(alarm=alarm.id))
    assert world.command(Escalate(alarm=alarm.id)).code is None
    assert stands(world, alarm) == ("on_scene", "ada")


@pytest.mark.parametrize(
    ("dark_s", "source", "levels"),
    [(5, ClockSource.NTP, []), (40, ClockSource.NTP, [1]), (1_000, ClockSource.NTP, [1, 2, 3]),
     (5, ClockSource.NONE, [1, 2, 3]), (-60, ClockSource.NTP, [1, 2, 3])],
)  # fmt: skip
def test_a_restart_escalates_by_what_clocks_tell(
    world: World, dark_s: float, source: ClockSource, levels: list[int]
) -> None:
    """What fell due in the dark is told at once; where no clock can tell, it was long ago."""
    world.press()
    world.reboot(dark_s, source).do(Resumed())
    world.do(Ticked())
    assert escalated(world) == levels
    world.do(Ticked())
    assert escalated(world) == []


def test_an_adopted_alarm_is_escalated_from_where_it_was(world: World) -> None:
    """A gateway that lost its disk goes on from what the broker holds."""
    alarm = world.press()
    world.after(30).do(Ticked())
    state = [draft for draft in world.drafts if draft.topic.endswith("/state")][-1]
    found = adopt(json.dumps(world.told(state)).encode())
    world.alarms = {}
    world.after(10).do(Adopted(alarm=found))
    world.do(Ticked())
    assert escalated(world) == []
    world.after(21).do(Ticked())
    assert (escalated(world), world[alarm].level) == ([2], 2)


def test_a_level_told_again_after_a_kill_has_the_same_id(world: World) -> None:
    """The disk had not got it."""
    world.press()
    before = world.alarms
    world.after(30).do(Ticked())
    [first] = world.events
    world.alarms = before
    world.after(2).do(Ticked())
    [second] = world.events
    assert first.id == second.id


def test_a_test_is_not_escalated(world: World) -> None:
    world.press(mode=Mode.TEST)
    world.after(500).do(Ticked())
    assert world.events == []


def test_where_no_steps_are_configured_time_escalates_nothing() -> None:
    world = World()
    world.press()
    world.after(100_000).do(Ticked())
    assert escalated(world) == []


# --- raised by ops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", Raising)
def test_ops_raise_an_alarm_for_a_tag(world: World, cause: Raising) -> None:
    """It says who raised it and why, and is listened to like any other."""
    world.do(
        Commanded(
            command=Command(id="c-1", actor=ADA, order=Raise(cause=cause, tag="t-1", note="She rang.")),
            position=HERE,
            recent=(HERE,),
        )
    )
    [event, state] = world.drafts
    assert event.body == {
        "alarm": event.body["alarm"], "type": "raised", "mode": "actual", "actor": ADA.body,
        "cause": cause.value, "severity": "critical", "presses": 0, "note": "She rang.",
        "tag": {"id": "t-1", "worker": "w-1", "feedback": "none"},
        "position": HERE, "recent": [HERE], "hops_ms": {"heard": 0, "decided": 0},
    }  # fmt: skip
    assert "note" not in state.body  # it may say where she is
    assert any(isinstance(effect, StartAudio) for effect in world.effects)
    world.after(30).do(Ticked())
    assert escalated(world) == [1]
    world.command(Accept(alarm=str(event.body["alarm"])))
    assert world.events[0].body["note"] == "She rang."


def test_a_worker_has_the_tag_that_is_assigned_to_them(world: World) -> None:
    """So a press belongs to the same alarm, and is told at once, for it is the first."""
    world.command(Raise(cause=Raising.MANUAL, worker="w-1"))
    [event] = world.events
    alarm = world.after(1).press("t-1", "w-1")
    assert alarm.id == event.body["alarm"]
    assert (world.types, alarm.presses) == (["repeated"], 1)


def test_a_worker_without_a_tag_has_an_alarm_too(world: World) -> None:
    world.command(Raise(cause=Raising.MANUAL, worker="w-9"))
    [event] = world.events
    assert (event.body["worker"], "tag" in event.body) == ("w-9", False)


@pytest.mark.parametrize(
    "order", [Raise(cause=Raising.MANUAL, worker="w-1"), Raise(cause=Raising.DURESS, tag="t-1")]
)
def test_no_second_alarm_is_raised_while_one_is_open(world: World, order: Raise) -> None:
    """The reply names the one that is."""
    alarm = world.press("t-1", "w-1")
    refused = world.command(order)
    assert (refused.code, alarm.id in refused.message) == (Code.CONFLICT, True)


def test_an_alarm_for_a_tag_of_another_gateway_is_unknown(world: World) -> None:
    assert world.command(Raise(cause=Raising.MANUAL, tag="t-77")).code is Code.UNKNOWN


@pytest.mark.parametrize(("name", "same"), [(uuid7(1, bytes(10)), True), ("call 7", False)])
def test_the_same_command_after_a_kill_raises_the_same_alarm(name: str, same: bool) -> None:
    """Where its id is a UUIDv7; with another the alarm's carries the time at which it was raised."""
    found = []
    for delay_s in (0, 5):
        world = World(settings=ESCALATING).after(delay_s)
        world.command(Raise(cause=Raising.MANUAL, tag="t-1"), name=name)
        found.append(world.events[0].body["alarm"])
    assert (found[0] == found[1]) is same
    if same:  # the broker handed it back, and then the command came again
        world.alarms = {str(found[0]): next(iter(world.alarms.values()))}
        assert world.command(Raise(cause=Raising.MANUAL, tag="t-1"), name=name).code is None
        assert world.events == []


def test_an_alarm_that_nobody_pressed_verifies_no_other(world: World) -> None:
    """Ops who raise one have not heard a second worker."""
    world.command(Raise(cause=Raising.MANUAL, worker="w-9"))
    assert world.press().corroborated_by == ()


# --- cancelling, and being made to --------------------------------------------------------------------------


def test_who_asks_to_cancel_is_told_of_and_closes_nothing(world: World) -> None:
    """Nor does it count as a press, nor stop anybody."""
    alarm = world.press()
    world.after(20).press(intent=Intent.CANCEL, event=TagEvent.LONG, auth=Auth.FAILED)
    [told] = world.events
    assert told.body["type"] == "cancel_requested"
    tag: Any = told.body["tag"]
    assert (tag["event"], tag["auth"]) == ("long", "failed")
    assert (world[alarm].handling, world[alarm].presses) == (Handling.RAISED, 1)
    assert world.state(alarm)["cancel"] == {"requested_at": world.now}
    world.after(10).do(Ticked())
    assert escalated(world) == [1]


def test_asked_again_within_ten_seconds_it_is_told_once(world: World) -> None:
    world.press()
    world.after(20).press(intent=Intent.CANCEL)
    world.do(
        Pressed(
            press=Press(tag="t-1", event=TagEvent.LONG, heard=world.after(9).now, intent=Intent.CANCEL),
            next_alarm_id=world.new_id(),
            decided=world.now,
        )
    )
    assert world.events == []
    world.after(2).press(intent=Intent.CANCEL)
    assert world.types == ["cancel_requested"]


def test_who_asks_to_cancel_is_told_of_where_only_their_overdue_visit_calls(world: World) -> None:
    """Of theirs, and no other's."""
    alarm = world.overdue()
    for worker, told in (("w-2", []), ("w-1", ["cancel_requested"])):
        press = Press(tag="t-1", worker=worker, event=TagEvent.LONG, heard=world.now, intent=Intent.CANCEL)
        world.do(Pressed(press=press, next_alarm_id=world.new_id(), decided=world.now))
        assert world.types == told
    assert world.alarms[alarm].open


def test_whose_presses_are_meant_is_told_by_their_tags_and_by_their_workers_alarms(world: World) -> None:
    """A test takes none of them; a test's own alarm and a closed one count for nothing."""
    tags = [Tag(name=f"t-{n}", format="bthome", address="A", worker=f"w-{n}") for n in (1, 2, 3, 4)]
    world.overdue()  # of w-1
    world.press("t-2", "w-2")
    world.press("t-3", "w-3", mode=Mode.TEST)
    closed = world.press("t-4", "w-4")
    world.command(Close(alarm=closed.id, outcome=Outcome.FALSE))
    assert sources(world.alarms) == {"worker w-1", "t-2"}
    assert meant(world.alarms, tags) == {"worker w-1", "t-1", "t-2"}


def test_without_an_open_alarm_there_is_nothing_to_cancel(world: World) -> None:
    press = Press(tag="t-1", event=TagEvent.LONG, heard=world.now, intent=Intent.CANCEL)
    assert world.do(Pressed(press=press, next_alarm_id=world.new_id(), decided=world.now)) == ()


def test_ops_refuse_to_cancel(world: World) -> None:
    """With a note; once for each time it was asked."""
    alarm = world.press()
    refusal = Note(alarm=alarm.id, text="Code word missing.", refuses_cancel=True)
    assert world.command(refusal).code is Code.CONFLICT
    world.press(intent=Intent.CANCEL)
    world.command(refusal)
    [told] = world.events
    assert (told.body["type"], told.body["text"]) == ("cancel_refused", "Code word missing.")
    assert world.command(refusal).code is Code.CONFLICT
    world.after(1).press(intent=Intent.CANCEL)
    assert world.types == ["cancel_requested"]
    assert world.command(refusal).code is None


def test_a_request_heard_again_after_a_kill_has_the_same_id_and_a_later_one_another(world: World) -> None:
    """A packet id comes round: hours later, refused or raised again, the same key is another request."""
    alarm = world.press()
    before = world.alarms
    world.press(intent=Intent.CANCEL, press_key="t-1:2")
    ids = [world.events[0].id]
    world.alarms = before
    world.press(intent=Intent.CANCEL, press_key="t-1:2")
    assert [world.events[0].id] == ids
    world.command(Note(alarm=alarm.id, text="Code word missing.", refuses_cancel=True))
    world.after(7200).press(intent=Intent.CANCEL, press_key="t-1:2")
    ids.append(world.events[0].id)
    world.after(700).press()
    world.after(7200).press(intent=Intent.CANCEL, press_key="t-1:2")
    assert world.events[0].id not in ids
    assert len(set(ids)) == 2


def test_a_duress_press_raises_an_alarm(world: World) -> None:
    alarm = world.press(intent=Intent.DURESS)
    assert (world.events[0].body["cause"], world[alarm].hushed) == ("duress", True)


def test_a_duress_press_escalates_the_open_alarm(world: World) -> None:
    """At once, though it was pressed a moment ago; and it is no other's business to cancel it."""
    alarm = world.press()
    world.after(1).press(intent=Intent.DURESS)
    [told] = world.events
    assert (told.body["type"], told.body["reason"], told.body["level"]) == ("escalated", "duress", 1)
    assert (world.state(alarm)["cause"], world[alarm].presses) == ("duress", 2)
    world.after(1).press(intent=Intent.DURESS)
    assert world.events == []
    world.after(11).press(
        intent=Intent.DURESS
    )  # no more than a press again: the steps of time are not used up
    assert world.types == ["repeated"]
    world.after(60).do(Ticked())
    assert escalated(world) == [2]


def test_a_duress_press_much_later_is_a_new_emergency(world: World) -> None:
    world.press()
    world.after(601).press(intent=Intent.DURESS)
    [told] = world.events[:1]
    assert (told.body["type"], told.body["cause"]) == ("repeated", "duress")


@pytest.mark.parametrize(("intent", "after"), [(Intent.CANCEL, False), (Intent.DURESS, True)])
def test_a_new_emergency_after_a_cancelled_one_is_told_near_its_wearer(
    world: World, intent: Intent, after: bool
) -> None:
    """After duress never."""
    alarm = world.press()
    assert not world[alarm].hushed
    world.after(20).press(intent=intent)
    assert world[alarm].hushed
    world.after(601).press()
    assert world[alarm].hushed is after


# --- every command, once ------------------------------------------------------------------------------------

ORDERS: dict[str, dict[str, Any]] = {
    "alarm/received": {}, "alarm/accept": {}, "alarm/decline": {}, "alarm/respond": {"eta_s": 60},
    "alarm/on_scene": {}, "alarm/escalate": {}, "alarm/note": {"text": "x", "cancel": "refused"},
    "alarm/close": {"outcome": "real"}, "alarm/reopen": {}, "alarm/review": {},
    "alarm/raise": {"worker": "w-9", "cause": "manual"}, "listen/start": {}, "listen/stop": {},
    "visit/open": {"visit": "v-1", "worker": "w-1", "expected_end": "2026-03-01T13:00:00Z"},
    "visit/extend": {"visit": "v-1"}, "visit/close": {"visit": "v-1"},
}  # fmt: skip


def no_upkeep(command: UpkeepCommand) -> Refusal:
    """No command here is about the gateway."""
    raise AssertionError(command)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ORDERS)), st.sampled_from(["ada", "bob"])), max_size=12),
    st.sampled_from(["twice", "retained", "expired", "malformed"]),
)
@settings(max_examples=60, deadline=None)
def test_every_command_has_its_effect_once_and_a_bad_one_none(
    given_: list[tuple[str, str]], how: str
) -> None:
    """The same again gets the same reply, and neither it nor a refused one does anything."""
    world = World(settings=ESCALATING)
    alarm = world.press()
    world.press(intent=Intent.CANCEL)
    record = Record((), Ear(hearing=Hearing.HEARS, since_s=0.0), world.now)
    known = desk.Known(alarms=world.alarms, visits={}, replies={}, record=record)

    def ask(incoming: Incoming) -> tuple[Any, bool]:
        nonlocal known
        before = known
        known, effects = desk.answer(known, incoming, world.now, world.settings, upkeep=no_upkeep)
        drafts = [effect.draft for effect in effects if isinstance(effect, Publish)]
        [reply] = [draft.body for draft in drafts if draft.topic == topic.REPLY]
        return reply, known == before and len(effects) == 1

    kinds: dict[str, dict[str, Any]] = {
        "twice": {}, "retained": {}, "expired": {"expires_at": "2020-01-01T00:00:00Z"},
        "malformed": {"alarm": 3, "cause": "bored", "max_s": "x", "visit": "#", "actor": "somebody"},
    }  # fmt: skip
    code = {"retained": "refused", "expired": "expired", "malformed": "invalid"}
    for n, (name, actor) in enumerate(given_):
        body = {"id": f"c-{n}", "actor": {"id": actor}, "alarm": alarm.id, **ORDERS[name]}
        if how != "twice":
            bad = {**body, **kinds[how]}
            reply, unchanged = ask(
                Incoming(name=name, payload=json.dumps(bad).encode(), retained=how == "retained")
            )
            assert (reply["error"]["code"], unchanged) == (code[how], True)
        incoming = Incoming(name=name, payload=json.dumps(body).encode())
        first, _ = ask(incoming)
        assert ask(incoming) == (first, True)
