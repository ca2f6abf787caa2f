"""The link goes dead, without a word, at the moment of the press."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sending import now, settings

from bench.figures import Figure, percentile
from bench.sender import Sender, dialling, sending
from gatewayd.sim.broker import Broker
from gatewayd.sim.proxy import Mode, Proxy

WHOLE: Final = (10, 15.0)  # how often; how long the link was well before, seconds
QUICK: Final = (1, 0.5)
MOST_S: Final = 5.0
LIMIT_S: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How an alarm may get out when the link is dead."""

    name: str
    what: str
    ports: Callable[[Proxy, Proxy], tuple[int, ...]]
    die: Callable[[Proxy], None]


def _swallow(proxy: Proxy) -> None:
    proxy.mode = Mode.BLACK_HOLE


WAYS: Final = (
    Way(
        name="second_broker",
        what="a second broker is there",
        ports=lambda link, other: (link.port, other.port),
        die=_swallow,
    ),
    Way(
        name="new_path",
        what="a new path to the same broker is there",
        ports=lambda link, _: (link.port,),
        die=Proxy.strand,
    ),
)


async def measure(runs: int, steady_s: float) -> list[Figure]:
    """Let each way's links die `runs` times, all at the same time: they mostly wait."""
    with tempfile.TemporaryDirectory() as folder:
        brokers = [Broker(Path(folder, name)) for name in ("first", "second")]
        try:
            for broker in brokers:
                broker.start()
            return await asyncio.gather(*(_way(Path(folder), way, brokers, runs, steady_s) for way in WAYS))
        finally:
            for broker in brokers:
                broker.kill()


async def _way(folder: Path, way: Way, brokers: list[Broker], runs: int, steady_s: float) -> Figure:
    took_s = await asyncio.gather(
        *(_one(folder / f"{way.name}-{n}", way, brokers, steady_s + n / runs) for n in range(runs))
    )
    return Figure(
        name=f"dead_link_{way.name}",
        what=f"link black-holed at the press, {way.what}: press → confirmed, slowest of {runs}",
        value=max(took_s),
        unit="s",
        beside=percentile(took_s, 0.5),
        beside_what="median",
        most=MOST_S,
    )


async def _one(folder: Path, way: Way, brokers: list[Broker], steady_s: float) -> float:
    """How long it took, seconds. The gateway looks at its link twice a second: `steady_s` differs by run."""
    async with _gateway(folder, way, brokers) as (sender, link):
        await sender.session()
        await asyncio.sleep(steady_s)
        way.die(link)
        began_s = now().mono_s
        try:
            async with asyncio.timeout(LIMIT_S):
                return await sender.alarm() - began_s
        except TimeoutError:
            return float("inf")


@asynccontextmanager
async def _gateway(folder: Path, way: Way, brokers: list[Broker]) -> AsyncIterator[tuple[Sender, Proxy]]:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(Proxy(each.port)) for each in brokers]
        mqtt = settings(*way.ports(first, second))
        sender = await stack.enter_async_context(sending(folder / "outbox.db", mqtt, name=folder.name))
        await stack.enter_async_context(dialling(sender))
        yield sender, first
