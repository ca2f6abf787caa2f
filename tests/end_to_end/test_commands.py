"""What ops ask for over MQTT, and what they are answered."""

from __future__ import annotations

import json
import random
from pathlib import Path

from end_to_end.conftest import heard
from end_to_end.ops import ACTOR, Ops, order
from gatewayd.core.topic import Kind
from gatewayd.sim.world import World

STORM = 3_000
QUEUE = 200  # mosquitto drops what waits beyond 1,000 messages for a client; so much may be under way
MOST_GROWTH_KIB = 30_000


async def pressed(world: World, ops: Ops) -> str:
    """Press the tag; returns the alarm, whose sound has begun."""
    await world.press(for_s=0)
    alarm = await ops.raised()
    await ops.told(alarm, "audio_started")
    return alarm


def resident_kib(world: World) -> int:
    assert world.daemon is not None
    status = Path(f"/proc/{world.daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def test_an_alarm_is_handled_from_received_to_closed(gateway: World, ops: Ops) -> None:
    """Each command is told as an event with its actor, and answered to whoever asked."""
    alarm = await pressed(gateway, ops)
    for command in ("alarm/received", "alarm/accept"):
        assert (await ops.command(command, alarm=alarm))["ok"]
    assert (await ops.command("listen/stop"))["ok"]
    await ops.told(alarm, "audio_ended")
    assert (await ops.command("listen/start", alarm=alarm, max_s=60))["ok"]
    await ops.until("sound anew", lambda: len(ops.events("audio_started")) == 2)
    assert (await ops.command("alarm/close", alarm=alarm, outcome="real", police=True))["ok"]
    await ops.until("the closed state", lambda: ops.state(alarm)["handling"] == "closed")
    assert ops.events("accepted")[0]["actor"] == ACTOR
    assert ops.state(alarm)["owner"] == ACTOR
    assert ops.state(alarm)["outcome"] == "real"
    refused = await ops.command("listen/start", alarm=alarm)
    assert refused["error"]["code"] == "refused"
    again = await ops.command("alarm/close", alarm=alarm, outcome="false")
    assert again["error"]["code"] == "conflict"


async def test_an_alarm_is_handed_over_and_reviewed(gateway: World, ops: Ops) -> None:
    """One takes it and cannot, another comes; in the end the retained state is withdrawn."""
    alarm = await pressed(gateway, ops)
    bob = {"id": "bob"}
    assert (await ops.command("alarm/accept", alarm=alarm))["ok"]
    conflict = await ops.command("alarm/accept", alarm=alarm, actor=bob)
    assert conflict["error"]["code"] == "conflict"
    assert (await ops.command("alarm/decline", alarm=alarm))["ok"]
    assert (await ops.command("alarm/respond", alarm=alarm, actor=bob, eta_s=300))["ok"]
    await ops.until("who comes", lambda: ops.state(alarm).get("owner") == bob)
    assert [each["state"] for each in ops.state(alarm)["responders"]] == ["declined", "responding"]
    assert (await ops.command("alarm/on_scene", alarm=alarm, actor=bob))["ok"]
    assert (await ops.command("alarm/close", alarm=alarm, outcome="real"))["ok"]
    assert (await ops.command("alarm/reopen", alarm=alarm))["ok"]
    assert (await ops.command("alarm/close", alarm=alarm, outcome="false"))["ok"]
    assert (await ops.command("alarm/review", alarm=alarm))["ok"]
    given = ("accepted", "declined", "responding", "on_scene", "closed", "reopened", "closed", "reviewed")
    assert [event["type"] for event in ops.events(*given, alarm=alarm)] == list(given)
    assert (await ops.command("alarm/note", alarm=alarm, text="x"))["error"]["code"] == "unknown"
    async with heard(gateway) as late:
        await late.ready(fix=False)
        assert [each for each in late.of(Kind.ALARM_STATE) if each.where.alarm == alarm] == []


async def test_a_command_without_a_response_topic_is_answered_at_reply(gateway: World, ops: Ops) -> None:
    """For consoles that speak MQTT 3.1.1, or do not care to be asked by name."""
    command = order(alarm="nobody")
    ops.give("alarm/accept", command)
    await ops.until("a reply", lambda: ops.of(Kind.REPLY))
    (reply,) = ops.of(Kind.REPLY)
    assert reply.body["id"] == json.loads(command)["id"]
    assert reply.body["error"]["code"] == "unknown"


async def test_the_same_command_again_has_the_same_answer_and_no_second_effect(
    gateway: World, ops: Ops
) -> None:
    """Also after a restart, and though the alarm is not in that state any more."""
    alarm = await pressed(gateway, ops)
    command = order(alarm=alarm)
    first = await ops.ask("alarm/accept", command)
    second = await ops.ask("alarm/accept", command)
    await gateway.stop()
    ops.turn_the_page()
    await gateway.start()
    await ops.ready(fix=False)
    third = await ops.ask("alarm/accept", command)
    outcomes = [(each["id"], each["ok"]) for each in (first, second, third)]
    assert outcomes == [(json.loads(command)["id"], True)] * 3
    assert len(ops.events("accepted")) == 1


async def test_what_is_no_good_command_is_refused_with_its_reason(gateway: World, ops: Ops) -> None:
    """Malformed, unknown, of no alarm, retained and expired, each with its code."""
    await ops.until("the time", lambda: ops.component("clock")["state"] == "ok")
    expected = {
        "invalid": [("alarm/accept", b"{"), ("alarm/accept", b"\xff\xfe"), ("alarm/close", order(alarm="a"))],
        "unknown": [("alarm/dance", order()), ("alarm/accept", order(alarm="nobody"))],
        "expired": [("alarm/accept", order(alarm="a", expires_at="2020-01-01T00:00:00Z"))],
    }
    for code, commands in expected.items():
        for name, payload in commands:
            reply = await ops.ask(name, payload)
            assert reply["error"]["code"] == code, reply
    retained = order(alarm="a")
    assert (await ops.ask("alarm/accept", retained, retain=True))["error"]["code"] == "refused"
    ops.give("alarm/accept", b"", retain=True)


async def test_commands_given_while_the_gateway_was_away_are_carried_out(gateway: World, ops: Ops) -> None:
    """The broker holds them for the session, which outlives a kill; a retained one is refused even so."""
    alarm = await pressed(gateway, ops)
    await gateway.kill()
    ops.give("alarm/accept", order(alarm=alarm), correlation=b"good", expires_s=60)
    ops.give("alarm/close", order(alarm=alarm, outcome="real"), correlation=b"retained", retain=True)
    await gateway.start()
    assert (await ops.answer(b"good"))["ok"]
    assert (await ops.answer(b"retained"))["error"]["code"] == "refused"
    await ops.until("the state", lambda: ops.state(alarm)["handling"] == "accepted")


async def test_a_storm_of_nonsense_is_answered_and_leaves_no_trace(gateway: World, ops: Ops) -> None:
    """Thousands of random commands: each is counted or refused, memory stays, the next is obeyed."""
    alarm = await pressed(gateway, ops)
    chance = random.Random(3)
    await ops.ask("alarm/accept", b"{}")
    before_kib = resident_kib(gateway)
    names = ("alarm/accept", "alarm/close", "listen/start", "no/such", "x" * 200, "", "a/b/c/d/e/f")
    valid = order(alarm=alarm, outcome="real")
    for count in range(STORM):
        if count % QUEUE == 0:
            await ops.ask("alarm/accept", b"{}")
        noise = bytearray(valid if chance.random() < 0.5 else chance.randbytes(chance.randrange(300)))
        for _ in range(min(len(noise), 3)):
            noise[chance.randrange(len(noise))] = chance.randrange(256)
        ops.give(chance.choice(names), bytes(noise), correlation=chance.choice([None, b"storm"]))
    # Some of it may have closed the alarm: a letter of a comment was all that was wrong.
    assert (await ops.command("alarm/received", alarm=alarm))["id"]
    assert resident_kib(gateway) - before_kib < MOST_GROWTH_KIB
    assert gateway.daemon is not None
    assert gateway.daemon.returncode is None
    assert "Traceback" not in gateway.log.read_text()
