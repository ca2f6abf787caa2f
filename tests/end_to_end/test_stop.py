"""SIGTERM: the daemon is gone within 5 s, says so, and has lost nothing."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from players import needs_players, opusinfo

from end_to_end.conftest import log, until
from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.world import World

MOST_S = 5.0


async def stop(world: World) -> float:
    """Stop the gateway; it must end by itself, and well. Returns how long it took."""
    began_s = time.monotonic()
    assert await world.stop() == 0
    return time.monotonic() - began_s


@needs_players
async def test_a_stop_says_so_and_closes_the_recording(gateway: World, ops: Ops, tmp_path: Path) -> None:
    """`offline` with its reason; the sound ends as a stream should; the next start goes on with the alarm."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("1 s of sound", lambda: ops.sound_ms(alarm) >= 1_000)
    assert await stop(gateway) < MOST_S
    await ops.until("a goodbye", lambda: ops.status()["state"] == "offline")
    assert ops.status()["reason"] == "stopped"
    assert ops.status()["session"] == ops.of(Kind.STATUS)[0].body["session"]

    await gateway.start()
    await ops.until("the end of the first link", lambda: len(ops.chunks(alarm)) > 3 and ops.state(alarm))
    before = ops.sound_ms(alarm)
    await ops.until("more sound", lambda: ops.sound_ms(alarm) >= before + 1_000)
    file = tmp_path / "alarm.opus"
    file.write_bytes(ops.sound(alarm))
    said = opusinfo(file)
    assert said.count("New logical stream") == 2, said
    assert said.count("EOS not set") == 1, said  # of the second, which goes on
    assert sorted(ops.chunks(alarm)) == list(range(len(ops.chunks(alarm))))
    assert len(ops.events("raised")) == 1


@pytest.mark.parametrize("what_hangs", ["broker", "microphone", "broker and microphone"])
async def test_a_stop_waits_for_nothing_that_hangs(gateway: World, ops: Ops, what_hangs: str) -> None:
    """A broker or a microphone that hangs holds up no stop; what was not sent is sent by the next start."""
    if "microphone" in what_hangs:
        gateway.microphone.hang()
    if "broker" in what_hangs:
        gateway.broker.pause()
    await gateway.press(for_s=0)
    if "broker" in what_hangs:
        await until("an alarm", lambda: "raised" in log(gateway))
    else:
        await ops.raised()
    assert await stop(gateway) < MOST_S
    gateway.broker.resume()
    await gateway.start()
    alarm = await ops.raised()
    await ops.told(alarm, "audio_started", "audio_unavailable")
    assert len({event["id"] for event in ops.events("raised")}) == 1


async def test_a_stop_during_a_reload_is_a_stop(gateway: World, ops: Ops) -> None:
    """A reload that waits for a broker that hangs starts nothing any more."""
    gateway.broker.pause()
    text = gateway.configuration.read_text()
    gateway.configuration.write_text(text.replace("[mqtt]", "[mqtt]\nkeep_alive = 10s"))
    assert gateway.daemon is not None
    gateway.daemon.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.2)  # well within the second that a goodbye is waited for
    assert await stop(gateway) < MOST_S
    gateway.broker.resume()
