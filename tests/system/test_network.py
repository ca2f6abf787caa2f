"""A bad link: packets are lost or take long, both ways. No alarm is lost, and none comes under two ids.

The broker's end of the link is the emulator's user network, a TCP of its own in front of the broker: what is
lost on the way to the gateway it sends again, as any broker's would.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from system.claims import Claims
from system.rig import Rig

PRESSES: Final = 5
MOST_PRESSES: Final = 20  # where losses are rare, go on until there was one
WORSE: Final = (
    "ip link add inbound type ifb",
    "ip link set inbound up",
    "tc qdisc add dev uplink handle ffff: ingress",
    "tc filter add dev uplink parent ffff: matchall action mirred egress redirect dev inbound",
    "tc qdisc add dev uplink root netem {how}",
    "tc qdisc add dev inbound root netem {how}",
)
WELL: Final = (
    "tc qdisc delete dev uplink root",
    "tc qdisc delete dev uplink ingress",
    "ip link delete inbound",
)


@asynccontextmanager
async def link(rig: Rig, how: str) -> AsyncIterator[None]:
    """Have the way to the broker be bad, in each direction, as netem understands `how`."""
    try:
        await rig.machine.run(" && ".join(WORSE).format(how=how))
        yield
    finally:
        await rig.machine.attempt("; ".join(WELL))


async def lost(rig: Rig) -> tuple[int, int]:
    """How many packets were lost on the link, both ways, and how many there were."""
    told = await rig.machine.run("tc -json -statistics qdisc show")
    queues = [queue for queue in json.loads(told) if queue["kind"] == "netem"]
    dropped = sum(queue["drops"] for queue in queues)
    return dropped, dropped + sum(queue["packets"] for queue in queues)


async def press_on(rig: Rig, claims: Claims, how: str, *, loses: bool) -> None:
    """Press over a bad link until there were enough; each must arrive, once, and be confirmed."""
    since = len(rig.ops.heard)
    alarms: list[str] = []
    times_ms: list[float] = []
    async with rig.same_daemon(), link(rig, how):
        while len(alarms) < PRESSES or (loses and (await lost(rig))[0] == 0):
            assert len(alarms) < MOST_PRESSES, "expected a packet to be lost"
            alarm, _ = await rig.raise_alarm()
            alarms.append(alarm)
            times_ms.append(await rig.hop_ms(alarm, "confirmed"))
            await rig.close(alarm)
        dropped, packets = await lost(rig)
    await rig.ready()
    raised = rig.raised(since)
    assert {event["alarm"] for event in raised} == set(alarms)
    assert (
        len({event["id"] for event in raised}) == len({event["press_key"] for event in raised}) == len(alarms)
    )
    times_ms.sort()
    claims.show(
        f"{how}, both ways: {len(alarms)} presses, {len(alarms)} alarms, none lost, none doubled",
        f"heard → confirmed: median {times_ms[len(times_ms) // 2]:.0f} ms, most {times_ms[-1]:.0f} ms; "
        f"{dropped} of {packets} packets lost",
    )


async def test_alarms_come_through_a_link_that_loses_some_packets(rig: Rig, claims: Claims) -> None:
    """One packet in a hundred is lost, both ways."""
    await press_on(rig, claims, "loss 1%", loses=True)


async def test_alarms_come_through_a_link_that_loses_many_packets(rig: Rig, claims: Claims) -> None:
    """Every fifth packet is lost, both ways."""
    await press_on(rig, claims, "loss 20%", loses=True)


async def test_alarms_come_through_a_slow_link(rig: Rig, claims: Claims) -> None:
    """Each packet takes 0.6 s, both ways."""
    await press_on(rig, claims, "delay 600ms", loses=False)
