"""Many gateways' sending sides in one process, each with an outbox and an uplink of its own.

`python -m bench.fleet_part PORT NAME COUNT STEADY`; prints true once all have had a session for STEADY
seconds, and when all of them have lost it and have another, one JSON list: of each, when it dialled meanwhile
and when the session was up (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from contextlib import AsyncExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from sending import now, settings

from bench.sender import Sender, dialling, sending
from gatewayd.edge.mqtt import Line, dial
from gatewayd.uplink import wire

MEMORY: Final = "/dev/shm"
APART_S: Final = 0.002  # the first dials: how a fleet starts is not measured here
_dials: ContextVar[list[float]] = ContextVar("dials")  # of the gateway whose task this is


async def counted_dial(*arguments: Any, **fields: Any) -> Line:  # Any: handed on
    """Note when it is dialled, and dial."""
    _dials.get().append(now().mono_s)
    return await dial(*arguments, **fields)


async def main(port: int, name: str, count: int, steady_s: float) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        fleet: list[tuple[Sender, list[float]]] = []
        for number in range(count):
            dials_s: list[float] = []
            _dials.set(dials_s)
            path = folder / str(number) / "outbox.db"
            sender = await stack.enter_async_context(sending(path, settings(port), name=f"{name}-{number}"))
            await stack.enter_async_context(dialling(sender))
            fleet.append((sender, dials_s))
            await asyncio.sleep(APART_S)
        for sender, _ in fleet:
            await sender.session()
        await asyncio.sleep(steady_s)
        for _, dials_s in fleet:
            dials_s.clear()
        _say(True)
        _say([{"up_s": await sender.session(2), "dials_s": dials_s} for sender, dials_s in fleet])


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    logging.disable()
    with patch.object(wire, "dial", counted_dial):
        asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
