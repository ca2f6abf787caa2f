"""What happens to visits as time passes, and by a press. The rules stand at the head of the package."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gatewayd.core.alarm.model import elapsed_s, later
from gatewayd.core.model import Auth, Instant
from gatewayd.core.uuid7 import derive
from gatewayd.core.visit.events import CheckedOut, Doubts, Effect, Event, Overdue, Settings, TimeUp
from gatewayd.core.visit.model import Doubt, NoCheckOut, Visit, Visits, anchored, of_worker
from gatewayd.core.visit.table import Trigger, VisitState
from gatewayd.core.visit.turn import Turn

# Time to fetch another tag or charge this one; near enough that what is told still holds at the door.
READINESS_S: Final = 600.0
# An hour less than the day within which it must be gone: it may be due while the gateway is switched off.
FORGET_S: Final = 23 * 3600.0
# Who presses again to be sure does so within seconds; the shortest visit lasts five times as long.
AGAIN_S: Final = 60.0


def step(visits: Visits, event: Event, now: Instant, settings: Settings) -> tuple[Visits, tuple[Effect, ...]]:
    """Return the visits after the event, and what to do about it, in order.

    Everything a step asks to be published, saved and raised belongs into one transaction.
    """
    turn = Turn(visits, now)
    if isinstance(event, CheckedOut):
        _checked_out(turn, event)
    else:
        for name in visits:
            _ticked(turn, turn.visits[name], event.doubts, settings)  # one before may have changed it
    return turn.visits, tuple(turn.effects)


def retell(visits: Visits, now: Instant) -> tuple[Effect, ...]:
    """Tell every visit's state again: the broker may have lost what it retained."""
    turn = Turn(visits, now)
    for visit in visits.values():
        turn.retell(visit)
    return tuple(turn.effects)


def _checked_out(turn: Turn, event: CheckedOut) -> None:
    visit = of_worker(turn.visits, event.worker)
    if visit is None:
        return
    told = {"auth": event.auth.value}
    reason = _refused(turn, visit, event)
    if reason is None:
        turn.close(replace(visit, checked_out=True), {"by": "press", **told})
    else:
        turn.tell(visit, Trigger.CHECK_OUT_REFUSED, {"reason": reason.value, **told})


def _refused(turn: Turn, visit: Visit, event: CheckedOut) -> NoCheckOut | None:
    """Why a press of check-out does not end the visit; None: it does."""
    if event.auth in {Auth.FAILED, Auth.REPLAYED}:
        return NoCheckOut.UNPROVEN
    if visit.guessed:
        return NoCheckOut.CLOCK_UNKNOWN
    mine = [each for each in turn.visits.values() if each.worker == visit.worker and each.checked_out]
    moments = (visit.began, *(each.closed for each in mine))
    soon = any(at is not None and elapsed_s(at, turn.now) < AGAIN_S for at in moments)
    return NoCheckOut.TOO_SOON if soon else None


def _ticked(turn: Turn, visit: Visit, doubts: Doubts, settings: Settings) -> None:
    if visit.state is VisitState.CLOSED:
        if visit.closed is None or elapsed_s(visit.closed, turn.now) > FORGET_S:
            turn.forget(visit.id)
        return
    overdue_s = settings.grace_s + settings.pre_alarm_s
    read = anchored(visit, turn.now, overdue_s=overdue_s)
    if read is not visit:
        visit = _read_anew(turn, visit, read, settings)
    if visit.state is VisitState.PLANNED:
        visit = _planned(turn, visit, doubts)
    elif not visit.checked:
        visit = _look(turn, visit, doubts)
    if visit.begun:
        _watch(turn, visit, settings)


def _read_anew(turn: Turn, before: Visit, visit: Visit, settings: Settings) -> Visit:
    """Take times that another clock read; where they say that it is not so far yet, it goes back."""
    if visit.begun and visit.start_s is not None and visit.passed_s(visit.start_s, turn.now) < 0:
        bare = replace(_unalarmed(visit), doubts=(), checked=False, began=None, before=None, rank=0)
        return turn.tell(bare, Trigger.PLANNED)
    nearing = visit.state in {VisitState.REMINDED, VisitState.OVERDUE}
    early = visit.passed_s(visit.end_s, turn.now) < -settings.reminder_s
    if nearing and early:
        return turn.tell(_unalarmed(visit), Trigger.CORRECTED)
    if before.assumed is not visit.assumed:
        turn.state(visit)
    return turn.note(visit)


def _unalarmed(visit: Visit) -> Visit:
    """Return the visit as one to be watched to its end: what was raised without a clock was not for that."""
    return visit if visit.alarm is None else replace(visit, alarm=None, seed=derive(visit.seed, visit.alarm))


def _planned(turn: Turn, visit: Visit, doubts: Doubts) -> Visit:
    """Look at the worker's tag before the door; begin the visit when it is due."""
    start_s = visit.end_s if visit.start_s is None else min(visit.start_s, visit.end_s)
    passed_s = visit.passed_s(start_s, turn.now)
    if passed_s >= -READINESS_S:
        visit = _look(turn, visit, doubts)
    before = of_worker(turn.visits, visit.worker)
    last_s = visit.passed_s(visit.end_s, turn.now)
    if passed_s < 0 or (before is not None and not _over(before) and last_s < 0):
        return visit
    begun = replace(visit, began=turn.now)
    if before is not None:
        begun = replace(begun, before=before.id, rank=before.rank + 1)
    return turn.tell(begun, Trigger.OPENED)


def _over(visit: Visit) -> bool:
    """Whether the worker's next visit may begin though nobody ended this one: help was called for it."""
    return visit.alarm is not None and not visit.assumed


def _followed(turn: Turn, visit: Visit) -> bool:
    """Whether the worker's next visit is on, and no better clock can say that it is not."""
    last = of_worker(turn.visits, visit.worker) or visit
    return last.id != visit.id and last.anchor.source.vouched and visit.anchor.source.vouched


def _look(turn: Turn, visit: Visit, doubts: Doubts) -> Visit:
    """Tell what is wrong with the worker's tag, and what is not any more."""
    found = doubts.get(visit.worker, (Doubt.NO_TAG,))
    looked = replace(visit, doubts=found, checked=True)
    if found != visit.doubts:
        return turn.tell(looked, Trigger.READINESS)
    return visit if visit.checked else turn.note(looked)


def _watch(turn: Turn, visit: Visit, settings: Settings) -> None:
    """Remind, call overdue, and raise the alarm, each when it is due."""
    passed_s = visit.passed_s(visit.end_s, turn.now)
    alarm_s = settings.grace_s + settings.pre_alarm_s
    if visit.state is VisitState.OPEN and passed_s >= -settings.reminder_s:
        visit = turn.tell(visit, Trigger.REMINDED)
    if visit.state is VisitState.REMINDED and passed_s >= settings.grace_s:
        due = later(turn.now, max(alarm_s - passed_s, 0.0))
        visit = turn.tell(visit, Trigger.OVERDUE, {"alarm_at": due})
        turn.effects.append(TimeUp(worker=visit.worker))
    if visit.state is not VisitState.OVERDUE:
        return
    if visit.alarm is None and passed_s >= alarm_s:
        alarm = derive(visit.seed, f"overdue {visit.end_s}")
        visit = turn.tell(replace(visit, alarm=alarm), Trigger.ALARMED)
        turn.effects.append(Overdue(visit=visit, alarm=alarm))
    elif visit.alarm is not None and passed_s > FORGET_S:
        turn.close(visit, {"by": "time"})
        turn.forget(visit.id)
    elif visit.alarm is not None and _followed(turn, visit):
        turn.close(visit, {"by": "next_visit"})
