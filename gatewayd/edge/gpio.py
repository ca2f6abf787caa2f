"""The pins, through gpiozero: wired panic button, power sense, status LED, buzzer; off unless configured.

- Button: a switch from the pin to ground, pulled up. Power sense: high while external power is there, pulled
  down, so that a torn wire reads as lost power.
- An edge only draws attention: what counts is the level once it has settled, and the level is also read
  every second, so an edge the library missed is late and not lost.
- Debouncing is done here. gpiozero's `bounce_time` means another thing with each pin library and loses
  releases with some, after which the next press goes unnoticed.
- A button that is down at start counts as a press: a latching one may have been pressed while the gateway
  was off. A short circuit so raises one alarm at each start, which is better than a press that is dropped.
- A pin that is missing or busy degrades, is reported and tried again; the other pins go on working.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

from gatewayd.config import model as config
from gatewayd.core.health import Alive, Report
from gatewayd.core.model import Instant, State, Told

logger = logging.getLogger(__name__)

# gpiozero brings no types: a pin factory, and a device on one pin.
Factory: TypeAlias = Any
_Device: TypeAlias = Any

# Steps of (lit, seconds); None: until told otherwise.
_Pattern: TypeAlias = tuple[tuple[bool, float | None], ...]

POLL_S: Final = 1.0
RETRY_S: Final = 10.0
# Contacts bounce for up to 10 ms; a finger is on a button for 50 ms and more.
BUTTON_SETTLES_S: Final = 0.02
# Relays and starter motors are rougher; far below the 5 s within which lost power is to be published.
POWER_SETTLES_S: Final = 0.1
# Nobody holds a button this long: it is latched, stuck or shorted, and hides every further press.
HELD_S: Final = 60.0

_DARK: Final[_Pattern] = ((False, None),)
# Steady: all is well. Slow: something is degraded. Fast: presses do not reach ops.
_STATUS: Final[dict[State, _Pattern]] = {
    State.OK: ((True, None),),
    State.DEGRADED: ((True, 1.0), (False, 1.0)),
    State.FAILED: ((True, 0.2), (False, 0.2)),
    State.OFF: _DARK,
}
# One long: kept on disk here. Three short: the broker has it. A pause sets them off against the status.
_ACCEPTED: Final[dict[str, _Pattern]] = {
    "disk": ((False, 0.3), (True, 0.6), (False, 0.3)),
    "broker": ((False, 0.3), *(((True, 0.15), (False, 0.15)) * 3), (False, 0.3)),
}
# Long, short, long: a test has arrived. Nothing that is meant looks like it.
_TEST: Final[_Pattern] = (
    (False, 0.3), (True, 0.6), (False, 0.3), (True, 0.15), (False, 0.3), (True, 0.6), (False, 0.3)
)  # fmt: skip

# As a tag's beeps, but for "stored", which has the two above: two short, four short, two long, each twice as
# slow as those, so that three short stay the broker's and one long the disk's.
_TOLD: Final[dict[Told, _Pattern]] = {
    Told.RECEIVED: ((False, 0.3), *(((True, 0.3), (False, 0.3)) * 2), (False, 0.3)),
    Told.ON_THE_WAY: ((False, 0.3), *(((True, 0.3), (False, 0.3)) * 4), (False, 0.3)),
    Told.TIME_UP: ((False, 0.3), *(((True, 1.2), (False, 0.3)) * 2), (False, 0.3)),
}


def _library() -> ModuleType:
    """Import gpiozero when the first pin is opened: most gateways have none, and a start is quicker."""
    import gpiozero  # noqa: PLC0415

    module: ModuleType = gpiozero
    return module


def default_factory() -> Factory:
    """Leave the choice of pin library to gpiozero, which makes it when the first device is opened."""
    return None


class Gpio:
    """The pins of one gateway. Its methods are called on the loop; gpiozero's threads stay inside.

    `on_press(heard)`: the wired button was pressed. `on_power(present)`: external power, at first and on each
    change; None when the pin was lost, so that nothing is known.
    """

    def __init__(
        self,
        settings: config.Gpio,
        *,
        now: Callable[[], Instant],
        on_press: Callable[[Instant], None],
        on_power: Callable[[bool | None], None],
        report: Report,
        alive: Alive,
        factory: Callable[[], Factory] = default_factory,
    ) -> None:
        self._silent = settings.silent
        self._now = now
        self._on_press = on_press
        self._on_power = on_power
        self._report = report
        self._alive = alive
        self._factory = factory
        self._told: tuple[State, str] | None = None
        self._held_since_s: float | None = None
        self._button = _Input(
            settings.panic_button,
            "panic button",
            pull_up=True,
            assumed=False,
            settles_s=BUTTON_SETTLES_S,
            now=now,
            on_change=self._button_changed,
        )
        self._power = _Input(
            settings.power_sense,
            "power sense",
            pull_up=False,
            assumed=None,
            settles_s=POWER_SETTLES_S,
            now=now,
            on_change=self._power_changed,
        )
        self._led = _Output(settings.status_led, "status LED")
        self._buzzer = _Output(settings.buzzer, "buzzer")
        self._pins: tuple[_Pin, ...] = tuple(
            pin for pin in (self._button, self._power, self._led, self._buzzer) if pin.number is not None
        )

    async def run(self) -> None:
        """Serve the configured pins until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._led.play(), name="gpio status LED")
                group.create_task(self._buzzer.play(), name="gpio buzzer")
                await self._serve()
        finally:
            for pin in self._pins:
                pin.close()

    def show(self, overall: State) -> None:
        """Show on the status LED how the gateway is. An alarm is no part of that."""
        self._led.repeat(_STATUS[overall])

    def accepted(self, by: Literal["disk", "broker"]) -> None:
        """Tell the room that an alarm is safe on disk, or has reached the broker; nothing when silent."""
        if not self._silent:
            self._led.once(_ACCEPTED[by])
            self._buzzer.once(_ACCEPTED[by])

    def show_test(self) -> None:
        """Show that a press was a test and has arrived; no secret, so silence is for the buzzer only."""
        self._led.once(_TEST)
        if not self._silent:
            self._buzzer.once(_TEST)

    def tell(self, told: Told) -> None:
        """Tell the room what ops do about an alarm, or that one follows; nothing when silent.

        STORED is for `accepted`.
        """
        if not self._silent:
            self._led.once(_TOLD[told])
            self._buzzer.once(_TOLD[told])

    async def _serve(self) -> None:
        retry_s = self._now().mono_s
        while True:
            if self._now().mono_s >= retry_s:
                retry_s = self._now().mono_s + RETRY_S
                await self._open_missing()
            for pin in self._pins:
                pin.poll()
            self._tell()
            self._alive()
            await asyncio.sleep(POLL_S)

    async def _open_missing(self) -> None:
        for pin in self._pins:
            if pin.device is None:
                # In a thread: the pin library's first import takes seconds from a slow card.
                pin.take(*await asyncio.to_thread(_open, pin, self._factory))

    def _button_changed(self, down: bool | None, heard: Instant) -> None:
        self._held_since_s = heard.mono_s if down else None
        if down:
            self._on_press(heard)

    def _power_changed(self, present: bool | None, _heard: Instant) -> None:
        self._on_power(present)

    def _tell(self) -> None:
        problems = [f"{pin}: {pin.error}" for pin in self._pins if pin.error is not None]
        if self._held_since_s is not None and self._now().mono_s - self._held_since_s >= HELD_S:
            problems.append(f"{self._button}: held for a minute or more, release it or look for a short")
        if not self._pins:
            told = State.OFF, "not configured"
        elif problems:
            told = State.DEGRADED, "; ".join(problems)
        else:
            told = State.OK, ", ".join(str(pin) for pin in self._pins)
        if told != self._told:
            self._told = told
            self._report(*told)


def _open(pin: _Pin, factory: Callable[[], Factory]) -> tuple[_Device | None, str | None]:
    """Open the pin's device. Return it, or why it could not be had."""
    try:
        with warnings.catch_warnings():
            # One for each library that it tries; the error says enough.
            warnings.simplefilter("ignore", _library().PinWarning)
            return pin.open(factory()), None
    except Exception as error:  # the pin libraries' own errors (lgpio.error) have no other base
        logger.debug("%s could not be opened", pin, exc_info=True)
        return None, _reason(error)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


class _Pin(ABC):
    """One configured pin: its device, or the reason it has none."""

    def __init__(self, number: int | None, what: str) -> None:
        self.number = number  # BCM; None: not configured
        self.what = what
        self.device: _Device | None = None
        self.error: str | None = None

    def __str__(self) -> str:
        return f"{self.what} on GPIO{self.number}"

    @abstractmethod
    def open(self, factory: Factory) -> _Device:
        """Open the device; called in a thread."""

    def take(self, device: _Device | None, error: str | None) -> None:
        """Begin to use a device, or remember why there is none; called on the loop."""
        self.device, self.error = device, error

    @abstractmethod
    def poll(self) -> None:
        """Look whether anything changed unnoticed."""

    def lose(self, error: Exception) -> None:
        """The device failed in use: let it go, to be opened again."""
        logger.debug("%s was lost", self, exc_info=error)
        self.close()
        self.error = _reason(error)

    def close(self) -> None:
        """Let the device go."""
        device, self.device = self.device, None
        if device is not None:
            try:
                device.close()
            except Exception as error:  # noqa: BLE001 - as in _open; a lost chip cannot be closed in order
                logger.debug("%s did not close: %s", self, error)


class _Input(_Pin):
    """A level that counts once it has settled.

    `assumed`: the level before the first reading. None, for a level that is worth knowing as such: then the
    first reading is a change, and so is the loss of the pin.
    """

    def __init__(
        self,
        number: int | None,
        what: str,
        *,
        pull_up: bool,
        assumed: bool | None,
        settles_s: float,
        now: Callable[[], Instant],
        on_change: Callable[[bool | None, Instant], None],
    ) -> None:
        super().__init__(number, what)
        self._pull_up = pull_up
        self._assumed = assumed
        self._settles_s = settles_s
        self._now = now
        self._on_change = on_change
        self._settled = assumed
        self._settling = False

    def open(self, factory: Factory) -> _Device:
        return _library().DigitalInputDevice(self.number, pull_up=self._pull_up, pin_factory=factory)

    def take(self, device: _Device | None, error: str | None) -> None:
        super().take(device, error)
        if device is None:
            return
        loop = asyncio.get_running_loop()

        def edge() -> None:  # in a thread of the pin library
            loop.call_soon_threadsafe(self._edge, self._now())

        device.when_activated = edge
        device.when_deactivated = edge

    def poll(self) -> None:
        level = self._level()
        if level is not None and level is not self._settled:
            self._edge(self._now())

    def lose(self, error: Exception) -> None:
        super().lose(error)
        if self._assumed is None and self._settled is not None:
            self._settled = None
            self._on_change(None, self._now())

    def _edge(self, heard: Instant) -> None:
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(self._settles_s, self._settle, heard)

    def _settle(self, heard: Instant) -> None:
        self._settling = False
        level = self._level()
        if level is not None and level is not self._settled:
            self._settled = level
            self._on_change(level, heard)

    def _level(self) -> bool | None:
        if self.device is None:
            return None
        try:
            return bool(self.device.is_active)
        except Exception as error:  # noqa: BLE001 - as in _open
            self.lose(error)
            return None


class _Output(_Pin):
    """A light or a buzzer: one pattern for ever, now and then another one once."""

    def __init__(self, number: int | None, what: str) -> None:
        super().__init__(number, what)
        self._repeated = _DARK
        self._once: _Pattern | None = None
        self._changed = asyncio.Event()

    def poll(self) -> None:
        """Do nothing: an output changes only as it is told."""

    def open(self, factory: Factory) -> _Device:
        return _library().DigitalOutputDevice(self.number, initial_value=False, pin_factory=factory)

    def take(self, device: _Device | None, error: str | None) -> None:
        super().take(device, error)
        self._changed.set()

    def repeat(self, pattern: _Pattern) -> None:
        if pattern != self._repeated:
            self._repeated = pattern
            self._changed.set()

    def once(self, pattern: _Pattern) -> None:
        self._once = pattern
        self._changed.set()

    async def play(self) -> None:
        while True:
            self._changed.clear()
            pattern, self._once = self._once or self._repeated, None
            for lit, for_s in pattern:
                self._write(lit)
                try:
                    async with asyncio.timeout(for_s):
                        await self._changed.wait()
                    break
                except TimeoutError:
                    continue

    def _write(self, lit: bool) -> None:
        if self.device is None:
            return
        try:
            self.device.value = lit
        except Exception as error:  # noqa: BLE001 - as in _open
            self.lose(error)
