"""What people at ops may ask to be done about an alarm: the orders below `cmd/alarm/`, and their readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from gatewayd.core import fields
from gatewayd.core.fields import NAME_LENGTH, TEXT_LENGTH, Fields

LONGEST_ETA_S: Final = 24 * 3_600  # who comes tomorrow does not respond to an alarm


class Outcome(StrEnum):
    """What an alarm turned out to be."""

    REAL = "real"
    FALSE = "false"
    TEST = "test"
    TECHNICAL = "technical"
    DUPLICATE = "duplicate"


class Raising(StrEnum):
    """Why ops raise an alarm."""

    MANUAL = "manual"
    DURESS = "duress"  # they heard the code word


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """`alarm/received`: a console showed the alarm to a person."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """`alarm/accept`: the actor takes the alarm."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """`alarm/decline`: the actor cannot, or not any longer."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    """`alarm/respond`: the actor is on the way, and thinks to be there in `eta_s`."""

    alarm: str
    eta_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnScene:
    """`alarm/on_scene`: the actor is there."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """`alarm/escalate`: more people, or higher ones, are to know."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """`alarm/note`: something to remember; with `cancel: refused`, the answer to who asked to cancel."""

    alarm: str
    text: str
    refuses_cancel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """`alarm/close`: it is over. `police`: whether they were called, or their reference."""

    alarm: str
    outcome: Outcome
    police: bool | str | None = None
    lesson: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen:
    """`alarm/reopen`: it was not over."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """`alarm/review`: it has been evaluated; its state is withdrawn from the broker."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """`alarm/raise`: ops raise an alarm for a tag or a worker, exactly one of which is given."""

    cause: Raising
    tag: str | None = None
    worker: str | None = None
    note: str | None = None


Handle: TypeAlias = (
    Received | Accept | Decline | Respond | OnScene | Escalate | Note | Close | Reopen | Review
)


def alarm(body: Fields) -> str:
    """Read the alarm that is meant."""
    return fields.topic_id(body, "alarm", "an alarm")


def _respond(body: Fields) -> Respond:
    return Respond(alarm=alarm(body), eta_s=fields.optional_seconds(body, "eta_s", 0, LONGEST_ETA_S))


def _note(body: Fields) -> Note:
    cancel = body.get("cancel")
    if cancel not in (None, "refused"):
        raise fields.wrong("cancel", "refused, or nothing (alarm/close grants it)", cancel)
    text = fields.text(body, "text", TEXT_LENGTH)
    return Note(alarm=alarm(body), text=text, refuses_cancel=cancel is not None)


def _close(body: Fields) -> Close:
    police = body.get("police")
    return Close(
        alarm=alarm(body),
        outcome=fields.choice(body, "outcome", Outcome),
        police=police if isinstance(police, bool) else fields.optional_text(body, "police", NAME_LENGTH),
        lesson=fields.optional_text(body, "lesson", TEXT_LENGTH),
    )


def _raise(body: Fields) -> Raise:
    cause = fields.choice(body, "cause", Raising)
    tag, worker = body.get("tag"), body.get("worker")
    if (tag is None) is (worker is None):
        raise fields.wrong("tag", "either a tag or a worker", "both" if tag is not None else None)
    return Raise(
        cause=cause,
        tag=None if tag is None else fields.topic_id(body, "tag", "a tag"),
        worker=None if worker is None else fields.reference(body, "worker"),
        note=fields.optional_text(body, "note", TEXT_LENGTH),
    )


READERS: Final[Mapping[str, Callable[[Fields], Handle | Raise]]] = MappingProxyType(
    {
        "alarm/received": lambda body: Received(alarm=alarm(body)),
        "alarm/accept": lambda body: Accept(alarm=alarm(body)),
        "alarm/decline": lambda body: Decline(alarm=alarm(body)),
        "alarm/respond": _respond,
        "alarm/on_scene": lambda body: OnScene(alarm=alarm(body)),
        "alarm/escalate": lambda body: Escalate(alarm=alarm(body)),
        "alarm/note": _note,
        "alarm/close": _close,
        "alarm/reopen": lambda body: Reopen(alarm=alarm(body)),
        "alarm/review": lambda body: Review(alarm=alarm(body)),
        "alarm/raise": _raise,
    }
)
