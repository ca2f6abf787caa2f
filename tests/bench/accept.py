"""How fast alarms become safe on disk: many at once, and one alone."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Final

from sending import now, running_outbox

from bench.figures import Figure
from gatewayd.config.layers import Layers
from gatewayd.config.load import assemble
from gatewayd.core.model import Advertisement
from gatewayd.core.tags.text import parse_service_data
from gatewayd.edge.outbox import Batch
from gatewayd.gateway import Gateway

WHOLE: Final = (5, 20_000, 200)  # how often, how many alarms at once, how many alone
QUICK: Final = (1, 200, 10)
TOGETHER: Final = 1_000  # alarms that wait for the disk at a time
BLOCK_BYTES: Final = 4096
REST_S: Final = 0.01  # between alarms alone: the writer sleeps again
LEAST_PER_S: Final = 5_000.0
MOST_SYNCS: Final = 2.0
MORE_MS: Final = 1.0
ADDRESS: Final = "C4:11:22:33:44:55"
CONFIGURATION: Final = f"[gateway]\nid = gw1\n[tag t]\naddress = {ADDRESS}\nworker = w\n"
PRESSED: Final = "fcd2:4400013a01"  # BTHome v2, plain: a press


async def measure(runs: int, alarms: int, alone: int) -> list[Figure]:
    """Store alarms as the gateway does: event, state and what it remembers of each, in one batch."""
    batches = list(_presses(alarms))
    with tempfile.TemporaryDirectory() as folder:
        rates = [await _rate(Path(folder, f"{run}.db"), batches) for run in range(runs)]
        alone_ms, disk_ms = await _alone(Path(folder), batches[:alone])
    return [
        Figure(
            name="accepted_per_s",
            what=f"alarms made durable, {TOGETHER} waiting at a time, {alarms} of them, median of {runs}",
            value=median(rates),
            unit="/s",
            least=LEAST_PER_S,
        ),
        Figure(
            name="accepted_alone",
            what=f"one alarm alone made durable, median of {alone}",
            value=median(alone_ms),
            unit="ms",
            beside=median(disk_ms),
            beside_what="fdatasync of 4 KiB",
            most=MOST_SYNCS * median(disk_ms) + MORE_MS,
        ),
    ]


class _Sent:
    """What a gateway sends."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def send(self, batch: Batch) -> None:
        self.batches.append(batch)


def _presses(number: int) -> Iterable[Batch]:
    """What `number` gateways send when their tag is pressed for the first time."""
    layers = Layers()
    layers.add(CONFIGURATION.encode(), "gatewayd.conf")
    config = assemble(layers, credentials=None, machine_id="0" * 32).config
    uuid, data = parse_service_data(PRESSED)
    for each in range(number):
        sent = _Sent()
        gateway = Gateway(config, run="bench", now=now, accepted=lambda _: None)
        gateway.sender = sent
        gateway.restore({})
        sent.batches.clear()
        heard = Advertisement(address=ADDRESS, heard_s=now().mono_s, service_data={uuid: data})
        gateway.on_advertisement(heard)
        (batch,) = sent.batches[:1]
        records = {(kind, f"{key}-{each}"): text for (kind, key), text in batch.records.items()}
        yield Batch(messages=batch.messages, records=records)


async def _rate(path: Path, batches: list[Batch]) -> float:
    """How many a second, when `TOGETHER` of them wait at any time."""
    room = asyncio.Semaphore(TOGETHER)
    async with running_outbox(path) as outbox:
        began_s = time.monotonic()
        for batch in batches:
            await room.acquire()
            last = outbox.store(batch)
            last.add_done_callback(lambda _: room.release())
        await last
        return len(batches) / (time.monotonic() - began_s)


async def _alone(folder: Path, batches: Iterable[Batch]) -> tuple[list[float], list[float]]:
    """How long each took, and the disk's own sync in turn with it, milliseconds."""
    ours_ms, disk_ms = [], []
    with (folder / "block").open("wb", buffering=0) as block:
        async with running_outbox(folder / "alone.db") as outbox:
            for batch in batches:
                await asyncio.sleep(REST_S)
                began_s = time.monotonic()
                await outbox.store(batch)
                stored_s = time.monotonic()
                block.write(bytes(BLOCK_BYTES))
                os.fdatasync(block.fileno())
                ours_ms.append((stored_s - began_s) * 1000)
                disk_ms.append((time.monotonic() - stored_s) * 1000)
    return ours_ms, disk_ms
