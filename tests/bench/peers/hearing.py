"""How many presses are heard by a scan loop: bursts of several lengths, at random moments, for all at once.

Each system has a simulated BlueZ on a bus of its own, and all of these hear each copy in the same moment: on
one bus they would help each other, since BlueZ scans while any client wants it, and tells all of them of
each copy when one asked for that. A press is heard when the broker has a message of it in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench.peers.hearers import Button, Hearer, Make
from bench.peers.rig import Rig
from bench.peers.setting import READY_S
from bench.peers.trials import Measures
from gatewayd.sim.air import burst
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import Frame

NAME: Final = "hearing"  # of this trial
LENGTHS_S: Final = (0.5, 1.0, 3.0, 10.0)
READY_PRESS_S: Final = 1.0  # of the button that is pressed until all systems are ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many presses, and how far apart.

    A button is pressed again after `least_s` to `most_s`, at random: longer than the longest burst and than
    the 10 s in which gatewayd tells a press of an open alarm only in its state, and spread over the round of
    the slowest scan loop, 12 s, so that a press falls anywhere in it.
    """

    buttons: int = 10  # of each length
    presses: int = 6  # of each button
    least_s: float = 14.0
    most_s: float = 26.0
    within_s: float = 30.0  # after the press; later it is not heard
    again_s: float = (
        15.0  # for what is told again of the last: a round of ThingsBoard's scans, and of its looks
    )

    @property
    def of_each(self) -> int:
        """Presses of each length."""
        return self.buttons * self.presses


WHOLE: Final = Scale()
QUICK: Final = Scale(buttons=2, presses=1, least_s=1.0, most_s=2.0, again_s=0.5)


@dataclass(slots=True)
class Presses:
    """When each press was made, seconds since 1970, by its mark; by the length of its burst."""

    made_s: dict[float, dict[str, float]] = field(
        default_factory=lambda: {length_s: {} for length_s in LENGTHS_S}
    )

    def marks(self) -> set[str]:
        """All of them."""
        return {mark for made in self.made_s.values() for mark in made}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One system, the radio it hears with, and the broker it tells."""

    bluez: BlueZ
    rig: Rig
    hearer: Hearer


async def measure(hearers: Mapping[str, Make], scale: Scale, seed: int) -> dict[str, Measures]:
    """Press buttons while all systems listen; return what each heard.

    Raises TimeoutError when one never hears, RuntimeError when one ends meanwhile.
    """
    counted = len(LENGTHS_S) * scale.buttons
    async with AsyncExitStack() as stack:
        # Its path must be short: a bus has its socket in it.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gw-")))
        places = {
            name: await stack.enter_async_context(_placed(folder / str(number), made, counted + 1))
            for number, (name, made) in enumerate(hearers.items())
        }
        air = [place.bluez for place in places.values()]
        await _ready(places, Button(counted))
        presses = await _press(air, scale, random.Random(seed))
        told = (place.rig.until(presses.marks(), scale.within_s) for place in places.values())
        await asyncio.gather(*told)
        await asyncio.sleep(scale.again_s)
        for place in places.values():
            place.hearer.must_run()
            place.rig.recorder.read()
        return {name: count(place.rig.recorder.arrivals, presses, scale) for name, place in places.items()}


@asynccontextmanager
async def _placed(folder: Path, made: Make, buttons: int) -> AsyncIterator[Place]:
    """Have a system run between a BlueZ and a broker of its own."""
    make, read = made
    async with Rig(folder, read) as rig:
        with PrivateBus(folder) as bus:
            async with BlueZ(bus.address) as bluez:
                hearer = make(folder / "system")
                try:
                    await hearer.start(rig, bus.address, buttons)
                    yield Place(bluez=bluez, rig=rig, hearer=hearer)
                finally:
                    await hearer.stop()


async def _ready(places: Mapping[str, Place], button: Button) -> None:
    """Press a button that is not counted until every system has told of it."""
    air = [place.bluez for place in places.values()]
    deadline_s = time.monotonic() + READY_S
    while deaf := [name for name, place in places.items() if not place.rig.recorder.seen]:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"expected systems that hear within {READY_S:.0f} s, got nothing of {deaf}")
        await _burst(air, button.press()[1], READY_PRESS_S)
        for place in places.values():
            place.hearer.must_run()
            place.rig.recorder.read()


async def _press(air: list[BlueZ], scale: Scale, chance: random.Random) -> Presses:
    """Press all buttons as often as is due."""
    presses = Presses()

    async def one(number: int, length_s: float, pauses_s: list[float]) -> None:
        button = Button(number)
        for pause_s in pauses_s:
            await asyncio.sleep(pause_s)
            mark, frame = button.press()
            presses.made_s[length_s][mark] = time.time()
            bursts.create_task(_burst(air, frame, length_s))

    async with asyncio.TaskGroup() as bursts:
        for number in range(len(LENGTHS_S) * scale.buttons):
            first_s = chance.uniform(0, scale.most_s)
            later_s = [chance.uniform(scale.least_s, scale.most_s) for _ in range(scale.presses - 1)]
            bursts.create_task(one(number, LENGTHS_S[number % len(LENGTHS_S)], [first_s, *later_s]))
    return presses


async def _burst(air: list[BlueZ], frame: Frame, length_s: float) -> None:
    await asyncio.gather(*(burst(bluez, frame, length_s) for bluez in air))


def count(arrivals: list[tuple[float, str]], presses: Presses, scale: Scale) -> Measures:
    """Of each length: the share heard, the share told of more than once, and how late, in the middle."""
    first_s: dict[str, float] = {}
    for when_s, mark in arrivals:
        first_s.setdefault(mark, when_s)
    often = Counter(mark for _, mark in arrivals)
    found: Measures = {}
    for length_s, made_s in presses.made_s.items():
        late_s = [first_s[mark] - at_s for mark, at_s in made_s.items() if mark in first_s]
        in_time_ms = [each_s * 1000 for each_s in late_s if each_s <= scale.within_s]
        found[f"heard_{length_s:g}"] = 100 * len(in_time_ms) / len(made_s)
        found[f"again_{length_s:g}"] = 100 * sum(often[mark] > 1 for mark in made_s) / len(made_s)
        found[f"late_{length_s:g}"] = median(in_time_ms) if in_time_ms else None
    return found
