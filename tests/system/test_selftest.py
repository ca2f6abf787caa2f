"""`gatewayd selftest` on the installed gateway, beside the running daemon."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from system.claims import Claims
from system.rig import Rig

SELFTEST_S: Final = (
    30.0  # is what it takes at most, whatever hangs; the emulated machine needs longer to begin
)
BEGIN_S: Final = 15.0
BROKER_AWAY: Final = "iptables -{} OUTPUT -o uplink -j REJECT"


async def selftest(rig: Rig) -> tuple[int, dict[str, Any], float]:
    """Its exit status, its rows by subject, and the seconds it took."""
    began_s = time.monotonic()
    status, printed = await rig.machine.attempt("gatewayd selftest --json 2>/dev/null")
    took_s = time.monotonic() - began_s
    told = json.loads(printed)
    assert told["ok"] == (status == 0)
    return status, {row["subject"]: row for row in told["rows"]}, took_s


async def test_a_gateway_that_is_well_has_nothing_to_fear(rig: Rig, claims: Claims) -> None:
    """Nothing fails, and the daemon is the same and as well as before."""
    async with rig.same_daemon():
        status, rows, took_s = await selftest(rig)
    failed = {name: row["findings"] for name, row in rows.items() if row["verdict"] == "fail"}
    assert status == 0, failed
    for name in ("configuration", "credentials", "service", "radio", "gps", "mic", "broker", "disk"):
        assert rows[name]["verdict"] in {"ok", "warn"}, rows[name]
    assert took_s < SELFTEST_S + BEGIN_S
    await rig.ready()
    claims.show(
        "the self-test of a gateway that is well",
        f"{len(rows)} rows, none failed, {took_s:.0f} s; warned of: "
        f"{', '.join(name for name, row in rows.items() if row['verdict'] == 'warn') or 'nothing'}",
    )


async def test_what_is_wrong_is_found_and_said_what_to_do(rig: Rig, claims: Claims) -> None:
    """The adapter, the receiver and the broker are gone: exactly these fail, each with what to do."""
    try:
        await rig.machine.run("systemctl stop radio")
        await rig.machine.unplug_receiver()
        await rig.machine.run(BROKER_AWAY.format("A"))
        status, rows, took_s = await selftest(rig)
    finally:
        await rig.machine.run(BROKER_AWAY.format("D"))
        await rig.machine.plug_receiver()
        await rig.machine.run("systemctl start radio")
    failed = {name for name, row in rows.items() if row["verdict"] == "fail"}
    assert status == 1
    assert failed == {"radio", "gps", "broker"}, rows
    for name in failed:
        worst = rows[name]["findings"][0]
        assert worst["do"], worst
    assert took_s < SELFTEST_S + BEGIN_S
    rig.ops.turn_the_page()
    await rig.ready()
    claims.show("the self-test finds what is gone: radio, receiver, broker", f"exactly these, {took_s:.0f} s")
