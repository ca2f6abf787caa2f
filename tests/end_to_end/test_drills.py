"""Tests done on the real thing: a tag that is pressed as announced, the way to the broker and back."""

from __future__ import annotations

from end_to_end.conftest import heard
from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.world import TAG, World

WEEK_S = 7 * 24 * 3600


async def test_a_press_that_was_announced_is_a_test_everywhere_and_leaves_the_microphone_shut(
    gateway: World, ops: Ops
) -> None:
    """Event, state, tag and health say so; it ends with its window, and the next press is real."""
    assert (await ops.command("test/press_window", tags=[TAG], for_s=6))["ok"]
    await ops.until("the window", lambda: TAG in ops.health()["tests"].get("windows", {}))
    assert ops.health()["tests"]["overdue"] == [TAG]
    await gateway.press(for_s=0)
    test = await ops.raised()
    await ops.until("a tested tag", lambda: any("last_test_at" in told.body for told in ops.of(Kind.TAG)))
    await ops.told(test, "closed")
    await ops.until("the end of the window", lambda: "windows" not in ops.health()["tests"])
    assert ops.health()["tests"]["overdue"] == []
    assert {told.body["mode"] for told in ops.of(Kind.ALARM_STATE, test)} == {"test"}
    assert {body["mode"] for body in ops.events(alarm=test)} == {"test"}
    assert ops.events("audio_started", "audio_unavailable") == []
    await ops.until("its outcome", lambda: ops.state(test).get("outcome") == "test")
    await gateway.press(for_s=0)
    await ops.until("a real alarm", lambda: len(ops.events("raised")) == 2)
    assert ops.events("raised")[1]["mode"] == "actual"


async def test_the_gateway_tells_how_long_its_own_message_took_to_the_broker_and_back(
    gateway: World, ops: Ops
) -> None:
    """In health, when it is asked to."""

    def state() -> object:
        return ops.health().get("tests", {}).get("end_to_end", {}).get("state")

    assert (await ops.command("test/run"))["ok"]
    await ops.until("a test that came back", lambda: state() == "ok")
    assert 0 < ops.health()["tests"]["end_to_end"]["latency_ms"] < 30_000
    assert len(ops.of(Kind.TEST)) == 1


async def test_what_a_broker_keeps_of_us_is_what_the_contract_says(gateway: World, ops: Ops) -> None:
    """Nothing of an alarm beyond its expiry; no event, position, sound, reply or test."""
    assert (await ops.command("test/run"))["ok"]
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.told(alarm, "audio_started")
    assert (await ops.command("alarm/close", alarm=alarm, outcome="false"))["ok"]
    await ops.until("the closed state", lambda: ops.state(alarm)["handling"] == "closed")
    await ops.until("the end of the sound", lambda: ops.sound_ended(alarm))
    async with heard(gateway) as later:
        await later.until(
            "what is retained", lambda: later.state(alarm) and later.health() and later.of(Kind.TAG)
        )
        kept = [told for told in later.heard if told.retained]
    assert {told.where.kind for told in kept} == {Kind.STATUS, Kind.HEALTH, Kind.TAG, Kind.ALARM_STATE}
    (state,) = [told for told in kept if told.where.kind is Kind.ALARM_STATE]
    assert state.expires_s is not None
    assert 0 < state.expires_s <= WEEK_S
