"""A GATT button: from its notification to the broker, and back to its wearer."""

import asyncio

from end_to_end.conftest import log, until
from end_to_end.ops import Ops
from gatewayd.sim.world import World

ADDRESS = "C4:11:22:33:44:77"
LOOK_S = 0.2
BEEPS = 3  # one for stored, two for received
SECTION = f"[tag anna]\nformat = itag\naddress = {ADDRESS}\nbeep = yes\n"


async def test_a_gatt_button_raises_an_alarm_and_its_wearer_is_told(world: World, ops: Ops) -> None:
    """Connected, pressed, raised as what it is; it beeps when stored and received."""
    world.configuration.write_text(world.configuration.read_text() + SECTION)
    await world.order(do="button", address=ADDRESS)
    await world.start()
    await until("a connection", lambda: "tag anna: connected" in log(world))
    assert (await world.order(do="push", address=ADDRESS))["told"]
    alarm = await ops.raised()
    tag = ops.events(alarm=alarm)[0]["tag"]
    assert (tag["id"], tag["format"], tag["event"], tag["auth"]) == ("anna", "itag", "press", "none")
    assert tag["feedback"] == "beep"
    assert (await ops.command("alarm/received", alarm=alarm))["ok"]
    told = 0
    while told < BEEPS:
        await asyncio.sleep(LOOK_S)
        told = (await world.order(do="push", address=ADDRESS))["beeps"]
    assert told == BEEPS
    assert len(ops.events("raised")) == 1
