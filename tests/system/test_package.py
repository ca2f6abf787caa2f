"""The package over the years: upgraded, downgraded, removed, and installed again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from system.claims import Claims
from system.rig import Rig, until

HEARING_S = 5.0  # an upgrade may interrupt hearing for less than this
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
    """Configuration, state and an open alarm are still there, and hearing was interrupted for under 5 s."""
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
    deaf_s = await deaf_for(rig)
    assert deaf_s < HEARING_S
    await rig.close(alarm)
    again, _ = await rig.raise_alarm()
    assert again != alarm
    await rig.close(again)
    await install(rig, rig.deb)
    await rig.ready()
    claims.show("an upgrade keeps configuration and an open alarm, and interrupts hearing", f"{deaf_s:.1f} s")


async def deaf_for(rig: Rig) -> float:
    """From the last daemon's farewell to the first advertisement the next one heard, in seconds."""
    stopping = (await entries(rig, "stopping"))[-1]
    hears = (await entries(rig, "scans and hears"))[-1]
    times_us = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in (stopping, hears)]
    assert times_us[0] < times_us[1], "the journal has no first advertisement after the upgrade"
    return (times_us[1] - times_us[0]) / 1e6


async def test_a_newer_database_is_left_alone(rig: Rig, claims: Claims) -> None:
    """After a downgrade the daemon says that the outbox is newer, leaves it, and works from memory."""
    await rig.machine.run(
        "systemctl stop gatewayd && "
        f"sqlite3 {OUTBOX} 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 99'"
    )
    before = await rig.machine.run(f"sha256sum {OUTBOX}")
    await rig.machine.run("systemctl start gatewayd")
    rig.ops.turn_the_page()
    told = await rig.component("outbox", "failed", "degraded")
    assert "99" in told["detail"], told
    alarm, _ = await rig.raise_alarm()
    await rig.close(alarm)
    await rig.machine.run("systemctl stop gatewayd")
    assert await rig.machine.run(f"sha256sum {OUTBOX}") == before
    await rig.machine.run(f"sqlite3 {OUTBOX} 'PRAGMA user_version = 1' && systemctl start gatewayd")
    rig.ops.turn_the_page()
    await rig.ready()
    claims.show("a database of a newer version is refused, left alone, and alarms go out", told["detail"])


async def test_purging_warns_of_what_waits(rig: Rig, claims: Claims) -> None:
    """Purging says how many alarms were not delivered, and takes the state with it."""
    rig.broker.stop()
    await rig.nurse.press()
    try:
        await until("an alarm that waits", lambda: waits(rig))
    finally:
        await rig.nurse.release()
    said = await rig.machine.run("apt-get purge --yes gatewayd 2>&1")
    assert "alarm" in said.lower(), said
    warning = next(line for line in said.splitlines() if "alarm" in line.lower())
    assert (await rig.machine.attempt(f"test -e {STATE}"))[0] != 0
    assert (await rig.machine.attempt("systemctl cat gatewayd"))[0] != 0
    assert "--experimental" not in await rig.machine.run("systemctl show --property=ExecStart bluetooth")
    rig.broker.start()
    await rig.install()
    rig.ops.turn_the_page()
    await rig.ready()
    claims.show("purging with an alarm undelivered warns, and leaves nothing", warning.strip())


async def waits(rig: Rig) -> bool:
    count = 'SELECT count(*) FROM message WHERE class = "alarm"'
    return int(await rig.machine.run(f"sqlite3 {OUTBOX} '{count}'")) > 0
