"""What happens to alarms: `step`. The rules stand at the head of the package."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Final, assert_never

from gatewayd.core.alarm import calling, escalation, sound
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
    Raised,
    Recalled,
    Resumed,
    Settings,
    SoundEnded,
    SoundOpened,
    SoundUnavailable,
    Spent,
    Ticked,
)
from gatewayd.core.alarm.model import UNKNOWN_BOOT, Alarm, Alarms, elapsed_s
from gatewayd.core.alarm.orders import close, obey
from gatewayd.core.alarm.table import Trigger
from gatewayd.core.alarm.turn import STATE_EXPIRY_S, Told, Turn
from gatewayd.core.handling import Close, Outcome
from gatewayd.core.model import Body, ClockSource, Instant, Method, Mode
from gatewayd.core.uuid7 import derive

# The figures of the field; each is argued for in the package's rules.
POSITION_S: Final = 5.0  # between positions of an alarm at first,
POSITION_DENSE_S: Final = 600.0  # for this long,
POSITION_LATER_S: Final = 30.0  # and from then on; also between tellings of the state for a position alone
# A closed alarm is erased this long after the broker had its closing: within the 24 h that are allowed, with
# two to spare for the hour after which the database's log is emptied too.
FORGET_S: Final = 22 * 3600.0
CLOCK_S: Final = 900.0  # after a start by which the time is known, where it ever is
KNOWN_MAX: Final = 1_000  # alarms held; a gateway's own are bounded by its tags, what a broker says is not


def step(alarms: Alarms, event: Event, now: Instant, settings: Settings) -> tuple[Alarms, tuple[Effect, ...]]:
    """Return the alarms after the event, and what to do about it, in order.

    Everything a step asks to be published and saved belongs into one transaction.
    """
    turn = Turn(alarms, now, settings)
    match event:
        case Pressed():
            calling.pressed(turn, event)
        case Raised():
            calling.raised(turn, event)
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
            obey(turn, event)
        case Adopted():
            _adopted(turn, event)
        case Resumed() | Recalled():
            _resumed(turn, event)
        case Ticked():
            _ticked(turn, event.unproved)
        case _:
            assert_never(event)
    return turn.done()


def retell(alarms: Alarms, now: Instant, settings: Settings) -> tuple[Alarms, tuple[Effect, ...]]:
    """Tell every alarm's state again: the broker may have lost what it retained. Returns as `step` does.

    No new alarm waits for it.
    """
    turn = Turn(alarms, now, settings)
    for alarm in alarms.values():
        if alarm.reviewed is None:
            turn.retell(alarm)
    return turn.done()


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


def _adopted(turn: Turn, event: Adopted) -> None:
    """Take up an open alarm that the disk does not know; the id of any is spent.

    Consumers have seen it: a press told under it once more they would drop.
    """
    alarm = event.alarm
    turn.effects.append(Spent(alarm=alarm.id))
    if alarm.open and alarm.id not in turn.alarms and len(turn.alarms) < KNOWN_MAX:
        take = turn.save if event.lasting else turn.note
        take(replace(alarm, position=_last_known(alarm.position)))


def _resumed(turn: Turn, event: Resumed | Recalled) -> None:
    """Go on after a restart with what the disk held; where it answered late, beside what came meanwhile."""
    known = turn.alarms
    late = isinstance(event, Recalled)
    recorder = sound.current_recorder(turn) if late else None
    stored = {each.id: each for each in event.alarms} if isinstance(event, Recalled) else dict(known)
    for name, each in stored.items():
        alarm = replace(each, position=_last_known(each.position))
        if late and name in known and _is_overtaken(known[name], alarm):
            turn.state(alarm)
        else:
            turn.note(_enriched(known[name], alarm) if late and name in known else alarm)
    sound.resume(turn, list(stored), beside=recorder)
    for alarm in turn.alarms.values() if late else ():
        turn.save(alarm)  # what was adopted meanwhile is not on the disk


def _is_overtaken(adopted: Alarm, stored: Alarm) -> bool:
    """Say whether the disk knows more than the broker did, and nothing was pressed or said of it meanwhile.

    What people do is stored before it is told: a gateway that lost its power in between knows it alone.
    """
    if adopted.pressed.boot != UNKNOWN_BOOT:
        return False
    meanwhile = [
        entry
        for entry in adopted.timeline
        if isinstance(at := entry.get("at"), Instant) and at.boot != UNKNOWN_BOOT
    ]
    told = len(adopted.timeline) - len(meanwhile)
    more = (len(stored.timeline), stored.presses) > (told, adopted.presses)
    return more and not any("actor" in entry for entry in meanwhile)


def _enriched(adopted: Alarm, stored: Alarm) -> Alarm:
    """Return an alarm that was read back from the broker with what only the disk has of it."""
    same_visit = (adopted.visit or {}).get("id") == (stored.visit or {}).get("id")
    alarm = replace(
        adopted,
        visit=stored.visit if same_visit else adopted.visit,
        note=stored.note,
        test_s=stored.test_s,
        audio=adopted.audio if adopted.audio.wanted else stored.audio,
    )
    if adopted.pressed.boot != UNKNOWN_BOOT:  # pressed again meanwhile: what was called before is over
        return alarm
    return replace(
        alarm,
        opened=stored.opened,
        pressed=stored.pressed,
        spoken=stored.spoken,
        called=stored.called,
        call_id=stored.call_id,
        decided=stored.decided,
        published=stored.published,
        positioned=stored.positioned,
    )


def _last_known(position: Body | None) -> Body | None:
    """Return a position of before the restart as it counts now: how old it is nobody can tell."""
    if position is None or position.get("method") == Method.HUB_FIXED:
        return position
    lasting = {name: value for name, value in position.items() if name != "age_s"}
    return {**lasting, "trusted": False, "method": Method.LAST_KNOWN.value}


def _ticked(turn: Turn, unproved: frozenset[str]) -> None:
    sound.settle(turn)
    escalation.tick(turn)
    for alarm in list(turn.alarms.values()):
        if alarm.open:
            if alarm.mode is Mode.TEST and calling.test_is_over(alarm, turn.now):
                order = Close(alarm=alarm.id, outcome=Outcome.TEST)
                close(turn, alarm, order, Told(id=derive(alarm.id, "closed")))
        elif alarm.id not in unproved and _is_done_with(alarm, turn.now):
            turn.forget(alarm.id)
            turn.effects.append(Forget(alarm=alarm.id))


def _may_yet_tell(since: Instant | None, now: Instant) -> bool:
    """Say whether a machine that has just started will know how long ago it was, once it has the time."""
    known = since is not None and since.source is not ClockSource.NONE
    return known and now.source is ClockSource.NONE and now.mono_s < CLOCK_S


def _is_done_with(alarm: Alarm, now: Instant) -> bool:
    """Say whether a closed alarm may be erased: known to the broker for a day, and no recording is its own.

    One that was reviewed need not wait for the day.

    Before the broker knows it, it takes the alarm for open, and would hand it back to be adopted. Should its
    word never have been noted, the alarm goes when its state would have left the broker; not where no clock
    can tell, for it may have been closed a moment ago.
    """
    kept_s = FORGET_S if alarm.reviewed is None else 0.0
    settled = alarm.settled is not None and elapsed_s(alarm.settled, now) > kept_s
    if settled and alarm.reviewed is None and _may_yet_tell(alarm.settled, now):
        return False
    expired = alarm.closed is not None and STATE_EXPIRY_S < elapsed_s(alarm.closed, now) < inf
    return not alarm.audio.wanted and (settled or expired)
