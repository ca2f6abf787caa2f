"""An alarm on a thin link: behind hours of queued sound, and amid sound that is being recorded."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sending import Maker, now, settings

from bench.figures import Figure, percentile
from bench.sender import Sender, dialling, fill, sending, sound
from gatewayd.edge.outbox import Batch
from gatewayd.sim.broker import Broker
from gatewayd.sim.proxy import Proxy

CHUNK_BYTES: Final = 1_500  # half a second at 24 kbit/s: what a gateway records unless told otherwise
CHUNK_S: Final = 0.5
MBIT: Final = 125_000.0  # bytes/s of 1 Mbit/s
KBIT_64: Final = 8_000.0
MOST_BEHIND_S: Final = 1.0
MOST_AMID_S: Final = 2.0
OLD_S: Final = 3_600.0  # how long queued sound has waited
LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured."""

    sessions: int  # that begin with everything queued
    queued_bytes: int
    alarms: int  # raised while the link is busy
    every_s: float  # between them: not in step with the chunks


WHOLE: Final = Extent(sessions=5, queued_bytes=48_000_000, alarms=20, every_s=3.1)
QUICK: Final = Extent(sessions=1, queued_bytes=300_000, alarms=2, every_s=0.3)


async def measure(extent: Extent) -> list[Figure]:
    """Raise alarms behind and amid sound, on 1 Mbit/s and on 64 kbit/s."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder, "broker"), settings=("max_queued_messages 0",))
        broker.start()
        try:
            figures = await _behind(Path(folder), broker, extent)
            return figures + await _amid(Path(folder), broker, extent)
        finally:
            broker.kill()


async def _behind(folder: Path, broker: Broker, extent: Extent) -> list[Figure]:
    """One alarm that was raised before each session, and more of them while all of it drains."""
    path = await _queued(folder, "behind", extent.queued_bytes)
    before, amid = [], []
    for _ in range(extent.sessions):
        async with _through(broker, MBIT, path) as sender:
            alarm = sender.alarm()
            async with dialling(sender):
                up_s = await sender.session()
                before.append(await _within(alarm) - up_s)
                amid += await _raise(sender, -(-extent.alarms // extent.sessions), extent.every_s)
    what = f"alarm behind {extent.queued_bytes / 1e6:g} MB of queued sound at 1 Mbit/s"
    return [
        _slowest("alarm_behind_sound", f"{what}, after the session is up", before, MOST_BEHIND_S),
        _slowest("alarm_amid_drain", f"{what}, raised while it drains", amid, MOST_BEHIND_S),
    ]


async def _amid(folder: Path, broker: Broker, extent: Extent) -> list[Figure]:
    """Alarms while sound is recorded, and while more waits to be back-filled than the link carries."""
    more = round(2 * extent.alarms * extent.every_s * KBIT_64)

    async def run(name: str, queued_bytes: int) -> list[float]:
        path = await _queued(folder, name, queued_bytes)
        async with _through(broker, KBIT_64, path) as sender, dialling(sender):
            await sender.session()
            recording = asyncio.create_task(_record(sender), name="recording")
            try:
                return await _raise(sender, extent.alarms, extent.every_s)
            finally:
                recording.cancel()

    live, both = await asyncio.gather(run("live", 0), run("both", more))
    what = "alarm at 64 kbit/s with live sound"
    return [
        _slowest("alarm_amid_live", what, live, MOST_AMID_S),
        _slowest("alarm_amid_live_and_back_fill", f"{what} and back-fill", both, MOST_AMID_S),
    ]


async def _queued(folder: Path, name: str, size: int) -> Path:
    """An outbox, of a gateway of this name, with `size` bytes of sound in it."""
    path, make = folder / name / "outbox.db", Maker()
    await fill(path, (sound(make, n, CHUNK_BYTES, for_s=OLD_S) for n in range(size // CHUNK_BYTES)))
    return path


@asynccontextmanager
async def _through(broker: Broker, rate: float, path: Path) -> AsyncIterator[Sender]:
    async with (
        Proxy(broker.port, rate=rate) as proxy,
        sending(path, settings(proxy.port), name=path.parent.name) as sender,
    ):
        yield sender


async def _record(sender: Sender) -> None:
    """Send a chunk every half second, as a microphone gives them."""
    began_s = now().mono_s
    for number in itertools.count(1):
        sender.send(Batch(messages=(sound(sender.make, number, CHUNK_BYTES),)))
        await asyncio.sleep(began_s + number * CHUNK_S - now().mono_s)


async def _raise(sender: Sender, alarms: int, every_s: float) -> list[float]:
    """Raise one alarm after the other; how long each took to its PUBACK, seconds."""
    took_s = []
    for _ in range(alarms):
        await asyncio.sleep(every_s)
        began_s = now().mono_s
        took_s.append(await _within(sender.alarm()) - began_s)
    return took_s


async def _within(alarm: asyncio.Future[float]) -> float:
    """When it was confirmed; infinity for what takes longer than anybody waits."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await alarm
    except TimeoutError:
        return float("inf")


def _slowest(name: str, what: str, took_s: list[float], most_s: float) -> Figure:
    return Figure(
        name=name,
        what=f"{what}: slowest of {len(took_s)}",
        value=max(took_s),
        unit="s",
        beside=percentile(took_s, 0.5),
        beside_what="median",
        most=most_s,
    )
