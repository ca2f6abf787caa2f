"""Whatever fails around the gateway: no alarm is lost or doubled, and nothing is claimed that is not so.

Every fault once, and a few random combinations; `scripts/faults` runs them for as long as one likes.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from shims import compile_shim

from faults.__main__ import episode
from faults.disk import why_not
from faults.episode import SCRIPTS, Outcome
from faults.faults import FAULTS, Area
from faults.site import SHIMS, Site

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="a C compiler is needed for what is preloaded"),
]
SEEDS = (11, 12, 13)
ACCEPTED_S = 5.0  # a disk without room takes an alarm in milliseconds


@pytest.fixture(scope="module")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shims")
    for name in SHIMS:
        compile_shim(name, folder)
    return folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of a short name: sockets lie in it. Its journal is shown when the test fails."""
    with TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)
        print((Path(name) / "gatewayd.log").read_text())


def check(outcome: Outcome) -> None:
    assert outcome.accepted
    assert not outcome.fallen


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_fault_costs_no_alarm(folder: Path, shims: Path, script: str) -> None:
    """Presses before, during and after it arrive once, in order, with their sound; what is lost is told."""
    outcome = await episode(script, folder, shims)
    check(outcome)
    if any(FAULTS[name].area is Area.PROCESS for name in SCRIPTS[script]):
        assert len(outcome.reached) > len(SCRIPTS[script]) / 2  # or nobody died


@pytest.mark.parametrize("seed", SEEDS)
async def test_faults_together_cost_no_alarm(folder: Path, shims: Path, seed: int) -> None:
    """Some at once, in an order that the seed draws: the same holds."""
    check(await episode(str(seed), folder, shims))


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
async def test_an_alarm_fits_on_a_full_disk(folder: Path, shims: Path) -> None:
    """No link and no room: the press is told as accepted by the disk all the same, and survives a kill."""
    site = Site(folder, shims, disk=True)
    dice = random.Random(0)
    gone, full = FAULTS["link refused"], FAULTS["disk full"]
    async with site.stand():
        await site.until("room set aside", lambda: list(site.state.glob("*.ballast")))
        await gone.begin(site, dice)
        await full.begin(site, dice)
        await site.call(for_s=0.0)
        await site.until("an alarm on disk", lambda: "disk" in site.accepted().values(), ACCEPTED_S)
        await site.kill()
        await full.heal(site, dice)
        await gone.heal(site, dice)
        await site.start()
        await site.until("the alarm", lambda: site.accepted().keys() <= site.known())


async def test_the_recorder_notices_an_alarm_that_is_lost(folder: Path, shims: Path) -> None:
    """With the disk wiped after "accepted" the claim falls; otherwise the tests above would prove nothing."""
    site = Site(folder, shims, disk=False)
    async with site.stand():
        site.proxy.cut()
        await FAULTS["link refused"].begin(site, random.Random(0))
        await site.call(for_s=0.0)
        await site.until("an alarm on disk", site.accepted)
        await site.kill()
        await asyncio.to_thread(shutil.rmtree, site.state)
        await FAULTS["link refused"].heal(site, random.Random(0))
        await site.start()
        assert await site.settle(limit_s=1.0)
        site.ops.faults.clear()
