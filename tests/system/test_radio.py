"""The radio goes and comes back, in every way it can: the same daemon hears again, soon.

That it hears is shown by a press: one that was made while nobody could hear it, counted from the order that
brings the radio back, or one that is made as soon as that order, or the kill, is done. It ends with the alarm
at the desk.

And a press that says what an earlier one said is heard, whatever the chip takes for a duplicate.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import repeat
from statistics import median
from time import monotonic as time_s
from typing import Final

import pytest

from gatewayd.core.model import ON_AIR_S
from gatewayd.core.presence import EVENT_SILENCE_S
from gatewayd.core.tags import ibeacon
from gatewayd.core.topic import Kind
from gatewayd.sim.tag import BTHOME, Frame
from system.air import Button, Duplicate
from system.claims import Claims
from system.rig import NURSE, Rig, until

BACK_S: Final = 5.0  # until it hears again, from when its adapter is back
RESTARTED_S: Final = 10.0  # the same, when bluetoothd was restarted
KILLED_S: Final = 30.0  # the same, when bluetoothd was killed
# The ladder's 30 s, and what hearing again takes.
ON_BY_ITSELF_S: Final = 60.0
HUNG_S: Final = 60.0  # two calls that are given up, the helper's turn, a restart
UNHEARD_S: Final = 1.0
KILLS: Final = 12
BETWEEN_KILLS_S: Final = 0.7  # it is started a second after it ended, and sooner when somebody asks for it
LOOKS: Final = 20
BETWEEN_LOOKS_S: Final = 0.5
ON_AGAIN: Final = "bluetoothctl power on"
_SCANS: Final = re.compile(r"Scanning: Enabled.*\n\s*Filter duplicates: (\w+)")


_took_s: Final[dict[str, list[float]]] = defaultdict(list)  # by what happened, in this run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What may happen to the radio happens as often as was asked for."""
    if "time" in metafunc.fixturenames:
        metafunc.parametrize("time", range(1, 1 + metafunc.config.getoption("repeat")))


def show(claims: Claims, what: str, took_s: float) -> None:
    """Claim what all of a run's repetitions show so far."""
    times = _took_s[what]
    times.append(took_s)
    told = f"{max(times):.1f} s at most, {median(times):.1f} s as a rule, of {len(times)}"
    claims.show(f"hears again after {what}", told)


@asynccontextmanager
async def pressed(rig: Rig) -> AsyncIterator[asyncio.Task[tuple[str, float]]]:
    """Have the tag send a press until its alarm is there, or the block ends."""
    alarm = asyncio.create_task(rig.raise_alarm())
    try:
        yield alarm
    finally:
        alarm.cancel()
        await asyncio.gather(alarm, return_exceptions=True)


def not_well(rig: Rig, since: int) -> list[str]:
    """What health said of a radio that was not well since so many messages: while it was so, or afterwards.

    What is over by the time it is told is `last_outage`.
    """
    told = [heard.body for heard in rig.ops.heard if heard.where.kind is Kind.HEALTH]
    later = [heard.body for heard in rig.ops.heard[since:] if heard.where.kind is Kind.HEALTH]
    before = [health["components"]["radio"].get("last_outage") for health in told[: -len(later) or None]]
    outages = [health["components"]["radio"].get("last_outage") for health in later]
    return [
        health["components"]["radio"]["detail"]
        for health in later
        if health["components"]["radio"]["state"] != "ok" and health["overall"] != "ok"
    ] + [outage["detail"] for outage in outages if outage and outage not in before]


@pytest.mark.usefixtures("time")
async def test_it_hears_again_after_the_adapter_was_off(rig: Rig, claims: Claims) -> None:
    """Switched off and on: health says so, and a press made meanwhile is heard within 5 s of its return."""
    took_s = await away_and_back(rig, "bluetoothctl power off", ON_AGAIN, BACK_S)
    show(claims, "the adapter was switched off and on", took_s)


async def test_it_hears_again_after_the_adapter_was_unplugged(rig: Rig, claims: Claims) -> None:
    """Gone, as when pulled, and back: health says so, and a press is heard within 10 s of its return."""
    took_s = await away_and_back(rig, "systemctl stop radio", "systemctl start radio", RESTARTED_S)
    show(claims, "the adapter was gone and back", took_s)


async def test_an_adapter_that_stays_off_is_switched_on_by_the_daemon(rig: Rig, claims: Claims) -> None:
    """After half a minute, in which somebody may have had it off on purpose, as its own user."""
    async with rig.same_daemon():
        await rig.machine.run("bluetoothctl power off")
        began_s = time_s()
        await rig.component("radio", "failed")
        alarm, _ = await rig.raise_alarm()
    took_s = await soon(rig, alarm, time_s() - began_s, ON_BY_ITSELF_S)
    claims.show("an adapter that stays off is switched on, and heard with", f"after {took_s:.1f} s")


async def test_the_helper_restarts_bluetoothd_when_the_daemon_asks(rig: Rig, claims: Claims) -> None:
    """A bluetoothd that hangs (SIGSTOP) answers nobody: the daemon asks, the helper does it, and it hears."""
    since = len(rig.ops.heard)
    async with rig.same_daemon():
        await rig.machine.run("systemctl kill --signal=STOP bluetooth")
        began_s = time_s()
        alarm, _ = await rig.raise_alarm()
    took_s = await soon(rig, alarm, time_s() - began_s, HUNG_S)
    told = await rig.machine.run("systemctl show --property=Result,ExecMainStatus gatewayd-recover")
    assert set(told.split()) == {"Result=success", "ExecMainStatus=0"}
    await rig.ops.until("health to say that the radio was not well", partial(not_well, rig, since))
    claims.show("hears again after bluetoothd hung", f"{took_s:.1f} s")


async def away_and_back(rig: Rig, away: str, back: str, limit_s: float) -> float:
    """Press while the radio is away; the seconds from the order that brings it back to the press's alarm."""
    async with rig.same_daemon():
        try:
            await rig.machine.run(away)
            await rig.component("radio", "failed", "degraded")
            assert rig.ops.health()["overall"] != "ok"
            async with pressed(rig) as pressing:
                await asyncio.sleep(UNHEARD_S)
                assert not pressing.done(), "expected a radio that is away, yet it heard"
                began_s = time_s()
                await rig.machine.run(back)
                alarm, _ = await pressing
        finally:
            await rig.machine.attempt(back)
    return await soon(rig, alarm, time_s() - began_s, limit_s)


async def soon(rig: Rig, alarm: str, took_s: float, limit_s: float) -> float:
    """Hold the seconds that an alarm took to the limit, and have all be well; the seconds."""
    assert took_s <= limit_s, f"expected to hear again within {limit_s:.0f} s, it took {took_s:.1f} s"
    await rig.close(alarm)
    rig.ops.turn_the_page()
    await rig.ready()
    return took_s


@pytest.mark.usefixtures("time")
async def test_it_hears_again_after_bluetoothd_was_restarted(rig: Rig, claims: Claims) -> None:
    """`systemctl restart bluetooth`: health says so, and a press is heard within 10 s of its return."""
    since = len(rig.ops.heard)
    async with rig.same_daemon():
        await rig.machine.run("systemctl restart bluetooth")
        took_s = await soon(rig, *await rig.raise_alarm(), RESTARTED_S)
    await rig.ops.until("health to say that the radio was not well", partial(not_well, rig, since))
    show(claims, "systemctl restart bluetooth", took_s)


@pytest.mark.usefixtures("time")
async def test_it_hears_again_after_bluetoothd_was_killed(rig: Rig, claims: Claims) -> None:
    """Killed (SIGKILL): health says so, and a press is heard within 30 s of the kill."""
    since = len(rig.ops.heard)
    async with rig.same_daemon():
        await rig.machine.run("systemctl kill --signal=KILL bluetooth")
        took_s = await soon(rig, *await rig.raise_alarm(), KILLED_S)
    await rig.ops.until("health to say that the radio was not well", partial(not_well, rig, since))
    show(claims, "bluetoothd was killed", took_s)


async def test_it_hears_again_however_often_bluetoothd_is_killed(rig: Rig, claims: Claims) -> None:
    """Killed time and again, more often than systemd starts a service by default: heard within 30 s."""
    kill = f"systemctl kill --signal=KILL bluetooth; sleep {BETWEEN_KILLS_S}"
    async with rig.same_daemon():
        began_s = time_s()
        await rig.machine.run(f"for n in $(seq {KILLS}); do {kill}; done")
        lasted_s = time_s() - began_s
        took_s = await soon(rig, *await rig.raise_alarm(), KILLED_S)
    claims.show(
        f"hears again after bluetoothd was killed {KILLS} times in {lasted_s:.0f} s", f"{took_s:.1f} s"
    )


async def test_the_radio_drops_no_repeats_while_the_daemon_scans(rig: Rig, claims: Claims) -> None:
    """Our monitor is active, the controller's duplicate filter is off, and the discovery goes on."""
    try:
        await rig.machine.run("systemd-run --quiet --unit=btmon sh -c 'exec btmon > /run/btmon.log'")
        await rig.machine.run("bluetoothctl power off")
        await rig.component("radio", "failed")
        await rig.machine.run(ON_AGAIN)
        await rig.ready()
        monitors = await rig.machine.run("btmgmt monitor.features")
        adapter = "/org/bluez/$(ls /sys/class/bluetooth)"  # its number may have changed
        look = f"busctl get-property org.bluez {adapter} org.bluez.Adapter1 Discovering"
        looks = await rig.machine.run(f"for n in $(seq {LOOKS}); do {look}; sleep {BETWEEN_LOOKS_S}; done")
    finally:
        await rig.machine.attempt(ON_AGAIN)
        await rig.machine.attempt("systemctl stop btmon")
    filters = _SCANS.findall(await rig.machine.run("cat /run/btmon.log"))
    assert filters
    assert set(filters) == {"Disabled"}
    assert "Handles list with 1 item" in monitors
    assert looks.split("\n") == [*["b true"] * LOOKS, ""]
    claims.show(
        "the controller's duplicate filter is off while the daemon scans, and the discovery goes on",
        f"{len(filters)} scans begun, all without it; {LOOKS} looks in {LOOKS * BETWEEN_LOOKS_S:.0f} s",
    )


# --- a chip that drops what it takes for a duplicate -------------------------------------------------------

BURST_S: Final = 1.5  # 15 copies; two bursts fit well into one scan of bluetoothd's, which lasts 10 s
BETWEEN_BURSTS_S: Final = 0.5
SILENCE_S: Final = max(EVENT_SILENCE_S, ON_AIR_S) + 3.0
PASSED_ON_S: Final = 2.0  # from the air to the daemon, amply
TRIES: Final = 5  # to have two bursts in one scan
IDENTITY: Final = "identity"
ALIKE: Final = "alike"
UUID: Final = "11223344-5566-7788-99aa-bbccddeeff01"
# One says who it is while it is pressed, the other that it is pressed: neither numbers its presses.
UNNUMBERED: Final = f"""
[tag {IDENTITY}]
format = ibeacon
uuid = {UUID}
major = 1
minor = 2

[tag {ALIKE}]
format = bthome
address = C4:11:22:33:44:77
"""
IDENTITY_DATA: Final = {
    ibeacon.COMPANY: ibeacon.HEAD + bytes.fromhex(UUID.replace("-", "")) + b"\x00\x01\x00\x02\xc5"
}
PLAIN_PRESS: Final = {BTHOME: b"\x44\x3a\x01"}  # BTHome without a packet id


@asynccontextmanager
async def three_buttons(rig: Rig) -> AsyncIterator[dict[str, Button]]:
    """The nurse's tag, which numbers its presses, and two that do not; all are closed at the end."""
    frames = {
        IDENTITY: Frame(address="C4:11:22:33:44:66", manufacturer_data=IDENTITY_DATA),
        ALIKE: Frame(address="C4:11:22:33:44:77", service_data=PLAIN_PRESS),
    }
    buttons: dict[str, Button] = {NURSE: rig.nurse}
    for name, frame in frames.items():
        buttons[name] = Button(await rig.air.transmitter(frame.address), repeat(frame).__next__)
    await rig.configure(UNNUMBERED)
    rig.ops.turn_the_page()
    try:
        yield buttons
    finally:
        rig.air.duplicate = Duplicate.NOTHING
        for button in buttons.values():
            await button.release()
        await rig.configure()
        rig.ops.turn_the_page()
        await rig.ready()


async def burst(*buttons: Button) -> None:
    """Press them at once, for a moment."""
    for button in buttons:
        await button.press()
    await asyncio.sleep(BURST_S)
    for button in buttons:
        await button.release()


async def counted(rig: Rig, tag: str, since: int) -> int:
    """How many presses of a tag were heard after so many messages; closes the alarm they are told in."""
    alarm = next((event["alarm"] for event in rig.raised(since) if event["tag"]["id"] == tag), None)
    if alarm is None:
        return 0
    assert (await rig.ops.command("alarm/received", alarm=alarm))["ok"]
    await rig.close(alarm)
    return max(int(heard.body.get("presses", 0)) for heard in rig.ops.of(Kind.ALARM_STATE, alarm))


@pytest.mark.parametrize("duplicate", [Duplicate.SAME_DATA, Duplicate.SAME_ADDRESS])
async def test_a_second_press_is_heard_whatever_the_chip_takes_for_a_duplicate(
    rig: Rig, claims: Claims, duplicate: Duplicate
) -> None:
    """One that is numbered, or comes after a silence that ended the first; the chip has dropped nothing."""
    async with three_buttons(rig) as buttons:
        await rig.ready()
        await asyncio.sleep(SILENCE_S)  # an identity that was pressed in another case has to be silent first
        rig.air.duplicate = duplicate
        since, dropped = len(rig.ops.heard), rig.air.dropped
        await burst(*buttons.values())
        await asyncio.sleep(BETWEEN_BURSTS_S)
        await burst(buttons[NURSE])
        await asyncio.sleep(SILENCE_S)
        await burst(buttons[IDENTITY], buttons[ALIKE])
        await asyncio.sleep(PASSED_ON_S)
        heard = {name: await counted(rig, name, since) for name in buttons}
        assert rig.air.dropped == dropped, "expected the chip's filter to be off"
    assert heard == dict.fromkeys(buttons, 2)
    claims.show(
        f"two presses of a numbered tag at once, of an identity and of one payload after {SILENCE_S:.0f} s,"
        f" with a chip that filters by {duplicate}",
        "all heard; it dropped nothing",
    )


async def test_without_monitors_a_chip_that_filters_by_address_swallows_a_second_press(
    rig: Rig, claims: Claims
) -> None:
    """Health says that presses may be missed, and so it is until the next scan; later ones are heard."""
    heard = {}
    async with three_buttons(rig) as buttons:
        try:
            await rig.start_bluetoothd(monitors=False)
            await rig.ops.until("a radio that misses its monitor", lambda: "may be missed" in detail(rig))
            for rig.air.duplicate in (Duplicate.SAME_DATA, Duplicate.SAME_ADDRESS):
                heard[rig.air.duplicate] = await burst_twice_in_one_scan(rig)
            since = len(rig.ops.heard)
            for pause_s in (SILENCE_S, PASSED_ON_S):  # of payloads that are alike both filters drop the same
                await burst(buttons[IDENTITY], buttons[ALIKE])
                await asyncio.sleep(pause_s)
            later = {name: await counted(rig, name, since) for name in (IDENTITY, ALIKE)}
        finally:
            await rig.start_bluetoothd(monitors=True)
    assert heard == {Duplicate.SAME_DATA: 2, Duplicate.SAME_ADDRESS: 1}
    assert later == {IDENTITY: 2, ALIKE: 2}
    claims.show(
        "two presses of a numbered tag within one scan, without monitors: heard by a chip that filters",
        ", ".join(f"by {duplicate}: {count} of 2" for duplicate, count in heard.items())
        + f"; of an identity and of one payload, after {SILENCE_S:.0f} s: 2 of 2",
    )


def detail(rig: Rig) -> str:
    """What health says of the radio."""
    return str(rig.ops.component("radio")["detail"])


async def burst_twice_in_one_scan(rig: Rig) -> int:
    """Press the nurse's tag twice; how often that was heard. A new scan begins the filter's memory anew."""
    for _ in range(TRIES):
        since, scans = len(rig.ops.heard), rig.air.scans
        await until("another scan", partial(scans_since, rig, scans), every_s=0.05)
        scans = rig.air.scans
        await burst(rig.nurse)
        await asyncio.sleep(BETWEEN_BURSTS_S)
        await burst(rig.nurse)
        begun = await scans_since(rig, scans)
        await asyncio.sleep(PASSED_ON_S)
        heard = await counted(rig, NURSE, since)
        if not begun:
            return heard
    raise AssertionError(f"expected two bursts in one scan, a new one began between them {TRIES} times")


async def scans_since(rig: Rig, before: int) -> int:
    """How many scans have begun."""
    return rig.air.scans - before
