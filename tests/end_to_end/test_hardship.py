"""An alarm waits for nothing: not for a receiver, a microphone, a disk, nor for those who shout."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from end_to_end.ops import Ops
from gatewayd.sim.world import World

SHIM = Path(__file__).parent.parent / "shim" / "slow_sync.c"
SYNC_MS = 2_000


def at_s(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


@pytest.mark.parametrize("how", ["hangs", "missing"])
async def test_an_alarm_without_position_and_sound_leaves_and_says_so(
    world: World, ops: Ops, how: str
) -> None:
    """No receiver, a microphone that hangs in open or is not there: `audio_unavailable` within 2 s."""
    world.receiver.unplug()
    (world.microphone.hang if how == "hangs" else world.microphone.unplug)()
    await world.start()
    await ops.ready(fix=False)
    await world.press(for_s=0)
    alarm = await ops.raised()
    unavailable = await ops.told(alarm, "audio_unavailable")
    raised = ops.events(alarm=alarm)[0]
    assert "position" not in raised
    assert unavailable["reason"]
    assert 0 <= at_s(unavailable) - at_s(raised) <= 2.0
    await ops.until("the state", lambda: ops.state(alarm)["audio"]["state"] == "unavailable")


@pytest.fixture
def slow_disk(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose disk takes its time to sync."""
    library = tmp_path / "slow_sync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_MS": str(SYNC_MS)}


@pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is needed to slow down the disk")
async def test_an_alarm_is_confirmed_before_a_slow_disk_has_it(
    world: World, ops: Ops, slow_disk: dict[str, str]
) -> None:
    """With an fdatasync of 2 s, no receiver and a hanging microphone the broker has it at once."""
    await world.start()  # the disk was well when the outbox was made
    await ops.ready(fix=False)
    await world.stop()
    world.more_environment |= slow_disk
    world.receiver.unplug()
    world.microphone.hang()
    ops.turn_the_page()
    await world.start()
    await ops.ready(fix=False)
    await world.press(for_s=0)
    alarm = await ops.raised()
    assert ops.events("raised")[0]["late_s"] < 1.0
    await ops.until("its state", lambda: ops.state(alarm))
    while "stored" not in (hops := ops.state(alarm)["hops_ms"]):  # noted in a state that something else tells
        assert (await ops.command("alarm/received", alarm=alarm))["ok"]
        await asyncio.sleep(0.5)
    assert hops["stored"] >= SYNC_MS
    assert hops["confirmed"] < SYNC_MS / 2
    assert hops["confirmed"] >= hops["published"] >= hops["decided"] >= 0
    await world.kill()  # a stop would wait for the disk


async def talk_nonsense(world: World) -> None:
    """Have the receiver send random bytes, as fast as its line takes them, until cancelled."""
    chance = random.Random(7)
    while True:
        await world.receiver.send(chance.randbytes(400))


async def test_a_press_in_a_flood_raises(world: World, ops: Ops) -> None:
    """A thousand strange advertisements a second, and a receiver that talks nonsense: the press is heard."""
    world.receiver.silent = True
    await world.start()
    await ops.ready(fix=False)
    flood = asyncio.create_task(world.order(do="flood", rate=1_000, addresses=200, for_s=2))
    noise = asyncio.create_task(talk_nonsense(world))
    await asyncio.sleep(0.5)  # well within the flood
    await world.press(for_s=1)
    alarm = await ops.raised()
    assert ops.events("raised")[0]["late_s"] < 1.0
    await ops.until("sound", lambda: ops.chunks(alarm))
    assert (await flood)["sent"] >= 1_000
    noise.cancel()
    assert (await ops.command("alarm/close", alarm=alarm, outcome="test"))["ok"]
    assert "Traceback" not in world.log.read_text()
