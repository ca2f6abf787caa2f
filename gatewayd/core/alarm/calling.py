"""What calls for help: a press, ops for somebody, and what did not happen. And the press that takes it back.

Taking back never closes: it is told, and ops decide. A duress press is told as one, and nothing near its
wearer tells it from a cancelling one: from either on, the alarm is hushed (`Alarm.hushed`).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from math import ceil
from typing import Final

from gatewayd.core.alarm import sound
from gatewayd.core.alarm.escalation import escalate, unattended
from gatewayd.core.alarm.events import Commanded, Pressed, Raised, Spent
from gatewayd.core.alarm.model import SEVERITY, UNKNOWN_BOOT, WIRED, Alarm, Cause, elapsed_s, known
from gatewayd.core.alarm.table import Handling, Trigger
from gatewayd.core.alarm.turn import Told, Turn
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.handling import Raise
from gatewayd.core.model import Auth, Body, Instant, Intent, Mode, Press
from gatewayd.core.tag_record import BURST_S
from gatewayd.core.uuid7 import RANDOM_BYTES, derive, is_uuid, uuid7

# The figures of the field; each is argued for in the package's rules.
REPEAT_S: Final = 10.0  # presses nearer to what was last said are only counted
EMERGENCY_S: Final = 600.0  # a press this long after the last one is a new emergency; a test ends by then
CORROBORATION_S: Final = 120.0  # presses of two workers this near verify each other

_CAUSE: Final = {Intent.ALARM: Cause.PANIC, Intent.DURESS: Cause.DURESS}


def pressed(turn: Turn, event: Pressed) -> None:
    """Raise an alarm, or tell of the press in the one that is open."""
    press = event.press
    if any(_has_told(alarm, press) for alarm in turn.alarms.values()):
        return
    mine = (
        alarm
        for alarm in turn.calls(press.mode)
        if alarm.source == press.tag and not (alarm.test_s is not None and test_is_over(alarm, press.heard))
    )
    latest = max(mine, key=lambda alarm: alarm.id, default=None)
    if press.intent is Intent.CANCEL:
        derived = (alarm for alarm in turn.alarms.values() if _is_derived_for(press, alarm))
        asked = latest or max(derived, key=lambda alarm: alarm.id, default=None)
        if asked is not None:
            _cancel(turn, asked, press)
        return
    alarm = _raise(turn, event) if latest is None else _press_again(turn, latest, event)
    if press.auth not in (Auth.FAILED, Auth.REPLAYED):
        _corroborate(turn, alarm)


def _is_derived_for(press: Press, alarm: Alarm) -> bool:
    return alarm.open and alarm.derived and alarm.wearer is not None and alarm.wearer == press.worker


def test_is_over(alarm: Alarm, now: Instant) -> bool:
    """Say whether a test has ended: with its window, or 10 min after its last press where it has none."""
    if alarm.test_s is not None:
        return elapsed_s(alarm.opened, now) >= alarm.test_s
    return elapsed_s(alarm.pressed, now) > EMERGENCY_S


def _has_told(alarm: Alarm, press: Press) -> bool:
    """Say whether an alarm that was read back from the broker tells of this very press.

    The disk did not know it, nor then that it had been heard: its copies may still be on the air, also when
    ops has closed the alarm.
    """
    adopted = alarm.pressed.boot == UNKNOWN_BOOT
    same = press.press_key is not None and alarm.press_key == press.press_key
    return adopted and same and elapsed_s(alarm.pressed, press.heard) <= BURST_S


def _raise(turn: Turn, event: Pressed) -> Alarm:
    """Begin an alarm."""
    press, name = event.press, event.next_alarm_id
    while name in turn.alarms:  # it was not replaced when it was used: never raise over another alarm
        name = derive(name, "next")
    wired = press.tag == WIRED
    alarm = _begun(
        name,
        press.heard,
        cause=Cause.WIRED if wired else _CAUSE[press.intent],
        tag=None if wired else _tag(press),
        mode=press.mode,
        presses=1,
    )
    alarm = replace(
        alarm,
        press_key=press.press_key,
        decided=event.decided,
        position=event.position,
        visit=_visit(event),
        test_s=None if event.test_s is None else ceil(event.test_s),
    )
    turn.effects.append(Spent(alarm=event.next_alarm_id))
    return _call(turn, alarm, Trigger.RAISED, event.recent)


def _visit(event: Pressed) -> Body | None:
    """Return the visit as the alarm is to tell it: a test sends nobody, and tells nobody's address."""
    return None if event.press.mode is Mode.TEST else event.visit


def _begun(
    name: str, at: Instant, *, cause: Cause, tag: Body | None, mode: Mode = Mode.ACTUAL, presses: int = 0
) -> Alarm:
    """Return an alarm as it begins."""
    return Alarm(
        id=name,
        mode=mode,
        cause=cause,
        handling=Handling.RAISED,
        tag=tag,
        press_key=None,
        presses=presses,
        opened=at,
        pressed=at,
        spoken=at,
        called=at,
        call_id=derive(name, "raised"),
        updated=at,
        stated=at,
        waiting=at,
    )


def _press_again(turn: Turn, alarm: Alarm, event: Pressed) -> Alarm:
    """Count a press of an open alarm; tell it if it says something new."""
    press = event.press
    gap_s = elapsed_s(alarm.pressed, press.heard)
    duress = press.intent is Intent.DURESS and alarm.cause is not Cause.DURESS
    news = alarm.presses == 0 or duress
    alarm = replace(alarm, presses=alarm.presses + 1, pressed=press.heard)
    if not news and gap_s <= EMERGENCY_S and elapsed_s(alarm.spoken, press.heard) < REPEAT_S:
        return turn.save(alarm)
    message = derive(alarm.id, f"repeated {alarm.presses} {_key(press)}")
    alarm = replace(
        alarm,
        spoken=press.heard,
        tag=alarm.tag and _tag(press),
        press_key=press.press_key,
        cause=Cause.DURESS if duress else alarm.cause,
        visit=_visit(event) or (alarm.visit if gap_s <= EMERGENCY_S else _earlier(alarm)),
    )
    if gap_s <= EMERGENCY_S:
        told = Told(at=press.heard, id=message)
        body = known({"presses": alarm.presses, "press_key": press.press_key, "tag": alarm.tag})
        if duress:
            return escalate(turn, alarm, {"reason": Cause.DURESS.value, **body}, told)
        return turn.tell(alarm, Trigger.REPEATED, body, told)
    again = replace(
        unattended(alarm, press.heard),
        called=press.heard,
        call_id=message,
        decided=event.decided,
        stored=None,
        published=None,
        confirmed=None,
        position=event.position,
        positioned=None,
        corroborated_by=(),
        cancelled=None,
        cancel_refused=None,
    )
    return _call(turn, again, Trigger.RAISED_AGAIN, event.recent)


def _earlier(alarm: Alarm) -> Body | None:
    """Return the visit of an earlier call, marked as that: whether its worker is still there nobody says."""
    return alarm.visit and {"known_at": alarm.called, **alarm.visit}


def _key(press: Press) -> str:
    """What a message about a press is derived from, so that one told again after a kill has the same id.

    One without a key cannot be known again, and gets an id of its own: another press must not be taken for
    it.
    """
    return press.press_key or f"{press.heard.boot} {press.heard.mono_s}"


def _call(
    turn: Turn, alarm: Alarm, trigger: Trigger, recent: tuple[Body, ...], actor: Body | None = None
) -> Alarm:
    """Tell everything there is about a call for help, and have it listened to."""
    body = known(
        {
            "cause": alarm.cause.value,
            "severity": SEVERITY[alarm.cause],
            "press_key": alarm.press_key,
            "presses": alarm.presses,
            "tag": alarm.tag,
            "worker": alarm.worker,
            "position": alarm.position,
            "recent": list(recent),
            "hops_ms": alarm.hops_ms,
        }
    )
    alarm = turn.tell(alarm, trigger, body, Told(at=alarm.called, id=alarm.call_id, actor=actor))
    if turn.settings.audio and (alarm.mode is not Mode.TEST or turn.settings.test_audio):
        alarm = sound.listen(turn, alarm, turn.settings.duration_s)
    return alarm


def _tag(press: Press) -> Body:
    return known(
        {
            "id": press.tag,
            "worker": press.worker,
            "battery_pct": press.battery_pct,
            "rssi_dbm": press.rssi_dbm,
            "counter": press.counter,
            "auth": press.auth.value,
            "format": press.format,
            "event": press.event.value,
            "button": press.button,
            "feedback": press.feedback,
        }
    )


def _cancel(turn: Turn, alarm: Alarm, press: Press) -> None:
    """Tell that its wearer asks to cancel it; it stays open."""
    asked = alarm.cancelled
    if asked is not None and alarm.cancel_refused is None and elapsed_s(asked, press.heard) < REPEAT_S:
        return
    # A packet id comes round: what was there before tells it from an earlier request with the same key.
    before = f"{alarm.presses} {None if asked is None else asked.mono_s}"
    told = Told(at=press.heard, id=derive(alarm.id, f"cancel {before} {_key(press)}"))
    asking = replace(alarm, cancelled=press.heard, cancel_refused=None)
    turn.tell(
        asking, Trigger.CANCEL_REQUESTED, known({"press_key": press.press_key, "tag": _tag(press)}), told
    )


def raised(turn: Turn, event: Raised) -> None:
    """Begin an alarm that no press called for, once."""
    if event.alarm in turn.alarms:
        return
    alarm = replace(
        _begun(event.alarm, event.at, cause=event.cause, tag=None),
        worker=event.worker,
        decided=turn.now,
        position=event.position,
        visit=event.visit,
    )
    _call(turn, alarm, Trigger.RAISED, event.recent)


def raised_by_ops(turn: Turn, event: Commanded, order: Raise) -> Refusal:
    """Begin an alarm as ops say. Returns why not; None: it was done."""
    tag = next((tag for tag in turn.settings.tags if order.tag == tag.name), None)
    if order.tag is not None and tag is None:
        return Code.UNKNOWN, f"expected a tag that is assigned to this gateway, got {order.tag}"
    if order.worker is not None:
        tag = next((tag for tag in turn.settings.tags if tag.worker == order.worker), None)
    command = event.command
    if is_uuid(command.id) and command.id[14] == "7":  # it carries a time; and is the same after a kill
        name = derive(command.id, "alarm")
    else:
        name = uuid7(int(turn.now.wall_s * 1000), sha256(command.id.encode()).digest()[:RANDOM_BYTES])
    alarm = _begun(
        name,
        turn.now,
        cause=Cause(order.cause),
        tag=None if tag is None else known({"id": tag.name, "worker": tag.worker, "feedback": tag.feedback}),
    )
    alarm = replace(
        alarm,
        worker=order.worker if tag is None else None,
        note=order.note,
        decided=turn.now,
        position=event.position,
        visit=event.visit,
    )
    if name in turn.alarms:
        return None
    for other in turn.calls(alarm.mode):
        # By either: who wears the tag may have been configured anew since.
        if other.who == alarm.who or other.source == alarm.source:
            return Code.CONFLICT, f"expected no open alarm of this {alarm.who}, there is {other.id}"
    _call(turn, alarm, Trigger.RAISED, event.recent, command.actor.body)
    return None


def _corroborate(turn: Turn, alarm: Alarm) -> None:
    """Mark the alarm and another worker's, pressed shortly before, once each."""
    for other in turn.calls(alarm.mode):
        if (
            other.presses
            and other.who != alarm.who
            and WIRED not in {other.source, alarm.source}  # whose hand that was nobody knows
            and _trusted(other)
            and elapsed_s(other.pressed, alarm.pressed) <= CORROBORATION_S
        ):
            _mark(turn, other, alarm)
            _mark(turn, alarm, other)


def _trusted(alarm: Alarm) -> bool:
    return alarm.tag is None or alarm.tag.get("auth") not in (Auth.FAILED, Auth.REPLAYED)


def _mark(turn: Turn, alarm: Alarm, other: Alarm) -> None:
    alarm = turn.alarms[alarm.id]
    if alarm.corroborated_by:
        return
    marked = replace(alarm, corroborated_by=(other.id,))
    told = Told(id=derive(alarm.id, f"corroborated {alarm.call_id}"))
    turn.tell(marked, Trigger.CORROBORATED, {"corroborated_by": [other.id]}, told)
