"""Commands as they come from ops, and the replies they get.

Rules: whatever bytes come in, `read` returns a command or a refusal that says what was expected; it never
raises. A retained command is refused (it would be obeyed again at every connection), an expired one too. The
dates of a command are judged only by a clock that is known. A command's actor is a person at ops, by name;
workers are references.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from gatewayd.core import fields, handling, payload, topic, upkeep, visiting
from gatewayd.core.fields import NAME_LENGTH, Code, Fields, Refused
from gatewayd.core.handling import Handle, Raise
from gatewayd.core.model import Body, ClockSource, Draft, Instant, Json, Keep, MessageClass
from gatewayd.core.upkeep import PressWindow, UpkeepOrder
from gatewayd.core.visiting import VisitOrder

LARGEST_BYTES: Final = 64 * 1024  # a command is some hundred bytes; a broker would pass 256 MB
ID_LENGTH: Final = 128  # characters of a command's id: a UUID has 36, a URN some more
LONGEST_LISTEN_S: Final = 3_600  # a listener who forgot to stop is cut off after an hour
TOPIC_LENGTH: Final = 256  # bytes of a response topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The person at ops who gave a command."""

    id: str
    name: str | None = None

    @property
    def body(self) -> Body:
        """The actor as messages carry it."""
        return {"id": self.id} if self.name is None else {"id": self.id, "name": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message below `cmd/` as the uplink received it."""

    name: str  # what stands below `cmd/`, e.g. "alarm/accept"
    payload: bytes
    retained: bool = False
    response_topic: str | None = None  # MQTT 5
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenStart:
    """`listen/start`: record for at least `max_s` more seconds; None: the configured duration."""

    alarm: str
    max_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenStop:
    """`listen/stop`: end the recording, whichever alarm it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageGet:
    """`coverage/get`: was this tag heard then? A question: without effect, and answered anew each time."""

    id: str
    tag: str
    at_s: float | None = None  # seconds since 1970; None: now


Order: TypeAlias = Handle | Raise | ListenStart | ListenStop


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that was understood: who wants what."""

    id: str  # the idempotency key
    actor: Actor
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitCommand:
    """The same of a visit."""

    id: str
    actor: Actor
    order: VisitOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepCommand:
    """The same about the gateway and its tags."""

    id: str
    actor: Actor
    order: UpkeepOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of one command; `code` is None when it was carried out."""

    id: str | None  # the command's; None when it could not be read
    at: Instant
    code: Code | None = None
    message: str = ""
    known: bool = False  # the command was understood: the reply is remembered and stored
    found: Body | None = None  # what a question brought, by the name of its answer

    def draft(self, response_topic: str | None = None, correlation: bytes | None = None) -> Draft:
        """Return the message with its command's `id`: to the topic the command asked for, else to `reply`."""
        body: dict[str, Json] = {"id": self.id, "ok": self.code is None}
        if self.code is not None:
            body["error"] = {"code": self.code.value, "message": self.message}
        body |= self.found or {}
        return Draft(
            topic=topic.REPLY,
            message_class=MessageClass.STATE,
            keep=Keep.AT_ONCE if self.known else Keep.WHEN_WAITING,
            at=self.at,
            body=body,
            response_topic=response_topic if _may_answer(response_topic) else None,
            correlation=correlation,
        )


def read(incoming: Incoming, now: Instant) -> Command | VisitCommand | UpkeepCommand | CoverageGet | Reply:
    """Return the command or question that came in, or the reply that refuses it.

    Never raises, whatever the bytes are.
    """
    command_id: str | None = None
    try:
        body = _object(incoming.payload)
        command_id = fields.text(body, "id", ID_LENGTH)
        if incoming.retained:
            raise Refused(Code.REFUSED, "expected a command published without retain, got a retained one")
        reader = _ORDERS.get(incoming.name)
        if reader is None:
            raise Refused(Code.UNKNOWN, f"expected one of {', '.join(NAMES)}, got {incoming.name[:64]!r}")
        actor = _actor(body)
        order = reader(body)
        _check_expiry(body, now, hushes=isinstance(order, PressWindow) and order.for_s > 0)
    except Refused as refused:
        return Reply(id=command_id, at=now, code=refused.code, message=refused.message)
    if isinstance(order, CoverageGet):
        return order
    if isinstance(order, UpkeepOrder):
        return UpkeepCommand(id=command_id, actor=actor, order=order)
    if isinstance(order, VisitOrder):
        return VisitCommand(id=command_id, actor=actor, order=order)
    return Command(id=command_id, actor=actor, order=order)


def _object(data: bytes) -> dict[str, payload.Plain]:
    if len(data) > LARGEST_BYTES:
        raise Refused(Code.INVALID, f"expected at most {LARGEST_BYTES} bytes, got {len(data)}")
    try:
        found: Any = json.loads(data.decode(), parse_constant=_no_number)  # Any: what json gives back
    except (ValueError, RecursionError) as error:
        raise Refused(Code.INVALID, f"expected a JSON object in UTF-8, got {fields.show(data)}") from error
    if not isinstance(found, dict):
        raise Refused(Code.INVALID, f"expected a JSON object, got {fields.show(data)}")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _actor(body: Fields) -> Actor:
    value = body.get("actor")
    if not isinstance(value, dict):
        raise fields.wrong("actor", "an object with id and name", value)
    name = fields.optional_text(value, "name", NAME_LENGTH)
    return Actor(id=fields.text(value, "id", NAME_LENGTH), name=name)


def _check_expiry(body: Fields, now: Instant, *, hushes: bool) -> None:
    """Refuse a command whose time is over. While the clock's source is none nobody knows, and it passes.

    Not one that `hushes` what calls for help: a broker may have held it until the gateway came back.
    """
    text = fields.optional_text(body, "expires_at", NAME_LENGTH)
    if text is None:
        return
    expires_s = fields.wall(text, "expires_at")
    if hushes and now.source is ClockSource.NONE:
        raise Refused(
            Code.UNAVAILABLE,
            "expected a gateway that knows the time, for presses would be tests: give no expires_at",
        )
    if now.source is not ClockSource.NONE and expires_s < now.wall_s - now.uncertainty_ms / 1000:
        raise Refused(Code.EXPIRED, f"expected a command before its expires_at {text}, it came after")


def _listen_start(body: Fields) -> ListenStart:
    max_s = fields.optional_seconds(body, "max_s", 1, LONGEST_LISTEN_S)
    return ListenStart(alarm=handling.alarm(body), max_s=max_s)


def _listen_stop(_body: Fields) -> ListenStop:
    return ListenStop()


def _coverage_get(body: Fields) -> CoverageGet:
    at = fields.optional_text(body, "at", NAME_LENGTH)
    return CoverageGet(
        id=fields.text(body, "id", ID_LENGTH),
        tag=fields.topic_id(body, "tag", "a tag"),
        at_s=None if at is None else fields.wall(at, "at"),
    )


_Read: TypeAlias = Order | VisitOrder | UpkeepOrder | CoverageGet
_ORDERS: Final[Mapping[str, Callable[[Fields], _Read]]] = MappingProxyType(
    {
        **handling.READERS,
        "listen/start": _listen_start,
        "listen/stop": _listen_stop,
        **visiting.READERS,
        **upkeep.READERS,
        "coverage/get": _coverage_get,
    }
)
NAMES: Final = tuple(_ORDERS)  # the commands there are, as they stand below `cmd/`


def _may_answer(response_topic: str | None) -> bool:
    """Say whether a reply can be published there: an MQTT topic name without wildcards."""
    return (
        response_topic is not None
        and 1 <= len(response_topic.encode(errors="replace")) <= TOPIC_LENGTH
        and not set("+#\0") & set(response_topic)
        and fields.is_unicode(response_topic)
    )
