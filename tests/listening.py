"""A radio on the BlueZ stand-in, with what it tells its neighbours."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gatewayd.config import model as config
from gatewayd.core.model import Advertisement, State
from gatewayd.core.recovery import LADDER, Hearing
from gatewayd.edge.ble import Radio, Remedies, Timing
from gatewayd.edge.ble.ear import Concerns
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.tag import SimulatedTag

TAG = "C4:11:22:33:44:55"
CANARY = "C4:00:00:00:00:01"
SECOND = "F0:00:00:00:00:02"  # an adapter beside the first
ANY_ADAPTER = config.Radio(enabled=True, adapters=(), canary=None)
# Ten minutes become two seconds.
STEPS = {
    finding: tuple(replace(rung, after_s=rung.after_s / 300) for rung in rungs)
    for finding, rungs in LADDER.items()
}
HURRIED = Timing(
    check_s=0.1, doubt_s=0.05, call_s=1.0, canary_s=0.4, silence_s=1.0, retry_s=(0.05, 0.1), ladder=STEPS
)


@dataclass
class Ear:
    """What the radio told its neighbours."""

    heard: list[Advertisement] = field(default_factory=list)
    reports: list[tuple[State, str]] = field(default_factory=list)
    until_s: float | None = None  # as last reported
    alive_s: list[float] = field(default_factory=list)

    radio: Radio | None = None

    @property
    def state(self) -> State | None:
        return self.reports[-1][0] if self.reports else None

    @property
    def detail(self) -> str:
        return self.reports[-1][1] if self.reports else ""

    def report(self, hearing: Hearing) -> None:
        self.reports.append((hearing.state, hearing.detail))
        self.until_s = hearing.until_s

    def of(self, address: str) -> list[Advertisement]:
        return [advertisement for advertisement in self.heard if advertisement.address == address]


@asynccontextmanager
async def listening(
    settings: config.Radio = ANY_ADAPTER,
    timing: Timing = HURRIED,
    remedies: Remedies | None = None,
    concerns: Concerns = lambda *_: True,
) -> AsyncIterator[Ear]:
    """A radio that runs while the block does, and must not have ended by itself."""
    ear = Ear()
    radio = Radio(
        settings,
        on_advertisement=ear.heard.append,
        report=ear.report,
        alive=lambda: ear.alive_s.append(time.monotonic()),
        concerns=concerns,
        remedies=remedies,
        timing=timing,
    )
    ear.radio = radio
    task = asyncio.create_task(radio.run(), name="radio")
    try:
        yield ear
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for a condition; generous, since the machine may be busy or emulated."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def press(bluez: BlueZ, ear: Ear, tag: SimulatedTag, *, then: State = State.OK) -> None:
    """Press a tag, which advertises until the press is heard and the radio is in the state `then`."""
    frame = tag.press()
    async with asyncio.timeout(30.0):
        while ear.state is not then or all(
            a.service_data != frame.service_data for a in ear.of(frame.address)
        ):
            bluez.advertise(frame)
            await asyncio.sleep(0.02)
