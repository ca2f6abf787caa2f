"""How fast an outbox empties, beside paho alone with the same window."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from sending import Maker, settings

from bench.figures import Figure
from bench.sender import dialling, fill, sending
from bench.surroundings import helper, plain_environment
from gatewayd.core.drain import PACKETS_KEPT
from gatewayd.core.link import ALARM_RESERVE
from gatewayd.core.model import Message, MessageClass
from gatewayd.sim.broker import Broker

WHOLE: Final = (5, 20_000)  # how often, how many messages
QUICK: Final = (1, 500)
BODY_BYTES: Final = 200
# What mosquitto allows a client in flight: as it comes, and as many as make no difference any more.
INFLIGHT: Final = (20, 100)
LEAST_RATIO: Final = 0.6
LIMIT_S: Final = 300.0


async def measure(runs: int, messages: int) -> list[Figure]:
    """Drain `messages` messages `runs` times, with each of mosquitto's windows."""
    return [await _with(inflight, runs, messages) for inflight in INFLIGHT]


async def _with(inflight: int, runs: int, messages: int) -> Figure:
    """Ours and paho's in turn, so that both have the same machine."""
    window = inflight - PACKETS_KEPT - ALARM_RESERVE
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder, "broker"), settings=(f"max_inflight_messages {inflight}",))
        broker.start()
        try:
            for run in range(runs):
                bare.append(await _bare(broker.port, window, messages))
                ours.append(await _drain(Path(folder, f"{run}.db"), broker.port, messages))
        finally:
            broker.kill()
    ratio = median(mine / paho for mine, paho in zip(ours, bare, strict=True))
    return Figure(
        name=f"drain_window_{window}",
        what=f"drain of {messages} messages of {BODY_BYTES} bytes, {window} in flight, median of {runs}",
        value=median(ours),
        unit="/s",
        beside=median(ours) / ratio,
        beside_what="bare paho",
        least_ratio=LEAST_RATIO,
    )


def _message(make: Maker) -> Message:
    empty = len('{"note":""}')
    return make(MessageClass.TELEMETRY, "telemetry/bench", body={"note": "x" * (BODY_BYTES - empty)})


async def _drain(path: Path, port: int, messages: int) -> float:
    """Messages a second, from the session's beginning to the last PUBACK."""
    make = Maker()
    await fill(path, (_message(make) for _ in range(messages)))
    async with sending(path, settings(port)) as sender, dialling(sender), asyncio.timeout(LIMIT_S):
        began_s = await sender.session()
        await sender.until_answered(messages)
        return messages / (sender.last_s - began_s)


async def _bare(port: int, window: int, messages: int) -> float:
    """Messages a second of paho alone."""
    arguments = (str(port), str(BODY_BYTES), str(messages), str(window))
    async with helper("bench.bare_drain", *arguments, environment=plain_environment()) as bare:
        return float(await bare.answer())
