"""Other people's advertisements: what they cost the daemon, and whether a press is heard among them."""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.counter import FILE, Counter
from bench.figures import Figure, percentile
from bench.process import cpu_s, rss_mb
from bench.surroundings import Helper, MeasuredWorld, Ops, address_of, helper, name_of, running
from gatewayd.sim.world import KEY

RATES: Final = (0, 100, 500, 1_000)
FOR_S: Final = 20.0
QUICK_S: Final = 3.0
ADDRESSES: Final = 200  # devices in the neighbourhood
PRESSES: Final = 50  # at the highest rate
SETTLE_S: Final = 1.0  # for what is on its way
MOST_RATIO: Final = 1.5
LIMIT_S: Final = 10.0
# What a street or a broken device may do: name, advertisements a second, addresses they come from.
SHAPES: Final = (("crowd", 5_000, 1_000), ("shouter", 1_000, 1))
SHAPE_WHOLE: Final = (20.0, 50)  # for how long, presses meanwhile
SHAPE_QUICK: Final = (2.0, 5)
DELAY_MS: Final = 100.0  # press to ops; what heard → confirmed may take on a PC
GROWTH_MB: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How much a process had heard and worked by some moment."""

    heard: int
    cpu_s: float


class Side:
    """One of the two that listen."""

    def __init__(self, pid: int, counter: Counter) -> None:
        self._pid = pid
        self._counter = counter

    def read(self) -> Reading:
        return Reading(heard=self._counter.value, cpu_s=cpu_s(self._pid))


async def measure(rates: Sequence[int], for_s: float) -> list[Figure]:
    """Flood at each rate for `for_s` seconds, the daemon and a bare bleak listening at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "daemon"), Path(folder, "bare")
        counters = Counter(files[0]), Counter(files[1])
        more = {FILE: str(files[0])}
        async with (
            running(tags=PRESSES, program="bench.counted_daemon", more=more) as (world, ops),
            helper("bench.bare_listener", str(files[1]), environment=world.environment) as bare,
        ):
            await bare.answer()
            await _flood(world, 2 * ADDRESSES, 1.0)  # both get to know the neighbourhood
            figures = []
            for rate in rates:
                figures += await _at_rate(world, _sides(world, bare, counters), rate, for_s)
            figures.append(await _presses(world, ops, max(rates), for_s))
    return figures


def _sides(world: MeasuredWorld, bare: Helper, counters: tuple[Counter, Counter]) -> tuple[Side, Side]:
    return Side(world.pid, counters[0]), Side(bare.pid, counters[1])


async def _at_rate(world: MeasuredWorld, sides: tuple[Side, Side], rate: int, for_s: float) -> list[Figure]:
    before = [side.read() for side in sides]
    sent = await _flood(world, rate, for_s)
    await asyncio.sleep(SETTLE_S)
    after = [side.read() for side in sides]
    worked = [100 * (b.cpu_s - a.cpu_s) / (for_s + SETTLE_S) for a, b in zip(before, after, strict=True)]
    heard = [b.heard - a.heard for a, b in zip(before, after, strict=True)]
    figures = [
        Figure(
            name=f"cpu_at_{rate}",
            what=f"daemon's CPU at {rate} advertisements/s ({sent / for_s:.0f}/s came)",
            value=worked[0],
            unit="% of a core",
            beside=worked[1],
            beside_what="bare bleak",
            most_ratio=MOST_RATIO if rate == max(RATES) else None,
        )
    ]
    if sent:
        figures.append(_delivered(rate, [100 * each / sent for each in heard]))
    return figures


def _delivered(rate: int, shares_pct: list[float]) -> Figure:
    return Figure(
        name=f"delivered_at_{rate}",
        what=f"delivered to the gateway at {rate} advertisements/s",
        value=shares_pct[0],
        unit="%",
        beside=shares_pct[1],
        beside_what="bare bleak",
    )


async def _presses(world: MeasuredWorld, ops: Ops, rate: int, for_s: float) -> Figure:
    """Press each tag once in the midst of a flood; a single copy of each press goes out."""
    flooding = asyncio.create_task(_flood(world, rate, for_s))
    for number in range(PRESSES):
        await asyncio.sleep(for_s / (PRESSES + 1))
        await world.press_tag(number)
    await flooding

    def raised() -> int:
        return sum(bool(ops.of_tag(name_of(number))) for number in range(PRESSES))

    await ops.until(lambda: raised() == PRESSES, LIMIT_S)
    return Figure(
        name="presses_lost_in_flood",
        what=f"of {PRESSES} presses amid {rate} advertisements/s, lost",
        value=PRESSES - raised(),
        unit="",
        most=0,
    )


async def shapes(for_s: float, presses: int) -> list[Figure]:
    """How late presses arrive in each shape of a flood, what it costs, and whether memory grows."""
    async with running(tags=(1 + len(SHAPES)) * presses) as (world, ops):
        quiet_ms = await _delays(world, ops, range(presses), for_s)
        figures = []
        for turn, (name, rate, addresses) in enumerate(SHAPES, start=1):
            await _flood(world, rate, for_s / 2, addresses)  # each device is known from now on
            await asyncio.sleep(SETTLE_S)
            before = cpu_s(world.pid), rss_mb(world.pid)
            flooding = asyncio.create_task(_flood(world, rate, for_s, addresses))
            mine = range(turn * presses, (turn + 1) * presses)
            delays_ms = await _delays(world, ops, mine, for_s)
            sent = await flooding
            await asyncio.sleep(SETTLE_S)
            worked_pct = 100 * (cpu_s(world.pid) - before[0]) / (for_s + SETTLE_S)
            what = f"{rate} a second from {addresses} ({sent / for_s:.0f}/s came)"
            figures += _of_shape(name, what, (delays_ms, quiet_ms), worked_pct, rss_mb(world.pid) - before[1])
    return figures


def _of_shape(
    name: str, what: str, delays_ms: tuple[list[float], list[float]], worked_pct: float, growth_mb: float
) -> list[Figure]:
    delay = [
        Figure(
            name=f"{name}_delay_{share_name}",
            what=f"press → ops amid {what}, {share_name} of {len(delays_ms[0])}",
            value=percentile(delays_ms[0], share),
            unit="ms",
            beside=percentile(delays_ms[1], share),
            beside_what="in silence",
            most=DELAY_MS,
        )
        for share_name, share in (("p50", 0.5), ("max", 1.0))
    ]
    cpu = Figure(name=f"{name}_cpu", what="  the daemon's CPU", value=worked_pct, unit="% of a core")
    growth = Figure(
        name=f"{name}_growth",
        what="  its memory has grown by",
        value=growth_mb,
        unit="MB",
        most=GROWTH_MB,
    )
    return [*delay, cpu, growth]


async def _delays(world: MeasuredWorld, ops: Ops, tags: Sequence[int], for_s: float) -> list[float]:
    """Press each of these tags once, a single copy each; how long each took until ops had its alarm, ms."""
    arrived_s: dict[str, float] = {}
    ops.on_raised = lambda alarm: arrived_s.setdefault(ops.alarms[alarm].tag, time.monotonic())
    pressed_s = {}
    for number in tags:
        await asyncio.sleep(for_s / (len(tags) + 1))
        answer = await world.order(do="press", address=address_of(number), key=KEY, for_s=0)
        pressed_s[name_of(number)] = float(answer["at_s"])
    await ops.until(lambda: pressed_s.keys() <= arrived_s.keys(), LIMIT_S)
    return [1000 * (arrived_s.get(name, math.inf) - at_s) for name, at_s in pressed_s.items()]


async def _flood(world: MeasuredWorld, rate: int, for_s: float, addresses: int = ADDRESSES) -> int:
    """Returns how many advertisements were sent."""
    if rate == 0:
        await asyncio.sleep(for_s)
        return 0
    answer = await world.order(do="flood", rate=rate, addresses=addresses, for_s=for_s)
    return int(answer["sent"])
