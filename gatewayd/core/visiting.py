"""What people at ops may ask to be done about a visit: the orders below `cmd/visit/`, and their readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from gatewayd.core import fields
from gatewayd.core.fields import NAME_LENGTH, TEXT_LENGTH, Fields
from gatewayd.core.model import Body

ADDRESS: Final = ("street", "number", "addition", "floor", "postcode", "city")
ADDRESS_LENGTH: Final = 100  # of each of them


class Risk(StrEnum):
    """What is to be feared at a visit."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """`visit/open`: a worker is on a visit until then, from now or from a later time on."""

    visit: str
    worker: str  # a reference, never a name
    end_s: float  # seconds since 1970
    start_s: float | None = None
    address: Body | None = None
    note: str | None = None
    risk: Risk | None = None
    code_word_ref: str | None = None  # where ops find the word, never the word


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """`visit/extend`: it takes until then; None: 15 min more."""

    visit: str
    end_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """`visit/close`: the worker is out, or the visit is not made."""

    visit: str


VisitOrder: TypeAlias = Open | Extend | Close


def _visit(body: Fields) -> str:
    return fields.topic_id(body, "visit", "a visit")


def _open(body: Fields) -> Open:
    return Open(
        visit=_visit(body),
        worker=fields.reference(body, "worker"),
        end_s=fields.wall(fields.text(body, "expected_end", NAME_LENGTH), "expected_end"),
        start_s=_time(body, "expected_start"),
        address=_address(body),
        note=fields.optional_text(body, "note", TEXT_LENGTH),
        risk=None if body.get("risk") is None else fields.choice(body, "risk", Risk),
        code_word_ref=fields.optional_text(body, "code_word_ref", NAME_LENGTH),
    )


def _time(body: Fields, key: str) -> float | None:
    text = fields.optional_text(body, key, NAME_LENGTH)
    return None if text is None else fields.wall(text, key)


def _address(body: Fields) -> Body | None:
    value = body.get("address")
    if value is None:
        return None
    if not isinstance(value, dict) or not set(value) <= set(ADDRESS):
        raise fields.wrong("address", f"an object with any of {', '.join(ADDRESS)}", value)
    found = {key: fields.optional_text(value, key, ADDRESS_LENGTH) for key in ADDRESS}
    return {key: text for key, text in found.items() if text is not None} or None


READERS: Final[Mapping[str, Callable[[Fields], VisitOrder]]] = MappingProxyType(
    {
        "visit/open": _open,
        "visit/extend": lambda body: Extend(visit=_visit(body), end_s=_time(body, "expected_end")),
        "visit/close": lambda body: Close(visit=_visit(body)),
    }
)
