"""What is open, from the retained topics of all gateways: alarms, visits, and tags that nobody covers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gatewayd.core import topic as topics
from gatewayd.monitor import news as reading

_NOT_HEARD: Final = frozenset({"lost", "unknown"})
Found = tuple[
    str, str, Mapping[str, Any]
]  # a gateway, an id, and what it retained; Any: JSON from the network


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What people have to know now."""

    gateways: Mapping[str, str]  # their status
    alarms: tuple[Found, ...]
    visits: tuple[Found, ...]
    uncovered: tuple[tuple[str, str, Mapping[str, Any]], ...]  # a tag, why, what is known of it

    @classmethod
    def of(cls, prefix: str, heard: Iterable[tuple[str, Mapping[str, Any]]]) -> Picture:
        """Make it of what is retained, whole topics and bodies; an empty body: withdrawn."""
        gateways: dict[str, str] = {}
        found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        for topic, body in heard:
            gateway, below = topics.below(prefix, topic) or ("", "")
            match below.split("/"):
                case ["status"] if body:
                    gateways[gateway] = reading.text(body, "state") or "not known"
                case ["alarm", name, "state"] | ["visit" | "tag", name]:
                    found[gateway, below.partition("/")[0], name] = body
        told = {key: body for key, body in found.items() if body}
        return cls(
            gateways=gateways,
            alarms=tuple(_of(told, "alarm", "handling")),
            visits=tuple(_of(told, "visit", "state")),
            uncovered=tuple(_uncovered(told, gateways)),
        )

    def to_json(self) -> Mapping[str, Any]:
        """The same for a program."""
        return {
            "gateways": dict(self.gateways),
            "alarms": [body for _, _, body in self.alarms],
            "visits": [{**body, "visit": name} for _, name, body in self.visits],
            "not_covered": [{**body, "tag": tag, "reason": why} for tag, why, body in self.uncovered],
        }


def _of(told: Mapping[tuple[str, str, str], Mapping[str, Any]], kind: str, state: str) -> Iterator[Found]:
    for (gateway, of, name), body in told.items():
        if of == kind and body.get(state) != "closed":
            yield gateway, name, body


def _uncovered(
    told: Mapping[tuple[str, str, str], Mapping[str, Any]], gateways: Mapping[str, str]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Tags that no gateway hears, or that will soon be silent. Several gateways may know one."""
    tags: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for (gateway, kind, name), body in told.items():
        if kind == "tag":
            tags.setdefault(name, []).append((gateway, body))
    for name, known in sorted(tags.items()):
        reasons = [_why_not(gateway, body, gateways.get(gateway, "not known")) for gateway, body in known]
        critical = [body for _, body in known if body.get("battery") == "critical"]
        if all(reasons):
            yield name, "; ".join(reasons), known[0][1]
        elif critical:
            yield name, "battery critical", critical[0]


def _why_not(gateway: str, body: Mapping[str, Any], status: str) -> str:
    if status != "online":
        return f"{gateway} is {status}"
    state = reading.text(body, "state")
    why = reading.text(body, "why")
    return f"{state} at {gateway}{f' ({why})' if why else ''}" if state in _NOT_HEARD else ""


def lines(picture: Picture) -> Iterator[str]:
    """The same for a person; an alarm's id stands whole, to be typed."""
    yield from _part("open alarms", [_alarm(*each) for each in picture.alarms])
    yield from _part("open visits", [_visit(*each) for each in picture.visits])
    uncovered = [f"{reading.clean(tag)}  {_worker(body)}, {why}" for tag, why, body in picture.uncovered]
    yield from _part("tags not covered", uncovered)
    away = [
        f"{reading.clean(name)}  {state}" for name, state in picture.gateways.items() if state != "online"
    ]
    yield from _part(f"gateways away, of {len(picture.gateways)}", away)


def _part(title: str, found: list[str]) -> Iterator[str]:
    yield f"{title}: {len(found) or 'none'}"
    yield from (f"  {line}" for line in found)


def _alarm(gateway: str, name: str, body: Mapping[str, Any]) -> str:
    mode = reading.text(body, "mode")
    owner = body.get("owner")
    taken = (
        f"taken by {reading.text(owner, 'name') or reading.text(owner, 'id')}"
        if isinstance(owner, dict)
        else ""
    )
    parts = [
        f"{reading.clean(gateway)} {reading.clean(name)}",
        f"{'' if mode == 'actual' else f'{mode.upper()} '}{reading.text(body, 'cause')}",
        reading.worker(body),
        reading.text(body, "handling"),
        taken or "TAKEN BY NOBODY",
        f"since {reading.text(body, 'opened_at')}",
    ]
    return ", ".join(part for part in parts if part)


def _visit(gateway: str, name: str, body: Mapping[str, Any]) -> str:
    parts = [
        f"{reading.clean(gateway)} {reading.clean(name)}",
        _worker(body),
        reading.text(body, "state"),
        f"expected to end {reading.text(body, 'expected_end_at')}",
    ]
    warnings = body.get("warnings")
    return ", ".join([*parts, *([f"WARNING {reading.text(body, 'warnings')}"] if warnings else [])])


def _worker(body: Mapping[str, Any]) -> str:
    return reading.text(body, "worker") or "worker not known"
