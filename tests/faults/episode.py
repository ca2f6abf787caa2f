"""One life of a site among faults: one after the other as a script says, or at random from a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from faults.claims import Verdict, judge
from faults.faults import FAULTS, Area, Fault
from faults.site import BURST_S, TAGS, Site

LENGTH_S: Final = 12.0  # of a random episode, until everything heals
LONGEST_S: Final = 6.0  # that a fault of one lasts
PRESSES: Final = 3  # at each fault in turn, each of a tag that has no alarm
DEATH_S: Final = 2.0  # for a doomed gateway to come to its step; then it goes on


_DEATHS: Final = [name for name, fault in FAULTS.items() if fault.area is Area.PROCESS]

# Every fault once, those of a kind in one life.
SCRIPTS: Final = {
    "broker": ("broker killed", "broker stopped", "broker emptied"),
    "link gone": ("link refused", "link black-holed", "link half-open"),
    "link bad": ("link flapping", "DNS failing"),
    "link thin": ("link at 64 kbit/s", "link 600 ms late"),
    "disk": ("disk slow", "disk full"),
    "card": ("disk read-only",),
    "database": ("database truncated", "database flipped", "database deleted"),
    "clock": tuple(name for name in FAULTS if name.startswith("clock")),
} | {f"deaths {n + 1}": tuple(_DEATHS[n::4]) for n in range(4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an episode went."""

    faults: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    accepted: int
    reached: tuple[str, ...]  # the steps at which the gateway did die

    @property
    def fallen(self) -> list[Verdict]:
        """The claims that something speaks against."""
        return [verdict for verdict in self.verdicts if verdict.against]


async def in_turn(site: Site, names: Iterable[str], dice: random.Random) -> Outcome:
    """One fault after the other, each with a press before it, during it and after it."""
    faults = [FAULTS[name] for name in names]
    reached: list[str] = []
    async with site.stand():
        await site.call()
        await site.until("an alarm", site.known)
        for fault in faults:
            if site.unsettled + PRESSES > TAGS:
                await site.settle()
                # A copy of a press whose alarm ops have closed is a press to a gateway whose disk is lost.
                await asyncio.sleep(BURST_S)
            await _harm(site, fault, dice)
            await site.call()
            if fault.area is Area.PROCESS:
                reached += await _die(site, fault)
            else:
                await asyncio.sleep(fault.hold_s)
                await site.call()
            await _heal(site, fault, dice)
            await site.call()
        return await _finish(site, faults, reached)


async def at_random(site: Site, dice: random.Random) -> Outcome:
    """Faults of several areas at once, and presses, whenever the dice say."""
    faults, timeline = plan(dice, own_disk=site.disk is not None)
    reached: list[str] = []
    async with site.stand():
        await site.call()
        began_s = time.monotonic()
        for at_s, act, fault in timeline:
            await asyncio.sleep(began_s + at_s - time.monotonic())
            if fault is None:
                await site.call(for_s=dice.choice((0.0, 2.0)))
            elif act == "begin":
                await _harm(site, fault, dice)
            else:
                if site.slain:
                    reached.append(fault.name)
                await _heal(site, fault, dice)
        await site.revive()
        await site.call()
        return await _finish(site, faults, reached)


Moment = tuple[float, str, Fault | None]


def plan(dice: random.Random, *, own_disk: bool) -> tuple[list[Fault], list[Moment]]:
    """Draw what happens, and when."""
    possible = [fault for fault in FAULTS.values() if own_disk or not fault.own_disk]
    faults: list[Fault] = []
    timeline: list[Moment] = [(dice.uniform(0, LENGTH_S), "press", None) for _ in range(dice.randint(2, 5))]
    for area in dice.sample(list(Area), dice.randint(2, 4)):
        fault = dice.choice([each for each in possible if each.area is area])
        begins_s = dice.uniform(0, LENGTH_S - 1)
        ends_s = begins_s + dice.uniform(0.5, LONGEST_S)
        faults.append(fault)
        timeline += [(begins_s, "begin", fault), (ends_s, "heal", fault)]
    return faults, sorted(timeline, key=lambda moment: moment[0])


def told(faults: Iterable[Fault], timeline: Iterable[Moment]) -> str:
    """A plan in words."""
    names = ", ".join(fault.name for fault in faults)
    return f"{names}: " + "; ".join(
        f"{at_s:.1f} s {act} {fault.name if fault else ''}".rstrip() for at_s, act, fault in timeline
    )


async def _harm(site: Site, fault: Fault, dice: random.Random) -> None:
    if fault.harms:
        site.harmed |= site.accepted().keys()
    if site.alive:
        site.seen[fault.name] = site.life
    await fault.begin(site, dice)


async def _heal(site: Site, fault: Fault, dice: random.Random) -> None:
    if site.alive and site.seen.get(fault.name) == site.life:
        site.witnessed.add(fault.name)
    await fault.heal(site, dice)


async def _die(site: Site, fault: Fault) -> list[str]:
    """Give a doomed gateway time to come to its step."""
    end_s = time.monotonic() + DEATH_S
    while site.alive and time.monotonic() < end_s:  # noqa: ASYNC110 - nobody is told of it
        await asyncio.sleep(0.02)
    return [fault.name] if site.slain else []


async def _finish(site: Site, faults: Iterable[Fault], reached: Iterable[str]) -> Outcome:
    missing = await site.settle()
    site.keep()
    faults = tuple(faults)
    verdicts = judge(
        site,
        missing=missing,
        said=[fault.said for fault in faults if fault.said and fault.name in site.witnessed],
        stepped=any(fault.area is Area.CLOCK for fault in faults),
    )
    site.ops.faults.clear()  # they have been judged
    return Outcome(
        faults=tuple(fault.name for fault in faults),
        verdicts=tuple(verdicts),
        accepted=len(site.accepted()),
        reached=tuple(reached),
    )
