"""The daemon dies and comes back, with and without its disk, with and without its broker."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

from players import needs_players, opusinfo

from end_to_end.conftest import heard, log, until
from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.world import World


def stored(world: World) -> list[tuple[str, str]]:
    """The topics and bodies that lie in the outbox, as they were stored."""
    path = world.state / "outbox.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return list(connection.execute("SELECT topic, body FROM message ORDER BY n"))
    except sqlite3.OperationalError:  # not made yet
        return []
    finally:
        connection.close()


@needs_players
async def test_a_killed_daemon_goes_on_with_its_open_alarm(gateway: World, ops: Ops, tmp_path: Path) -> None:
    """The old press is not raised again, sound goes on in a new link, a new press is on the same alarm."""
    await gateway.press(for_s=12)  # its copies are still on the air when the daemon is back
    alarm = await ops.raised()
    await ops.until("1 s of sound", lambda: ops.sound_ms(alarm) >= 1_000)
    await gateway.kill()
    before = len(ops.chunks(alarm))
    await ops.until("the will", lambda: ops.status()["state"] == "offline", 10)
    births = [heard.body["session"] for heard in ops.of(Kind.STATUS)]
    assert births[0] == births[-1]

    await gateway.start()
    await ops.until("the next birth", lambda: ops.status()["state"] == "online")
    assert ops.status()["session"] != births[0]
    await ops.until("sound that goes on", lambda: len(ops.chunks(alarm)) >= before + 4)
    assert (await ops.command("alarm/received", alarm=alarm))["ok"]
    await ops.until("a gap", lambda: "gaps" in ops.state(alarm)["audio"])
    (gap,) = [each for each in ops.state(alarm)["audio"]["gaps"] if each["cause"] == "restart"]
    assert not gap["filled"]  # a busy machine may have others
    assert gap["duration_ms"] > 1_000
    came = sorted(ops.chunks(alarm))
    again = before + gap["skipped"]
    assert came == [*range(before), *range(again, again + len(came) - before)]
    file = tmp_path / "alarm.opus"
    file.write_bytes(ops.sound(alarm))
    said = opusinfo(file)
    assert said.count("New logical stream") == 2, said

    await ops.until("ten seconds", lambda: ops.sound_ms(alarm) >= 8_000)
    assert len(ops.events("raised")) == 1
    assert ops.state(alarm)["presses"] == 1
    await gateway.press(for_s=0)
    await ops.told(alarm, "repeated")
    assert len(ops.events("raised")) == 1


async def test_an_alarm_is_taken_up_from_the_broker_when_the_disk_is_lost(gateway: World, ops: Ops) -> None:
    """The broker's retained state is enough: who took it is known, and the next press belongs to it."""
    await ops.until("the time", lambda: ops.component("clock")["state"] == "ok")
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.chunks(alarm))
    await ops.command("alarm/accept", alarm=alarm)
    await gateway.kill()
    shutil.rmtree(gateway.state)
    ops.turn_the_page()
    await gateway.start()
    await ops.ready()
    await ops.until("the time", lambda: ops.component("clock")["state"] == "ok")
    await gateway.press(for_s=0)
    await ops.until("a radio that hears", lambda: ops.component("radio")["state"] == "ok")
    assert (await ops.command("alarm/received", alarm=alarm))["ok"]
    await ops.until("the press on the alarm", lambda: ops.state(alarm)["presses"] == 2)
    assert ops.state(alarm)["handling"] == "accepted"
    assert ops.state(alarm)["owner"]["id"] == "desk-1"
    assert len(ops.events("raised")) == 1


async def test_what_was_stored_offline_arrives_after_a_kill_alarms_first(world: World) -> None:
    """Broker down, press, kill, broker back, start: all arrives, the alarm's events first and in order."""
    world.broker.kill()
    await world.start()
    await until("a radio that scans", lambda: "scans" in log(world))
    await world.press(for_s=0)
    await until("sound on disk", lambda: sum("/audio/" in topic for topic, _ in stored(world)) >= 4)
    await world.kill()
    waiting = [topic for topic, _ in stored(world)]
    world.broker.start()
    async with heard(world) as ops:
        await world.start()
        alarm = await ops.raised()
        chunks = sum("/audio/" in topic for topic in waiting)
        await ops.until("all sound", lambda: set(range(chunks)) <= set(ops.chunks(alarm)))
        kinds = [heard.where.kind for heard in ops.heard if heard.where.alarm == alarm]
        types = [event["type"] for event in ops.events(alarm=alarm)]
        assert types[:2] == ["raised", "audio_started"]
        first_sound = kinds.index(Kind.ALARM_AUDIO)
        assert kinds[:first_sound].count(Kind.ALARM_EVENT) >= 2
        assert ops.events("raised")[0]["late_s"] > 1
        assert len(ops.events("raised")) == 1


async def test_an_alarm_nobody_takes_is_escalated_offline_and_after_a_kill(folder: Path) -> None:
    """Two levels while there is no broker, the third by the next run; each once, in order."""
    world = World(folder, configuration="[alarm]\nescalate_after = 1s 2s 6s")
    async with world.up():
        world.broker.kill()
        await world.start()
        await until("a radio that scans", lambda: "scans" in log(world))
        await world.press(for_s=0)
        await until("two levels", lambda: log(world).count(": escalated") == 2)
        await until(
            "them on disk", lambda: any(json.loads(body).get("level") == 2 for _, body in stored(world))
        )
        await world.kill()
        await asyncio.sleep(1.0)
        world.broker.start()
        async with heard(world) as ops:
            await world.start()
            alarm = await ops.raised()
            await ops.until("the third level", lambda: len(ops.events("escalated")) == 3)
            assert [event["level"] for event in ops.events("escalated", alarm=alarm)] == [1, 2, 3]
            assert ops.events("escalated")[0]["late_s"] > 1
            assert ops.state(alarm)["handling"] == "raised"


async def test_a_broker_that_comes_back_empty_is_told_of_open_alarms(gateway: World, ops: Ops) -> None:
    """Who joins then finds the alarm, health and status, though all of that was confirmed long before."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("its state, with sound", lambda: ops.state(alarm).get("audio", {}).get("head"))
    gateway.broker.kill()
    gateway.broker.start()
    async with heard(gateway) as late:
        await late.until("the alarm's state", lambda: late.state(alarm))
        await late.until("health and status", lambda: late.health() and late.status())
        assert late.state(alarm)["handling"] == "raised"
        assert late.state(alarm)["presses"] == 1
