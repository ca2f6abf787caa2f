"""What a press becomes: an alarm with a position and sound, once."""

from pathlib import Path

from players import accepted, needs_players, share_of

from end_to_end.conftest import TONE_HZ
from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.world import ADDRESS, KEY, TAG, World


@needs_players
async def test_a_press_becomes_an_alarm_with_position_and_sound(
    gateway: World, ops: Ops, tmp_path: Path
) -> None:
    """It is raised first, proven, where the vehicle is; what the room says follows and plays."""
    await ops.ready()
    await gateway.press()
    alarm = await ops.raised()
    await ops.until("2 s of sound", lambda: ops.sound_ms(alarm) >= 2_000)
    await ops.until("the broker's word", lambda: "confirmed" in ops.state(alarm)["hops_ms"])
    assert (await ops.command("alarm/close", alarm=alarm, outcome="test"))["ok"]
    await ops.told(alarm, "audio_ended")
    await ops.until("the end of the sound", lambda: ops.sound_ended(alarm))

    raised = ops.events(alarm=alarm)[0]
    assert raised["type"] == "raised"
    assert (raised["cause"], raised["severity"], raised["mode"]) == ("panic", "critical", "actual")
    assert raised["tag"]["id"] == TAG
    assert raised["tag"]["auth"] == "ok"
    assert raised["press_key"] == f"{TAG}-{raised['tag']['counter'] % 256}"  # its packet id goes with it
    assert raised["position"]["subject"] == "vehicle"
    assert raised["position"]["trusted"]
    assert raised["recent"] == [] or raised["recent"][0]["fix_at"] < raised["position"]["fix_at"]
    assert raised["hops_ms"]["decided"] < 1_000
    assert [event["type"] for event in ops.events(alarm=alarm)[1:]] == [
        "audio_started",
        "audio_ended",
        "closed",
    ]
    assert sorted(ops.chunks(alarm)) == list(range(len(ops.chunks(alarm))))
    file = tmp_path / "alarm.opus"
    file.write_bytes(ops.sound(alarm))
    samples = accepted(file)
    assert abs(len(samples) / 16 - ops.sound_ms(alarm)) <= 100
    assert share_of(TONE_HZ, samples[8_000:24_000]) > 0.9


async def test_copies_and_heartbeats_raise_nothing_and_a_later_press_is_told_on_the_same_alarm(
    gateway: World, ops: Ops
) -> None:
    """Copies of a press are one press; ten seconds later the tag's next is `repeated`; positions follow."""
    await ops.ready()
    pressed = await gateway.press(for_s=3)
    alarm = await ops.raised()
    await ops.until("sound for four seconds", lambda: ops.sound_ms(alarm) >= 4_000)
    await gateway.order(do="heartbeat", address=ADDRESS, key=KEY)
    await ops.until("sound for ten seconds", lambda: ops.sound_ms(alarm) >= 10_000, 20)
    told = [event["type"] for event in ops.events()]
    assert [kind for kind in told if kind != "position"] == ["raised", "audio_started"]
    assert "position" in told
    assert ops.events("position")[0]["position"]["method"] == "gnss"
    assert ops.of(Kind.POSITION)
    assert ops.state(alarm)["presses"] == 1
    again = await gateway.press(for_s=0)
    assert again["at_s"] - pressed["at_s"] > 10
    repeated = await ops.told(alarm, "repeated")
    assert repeated["presses"] == 2
    assert repeated["tag"]["auth"] == "ok"
    assert len(ops.events("raised")) == 1
    assert len({heard.where.alarm for heard in ops.of(Kind.ALARM_EVENT)}) == 1
