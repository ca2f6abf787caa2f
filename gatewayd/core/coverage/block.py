"""A piece of the record of coverage, at most an hour of one run of the daemon, as it lies on disk.

Times in it are whole seconds since its beginning, by CLOCK_MONOTONIC; `end` says what the wall clock was. So
a block that was begun without a clock is told rightly once a later one of the same boot knows the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatewayd.core import payload
from gatewayd.core.model import Instant, Json
from gatewayd.core.supervision import Hearing

KIND: Final = "coverage"  # of the record on disk
_RUN_NUMBERS: Final = 3  # first, last, faint: a run as it is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How the radio was from a second on, until the next span's."""

    from_s: int
    hearing: Hearing
    why: str = ""

    @property
    def said(self) -> tuple[Hearing, str]:
        """How it was, and why."""
        return self.hearing, self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A time in which a tag was heard without a silence that counts, all of it faint or all of it not."""

    first_s: int
    last_s: int
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """When a tag was heard, and after how long a silence it counts as lost."""

    lost_after_s: float
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What happened from `begin_s` to `end`."""

    begin_s: float  # CLOCK_MONOTONIC of `end.boot`
    end: Instant
    stopped: bool  # the daemon stopped here as it should: what follows was not heard because nobody ran
    spans: tuple[Span, ...]  # the first one's `from_s` is 0
    tracks: Mapping[str, Track] = field(default_factory=dict)  # of every tag that was assigned

    @property
    def key(self) -> str:
        """What tells it from any other."""
        return f"{self.end.boot}-{self.begin_s:.3f}"

    def to_json(self) -> str:
        """The block as text for the disk."""
        tags: dict[str, Json] = {}
        for name, track in self.tracks.items():
            numbers: list[Json] = []
            for run in track.runs:
                numbers += [run.first_s, run.last_s, int(run.faint)]
            tags[name] = {"lost_after_s": track.lost_after_s, "runs": numbers}
        return payload.dump(
            {
                "begin_s": self.begin_s,
                "end": self.end,
                "stopped": self.stopped,
                "radio": [[span.from_s, span.hearing.value, span.why] for span in self.spans],
                "tags": tags,
            }
        )


def from_json(text: str) -> Block:
    """Return the block `to_json` wrote. ValueError that says what was expected when it is damaged."""
    match payload.load(text):
        case {
            "begin_s": int() | float() as begin_s,
            "end": Instant() as end,
            "stopped": bool() as stopped,
            "radio": [_, *_] as radio,
            "tags": Mapping() as tags,
        }:
            return Block(
                begin_s=float(begin_s),
                end=end,
                stopped=stopped,
                spans=tuple(map(_span, radio)),
                tracks={name: _track(track) for name, track in tags.items()},
            )
        case _:
            raise ValueError(f"expected a block of coverage, got {text[:80]!r}")


def _span(value: Json) -> Span:
    match value:
        case [int() as from_s, str() as word, str() as why]:
            return Span(from_s=from_s, hearing=Hearing(word), why=why)
        case _:
            raise ValueError(f"expected [seconds, hearing, reason], got {value!r:.80}")


def _track(value: Json) -> Track:
    match value:
        case {"lost_after_s": int() | float() as lost_after_s, "runs": [*numbers]}:
            return Track(lost_after_s=float(lost_after_s), runs=tuple(_runs(numbers)))
        case _:
            raise ValueError(f"expected lost_after_s and runs, got {value!r:.80}")


def _runs(numbers: list[Json]) -> Iterator[Run]:
    whole = [number for number in numbers if isinstance(number, int)]
    if len(whole) != len(numbers) or len(whole) % _RUN_NUMBERS:
        raise ValueError(f"expected three whole numbers for each run, got {numbers!r:.80}")
    for first_s, last_s, faint in zip(*[iter(whole)] * _RUN_NUMBERS, strict=True):
        yield Run(first_s=first_s, last_s=last_s, faint=bool(faint))
