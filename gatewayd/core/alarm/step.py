"""What happens to alarms: `step`. The rules stand at the head of the package."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Final, assert_never

from gatewayd.core.alarm import sound
from gatewayd.core.alarm.events import (
    Adopted,
    Chunked,
    Commanded,
    Effect,
    Event,
    Forget,
    Hop,
    HopKind,
    Positioned,
    Pressed,
    Resumed,
    Settings,
    SoundEnded,
    SoundOpened,
    SoundUnavailable,
    Spent,
    Ticked,
)
from gatewayd.core.alarm.model import SEVERITY, UNKNOWN_BOOT, WIRED, Alarm, Alarms, Cause, elapsed_s, known
from gatewayd.core.alarm.orders import close, obey
from gatewayd.core.alarm.table import Handling, Trigger
from gatewayd.core.alarm.turn import STATE_EXPIRY_S, Told, Turn
from gatewayd.core.command import Close, Outcome
from gatewayd.core.model import Auth, Body, Instant, Method, Mode, Press
from gatewayd.core.presence import BURST_S
from gatewayd.core.uuid7 import derive

# The figures of the field; each is argued for in the package's rules.
REPEAT_S: Final = 10.0  # presses nearer to what was last said are only counted
EMERGENCY_S: Final = 600.0  # a press this long after the last one is a new emergency; a test ends by then
CORROBORATION_S: Final = 120.0  # presses of two workers this near verify each other
POSITION_S: Final = 5.0  # between positions of an alarm at first,
POSITION_DENSE_S: Final = 600.0  # for this long,
POSITION_LATER_S: Final = 30.0  # and from then on; also between tellings of the state for a position alone
FORGET_S: Final = 24 * 3600.0  # a closed alarm is erased this long after the broker had its closing
KNOWN_MAX: Final = 1_000  # alarms held; a gateway's own are bounded by its tags, what a broker says is not


def step(alarms: Alarms, event: Event, now: Instant, settings: Settings) -> tuple[Alarms, tuple[Effect, ...]]:
    """Return the alarms after the event, and what to do about it, in order.

    Everything a step asks to be published and saved belongs into one transaction.
    """
    turn = Turn(alarms, now, settings)
    match event:
        case Pressed():
            _pressed(turn, event)
        case Positioned():
            _positioned(turn, event.position)
        case Hop() | Chunked():
            _noted(turn, event)
        case SoundOpened():
            sound.opened(turn, event.alarm, event.codec, event.head)
        case SoundUnavailable():
            sound.unavailable(turn, event.alarm, event.reason)
        case SoundEnded():
            sound.ended(turn, event.alarm)
        case Commanded():
            obey(turn, event.command)
        case Adopted():
            _adopted(turn, event.alarm)
        case Resumed():
            _resumed(turn)
        case Ticked():
            _ticked(turn)
        case _:
            assert_never(event)
    return turn.done()


def retell(alarms: Alarms, now: Instant, settings: Settings) -> tuple[Alarms, tuple[Effect, ...]]:
    """Tell every alarm's state again: the broker may have lost what it retained. Returns as `step` does.

    No new alarm waits for it.
    """
    turn = Turn(alarms, now, settings)
    for alarm in alarms.values():
        turn.retell(alarm)
    return turn.done()


def _pressed(turn: Turn, event: Pressed) -> None:
    press = event.press
    if any(_has_told(alarm, press) for alarm in turn.alarms.values()):
        return
    mine = [
        alarm
        for alarm in turn.alarms.values()
        if alarm.open and alarm.mode is press.mode and alarm.source == press.tag
    ]
    if not mine:
        alarm = _raise(turn, event)
    else:
        alarm = _press_again(turn, max(mine, key=lambda alarm: alarm.id), event)
    if press.auth not in (Auth.FAILED, Auth.REPLAYED):
        _corroborate(turn, alarm)


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
    cause = Cause.WIRED if press.tag == WIRED else Cause.PANIC
    alarm = Alarm(
        id=name,
        mode=press.mode,
        cause=cause,
        handling=Handling.RAISED,
        tag=None if cause is Cause.WIRED else _tag(press),
        press_key=press.press_key,
        presses=1,
        opened=press.heard,
        pressed=press.heard,
        spoken=press.heard,
        called=press.heard,
        call_id=derive(name, "raised"),
        updated=turn.now,
        stated=turn.now,
        decided=event.decided,
        position=event.position,
    )
    turn.effects.append(Spent(alarm=event.next_alarm_id))
    return _call(turn, alarm, Trigger.RAISED, event)


def _press_again(turn: Turn, alarm: Alarm, event: Pressed) -> Alarm:
    """Count a press of an open alarm; tell it if it says something new."""
    press = event.press
    gap_s = elapsed_s(alarm.pressed, press.heard)
    alarm = replace(alarm, presses=alarm.presses + 1, pressed=press.heard)
    if gap_s <= EMERGENCY_S and elapsed_s(alarm.spoken, press.heard) < REPEAT_S:
        return turn.save(alarm)
    # Derived, so that a press heard again after a kill is told again under the same id. One without a key
    # cannot be known again, and gets an id of its own: another press must not be taken for it.
    key = press.press_key or f"{press.heard.boot} {press.heard.mono_s}"
    message = derive(alarm.id, f"repeated {alarm.presses} {key}")
    alarm = replace(
        alarm,
        spoken=press.heard,
        tag=alarm.tag and _tag(press),
        press_key=press.press_key,
    )
    if gap_s <= EMERGENCY_S:
        body = known({"presses": alarm.presses, "press_key": press.press_key, "tag": alarm.tag})
        return turn.tell(alarm, Trigger.REPEATED, body, Told(at=press.heard, id=message))
    again = replace(
        alarm,
        called=press.heard,
        call_id=message,
        decided=event.decided,
        stored=None,
        published=None,
        confirmed=None,
        owner=None,
        position=event.position,
        positioned=None,
        corroborated_by=(),
    )
    return _call(turn, again, Trigger.RAISED_AGAIN, event)


def _call(turn: Turn, alarm: Alarm, trigger: Trigger, event: Pressed) -> Alarm:
    """Tell everything there is about a press that calls for help, and have it listened to."""
    body = known(
        {
            "cause": alarm.cause.value,
            "severity": SEVERITY[alarm.cause],
            "press_key": alarm.press_key,
            "presses": alarm.presses,
            "tag": alarm.tag,
            "position": event.position,
            "recent": list(event.recent),
            "hops_ms": alarm.hops_ms,
        }
    )
    alarm = turn.tell(alarm, trigger, body, Told(at=event.press.heard, id=alarm.call_id))
    if turn.settings.audio and alarm.mode is not Mode.TEST:
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


def _corroborate(turn: Turn, alarm: Alarm) -> None:
    """Mark the alarm and another worker's, pressed shortly before, once each."""
    for other in list(turn.alarms.values()):
        if (
            other.open
            and other.mode is alarm.mode
            and other.who != alarm.who
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


def _positioned(turn: Turn, position: Body) -> None:
    """Tell the position to every open alarm for which one is due."""
    for alarm in list(turn.alarms.values()):
        if alarm.open and _position_due(alarm, position, turn.now):
            _tell_position(turn, alarm, position)


def _tell_position(turn: Turn, alarm: Alarm, position: Body) -> None:
    """Tell the first position since the call with the alarm's priority, later ones with a position's."""
    later = alarm.positioned is not None
    stale = elapsed_s(alarm.stated, turn.now) >= POSITION_LATER_S
    placed = replace(alarm, position=position, positioned=turn.now)
    placed = turn.tell(placed, Trigger.POSITION, {"position": position}, Told(quiet=later))
    if later and stale:
        turn.state(placed)


def _position_due(alarm: Alarm, position: Body, now: Instant) -> bool:
    if alarm.positioned is not None:
        dense = elapsed_s(alarm.called, now) < POSITION_DENSE_S
        return elapsed_s(alarm.positioned, now) >= (POSITION_S if dense else POSITION_LATER_S)
    if alarm.position is None or (position.get("trusted") and not alarm.position.get("trusted")):
        return True
    return elapsed_s(alarm.called, now) >= POSITION_S


def _noted(turn: Turn, event: Hop | Chunked) -> None:
    """Note how far the call has come, that the closing has arrived, or how many chunks there are."""
    alarm = turn.alarms.get(event.alarm)
    if alarm is None:
        return
    if isinstance(event, Chunked):
        sound.chunked(turn, alarm, event.chunks, event.gaps)
    elif event.message == alarm.call_id:
        _noted_call(turn, alarm, event)
    elif event.message == alarm.closing_id and event.kind is HopKind.CONFIRMED and alarm.settled is None:
        turn.save(replace(alarm, settled=event.at))


def _noted_call(turn: Turn, alarm: Alarm, hop: Hop) -> None:
    """Note a hop of the call, the first time it is told."""
    match hop.kind:
        case HopKind.STORED if alarm.stored is None:
            turn.save(replace(alarm, stored=hop.at))
        case HopKind.PUBLISHED if alarm.published is None:
            turn.save(replace(alarm, published=hop.at))
        case HopKind.CONFIRMED if alarm.confirmed is None:
            turn.save(replace(alarm, confirmed=hop.at))


def _adopted(turn: Turn, alarm: Alarm) -> None:
    """Take up an open alarm that the disk does not know; the id of any is spent.

    Consumers have seen it: a press told under it once more they would drop.
    """
    turn.effects.append(Spent(alarm=alarm.id))
    if alarm.open and alarm.id not in turn.alarms and len(turn.alarms) < KNOWN_MAX:
        turn.save(replace(alarm, position=_last_known(alarm.position)))


def _resumed(turn: Turn) -> None:
    """Go on after a restart."""
    for alarm in list(turn.alarms.values()):
        turn.note(replace(alarm, position=_last_known(alarm.position)))
    sound.resume(turn)


def _last_known(position: Body | None) -> Body | None:
    """Return a position of before the restart as it counts now: how old it is nobody can tell."""
    if position is None or position.get("method") == Method.HUB_FIXED:
        return position
    lasting = {name: value for name, value in position.items() if name != "age_s"}
    return {**lasting, "trusted": False, "method": Method.LAST_KNOWN.value}


def _ticked(turn: Turn) -> None:
    sound.settle(turn)
    for alarm in list(turn.alarms.values()):
        if alarm.open:
            if alarm.mode is Mode.TEST and elapsed_s(alarm.pressed, turn.now) > EMERGENCY_S:
                order = Close(alarm=alarm.id, outcome=Outcome.TEST)
                close(turn, alarm, order, Told(id=derive(alarm.id, "closed")))
        elif _is_done_with(alarm, turn.now):
            turn.forget(alarm.id)
            turn.effects.append(Forget(alarm=alarm.id))


def _is_done_with(alarm: Alarm, now: Instant) -> bool:
    """Say whether a closed alarm may be erased: known to the broker for a day, and no recording is its own.

    Before the broker knows it, it takes the alarm for open, and would hand it back to be adopted. Should its
    word never have been noted, the alarm goes when its state would have left the broker; not where no clock
    can tell, for it may have been closed a moment ago.
    """
    settled = alarm.settled is not None and elapsed_s(alarm.settled, now) > FORGET_S
    expired = alarm.closed is not None and STATE_EXPIRY_S < elapsed_s(alarm.closed, now) < inf
    return not alarm.audio.wanted and (settled or expired)
