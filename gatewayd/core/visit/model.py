"""The visit as a value: what is told of it on its topic and in alarms, and the text it is stored as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from gatewayd.core import payload
from gatewayd.core.alarm.model import UNKNOWN_BOOT, known
from gatewayd.core.model import Body, ClockSource, Instant, Json
from gatewayd.core.reader import Reader
from gatewayd.core.visit.table import VisitState
from gatewayd.core.visiting import Risk

SHORTEST_S: Final = 5 * 60.0  # of a timer
LONGEST_S: Final = 1_440 * 60.0
AHEAD_S: Final = 7 * 24 * 3600.0  # a week's plan; what is further ahead is a mistyped date

_BETTER: Final = {source: rank for rank, source in enumerate(ClockSource)}  # best first


class Doubt(StrEnum):
    """Why a worker's press may not be heard at the door."""

    NO_TAG = "no_tag"  # this gateway has none of theirs
    TAG_LOST = "tag_lost"
    TAG_UNKNOWN = "tag_unknown"  # it could not have been heard
    BATTERY_CRITICAL = "battery_critical"


class NoCheckOut(StrEnum):
    """Why a press of check-out ended no visit."""

    UNPROVEN = "unproven"  # it should have proved itself and did not
    CLOCK_UNKNOWN = "clock_unknown"  # the visit may be to come
    TOO_SOON = "too_soon"  # after the last check-out, or after the visit began by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One visit. `start_s` and `end_s` are what ops said, seconds since 1970."""

    id: str
    worker: str  # a reference, never a name
    state: VisitState
    seed: str  # a UUIDv7: the alarm of each end that passes has an id derived from it
    start_s: float | None = None  # None: at once
    end_s: float
    # What turns the two into this boot's monotonic time. Its source is `none` where that is an assumption.
    anchor: Instant
    address: Body | None = None
    note: str | None = None
    risk: Risk | None = None
    code_word_ref: str | None = None
    doubts: tuple[Doubt, ...] = ()
    checked: bool = False  # whether the worker's tag was looked at before the door
    alarm: str | None = None  # raised for this end
    began: Instant | None = None  # by itself, as planned; None: not yet, or ops opened it at once
    before: str | None = None  # the worker's visit that nobody had ended when this one began
    rank: int = 0  # how many of the worker's visits, one upon another, were on then
    closed: Instant | None = None
    checked_out: bool = False  # a press closed it

    @property
    def assumed(self) -> bool:
        """Whether no clock tells when it ends."""
        return self.anchor.source is ClockSource.NONE

    @property
    def guessed(self) -> bool:
        """Whether it only counts as begun: it was planned, and no clock tells whether it is to come."""
        return self.begun and self.assumed and self.anchor.wall_s == self.start_s

    @property
    def begun(self) -> bool:
        """Whether the worker is on it."""
        return self.state not in {VisitState.PLANNED, VisitState.CLOSED}

    def passed_s(self, wall_s: float, now: Instant) -> float:
        """Seconds since a time that ops said; negative while it is to come. `now` is of the anchor's boot."""
        return now.mono_s - self.anchor.mono_s - (wall_s - self.anchor.wall_s)

    @property
    def body(self) -> dict[str, Json]:
        """What its own topic tells; never where it is, nor what is said there."""
        return known(
            {
                "visit": self.id,
                "state": self.state.value,
                "worker": self.worker,
                "risk": None if self.risk is None else self.risk.value,
                "expected_start_at": None if self.start_s is None else _said(self.start_s),
                "expected_end_at": _said(self.end_s),
                "clock_assumed": True if self.assumed else None,
                "warnings": [doubt.value for doubt in self.doubts] or None,
                "alarm": self.alarm,
                "before": self.before,
                "closed_at": self.closed,
            }
        )

    @property
    def in_alarm(self) -> Body:
        """What an alarm raised on it tells: the only way out for the address."""
        return known(
            {
                "id": self.id,
                "worker": self.worker,
                "expected_end_at": _said(self.end_s),
                "risk": None if self.risk is None else self.risk.value,
                "before": self.before,
                "note": self.note,
                "code_word_ref": self.code_word_ref,
                "address": self.address,
            }
        )


Visits: TypeAlias = Mapping[str, Visit]


def of_worker(visits: Visits, worker: str | None) -> Visit | None:
    """Return the visit that a worker is on; of several the one that began last, and surely."""
    on = [visit for visit in visits.values() if visit.begun and visit.worker == worker]
    return max(on, key=lambda visit: (not visit.guessed, visit.rank), default=None)


def told_in_alarms(visits: Visits, worker: str | None) -> Body | None:
    """Return what alarms tell of the visit that their worker is on."""
    found = of_worker(visits, worker)
    return None if found is None else found.in_alarm


def anchored(visit: Visit, now: Instant, *, overdue_s: float) -> Visit:
    """Return the visit with its times read by the best there is; rules at the head of the package.

    `overdue_s`: how long after its end the alarm is due.
    """
    then = visit.anchor
    if _BETTER[now.source] < _BETTER[then.source]:
        # Only now can a timer that was set without a clock be held to its bounds.
        ahead = not visit.begun or (visit.start_s is not None and visit.start_s > now.wall_s)
        longest_s = LONGEST_S + (AHEAD_S if ahead else 0.0)
        end_s = min(visit.end_s, now.wall_s + longest_s) if visit.assumed else visit.end_s
        return replace(visit, anchor=now, end_s=end_s)
    if then.boot == now.boot:
        return visit
    if now.source is not ClockSource.NONE:
        return replace(visit, anchor=now)
    wall_s = visit.end_s
    if visit.state is VisitState.PLANNED and visit.start_s is not None:
        wall_s = visit.start_s
    elif visit.state is VisitState.OVERDUE:
        wall_s += overdue_s
    return replace(visit, anchor=replace(now, wall_s=wall_s))


def _said(wall_s: float) -> Instant:
    """A time that ops said: it is told as it was said, whatever our clock thinks."""
    source = ClockSource.NONE
    return Instant(boot=UNKNOWN_BOOT, mono_s=0.0, wall_s=wall_s, source=source, uncertainty_ms=0)


def to_json(visit: Visit) -> str:
    """Return the visit as it is stored."""
    return payload.dump(
        known(
            {
                "id": visit.id,
                "worker": visit.worker,
                "state": visit.state.value,
                "seed": visit.seed,
                "start_s": visit.start_s,
                "end_s": visit.end_s,
                "anchor": visit.anchor,
                "address": visit.address,
                "note": visit.note,
                "risk": None if visit.risk is None else visit.risk.value,
                "code_word_ref": visit.code_word_ref,
                "doubts": [doubt.value for doubt in visit.doubts],
                "checked": visit.checked,
                "alarm": visit.alarm,
                "began": visit.began,
                "before": visit.before,
                "rank": visit.rank,
                "closed": visit.closed,
                "checked_out": visit.checked_out,
            }
        )
    )


def from_json(text: str) -> Visit:
    """Return the visit `to_json` stored. ValueError that says what was expected when it is damaged."""
    body = payload.load(text)
    stored = Reader(body)
    return Visit(
        id=stored.text("id"),
        worker=stored.text("worker"),
        state=stored.choice("state", VisitState),
        seed=stored.uuid("seed"),
        start_s=stored.optional_seconds("start_s"),
        end_s=stored.seconds("end_s"),
        anchor=stored.instant("anchor"),
        address=stored.object("address") or None,
        note=stored.optional_text("note"),
        risk=stored.choice("risk", Risk) if "risk" in body else None,
        code_word_ref=stored.optional_text("code_word_ref"),
        doubts=tuple(Doubt(each) for each in stored.texts("doubts")),
        checked=body.get("checked") is True,
        alarm=stored.optional_text("alarm"),
        began=stored.optional_instant("began"),
        before=stored.optional_text("before"),
        rank=stored.optional_number("rank") or 0,
        closed=stored.optional_instant("closed"),
        checked_out=body.get("checked_out") is True,
    )
