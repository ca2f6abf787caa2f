"""What was dropped, and is told: how many messages of which class, and when they happened.

Totals since the outbox began: whoever missed one health message learns the same from the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.core import payload
from gatewayd.core.model import Body, Instant, MessageClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Dropped messages of one class: how many, and when the earliest and the latest of them happened."""

    count: int
    first: Instant
    last: Instant

    @property
    def body(self) -> Body:
        """As health tells it."""
        return {"count": self.count, "from_at": self.first, "to_at": self.last}

    def to_json(self) -> str:
        """Return it as it is stored."""
        return payload.dump(self.body)

    @classmethod
    def from_json(cls, text: str) -> Loss:
        """Return what `to_json` wrote. ValueError when it is damaged."""
        body = payload.load(text)
        count, first, last = (body.get(name) for name in ("count", "from_at", "to_at"))
        if not (isinstance(count, int) and isinstance(first, Instant) and isinstance(last, Instant)):
            raise ValueError(f"expected count, from_at and to_at, got {text[:80]!r}")
        return cls(count=count, first=first, last=last)


Losses: TypeAlias = Mapping[MessageClass, Loss]


def losses(dropped: Iterable[tuple[MessageClass, Instant]]) -> Losses:
    """Return the losses that these messages are, each given by its class and when it happened."""
    found: Losses = {}
    for name, at in dropped:
        found = added(found, {name: Loss(count=1, first=at, last=at)})
    return found


def taken_back(name: MessageClass, at: Instant) -> Losses:
    """Return what to add once a message that was counted has arrived after all."""
    return {name: Loss(count=-1, first=at, last=at)}


def added(one: Losses, other: Losses) -> Losses:
    """Return both together."""
    both = {name: _both(one[name], loss) if name in one else loss for name, loss in other.items()}
    return {name: loss for name, loss in {**one, **both}.items() if loss.count}


def _both(one: Loss, other: Loss) -> Loss:
    return Loss(
        count=one.count + other.count,
        first=other.first if _before(other.first, one.first) else one.first,
        last=other.last if _before(one.last, other.last) else one.last,
    )


def _before(one: Instant, other: Instant) -> bool:
    """Within a boot the monotonic clock tells, right even where the wall clock was not set."""
    return one.mono_s < other.mono_s if one.boot == other.boot else one.wall_s < other.wall_s
