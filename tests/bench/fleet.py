"""A thousand gateways that lose one broker at the same moment, and come back to it."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from bisect import bisect_left
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.figures import Figure, percentile
from bench.surroundings import Helper, helper, plain_environment
from gatewayd.sim.broker import Broker

WHOLE: Final = (1_000, 12.0)  # gateways, and how long their sessions are well before, seconds
QUICK: Final = (10, 0.5)
PROCESSES: Final = 2
DOWN_S: Final = 2.0  # a broker that is restarted
MOST_UP_S: Final = 60.0
MOST_DIALS: Final = 3.0
# A fleet that is in step dials within some hundredths of a second; spread evenly over a second and more, a
# tenth of it at most dials within a tenth.
SPAN_S: Final = 0.1
MOST_SHARE: Final = 0.1
FILES: Final = 16_384  # sockets of the broker, databases of the gateways


async def measure(gateways: int, steady_s: float) -> list[Figure]:
    """Kill the broker, start it again, and look at every dial."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = Broker(Path(folder, "broker"))
        broker.start()
        stack.callback(broker.kill)
        parts = [
            await _part(stack, f"part{part}", broker.port, gateways // PROCESSES, steady_s)
            for part in range(PROCESSES)
        ]
        for part in parts:
            await part.answer()  # all up, and steady
        broker.kill()
        await asyncio.sleep(DOWN_S)
        broker.start()
        back_s = time.monotonic()
        returned = [each for part in parts for each in await part.answer()]
    dials_s = sorted(dial_s for each in returned for dial_s in each["dials_s"])
    up_s = [each["up_s"] - back_s for each in returned]
    what = f"{len(returned)} gateways, broker away for {DOWN_S:g} s"
    return [
        Figure(
            name="fleet_up",
            what=f"{what}: last session up after its return",
            value=max(up_s),
            unit="s",
            beside=percentile(up_s, 0.5),
            beside_what="median",
            most=MOST_UP_S,
        ),
        Figure(
            name="fleet_dials",
            what=f"{what}: most dials of one",
            value=max(len(each["dials_s"]) for each in returned),
            unit="",
            beside=len(dials_s) / len(returned),
            beside_what="mean",
            most=MOST_DIALS,
        ),
        Figure(
            name="fleet_storm",
            what=f"{what}: most dials within {SPAN_S:g} s",
            value=_most_within(dials_s, SPAN_S),
            unit="",
            beside=_most_within(dials_s, 10 * SPAN_S),
            beside_what=f"within {10 * SPAN_S:g} s",
            most=MOST_SHARE * len(returned),
        ),
    ]


async def _part(stack: AsyncExitStack, name: str, port: int, gateways: int, steady_s: float) -> Helper:
    arguments = (str(port), name, str(gateways), str(steady_s))
    environment = plain_environment()
    return await stack.enter_async_context(helper("bench.fleet_part", *arguments, environment=environment))


def _most_within(sorted_s: list[float], span_s: float) -> int:
    """The most moments that lie within one span."""
    return max(n + 1 - bisect_left(sorted_s, at_s - span_s) for n, at_s in enumerate(sorted_s))
