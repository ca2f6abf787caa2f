"""What the broker delivered, read: a message of the contract, a chunk of sound, or something that is neither.

Nothing that arrives raises; what cannot be read says so in `error`. Text from the network is shown with its
control characters replaced, so that no message can drive the terminal.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from gatewayd.core import topic as topics
from gatewayd.core.topic import Kind

# Ids remembered to drop doubles: an hour of ten messages a second.
_REMEMBERED: Final = 36_000
# A line of an event shows what is new about it, not what each event carries.
_COMMON: Final = frozenset(
    {"v", "id", "gateway", "boot", "run", "seq", "at", "clock", "late_s", "alarm", "type", "mode", "hops_ms"}
)
# Two ways to play the same head: base64 of no use to a reader.
_LONG: Final = frozenset({"timeline", "recent", "head", "versions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One MQTT message, as far as it could be read."""

    topic: str
    gateway: str | None = None
    kind: Kind | None = None  # None: a topic this version does not know
    alarm: str | None = None
    n: int | None = None  # the chunk's number
    body: Mapping[str, Any] | None = None  # Any: whatever JSON somebody sent
    sound: bytes | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    cleared: bool = False  # an empty payload: a retained topic was withdrawn
    error: str | None = None

    @property
    def key(self) -> str | None:
        """What makes this message the same as another: its id, or which chunk it is. None: nothing does."""
        if self.sound is not None:
            return self.topic
        found = self.body.get("id") if self.body is not None else None
        return f"{self.topic} {found}" if isinstance(found, str) else None


class Doubles:
    """Remembers what was seen: a message may arrive more than once."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def again(self, news: News) -> bool:
        """Whether this message was seen before; from now on it was."""
        key = news.key
        if key is None:
            return False
        known = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return known


def read(prefix: str, topic: str, payload: bytes, properties: Iterable[tuple[str, str]] = ()) -> News:
    """Read one message below `prefix`. What is not of the contract comes back with `error` set."""
    split = topics.below(prefix, topic)
    parsed = topics.parse(split[1]) if split is not None else None
    known: dict[str, Any] = {"topic": topic, "properties": dict(properties)}
    if split is not None:
        known["gateway"] = split[0]
    if parsed is not None:
        known |= {"kind": parsed.kind, "alarm": parsed.alarm, "n": parsed.n}
    if not payload:
        return News(**known, cleared=True)
    if parsed is not None and parsed.kind is Kind.ALARM_AUDIO:
        return News(**known, sound=payload)
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return News(**known, error=f"expected JSON, got {len(payload)} bytes that are not")
    if not isinstance(body, dict):
        return News(**known, error=f"expected a JSON object, got {type(body).__name__}")
    return News(**known, body=body)


def to_json(news: News) -> str:
    """One JSON object on one line: the topic, and the payload or what describes the sound."""
    found: dict[str, Any] = {"topic": news.topic}
    if news.error is not None:
        found["error"] = news.error
    elif news.sound is not None:
        found["audio"] = {"n": news.n, "bytes": len(news.sound), **news.properties}
    else:
        found["payload"] = news.body
    return json.dumps(found, ensure_ascii=True, separators=(",", ":"))


def lines(news: News) -> list[str]:
    """The message for a person: one line, an alarm three, a list of hashes none."""
    where = clean(news.gateway or news.topic)
    if news.error is not None:
        return [f"{'':8} {where}  {clean(news.topic)}: {news.error}"]
    if news.cleared:
        return [f"{'':8} {where}  {_name(news)} cleared"]
    when = _when(news.properties.get("at") if news.body is None else news.body.get("at"))
    body = news.body or {}
    head = f"{when:8} {where}  "
    match news.kind:
        case Kind.ALARM_EVENT if body.get("type") == "raised":
            return [head + _raised(body), *(f"{'':8}   {line}" for line in about(body))]
        case Kind.ALARM_EVENT:
            return [head + f"{marked(body)}{text(body, 'type') or 'event'} {_short(news.alarm)}{_rest(body)}"]
        case Kind.ALARM_STATE:
            return [head + _state(body, news.alarm)]
        case Kind.ALARM_AUDIO:
            return [head + _sound(news)]
        case Kind.ALARM_EVIDENCE:
            signed = "signed" if "signature" in body else "not signed: the gateway had no key"
            return [head + f"evidence {_short(news.alarm)}: the recording's manifest, {signed}"]
        case Kind.ALARM_EVIDENCE_LIST:
            return []  # one every 16 s, and nothing in it for eyes
        case Kind.STATUS:
            return [head + _status(body)]
        case Kind.HEALTH:
            return [head + f"health {health(body)}"]
        case Kind.POSITION:
            return [head + f"position {position(body)}"]
        case _:
            return [head + f"{_name(news)}{_rest(body)}"]


def about(body: Mapping[str, Any]) -> list[str]:
    """What else a `raised` event says: who and with what proof, where, how fast."""
    tag = _object(body, "tag")
    proof = [f"auth {text(tag, 'auth')}" if tag.get("auth") is not None else ""]
    proof += [f"battery {text(tag, 'battery_pct')} %" if tag.get("battery_pct") is not None else ""]
    proof += [f"{text(tag, 'rssi_dbm')} dBm" if tag.get("rssi_dbm") is not None else ""]
    found = [
        f"tag {text(tag, 'id') or 'not known'}, {', '.join(part for part in proof if part)}".rstrip(", ")
    ]
    where = _object(body, "position")
    found.append(position(where) if where else "position not known yet")
    if door := _object(body, "visit"):
        found.append(f"visit {visit(door)}")
    if hops := hops_ms(_object(body, "hops_ms")):
        found.append(hops)
    return found


def worker(body: Mapping[str, Any]) -> str:
    """Whose alarm it is: the worker's reference."""
    return text(_object(body, "tag"), "worker") or text(body, "worker") or "worker not known"


def visit(body: Mapping[str, Any]) -> str:
    """The visit on a line: which, behind which door, and what to know there."""
    address = _object(body, "address")
    street = " ".join(text(address, name) for name in ("street", "number", "addition") if address.get(name))
    floor = f"floor {text(address, 'floor')}" if address.get("floor") else ""
    city = " ".join(text(address, name) for name in ("postcode", "city") if address.get(name))
    risk = f"risk {text(body, 'risk')}" if body.get("risk") else ""
    code = f"code word: {text(body, 'code_word_ref')}" if body.get("code_word_ref") else ""
    before = f"nobody ended {text(body, 'before')} before" if body.get("before") else ""
    parts = (street, floor, city, risk, before, text(body, "note"), code)
    found = ", ".join(part for part in parts if part)
    return f"{text(body, 'id')}: {found or 'no address'}"


def position(body: Mapping[str, Any]) -> str:
    """A position on a line: where, how exact, how old, whether it can be trusted, whose it is."""
    lat, lon = _number(body.get("lat")), _number(body.get("lon"))
    if lat is None or lon is None:
        return "not known"
    parts = [f"{lat:.5f}, {lon:.5f}"]
    if (eph_m := _number(body.get("eph_m"))) is not None:
        parts.append(f"± {eph_m:.0f} m")
    if (age_s := _number(body.get("age_s"))) is not None:
        parts.append(f"{age_s:.1f} s old")
    parts.append("trusted" if body.get("trusted") is True else "NOT trusted")
    kind = " ".join(part for part in (text(body, "mode"), text(body, "method")) if part)
    whose = f"of the {text(body, 'subject')}" if body.get("subject") is not None else ""
    return ", ".join(part for part in (*parts, kind, whose) if part)


def hops_ms(hops: Mapping[str, Any]) -> str:
    """The time of each hop, counted from the radio's callback."""
    known = [(number, name) for name, value in hops.items() if (number := _number(value)) is not None]
    return " → ".join(f"{clean(name)} {number:.1f} ms" for number, name in sorted(known))


def health(body: Mapping[str, Any]) -> str:
    """The overall state, and the components that are not as they should be."""
    wrong = [
        f"{clean(name)} {text(component, 'state')}: {text(component, 'detail')}"
        for name, component in _object(body, "components").items()
        if isinstance(component, dict) and component.get("state") in ("degraded", "failed")
    ]
    waiting = _object(body, "outbox").get("depth")
    wrong += [f"{clean(str(waiting))} waiting"] if waiting else []
    wrong += _tests(_object(body, "tests"))
    return "; ".join((text(body, "overall") or "not known", *wrong))


def _tests(tests: Mapping[str, Any]) -> list[str]:
    """What is to be known of tests: one that failed, tags whose presses are none but tests, untested tags."""
    last, windows, overdue = _object(tests, "end_to_end"), _object(tests, "windows"), tests.get("overdue")
    found = [f"test failed: {text(last, 'detail')}"] if last.get("state") == "failed" else []
    found += [f"presses are tests: {', '.join(map(clean, windows))}"] if windows else []
    if isinstance(overdue, list) and overdue:
        found.append(f"not tested: {', '.join(clean(str(tag)) for tag in overdue)}")
    return found


def duration_ms(news: News) -> int:
    """How much sound a chunk says it holds; 0 when it does not say."""
    try:
        return int(news.properties.get("duration-ms", ""))
    except ValueError:
        return 0


def text(body: Mapping[str, Any], name: str) -> str:
    """A field as clean text; empty where there is none."""
    value = body.get(name)
    return "" if value is None else clean(value if isinstance(value, str) else json.dumps(value))


def clean(value: str) -> str:
    """Text that a terminal shows and does not obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value)


def _number(value: object) -> float | None:
    """A figure that can be shown."""
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:
        return None


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def marked(body: Mapping[str, Any]) -> str:
    """What stands before all that is told of an alarm that is not meant."""
    mode = text(body, "mode")
    return "" if mode in ("", "actual") else f"{mode.upper()} "


def _raised(body: Mapping[str, Any]) -> str:
    severity = text(body, "severity")
    return (
        f"{marked(body)}ALARM {text(body, 'cause')} {severity}, {worker(body)}, {_short(text(body, 'alarm'))}"
    )


def _state(body: Mapping[str, Any], alarm: str | None) -> str:
    audio = _object(body, "audio")
    parts = [f"{marked(body)}alarm {_short(alarm)} is {text(body, 'handling') or 'not known'}"]
    parts += [f"owner {text(body, 'owner')}" if body.get("owner") is not None else ""]
    parts += [f"{text(body, 'presses')} presses" if body.get("presses") not in (None, 1) else ""]
    parts += [f"sound {text(audio, 'state')}, {text(audio, 'chunks') or 0} chunks" if audio else ""]
    parts += [hops_ms(_object(body, "hops_ms"))]
    return ", ".join(part for part in parts if part)


def _sound(news: News) -> str:
    duration = duration_ms(news)
    lasts = f", {duration / 1000:.2f} s" if duration else ""
    live = "live" if news.properties.get("live") == "true" else "late"
    return f"sound {_short(news.alarm)} chunk {news.n}{lasts}, {live}"


def _status(body: Mapping[str, Any]) -> str:
    parts = [text(body, "state") or "not known"]
    parts += [f"session {text(body, 'session')}" if body.get("session") is not None else ""]
    parts += [f"version {text(body, 'version')}" if body.get("version") is not None else ""]
    parts += [text(body, "reason")]
    return ", ".join(part for part in parts if part)


def _rest(body: Mapping[str, Any]) -> str:
    """What else is in it, briefly."""
    found = []
    for name, value in body.items():
        if name in _COMMON or name in _LONG:
            continue
        shown = text(body, name)
        if isinstance(value, dict) and name in ("position", "visit"):
            shown = position(value) if name == "position" else visit(value)
        found.append(f"{clean(name)} {shown}")
    return f": {', '.join(found)}" if found else ""


def _name(news: News) -> str:
    below = news.topic.split("/", 2)
    return clean(below[-1])


def _short(alarm: str | None) -> str:
    """The end of an alarm's id: the random part, enough to tell today's alarms apart."""
    return clean(alarm or "")[-8:]


def _when(at: object) -> str:
    """The wall time of a message, where the reader is."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S") if isinstance(at, str) else ""
    except (ValueError, OverflowError, OSError):
        return ""
