"""How the gateway is: the state of its components, the liveness of its loops, the health message.

Pure: what is reported goes in with its `now`, a new `Health` comes out. Rules:
- a change to worse is told once it has lasted a second, so a flicker stays untold; a recovery at once;
- an outage of a second or more is told even when it is over before anyone asked (`last_outage`), and that
  the radio failed however short it was: a press may have fallen into it;
- the systemd watchdog is due only while every loop that must run made progress within its bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from gatewayd.core import topic
from gatewayd.core.alarm.model import later
from gatewayd.core.loss import Losses
from gatewayd.core.model import Body, Component, Draft, Instant, Json, Keep, MessageClass, State

# (state, one line a person understands); called on change.
Report: TypeAlias = Callable[[State, str], None]
# Called each time a loop made progress; feeds the systemd watchdog.
Alive: TypeAlias = Callable[[], None]

# The contract: "a component whose outage lasts a second or more is reported".
OUTAGE_S: Final = 1.0
# That one of these failed is told once it is over, however brief it was.
_NEVER_BRIEF: Final = frozenset({Component.RADIO})
# A new detail of the same state is told this long after the last message at the earliest: a figure in it that
# keeps changing does not fill the link, and lost power on a gateway with undervoltage is told within 5 s.
DETAIL_S: Final = 4.0

# What is said of a component that has not reported yet: nothing is known of it, so it is not called well.
STARTING: Final = "starting"
# Lines of a bad configuration that are told: enough to mend it by; noise of a megabyte has as many errors.
CONFIGURATION_MAX: Final = 20

# From nothing wrong to worst. What is not configured cannot be wrong.
_RANK: Final[Mapping[State, int]] = MappingProxyType(
    {State.OFF: 0, State.OK: 0, State.DEGRADED: 1, State.FAILED: 2}
)
# Without one of these a worker's press does not become an alarm at ops: the gateway as a whole has failed.
_ESSENTIAL: Final = frozenset({Component.RADIO, Component.UPLINK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How one component is, and since when it has been in that state."""

    state: State
    detail: str
    since: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which a component was worse than before, and that is not too brief to be told."""

    state: State
    detail: str
    began: Instant
    lasted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """A time in which a component is worse than was told."""

    began: Instant
    worst: Condition

    def through(self, condition: Condition) -> Spell:
        """It goes on, with this condition."""
        return self if _RANK[condition.state] < _RANK[self.worst.state] else replace(self, worst=condition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A loop that must run: at most `bound_s` seconds may pass between two signs of progress."""

    bound_s: float
    progress_s: float  # CLOCK_MONOTONIC


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxFacts:
    """What waits in the outbox, and what was dropped for space, by class."""

    depth: int
    size_bytes: int
    oldest_s: float | None = None  # age of the oldest waiting message
    lost: Losses = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the machine says of itself; None where it does not say."""

    undervoltage: bool | None = None
    temperature_c: float | None = None
    uptime_s: float | None = None
    written_bytes: int | None = None  # by this process, since it started
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The figures of the health message that are not a component's state."""

    host: HostFacts
    outbox: OutboxFacts | None = None
    external_power: bool | None = None  # None: not sensed
    puback_ms: float | None = None  # smoothed time from publish to PUBACK
    sent_today_bytes: int | None = None
    counters: Mapping[str, int] = field(default_factory=dict)  # what was refused or dropped, by name
    refused: tuple[str, ...] = ()  # what is wrong with a new configuration that we do not run on
    warnings: tuple[str, ...] = ()  # what is missing around the one we run on: credentials, files
    evidence: Body = field(default_factory=dict)  # the public keys that recordings are signed with
    tests: Body = field(default_factory=dict)  # `drill.Drills.body`


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of every component and the progress of every loop. Begin with `Health.begin`."""

    conditions: Mapping[Component, Condition]
    told: Mapping[Component, Condition]  # as in the last health message
    told_s: float | None = None  # when that was, CLOCK_MONOTONIC; None: never
    worse: Mapping[Component, Spell] = field(default_factory=dict)  # than told
    outages: Mapping[Component, Outage] = field(default_factory=dict)  # the last one of each
    untold: frozenset[Component] = frozenset()  # outages that were over before they were told
    loops: Mapping[str, Loop] = field(default_factory=dict)

    @classmethod
    def begin(cls, now: Instant) -> Health:
        """Every component starting until it reports otherwise, which is no outage; no loop that must run."""
        starting = {
            component: Condition(state=State.DEGRADED, detail=STARTING, since=now) for component in Component
        }
        return cls(conditions=starting, told=starting)

    @property
    def overall(self) -> State:
        """FAILED when presses cannot reach ops; DEGRADED when anything is not as configured; else OK."""
        return _overall(self.conditions)

    def report(
        self, component: Component, state: State, detail: str, now: Instant, until_s: float | None = None
    ) -> Health:
        """The health after `component` said how it is. `since` moves only when the state changes.

        `until_s`: until when it is known to have been better, CLOCK_MONOTONIC; None: until now.
        """
        before = self.conditions[component]
        if (before.state, before.detail) == (state, detail):
            return self
        since = before.since if before.state is state else _back(now, before.since, until_s)
        condition = Condition(state=state, detail=detail, since=since)
        changed = replace(self, conditions={**self.conditions, component: condition})
        if _RANK[state] > _RANK[self.told[component].state]:
            spell = self.worse.get(component, Spell(began=since, worst=condition)).through(condition)
            return replace(changed, worse={**self.worse, component: spell})
        return changed._recovered(component, now)

    def _recovered(self, component: Component, now: Instant) -> Health:
        """Record the outage that ended, told or not, if it lasted long enough; it was as bad as its worst."""
        told = self.told[component]
        spells = [self.worse[component]] if component in self.worse else []
        if _RANK[told.state] > _RANK[self.conditions[component].state]:
            spells.append(Spell(began=told.since, worst=told))
        recovered = replace(
            self, worse={key: each for key, each in self.worse.items() if key is not component}
        )
        if not spells:
            return recovered
        began = min((spell.began for spell in spells), key=lambda instant: instant.mono_s)
        worst = max((spell.worst for spell in spells), key=lambda condition: _RANK[condition.state])
        lasted_s = now.mono_s - began.mono_s
        brief = lasted_s < OUTAGE_S and not (component in _NEVER_BRIEF and worst.state is State.FAILED)
        if brief or worst.detail == STARTING:
            return recovered
        outage = Outage(state=worst.state, detail=worst.detail, began=began, lasted_s=lasted_s)
        return replace(
            recovered, outages={**self.outages, component: outage}, untold=self.untold | {component}
        )

    def must_run(self, name: str, bound_s: float, now: Instant) -> Health:
        """Name a loop that must run; it counts as having made progress now."""
        return replace(self, loops={**self.loops, name: Loop(bound_s=bound_s, progress_s=now.mono_s)})

    def need_not_run(self, name: str) -> Health:
        """A loop ended as it should (a reload switched its component off)."""
        return replace(self, loops={key: loop for key, loop in self.loops.items() if key != name})

    def alive(self, name: str, now: Instant) -> Health:
        """The loop `name` made progress. KeyError when it was never named: a mistake in the wiring."""
        loop = replace(self.loops[name], progress_s=now.mono_s)
        return replace(self, loops={**self.loops, name: loop})

    def stalled(self, now: Instant) -> tuple[str, ...]:
        """The loops that must run and made no progress within their bound; the watchdog is fed while none."""
        return tuple(name for name, loop in self.loops.items() if now.mono_s - loop.progress_s > loop.bound_s)

    def message_due(self, now: Instant, interval_s: float) -> bool:
        """Whether a health message is to be published now. `interval_s`: `[health] interval`."""
        return self.due_in_s(now, interval_s) <= 0

    def due_in_s(self, now: Instant, interval_s: float) -> float:
        """Seconds until the next health message is due if nothing is reported meanwhile; 0: now."""
        if self.told_s is None or self.untold:
            return 0.0
        waits = [self.told_s + interval_s - now.mono_s]
        for component, condition in self.conditions.items():
            spell = self.worse.get(component)
            if spell is not None:
                waits.append(spell.began.mono_s + OUTAGE_S - now.mono_s)
            elif condition.state is not self.told[component].state:
                return 0.0
            elif condition.detail != self.told[component].detail:
                waits.append(self.told_s + DETAIL_S - now.mono_s)
        return max(0.0, min(waits))

    def settled(self, now: Instant) -> Mapping[Component, Condition]:
        """What is to be told: each component's condition, without what got worse less than a second ago."""
        return {
            component: self.told[component] if self._flickers(component, now) else condition
            for component, condition in self.conditions.items()
        }

    def _flickers(self, component: Component, now: Instant) -> bool:
        spell = self.worse.get(component)
        return spell is not None and now.mono_s - spell.began.mono_s < OUTAGE_S

    def publish(self, facts: Facts, now: Instant) -> tuple[Health, Draft]:
        """The health message as it stands now, and the health that knows it was told."""
        settled = self.settled(now)
        draft = Draft(
            topic=topic.HEALTH,
            message_class=MessageClass.STATE,
            keep=Keep.NEVER,
            at=now,
            body=_body(settled, self.outages, facts),
            retain=True,
            replaces=True,
        )
        waiting = {key: began for key, began in self.worse.items() if self._flickers(key, now)}
        told = replace(self, told=settled, told_s=now.mono_s, worse=waiting, untold=frozenset())
        return told, draft

    def status_line(self, *, hearing: int, online: bool, waiting: int | None, alarms: int) -> str:
        """What a person wants to know, in one line: for systemd's STATUS.

        `hearing`: tags seen now; `waiting`: messages in the outbox, None while they are counted; `alarms`:
        open ones.
        """
        parts = [f"{alarms} open alarm{_plural(alarms)}"] if alarms else []
        if self.conditions[Component.RADIO].state is not State.OFF:
            parts.append(f"hearing {hearing} tag{_plural(hearing)}")
        parts += [
            "online" if online else "offline",
            "counting what waits" if waiting is None else f"{waiting} waiting",
        ]
        parts += [
            f"{component} {condition.state}: {condition.detail}"
            for component, condition in self.conditions.items()
            if _RANK[condition.state]
        ]
        return ", ".join(parts)


def power(external: bool | None, undervoltage: bool | None) -> tuple[State, str]:
    """The state of the supply from the power-sense pin and from what the Pi tells; None: not sensed."""
    if external is False:
        return State.DEGRADED, "external power lost, on battery"
    if undervoltage:
        return State.DEGRADED, "undervoltage: the supply or its cable is too weak"
    if external is None and undervoltage is None:
        return State.OFF, "not sensed"
    return State.OK, "external power" if external else "no undervoltage"


def _overall(conditions: Mapping[Component, Condition]) -> State:
    if any(conditions[component].state is State.FAILED for component in _ESSENTIAL):
        return State.FAILED
    if any(_RANK[condition.state] for condition in conditions.values()):
        return State.DEGRADED
    return State.OK


def _worse(one: State, other: State) -> State:
    return max(one, other, key=lambda state: _RANK[state])


def _back(now: Instant, earliest: Instant, mono_s: float | None) -> Instant:
    """The moment `mono_s` as the clock shows it now, not before `earliest`; None: now."""
    if mono_s is None:
        return now
    return later(now, min(0.0, max(mono_s, earliest.mono_s) - now.mono_s))


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _body(
    conditions: Mapping[Component, Condition], outages: Mapping[Component, Outage], facts: Facts
) -> Body:
    """The health message of the contract. A figure that is not known is absent."""
    host, outbox = facts.host, facts.outbox
    supply = _known({"undervoltage": host.undervoltage, "external": facts.external_power})
    return _known(
        {
            "overall": _worse(_overall(conditions), State.DEGRADED if facts.refused else State.OK),
            "components": {
                component: _component(condition, outages.get(component))
                for component, condition in conditions.items()
            },
            "outbox": None if outbox is None else _outbox(outbox),
            "puback_ms": None if facts.puback_ms is None else round(facts.puback_ms, 1),
            "sent_today_bytes": facts.sent_today_bytes,
            "written_bytes": host.written_bytes,
            "supply": supply or None,
            "temperature_c": host.temperature_c,
            "uptime_s": host.uptime_s,
            "versions": dict(host.versions) or None,
            "counters": dict(facts.counters) or None,
            "evidence": facts.evidence or None,
            "tests": facts.tests or None,
            "configuration": _known(
                {
                    "state": "refused" if facts.refused else "ok",
                    "errors": list(facts.refused[:CONFIGURATION_MAX]) or None,
                    "warnings": list(facts.warnings[:CONFIGURATION_MAX]) or None,
                }
            ),
        }
    )


def _component(condition: Condition, outage: Outage | None) -> Body:
    last: Body | None = None
    if outage is not None:
        last = {
            "state": outage.state,
            "detail": outage.detail,
            "began_at": outage.began,
            "lasted_s": round(outage.lasted_s, 3),
        }
    return _known(
        {
            "state": condition.state,
            "detail": condition.detail,
            "since": condition.since,
            "last_outage": last,
        }
    )


def _outbox(outbox: OutboxFacts) -> Body:
    return _known(
        {
            "depth": outbox.depth,
            "bytes": outbox.size_bytes,
            "oldest_s": outbox.oldest_s,
            "evicted": {str(name): loss.count for name, loss in outbox.lost.items()},
            "lost": {str(name): loss.body for name, loss in outbox.lost.items()} or None,
        }
    )


def _known(fields: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in fields.items() if value is not None}
