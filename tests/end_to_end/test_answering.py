"""`gatewayd ops` at a real gateway: what is open is shown, commands are answered, exit codes say how."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from end_to_end.ops import Ops
from gatewayd.cli import main
from gatewayd.core.topic import Kind
from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.world import GATEWAY, PREFIX, World


async def asked(world: World, *words: str) -> tuple[int, str]:
    """What `gatewayd ops` returns and prints, on either stream."""

    def run() -> tuple[int, str]:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            broker = f"{LOOPBACK}:{world.broker.port}"
            status = main(["ops", *words, "--broker", broker, "--prefix", PREFIX, "--as", "Ada"])
        return status, said.getvalue()

    return await asyncio.to_thread(run)


async def listed(world: World) -> dict[str, Any]:
    status, said = await asked(world, "list", "--json")
    assert status == 0, said
    found = json.loads(said)
    assert isinstance(found, dict)
    return found


async def test_an_alarm_is_listed_accepted_and_closed(gateway: World, ops: Ops) -> None:
    """From the press to the empty list, by commands a person can type; the actor is who they say they are."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("the state", lambda: ops.of(Kind.ALARM_STATE))
    status, said = await asked(gateway, "list")
    assert status == 0
    assert f"{GATEWAY} {alarm}, panic, " in said
    assert "TAKEN BY NOBODY" in said
    assert await asked(gateway, GATEWAY, "accept", alarm) == (0, "alarm/accept: done\n")
    assert (await listed(gateway))["alarms"][0]["owner"] == {"id": "Ada", "name": "Ada"}
    assert "taken by Ada" in (await asked(gateway, "list"))[1]
    closed = await asked(gateway, GATEWAY, "alarm/close", alarm, "--outcome", "false", "--police", "no")
    assert closed == (0, "alarm/close: done\n")
    await ops.until("the closed state", lambda: ops.state(alarm)["handling"] == "closed")
    assert ops.state(alarm)["outcome"] == "false"
    assert ops.state(alarm)["police"] is False
    assert (await listed(gateway))["alarms"] == []


async def test_a_refusal_fails_with_its_reason(gateway: World, ops: Ops) -> None:
    """Exit status 1, and the reply whole where a program reads it."""
    status, said = await asked(gateway, GATEWAY, "accept", "nobody")
    assert status == 1
    assert said.startswith("alarm/accept: unknown: ")
    status, said = await asked(gateway, GATEWAY, "accept", "nobody", "--json")
    assert status == 1
    assert json.loads(said)["error"]["code"] == "unknown"


async def test_the_same_id_again_is_carried_out_once(gateway: World, ops: Ops) -> None:
    """Whoever got no answer may ask again without harm."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    for _ in range(2):
        assert (await asked(gateway, GATEWAY, "accept", alarm, "--id", "a-1"))[0] == 0
    await ops.until("the state", lambda: ops.state(alarm).get("handling") == "accepted")
    assert len(ops.events("accepted")) == 1


async def test_a_question_is_answered_with_what_was_found(gateway: World, ops: Ops) -> None:
    await gateway.press(for_s=0)
    tag = str((await ops.told(await ops.raised(), "raised"))["tag"]["id"])
    status, said = await asked(gateway, GATEWAY, "coverage/get", tag)
    assert status == 0
    assert '"coverage": {' in said


async def test_a_gateway_that_nobody_knows_does_not_answer(world: World) -> None:
    """Nothing is said to be done that may not have been; the id to ask again with is told."""
    status, said = await asked(world, "gw-none", "test/run", "--id", "t-1")
    assert status == 1
    assert "no answer from gw-none, which is not known to this broker" in said
    assert "--id t-1" in said


async def test_a_gateway_that_went_is_told_as_away_and_its_tags_as_not_covered(
    world: World, ops: Ops
) -> None:
    await world.start()
    await ops.ready(fix=False)
    await ops.until("the tags", lambda: ops.of(Kind.TAG))
    await world.stop()
    found = await listed(world)
    assert found["gateways"] == {GATEWAY: "offline"}
    assert [tag["reason"] for tag in found["not_covered"]] == [f"{GATEWAY} is offline"]
    status, said = await asked(world, GATEWAY, "listen/stop", "--timeout", "1")
    assert status == 1
    assert f"no answer from {GATEWAY}, which is offline" in said


async def test_what_the_desk_does_not_know_can_be_sent_all_the_same(gateway: World, ops: Ops) -> None:
    """A newer gateway may know more fields: what is set is in the command that is judged."""
    status, said = await asked(gateway, GATEWAY, "listen/start", "nobody", "--set", 'max_s="long"')
    assert status == 1
    assert "max_s: expected a whole number of seconds" in said
