"""The first alarm of a fresh daemon, when all is well and when disk, receiver and microphone are not."""

from __future__ import annotations

import asyncio
import math
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.surroundings import running
from gatewayd.sim.world import TAG

RUNS: Final = 5
SYNC_MS: Final = 2_000
SHIM: Final = Path(__file__).parent.parent / "shim" / "slow_sync.c"
MOST_MS: Final = 100.0
REST_S: Final = 1.0  # after READY: the first figures and states have gone out
# Until the state is asked for: two syncs, the one under way and the alarm's own, and some.
TELL_S: Final = 2.5 * SYNC_MS / 1000
LIMIT_S: Final = 10.0


async def measure(runs: int) -> list[Figure]:
    """Raise the first alarm of `runs` fresh daemons, well and hindered in turn."""
    well, hindered = [], []
    with tempfile.TemporaryDirectory() as folder:
        slow = {"LD_PRELOAD": str(_compiled(Path(folder))), "SLOW_SYNC_MS": str(SYNC_MS)}
        for _ in range(runs):
            well.append(await _first({}, hindered=False))
            hindered.append(await _first(slow, hindered=True))
    if any(hops.get("stored", math.inf) < SYNC_MS for hops in hindered):
        raise RuntimeError("expected a slow disk, got one that stored at once: the shim is not in force")
    return [
        Figure(
            name="first_alarm_hindered_max",
            what=f"first alarm heard → confirmed, slowest of {runs}: fdatasync 2 s, no GPS, microphone hangs",
            value=_slowest(hindered, "confirmed"),
            unit="ms",
            beside=_slowest(well, "confirmed"),
            beside_what="all well",
            most=MOST_MS,
        ),
        Figure(
            name="first_alarm_hindered_published_max",
            what="  of it heard → published",
            value=_slowest(hindered, "published"),
            unit="ms",
            beside=_slowest(well, "published"),
            beside_what="all well",
        ),
    ]


def _compiled(folder: Path) -> Path:
    library = folder / "slow_sync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
    return library


def _slowest(all_hops: list[Mapping[str, float]], hop: str) -> float:
    return max(hops.get(hop, math.inf) for hops in all_hops)


async def _first(more: Mapping[str, str], *, hindered: bool) -> Mapping[str, float]:
    """How far the first alarm of a fresh daemon came, and when."""
    async with running(more=more, hindered=hindered) as (world, ops):
        await asyncio.sleep(REST_S)
        await world.press(for_s=0)
        if not await ops.until(lambda: bool(ops.of_tag(TAG)), LIMIT_S):
            return {}
        (alarm,) = ops.of_tag(TAG)
        await asyncio.sleep(TELL_S if hindered else REST_S)
        ops.close(alarm)
        await ops.until(lambda: ops.alarms[alarm].closed, LIMIT_S)
        return ops.alarms[alarm].hops_ms
