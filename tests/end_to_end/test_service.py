"""The daemon as a service: what it tells its manager, and how it takes a changed configuration."""

from __future__ import annotations

import asyncio
import signal
import subprocess

from end_to_end.conftest import until
from end_to_end.ops import LIMIT_S, Ops
from end_to_end.service_manager import ServiceManager
from gatewayd.core.topic import Kind
from gatewayd.sim.world import KEY, World

NEW_ADDRESS = "C4:11:22:33:44:66"
NEW_TAG = f"""
[tag nurse-2-tag]
address = {NEW_ADDRESS}
key_credential = tag-nurse-1
worker = nurse-2
"""


def reload(world: World) -> None:
    assert world.daemon is not None
    world.daemon.send_signal(signal.SIGHUP)


async def test_the_service_manager_hears_how_the_daemon_is(world: World, ops: Ops) -> None:
    """READY, a STATUS line, a watchdog that is fed, STOPPING; nothing before it is true."""
    with ServiceManager(world.folder, watchdog_s=1) as manager:
        world.more_environment |= manager.environment
        await world.start()
        await manager.until("READY=1")
        await manager.until("STATUS=")
        await manager.until("WATCHDOG=1", times=4)
        await ops.ready(fix=False)
        await world.press(for_s=0)
        await manager.until("STATUS=1 open alarm, hearing 1 tag, online")
        assert await world.stop() == 0
        await manager.until("STOPPING=1")
        assert manager.said[-1] == "STOPPING=1"


async def test_a_hung_event_loop_feeds_the_watchdog_no_more(world: World, ops: Ops) -> None:
    """With the test hook switched on SIGUSR2 hangs the loop: then systemd restarts the daemon."""
    with ServiceManager(world.folder, watchdog_s=1) as manager:
        world.more_environment |= manager.environment | {"GATEWAYD_TEST_HOOKS": "1"}
        await world.start()
        await ops.ready(fix=False)
        assert world.daemon is not None
        world.daemon.send_signal(signal.SIGUSR2)
        await until("a loop that hangs", lambda: "test hook" in world.log.read_text())
        await manager.hear(for_s=0.1)  # what it said before
        before = manager.said.count("WATCHDOG=1")
        assert before >= 1
        await manager.hear(for_s=2.0)  # twice what systemd would wait
        assert manager.said.count("WATCHDOG=1") == before
        assert world.daemon.returncode is None
        await world.kill()


async def test_the_hook_that_hangs_the_loop_is_off_unless_asked_for(gateway: World) -> None:
    """In production SIGUSR2 ends the process, as any other program; systemd starts it again."""
    assert gateway.daemon is not None
    gateway.daemon.send_signal(signal.SIGUSR2)
    async with asyncio.timeout(LIMIT_S):
        assert await gateway.daemon.wait() == -signal.SIGUSR2


async def test_a_reload_takes_effect_and_leaves_the_rest_alone(world: World, ops: Ops) -> None:
    """A new tag is heard; the session with the broker and the open alarm with its sound go on."""
    with ServiceManager(world.folder) as manager:
        world.more_environment |= manager.environment
        await world.start()
        await manager.until("READY=1")
        await ops.ready(fix=False)
        await world.press(for_s=0)
        first = await ops.raised()
        await ops.until("sound", lambda: ops.chunks(first))
        world.configuration.write_text(world.configuration.read_text() + NEW_TAG)
        reload(world)
        await manager.until("RELOADING=1")
        await manager.until("MONOTONIC_USEC=")
        await manager.until("READY=1", times=2)
        await world.order(do="press", address=NEW_ADDRESS, key=KEY, for_s=0)
        second = await ops.raised("nurse-2-tag")
        assert second != first
        assert len(ops.of(Kind.STATUS)) == 1
        before = len(ops.chunks(first))
        await ops.until("sound that goes on", lambda: len(ops.chunks(first)) > before)
        assert len(ops.events("audio_started", alarm=first)) == 1


async def test_a_reloaded_tag_whose_key_waits_for_a_restart_raises_nothing(gateway: World, ops: Ops) -> None:
    """The service has the credentials of its start: what the tag sends could only be taken for a press."""
    text = gateway.configuration.read_text()
    gateway.configuration.write_text(text + NEW_TAG.replace("tag-nurse-1", "tag-nurse-2"))
    reload(gateway)
    await ops.until("a warning", lambda: ops.health()["configuration"].get("warnings"))
    (warning,) = ops.health()["configuration"]["warnings"]
    assert "[tag nurse-2-tag] key_credential = tag-nurse-2: expected the credential tag-nurse-2" in warning
    assert warning.endswith(": the tag is not listened to until gatewayd is restarted")
    assert warning in gateway.log.read_text()
    await gateway.order(do="press", address=NEW_ADDRESS, key="11" * 16, for_s=0)
    await gateway.press(for_s=0)
    await ops.raised()
    assert [event["tag"]["id"] for event in ops.events("raised")] == ["nurse-1-tag"]


async def test_a_bad_reload_is_refused_and_said(world: World, ops: Ops) -> None:
    """The gateway goes on as before; health and the journal name the line; a good one heals it."""
    with ServiceManager(world.folder) as manager:
        world.more_environment |= manager.environment
        await world.start()
        await ops.ready(fix=False)
        good = world.configuration.read_text()
        bad = good.replace("[audio]", "[audio]\nbitrate = loud")
        line = bad.splitlines().index("bitrate = loud") + 1
        world.configuration.write_text(bad)
        reload(world)
        await manager.until("READY=1", times=2)
        await ops.until("a refusal", lambda: ops.health()["configuration"]["state"] == "refused")
        (error,) = ops.health()["configuration"]["errors"]
        assert error.startswith(f"{world.configuration}:{line}: [audio] bitrate = loud: expected")
        assert ops.health()["overall"] == "degraded"
        assert error in world.log.read_text()
        await world.press(for_s=0)
        await ops.raised()
        world.configuration.write_text(good)
        reload(world)
        await ops.until("a good one", lambda: ops.health()["configuration"]["state"] == "ok")


async def test_other_broker_settings_begin_a_new_session_and_lose_nothing(gateway: World, ops: Ops) -> None:
    """Only the uplink starts again; the recording goes on and every chunk arrives."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.chunks(alarm))
    text = gateway.configuration.read_text()
    gateway.configuration.write_text(text.replace("[mqtt]", "[mqtt]\nkeep_alive = 10s"))
    reload(gateway)
    await ops.until("a second birth", lambda: len(ops.of(Kind.STATUS)) == 3)
    states = [heard.body["state"] for heard in ops.of(Kind.STATUS)]
    assert states == ["online", "offline", "online"]
    before = len(ops.chunks(alarm))
    await ops.until("more sound", lambda: len(ops.chunks(alarm)) >= before + 3)
    assert sorted(ops.chunks(alarm)) == list(range(len(ops.chunks(alarm))))
    assert "gaps" not in ops.state(alarm)["audio"]


async def test_a_microphone_can_be_configured_away_and_back(gateway: World, ops: Ops) -> None:
    """The open alarm says that it has no sound, and that it has some again; all of it plays as one."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.sound_ms(alarm) >= 500)
    text = gateway.configuration.read_text()
    gateway.configuration.write_text(text.replace("[audio]", "[audio]\nenabled = no"))
    reload(gateway)
    await ops.told(alarm, "audio_unavailable")
    await ops.until("the end of the sound", lambda: ops.sound_ended(alarm))
    before = len(ops.chunks(alarm))
    gateway.configuration.write_text(text)
    reload(gateway)
    await ops.until("sound anew", lambda: len(ops.events("audio_started")) == 2)
    await ops.until("its chunks", lambda: len(ops.chunks(alarm)) > before)
    assert sorted(ops.chunks(alarm)) == list(range(len(ops.chunks(alarm))))


async def test_a_start_with_a_bad_configuration_uses_the_last_good_one(gateway: World, ops: Ops) -> None:
    """It hears its tags as before, and says what is wrong."""
    await until("a last good one", (gateway.state / "last_good.conf").exists)
    await gateway.stop()
    gateway.configuration.write_text("[mqtt]\nbrokers = nowhere:0\n[gateway]\nid = gw-1\n")
    ops.turn_the_page()
    await gateway.start()
    await ops.ready(fix=False)
    assert ops.health()["configuration"]["state"] == "refused"
    assert f"{gateway.configuration}:2:" in ops.health()["configuration"]["errors"][0]
    await gateway.press(for_s=0)
    await ops.raised()


def test_a_start_with_no_good_configuration_at_all_names_every_error(world: World) -> None:
    """Exit 78, as systemd knows it, with all that is wrong."""
    world.configuration.write_text("[mqtt]\nbrokers = nowhere:0\n[gps]\nsource = moon\n[audoi]\n")
    run = subprocess.run(world.command, env=world.environment, capture_output=True, text=True, check=False)
    assert run.returncode == 78
    for line, word in ((2, "brokers"), (4, "source"), (5, "audio")):
        assert f"{world.configuration}:{line}: " in run.stderr
        assert word in run.stderr
