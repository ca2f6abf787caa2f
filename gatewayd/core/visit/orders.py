"""What people at ops may do about a visit, and the answer they get."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

from gatewayd.core.command import Reply, VisitCommand
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.model import Body, ClockSource, Instant
from gatewayd.core.uuid7 import RANDOM_BYTES, uuid7
from gatewayd.core.visit.events import Effect
from gatewayd.core.visit.model import AHEAD_S, LONGEST_S, SHORTEST_S, Visit, Visits, of_worker
from gatewayd.core.visit.table import TABLE, Trigger, VisitState
from gatewayd.core.visit.turn import Turn
from gatewayd.core.visiting import Close, Extend, Open

EXTENSION_S: Final = 15 * 60.0
KNOWN_MAX: Final = 1_000  # twenty workers with seven visits a day, for a week
# Five minutes from when somebody at ops said so are a little less when it has come here.
ON_ITS_WAY_S: Final = 30.0


def obey(visits: Visits, command: VisitCommand, now: Instant) -> tuple[Visits, tuple[Effect, ...]]:
    """Carry out the command, and answer it."""
    turn = Turn(visits, now)
    order = command.order
    if isinstance(order, Open):
        refusal = _open(turn, command, order)
    else:
        refusal = _change(turn, command.actor.body, order)
    code, message = refusal or (None, "")
    turn.effects.append(Reply(id=command.id, at=now, code=code, message=message, known=True))
    return turn.visits, tuple(turn.effects)


def _open(turn: Turn, command: VisitCommand, order: Open) -> Refusal:
    now = turn.now
    if order.visit in turn.visits:
        return (
            Code.CONFLICT,
            f"expected a visit of a new id, {order.visit} is {turn.visits[order.visit].state}",
        )
    if len(turn.visits) >= KNOWN_MAX:
        return Code.UNAVAILABLE, f"expected fewer than {KNOWN_MAX} visits, there are as many"
    unknown = now.source is ClockSource.NONE
    start_s = order.start_s if unknown else max(order.start_s or now.wall_s, now.wall_s)
    if start_s is not None and (refusal := _judge(order, start_s, None if unknown else now.wall_s)):
        return refusal
    planned = order.start_s is not None and (unknown or order.start_s > now.wall_s)
    other = of_worker(turn.visits, order.worker)
    if other is not None and not planned:
        return Code.CONFLICT, f"expected a worker on no visit, {order.worker} is on {other.id}"
    random = sha256(f"{order.visit} {command.id} {now.boot} {now.mono_s}".encode()).digest()[:RANDOM_BYTES]
    first_s = order.start_s if planned and order.start_s is not None else order.end_s - SHORTEST_S
    visit = Visit(
        id=order.visit,
        worker=order.worker,
        state=VisitState.PLANNED if planned else VisitState.OPEN,
        seed=uuid7(int(now.wall_s * 1000), random),
        start_s=order.start_s,
        end_s=order.end_s,
        anchor=replace(now, wall_s=first_s) if unknown else now,
        address=order.address,
        note=order.note,
        risk=order.risk,
        code_word_ref=order.code_word_ref,
    )
    trigger = Trigger.PLANNED if planned else Trigger.OPENED
    turn.begin(visit, trigger, {"actor": command.actor.body})
    return None


def _judge(order: Open, start_s: float, now_s: float | None) -> Refusal:
    """Hold the timer to its bounds, as far as clocks can."""
    if now_s is not None and start_s - now_s > AHEAD_S:
        return Code.INVALID, "expected_start: expected a time within 7 days from now, got a later one"
    shortest_s = SHORTEST_S - (ON_ITS_WAY_S if order.start_s is None else 0.0)
    if not shortest_s <= order.end_s - start_s <= LONGEST_S:
        minutes = (order.end_s - start_s) / 60
        return (
            Code.INVALID,
            f"expected_end: expected 5 to 1440 min after the visit's start, got {minutes:.1f}",
        )
    return None


def _change(turn: Turn, actor: Body, order: Extend | Close) -> Refusal:
    visit = turn.visits.get(order.visit)
    if visit is None:
        return Code.UNKNOWN, f"expected a visit of this gateway, got {order.visit}"
    trigger = Trigger.EXTENDED if isinstance(order, Extend) else Trigger.CLOSED
    if visit.state not in TABLE[trigger]:
        return (
            Code.CONFLICT,
            f"expected a visit that is {', '.join(TABLE[trigger])}, this one is {visit.state}",
        )
    if isinstance(order, Extend):
        return _extend(turn, visit, order, actor)
    turn.close(visit, {"by": "command", "actor": actor})
    return None


def _extend(turn: Turn, visit: Visit, order: Extend, actor: Body) -> Refusal:
    """Move the end; by 15 min from where it is, or from now where that is past. It may alarm anew."""
    passed_s = visit.passed_s(visit.end_s, turn.now)
    moved_s = EXTENSION_S + max(passed_s, 0.0) if order.end_s is None else order.end_s - visit.end_s
    if moved_s <= max(passed_s, 0.0):
        return (
            Code.INVALID,
            "expected_end: expected a time to come, after the visit's end, got an earlier one",
        )
    start_s = visit.passed_s(visit.start_s, turn.now) if visit.start_s is not None else 0.0
    if moved_s - passed_s + min(start_s, 0.0) > LONGEST_S:
        return (
            Code.REFUSED,
            "expected a visit of at most 1440 min from now, or from its start, got a longer one",
        )
    turn.tell(replace(visit, end_s=visit.end_s + moved_s, alarm=None), Trigger.EXTENDED, {"actor": actor})
    return None
