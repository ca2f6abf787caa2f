"""A button that must be connected, on the same air as the others."""

from __future__ import annotations

import time
from typing import Final

from system.claims import Claims
from system.gatt_tag import GattTag
from system.rig import Rig, until

ADDRESS: Final = "C4:11:22:33:44:77"
NAME: Final = "anna-button"
SECTION: Final = f"""
[tag {NAME}]
format = itag
address = {ADDRESS}
beep = yes
"""
BEEPS: Final = 3  # one for stored, two for received


async def test_a_gatt_button_is_connected_heard_and_told(rig: Rig, claims: Claims) -> None:
    """Its press becomes an alarm and comes back as beeps; lost, it connects again; the others are heard."""
    tag = GattTag(await rig.air.device(ADDRESS))
    await tag.advertise()
    try:
        await rig.configure(SECTION)
        await rig.ready()
        connected_s = await connected(rig, 1)
        async with rig.same_daemon():
            alarm, took_s = await press(rig, tag)
            assert rig.ops.events("raised", alarm=alarm)[0]["tag"]["feedback"] == "beep"
            assert (await rig.ops.command("alarm/received", alarm=alarm))["ok"]
            await rig.ops.until("beeps", lambda: tag.beeps == BEEPS)
            await rig.close(alarm)
            other, _ = await rig.raise_alarm()
            await rig.close(other)
            await tag.lose()
            again_s = await connected(rig, 2)
            alarm, _ = await press(rig, tag)
            await rig.close(alarm)
    finally:
        await tag.stop()
        await rig.configure()
        await rig.ready()
    claims.show(
        "a GATT button is connected, heard, told, and connected again",
        f"connected {connected_s:.1f} s after all was well, again {again_s:.1f} s after it was lost,"
        f" press to alarm {took_s:.1f} s",
    )


async def press(rig: Rig, tag: GattTag) -> tuple[str, float]:
    """Press it once; its alarm, and the seconds that took."""
    known = {event["alarm"] for event in rig.ops.events("raised")}

    def new() -> list[str]:
        return [event["alarm"] for event in rig.ops.events("raised") if event["alarm"] not in known]

    began_s = time.monotonic()
    await tag.press()
    await rig.ops.until("an alarm", new)
    assert rig.ops.events("raised", alarm=new()[0])[0]["tag"]["id"] == NAME
    return new()[0], time.monotonic() - began_s


async def connected(rig: Rig, times: int) -> float:
    """Wait until the daemon that runs now has said so that often; the seconds that took."""
    pid = await rig.property("MainPID")

    async def said() -> bool:
        told = await rig.machine.run(f"journalctl _PID={pid} --output=cat --no-pager")
        return told.count(f"tag {NAME}: connected") >= times

    return await until(f"{times} connections", said)
