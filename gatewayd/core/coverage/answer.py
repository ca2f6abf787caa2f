"""Was this worker covered at 10:14? Answered from the record. Pure.

Rules:
1. A gateway that was deaf then could not hear, whatever was heard before or after. While its radio was
   unproven only a tag that was heard counts; of the others nothing is known.
2. Heard within half of the tag's `lost_after` before: covered, or weak when it was faint. Within all of it:
   weak. Else not heard, if the radio heard for as long; unknown otherwise.
3. Between two blocks the gateway was not running, except for the time in which it may have died before it
   wrote what it heard (`UNSAVED_S`): of that nothing is known, unless it stopped as it should.
4. Times are told by the best clock that is known of their boot. A block whose clock never was set is asked
   only where no other answers, and the answer says `none` of its clock; then a gap may have been anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gatewayd.core.coverage.block import Block, Run, Span, Track
from gatewayd.core.coverage.record import ALONE_S
from gatewayd.core.model import Body, ClockSource, Instant, Json
from gatewayd.core.supervision import WEAK_SHARE, Hearing

UNSAVED_S: Final = ALONE_S + 30.0  # the longest between two writings, and a slow disk
ROUNDED_S: Final = 0.001  # a time that was told, and is asked about, lost what was behind its milliseconds
JOINED_S: Final = 2.0  # times are whole seconds: blocks this near follow each other
NOT_RUNNING: Final = "the gateway was not running"
NOT_RECORDED: Final = (
    "not recorded: the gateway writes every 10 min, and had not yet, or ended without a word"
)
NO_CLOCK: Final = "the gateway ran for a time without knowing the time, which may have been then"
NOT_ASSIGNED: Final = "the tag was not assigned to this gateway then"
TOO_EARLY: Final = "nothing is recorded of a time so early"

_RANK: Final = {source: rank for rank, source in enumerate(ClockSource)}  # best first


class Verdict(StrEnum):
    """Whether a worker was covered."""

    COVERED = "covered"
    WEAK = "weak"
    NOT_HEARD = "not_heard"
    COULD_NOT_HEAR = "could_not_hear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of a tag at a moment. Absent is what is not known."""

    tag: str
    at: Instant  # the moment asked about
    verdict: Verdict
    why: str = ""  # it could not hear, or nothing is known
    since: Instant | None = None  # the radio, or its gateway, was so from then
    until: Instant | None = None  # until then; absent: to the end of the record
    heard_from: Instant | None = None  # heard all the time from then, without a silence that counts
    heard_to: Instant | None = None
    last_heard: Instant | None = None  # otherwise: the last time before
    next_heard: Instant | None = None  # and the first after

    @property
    def body(self) -> Body:
        """The answer as messages carry it. `at`'s clock says what the times are worth."""
        fields: dict[str, Json] = {
            "tag": self.tag,
            "at": self.at,
            "verdict": self.verdict.value,
            "why": self.why or None,
            "since": self.since,
            "until": self.until,
            "heard_from_at": self.heard_from,
            "heard_to_at": self.heard_to,
            "last_heard_at": self.last_heard,
            "next_heard_at": self.next_heard,
            "clock": {"source": self.at.source.value, "uncertainty_ms": self.at.uncertainty_ms},
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A block on the wall clock: `clock` is an instant of its boot, the best known."""

    block: Block
    clock: Instant

    @property
    def begin_s(self) -> float:
        """Its beginning, seconds since 1970."""
        return self.wall_s(0)

    @property
    def end_s(self) -> float:
        """Its end, likewise."""
        return self.wall_s(self.block.end.mono_s - self.block.begin_s)

    def wall_s(self, offset_s: float) -> float:
        """When a second of the block was."""
        return self.block.begin_s + offset_s + self.clock.wall_s - self.clock.mono_s

    def instant(self, wall_s: float) -> Instant:
        """The moment, by the block's clock."""
        return replace(self.clock, mono_s=wall_s - self.clock.wall_s + self.clock.mono_s, wall_s=wall_s)


def answer(blocks: Iterable[Block], tag: str, at_s: float, now: Instant) -> Answer | None:
    """What is known of `tag` at `at_s` (seconds since 1970); None: there is no such tag in the record."""
    placed = _place(blocks, now)
    at_s += ROUNDED_S
    if not any(tag in each.block.tracks for each in placed):
        return None
    dated = [each for each in placed if each.clock.source is not ClockSource.NONE]
    undated = [each for each in placed if each.clock.source is ClockSource.NONE]
    for some in (dated, undated):
        for index, each in enumerate(some):
            if each.begin_s <= at_s <= each.end_s + 2 * ROUNDED_S:
                return _within(some, index, tag, at_s)
    return _between(
        dated or undated, tag, at_s, replace(now, wall_s=at_s - ROUNDED_S), unclear=bool(dated and undated)
    )


def _place(blocks: Iterable[Block], now: Instant) -> list[_Placed]:
    """Put blocks on the wall clock, in order."""
    found = tuple(blocks)
    clocks: dict[str, Instant] = {}
    for known in (now, *(block.end for block in reversed(found))):
        clocks[known.boot] = min(clocks.get(known.boot, known), known, key=_worth)
    placed = (_Placed(block=block, clock=clocks[block.end.boot]) for block in found)
    return sorted(placed, key=lambda each: each.begin_s)


def _worth(instant: Instant) -> tuple[int, int]:
    return _RANK[instant.source], instant.uncertainty_ms


def _within(placed: Sequence[_Placed], index: int, tag: str, at_s: float) -> Answer:
    """Rules 1 and 2."""
    here = placed[index]
    track = here.block.tracks.get(tag)
    found = Answer(tag=tag, at=here.instant(at_s - ROUNDED_S), verdict=Verdict.UNKNOWN, why=NOT_ASSIGNED)
    if track is None:
        return found
    number, span = _span(here, at_s)
    began_s, ended_s = _extent(placed, index, number)
    found = _with_hearings(replace(found, why=""), placed, index, tag, at_s)
    told = replace(
        found,
        why=span.why,
        since=here.instant(began_s),
        until=None if ended_s is None else here.instant(ended_s),
    )
    if span.hearing is Hearing.DEAF:
        return replace(told, verdict=Verdict.COULD_NOT_HEAR)
    verdict = _heard(found, placed, index, track, at_s)
    if verdict is not None:
        return replace(found, verdict=verdict)
    if span.hearing is Hearing.UNPROVEN:
        return told
    if at_s - began_s < track.lost_after_s:
        return replace(told, why="the radio heard again only since then")
    return replace(found, verdict=Verdict.NOT_HEARD)


def _span(here: _Placed, at_s: float) -> tuple[int, Span]:
    spans = here.block.spans
    number = max(n for n, span in enumerate(spans) if n == 0 or here.wall_s(span.from_s) <= at_s)
    return number, spans[number]


def _extent(placed: Sequence[_Placed], index: int, number: int) -> tuple[float, float | None]:
    """From when to when the radio was as in this span, over blocks that follow each other; None: no end."""
    here, span = placed[index], placed[index].block.spans[number]
    began_s, ended_s, first, last = here.wall_s(span.from_s), here.end_s, index, index
    while number == 0 and first > 0 and _follows(placed[first - 1], placed[first]):
        before = placed[first - 1]
        if before.block.spans[-1].said != span.said:
            break
        first -= 1
        began_s = before.wall_s(before.block.spans[-1].from_s)
        number = len(before.block.spans) - 1
    if span is not here.block.spans[-1]:
        following = here.block.spans[here.block.spans.index(span) + 1]
        return began_s, here.wall_s(following.from_s)
    while last + 1 < len(placed) and _follows(placed[last], placed[last + 1]):
        after = placed[last + 1]
        if after.block.spans[0].said != span.said:
            return began_s, ended_s
        if len(after.block.spans) > 1:
            return began_s, after.wall_s(after.block.spans[1].from_s)
        last, ended_s = last + 1, after.end_s
    return began_s, None if last + 1 == len(placed) else ended_s


def _follows(one: _Placed, other: _Placed) -> bool:
    return one.block.end.boot == other.block.end.boot and other.begin_s - one.end_s <= JOINED_S


def _with_hearings(found: Answer, placed: Sequence[_Placed], index: int, tag: str, at_s: float) -> Answer:
    """The answer with when the tag was heard. `index`: the block of that moment, or the one before it."""
    before, after = _before(placed, index, tag, at_s), _after(placed, index, tag, at_s)
    if before is not None and before[0].wall_s(before[1].last_s) >= at_s:
        where, run = before
        return replace(
            found,
            heard_from=where.instant(where.wall_s(run.first_s)),
            heard_to=where.instant(where.wall_s(run.last_s)),
        )
    return replace(
        found,
        last_heard=None if before is None else before[0].instant(before[0].wall_s(before[1].last_s)),
        next_heard=None if after is None else after[0].instant(after[0].wall_s(after[1].first_s)),
    )


def _before(placed: Sequence[_Placed], index: int, tag: str, at_s: float) -> tuple[_Placed, Run] | None:
    """The last run that began by then."""
    for each in reversed(placed[: index + 1]):
        for run in reversed(each.block.tracks.get(tag, _NOBODY).runs):
            if each.wall_s(run.first_s) <= at_s:
                return each, run
    return None


def _after(placed: Sequence[_Placed], index: int, tag: str, at_s: float) -> tuple[_Placed, Run] | None:
    """The first run that began later."""
    for each in placed[max(index, 0) :]:
        for run in each.block.tracks.get(tag, _NOBODY).runs:
            if each.wall_s(run.first_s) > at_s:
                return each, run
    return None


_NOBODY: Final = Track(lost_after_s=0.0)


def _heard(found: Answer, placed: Sequence[_Placed], index: int, track: Track, at_s: float) -> Verdict | None:
    """Rule 2 as far as the tag was heard; None: it was silent for too long."""
    before = _before(placed, index, found.tag, at_s)
    if before is None:
        return None
    silent_s = max(0.0, at_s - before[0].wall_s(before[1].last_s))
    if silent_s > track.lost_after_s:
        return None
    loud = not before[1].faint and silent_s <= track.lost_after_s * WEAK_SHARE
    return Verdict.COVERED if loud else Verdict.WEAK


def _between(placed: Sequence[_Placed], tag: str, at_s: float, at: Instant, *, unclear: bool) -> Answer:
    """Rules 3 and 4: the moment is in no block."""
    index = sum(each.end_s < at_s for each in placed) - 1
    if index < 0:
        early = Answer(tag=tag, at=at, verdict=Verdict.UNKNOWN, why=NO_CLOCK if unclear else TOO_EARLY)
        return _with_hearings(
            replace(early, until=placed[0].instant(placed[0].begin_s)), placed, index, tag, at_s
        )
    here = placed[index]
    after = placed[index + 1] if index + 1 < len(placed) else None
    found = Answer(
        tag=tag,
        at=here.instant(at_s - ROUNDED_S),
        verdict=Verdict.UNKNOWN,
        since=here.instant(here.end_s),
        until=None if after is None else after.instant(after.begin_s),
    )
    found = _with_hearings(found, placed, index, tag, at_s)
    if unclear:
        return replace(found, why=NO_CLOCK)
    if not here.block.stopped and at_s - here.end_s <= UNSAVED_S:
        return replace(found, why=NOT_RECORDED)
    return replace(found, verdict=Verdict.COULD_NOT_HEAR, why=NOT_RUNNING)
