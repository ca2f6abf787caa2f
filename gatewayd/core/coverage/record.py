"""The record of what the gateway could hear and of whom it heard, as it grows. Pure: times go in.

Rules:
1. Kept are runs, not advertisements: when a tag's hearing began and ended, when the radio's state changed. A
   silence up to `WEAK_SHARE` of the tag's `lost_after` does not end a run.
2. The record is in blocks. The newest is stored when it begins, then anew every `SAVE_EVERY_S`, sooner only
   when hearing was lost, and when the daemon stops; an ended block never again. What a power cut takes is the
   last ten minutes, and `answer` says of those that nothing is known.
3. A radio that reports that it failed, or cannot prove any more that it hears, was so from the last second in
   which anything was heard. Of a second in which it was several things the worst is kept.
4. It is bounded: blocks whose end is known to be longer ago than `KEEP_S` go, and the oldest, when there are
   more than `BLOCKS_MAX` or all are larger than `LARGEST_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf
from typing import Final

from gatewayd.core.alarm.model import elapsed_s
from gatewayd.core.coverage.block import Block, Run, Span, Track
from gatewayd.core.model import Instant, Tag
from gatewayd.core.supervision import WEAK_SHARE, Ear, Hearing

SAVE_EVERY_S: Final = 600.0  # then with the next thing that is stored of a tag
ALONE_S: Final = 690.0  # then in a transaction of its own; tags are stored every 600 s and a heartbeat
LOST_SAVE_S: Final = 60.0  # a radio that comes and goes is not written at each turn
BLOCK_S: Final = 3600.0  # so much is written anew each time: a tag's hour is some ten to some hundred bytes
SPANS_MAX: Final = 200  # a radio that comes and goes fills a block sooner
RUNS_MAX: Final = 2_000  # twenty tags at the edge of hearing for an hour
KEEP_S: Final = 72 * 3600.0
BLOCKS_MAX: Final = 500  # 72 of quiet days; the rest is for radios that come and go
LARGEST_BYTES: Final = 1_200_000  # ten tags at the edge of hearing for 72 h (measured: 14 kB an hour)
WHY_LENGTH: Final = 200  # characters of a reason
_RANK: Final = {hearing: rank for rank, hearing in enumerate(Hearing)}  # best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be stored (text by key) and erased."""

    put: Mapping[str, str]
    forget: tuple[str, ...]


class Record:
    """The blocks there are, and the one that grows."""

    def __init__(self, tags: Iterable[Tag], ear: Ear, now: Instant) -> None:
        self._past: list[Block] = []  # ended, oldest first
        self._unsaved: list[Block] = []  # those of them that are not stored
        self._sizes: dict[str, int] = {}  # of what is stored, bytes
        self._saved_s = -inf
        self._lost = False  # hearing was lost since the last save
        self._known_s = now.mono_s  # until when the radio is known to hear
        self._tags = _supervised(tags)
        self._open(Span(from_s=0, hearing=ear.hearing, why=ear.why[:WHY_LENGTH]), now)

    def _open(self, span: Span, now: Instant) -> None:
        self._begin_s = now.mono_s
        self._spans = [replace(span, from_s=0)]
        self._runs: dict[str, list[Run]] = {tag: [] for tag in self._tags}

    # --- what happens ---------------------------------------------------------------------------------------

    def assign(self, tags: Iterable[Tag], now: Instant) -> None:
        """These tags are assigned from now on."""
        assigned = _supervised(tags)
        if assigned != self._tags:
            self._unsaved.append(self._end(now))
            self._tags = assigned
            self._runs = {tag: [] for tag in assigned}

    def heard(self, tag: str, heard_s: float, *, faint: bool) -> None:
        """An assigned tag was heard, at `heard_s` of CLOCK_MONOTONIC."""
        self.known(heard_s)
        at_s, runs = self._offset(heard_s), self._runs[tag]
        last = runs[-1] if runs else None
        longest_s = self._tags[tag] * WEAK_SHARE
        if last is None or last.faint is not faint or at_s - last.last_s > longest_s:
            runs.append(Run(first_s=at_s, last_s=at_s, faint=faint))
        elif at_s > last.last_s:
            runs[-1] = replace(last, last_s=at_s)

    def known(self, heard_s: float) -> None:
        """The radio is known to have heard something then, whoever sent it."""
        self._known_s = max(self._known_s, heard_s + 1.0)  # the second in which it heard still counts

    def radio(self, ear: Ear) -> None:
        """The radio said how it is, at `ear.since_s`."""
        since_s, before = ear.since_s, self._spans[-1].hearing
        if ear.hearing is Hearing.HEARS:
            self._known_s = max(self._known_s, since_s)
        elif ear.hearing is not before and before is not Hearing.DEAF:
            since_s = min(since_s, self._known_s)
            self._lost = self._lost or ear.hearing is Hearing.DEAF
        rank, offset_s = _RANK[ear.hearing], max(0.0, since_s - self._begin_s)
        from_s = ceil(offset_s) if rank < _RANK[before] else int(offset_s)
        for worse, after in pairwise(self._spans):
            if _RANK[worse.hearing] > rank:
                from_s = max(from_s, after.from_s)
        new = Span(from_s=from_s, hearing=ear.hearing, why=ear.why[:WHY_LENGTH])
        self._spans = [span for span in self._spans if span.from_s < new.from_s]
        if not self._spans or self._spans[-1].said != new.said:
            self._spans.append(new)

    def _offset(self, mono_s: float) -> int:
        return max(0, int(mono_s - self._begin_s))

    # --- what is stored -------------------------------------------------------------------------------------

    def restore(self, blocks: Iterable[Block]) -> None:
        """Take what earlier runs stored."""
        stored = sorted(blocks, key=lambda block: block.end.wall_s)
        self._past = stored + self._past
        self._sizes |= {block.key: len(block.to_json()) for block in stored}

    def store_anew(self) -> None:
        """Another database began: the next save stores all there is."""
        self._unsaved = list(self._past)

    def due(self, now: Instant, *, alone: bool) -> bool:
        """Whether it must be stored now: `alone`, or with something that is stored anyway."""
        unsaved_s = now.mono_s - self._saved_s
        wait_s = LOST_SAVE_S if self._lost else ALONE_S if alone else SAVE_EVERY_S
        return unsaved_s >= wait_s

    def save(self, now: Instant, *, stopped: bool = False) -> Changes:
        """What is to be stored and erased now. `stopped`: the daemon ends, as it should."""
        self._saved_s, self._lost = now.mono_s, False
        put = {block.key: block.to_json() for block in (*self._unsaved, self._block(now, stopped=stopped))}
        self._unsaved.clear()
        self._sizes |= {key: len(text) for key, text in put.items()}
        if self._is_full(now):
            self._end(now)
        return Changes(put=put, forget=self._forget(now))

    def _is_full(self, now: Instant) -> bool:
        return (
            now.mono_s - self._begin_s >= BLOCK_S
            or len(self._spans) >= SPANS_MAX
            or sum(map(len, self._runs.values())) >= RUNS_MAX
        )

    def _end(self, now: Instant) -> Block:
        """End the block that grows, return it, and begin another."""
        ended = self._block(now)
        self._past.append(ended)
        self._open(self._spans[-1], now)
        return ended

    def _forget(self, now: Instant) -> tuple[str, ...]:
        size_bytes, forgotten = sum(self._sizes.values()), []
        for block in tuple(self._past):
            excess = len(self._past) >= BLOCKS_MAX or size_bytes > LARGEST_BYTES
            if excess or KEEP_S < elapsed_s(block.end, now) < inf:
                self._past.remove(block)
                size_bytes -= self._sizes.pop(block.key)
                forgotten.append(block.key)
        return tuple(forgotten)

    def blocks(self, now: Instant) -> tuple[Block, ...]:
        """All there are; the last one ends now."""
        return (*self._past, self._block(now))

    def _block(self, now: Instant, *, stopped: bool = False) -> Block:
        return Block(
            begin_s=self._begin_s,
            end=now,
            stopped=stopped,
            spans=tuple(self._spans),
            tracks={
                tag: Track(lost_after_s=self._tags[tag], runs=tuple(runs)) for tag, runs in self._runs.items()
            },
        )


def _supervised(tags: Iterable[Tag]) -> dict[str, float]:
    return {tag.name: tag.lost_after_s for tag in tags}
