"""The package over the years: upgraded, downgraded, removed, and installed again."""

from __future__ import annotations

import asyncio
import json
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path

from gatewayd.edge.outbox.file import SCHEMA_VERSION
from system.claims import Claims
from system.rig import Rig, until

# An upgrade may interrupt hearing for less than this on a real machine. Nearly all of it is Python starting,
# and the emulated machine computes slowly: how slowly is measured in the same run.
HEARING_S = 5.0
COMPUTE = "import time; began = time.process_time(); sum(n * n for n in range(3_000_000)); "
COMPUTE += "print(time.process_time() - began)"
STATE = "/var/lib/gatewayd"
OUTBOX = f"{STATE}/outbox.db"


def under_a_higher_version(deb: Path, folder: Path) -> Path:
    """The same package, as an upgrade finds it."""
    tree = folder / "newer"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    lines = [f"{line}+upgrade1" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join(lines) + "\n")
    file = folder / "newer_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, capture_output=True)
    return file


async def installed(rig: Rig) -> str:
    return (await rig.machine.run("dpkg-query -W -f '${Version}' gatewayd")).strip()


async def install(rig: Rig, deb: Path) -> str:
    """Install a package as a person does who is asked nothing; what apt said."""
    path = await rig.bring(deb)
    return await rig.machine.run(f"apt-get install --yes --allow-downgrades {path}")


async def entries(rig: Rig, *match: str) -> list[dict[str, str]]:
    """The journal's entries of the daemon that say one of `match`, oldest first."""
    told = await rig.machine.run("journalctl --boot --unit=gatewayd --output=json --no-pager")
    found = [json.loads(line) for line in told.splitlines()]
    return [entry for entry in found if any(text in str(entry.get("MESSAGE")) for text in match)]


async def test_an_upgrade_keeps_everything_and_hearing(rig: Rig, claims: Claims) -> None:
    """Configuration and an open alarm are still there; hearing was gone for under 5 s, emulation apart."""
    newer = under_a_higher_version(rig.deb, rig.folder)
    alarm, _ = await rig.raise_alarm()
    await rig.ops.told(alarm, "audio_started")
    await rig.machine.run("echo '# ours' >> /etc/gatewayd/gatewayd.conf")
    before = await rig.machine.run("cat /etc/gatewayd/gatewayd.conf /etc/gatewayd/conf.d/rig.conf")
    async with rig.others():
        said = await install(rig, newer)
        await rig.hears()
    assert (await installed(rig)).endswith("+upgrade1"), said
    assert await rig.machine.run("cat /etc/gatewayd/gatewayd.conf /etc/gatewayd/conf.d/rig.conf") == before
    deaf_s, slow = await deaf_for(rig), await slowness(rig)
    await rig.close(alarm)
    again, _ = await rig.raise_alarm()
    assert again != alarm
    await rig.close(again)
    await install(rig, rig.deb)
    rig.ops.turn_the_page()
    await rig.ready()
    assert deaf_s / slow < HEARING_S
    claims.show(
        "an upgrade keeps configuration and an open alarm, and interrupts hearing",
        f"{deaf_s:.1f} s in the machine, which computes {slow:.0f} times as slowly as the one it runs on",
    )


async def slowness(rig: Rig) -> float:
    """How many times as long the machine takes to compute something in Python."""
    there_s = float(await rig.machine.run(f"python3 -c '{COMPUTE}'"))
    here = await asyncio.create_subprocess_exec("/usr/bin/python3", "-c", COMPUTE, stdout=PIPE)
    here_s, _ = await here.communicate()
    return there_s / float(here_s)


async def deaf_for(rig: Rig) -> float:
    """From the last daemon's farewell to the first advertisement the next one heard, in seconds."""
    stopping = (await entries(rig, "stopping"))[-1]
    hears = (await entries(rig, "scans and hears"))[-1]
    times_us = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in (stopping, hears)]
    assert times_us[0] < times_us[1], "the journal has no first advertisement after the upgrade"
    return (times_us[1] - times_us[0]) / 1e6


async def test_a_newer_database_is_left_alone(rig: Rig, claims: Claims) -> None:
    """After a downgrade the daemon says that the outbox is newer, leaves it, and works from memory."""
    before = await with_version(rig, 99)
    try:
        told = await rig.component("outbox", "failed")
        assert "99" in told["detail"], told
        alarm, _ = await rig.raise_alarm()
        await rig.close(alarm)
        await rig.machine.run("systemctl stop gatewayd")
        assert await rig.machine.run(f"sha256sum {OUTBOX}") == before
    finally:
        await with_version(rig, SCHEMA_VERSION)
    await rig.ready()
    claims.show("a database of a newer version is refused, left alone, and alarms go out", told["detail"])


async def with_version(rig: Rig, version: int) -> str:
    """Restart the daemon with an outbox that says it is of this version; its hash before the start.

    Without its log, which is part of it; the daemon's own has one again.
    """
    log = "WAL" if version == SCHEMA_VERSION else "DELETE"
    say = f"PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = {version}; PRAGMA journal_mode = {log}"
    told = await rig.machine.run(
        f"systemctl stop gatewayd; sqlite3 {OUTBOX} '{say}' >/dev/null; sha256sum {OUTBOX}"
    )
    await rig.machine.run("systemctl start gatewayd")
    rig.ops.turn_the_page()
    return told


async def test_purging_warns_of_what_waits(rig: Rig, claims: Claims) -> None:
    """Purging says how many alarms were not delivered, and takes the state with it."""
    rig.broker.stop()
    try:
        await rig.nurse.press()
        await until("an alarm that waits", lambda: waits(rig))
        said = await rig.machine.run("apt-get purge --yes gatewayd 2>&1")
        left = await rig.machine.attempt(f"ls -d {STATE}; systemctl cat gatewayd")
        bluetooth = await rig.machine.run("systemctl show --property=ExecStart bluetooth")
    finally:
        await rig.nurse.release()
        rig.broker.start()
        await rig.install()
    rig.ops.turn_the_page()
    await rig.ready()
    warnings = [line for line in said.splitlines() if line.startswith("gatewayd: warning:")]
    assert len(warnings) == 1, said
    assert "alarms: 1" in warnings[0]
    assert left[0] != 0
    assert STATE not in left[1].splitlines()
    assert "--experimental" not in bluetooth
    claims.show("purging with an alarm undelivered warns, and leaves nothing", warnings[0])


async def waits(rig: Rig) -> bool:
    count = 'SELECT count(*) FROM message WHERE class = "alarm"'
    return int(await rig.machine.run(f"sqlite3 -cmd '.timeout 5000' {OUTBOX} '{count}'")) > 0
