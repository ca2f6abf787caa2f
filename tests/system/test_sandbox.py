"""What the service can reach from inside its sandbox, and what it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from system.claims import Claims
from system.rig import BROKER, NURSE, Rig

PROBE: Final = Path(__file__).parent / "probe.py"
INSIDE: Final = "/usr/local/lib/probe.py"  # where everybody may read it
FOUND: Final = "/run/gatewayd/probe.json"  # in the service's runtime directory
DROP_IN: Final = "/run/systemd/system/gatewayd.service.d/probe.conf"
EXPOSURE: Final = 2.0  # of `systemd-analyze security`, at most

# Files that only the sandbox keeps from the service, and files of another user.
PREPARED: Final = """
useradd --create-home --home-dir /home/other other
install -d -m 755 /home/other /srv/other
install -m 644 -o other /dev/null /home/other/readable
install -m 600 -o other /dev/null /srv/other/private
install -m 666 -o other /dev/null /srv/other/writable
"""
UNDONE: Final = f"""
rm -rf {DROP_IN} {INSIDE} /srv/other /var/lib/gatewayd/probe
userdel --remove other 2>/dev/null
systemctl daemon-reload
"""


async def test_the_service_reaches_what_it_needs_and_nothing_else(rig: Rig, claims: Claims) -> None:
    """Asked from inside, as the unit starts it, in its very sandbox. The same questions outside, as root,
    find all of it within reach: so it is the sandbox that keeps it away.
    """
    command = f"/usr/bin/python3 {INSIDE} {FOUND} {BROKER} {rig.broker.port} {NURSE}"
    await rig.machine.put(PROBE.read_bytes(), INSIDE, "755")
    await rig.machine.put(f"[Service]\nExecStartPre={command}\n".encode(), DROP_IN)
    try:
        await rig.machine.run(f"set -e; {PREPARED}")
        await rig.machine.run("systemctl daemon-reload && systemctl restart gatewayd")
        inside = json.loads(await rig.machine.run(f"cat {FOUND}"))
        outside = json.loads(await rig.machine.run(f"/usr/bin/python3 {INSIDE} - --forbidden"))
    finally:
        await rig.machine.run(UNDONE)
    reached = {name for name, answer in inside["forbidden"].items() if answer == "reached"}
    missed = {name: answer for name, answer in inside["needed"].items() if answer != "reached"}
    assert not reached, reached
    assert not missed, missed
    vacuous = {name: answer for name, answer in outside["forbidden"].items() if answer != "reached"}
    assert not vacuous, f"without a sandbox these would be out of reach, too: {vacuous}"
    claims.show("out of reach from inside the sandbox", ", ".join(inside["forbidden"]))
    claims.show("within reach from inside the sandbox", ", ".join(inside["needed"]))


async def test_the_sandbox_is_as_tight_as_systemd_can_tell(rig: Rig, claims: Claims) -> None:
    """The exposure that systemd makes of the unit's settings, of 10, is at most 2.0."""
    told = await rig.machine.run("systemd-analyze security --no-pager gatewayd")
    (exposure,) = re.findall(r"Overall exposure level for gatewayd\.service: ([\d.]+)", told)
    assert float(exposure) <= EXPOSURE
    claims.show("systemd-analyze security", exposure)
