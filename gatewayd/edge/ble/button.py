"""GATT buttons: each is kept connected for as long as the gateway runs, hears a press, and may beep.

When to connect is for `core.button`. A tag counts as seen when it answers a question (its battery), or, where
it has no battery to ask for, while bluetoothd has it connected; never because it advertises, since while it
does its presses go unheard.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gatewayd.core.button import Do, Tie
from gatewayd.core.health import Alive
from gatewayd.core.model import Advertisement, Tag, TagReport, Told
from gatewayd.core.tags import itag
from gatewayd.edge.ble.bluez import Bluetoothd, RefusedError, UnavailableError, connect
from gatewayd.edge.ble.gatt import Connection, joined

logger = logging.getLogger(__name__)

# Beeps (s) that a frightened person tells apart: one long, two short, four short, two long.
_LONG_S: Final = 0.8
_SHORT_S: Final = 0.2
_BEEPS: Final[Mapping[Told, tuple[float, ...]]] = {
    Told.STORED: (_LONG_S,),
    Told.RECEIVED: (_SHORT_S,) * 2,
    Told.ON_THE_WAY: (_SHORT_S,) * 4,
    Told.TIME_UP: (_LONG_S,) * 2,
}
_BETWEEN_S: Final = 0.2
_AFTER_S: Final = 1.0  # what is told in a row stays apart
_UNTOLD: Final = len(Told)  # what waits to be told: one of each; the oldest gives way


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a button waits for what. The defaults are for real hardware; tests are in a hurry."""

    look_s: float = 0.2  # what is due to be done is done within this time
    call_s: float = (
        5.0  # a tag that was just heard takes a connection within two of its advertising intervals
    )
    resolve_s: float = 30.0  # all services of a slow tag: some 25 questions, each a second at most
    beat_s: float = 10.0  # twice may fail before the 30 s after which a tag is not "seen" any more
    stuck_s: float = 60.0  # all steps of a connection together are due before


# What a tag told over its connection: the tag's name, the report, when (CLOCK_MONOTONIC, seconds).
OnReport: TypeAlias = Callable[[str, TagReport, float], None]


class Buttons:
    """Keeps buttons connected. `on_report` is called in the event loop and must not raise."""

    def __init__(
        self, tags: Iterable[Tag], *, on_report: OnReport, alive: Alive, timing: Timing | None = None
    ) -> None:
        """`tags`: of the format itag, with their addresses."""
        self._timing = timing or Timing()
        self._buttons = {
            tag.address: _Button(tag, tag.address, on_report, self._timing) for tag in tags if tag.address
        }
        self._alive = alive

    def hear(self, advertisement: Advertisement) -> None:
        """Learn that a tag is there. An advertisement without a signal strength is none."""
        button = self._buttons.get(advertisement.address)
        if button is not None and advertisement.rssi_dbm is not None:
            button.tie = button.tie.heard(advertisement.heard_s)

    def tell(self, name: str, told: Told) -> None:
        """Let a tag beep, if it is configured to and connected; else nothing: late, it would mislead."""
        for button in self._buttons.values():
            if button.tag.name == name:
                button.tell(told)

    async def run(self) -> None:
        """Serve the buttons until cancelled."""
        async with asyncio.TaskGroup() as group:  # a bug ends the edge, and so the daemon, which starts again
            while True:
                for button in self._buttons.values():
                    do = button.do(free=not any(other.connecting for other in self._buttons.values()))
                    if do in {Do.CONNECT, Do.LOOK}:
                        holding = button.hold(search=do is Do.CONNECT)
                        group.create_task(holding, name=f"tag {button.tag.name}")
                if not any(button.stuck for button in self._buttons.values()):
                    self._alive()
                await asyncio.sleep(self._timing.look_s)


class _Button:
    """One button, apart or connected."""

    def __init__(self, tag: Tag, address: str, on_report: OnReport, timing: Timing) -> None:
        self.tag = tag
        self.tie = Tie()
        self.connecting = False
        self._address = address
        self._on_report = on_report
        self._timing = timing
        self._holding = False
        self._moved_s = 0.0  # the last progress of `hold`
        self._connected_s: float | None = None  # since when presses are heard
        self._untold: deque[Told] = deque(maxlen=_UNTOLD)
        self._nudge: Callable[[], None] = lambda: None
        self._said: str | None = None

    @property
    def stuck(self) -> bool:
        """Whether a step of its connection takes longer than all of them may."""
        return self._holding and time.monotonic() - self._moved_s > self._timing.stuck_s

    def do(self, *, free: bool) -> Do:
        """What to do about it now."""
        if self._holding:
            return Do.LEAVE
        do = self.tie.do(time.monotonic(), free=free)
        if do in {Do.CONNECT, Do.LOOK}:
            self._holding = self.connecting = True
            self._moved_s = time.monotonic()
        return do

    def tell(self, told: Told) -> None:
        """Beep soon."""
        if self.tag.beep and self._connected_s is not None:
            self._untold.append(told)
            self._nudge()

    async def hold(self, *, search: bool) -> None:
        """Connect and stay so for as long as it lasts. What ends it is told once and tried again later."""
        try:
            async with connect(self._timing.call_s) as bluetoothd:
                limit_s = self._timing.resolve_s
                async with joined(bluetoothd, self._address, search=search, limit_s=limit_s) as connection:
                    if connection is None:
                        self.tie = self.tie.missed(time.monotonic())
                        return
                    await self._begin(connection)
                    await self._serve(connection, bluetoothd)
        except UnavailableError as error:
            self._say(logging.WARNING, f"not connected, its presses are not heard: {error}")
            self._end()
        finally:
            self._holding = self.connecting = False
            self._connected_s = None

    def _end(self) -> None:
        now_s = time.monotonic()
        lasted_s = 0.0 if self._connected_s is None else now_s - self._connected_s
        self.tie = self.tie.ended(now_s, lasted_s=lasted_s)
        self._untold.clear()

    async def _begin(self, connection: Connection) -> None:
        """Hear its presses from now on."""
        if not connection.has(itag.BUTTON):
            raise UnavailableError("it has no button of the iTAG kind (service FFE0, characteristic FFE1)")
        await connection.notify(itag.BUTTON, self._heard)
        self._connected_s = time.monotonic()
        self.connecting = False
        lacks = "; it cannot beep: no Immediate Alert" if self._mute(connection) else ""
        self._say(logging.INFO, f"connected{lacks}")
        if connection.has(itag.LINK_LOSS):
            await self._try(connection.write(itag.LINK_LOSS, itag.QUIET))

    async def _serve(self, connection: Connection, bluetoothd: Bluetoothd) -> None:
        """Look after a connection until it ends, which raises UnavailableError."""
        self._nudge = bluetoothd.nudge
        due_s = time.monotonic()
        while True:
            self._moved_s = now_s = time.monotonic()
            if now_s >= due_s or not connection.connected or bluetoothd.ended:
                await connection.confirm()
                await self._prove(connection)
                due_s = time.monotonic() + self._timing.beat_s
            while self._untold and connection.connected:
                await self._beep(connection, self._untold.popleft())
            await bluetoothd.change(max(due_s - time.monotonic(), 0.0))

    async def _prove(self, connection: Connection) -> None:
        """Have the tag show that it is there."""
        battery = None
        if connection.has(itag.BATTERY):
            try:
                battery = await connection.read(itag.BATTERY)
            except RefusedError as error:
                logger.debug("tag %s: its battery cannot be read: %s", self.tag.name, error)
                return
        self._on_report(self.tag.name, itag.present(battery), time.monotonic())

    async def _beep(self, connection: Connection, told: Told) -> None:
        if self._mute(connection):
            return
        for length_s in _BEEPS[told]:
            try:
                await self._try(connection.write(itag.ALERT, itag.BEEP))
                await asyncio.sleep(length_s)
            finally:
                await self._try(connection.write(itag.ALERT, itag.QUIET))
            await asyncio.sleep(_BETWEEN_S)
        await asyncio.sleep(_AFTER_S)

    def _mute(self, connection: Connection) -> bool:
        return self.tag.beep and not connection.has(itag.ALERT)

    async def _try(self, write: Coroutine[Any, Any, None]) -> None:
        """Write what is not worth the connection when it is refused."""
        try:
            await write
        except RefusedError as error:
            logger.warning("tag %s: %s", self.tag.name, error)

    def _heard(self, value: bytes) -> None:
        self._on_report(self.tag.name, itag.notified(value), time.monotonic())

    def _say(self, level: int, what: str) -> None:
        """Say it once."""
        if self._said != what:
            self._said = what
            logger.log(level, "tag %s: %s", self.tag.name, what)
