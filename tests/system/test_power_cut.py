"""The power is cut at random points in and around presses: what a wearer was told stays true.

What wearers were told is seen from outside (`witness`). The tags are pressed at random moments, the emulator
is killed at another. Every other cut, and the first, is without a broker: then the disk alone has the alarm.
Half of the tags fall silent with the cut, so that nothing but the disk can tell of them; the others go on
with the burst when the machine is there again.

A killed emulator loses what the guest had not written to its disk: the guest's memory and page cache. It does
not lose what a disk holds in a cache of its own, as an SD card does: whether a card honours a flush only a
card can show.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import pytest_asyncio

from gatewayd.sim.tag import SimulatedTag
from gatewayd.sim.world import KEY
from system.air import Tag
from system.claims import Claims
from system.machine import Machine
from system.rig import NURSE, Rig, until
from system.witness import witness

WORKERS: Final = 6
PRESSES_S: Final = 4.0  # within these the tags are pressed
CUT_S: Final = (-0.5, 1.5)  # and so long after one of the presses the power goes
WITHOUT_BROKER: Final = "for way in 'OUTPUT -o' 'INPUT -i'; do iptables -I $way uplink -j DROP; done"
WAITING: Final = "SELECT count(*) FROM message WHERE class = 'alarm' AND topic LIKE 'alarm/%/event'"
TAG: Final = """
[tag {name}]
format = bthome
address = {address}
key_credential = {key}
worker = {name}
"""


@dataclass
class Worker:
    """Somebody with a tag."""

    name: str
    tag: Tag
    pressed: bool = False
    repeats: bool = False  # the tag goes on after the cut

    @property
    def press(self) -> tuple[str, int]:
        """The last one: no other has the same name and counter."""
        return self.name, self.tag.counter


@dataclass
class Campaign:
    """All cuts of a run, and what came of them."""

    rig: Rig
    workers: list[Worker]
    seed: int
    survived: int = 0
    without_broker: int = 0
    presses: int = 0
    told: set[str] = field(default_factory=set)  # alarms
    boots_s: list[float] = field(default_factory=list)

    def arrived(self) -> dict[str, set[tuple[str, int]]]:
        """The alarms of our workers that are at the broker, and the presses they were raised for."""
        names = {worker.name for worker in self.workers}
        found: dict[str, set[tuple[str, int]]] = {}
        for event in self.rig.ops.events("raised"):
            if event["tag"]["id"] in names:
                found.setdefault(event["alarm"], set()).add(_press(event))
        return found

    def heard(self) -> set[tuple[str, int]]:
        """The presses that an alarm was raised for."""
        return set().union(*self.arrived().values())

    def figure(self) -> str:
        """What there is to tell."""
        return (
            f"{self.survived} cuts survived, {self.without_broker} of them without a broker; "
            f"{self.presses} presses, {len(self.told)} alarms told as accepted before the cut, all of them "
            f"arrived, {len(self.arrived())} in all, each under one id; "
            f"boots {min(self.boots_s):.0f} to {max(self.boots_s):.0f} s; seed {self.seed}"
        )


def _press(event: dict[str, Any]) -> tuple[str, int]:
    return event["tag"]["id"], event["tag"]["counter"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cut" in metafunc.fixturenames:
        metafunc.parametrize("cut", range(metafunc.config.getoption("cuts")))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def campaign(rig: Rig, pytestconfig: pytest.Config) -> AsyncIterator[Campaign]:
    """The workers with their tags; at the end the machine is as it was."""
    given = pytestconfig.getoption("seed")
    async with begun(rig, random.randrange(1 << 32) if given is None else given) as campaign:
        yield campaign


@asynccontextmanager
async def begun(rig: Rig, seed: int) -> AsyncIterator[Campaign]:
    """A campaign on a machine that knows all the tags."""
    addresses = {f"worker-{number}": f"C4:33:00:00:00:{number:02X}" for number in range(WORKERS)}
    workers = [
        Worker(
            name=name,
            tag=Tag(await rig.air.transmitter(address), SimulatedTag(address, key=bytes.fromhex(KEY))),
        )
        for name, address in addresses.items()
    ]
    tags = [TAG.format(name=name, address=address, key=NURSE) for name, address in addresses.items()]
    await rig.configure("".join(tags))
    await rig.machine.run("sync")  # what a person wrote lately is not the daemon's to keep
    await rig.hears()
    try:
        yield Campaign(rig=rig, workers=workers, seed=seed)
    finally:
        for worker in workers:
            await worker.tag.release()
        await rig.configure()
        rig.ops.turn_the_page()
        await rig.ready()


async def test_what_a_wearer_was_told_arrives_after_a_power_cut(
    campaign: Campaign, claims: Claims, cut: int, pytestconfig: pytest.Config
) -> None:
    """At least once, and always under the same id; a press that goes on after the cut is no other alarm."""
    print(f"seed {campaign.seed}")
    await one_cut(campaign, cut)
    if campaign.survived == pytestconfig.getoption("cuts"):
        assert campaign.told, "the cuts came too early to show anything"
        claims.show("the power cut in and around presses: what was accepted arrives", campaign.figure())


async def one_cut(campaign: Campaign, number: int) -> None:
    """Press, cut, boot, and see what arrives."""
    rig, chance = campaign.rig, random.Random(f"{campaign.seed} {number}")
    without_broker = number % 2 == 0
    earlier = set(campaign.arrived())
    if without_broker:
        await rig.machine.run(WITHOUT_BROKER)
    for worker in campaign.workers:
        worker.pressed, worker.repeats = False, chance.random() < 0.5
    async with witness(rig.machine) as seen:
        await press_and_cut(campaign, chance)
        await seen.end()
    told = seen.told
    for worker in campaign.workers:
        if not worker.repeats:
            await worker.tag.release()
    rig.ops.turn_the_page()
    await rig.boot()
    campaign.boots_s.append(rig.boot_s)
    expected = {worker.press for worker in campaign.workers if worker.pressed and worker.repeats}
    about = f"(seed {campaign.seed}, cut {number})"
    await rig.ops.until(f"what was told, {sorted(told)} {about}", lambda: told <= campaign.arrived().keys())
    await rig.ops.until(f"presses that go on, {expected} {about}", lambda: expected <= campaign.heard())
    await until("an outbox without an alarm", lambda: no_alarm_waits(rig.machine))
    for worker in campaign.workers:
        await worker.tag.release()
    assert told.isdisjoint(earlier), "an alarm of an earlier cut was accepted again"
    check_identities(campaign)
    await asyncio.gather(*(rig.close(alarm) for alarm in campaign.arrived().keys() - earlier))
    campaign.survived += 1
    campaign.without_broker += without_broker
    campaign.presses += sum(worker.pressed for worker in campaign.workers)
    campaign.told |= told


async def no_alarm_waits(machine: Machine) -> bool:
    """Whether the outbox holds no event of an alarm: the broker has them all."""
    outbox = "file:/var/lib/gatewayd/outbox.db?mode=ro"
    counted = await machine.run(f"sqlite3 -cmd '.timeout 5000' '{outbox}' \"{WAITING}\"")
    return counted.strip() == "0"


async def press_and_cut(campaign: Campaign, chance: random.Random) -> None:
    """Let everybody press at some moment, and cut the power at another."""

    async def press(worker: Worker, after_s: float) -> None:
        await asyncio.sleep(after_s)
        worker.pressed = True
        await worker.tag.press()

    moments = [chance.uniform(0, PRESSES_S) for _ in campaign.workers]
    cut_s = max(0.0, chance.choice(moments) + chance.uniform(*CUT_S))
    pressing = [
        asyncio.create_task(press(worker, moment))
        for worker, moment in zip(campaign.workers, moments, strict=True)
    ]
    await asyncio.sleep(cut_s)
    for each in pressing:
        each.cancel()
    await asyncio.gather(*pressing, return_exceptions=True)
    campaign.rig.machine.cut()


def check_identities(campaign: Campaign) -> None:
    """One press, one alarm; one alarm, one press."""
    arrived = campaign.arrived()
    for alarm, presses in arrived.items():
        assert len(presses) == 1, f"{alarm} was raised for {presses} (seed {campaign.seed})"
    pairs = [(press, alarm) for alarm, presses in arrived.items() for press in presses]
    assert len({press for press, _ in pairs}) == len(pairs), f"two ids for a press: {sorted(pairs)}"
    repeated = [event for event in campaign.rig.ops.events("repeated") if event["alarm"] in arrived]
    assert not repeated, "a copy was taken for another press"
