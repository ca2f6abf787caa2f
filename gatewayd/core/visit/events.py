"""What `step` is told, and what it asks to be done. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gatewayd.core.alarm.events import Publish
from gatewayd.core.command import Reply
from gatewayd.core.model import Auth
from gatewayd.core.visit.model import Doubt, Visit

Doubts: TypeAlias = Mapping[str, tuple[Doubt, ...]]  # by worker, of those who wear a tag of this gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is configured of visits: `[visit]`."""

    reminder_s: float
    grace_s: float
    pre_alarm_s: float


# --- what happened ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOut:
    """A worker's tag was pressed as check-out."""

    worker: str
    auth: Auth


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time passed. To be told about once a second."""

    doubts: Doubts = field(default_factory=dict)


Event: TypeAlias = CheckedOut | Ticked


# --- what to do ---------------------------------------------------------------------------------------------
# Whatever one step asks to be published, saved and raised goes into one transaction.


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Store this visit (`to_json`) in place of what is stored of it."""

    visit: Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Erase what is stored of this visit."""

    visit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeUp:
    """Tell the worker, where their tag can be told, that an alarm follows unless they check out."""

    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """Raise the alarm of this visit, under the id it names."""

    visit: Visit
    alarm: str


Effect: TypeAlias = Publish | Save | Forget | TimeUp | Overdue | Reply
