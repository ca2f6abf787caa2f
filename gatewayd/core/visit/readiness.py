"""What is wrong with workers' tags before the door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gatewayd.core.battery import Charge
from gatewayd.core.model import Tag
from gatewayd.core.supervision import TagState
from gatewayd.core.visit.events import Doubts
from gatewayd.core.visit.model import Doubt


def doubts(
    tags: Iterable[Tag], states: Mapping[str, TagState], batteries: Mapping[str, Charge | None]
) -> Doubts:
    """Return what is wrong with each worker's tag. Of several tags the best one counts."""
    found: dict[str, tuple[Doubt, ...]] = {}
    for tag in tags:
        if tag.worker is not None:
            mine = _of(states.get(tag.name), batteries.get(tag.name))
            best = found.get(tag.worker)
            found[tag.worker] = mine if best is None else min(best, mine, key=len)
    return found


def _of(state: TagState | None, battery: Charge | None) -> tuple[Doubt, ...]:
    wrong = {
        Doubt.TAG_LOST: state is TagState.LOST,
        Doubt.TAG_UNKNOWN: state in {None, TagState.UNKNOWN},
        Doubt.BATTERY_CRITICAL: battery is Charge.CRITICAL,
    }
    return tuple(doubt for doubt, so in wrong.items() if so)
