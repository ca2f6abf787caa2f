"""A press behind a door becomes an alarm at the desk: the whole path on the real machine."""

from __future__ import annotations

import time
from pathlib import Path

from players import RATE_HZ, accepted, share_of

from system.claims import Claims
from system.rig import TONE_HZ, Rig

PRESSES = 5
HEARD_S = 3.0  # of sound that is judged


async def test_a_press_arrives_with_position_proof_and_sound(
    rig: Rig, claims: Claims, tmp_path: Path
) -> None:
    """An encrypted tag's press, while 40 others chatter, arrives with its proof, a position and the sound."""
    await rig.play_tone()
    async with rig.others():
        before, began_s = rig.air.reports, time.monotonic()
        alarm, took_s = await rig.raise_alarm()
        await rig.ops.until("some sound", lambda: rig.ops.sound_ms(alarm) > (HEARD_S + 1) * 1000)
        reports_per_s = (rig.air.reports - before) / (time.monotonic() - began_s)
    await rig.ops.told(alarm, "audio_ended")
    await rig.ops.until("all of the sound", lambda: rig.ops.sound_ended(alarm))
    await rig.silence()

    raised = rig.ops.events("raised", alarm=alarm)[0]
    assert raised["tag"]["auth"] == "ok"
    assert raised["tag"]["worker"] == "nurse-1"
    assert raised["position"]["mode"] == "3d"
    assert raised["position"]["trusted"]
    assert rig.ops.state(alarm)["presses"] == 1, "copies of one press counted as several"
    file = tmp_path / "alarm.opus"
    file.write_bytes(rig.ops.sound(alarm))
    samples = accepted(file)
    tone = max(
        share_of(TONE_HZ, samples[start : start + RATE_HZ])
        for start in range(0, int(HEARD_S) * RATE_HZ, RATE_HZ)
    )
    assert tone > 0.8, f"expected the tone in the sound, got {tone:.0%} of its power there"
    assert 80 <= reports_per_s <= 150, reports_per_s
    claims.show(
        f"a press among 40 other tags ({reports_per_s:.0f} reports/s) arrives, proved, placed, with sound",
        f"{took_s:.2f} s; {len(samples) / RATE_HZ:.1f} s of sound, {tone:.0%} of its power the tone played",
    )
    await rig.close(alarm)


async def test_presses_are_confirmed_soon(rig: Rig, claims: Claims) -> None:
    """Among the others' chatter each press is confirmed by the broker; how soon is told."""
    times_ms = []
    async with rig.others():
        for _ in range(PRESSES):
            alarm, _ = await rig.raise_alarm()
            times_ms.append(await rig.hop_ms(alarm, "confirmed"))
            await rig.close(alarm)
    assert len({event["alarm"] for event in rig.ops.events("raised")}) >= PRESSES
    times_ms.sort()
    claims.show(
        f"heard → confirmed in the machine, {PRESSES} presses among 40 other tags",
        f"median {times_ms[PRESSES // 2]:.0f} ms, most {times_ms[-1]:.0f} ms",
    )
