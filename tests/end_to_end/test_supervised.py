"""What ops see of a tag before it is pressed, and what they can ask afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

import pytest

from end_to_end.ops import Heard, Ops
from gatewayd.core.payload import wall
from gatewayd.core.topic import Kind
from gatewayd.sim.world import ADDRESS, KEY, TAG, World


def told(ops: Ops) -> dict[str, Any]:
    """The newest state of the tag."""
    return next((heard.body for heard in reversed(ops.of(Kind.TAG))), {})


async def heartbeat(world: World) -> None:
    """The tag is near, and nobody presses it."""
    await world.order(do="heartbeat", address=ADDRESS, key=KEY)


async def asked(ops: Ops, **more: Any) -> dict[str, Any]:
    """What the gateway answers of the tag's coverage."""
    reply = await ops.command("coverage/get", tag=TAG, **more)
    assert reply["ok"], reply
    found: dict[str, Any] = reply["coverage"]
    return found


async def deaf(world: World, ops: Ops) -> None:
    """The adapter is switched off, and health has told so."""
    await world.order(do="power", on=False)
    await ops.until("a deaf radio", lambda: ops.component("radio")["state"] == "failed")


async def command_line(world: World, *arguments: str) -> str:
    """What `gatewayd coverage` says on this gateway."""
    where = ("--config", str(world.configuration), "--state", str(world.state))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gatewayd", "coverage", TAG, *arguments, *where),
        env=world.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_a_tag_is_told_from_the_start_and_withdrawn_when_it_is_revoked(world: World, ops: Ops) -> None:
    """Not heard since the start; seen once it is; unknown while the radio is deaf."""
    await world.start()
    await ops.until("a tag that was not heard", lambda: told(ops).get("heard_since_start") is False)
    assert told(ops)["state"] == "unknown"
    await ops.ready(fix=False)
    await heartbeat(world)
    await ops.until("a tag that is seen", lambda: told(ops)["state"] == "seen")
    assert (told(ops)["heard_since_start"], told(ops)["worker"]) == (True, "nurse-1")
    assert told(ops)["last_seen_at"] >= told(ops)["started_at"]
    await deaf(world, ops)
    await ops.until("a tag nobody can hear", lambda: told(ops)["state"] == "unknown")
    assert "off" in told(ops)["why"]

    text = world.configuration.read_text()
    world.configuration.write_text(text[: text.index("[tag")])
    assert world.daemon is not None
    world.daemon.send_signal(signal.SIGHUP)

    def withdrawn() -> list[Heard]:
        return [heard for heard in ops.of(Kind.TAG) if not heard.payload]

    await ops.until("a tag that is withdrawn", withdrawn)


async def test_coverage_is_answered_on_the_wire_and_from_the_disk(gateway: World, ops: Ops) -> None:
    """Heard; then deaf, with the reason that health gave; the same from the disk of the stopped gateway."""
    # by one clock from beginning to end: the receiver's time differs a little from what was believed before
    await ops.until("the time", lambda: ops.component("clock")["state"] == "ok")
    for _ in range(3):
        await heartbeat(gateway)
        await asyncio.sleep(1)
    await ops.until("a tag that is seen", lambda: told(ops).get("state") == "seen")
    covered = await asked(ops)
    assert covered["verdict"] == "covered"
    heard_at = covered.get("last_heard_at") or covered["heard_to_at"]
    await deaf(gateway, ops)
    await asyncio.sleep(1)  # the second in which it heard
    found = await asked(ops)
    assert found["verdict"] == "could_not_hear"
    assert "off" in found["why"]
    assert (await asked(ops, at=heard_at))["verdict"] == "covered"
    nobody = await ops.command("coverage/get", tag="nobody")
    assert nobody["error"]["code"] == "unknown"

    await gateway.stop()
    stored = json.loads(await command_line(gateway, "--json"))
    assert (stored["verdict"], stored["why"]) == ("could_not_hear", found["why"])
    assert wall(stored["since"]) == pytest.approx(wall(found["since"]), abs=0.5)  # clocks are corrected
    assert json.loads(await command_line(gateway, "--json", "--at", heard_at))["verdict"] == "covered"
    assert "the gateway could not hear" in await command_line(gateway)


async def test_what_was_heard_before_a_kill_is_known_as_far_as_it_was_written(
    gateway: World, ops: Ops
) -> None:
    """The record survives; of the time after the last writing nothing is claimed."""
    began = ops.status()["since"]
    await deaf(gateway, ops)
    await ops.until("a tag that is told of", lambda: told(ops))
    await gateway.kill()
    ops.turn_the_page()
    await gateway.order(do="power", on=True)
    await gateway.start()
    await ops.ready(fix=False)
    await ops.until("a new run", lambda: ops.status()["since"] != began)
    found = await asked(ops, at=began)
    assert found["verdict"] in {"could_not_hear", "unknown"}
    assert found["why"]
