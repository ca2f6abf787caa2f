"""Resident memory of the daemon and of its capture process, idle and during an alarm."""

from __future__ import annotations

import asyncio
from typing import Final

from bench.figures import Figure
from bench.process import child_running, rss_mb
from bench.surroundings import helper, plain_environment, running

SETTLE_S: Final = 15.0
QUICK_S: Final = 3.0
CAPTURE: Final = "gatewayd.edge.capture"
MOST_RATIO: Final = 1.3
MOST_CAPTURE_MB: Final = 25.0


async def measure(settle_s: float) -> list[Figure]:
    """Look at the memory `settle_s` after the start, and as long after a press."""
    async with (
        helper("bench.bare_imports", environment=plain_environment()) as imports,
        running() as (world, _ops),
    ):
        await imports.answer()
        bare_mb = rss_mb(imports.pid)
        figures = []
        for when in ("idle", "alarm"):
            if when == "alarm":
                await world.press()
            await asyncio.sleep(settle_s)
            capture = child_running(world.pid, CAPTURE)
            figures += [
                Figure(
                    name=f"rss_{when}",
                    what=f"daemon's RSS, {when}",
                    value=rss_mb(world.pid),
                    unit="MB",
                    beside=bare_mb,
                    beside_what="imports alone",
                    most_ratio=MOST_RATIO,
                ),
                Figure(
                    name=f"capture_rss_{when}",
                    what=f"capture process's RSS, {when}",
                    value=float("nan") if capture is None else rss_mb(capture),
                    unit="MB",
                    most=MOST_CAPTURE_MB,
                ),
            ]
    return figures
