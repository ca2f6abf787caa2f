"""The desk: a command comes in, is carried out once, and is answered as often as it is asked.

What could be read is remembered with its answer, so that the same command again (a redelivery, an impatient
person) gets the same reply and has no second effect. What could not be read is refused anew each time, the
same way; nothing is kept of it, so noise fills neither memory nor disk; nor of a question, which has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final, TypeAlias

from gatewayd.core import payload, visit
from gatewayd.core.alarm import Alarms, Commanded, Effect, Publish, Settings, step
from gatewayd.core.alarm.model import elapsed_s
from gatewayd.core.command import CoverageGet, Incoming, Order, Reply, UpkeepCommand, VisitCommand, read
from gatewayd.core.coverage import Record
from gatewayd.core.coverage import answer as coverage
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.handling import Raise
from gatewayd.core.model import Body, ClockSource, Instant
from gatewayd.core.visit import Visits

# A command is delivered again within the session's hour, or given again within a shift.
REMEMBER_S: Final = 24 * 3600.0
REMEMBER_MAX: Final = 1_000  # a hundred alarms a day with ten commands each; some 200 bytes apiece

Replies: TypeAlias = Mapping[str, Reply]  # by the command's id


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveReply:
    """Store this reply (`to_json`) under its command's id."""

    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetReply:
    """Erase the reply stored under this command's id."""

    command: str


Wanted: TypeAlias = Effect | visit.Effect | SaveReply | ForgetReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that a command may need: what it may change, then what is so."""

    alarms: Alarms
    visits: Visits
    replies: Replies
    record: Record
    position: Body | None = None  # for an alarm that ops raise, as in `Pressed`,
    recent: tuple[Body, ...] = ()  # and so is this


def answer(
    known: Known,
    incoming: Incoming,
    now: Instant,
    settings: Settings,
    *,
    upkeep: Callable[[UpkeepCommand], Refusal],
) -> tuple[Known, tuple[Wanted, ...]]:
    """Carry out and answer what came in below `cmd/`. Never raises, whatever it is.

    `upkeep` carries out what is about the gateway and its tags.

    As with `step`, everything asked to be published and saved belongs into one transaction.
    """
    command = read(incoming, now)
    if isinstance(command, CoverageGet):
        return known, (_publish(_covered(command, known.record, now), incoming),)
    if command.id is not None and command.id in known.replies:  # also when it has expired by now
        return known, (_publish(known.replies[command.id], incoming),)
    if isinstance(command, Reply):
        return known, (_publish(command, incoming),)
    effects: tuple[Effect | visit.Effect, ...]
    if isinstance(command, UpkeepCommand):
        code, message = upkeep(command) or (None, "")
        effects = (Reply(id=command.id, at=now, code=code, message=message, known=True),)
    elif isinstance(command, VisitCommand):
        visits, effects = visit.obey(known.visits, command, now)
        known = replace(known, visits=visits)
    else:
        commanded = Commanded(
            command=command,
            position=known.position,
            recent=known.recent,
            visit=_visit(known.visits, command.order, settings),
        )
        alarms, effects = step(known.alarms, commanded, now, settings)
        known = replace(known, alarms=alarms)
    done: list[Wanted] = []
    for effect in effects:
        if isinstance(effect, Reply):
            replies, forgotten = _remember(known.replies, effect, now)
            known = replace(known, replies=replies)
            done += (_publish(effect, incoming), SaveReply(reply=effect), *forgotten)
        else:
            done.append(effect)
    return known, tuple(done)


def to_json(reply: Reply) -> str:
    """Return the reply as it is stored."""
    code = None if reply.code is None else reply.code.value
    return payload.dump({"id": reply.id, "at": reply.at, "code": code, "message": reply.message})


def from_json(text: str) -> Reply:
    """Return the reply `to_json` stored. ValueError that says what was expected when it is damaged."""
    match payload.load(text):
        case {"id": str(name), "at": Instant() as at, "code": None}:
            return Reply(id=name, at=at, known=True)
        case {"id": str(name), "at": Instant() as at, "code": str(code), "message": str(message)}:
            return Reply(id=name, at=at, code=Code(code), message=message, known=True)
        case _:
            raise ValueError(f"expected a stored reply, got {text[:80]!r}")


def _visit(visits: Visits, order: Order, settings: Settings) -> Body | None:
    """Return the visit that the worker is on for whom ops raise an alarm."""
    if not isinstance(order, Raise):
        return None
    tag = next((tag for tag in settings.tags if tag.name == order.tag), None)
    return visit.told_in_alarms(visits, order.worker if tag is None else tag.worker)


def _covered(question: CoverageGet, record: Record, now: Instant) -> Reply:
    at_s = now.wall_s if question.at_s is None else question.at_s
    if now.source is not ClockSource.NONE and at_s > now.wall_s + now.uncertainty_ms / 1000:
        message = "at: expected a time that has passed, it is to come"
        return Reply(id=question.id, at=now, code=Code.INVALID, message=message)
    found = coverage(record.blocks(now), question.tag, min(at_s, now.wall_s), now)
    if found is None:
        message = f"tag: expected one that is assigned to this gateway or was, got {question.tag}"
        return Reply(id=question.id, at=now, code=Code.UNKNOWN, message=message)
    return Reply(id=question.id, at=now, found={"coverage": found.body})


def _publish(reply: Reply, incoming: Incoming) -> Publish:
    return Publish(draft=reply.draft(incoming.response_topic, incoming.correlation))


def forget_old(replies: Replies, now: Instant) -> tuple[Replies, tuple[ForgetReply, ...]]:
    """Return the replies without those that are too old: their words may name people."""
    kept = _recent(replies, now)
    return kept, tuple(ForgetReply(command=name) for name in replies if name not in kept)


def _recent(replies: Replies, now: Instant) -> dict[str, Reply]:
    """Without the old ones. One of an earlier boot whose age no clock can tell is kept."""
    return {name: old for name, old in replies.items() if not REMEMBER_S < elapsed_s(old.at, now) < inf}


def _remember(replies: Replies, reply: Reply, now: Instant) -> tuple[Replies, list[ForgetReply]]:
    """Return the replies with this one, without those that are too old or too many."""
    kept = _recent(replies, now)
    excess = len(kept) - (REMEMBER_MAX - 1)
    for name in sorted(kept, key=lambda name: kept[name].at.wall_s)[: max(excess, 0)]:
        del kept[name]
    forgotten = [ForgetReply(command=name) for name in replies if name not in kept]
    return {**kept, str(reply.id): reply}, forgotten
