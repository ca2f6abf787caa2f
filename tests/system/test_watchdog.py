"""A daemon whose event loop is stuck ends by the systemd watchdog, and another one takes its place."""

from __future__ import annotations

import time

from gatewayd.run import TEST_HOOKS
from system.claims import Claims
from system.rig import Rig, until

DROP_IN = "/run/systemd/system/gatewayd.service.d/hang.conf"
HANG = "systemctl kill --kill-whom=main --signal=SIGUSR2 gatewayd"
RESTARTED_S = 90.0  # WatchdogSec=20 of the unit, and a start


async def test_a_stuck_loop_is_restarted(rig: Rig, claims: Claims) -> None:
    """The hook is off unless switched on; then nothing but the watchdog ends a loop that hangs."""
    assert TEST_HOOKS not in await rig.property("Environment")
    await rig.machine.put(f"[Service]\nEnvironment={TEST_HOOKS}=1\n".encode(), DROP_IN)
    try:
        await rig.machine.run("systemctl daemon-reload && systemctl restart gatewayd")
        await rig.hears()
        before = await rig.property("MainPID")
        await rig.machine.run(HANG)
        began_s = time.monotonic()

        async def another() -> bool:
            return await rig.property("MainPID") not in {before, "0"}

        await until("a daemon that was started again", another, RESTARTED_S)
        took_s = time.monotonic() - began_s
        told = await rig.machine.run("journalctl --boot --unit=gatewayd --output=cat --no-pager")
        assert "the event loop hangs from now on" in told
        assert "Watchdog timeout" in told
        await rig.hears()
        alarm, alarm_s = await rig.raise_alarm()
        await rig.close(alarm)
        claims.show(
            "a stuck loop is restarted by systemd",
            f"{took_s:.0f} s after it got stuck; an alarm after that arrives in {alarm_s:.1f} s",
        )
    finally:
        await rig.machine.run(f"rm -f {DROP_IN}; systemctl daemon-reload; systemctl restart gatewayd")
        await rig.hears()
        rig.ops.turn_the_page()
        await rig.ready()
