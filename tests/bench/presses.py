"""How long a press takes from the radio's callback to the broker's PUBACK, while sound is being recorded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Final

from bench.figures import Figure, percentile
from bench.process import rss_mb
from bench.surroundings import MeasuredWorld, Ops, helper, name_of, plain_environment, running
from gatewayd.sim.world import TAG

PRESSES: Final = 1_000
QUICK: Final = 60
PER_SECOND: Final = 20.0
TAGS: Final = 20  # each is pressed once a second, after its last alarm was closed
CLOSE_AFTER_S: Final = 0.5  # the state that tells of the closing then tells the PUBACK of the raising too
LIMIT_S: Final = 10.0
P50_MS: Final = 10.0
P99_MS: Final = 50.0


async def measure(presses: int) -> list[Figure]:
    """Press `presses` times and compare with paho's bare round trips meanwhile."""
    async with running(tags=TAGS) as (world, ops):
        before_mb = rss_mb(world.pid)
        await _begin_recording(world, ops)
        size = next(iter(ops.alarms.values())).raised_bytes
        arguments = (str(world.broker.port), str(size), str(presses), str(PER_SECOND))
        environment = plain_environment()
        async with helper("bench.bare_publisher", *arguments, environment=environment) as publisher:
            chunks = _chunks(ops)
            hops = await _press_all(world, ops, presses)
            bare = await publisher.answer()
        if _chunks(ops) <= chunks:
            raise RuntimeError("expected sound to arrive all the while, none came")
        after_mb = rss_mb(world.pid)
    return [
        *_latencies(hops, bare, size),
        Figure(
            name="presses_lost",
            what=f"of {presses} presses, those without an alarm",
            value=presses - len(hops),
            unit="",
            most=0,
        ),
        Figure(
            name="rss_after_presses",
            what=f"daemon's RSS after {presses} alarms in a minute",
            value=after_mb,
            unit="MB",
            beside=before_mb,
            beside_what="before",
        ),
    ]


async def _begin_recording(world: MeasuredWorld, ops: Ops) -> None:
    await world.press()
    if not await ops.until(lambda: _chunks(ops) > 0, LIMIT_S):
        raise TimeoutError(f"expected sound after a press, got: {world.log.read_text()}")


def _chunks(ops: Ops) -> int:
    return sum(seen.chunks for seen in ops.alarms.values())


async def _press_all(world: MeasuredWorld, ops: Ops, presses: int) -> list[Mapping[str, float]]:
    """Press one tag after the other at a steady pace; how far each press's alarm had come by its closing."""
    loop = asyncio.get_running_loop()
    ops.on_raised = lambda alarm: loop.call_later(CLOSE_AFTER_S, ops.close, alarm)
    began_s = time.monotonic()
    for number in range(presses):
        await asyncio.sleep(max(0.0, began_s + number / PER_SECOND - time.monotonic()))
        await world.press_tag(number % TAGS)
    measured = {name_of(number) for number in range(TAGS)}

    def all_closed() -> bool:
        mine = [seen for seen in ops.alarms.values() if seen.tag in measured]
        return len(mine) >= presses and all(seen.closed for seen in mine)

    await ops.until(all_closed, LIMIT_S)
    return [seen.hops_ms for seen in ops.alarms.values() if seen.tag != TAG]


def _latencies(hops: list[Mapping[str, float]], bare: list[float], size: int) -> list[Figure]:
    confirmed = [each.get("confirmed", math.inf) for each in hops]
    shares = (("p50", 0.5, P50_MS), ("p99", 0.99, P99_MS), ("max", 1.0, None))
    figures = [
        Figure(
            name=f"heard_to_confirmed_{name}",
            what=f"heard → confirmed, {len(confirmed)} presses with sound, {name}",
            value=percentile(confirmed, share),
            unit="ms",
            beside=percentile(bare, share),
            beside_what=f"bare paho, {size} bytes",
            most=most,
        )
        for name, share, most in shares
    ]
    return figures + [
        Figure(
            name=f"heard_to_{hop}_p50",
            what=f"  of it heard → {hop}, p50",
            value=percentile([each.get(hop, math.inf) for each in hops], 0.5),
            unit="ms",
        )
        for hop in ("decided", "published", "stored")
    ]
