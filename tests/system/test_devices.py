"""The receiver, the sound card and the broker go and come back: said, lived with, and over soon after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from players import RATE_HZ, accepted

from gatewayd.core.topic import Kind
from system.claims import Claims
from system.rig import Rig, until

# mosquitto gives a client up when it was silent for more than one and a half keep-alives of 6 s, in whole
# seconds, looks for such every 6 s, and then waits 3 s for its return, and up to 1 s to look.
GIVEN_UP_S: Final = 20.0
AWAY_S: Final = 5.0  # for so long at least the broker is, after the press
PULLED_S: Final = 3.0  # for so long at least the receiver or the sound card is, after that was told
LISTEN_S: Final = 120  # that is recorded, unless the alarm is closed
SOUND_MS: Final = 2_000  # before the card is pulled, and after
APART_S: Final = 3.0  # by so much two clocks' accounts of the same time may differ: what passes on the way
CARD: Final = "/sys/bus/platform/drivers/snd_aloop"  # let go of there, the card is as good as pulled
DROP: Final = ("OUTPUT --out-interface uplink --jump DROP", "INPUT --in-interface uplink --jump DROP")


async def test_the_receiver_unplugged_and_back(rig: Rig, claims: Claims) -> None:
    """Its plug is pulled: said, and an alarm has the last position with its age; back: fixes again."""
    async with rig.same_daemon():
        try:
            pulled_s = time.monotonic()
            await rig.machine.unplug_receiver()
            await rig.component("gps", "failed")
            told_s = time.monotonic() - pulled_s
            await asyncio.sleep(PULLED_S)
            alarm, _ = await rig.raise_alarm()
            away_s = time.monotonic() - pulled_s
            position = rig.ops.events("raised", alarm=alarm)[0]["position"]
            assert PULLED_S <= position["age_s"] <= away_s + APART_S, f"away for {away_s:.1f} s: {position}"
        finally:
            await rig.machine.plug_receiver()
        back_s = await seconds_until(rig, "gps")
        await rig.close(alarm)
    claims.show(
        "the receiver is unplugged and back", f"told after {told_s:.1f} s, a fix after {back_s:.1f} s"
    )


async def test_the_sound_card_unloaded_and_back(rig: Rig, claims: Claims) -> None:
    """Its driver is unloaded: said; loaded again: said, and the next alarm has sound."""
    async with rig.same_daemon():
        try:
            began_s = time.monotonic()
            await rig.machine.run("modprobe --remove snd_aloop")
            await rig.component("mic", "failed")
            told_s = time.monotonic() - began_s
        finally:
            await rig.machine.run("modprobe snd_aloop")
        back_s = await seconds_until(rig, "mic")
        alarm, _ = await rig.raise_alarm()
        await rig.ops.until("sound", lambda: rig.ops.sound_ms(alarm) >= SOUND_MS)
        await rig.close(alarm)
    claims.show(
        "the sound card is unloaded and back", f"told after {told_s:.1f} s, well after {back_s:.1f} s"
    )


async def test_the_sound_card_pulled_in_an_alarm_and_back(rig: Rig, claims: Claims, tmp_path: Path) -> None:
    """Pulled while it records: said, the gap is named, the sound goes on, and time in the file stays true."""
    alarm, _ = await rig.raise_alarm()
    assert (await rig.ops.command("listen/start", alarm=alarm, max_s=LISTEN_S))["ok"]
    try:
        await rig.ops.until("sound", lambda: rig.ops.sound_ms(alarm) >= SOUND_MS)
        await rig.machine.run(f"echo snd_aloop.0 > {CARD}/unbind")
        pulled_s = time.monotonic()
        await rig.component("mic", "failed")
        await asyncio.sleep(PULLED_S)
    finally:
        await rig.machine.run(f"test -e {CARD}/snd_aloop.0 || echo snd_aloop.0 > {CARD}/bind")
    away_s = time.monotonic() - pulled_s
    back_s = await seconds_until(rig, "mic")
    before_ms = rig.ops.sound_ms(alarm)
    await rig.ops.until("sound", lambda: rig.ops.sound_ms(alarm) >= before_ms + SOUND_MS)
    await rig.close(alarm)
    await rig.ops.until("all of the sound", lambda: rig.ops.sound_ended(alarm))

    gaps = [gap for gap in rig.ops.state(alarm)["audio"]["gaps"] if gap["cause"] == "device"]
    missing_s = sum(gap["duration_ms"] for gap in gaps) / 1000
    assert all(gap["filled"] for gap in gaps)
    assert away_s - APART_S <= missing_s <= away_s + back_s + APART_S
    file = tmp_path / "alarm.opus"
    file.write_bytes(rig.ops.sound(alarm))
    sound_s = len(accepted(file)) / RATE_HZ
    assert abs(sound_s - recorded_s(rig, alarm)) <= 1.0, "time in the file is not the time that went by"
    claims.show(
        "the sound card is pulled in an alarm and back",
        f"away for {away_s:.1f} s, sound again {back_s:.1f} s later, {missing_s:.1f} s named as missing",
    )


async def test_the_broker_unreachable_and_back(rig: Rig, claims: Claims) -> None:
    """All packets are dropped: ops is told "offline"; an alarm of that time arrives after it, as one."""
    since = len(rig.ops.heard)
    async with rig.same_daemon():
        async with no_packet_passes(rig):
            began_s = time.monotonic()
            await rig.ops.until("offline", lambda: rig.ops.status().get("state") == "offline", GIVEN_UP_S)
            told_s = time.monotonic() - began_s
            pressed_s = await press_unheard(rig)
        figures = await arrives(rig, since, pressed_s)
    claims.show("the broker is unreachable and back", f"told offline after {told_s:.1f} s, {figures}")


async def test_the_broker_stopped_and_back(rig: Rig, claims: Claims) -> None:
    """It is stopped: the gateway says "offline"; an alarm of that time arrives after it, as one."""
    since = len(rig.ops.heard)
    async with rig.same_daemon():
        try:
            rig.ops.subscribed.clear()
            rig.broker.stop()
            pressed_s = await press_unheard(rig)
            await asyncio.sleep(AWAY_S)
        finally:
            # A broker that restarts may have forgotten the desk: what comes before the desk nobody hears.
            async with no_packet_passes(rig):
                rig.broker.start()
                await rig.ops.subscribed.wait()
        figures = await arrives(rig, since, pressed_s)
    claims.show("the broker is stopped and back", figures)


@asynccontextmanager
async def no_packet_passes(rig: Rig) -> AsyncIterator[None]:
    """Have the way to the broker swallow everything, both ways, without a word to either side."""
    try:
        for rule in DROP:
            await rig.machine.run(f"iptables --append {rule}")
        yield
    finally:
        for rule in DROP:
            await rig.machine.attempt(f"iptables --delete {rule}")


async def press_unheard(rig: Rig) -> float:
    """Press the tag until the gateway, which is offline, says that it has an alarm; when that was."""
    pressed_s = time.monotonic()
    await rig.nurse.press()

    async def said() -> bool:
        status = await rig.property("StatusText")
        return "1 open alarm" in status and "offline" in status and "uplink failed" in status

    try:
        await until("an alarm, and a gateway that is offline", said)
    finally:
        await rig.nurse.release()
    return pressed_s


async def arrives(rig: Rig, since: int, pressed_s: float) -> str:
    """The broker is back: the alarm comes, says how late it is, and comes as one; the figures of that.

    `since`: how many messages there were when the broker was still there.
    """
    back_s = time.monotonic()
    await rig.ops.until("the alarm", lambda: rig.raised(since))
    arrived_s = time.monotonic()
    told = outage(rig, since)
    await rig.ops.until("the outage in health", lambda: outage(rig) != told)
    outage_s = outage(rig)["lasted_s"]
    lived_s = time.monotonic() - pressed_s
    raised = rig.raised(since)
    await rig.close(raised[0]["alarm"])
    await rig.ready()

    assert outage(rig)["state"] == "failed"
    assert back_s - pressed_s - APART_S <= outage_s <= lived_s + GIVEN_UP_S
    late_s = arrived_s - pressed_s
    assert abs(raised[0]["late_s"] - late_s) <= APART_S, f"{late_s:.1f} s late, said {raised[0]['late_s']}"
    assert {(each["alarm"], each["id"]) for each in rig.raised(since)} == {
        (raised[0]["alarm"], raised[0]["id"])
    }
    return (
        f"away for {outage_s:.1f} s by its own account, the alarm {arrived_s - back_s:.1f} s after its return"
    )


def outage(rig: Rig, messages: int | None = None) -> dict[str, Any]:
    """The uplink's last outage by the newest health, or by the newest of the first so many messages."""
    told = [heard.body for heard in rig.ops.heard[:messages] if heard.where.kind is Kind.HEALTH]
    last: dict[str, Any] = told[-1]["components"]["uplink"].get("last_outage", {})
    return last


async def seconds_until(rig: Rig, component: str) -> float:
    """How long it takes from now until a component is well."""
    began_s = time.monotonic()
    await rig.component(component, "ok")
    return time.monotonic() - began_s


def recorded_s(rig: Rig, alarm: str) -> float:
    """How long an alarm was recorded, by the times of its events."""
    began, ended = (
        datetime.fromisoformat(rig.ops.events(kind, alarm=alarm)[0]["at"]).timestamp()
        for kind in ("audio_started", "audio_ended")
    )
    return ended - began
