"""What must be true after any faults, judged from outside.

The witnesses are what came over the wire to a subscriber at the broker, the presses that were really made,
and what the wearer was told (the journal's "accepted", which is also the LED's moment). Of the gateway's own
logic nothing is used here but the contract's names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from end_to_end.ops import Heard

from faults.site import Site
from gatewayd.core.topic import Kind

# 53 MB as measured, 16 MB that the backlog may hold beside them, what the shims keep, a margin.
MEMORY_KB: Final = 96 * 1024
# A fix tells of the second that has just passed; a busy machine takes its time between press and radio.
CLOCK_S: Final = 5.0
# Sound that is missing between two chunks and not worth a name: a chunk's end is told to 20 ms.
HOLE_S: Final = 0.3
VOUCHED: Final = {"ntp", "gnss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One claim: what speaks against it, nothing if it holds."""

    claim: str
    against: tuple[str, ...]


def judge(site: Site, *, missing: Iterable[str], said: Iterable[str], stepped: bool) -> list[Verdict]:
    """Judge a site after it has settled.

    `missing`: what did not come in time; `said`: what the journal must say; `stepped`: the clock was wrong
    for a while, so that times of sound do not compare.
    """
    claims: dict[str, Callable[[], Iterable[str]]] = {
        "no alarm lost": lambda: _lost(site),
        "a press has one id": lambda: _doubled(site),
        "an id is one emergency": lambda: _merged(site),
        "in order within its class": lambda: _disordered(site),
        "sound whole or its gap named": lambda: _torn(site, stepped=stepped),
        "what is dropped is told": lambda: _untold(site, said),
        "the right time where it is vouched for": lambda: _mistimed(site),
        "memory bounded": lambda: _swollen(site),
        "the contract": lambda: site.ops.faults,
        "no crash": lambda: _crashed(site),
        "all done in the end": lambda: missing,
    }
    return [Verdict(claim=claim, against=tuple(against())) for claim, against in claims.items()]


def _lost(site: Site) -> Iterator[str]:
    """Told as accepted, or pressed in a life that went on: it must have arrived."""
    known = site.known()
    for alarm, by in site.accepted().items():
        if alarm not in known and alarm not in site.harmed:
            yield f"{alarm} was accepted, the {by} had it"
    raised = {_press(body) for body in site.ops.events("raised")}
    for press in site.presses:
        if press.life == site.life and (press.tag, press.counter) not in raised:
            yield f"{press.tag} was pressed for the {press.counter}. time and the gateway went on"


def _doubled(site: Site) -> Iterator[str]:
    alarms = defaultdict(set)
    for body in site.ops.events("raised"):
        alarms[_press(body)].add(body["alarm"])
    for press, ids in alarms.items():
        if len(ids) > 1:
            yield f"{press} is {sorted(ids)}"


def _merged(site: Site) -> Iterator[str]:
    presses = defaultdict(set)
    for body in site.ops.events("raised"):
        presses[body["alarm"]].add(_press(body))
    for alarm, several in presses.items():
        if len(several) > 1:
            yield f"{alarm} is {sorted(several)}"


def _press(body: dict[str, Any]) -> tuple[str, int]:
    return str(body["tag"]["id"]), int(body["tag"]["counter"])


def _disordered(site: Site) -> Iterator[str]:
    """Within a run, what came for the first time came in the order in which it happened.

    The newest sound may lead; what it leaves behind follows in its order, and after it what is live no more.
    """
    latest: dict[tuple[object, ...], tuple[int, str]] = {}
    seen: set[str] = set()
    for heard in site.ops.heard:
        lane, number, name = _place(heard)
        if heard.retained or not lane or name in seen:
            continue
        seen.add(name)
        before = latest.get(lane, (-1, ""))
        if number < before[0] and heard.where.kind is Kind.ALARM_AUDIO:
            lane = (*lane, "behind")
            before = latest.get(lane, (-1, ""))
        if number < before[0]:
            yield f"{lane[0]}: {name} ({number}) after {before[1]} ({before[0]})"
        latest[lane] = max(before, (number, name))


def _place(heard: Heard) -> tuple[tuple[object, ...], int, str]:
    """A message's lane, its number in it, and its name; no lane: its order says nothing."""
    where, body = heard.where, heard.body
    if where.kind is Kind.ALARM_AUDIO:
        lane = (where.kind, where.alarm, heard.properties["live"])
        return lane, where.n or 0, f"{where.alarm}/{where.n}"
    # the first position of an alarm is of its class, later ones of a lower one
    if where.kind is Kind.POSITION or (where.kind is Kind.ALARM_EVENT and body["type"] != "position"):
        return (where.kind, body["run"]), body["seq"], f"{body.get('type', 'position')} {body['id']}"
    return (), 0, ""


def _torn(site: Site, *, stepped: bool) -> Iterator[str]:
    for alarm in site.known():
        audio = site.ops.state(alarm).get("audio", {})
        contents = defaultdict(set)
        for heard in site.ops.of(Kind.ALARM_AUDIO, alarm):
            contents[heard.where.n].add(heard.properties["sha256"])
        for n, several in contents.items():
            if len(several) > 1:
                yield f"{alarm}: {len(several)} different chunks {n}"
        if not stepped:
            yield from _holes(site, alarm, audio)


def _holes(site: Site, alarm: str, audio: dict[str, Any]) -> Iterator[str]:
    """Between two chunks there is no time, or a gap that is named."""
    named = [gap.get("duration_ms", 0) / 1000 for gap in audio.get("gaps", []) if not gap["filled"]]
    chunks = sorted(site.ops.chunks(alarm).items())
    for (n, one), (m, other) in pairwise(chunks):
        if m != n + 1:
            continue  # what is missing there must have been told as dropped
        ended_s = _at_s(one.properties["at"]) + int(one.properties["duration-ms"]) / 1000
        hole_s = _at_s(other.properties["at"]) - ended_s
        if abs(hole_s) > HOLE_S and not any(abs(hole_s - gap_s) < HOLE_S for gap_s in named):
            yield f"{alarm}: {hole_s:.2f} s between chunks {n} and {m}, named are {named}"


def _untold(site: Site, said: Iterable[str]) -> Iterator[str]:
    """What was accepted was delivered, or is told as dropped."""
    journal = site.journal()
    for words in said:
        if re.search(words, journal) is None:
            yield f"the journal does not say {words!r}"
    absent = sum(map(site.absent, site.known()))
    told = sum(site.ops.health().get("outbox", {}).get("evicted", {}).values())
    if absent > max(told, 0) + len(site.presses):
        yield f"{absent} chunks of sound are missing, {told} messages are told as dropped"
    lost = (site.harmed & site.accepted().keys()) - site.known() - site.vanished
    if lost and "damaged" not in journal:
        yield f"{sorted(lost)} went with the database, and nobody was told of the damage"


def _mistimed(site: Site) -> Iterator[str]:
    presses = {(press.tag, press.counter): press for press in site.presses}
    for body in site.ops.events("raised"):
        press = presses.get(_press(body))
        if press is None:
            yield f"{_press(body)} was never pressed"
        elif body["clock"]["source"] in VOUCHED and abs(_at_s(body["at"]) - press.at_s) > CLOCK_S:
            off_s = _at_s(body["at"]) - press.at_s
            yield f"{body['alarm']}: {off_s:+.1f} s off, {body['clock']['source']} vouches for it"


def _swollen(site: Site) -> Iterator[str]:
    if site.memory_kb > MEMORY_KB:
        yield f"{site.memory_kb / 1024:.0f} MB, at most {MEMORY_KB / 1024:.0f} are wanted"


def _crashed(site: Site) -> Iterator[str]:
    yield from site.crashes
    if "Traceback" in site.journal():
        yield "there is a traceback in the journal"


def _at_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
