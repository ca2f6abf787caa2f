"""What proves a recording, from the gateway to whoever verifies it with its public key alone."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from end_to_end.conftest import heard, until
from end_to_end.ops import Ops
from gatewayd.core import payload
from gatewayd.core.topic import Kind
from gatewayd.sim.world import World


async def recorded(gateway: World, ops: Ops, seconds: float = 2) -> str:
    """Press, listen for a while, and stop; return the alarm once its manifest came."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.sound_ms(alarm) >= seconds * 1000)
    await ops.command("listen/stop")
    await ops.until("the manifest", lambda: ops.of(Kind.ALARM_EVIDENCE, alarm))
    return alarm


def signed_bodies(ops: Ops, alarm: str) -> list[dict[str, Any]]:
    return [json.loads(heard.body["signed"]) for heard in ops.of(Kind.ALARM_EVIDENCE, alarm)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gatewayd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def saving(gateway: World, folder: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A monitor that keeps what comes; what it says goes to a file."""
    command = [sys.executable, "-m", "gatewayd", "monitor", "--broker", f"127.0.0.1:{gateway.broker.port}"]
    with said.open("wb") as out:
        monitor = subprocess.Popen([*command, "--save", str(folder)], stdout=out)
    try:
        yield monitor
    finally:
        monitor.terminate()
        monitor.wait()


def others_agree(folder: Path, key: Path) -> bool:
    """Whether openssl and sha256sum, which know nothing of us, find the recording unaltered."""
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-rawin"]
    signed = ["-in", "manifest-0.json", "-sigfile", "manifest-0.sig"]
    if shutil.which("openssl"):
        subprocess.run([*command, *signed], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    lists = b"".join(path.read_bytes() for path in (folder / "lists").iterdir())
    summed = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet"], cwd=folder, input=lists, check=False
    )
    return summed.returncode == 0


async def test_a_saved_recording_is_verified_with_the_public_key_alone(
    gateway: World, ops: Ops, tmp_path: Path
) -> None:
    """`monitor --save` collects it; verify, sha256sum and openssl accept it; a change is told."""
    said = tmp_path / "said.txt"
    with saving(gateway, tmp_path, said) as monitor:
        await until("a monitor that hears", said.read_text)
        alarm = await recorded(gateway, ops, 4)
        await ops.until("health with the key", lambda: "evidence" in ops.health())
        await until("what was saved", (tmp_path / f"{alarm}.opus.evidence" / "manifest-0.sig").exists)
        monitor.send_signal(signal.SIGINT)  # as Ctrl-C: it saves what it has
        monitor.wait()
    folder = tmp_path / f"{alarm}.opus.evidence"
    key = tmp_path / "key.pem"
    key.write_text(run("evidence", "key", "--state", gateway.state).stdout)
    assert (gateway.state / "evidence" / "key.pem").stat().st_mode & 0o777 == 0o600
    good = run("evidence", "verify", folder, "--key", key)
    assert good.returncode == 0, good.stderr
    by_health = tmp_path / "key.txt"
    by_health.write_text(ops.health()["evidence"]["keys"][-1]["public"])
    found = json.loads(run("evidence", "verify", folder, "--key", by_health, "--json").stdout)
    assert found["ok"]
    assert found["chunks_proved"] == len(ops.chunks(alarm))
    assert others_agree(folder, key)
    assert run("evidence", "verify", tmp_path / f"{alarm}.opus", "--key", key).returncode == 0
    chunk = folder / "audio" / "1"
    chunk.write_bytes(chunk.read_bytes() + b"\0")
    bad = run("evidence", "verify", folder, "--key", key)
    assert bad.returncode == 1
    assert bad.stderr == "chunk 1 altered\n"


async def test_a_recording_that_goes_on_gets_a_new_manifest_of_the_whole(gateway: World, ops: Ops) -> None:
    """After a kill, too, the chain goes on from where the disk had it."""
    alarm = await recorded(gateway, ops)
    await ops.command("listen/start", alarm=alarm, max_s=60)
    chunks = len(ops.chunks(alarm))
    await ops.until("more sound", lambda: len(ops.chunks(alarm)) >= chunks + 2)
    await gateway.kill()
    await gateway.start()
    await ops.until("sound that goes on", lambda: len(ops.chunks(alarm)) >= chunks + 5)
    await ops.command("listen/stop")
    await ops.until("another manifest", lambda: len(signed_bodies(ops, alarm)) == 2)
    first, second = signed_bodies(ops, alarm)
    assert second["first"] == first["first"] == 0
    assert second["chunks"] == len(ops.chunks(alarm))
    assert not second["began_anew"]


async def test_a_stop_of_the_daemon_leaves_a_manifest(gateway: World, ops: Ops) -> None:
    """An open alarm's recording is proved as far as it came; what the disk still had follows."""
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.until("sound", lambda: ops.sound_ms(alarm) >= 1_000)
    await gateway.stop()
    await ops.until("the manifest", lambda: ops.of(Kind.ALARM_EVIDENCE, alarm))
    (body,) = signed_bodies(ops, alarm)
    await gateway.start()
    await ops.until("its last chunk", lambda: body["last"] in ops.chunks(alarm))
    assert body["chunks"] == body["last"] + 1


async def test_who_listened_is_in_the_audit_log(gateway: World, ops: Ops, tmp_path: Path) -> None:
    """By whose word, and who was refused; nobody can change it unseen."""
    alarm = await recorded(gateway, ops, 0.5)
    await ops.command("alarm/close", alarm=alarm, outcome="false")
    assert not (await ops.command("listen/start", alarm=alarm))["ok"]
    log_file = gateway.state / "evidence" / "audit.log"
    await until("the refusal", lambda: "listen/start refused" in log_file.read_text())
    printed = run("audit", "--state", gateway.state)
    assert printed.returncode == 0
    entries = [json.loads(line) for line in printed.stdout.splitlines()[:-1]]
    assert [entry["what"] for entry in entries] == ["audio_started", "audio_ended", "listen/start refused"]
    assert "actor" in entries[1]
    exported = run(
        "outbox", "export", tmp_path / "all.zip", "--config", gateway.configuration, "--state", gateway.state
    )
    assert exported.returncode == 0, exported.stderr
    text = log_file.read_text()
    assert json.loads(text.splitlines()[-1])["what"] == "outbox export"
    await ops.until("all that ops are told", lambda: len(ops.of(Kind.AUDIT)) == 4)
    assert [heard.body["entry"] for heard in ops.of(Kind.AUDIT)] == text.splitlines()
    assert [heard.body["what"] for heard in ops.of(Kind.AUDIT)][-1] == "outbox export"
    log_file.write_text(text.replace("audio_ended", "audio_muted"))
    changed = run("audit", "--state", gateway.state)
    assert changed.returncode == 1
    assert "entry 3: the one before it was altered" in changed.stderr


async def test_an_export_from_a_stopped_gateway_is_told_when_it_starts_and_once(
    gateway: World, ops: Ops, tmp_path: Path
) -> None:
    """Ops know who carried off what waits, though no daemon ran; and no later start repeats it."""
    await ops.ready()
    await gateway.stop()
    options = ("--config", gateway.configuration, "--state", gateway.state)
    assert run("outbox", "export", tmp_path / "all.zip", *options).returncode == 0
    await gateway.start()
    await ops.until("the export", lambda: ops.of(Kind.AUDIT))
    await ops.ready()
    await gateway.stop()
    assert run("outbox", "export", tmp_path / "more.zip", *options).returncode == 0
    await gateway.start()
    await ops.until("the other", lambda: len(ops.of(Kind.AUDIT)) > 1)
    files = [json.loads(heard.body["entry"])["file"] for heard in ops.of(Kind.AUDIT)]
    assert files == [str(tmp_path / "all.zip"), str(tmp_path / "more.zip")]


async def test_sound_from_before_the_press_is_there_when_configured(world: World) -> None:
    """It is in the first chunks, which say when they were heard; without the setting there is none."""
    configured = world.configuration.read_text()
    world.configuration.write_text(configured.replace("[audio]\n", "[audio]\npre_roll = 2s\n"))
    async with heard(world) as ops:
        await world.start()
        await ops.ready()
        await ops.until("an open microphone", lambda: ops.component("mic")["detail"] == "recording")
        await asyncio.sleep(2.5)  # the sound of that time is what the test is about
        assert not ops.of(Kind.ALARM_AUDIO)
        await world.press(for_s=0)
        alarm = await ops.raised()
        await ops.until("sound", lambda: ops.sound_ms(alarm) >= 3_000)
        raised = payload.wall(ops.events("raised")[0]["at"])
        began = payload.wall(ops.chunks(alarm)[0].properties["at"])
        assert 1.5 < raised - began < 2.5
        await world.stop()
