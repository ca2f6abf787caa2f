"""Those who wear tags, and others, around the booted machine: who presses when, all drawn from one seed.

The tags are those of the shift on the host (`shift/tags.py`); what they send is said on the air as it comes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from bumble.hci import Address
from shift import desk, tags
from shift.world import Press

from gatewayd.core.alarm.calling import REPEAT_S
from gatewayd.sim.tag import Frame
from system.air import Air, written

BURST_S: Final = (3.0, 10.0)
COPY_S: Final = 0.2  # between copies, at the least: with everything else 150 reports/s must not be exceeded
# The emulated machine hears what is on the air, and notices that it does not, up to so much later.
SLOW_S: Final = 2.0
LATE_S: Final = 5.0  # a press is told after the end of its burst by so much at the most
PAUSE_S: Final = 15.0  # between presses of a tag, on average, beyond what its family needs
FIRST_S: Final = 30.0  # by then, as a rule, everybody has pressed


class Wearers:
    """Two things are known of them afterwards: what they pressed, and which frames of it were on the air.

    `each`: how many tags there are of each model; `presses`: how many they make together.
    """

    def __init__(self, air: Air, seed: int, *, each: int, presses: int) -> None:
        self.presses: list[Press] = []
        self.over = asyncio.Event()  # the last press has begun
        self._air = air
        self._seed = seed
        self._left = presses
        self._dice = random.Random(seed)
        self.tags = [
            model(f"{model.__name__.lower()}-{number}", self._address(), self._dice)
            for model in tags.MODELS
            for number in range(each)
        ]

    @asynccontextmanager
    async def out(self, others: int) -> AsyncIterator[None]:
        """Let them press, among so many others at 1 Hz, until the block ends."""
        frames = [tags.other(number, self._address, self._dice) for number in range(others)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._wear(tag)) for tag in self.tags]
            tasks.append(group.create_task(self._pass_by(frames)))
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _pass_by(self, frames: Sequence[tags.Frame]) -> None:
        """Others, evenly spread over each second."""
        began_s = time.monotonic()
        for number, frame in enumerate(itertools.cycle(frames)):
            await asyncio.sleep(began_s + number / len(frames) - time.monotonic())
            self._say(frame)

    async def _wear(self, tag: tags.Tag) -> None:
        """Press it now and then while presses are left; from then on it is at rest."""
        dice = random.Random(f"{self._seed} {tag.name}")
        told: dict[str, Press] = {}  # by stream: what the tag still tells of
        await self._rest(tag, None, dice, dice.uniform(0.0, FIRST_S))
        while self._left > 0:
            self._left -= 1
            press = await self._press(tag, dice, told)
            pause_s = max(tag.deaf_s, REPEAT_S) + LATE_S + dice.expovariate(1 / PAUSE_S)
            await self._rest(tag, press, dice, pause_s)
        self.over.set()
        await self._rest(tag, next(reversed(told.values()), None), dice, float("inf"))

    async def _press(self, tag: tags.Tag, dice: random.Random, told: dict[str, Press]) -> Press:
        """Press it, and have it send that for a while."""
        tag.press(dice)
        burst_s = dice.uniform(*BURST_S)
        began_s = time.monotonic()
        press = Press(tag=tag, stream=tag.stream, began_s=began_s, burst_s=began_s + burst_s)
        self.presses.append(press)
        if tag.stream in told:
            told[tag.stream].until_s = began_s + LATE_S
        told[tag.stream] = press
        reached = press.reached.setdefault(desk.NAME, [])
        while (since_s := time.monotonic() - began_s) < burst_s:
            frames = tag.pressed(since_s)
            for frame in frames:
                if frame.own:
                    reached.append(time.monotonic())
                self._say(frame)
                await asyncio.sleep(max(COPY_S, tag.copy_s) / len(frames))
        if not tag.goes_on:
            press.until_s = time.monotonic() + LATE_S
        return press

    async def _rest(self, tag: tags.Tag, press: Press | None, dice: random.Random, for_s: float) -> None:
        """Send what it sends between presses."""
        until_s = time.monotonic() + for_s
        wait_s = dice.uniform(0.1, tag.rest_s or for_s)
        while tag.rest_s is not None and time.monotonic() + wait_s < until_s:
            await asyncio.sleep(wait_s)
            for frame in tag.at_rest(time.monotonic() - press.began_s if press else 0.0):
                self._say(frame)
                await asyncio.sleep(COPY_S / 2)
            wait_s = tag.rest_s
        await asyncio.sleep(until_s - time.monotonic())

    def _say(self, frame: tags.Frame) -> None:
        """Have it be on the air, once."""
        on_air = Frame(
            address=frame.address, service_data=frame.service_data, manufacturer_data=frame.manufacturer_data
        )
        self._air.say(Address(frame.address), written(on_air))

    def _address(self) -> str:
        return "C4:" + self._dice.randbytes(5).hex(":").upper()
