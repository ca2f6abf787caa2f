"""What must be true of a shift, told from the air, the messages and the clock; not from the gateway's rules.

1. Every press of which a frame reached the gateway at a moment for which health had announced no deafness
   raises exactly once. One whose frames all fell into an announced deaf time may still be told, once.
2. Every activation the gateway tells is of a press that was on the air then. So there is no false alarm.
3. A recording may raise (it is marked, never dropped), once, and never proves itself; a sealed tag's own
   press is `ok`, but for one with a new battery.
4. Gateways that tell one press tell it under one key; presses of a tag within two minutes have two keys.

Not asked for is only what nobody can tell: a frame that says what the gateway heard last of the tag, or one
of a tag with a new battery that is, byte for byte, the newest press of the old one. And recordings of a tag
from before its new battery are not played, while its own counter is below theirs. Nor can anybody tell if a
slot that is on the air after a reboot without the time was pressed anew: such a press may be told twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from shift.site import Absence, Activation
from shift.tags import Tag
from shift.world import Press

NOTICE_S: Final = 1.0  # a dead radio is seen within this time
APART_S: Final = 120.0  # keys are compared within minutes only
_ROUND_S: Final = 1e-3
_RECENT: Final = 60  # presses of a tag that may still be told of


class Site(Protocol):
    """What one gateway told."""

    @property
    def name(self) -> str:
        """Its id."""

    activations: list[Activation]
    absences: list[Absence]


class Shift(Protocol):
    """What was pressed, and what was told of it."""

    presses: list[Press]

    @property
    def sites(self) -> Sequence[Site]:
        """The gateways that were in reach, as `Press.reached` names them."""

    def renewed(self, tag: Tag) -> bool:
        """Whether it had a new battery meanwhile."""


@dataclass(slots=True)
class Verdict:
    """What was judged, and what is against it."""

    counts: Counter[str] = field(default_factory=Counter)
    against: list[str] = field(default_factory=list)


def judge(shift: Shift) -> Verdict:
    """Judge a shift that is over."""
    verdict = Verdict()
    keys: dict[Press, dict[str, str]] = defaultdict(dict)
    for site in shift.sites:
        matched = match(shift.presses, site, verdict)
        for press in shift.presses:
            told = matched.get(press, [])
            _judge_press(press, told, site, verdict)
            _judge_proof(press, told, site, renewed=shift.renewed(press.tag), verdict=verdict)
            for activation in told:
                if activation.press_key is not None:
                    keys[press][site.name] = activation.press_key
    _judge_keys(shift.presses, keys, verdict)
    return verdict


def match(presses: list[Press], site: Site, verdict: Verdict) -> dict[Press, list[Activation]]:
    """Give each activation to the newest press that it can be of, one that nobody told before if there is."""
    by_tag: dict[str, list[Press]] = defaultdict(list)
    for press in presses:
        by_tag[press.tag.name].append(press)
    matched: dict[Press, list[Activation]] = defaultdict(list)
    for activation in site.activations:
        mine = by_tag[activation.tag]
        before = bisect_right(mine, activation.heard_s + _ROUND_S, key=lambda press: press.began_s)
        possible = [
            press
            for press in mine[max(0, before - _RECENT) : before]
            if activation.heard_s <= press.until_s + _ROUND_S
            and (not press.stream or activation.event in {None, press.stream})
        ]
        free = [press for press in possible if press not in matched]
        if free:
            matched[free[-1]].append(activation)
        elif possible:
            matched[possible[-1]].append(activation)
        else:
            verdict.against.append(
                f"{site.name}: false alarm of {activation.tag} at {activation.heard_s:.2f} s"
            )
    return matched


def _judge_press(press: Press, told: list[Activation], site: Site, verdict: Verdict) -> None:
    what = f"{site.name}: {press.tag.name} pressed at {press.began_s:.2f} s"
    if len(told) > (2 if site.name in press.doubted else 1):
        verdict.against.append(f"{what} raised {len(told)} times: {[round(a.heard_s, 2) for a in told]}")
    if press.forged:
        verdict.counts["recordings"] += 1
        return
    frames = press.reached.get(site.name, [])
    open_s = [at_s for at_s in frames if not _announced(at_s, site)]
    if told:
        verdict.counts["raised"] += 1
    elif press.untellable & {site.name}:
        verdict.counts["not to be told"] += 1
    elif open_s:
        verdict.against.append(f"{what} is missed: a frame at {open_s[0]:.2f} s, and no deafness announced")
    else:
        verdict.counts["deaf"] += 1
    verdict.counts[f"{press.tag.family}"] += 1


def _judge_proof(
    press: Press, told: list[Activation], site: Site, *, renewed: bool, verdict: Verdict
) -> None:
    if not press.tag.sealed:
        return
    for activation in told:
        if activation.auth is None or (renewed and not press.forged):
            continue
        if (activation.auth == "ok") is press.forged:
            verdict.against.append(
                f"{site.name}: {press.tag.name} at {press.began_s:.2f} s, forged: {press.forged}, "
                f"says {activation.auth}"
            )


def _judge_keys(presses: list[Press], keys: dict[Press, dict[str, str]], verdict: Verdict) -> None:
    last: dict[str, list[tuple[float, set[str]]]] = defaultdict(list)
    for press in presses:
        mine = set(keys[press].values())
        if press.forged or press.untellable or not mine:
            continue
        verdict.counts["keys"] += 1
        if len(mine) > 1:
            verdict.against.append(f"{press.tag.name} at {press.began_s:.2f} s has the keys {sorted(mine)}")
        for at_s, others in last[press.tag.name][-10:]:
            if press.began_s - at_s <= APART_S and mine & others:
                verdict.against.append(f"{press.tag.name} at {at_s:.2f} and {press.began_s:.2f} s: {mine}")
        last[press.tag.name].append((press.began_s, mine))


def _announced(at_s: float, site: Site) -> bool:
    return any(absence.began_s - NOTICE_S <= at_s <= absence.ended_s + _ROUND_S for absence in site.absences)
