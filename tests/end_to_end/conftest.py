"""A gateway among simulated surroundings, and an ops side that hears it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from paho.mqtt.client import Client

from end_to_end.ops import LIMIT_S, Ops, listening
from gatewayd.sim.gps import GpsReceiver
from gatewayd.sim.microphone import tone
from gatewayd.sim.world import World

TONE_HZ = 440


async def until(what: str, happened: Callable[[], object]) -> None:
    """Wait for something that nobody is told of: a file, a line in the log."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while not happened():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"expected {what} within {LIMIT_S} s") from None


def log(world: World) -> str:
    """What the gateway has logged so far."""
    return world.log.read_text() if world.log.exists() else ""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short name: sockets lie in it."""
    with TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    """The surroundings, up, without a gateway; the microphone hears a tone, the receiver is a fast one."""
    world = World(folder, sound=tone(TONE_HZ))
    world.receiver = GpsReceiver(folder / "gps", rate_hz=3)
    async with world.up():
        yield world


@pytest.fixture
async def ops(world: World) -> AsyncIterator[Ops]:
    """The ops side; the gateway's log is shown when the test fails."""
    async with heard(world) as ops:
        yield ops


@asynccontextmanager
async def heard(world: World, prepare: Callable[[Client], object] = lambda _: None) -> AsyncIterator[Ops]:
    """An ops side at the world's broker; `prepare` gives its client what the broker asks for."""
    try:
        async with listening(world.broker.port, prepare) as ops:
            yield ops
    finally:
        print(log(world))


@pytest.fixture
async def gateway(world: World, ops: Ops) -> World:
    """A gateway that runs and hears."""
    await world.start()
    await ops.ready(fix=False)
    return world
