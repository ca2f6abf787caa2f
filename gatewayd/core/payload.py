"""Payloads of the contract, rendered when they are published and not before.

Rules: a stored message holds `Instant`s, never times as text, so a press heard before the clock was known is
told rightly once it is. What a message says of its time is said of the time it gives: `clock` describes `at`.
Rendering never fails: a number JSON does not have becomes null, a broken character a question mark. An alarm
that says too little is worth more than one that does not leave.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, TypeAlias

from gatewayd.core import topic
from gatewayd.core.model import Body, ClockSource, ClockState, Draft, Instant, Json, Message
from gatewayd.core.uuid7 import uuid7

VERSION: Final = 1  # of the contract
LIVE_S: Final = 10.0  # a chunk younger than this when it is published is live (the contract's audio classes)
JSON_TYPE: Final = "application/json"
AUDIO_TYPE: Final = "audio/ogg"

_LAST_S: Final = 253_402_300_799.0  # the last second RFC 3339 can write: the end of the year 9999
_RANK: Final = {source: rank for rank, source in enumerate(ClockSource)}  # best first
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_INSTANT: Final = "$instant"  # how `dump` marks an Instant; other keys that begin with $ get a second one

# What JSON text may become once read: no Instant in it.
Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A message as MQTT 5 carries it."""

    payload: bytes
    content_type: str | None
    user_properties: tuple[tuple[str, str], ...] = ()
    expires_s: int | None = None  # message expiry interval


class Stamper:
    """Numbers and names the messages of one run of the daemon."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._seq = 0

    def stamp(self, draft: Draft, random: bytes, *, sound: bytes | None = None) -> Message:
        """Return the draft as a message: its own id or a fresh UUIDv7 of ten `random` bytes, the next `seq`.

        `sound` is an audio chunk's Ogg pages.
        """
        self._seq += 1
        return Message(
            id=draft.id if draft.id is not None else uuid7(_unix_ms(draft.at.wall_s), random),
            run=self._run,
            seq=self._seq,
            topic=draft.topic,
            message_class=draft.message_class,
            keep=draft.keep,
            at=draft.at,
            body=draft.body,
            retain=draft.retain,
            replaces=draft.replaces,
            clears=draft.clears,
            expires_s=draft.expires_s,
            response_topic=draft.response_topic,
            correlation=draft.correlation,
            sound=sound,
        )


def render(message: Message, *, gateway: str, clock: ClockState, published: Instant) -> Rendered:
    """Return the message as it is published at `published`, with what is known of the clock by then.

    Where the body has a field of the envelope's name, the body's stands: a reply's `id` is its command's.
    What goes elsewhere than below the base has no envelope.
    """
    if message.clears:
        return Rendered(payload=b"", content_type=None)
    if topic.is_elsewhere(message.topic):
        return Rendered(payload=_encode(plain(message.body, clock)), content_type=JSON_TYPE)
    late_s = _late_s(message.at, clock, published)
    _, source, uncertainty_ms = _best(message.at, clock)
    if message.sound is not None:
        return Rendered(
            payload=message.sound,
            content_type=AUDIO_TYPE,
            user_properties=(
                ("at", at(message.at, clock)),
                ("clock", source.value),
                ("late-s", str(late_s)),
                ("duration-ms", str(message.body.get("duration_ms", 0))),
                ("sha256", sha256(message.sound).hexdigest()),
                ("live", "true" if late_s < LIVE_S else "false"),
            ),
            expires_s=message.expires_s,
        )
    envelope = _identity(message, gateway) | {
        "at": at(message.at, clock),
        "clock": {"source": source.value, "uncertainty_ms": uncertainty_ms},
        "late_s": late_s,
    }
    body = plain(message.body, clock)
    expires_s = message.expires_s
    if message.retain and expires_s is not None and ClockSource.NONE not in {source, clock.source}:
        expires_s = max(1, expires_s - int(late_s))  # it waited here for a part of that
    return Rendered(payload=_encode(envelope | body), content_type=JSON_TYPE, expires_s=expires_s)


def render_will(message: Message, *, gateway: str) -> Rendered:
    """Return the message as a will: without `at`, `clock` and `late_s`, for nobody knows when it fires.

    An Instant in its body becomes null, for the same reason.
    """
    body = _object(message.body, lambda _instant: None)
    return Rendered(payload=_encode(_identity(message, gateway) | body), content_type=JSON_TYPE)


def plain(body: Body, clock: ClockState) -> dict[str, Plain]:
    """Return a body with its times as text, by what is known of the clock now."""
    return _object(body, lambda instant: at(instant, clock))


def at(instant: Instant, clock: ClockState) -> str:
    """Return the instant's wall time: RFC 3339, UTC, milliseconds, e.g. `2026-03-01T08:15:30.125Z`.

    It is corrected when the instant is of the clock's boot and the clock is known better now than it was
    then. A time that RFC 3339 cannot write is clamped.
    """
    wall_s, _, _ = _best(instant, clock)
    text = datetime.fromtimestamp(_writable(wall_s), UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def wall(text: str) -> float:
    """Return the seconds since 1970 UTC of an RFC 3339 time. ValueError when it is not one with an offset."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"expected a time with Z or an offset, got {text!r}")
    return time.timestamp()


def dump(body: Body) -> str:
    """Return a body as JSON text that `load` turns back into the same body, Instants and all."""
    return json.dumps(_object(body, _dump_instant, _escape), separators=(",", ":"))


def load(text: str) -> dict[str, Json]:
    """Return the body `dump` wrote. ValueError when `text` is not one (damage on disk)."""
    try:
        body = json.loads(text, object_hook=_load_object)
    except (RecursionError, TypeError, OverflowError) as error:
        raise ValueError(f"expected a body written by dump, got {text[:80]!r}") from error
    if not isinstance(body, dict):
        raise ValueError(f"expected a JSON object, got {text[:80]!r}")
    return body


def _identity(message: Message, gateway: str) -> dict[str, Plain]:
    return {
        "v": VERSION,
        "id": message.id,
        "gateway": gateway,
        "boot": message.at.boot,
        "run": message.run,
        "seq": message.seq,
    }


def _best(instant: Instant, clock: ClockState) -> tuple[float, ClockSource, int]:
    """Return the best wall time known now of an instant, and how good it is.

    While nothing is known the clock as it stands now counts: somebody may have set it by hand since.
    """
    known = (_RANK[clock.source], clock.uncertainty_ms)
    better = known < (_RANK[instant.source], instant.uncertainty_ms)
    set_by_hand = clock.source is instant.source is ClockSource.NONE
    if instant.boot == clock.boot and (better or set_by_hand):
        return instant.mono_s + clock.offset_s, clock.source, clock.uncertainty_ms
    return instant.wall_s, instant.source, instant.uncertainty_ms


def _late_s(instant: Instant, clock: ClockState, published: Instant) -> float:
    """Return publish time minus `at`, at least 0, seconds.

    Within one boot it is monotonic, so right even when no wall clock is. Across boots only the wall times
    are left, and `clock` says what they are worth.
    """
    if instant.boot == published.boot:
        late_s = published.mono_s - instant.mono_s
    else:
        late_s = _best(published, clock)[0] - instant.wall_s
    return round(max(late_s, 0.0), 3)


def _writable(wall_s: float) -> float:
    return min(max(wall_s, 0.0), _LAST_S) if math.isfinite(wall_s) else 0.0


def _unix_ms(wall_s: float) -> int:
    return int(_writable(wall_s) * 1000)


def _encode(body: Mapping[str, Plain]) -> bytes:
    text = _ENCODER.encode(body)
    return text.encode("utf-8", errors="replace")  # half a surrogate pair is no UTF-8


def _same(key: str) -> str:
    return key


def _object(
    body: Body, instant: Callable[[Instant], Plain], key: Callable[[str], str] = _same
) -> dict[str, Plain]:
    return {key(name): _plain(item, instant, key) for name, item in body.items()}


def _plain(value: Json, instant: Callable[[Instant], Plain], key: Callable[[str], str]) -> Plain:
    """Return the value with its Instants, its keys and the numbers JSON does not have replaced."""
    if isinstance(value, Instant):
        return instant(value)
    if isinstance(value, Mapping):
        return _object(value, instant, key)
    if isinstance(value, list):
        return [_plain(item, instant, key) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _escape(key: str) -> str:
    return f"${key}" if key.startswith("$") else key


def _dump_instant(instant: Instant) -> Plain:
    numbers: list[Plain] = [instant.boot, instant.mono_s, instant.wall_s]
    return {_INSTANT: [*numbers, instant.source.value, instant.uncertainty_ms]}


def _load_object(found: dict[str, Any]) -> Json:  # Any: json's own word for what a hook is given
    if _INSTANT not in found:
        return {key.removeprefix("$"): value for key, value in found.items()}
    boot, mono_s, wall_s, source, uncertainty_ms = found[_INSTANT]
    return Instant(
        boot=str(boot),
        mono_s=float(mono_s),
        wall_s=float(wall_s),
        source=ClockSource(source),
        uncertainty_ms=int(uncertainty_ms),
    )
