"""What the gateway says of itself is true, within seconds."""

from __future__ import annotations

import asyncio

from end_to_end.conftest import heard
from end_to_end.ops import Ops
from end_to_end.service_manager import ServiceManager
from gatewayd.core.health import OUTAGE_S
from gatewayd.core.topic import Kind
from gatewayd.sim.world import World


async def test_a_radio_that_is_switched_off_is_told_and_hears_again_when_it_is_on(
    gateway: World, ops: Ops
) -> None:
    """Failed while off; a press after it was switched on is heard."""
    await gateway.order(do="power", on=False)
    await ops.until("a radio that failed", lambda: ops.component("radio")["state"] == "failed", 5)
    assert "is off" in ops.component("radio")["detail"]
    assert ops.health()["overall"] == "failed"
    await gateway.order(do="power", on=True)
    await ops.until("a radio that scans", lambda: "scans" in ops.component("radio")["detail"])
    await gateway.press(for_s=2)
    await ops.raised()
    await ops.until("a radio that hears", lambda: ops.component("radio")["state"] == "ok")
    assert ops.component("radio")["last_outage"]["state"] == "failed"


async def test_a_receiver_that_is_pulled_out_is_told_and_found_again(gateway: World, ops: Ops) -> None:
    """Failed while it is away, with what to look at; a fix again after it was plugged in."""
    await ops.ready()
    gateway.receiver.unplug()
    await ops.until("no receiver", lambda: ops.component("gps")["state"] == "failed")
    gateway.receiver.plug()
    await ops.until("a fix", lambda: ops.component("gps")["state"] == "ok")


async def test_what_waits_while_the_broker_is_away_is_told_once_it_is_back(world: World, ops: Ops) -> None:
    """Health tells how much waits, and after the outage since when the link was down."""
    world.configuration.write_text(world.configuration.read_text() + "\n[health]\ninterval = 1s\n")
    with ServiceManager(world.folder) as manager:
        world.more_environment |= manager.environment
        await world.start()
        await ops.ready(fix=False)
        world.broker.kill()
        await world.press(for_s=0)
        await manager.until(r"STATUS=1 open alarm, .*, offline, [1-9]\d* waiting")
        await asyncio.sleep(OUTAGE_S)  # what is shorter is no outage
    world.broker.start()
    async with heard(world) as again:
        await again.raised()
        await again.until("an outage", lambda: "last_outage" in again.component("uplink"))
        assert again.component("uplink")["last_outage"]["lasted_s"] >= 1
        assert max(heard.body["outbox"]["depth"] for heard in again.of(Kind.HEALTH)) > 0
