"""The clock is three years wrong at boot: alarms go out all the same, and are told rightly once it is set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from system.claims import Claims
from system.rig import Rig, until
from system.witness import witness

YEARS: Final = timedelta(days=3 * 365)
NOT_JUDGED: Final = "certificate dates are not judged"
BROKER_AWAY: Final = "iptables -{} OUTPUT -o uplink -j DROP"
# What chrony does when it has found the time: step the clock, then say to the kernel that it is in step.
STEP: Final = "date --utc --set=@{:.3f} && adjtimex --status 1 --maxerror 20000 --esterror 1000"
NOT_IN_STEP: Final = "adjtimex --status 64"  # STA_UNSYNC, as it is where nobody keeps the clock
# At least as wrong as this, which no certificate bears: systemd moves a clock that is before its own release.
WRONG_S: Final = 86_400.0
SLOW_S: Final = 5.0  # a command or a sentence with the time in it may be so long on its way into this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """An alarm that only the disk has; when, by the true time, its tag was pressed and its wearer told."""

    alarm: str
    pressed_s: float
    told_s: float


async def test_an_alarm_goes_out_with_a_clock_that_is_years_ahead(rig: Rig, claims: Claims) -> None:
    """Every certificate has expired then. The alarm goes out, says that nobody knows the time, and what waits
    when chrony sets the clock is told with the right time.
    """
    async with wrong_clock(rig, YEARS):
        first_s = await alarm_without_the_time(rig)
        begun = rig.ops.status()["session"]
        alarm = await queued(rig)
        await rig.machine.run(STEP.format(time.time()))
        await until("the time from chrony", lambda: knows_the_time(rig))
        raised, later_s = await delivered(rig, alarm)
        assert raised["clock"]["source"] == "ntp"
        await rig.component("uplink", "ok")  # the certificate is judged by its dates now
        assert rig.ops.status()["session"] != begun
        claims.show(
            "the clock 3 years ahead at boot, TLS: the alarm goes out; then it is set: `at` comes out right",
            f"arrives in {first_s:.1f} s marked `none`; what waited is told {later_s:+.1f} s from the press",
        )


async def test_an_alarm_goes_out_with_a_clock_that_is_years_back(rig: Rig, claims: Claims) -> None:
    """No certificate is valid yet. The receiver's first fixes tell the time, though nobody sets the clock."""
    async with wrong_clock(rig, -YEARS):
        first_s = await alarm_without_the_time(rig)
        alarm = await queued(rig)
        rig.receiver.fix = True
        await until("the time from fixes", lambda: knows_the_time(rig))
        raised, later_s = await delivered(rig, alarm)
        assert raised["clock"]["source"] == "gnss"
        await rig.component("uplink", "ok")
        claims.show(
            "the clock 3 years back at boot, TLS: the alarm goes out; then fixes tell the time: likewise",
            f"arrives in {first_s:.1f} s marked `none`; what waited is told {later_s:+.1f} s from the press",
        )


@asynccontextmanager
async def wrong_clock(rig: Rig, wrong: timedelta) -> AsyncIterator[None]:
    """A boot with such a real-time clock, out of the satellites' sight; at the end all is well again."""
    since = len(rig.ops.heard)
    await rig.machine.run("sync")  # what a person wrote lately is not the daemon's to keep
    rig.machine.cut()
    rig.receiver.fix = False
    rig.ops.turn_the_page()
    try:
        await rig.boot(datetime.now(UTC) + wrong)
        for name in ("radio", "outbox"):
            await rig.component(name, "ok")
        yield
    finally:
        rig.receiver.fix = True
        await rig.machine.attempt(BROKER_AWAY.format("D"))
        await rig.machine.run(f"{STEP.format(time.time())} && {NOT_IN_STEP} && systemctl restart gatewayd")
        rig.ops.turn_the_page()
        await rig.ready()
        for alarm in {event["alarm"] for event in rig.raised(since)}:
            if rig.ops.state(alarm)["handling"] != "closed":
                await rig.close(alarm)


async def alarm_without_the_time(rig: Rig) -> float:
    """Press: the alarm arrives and says honestly what it knows; the seconds that took."""
    await rig.ops.until("a session", lambda: NOT_JUDGED in rig.ops.component("uplink")["detail"])
    assert rig.ops.component("uplink")["state"] == "degraded"
    await rig.component("clock", "failed")  # until it has looked, it says that it starts
    pressed_s = time.time()
    alarm, took_s = await rig.raise_alarm()
    raised = rig.ops.events("raised", alarm=alarm)[0]
    assert raised["clock"]["source"] == "none"
    off_s = abs(at_s(raised) - pressed_s)
    assert WRONG_S < off_s < raised["clock"]["uncertainty_ms"] / 1000
    await rig.close(alarm)
    return took_s


async def is_offline(rig: Rig) -> bool:
    """Whether the daemon says so to systemd."""
    return ", offline, " in await rig.property("StatusText")


async def knows_the_time(rig: Rig) -> bool:
    """Whether it no longer says to systemd that it does not."""
    return "clock failed" not in await rig.property("StatusText")


async def queued(rig: Rig) -> Queued:
    """Press while no broker can be reached, until the wearer is told that the disk has the alarm."""
    await rig.machine.run(BROKER_AWAY.format("I"))
    async with witness(rig.machine) as seen:
        pressed_s = time.time()
        await rig.nurse.press()

        async def told() -> bool:
            return bool(seen.told)

        await until("an alarm that was accepted", told)
        told_s = time.time()
        (alarm,) = seen.told
        await rig.nurse.release()
    await until("a session that was given up", lambda: is_offline(rig))
    assert not rig.ops.events("raised", alarm=alarm)
    return Queued(alarm=alarm, pressed_s=pressed_s, told_s=told_s)


async def delivered(rig: Rig, alarm: Queued) -> tuple[dict[str, Any], float]:
    """Let the broker be reached again; the event that arrives, and by how much its time is wrong at most."""
    await rig.machine.run(BROKER_AWAY.format("D"))
    raised = await rig.ops.told(alarm.alarm, "raised")
    later_s = at_s(raised) - alarm.pressed_s
    most_s = alarm.told_s - alarm.pressed_s
    assert -SLOW_S < later_s < most_s + SLOW_S, f"told {later_s:+.1f} s from the press"
    assert raised["late_s"] > 0
    await rig.close(alarm.alarm)
    return raised, later_s


def at_s(event: dict[str, Any]) -> float:
    """When it happened, as it says."""
    return datetime.fromisoformat(event["at"]).timestamp()
