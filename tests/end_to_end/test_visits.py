"""Visits that the real daemon watches, with timers that a test can wait for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from end_to_end.conftest import heard, log, until
from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.world import ADDRESS, KEY, World

WHERE: Final = {"street": "Lindengracht", "number": "12", "addition": "b", "floor": "3"}
LONG: Final = 4  # BTHome's number of the event
# No user can set timers so short: the daemon is run with other limits than its own.
SHORT: Final = """
import sys
from gatewayd import visits
from gatewayd.core import visit
from gatewayd.core.visit import orders
orders.SHORTEST_S = 0.1
short = visit.Settings(reminder_s=1.0, grace_s=1.0, pre_alarm_s=3.0)
step = visit.step
visits.visit.step = lambda known, event, now, settings: step(known, event, now, short)
from gatewayd.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Hurried(World):
    """Surroundings in which the gateway's timers are short."""

    @property
    def command(self) -> tuple[str, ...]:
        python, _, _, *arguments = super().command
        return (python, "-c", SHORT, *arguments)


@asynccontextmanager
async def hurried(folder: Path) -> AsyncIterator[tuple[World, Ops]]:
    """A gateway whose tag checks out with a long press, and its ops."""
    world = Hurried(folder, configuration="checkout_on = long")
    async with world.up(), heard(world) as ops:
        await world.start()
        await ops.ready(fix=False)
        yield world, ops


def visit(ops: Ops, name: str) -> list[dict[str, Any]]:
    """What was told of a visit, in order."""
    return [each.body for each in ops.of(Kind.VISIT) if each.where.visit == name]


async def opened(ops: Ops, seconds: float) -> str:
    """Open a visit that ends so soon; return its id."""
    name = f"v-{uuid.uuid4().hex[:8]}"
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    reply = await ops.command("visit/open", visit=name, worker="nurse-1", expected_end=end, address=WHERE)
    assert reply["ok"], reply
    return name


def states(told: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(body["state"]) for body in told))


async def test_an_overdue_visit_raises_an_alarm_also_offline_and_after_a_kill(folder: Path) -> None:
    """The address comes with the alarm's event, and with nothing that lies at the broker."""
    async with hurried(folder) as (world, ops):
        name = await opened(ops, 6)
        await ops.until("the visit", lambda: visit(ops, name))
        await world.kill()
        world.broker.stop()
        ops.subscribed.clear()
        await world.start()
        await until("the alarm in the log", lambda: "raised (actual)" in log(world))
        world.broker.start()
        await ops.subscribed.wait()
        await ops.until("the alarm", lambda: ops.events("raised"))
        (raised,) = ops.events("raised")
        assert (raised["cause"], raised["severity"], raised["worker"]) == ("overdue", "high", "nurse-1")
        assert raised["visit"]["address"] == WHERE
        await ops.until("the visit's state", lambda: visit(ops, name)[-1].get("alarm") == raised["alarm"])
        assert ops.state(raised["alarm"])["visit"]["id"] == name
        assert (await ops.command("alarm/accept", alarm=raised["alarm"]))["ok"]
        await ops.until("the door for who takes it", lambda: ops.events("accepted"))
        assert ops.events("accepted")[0]["visit"]["address"] == WHERE
        lasting = (*ops.of(Kind.VISIT), *ops.of(Kind.ALARM_STATE))
        assert not any(b"Lindengracht" in each.payload for each in lasting)


async def test_a_press_of_check_out_ends_the_pre_alarm(folder: Path) -> None:
    """Reminded, overdue, closed: and no alarm is raised."""
    async with hurried(folder) as (world, ops):
        name = await opened(ops, 2)
        await ops.until("the pre-alarm", lambda: "overdue" in states(visit(ops, name)))
        await world.order(do="press", address=ADDRESS, key=KEY, event=LONG, for_s=0)
        await ops.until("its end", lambda: visit(ops, name)[-1]["state"] == "closed")
        assert states(visit(ops, name)) == ["open", "reminded", "overdue", "closed"]
        await asyncio.sleep(4)  # longer than the pre-alarm would have lasted
        assert ops.events("raised") == []
