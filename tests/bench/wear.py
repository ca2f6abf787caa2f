"""What is written to disk: on a quiet day, and while sound is recorded.

Counted is what the kernel says the daemon caused to be sent to the storage layer (`write_bytes` of
/proc/PID/io): whole pages, each time one has to be written anew; of this process alone, whatever else the
machine writes, and without the file system's own journal. Measure it as an ordinary user, as the daemon
runs: for root SQLite sets the owner of its log anew whenever it opens it, which is written too.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.process import written_bytes
from bench.surroundings import MeasuredWorld, Ops, running
from gatewayd.edge.outbox.file import audio_directory
from gatewayd.sim.world import ADDRESS, KEY

# Seconds: how long quiet, with one writing of what is remembered of a tag that is heard, which comes every
# 10 minutes; how long with sound; how long before each, until the start or an alarm's beginning is written.
WHOLE: Final = (600.0, 120.0, 20.0)
QUICK: Final = (1.0, 2.0, 2.0)
HEARTBEAT_S: Final = 10.0
HOUR_S: Final = 3_600.0
MINUTE_S: Final = 60.0
MOST_KB: Final = 200.0
MOST_RATIO: Final = 4.0
ALWAYS: Final = "[gps]\npublish = always\n"


async def measure(quiet_s: float, sound_s: float, settle_s: float) -> list[Figure]:
    """A gateway online with its tag near, then an alarm with sound, then the same without a broker."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(state=Path(folder), configuration=ALWAYS) as (world, ops):
            beating = asyncio.create_task(_beat(world), name="heartbeats")
            await asyncio.sleep(settle_s)
            quiet = await _written(world, quiet_s)
            beating.cancel()
            await world.press()
            await asyncio.sleep(settle_s)
            online = await _recorded(world, ops, sound_s)
            world.broker.kill()
            await asyncio.sleep(settle_s)
            offline = await _kept(world, sound_s)
    return [
        Figure(
            name="written_quiet",
            what=f"written online, a fix a second, no alarm: {quiet_s:g} s, as an hour",
            value=quiet / 1000 * HOUR_S / quiet_s,
            unit="kB",
            most=MOST_KB,
        ),
        _sound("online", *online, sound_s),
        _sound("offline", *offline, sound_s),
    ]


async def _beat(world: MeasuredWorld) -> None:
    while True:
        await world.order(do="heartbeat", address=ADDRESS, key=KEY)
        await asyncio.sleep(HEARTBEAT_S)


async def _written(world: MeasuredWorld, for_s: float) -> int:
    before = written_bytes(world.pid)
    await asyncio.sleep(for_s)
    return written_bytes(world.pid) - before


async def _recorded(world: MeasuredWorld, ops: Ops, for_s: float) -> tuple[int, int]:
    """What was written, and how much sound came meanwhile, bytes."""
    before = ops.sound_bytes
    return await _written(world, for_s), ops.sound_bytes - before


async def _kept(world: MeasuredWorld, for_s: float) -> tuple[int, int]:
    """What was written, and how much of it is sound, bytes."""
    before = _sound_bytes(world)
    return await _written(world, for_s), _sound_bytes(world) - before


def _sound_bytes(world: MeasuredWorld) -> int:
    return sum(path.stat().st_size for path in audio_directory(world.state / "outbox.db").rglob("*.seg"))


def _sound(name: str, written: int, sound: int, for_s: float) -> Figure:
    return Figure(
        name=f"written_sound_{name}",
        what=f"written per minute of sound, {name}: {for_s:g} s",
        value=written / 1000 * MINUTE_S / for_s,
        unit="kB",
        beside=sound / 1000 * MINUTE_S / for_s,
        beside_what="sound",
        most_ratio=MOST_RATIO,
    )
