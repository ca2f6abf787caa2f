"""What people at ops may do about an alarm, and the answer they get."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from gatewayd.core.alarm import sound
from gatewayd.core.alarm.model import Alarm, known
from gatewayd.core.alarm.table import TABLE, Trigger
from gatewayd.core.alarm.turn import Told, Turn
from gatewayd.core.command import (
    Accept,
    Close,
    Code,
    Command,
    ListenStart,
    ListenStop,
    Received,
    Reply,
)
from gatewayd.core.model import Body, Mode
from gatewayd.core.uuid7 import derive

# Why not, in a code and in words; None: it was done.
_Refusal: TypeAlias = tuple[Code, str] | None


def obey(turn: Turn, command: Command) -> None:
    """Carry out the command, and answer it."""
    actor, order = command.actor.body, command.order
    if isinstance(order, ListenStart):
        refusal = _listen(turn, actor, order)
    elif isinstance(order, ListenStop):
        stopped = sound.stop(turn, actor)
        refusal = None if stopped else (Code.CONFLICT, "expected a recording, there is none")
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
        outcome=order.outcome,
        police=order.police,
        lesson=order.lesson,
        closed=turn.now,
        closing_id=told.id,
    )
    body = known({"outcome": order.outcome.value, "police": order.police, "lesson": order.lesson})
    turn.tell(closed, Trigger.CLOSED, body, told)


def _handle(turn: Turn, command: Command, order: Received | Accept | Close) -> _Refusal:
    alarm = turn.alarms.get(order.alarm)
    if alarm is None:
        return Code.UNKNOWN, f"expected an alarm of this gateway, got {order.alarm}"
    actor = command.actor.body
    trigger = {Received: Trigger.RECEIVED, Accept: Trigger.ACCEPTED, Close: Trigger.CLOSED}[type(order)]
    if alarm.handling not in TABLE[trigger]:
        if isinstance(order, Accept) and alarm.open and alarm.owner == actor:
            return None  # said twice by the same person: it is so already
        return Code.CONFLICT, _conflict(alarm, trigger)
    told = Told(id=derive(alarm.id, f"{trigger} {command.id}"), actor=actor)
    if isinstance(order, Close):
        close(turn, alarm, order, told)
    else:
        owner = actor if isinstance(order, Accept) else alarm.owner
        turn.tell(replace(alarm, owner=owner), trigger, {}, told)
    return None


def _conflict(alarm: Alarm, trigger: Trigger) -> str:
    allowed = ", ".join(TABLE[trigger])
    owner = "" if alarm.owner is None else f", taken by {alarm.owner.get('name', alarm.owner['id'])}"
    return f"expected an alarm that is {allowed}, this one is {alarm.handling}{owner}"


def _listen(turn: Turn, actor: Body, order: ListenStart) -> _Refusal:
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
