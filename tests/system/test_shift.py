"""A shift: workers press tags of every family while the radio, bluetoothd and the daemon come and go.

Judged from the desk alone, by the judge of the shift on the host: each press made while hearing was possible
is told exactly once, each that was not told fell into a deaf time that health announced and that the record
of coverage knows of, and nothing else is told. `--presses N` makes it longer; one seed draws everything,
though the moments at which a busy machine does it differ.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pytest
from end_to_end.ops import order
from shift.desk import Desk, deaf_s
from shift.judge import Verdict, judge, match
from shift.tags import Tag
from shift.world import Press

from gatewayd.core.coverage.answer import Verdict as Coverage
from gatewayd.core.topic import Kind
from system.claims import Claims
from system.rig import LIMIT_S, Rig
from system.wearers import BURST_S, LATE_S, SLOW_S, Wearers

AWAY_S: Final = (2.0, 8.0)  # between the commands of a fault
FAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "adapter off and on": ("bluetoothctl power off", "bluetoothctl power on"),
    "bluetoothd restarted": ("systemctl restart bluetooth",),
    "bluetoothd killed": ("systemctl kill --signal=KILL bluetooth",),
    "daemon restarted": ("systemctl restart gatewayd",),
    "daemon killed": ("systemctl kill --signal=KILL gatewayd",),
}
NOTICED_S: Final = 2.0  # by then health has told of a radio that is gone
CLOSE_S: Final = 20.0  # between looks at what is open
CLOSED: Final = 0.5  # share of the open alarms that the desk closes then
END_S: Final = BURST_S[1] + LATE_S  # from the beginning of the last press
PRESS_S: Final = 5.0  # on average, faults and all: 1.5 s in a long shift, 3 in a short one
UNKNOWN: Final = frozenset(
    {Coverage.COULD_NOT_HEAR, Coverage.UNKNOWN}
)  # of a moment for which nobody vouches
QUIET: Final = "/etc/gatewayd/conf.d/shift.conf"
# Sound is shown elsewhere; here it would take from what the emulation can carry.
NO_SOUND: Final = b"[audio]\nenabled = no\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How much there is of everything."""

    each: int  # tags of each model
    others: int  # advertisers at 1 Hz
    between_s: tuple[float, float]  # from when it hears again to the next fault


SHORT: Final = Length(each=1, others=20, between_s=(5.0, 12.0))
LONG: Final = Length(each=2, others=100, between_s=(20.0, 60.0))  # with the tags about 130 reports/s
SHORT_MAX: Final = 100  # presses


@dataclass(slots=True, kw_only=True)
class Shift:
    """What the judge asks for."""

    presses: list[Press]
    sites: list[Desk]

    def renewed(self, _tag: Tag) -> bool:
        """Nobody gets a new battery."""
        return False


@pytest.mark.timeout(0)  # it has a limit of its own, by its length
async def test_every_press_is_told_once_or_health_said_why(
    rig: Rig, claims: Claims, pytestconfig: pytest.Config
) -> None:
    """Mixed families, other advertisers, adapter, bluetoothd and daemon failing at random."""
    presses, given = pytestconfig.getoption("presses"), pytestconfig.getoption("seed")
    seed = secrets.randbelow(10**9) if given is None else given
    print(f"seed {seed}")
    length = SHORT if presses <= SHORT_MAX else LONG
    wearers = Wearers(rig.air, seed, each=length.each, presses=presses)
    desk = Desk(tags={tag.name for tag in wearers.tags}, slow_s=SLOW_S)
    async with asyncio.timeout(4 * LIMIT_S + presses * PRESS_S), assigned(rig, wearers.tags):
        since, reports, began_s = len(rig.ops.heard), rig.air.reports, time.monotonic()
        async with wearers.out(length.others), closing(rig, since, random.Random(seed)):
            failed = await fail(rig, random.Random(seed), length.between_s, wearers.over)
            await asyncio.sleep(END_S)
        lasted_s = time.monotonic() - began_s
        await close(rig, since)
        for heard in rig.ops.heard[since:]:
            desk.take(heard)
        desk.end(time.monotonic())
        shift = Shift(presses=wearers.presses, sites=[desk])
        verdict = judge(shift)
        told = match(shift.presses, desk, Verdict())
        unheard = [press for press in shift.presses if press not in told]
        vouched = [press for press in unheard if not await is_unknown(rig, desk, press)]
    false = sum("false alarm" in each for each in verdict.against)
    figures = (
        f"{len(shift.presses)} presses, raised {verdict.counts['raised']}, deaf {len(unheard)},"
        f" explained {verdict.counts['deaf']}, false {false}; {lasted_s:.0f} s, of them"
        f" {deaf_s(desk.absences):.0f} announced deaf or within {SLOW_S:.0f} s of that;"
        f" {(rig.air.reports - reports) / lasted_s:.0f} reports/s; {failed.total()} faults"
        f" ({', '.join(f'{kind} {count}' for kind, count in sorted(failed.items()))}); seed {seed}"
    )
    print(figures)
    times = [f"deaf from {each.began_s:.2f} to {each.ended_s:.2f} s" for each in desk.absences]
    assert not verdict.against, "\n".join([figures, *verdict.against, *times])
    known = [f"{press.tag.name} pressed at {press.began_s:.2f} s" for press in vouched]
    assert not known, "\n".join([figures, "the record vouches for presses that were not told:", *known])
    assert verdict.counts["raised"] > len(unheard), figures  # else it would prove little
    claims.show(f"a shift of {len(wearers.tags)} tags among {length.others} others", figures)


@asynccontextmanager
async def assigned(rig: Rig, tags: list[Tag]) -> AsyncIterator[None]:
    """Have these tags be the gateway's, until the block ends; one report for each advertisement."""
    keys = {f"/etc/gatewayd/credentials/{tag.name}": tag.key for tag in tags if tag.key is not None}
    for path, key in keys.items():
        await rig.machine.put(key.hex().encode(), path, "600")
    await rig.machine.put(NO_SOUND, QUIET)
    rig.air.scan_responses = False
    try:
        await rig.configure("\n" + "\n".join(tag.configuration() for tag in tags))
        rig.ops.turn_the_page()
        await rig.component("radio", "ok")
        yield
    finally:
        rig.air.scan_responses = True
        await rig.machine.run(f"bluetoothctl power on; rm -f {QUIET} {' '.join(keys)}")
        await rig.configure()
        rig.ops.turn_the_page()
        await rig.ready()


# --- what fails ---------------------------------------------------------------------------------------------


async def fail(
    rig: Rig, dice: random.Random, between_s: tuple[float, float], over: asyncio.Event
) -> Counter[str]:
    """Have one thing after another fail until it is over, each after it heard again; how often each did."""
    done: Counter[str] = Counter()
    for kind in in_turns(dice):
        await asyncio.sleep(dice.uniform(*between_s))
        if over.is_set():
            break
        for number, command in enumerate(FAULTS[kind]):
            await asyncio.sleep(dice.uniform(*AWAY_S) if number else 0.0)
            await rig.machine.run(command)
        done[kind] += 1
        await asyncio.sleep(NOTICED_S)
        rig.ops.turn_the_page()
        await rig.component("radio", "ok")
    return done


def in_turns(dice: random.Random) -> Iterator[str]:
    """Each kind before any comes again, in an order that is drawn anew each time."""
    while True:
        kinds = list(FAULTS)
        dice.shuffle(kinds)
        yield from kinds


# --- the desk -----------------------------------------------------------------------------------------------


def open_alarms(rig: Rig, since: int) -> list[str]:
    """Which of the shift's are open."""
    heard = [each for each in rig.ops.heard[since:] if each.where.kind is Kind.ALARM_STATE]
    states = {each.where.alarm: each.body for each in heard if each.body and not each.retained}
    return [str(alarm) for alarm, state in states.items() if state["handling"] != "closed"]


@asynccontextmanager
async def closing(rig: Rig, since: int, dice: random.Random) -> AsyncIterator[None]:
    """Have the desk close an alarm now and then; while the gateway is away its broker keeps the order."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(CLOSE_S)
            for alarm in open_alarms(rig, since):
                if dice.random() < CLOSED:
                    rig.ops.give("alarm/close", order(alarm=alarm, outcome="test"))

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def close(rig: Rig, since: int) -> None:
    """Close all that is open, so that the last state of each alarm counts all of its presses."""
    for alarm in open_alarms(rig, since):
        await rig.ops.command("alarm/close", alarm=alarm, outcome="test")
    await rig.ops.until("alarms that are closed", lambda: not open_alarms(rig, since))


async def is_unknown(rig: Rig, desk: Desk, press: Press) -> bool:
    """Whether the record does not vouch for some second of the press's burst."""
    for second in range(int(press.burst_s - press.began_s) + 1):
        at = datetime.fromtimestamp(desk.wall_s(press.began_s + second), UTC).isoformat()
        reply = await rig.ops.command("coverage/get", tag=press.tag.name, at=at)
        if reply["coverage"]["verdict"] in UNKNOWN:
            return True
    return False
