"""The simulated GPS receiver: what it says is what a real one would."""

import asyncio
import os
from itertools import pairwise
from pathlib import Path

import pytest

from gatewayd.core.fix import Receiver
from gatewayd.core.model import Fix, FixMode
from gatewayd.sim.gps import DELFT, GpsReceiver

WHEN = 1_800_000_000.25


def told(receiver: GpsReceiver, driven_s: float) -> Fix:
    core = Receiver()
    (fix,) = core.feed(receiver.sentences(driven_s)) + core.flush()
    assert core.assembler.rejected == 0
    return fix


def receiver(route: tuple[tuple[float, float], ...]) -> GpsReceiver:
    return GpsReceiver(Path("unused"), route=route, wall=lambda: WHEN)


@pytest.mark.parametrize("place", [(52.0116, 4.3571), (-33.9, -70.25), (0.5, -0.25), (51.99999999, 4.0)])
def test_its_sentences_say_where_it_is_parked(place: tuple[float, float]) -> None:
    """On every side of the globe, and where minutes round up to a degree."""
    fix = told(receiver((place,)), 100.0)
    assert fix.lat is not None
    assert fix.lon is not None
    assert abs(fix.lat - place[0]) < 1e-6
    assert abs(fix.lon - place[1]) < 1e-6
    assert (fix.mode, fix.speed_mps, fix.utc_s) == (FixMode.FIX_3D, 0.0, WHEN)


def test_it_drives_to_and_fro() -> None:
    """Along its route without a jump, at its speed, for as long as one likes."""
    driving = receiver(DELFT)
    places = [told(driving, float(second)) for second in range(400)]
    assert (places[0].lat, places[0].lon) == DELFT[0]
    for one, next_one in pairwise(places):
        assert one.lat is not None
        assert next_one.lat is not None
        assert abs(one.lat - next_one.lat) * 111_320 <= 8.01


def test_without_a_fix_it_says_so() -> None:
    """As a receiver does in a garage."""
    parked = receiver(DELFT[:1])
    parked.fix = False
    assert told(parked, 0.0).mode is FixMode.NONE


async def test_unplugging_what_is_not_plugged_in_does_nothing(tmp_path: Path) -> None:
    """And plugging in twice is plugging in once."""
    device = tmp_path / "ttyGPS"
    simulated = GpsReceiver(device)
    simulated.unplug()
    assert simulated.plug() == simulated.plug()
    simulated.unplug()
    assert not device.is_symlink()


async def test_what_it_is_told_does_not_fill_its_terminal(tmp_path: Path) -> None:
    """Whoever writes to it, or lets the terminal echo, is never held up for good."""
    receiver = GpsReceiver(tmp_path / "gps", baud=115_200, rate_hz=100)
    running = asyncio.create_task(receiver.run())
    terminal = os.open(receiver.plug(), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        told = 0
        while told < 200_000:  # a terminal keeps some tens of kB
            try:
                told += os.write(terminal, bytes(1_000))
            except BlockingIOError:
                await asyncio.sleep(0.01)
    finally:
        os.close(terminal)
        running.cancel()
        await asyncio.wait([running])
