"""A gateway that finds a newer gatewayd's outbox: it alarms from memory, and leaves the file alone."""

import sqlite3

from end_to_end.ops import Ops
from gatewayd.sim.world import World


async def test_a_newer_outbox_is_left_alone_and_alarms_go_out_from_memory(world: World, ops: Ops) -> None:
    """After a downgrade: health names both versions, a press is an alarm, the file stays as it is."""
    world.state.mkdir()
    path = world.state / "outbox.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE future (x)")
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    before = path.read_bytes()

    await world.start()
    await ops.ready(fix=False)
    await ops.until("a refusal", lambda: ops.component("outbox")["state"] == "failed")
    detail = ops.component("outbox")["detail"]
    assert "version 2 or older, got version 7; left alone, running from memory" in detail
    await world.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.chunks(alarm))
    await world.stop()
    assert path.read_bytes() == before
    assert {each.name for each in world.state.iterdir()} == {"outbox.db", "last_good.conf", "evidence"}
