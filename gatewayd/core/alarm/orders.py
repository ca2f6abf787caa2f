"""What people at ops may do about an alarm, and the answer they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from gatewayd.core.alarm import calling, sound
from gatewayd.core.alarm.escalation import escalate, unattended
from gatewayd.core.alarm.events import Commanded
from gatewayd.core.alarm.model import Alarm, Part, Responder, known, later
from gatewayd.core.alarm.table import TABLE, Trigger
from gatewayd.core.alarm.turn import Told, Turn
from gatewayd.core.command import Command, ListenStart, ListenStop, Reply
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.handling import (
    Accept,
    Close,
    Decline,
    Escalate,
    Handle,
    Note,
    OnScene,
    Raise,
    Received,
    Reopen,
    Respond,
    Review,
)
from gatewayd.core.model import Body, Mode
from gatewayd.core.uuid7 import derive

RESPONDERS: Final = 50  # of one alarm: a village on its feet; its state must stay a message one can read


_TRIGGER: Final[dict[type[Handle], Trigger]] = {
    Received: Trigger.RECEIVED,
    Accept: Trigger.ACCEPTED,
    Decline: Trigger.DECLINED,
    Respond: Trigger.RESPONDING,
    OnScene: Trigger.ON_SCENE,
    Escalate: Trigger.ESCALATED,
    Note: Trigger.NOTE,
    Close: Trigger.CLOSED,
    Reopen: Trigger.REOPENED,
    Review: Trigger.REVIEWED,
}
# What a person says of themselves.
_PART: Final = {
    Trigger.ACCEPTED: Part.ACCEPTED,
    Trigger.DECLINED: Part.DECLINED,
    Trigger.RESPONDING: Part.RESPONDING,
    Trigger.ON_SCENE: Part.ON_SCENE,
}


def obey(turn: Turn, event: Commanded) -> None:
    """Carry out the command, and answer it."""
    command, order = event.command, event.command.order
    actor = command.actor.body
    if isinstance(order, ListenStart):
        refusal = _listen(turn, actor, order)
    elif isinstance(order, ListenStop):
        stopped = sound.stop(turn, actor)
        refusal = None if stopped else (Code.CONFLICT, "expected a recording, there is none")
    elif isinstance(order, Raise):
        refusal = calling.raised_by_ops(turn, event, order)
    else:
        refusal = _handle(turn, command, order)
    code, message = refusal or (None, "")
    turn.effects.append(Reply(id=command.id, at=turn.now, code=code, message=message, known=True))


def close(turn: Turn, alarm: Alarm, order: Close, told: Told) -> None:
    """End the alarm, and its part in the recording."""
    if alarm.audio.wanted:
        over = replace(alarm.audio, ends=turn.now, actor=told.actor)
        turn.note(replace(alarm, audio=over))
        sound.settle(turn)
    closed = replace(
        turn.alarms[alarm.id],
        waiting=None,
        outcome=order.outcome,
        police=order.police,
        lesson=order.lesson,
        closed=turn.now,
        closing_id=told.id,
    )
    body = known({"outcome": order.outcome.value, "police": order.police, "lesson": order.lesson})
    turn.tell(closed, Trigger.CLOSED, body, told)


def _handle(turn: Turn, command: Command, order: Handle) -> Refusal:
    alarm = turn.alarms.get(order.alarm)
    if alarm is None or alarm.reviewed is not None:
        return Code.UNKNOWN, f"expected an alarm of this gateway, got {order.alarm}"
    trigger = _TRIGGER[type(order)]
    if isinstance(order, Note) and order.refuses_cancel:
        trigger = Trigger.CANCEL_REFUSED
    actor = command.actor.body
    if _is_so(alarm, actor, order):
        return None
    if alarm.handling not in TABLE[trigger]:
        return Code.CONFLICT, _conflict(alarm, trigger)
    told = Told(id=derive(alarm.id, f"{trigger} {command.id}"), actor=actor)
    match order:
        case Received():
            turn.tell(alarm, trigger, {}, told)
        case Accept() | Decline() | Respond() | OnScene():
            return _take_part(turn, alarm, order, trigger, told)
        case Escalate():
            escalate(turn, alarm, {"reason": "command"}, told)
        case Note():
            return _note(turn, alarm, order, trigger, told)
        case Close():
            close(turn, alarm, order, told)
        case Reopen():
            return _reopen(turn, alarm, told)
        case Review():
            turn.tell(replace(alarm, reviewed=turn.now), trigger, {}, told)
        case _:
            assert_never(order)
    return None


def _is_so(alarm: Alarm, actor: Body, order: Handle) -> bool:
    """Say whether the actor has said that already, so that there is nothing to tell."""
    mine = _responder(alarm, actor)
    if not alarm.open or mine is None:
        return False
    match order:
        case Accept():
            owner = alarm.owner
            return owner is not None and owner["id"] == actor["id"]
        case Decline():
            return mine.part is Part.DECLINED
        case Respond():
            return mine.part is Part.RESPONDING and order.eta_s is None
        case OnScene():
            return mine.part is Part.ON_SCENE
        case _:
            return False


def _responder(alarm: Alarm, actor: Body) -> Responder | None:
    return next((each for each in alarm.responders if each.actor["id"] == actor["id"]), None)


def _take_part(
    turn: Turn, alarm: Alarm, order: Accept | Decline | Respond | OnScene, trigger: Trigger, told: Told
) -> Refusal:
    """Note what the actor does about the alarm."""
    actor = told.actor or {}
    before = _responder(alarm, actor)
    if before is None and len(alarm.responders) >= RESPONDERS:
        return Code.REFUSED, f"expected at most {RESPONDERS} responders of one alarm"
    if before is not None and before.part is Part.ON_SCENE and isinstance(order, Respond):
        return Code.CONFLICT, "expected somebody who is not on scene; alarm/decline says that they left"
    eta_s = order.eta_s if isinstance(order, Respond) else None
    eta = None if eta_s is None else later(turn.now, eta_s)
    after = Responder(actor=actor, part=_PART[trigger], since=turn.now, eta=eta)
    if before is not None and before.at_it and after.at_it:
        responders = tuple(after if each is before else each for each in alarm.responders)
    else:  # who comes, or comes back, does so behind those who are at it
        responders = (*(each for each in alarm.responders if each is not before), after)
    parted = replace(alarm, responders=responders)
    if parted.owner is not None:
        parted = replace(parted, waiting=None)
    elif alarm.owner is not None:
        parted = unattended(parted, turn.now)
    turn.tell(parted, trigger, known({"eta_s": eta_s, "eta_at": eta}), told)
    return None


def _note(turn: Turn, alarm: Alarm, order: Note, trigger: Trigger, told: Told) -> Refusal:
    """Note a text, and that it says no to who asked to cancel."""
    if order.refuses_cancel:
        if alarm.cancelled is None or alarm.cancel_refused is not None:
            return Code.CONFLICT, "expected an alarm that its wearer asked to cancel and nobody answered"
        alarm = replace(alarm, cancel_refused=turn.now)
    turn.tell(alarm, trigger, {"text": order.text}, told)
    return None


def _reopen(turn: Turn, alarm: Alarm, told: Told) -> Refusal:
    """Open a closed alarm again; who was at it has to answer anew."""
    if alarm.mode is Mode.TEST:
        return Code.REFUSED, "expected an alarm that is meant: a test ends with its window"
    for other in turn.calls(alarm.mode):
        if other.source == alarm.source and not alarm.derived:
            return Code.CONFLICT, f"expected no open alarm of this {alarm.who}, there is {other.id}"
    again = replace(
        unattended(alarm, turn.now),
        outcome=None,
        police=None,
        lesson=None,
        closed=None,
        closing_id=None,
        settled=None,
        cancelled=None,
        cancel_refused=None,
    )
    turn.tell(again, Trigger.REOPENED, {}, told)
    return None


def _conflict(alarm: Alarm, trigger: Trigger) -> str:
    allowed = ", ".join(TABLE[trigger])
    owner = "" if alarm.owner is None else f", taken by {alarm.owner.get('name', alarm.owner['id'])}"
    return f"expected an alarm that is {allowed}, this one is {alarm.handling}{owner}"


def _listen(turn: Turn, actor: Body, order: ListenStart) -> Refusal:
    alarm = turn.alarms.get(order.alarm)
    if alarm is None or not (alarm.open or turn.settings.listen_basis):
        return Code.REFUSED, f"expected an open alarm: nobody is listened to without one, got {order.alarm}"
    if alarm.mode is Mode.TEST and not turn.settings.test_audio:
        return (
            Code.REFUSED,
            "expected an alarm that is meant: a test does not open the microphone ([test] microphone)",
        )
    if not turn.settings.audio:
        return Code.UNAVAILABLE, "expected a microphone, none is configured ([audio] enabled)"
    sound.listen(turn, alarm, turn.settings.duration_s if order.max_s is None else order.max_s, actor)
    return None
