"""Other people's advertisements: what they cost the daemon, and whether a press is heard among them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.counter import FILE, Counter
from bench.figures import Figure
from bench.process import cpu_s
from bench.surroundings import Helper, MeasuredWorld, Ops, helper, name_of, running

RATES: Final = (0, 100, 500, 1_000)
FOR_S: Final = 20.0
QUICK_S: Final = 3.0
ADDRESSES: Final = 200  # devices in the neighbourhood
PRESSES: Final = 50  # at the highest rate
SETTLE_S: Final = 1.0  # for what is on its way
MOST_RATIO: Final = 1.5
LIMIT_S: Final = 10.0


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


async def _flood(world: MeasuredWorld, rate: int, for_s: float) -> int:
    """Returns how many advertisements were sent."""
    if rate == 0:
        await asyncio.sleep(for_s)
        return 0
    answer = await world.order(do="flood", rate=rate, addresses=ADDRESSES, for_s=for_s)
    return int(answer["sent"])
