"""How fast an outbox empties, beside paho alone with the same window."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from sending import GATEWAY, Maker, clock, now, settings

from bench.figures import Figure
from bench.sender import dialling, fill, sending
from bench.surroundings import helper, plain_environment
from gatewayd.core.drain import PACKETS_KEPT
from gatewayd.core.link import ALARM_RESERVE
from gatewayd.core.model import Message, MessageClass
from gatewayd.core.payload import render
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
    return [figure for inflight in INFLIGHT for figure in await _with(inflight, runs, messages)]


async def _with(inflight: int, runs: int, messages: int) -> list[Figure]:
    """Ours and paho's in turn, so that all have the same machine."""
    window = inflight - PACKETS_KEPT - ALARM_RESERVE
    rendered = render(_message(Maker()), gateway=GATEWAY.id, clock=clock(), published=now())
    alike = (str(len(rendered.payload)), str(rendered.content_type))
    ours, bare, same = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder, "broker"), settings=(f"max_inflight_messages {inflight}",))
        broker.start()
        try:
            for run in range(runs):
                bare.append(await _bare(broker.port, window, messages, str(BODY_BYTES)))
                ours.append(await _drain(Path(folder, f"{run}.db"), broker.port, messages))
                same.append(await _bare(broker.port, window, messages, *alike))
        finally:
            broker.kill()
    what = f"drain of {messages} messages of {BODY_BYTES} bytes, {window} in flight, median of {runs}"
    return [
        _beside(f"drain_inflight_{inflight}", what, ours, bare, LEAST_RATIO),
        _beside(f"drain_same_{inflight}", "  beside paho with the same packets", ours, same, None),
    ]


def _beside(
    name: str, what: str, ours: list[float], theirs: list[float], least_ratio: float | None
) -> Figure:
    """The median rate; its ratio is the median of the runs' ratios."""
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Figure(
        name=name,
        what=what,
        value=median(ours),
        unit="/s",
        beside=median(ours) / ratio,
        beside_what="bare paho",
        least_ratio=least_ratio,
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


async def _bare(port: int, window: int, messages: int, size: str, *content_type: str) -> float:
    """Messages a second of paho alone."""
    arguments = (str(port), size, str(messages), str(window), *content_type)
    async with helper("bench.bare_drain", *arguments, environment=plain_environment()) as bare:
        return float(await bare.answer())
