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
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from gatewayd.core import payload, topic
from gatewayd.core.model import Body, ClockSource, Draft, Instant, Json, Keep, MessageClass, Mode

LARGEST_BYTES: Final = 64 * 1024  # a command is some hundred bytes; a broker would pass 256 MB
ID_LENGTH: Final = 128  # characters of a command's id: a UUID has 36, a URN some more
NAME_LENGTH: Final = 100  # of a person's name
TEXT_LENGTH: Final = 2_000  # of a lesson: a page; the alarm's state carries it
LONGEST_LISTEN_S: Final = 3_600  # a listener who forgot to stop is cut off after an hour
LONGEST_WINDOW_S: Final = 3_600  # while one is open a press calls nobody: a team tests within an hour
WINDOW_TAGS: Final = 1_000  # more than any gateway has
TOPIC_LENGTH: Final = 256  # bytes of a response topic


class Code(StrEnum):
    """Why a command was not carried out."""

    INVALID = "invalid"  # not understood: malformed, too large, a field missing or of the wrong type
    EXPIRED = "expired"  # came too late
    UNKNOWN = "unknown"  # no such command, or no such alarm
    CONFLICT = "conflict"  # the alarm is not in a state that allows it
    REFUSED = "refused"  # understood and possible, but not allowed
    UNAVAILABLE = "unavailable"  # what it needs is not there


class Outcome(StrEnum):
    """What an alarm turned out to be."""

    REAL = "real"
    FALSE = "false"
    TEST = "test"
    TECHNICAL = "technical"
    DUPLICATE = "duplicate"


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
class Received:
    """`alarm/received`: a console showed the alarm to a person."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """`alarm/accept`: the actor takes the alarm."""

    alarm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """`alarm/close`: it is over. `police`: whether they were called, or their reference."""

    alarm: str
    outcome: Outcome
    police: bool | str | None = None
    lesson: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenStart:
    """`listen/start`: record for at least `max_s` more seconds; None: the configured duration."""

    alarm: str
    max_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenStop:
    """`listen/stop`: end the recording, whichever alarm it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """`test/run`: try the way to the broker and back now; health tells how it went."""

    __test__ = False  # to pytest, which takes what is called Test for one


@dataclass(frozen=True, slots=True, kw_only=True)
class PressWindow:
    """`test/press_window`: presses of these tags are tests for so long from now; 0: no more."""

    tags: tuple[str, ...]
    for_s: int
    mode: Mode = Mode.TEST  # or an exercise, which is done like an alarm that is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageGet:
    """`coverage/get`: was this tag heard then? A question: without effect, and answered anew each time."""

    id: str
    tag: str
    at_s: float | None = None  # seconds since 1970; None: now


Order: TypeAlias = Received | Accept | Close | ListenStart | ListenStop


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that was understood: who wants what."""

    id: str  # the idempotency key
    actor: Actor
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillCommand:
    """A command about tests, which no alarm hears of."""

    id: str  # the idempotency key
    actor: Actor
    order: TestRun | PressWindow


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


class _Refused(Exception):  # noqa: N818 a turn of the parser, caught in this module, not an error
    """Ends reading with a code and what was expected."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read(incoming: Incoming, now: Instant) -> Command | DrillCommand | CoverageGet | Reply:
    """Return the command or question that came in, or the reply that refuses it.

    Never raises, whatever the bytes are.
    """
    command_id: str | None = None
    try:
        fields = _object(incoming.payload)
        command_id = _text(fields, "id", ID_LENGTH)
        if incoming.retained:
            raise _Refused(Code.REFUSED, "expected a command published without retain, got a retained one")
        reader = _ORDERS.get(incoming.name)
        if reader is None:
            raise _Refused(Code.UNKNOWN, f"expected one of {', '.join(NAMES)}, got {incoming.name[:64]!r}")
        actor = _actor(fields)
        order = reader(fields)
        _check_expiry(fields, now)
    except _Refused as refused:
        return Reply(id=command_id, at=now, code=refused.code, message=refused.message)
    if isinstance(order, CoverageGet):
        return order
    if isinstance(order, TestRun | PressWindow):
        return DrillCommand(id=command_id, actor=actor, order=order)
    return Command(id=command_id, actor=actor, order=order)


def _object(data: bytes) -> dict[str, payload.Plain]:
    if len(data) > LARGEST_BYTES:
        raise _Refused(Code.INVALID, f"expected at most {LARGEST_BYTES} bytes, got {len(data)}")
    try:
        found: Any = json.loads(data.decode(), parse_constant=_no_number)  # Any: what json gives back
    except (ValueError, RecursionError) as error:
        raise _Refused(Code.INVALID, f"expected a JSON object in UTF-8, got {_show(data)}") from error
    if not isinstance(found, dict):
        raise _Refused(Code.INVALID, f"expected a JSON object, got {_show(data)}")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 a line a person can read


def _wrong(key: str, expected: str, value: object) -> _Refused:
    got = "nothing" if value is None else _show(value)
    return _Refused(Code.INVALID, f"{key}: expected {expected}, got {got}")


def _text(fields: Mapping[str, payload.Plain], key: str, longest: int) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= longest or not _is_unicode(value):
        raise _wrong(key, f"a text of 1 to {longest} characters", value)
    return value


def _optional_text(fields: Mapping[str, payload.Plain], key: str, longest: int) -> str | None:
    return None if fields.get(key) is None else _text(fields, key, longest)


def _is_unicode(text: str) -> bool:
    """Say whether the text can be written as UTF-8: JSON can escape half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _actor(fields: Mapping[str, payload.Plain]) -> Actor:
    value = fields.get("actor")
    if not isinstance(value, dict):
        raise _wrong("actor", "an object with id and name", value)
    return Actor(id=_text(value, "id", NAME_LENGTH), name=_optional_text(value, "name", NAME_LENGTH))


def _check_expiry(fields: Mapping[str, payload.Plain], now: Instant) -> None:
    """Refuse a command whose time is over. While the clock's source is none nobody knows, and it passes."""
    text = _optional_text(fields, "expires_at", NAME_LENGTH)
    if text is None:
        return
    expires_s = _wall(text, "expires_at")
    if now.source is not ClockSource.NONE and expires_s < now.wall_s - now.uncertainty_ms / 1000:
        raise _Refused(Code.EXPIRED, f"expected a command before its expires_at {text}, it came after")


def _wall(text: str, key: str) -> float:
    try:
        return payload.wall(text)
    except ValueError:
        raise _wrong(key, "an RFC 3339 time with Z or an offset", text) from None


def _alarm(fields: Mapping[str, payload.Plain]) -> str:
    value = fields.get("alarm")
    if not isinstance(value, str) or not topic.is_id(value):
        raise _wrong("alarm", "an alarm's id", value)
    return value


def _received(fields: Mapping[str, payload.Plain]) -> Received:
    return Received(alarm=_alarm(fields))


def _accept(fields: Mapping[str, payload.Plain]) -> Accept:
    return Accept(alarm=_alarm(fields))


def _close(fields: Mapping[str, payload.Plain]) -> Close:
    outcome = fields.get("outcome")
    if not isinstance(outcome, str) or outcome not in list(Outcome):
        raise _wrong("outcome", f"one of {', '.join(Outcome)}", outcome)
    police = fields.get("police")
    return Close(
        alarm=_alarm(fields),
        outcome=Outcome(outcome),
        police=police if isinstance(police, bool) else _optional_text(fields, "police", NAME_LENGTH),
        lesson=_optional_text(fields, "lesson", TEXT_LENGTH),
    )


def _listen_start(fields: Mapping[str, payload.Plain]) -> ListenStart:
    max_s = fields.get("max_s")
    if max_s is None:
        return ListenStart(alarm=_alarm(fields))
    if not isinstance(max_s, int) or isinstance(max_s, bool) or not 1 <= max_s <= LONGEST_LISTEN_S:
        raise _wrong("max_s", f"a whole number of seconds from 1 to {LONGEST_LISTEN_S}", max_s)
    return ListenStart(alarm=_alarm(fields), max_s=max_s)


def _listen_stop(_fields: Mapping[str, payload.Plain]) -> ListenStop:
    return ListenStop()


def _test_run(_fields: Mapping[str, payload.Plain]) -> TestRun:
    return TestRun()


def _press_window(fields: Mapping[str, payload.Plain]) -> PressWindow:
    tags, for_s = fields.get("tags"), fields.get("for_s")
    if not isinstance(tags, list) or not 1 <= len(tags) <= WINDOW_TAGS:
        raise _wrong("tags", f"a list of 1 to {WINDOW_TAGS} tags' ids", tags)
    names = [tag for tag in tags if isinstance(tag, str) and topic.is_id(tag)]
    if len(names) != len(tags):
        raise _wrong("tags", "tags' ids", tags)
    if not isinstance(for_s, int) or isinstance(for_s, bool) or not 0 <= for_s <= LONGEST_WINDOW_S:
        raise _wrong("for_s", f"a whole number of seconds from 0 to {LONGEST_WINDOW_S}", for_s)
    mode = fields.get("mode")
    if mode not in (None, Mode.TEST, Mode.EXERCISE):
        raise _wrong("mode", f"{Mode.TEST} or {Mode.EXERCISE}", mode)
    return PressWindow(tags=tuple(names), for_s=for_s, mode=Mode(mode or Mode.TEST))


def _coverage_get(fields: Mapping[str, payload.Plain]) -> CoverageGet:
    tag = fields.get("tag")
    if not isinstance(tag, str) or not topic.is_id(tag):
        raise _wrong("tag", "a tag's id", tag)
    at = _optional_text(fields, "at", NAME_LENGTH)
    return CoverageGet(
        id=_text(fields, "id", ID_LENGTH), tag=tag, at_s=None if at is None else _wall(at, "at")
    )


_ORDERS: Final[
    Mapping[str, Callable[[Mapping[str, payload.Plain]], Order | TestRun | PressWindow | CoverageGet]]
] = MappingProxyType(
    {
        "alarm/received": _received,
        "alarm/accept": _accept,
        "alarm/close": _close,
        "listen/start": _listen_start,
        "listen/stop": _listen_stop,
        "test/run": _test_run,
        "test/press_window": _press_window,
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
        and _is_unicode(response_topic)
    )
