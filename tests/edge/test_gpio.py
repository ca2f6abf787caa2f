"""The pins, on gpiozero's own mock factory: what is pressed, lost and lit, and when a pin is not there."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from gatewayd.config import model as config
from gatewayd.core.model import ClockSource, Instant, State, Told
from gatewayd.edge import gpio
from gatewayd.edge.gpio import Gpio, default_factory

BUTTON, LED, BUZZER, POWER = 17, 22, 23, 24


def now() -> Instant:
    return Instant(boot="b", mono_s=monotonic(), wall_s=0.0, source=ClockSource.NONE, uncertainty_ms=1)


@dataclass
class Rig:
    """A board of mock pins, and what the daemon heard of it."""

    pins: Any = field(default_factory=MockFactory)  # Any: gpiozero has no types
    presses: list[Instant] = field(default_factory=list)
    power: list[bool | None] = field(default_factory=list)
    reports: list[tuple[State, str]] = field(default_factory=list)
    beats: int = 0
    gpio: Gpio | None = None

    def beat(self) -> None:
        self.beats += 1

    def open(self) -> Any:  # Any: gpiozero has no types
        return self.pins

    @asynccontextmanager
    async def running(
        self, factory: Callable[[], Any] | None = None, *, silent: bool = True, **pins: int
    ) -> AsyncIterator[Gpio]:
        settings = config.Gpio(
            panic_button=pins.get("panic_button"),
            status_led=pins.get("status_led"),
            buzzer=pins.get("buzzer"),
            power_sense=pins.get("power_sense"),
            silent=silent,
        )
        running = Gpio(
            settings,
            now=now,
            on_press=self.presses.append,
            on_power=self.power.append,
            report=lambda state, detail: self.reports.append((state, detail)),
            alive=self.beat,
            factory=factory or self.open,
        )
        task = asyncio.create_task(running.run())
        await until(lambda: self.beats > 0)
        try:
            yield running
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    def button(self) -> Any:  # Any: gpiozero has no types
        return self.pins.pin(BUTTON)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own time limit ends a vain wait."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for is no event
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll and retry faster than a person would notice."""
    monkeypatch.setattr(gpio, "POLL_S", 0.05)
    monkeypatch.setattr(gpio, "RETRY_S", 0.1)


async def test_nothing_configured_is_off() -> None:
    """Without pins the component is off, and the loop still runs."""
    rig = Rig()
    async with rig.running():
        assert rig.reports == [(State.OFF, "not configured")]


async def test_a_press_is_heard_once() -> None:
    """A press that bounces, and the finger's release, make one press with the time of its first edge."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        assert rig.reports == [(State.OK, "panic button on GPIO17")]
        before = monotonic()
        for _ in range(4):
            rig.button().drive_low()
            rig.button().drive_high()
        rig.button().drive_low()
        first = monotonic()
        await until(lambda: bool(rig.presses))
        rig.button().drive_high()
        await asyncio.sleep(0.2)
        assert len(rig.presses) == 1
        assert before <= rig.presses[0].mono_s <= first


async def test_two_presses_are_two() -> None:
    """After a release that settled, the next press counts."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        for count in (1, 2):
            rig.button().drive_low()
            await until(lambda expected=count: len(rig.presses) == expected)  # type: ignore[misc]
            rig.button().drive_high()
            await asyncio.sleep(0.1)


async def test_a_glitch_is_no_press() -> None:
    """Ignition noise on a long wire, gone before a finger could be, raises nothing."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        rig.button().drive_low()
        rig.button().drive_high()
        await asyncio.sleep(0.2)
        assert rig.presses == []


async def test_a_press_from_the_pin_librarys_thread_is_heard() -> None:
    """gpiozero calls back in a thread of its own; the press arrives on the loop."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        thread = threading.Thread(target=rig.button().drive_low)
        thread.start()
        await until(lambda: len(rig.presses) == 1)
        thread.join()


async def test_an_edge_the_library_missed_is_found() -> None:
    """The level is read every second besides: a press without an edge is late, not lost."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        rig.button().when_changed = None
        rig.button().drive_low()
        await until(lambda: len(rig.presses) == 1)


async def test_a_button_that_is_down_at_start_is_one_press() -> None:
    """A latching button pressed while the gateway was off counts, once."""
    rig = Rig()

    class Held(MockFactory):  # type: ignore[misc]  # gpiozero has no types
        """A factory whose button is down as soon as it is pulled up."""

        def pin(self, name: int) -> Any:
            pin = super().pin(name)
            pin._set_pull = lambda _pull: pin.drive_low()
            return pin

    rig.pins = Held()
    async with rig.running(panic_button=BUTTON):
        await until(lambda: len(rig.presses) == 1)
        await asyncio.sleep(0.2)
        assert len(rig.presses) == 1


async def test_a_button_held_for_long_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck button hides further presses, so it degrades; released, all is well."""
    monkeypatch.setattr(gpio, "HELD_S", 0.2)
    rig = Rig()
    async with rig.running(panic_button=BUTTON):
        rig.button().drive_low()
        await until(lambda: rig.reports[-1][0] is State.DEGRADED)
        assert rig.reports[-1][1] == (
            "panic button on GPIO17: held for a minute or more, release it or look for a short"
        )
        rig.button().drive_high()
        await until(lambda: rig.reports[-1][0] is State.OK)
        assert len(rig.presses) == 1


async def test_power_is_told_at_first_and_on_each_change() -> None:
    """A torn or dead line reads as lost power, within a second."""
    rig = Rig()
    async with rig.running(power_sense=POWER):
        await until(lambda: rig.power == [False])
        rig.pins.pin(POWER).drive_high()
        await until(lambda: rig.power == [False, True])
        rig.pins.pin(POWER).drive_low()
        began = monotonic()
        await until(lambda: rig.power == [False, True, False])
        assert monotonic() - began < 1


async def test_a_flicker_of_power_is_not_told() -> None:
    """A dip shorter than the settling time is nothing."""
    rig = Rig()
    async with rig.running(power_sense=POWER):
        rig.pins.pin(POWER).drive_high()
        await until(lambda: rig.power == [True])
        rig.pins.pin(POWER).drive_low()
        rig.pins.pin(POWER).drive_high()
        await asyncio.sleep(0.3)
        assert rig.power == [True]


async def test_silent_means_no_light_and_no_sound_on_an_alarm() -> None:
    """By default an alarm moves neither LED nor buzzer."""
    rig = Rig()
    async with rig.running(status_led=LED, buzzer=BUZZER) as running:
        running.show(State.OK)
        await until(lambda: bool(rig.pins.pin(LED).state))
        for number in (LED, BUZZER):
            rig.pins.pin(number).clear_states()
        running.accepted("disk")
        running.accepted("broker")
        running.tell(Told.RECEIVED)
        await asyncio.sleep(0.5)
        assert [state.state for state in rig.pins.pin(LED).states] == [True]
        assert [state.state for state in rig.pins.pin(BUZZER).states] == [False]


@pytest.mark.parametrize(("by", "flashes"), [("disk", 1), ("broker", 3)])
async def test_an_accepted_alarm_is_told_where_that_is_wanted(by: Any, flashes: int) -> None:
    """One long for the disk, three short for the broker, on both; then the status light is back."""
    rig = Rig()
    async with rig.running(silent=False, status_led=LED, buzzer=BUZZER) as running:
        running.show(State.OK)
        await until(lambda: bool(rig.pins.pin(LED).state))
        for number in (LED, BUZZER):
            rig.pins.pin(number).clear_states()
        running.accepted(by)
        await until(lambda: len([s for s in rig.pins.pin(BUZZER).states if s.state]) == flashes)
        await until(lambda: not rig.pins.pin(BUZZER).state)
        await until(lambda: len([s for s in rig.pins.pin(LED).states if s.state]) == flashes + 2)
        assert rig.pins.pin(LED).state


@pytest.mark.parametrize(("silent", "beeps"), [(True, 0), (False, 3)])
async def test_a_test_is_shown_as_one_also_where_alarms_are_not(silent: bool, beeps: int) -> None:
    """Long, short, long; the buzzer keeps still where it should."""
    rig = Rig()
    async with rig.running(silent=silent, status_led=LED, buzzer=BUZZER) as running:
        running.show(State.OK)
        await until(lambda: bool(rig.pins.pin(LED).state))
        for number in (LED, BUZZER):
            rig.pins.pin(number).clear_states()
        running.show_test()
        await until(lambda: len([s for s in rig.pins.pin(LED).states if s.state]) == 3 + 2)
        assert len([s for s in rig.pins.pin(BUZZER).states if s.state]) == beeps


@pytest.mark.parametrize(("told", "flashes"), [(Told.RECEIVED, 2), (Told.ON_THE_WAY, 4), (Told.TIME_UP, 2)])
async def test_what_ops_do_is_told_where_that_is_wanted(told: Told, flashes: int) -> None:
    """Two for received, four for on the way; two long for a visit whose time is up."""
    rig = Rig()
    async with rig.running(silent=False, buzzer=BUZZER) as running:
        running.tell(told)
        await until(lambda: len([s for s in rig.pins.pin(BUZZER).states if s.state]) == flashes)
        await asyncio.sleep(0.7)
        assert len([s for s in rig.pins.pin(BUZZER).states if s.state]) == flashes


async def test_the_status_light_blinks_while_something_is_wrong() -> None:
    """Failed blinks fast; the same state again does not disturb the pattern."""
    rig = Rig()
    async with rig.running(status_led=LED) as running:
        running.show(State.FAILED)
        running.show(State.FAILED)
        await until(lambda: len(rig.pins.pin(LED).states) > 4)


async def test_a_busy_pin_degrades_and_is_taken_once_it_is_free() -> None:
    """The other pins work meanwhile; the busy one is tried again."""
    rig = Rig()
    other = gpiozero.DigitalOutputDevice(LED, pin_factory=rig.pins)
    async with rig.running(panic_button=BUTTON, status_led=LED):
        state, detail = rig.reports[-1]
        assert state is State.DEGRADED
        assert detail.startswith("status LED on GPIO22: ")
        rig.button().drive_low()
        await until(lambda: len(rig.presses) == 1)
        other.close()
        await until(lambda: rig.reports[-1] == (State.OK, "panic button on GPIO17, status LED on GPIO22"))


async def test_a_pin_that_does_not_exist_degrades() -> None:
    """A number the board does not have is reported as the library says it."""
    rig = Rig()
    async with rig.running(buzzer=99):
        state, detail = rig.reports[-1]
        assert state is State.DEGRADED
        assert detail.startswith("buzzer on GPIO99: ")


async def test_a_machine_without_pins_degrades(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pin library: reported, retried, quiet on standard error."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "none-here")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    rig = Rig()
    async with rig.running(default_factory, panic_button=BUTTON):
        state, detail = rig.reports[-1]
        assert state is State.DEGRADED
        assert detail.startswith("panic button on GPIO17: Unable to find pin factory")
        await until(lambda: rig.beats > 2)
        assert len(rig.reports) == 1


async def test_the_library_is_found_late() -> None:
    """A factory that fails at first is asked again."""
    rig = Rig()
    answers = [RuntimeError(), None]

    def factory() -> Any:
        if (error := answers.pop(0) if len(answers) > 1 else None) is not None:
            raise error
        return rig.pins

    async with rig.running(factory, panic_button=BUTTON):
        assert rig.reports[0] == (State.DEGRADED, "panic button on GPIO17: RuntimeError")
        await until(lambda: rig.reports[-1] == (State.OK, "panic button on GPIO17"))


async def test_a_chip_that_vanishes_is_reported_and_power_is_not_known() -> None:
    """An input that cannot be read any more is lost, not off; it is opened again."""
    rig = Rig()
    async with rig.running(power_sense=POWER, status_led=LED) as running:
        await until(lambda: rig.power == [False])
        good = rig.pins.pin(POWER)
        broken = [True]
        read = type(good)._get_state

        class Torn(type(good)):  # type: ignore[misc]  # gpiozero has no types
            def _get_state(self) -> Any:
                if broken:
                    raise OSError(5, "Input/output error")
                return read(self)

        good.__class__ = Torn
        await until(lambda: rig.power == [False, None])
        await until(lambda: "Input/output error" in rig.reports[-1][1])
        running.show(State.OK)
        await until(lambda: bool(rig.pins.pin(LED).state))
        broken.clear()
        await until(lambda: rig.reports[-1][0] is State.OK)
        await until(lambda: rig.power == [False, None, False])


async def test_an_output_that_fails_is_reported_and_opened_again() -> None:
    """A light that cannot be switched degrades; it is shown again once it can."""
    rig = Rig()
    async with rig.running(status_led=LED) as running:
        pin = rig.pins.pin(LED)
        broken = [True]
        write = type(pin)._set_state

        class Torn(type(pin)):  # type: ignore[misc]  # gpiozero has no types
            def _set_state(self, value: Any) -> None:
                if broken:
                    raise OSError(5, "Input/output error")
                write(self, value)

        pin.__class__ = Torn
        running.show(State.OK)
        await until(lambda: rig.reports[-1][0] is State.DEGRADED)
        broken.clear()
        await until(lambda: bool(pin.state) and rig.reports[-1][0] is State.OK)


async def test_the_pins_are_free_after_the_end() -> None:
    """When the daemon stops, or reloads, another may have the pins."""
    rig = Rig()
    async with rig.running(panic_button=BUTTON, buzzer=BUZZER):
        pass
    for number in (BUTTON, BUZZER):
        gpiozero.DigitalOutputDevice(number, pin_factory=rig.pins).close()
