"""What the running daemon says of itself, for what only it can use: its receiver, its microphone, its pins.

Two ways, the fuller one first: the health message that the broker keeps, when it is fresh; the status line
that systemd keeps, which is there without a network and names only what is not well. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from gatewayd.core.model import Component, State
from gatewayd.selftest.row import Finding, Source, Verdict, span

_VERDICTS: Final = {
    State.OK: Verdict.OK,
    State.OFF: Verdict.OFF,
    State.DEGRADED: Verdict.WARN,
    State.FAILED: Verdict.FAIL,
}
_NOT_WELL: Final = re.compile(rf"(?:^|, )({'|'.join(Component)}) ({State.DEGRADED}|{State.FAILED}): ")
# A health message is due every interval; twice that, and a few seconds for the way, and it is an old one.
_FRESH_INTERVALS: Final = 2
_FRESH_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the daemon says of a component; `how`: where it was read, and how old it is."""

    state: State
    detail: str
    how: str


Words: TypeAlias = Mapping[Component, Word]


def from_status(text: str) -> Words:
    """Read the status line of the unit; empty: nothing was said yet."""
    if not text:
        return {}
    how = "in its status line"
    words = {
        component: Word(state=State.OK, detail="nothing is wrong with it", how=how) for component in Component
    }
    parts = _NOT_WELL.split(text)
    for name, state, detail in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        words[Component(name)] = Word(state=State(state), detail=detail, how=how)
    return words


def from_health(payload: bytes | None, *, wall_s: float, up_s: float, interval_s: float) -> Words:
    """Read a retained health message; empty when it is none, or older than the daemon or than it should be.

    `wall_s`: now, since 1970. `up_s`: how long the daemon has run. `interval_s`: `[health] interval`.
    """
    try:
        body = json.loads(payload or b"")
        age_s = wall_s - datetime.fromisoformat(body["at"]).timestamp()
        if not 0 <= age_s <= min(up_s, _FRESH_INTERVALS * interval_s + _FRESH_S):
            return {}
        how = f"in its health message of {span(age_s)} ago"
        return {
            Component(name): Word(state=State(said["state"]), detail=str(said["detail"]), how=how)
            for name, said in body["components"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def told(words: Words, component: Component, *, pid: int, do: str) -> Finding:
    """Return what the daemon says of a component as a finding; `do` when that is not good."""
    word = words.get(component)
    if word is None:
        return Finding(
            verdict=Verdict.WARN,
            found=f"not measured: the running daemon (process {pid}) uses it; what it says could not be read",
            do=do,
        )
    verdict = _VERDICTS[word.state]
    return Finding(
        verdict=verdict,
        found=f"{word.detail} ({word.how})",
        do=do if verdict in {Verdict.WARN, Verdict.FAIL} else "",
        source=Source.DAEMON,
    )


def measure(subject: str, *, installed: bool) -> str:
    """Return how a subject that the daemon uses is measured."""
    if not installed:
        return f"to measure it, stop the daemon and run `gatewayd selftest --only {subject}`"
    stopped = f"systemctl stop gatewayd; gatewayd selftest --only {subject}; systemctl start gatewayd"
    return f"to measure it (no press is heard meanwhile): `{stopped}`"
