"""Tags that fall silent where that is an alarm by itself: off unless `[alarm] tag_lost`.

A worker leaves a vehicle, and the tag is lost every time: there it counts on a visit of high risk alone. In a
hub it counts for every worker. Rules: only a tag that was heard can fall silent; of a worker's tags the best
one counts; while the radio is deaf nobody is silent. What is lost is told at once on the tag's topic; the
alarm follows after the pre-alarm, once, until a tag of the worker is heard again. Whose alarm of that kind is
open gets no second one: who is lost anew meanwhile and still is when it is closed, is alarmed then. After a
restart it must be heard anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatewayd.core.model import Tag
from gatewayd.core.supervision import TagState

HEARD: Final = frozenset({TagState.SEEN, TagState.WEAK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Whose tag was heard, and since when it is lost, CLOCK_MONOTONIC."""

    heard: frozenset[str] = frozenset()
    since_s: Mapping[str, float] = field(default_factory=dict)


def of_workers(
    tags: Iterable[Tag], states: Mapping[str, TagState], workers: Collection[str]
) -> dict[str, set[TagState]]:
    """Return the states of each worker's tags."""
    found: dict[str, set[TagState]] = {worker: set() for worker in workers}
    for tag in tags:
        if tag.worker in found:
            found[tag.worker].add(states.get(tag.name, TagState.UNKNOWN))
    return found


def step(
    before: Silence,
    workers: Mapping[str, Collection[TagState]],
    alarmed: Collection[str | None],
    now_s: float,
    pre_alarm_s: float,
) -> tuple[Silence, tuple[str, ...]]:
    """Return what is known by now, and for whom an alarm is due.

    `workers`: the states of their tags; `alarmed`: those whose alarm of a lost tag is open.
    """
    near = {worker for worker, states in workers.items() if HEARD.intersection(states)}
    heard = (before.heard & workers.keys()) | near
    lost = {worker for worker in heard if set(workers[worker]) == {TagState.LOST}}
    since_s = {worker: before.since_s.get(worker, now_s) for worker in lost}
    long = {worker for worker, at_s in since_s.items() if now_s - at_s >= pre_alarm_s}
    due = tuple(sorted(long.difference(alarmed)))
    kept = {worker: at_s for worker, at_s in since_s.items() if worker not in due}
    return Silence(heard=frozenset(heard - {*due}), since_s=kept), due
