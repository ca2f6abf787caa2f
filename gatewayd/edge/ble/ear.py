"""One adapter: one scan after another through bleak, each supervised, so that it is known whether it hears.

An active scan with every repeat reported. It can die without a callback or an exception (an adapter that was
off and on, a bluetoothd that was restarted), so the adapter is looked at every second, and whatever ends a
scan, a fresh one on a fresh connection follows; what else is done is decided in core/recovery. Silence alone
proves nothing on a country road; that of an owned tag that always advertises (the canary) does, while that
tag is well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from bleak.backends.bluezdbus.manager import BlueZManager
from bleak.exc import BleakError
from dbus_fast import Variant

from gatewayd.core.health import Alive
from gatewayd.core.model import Advertisement, State
from gatewayd.core.recovery import (
    LADDER,
    STEADY_S,
    UNPROVEN,
    Climb,
    Finding,
    Hearing,
    Ladder,
    Step,
    climb,
    trusted,
)
from gatewayd.edge.ble.bluez import (
    DEVICE,
    EXPERIMENTAL,
    Adapter,
    Bluetoothd,
    UnavailableError,
    connect,
    disconnect,
    within,
)
from gatewayd.edge.ble.remedies import Remedies

logger = logging.getLogger(__name__)

_STOP_LIMIT_S: Final = 1.0  # the daemon must be down within 5 s, and the connection is closed anyway
_FILTERS: Final = {"Transport": Variant("s", "le"), "DuplicateData": Variant("b", True)}
# What bluetoothd, or the bus, tells the end of: no need to wait longer.
_TOLD: Final = frozenset({Finding.OFF, Finding.GONE, Finding.NOT_RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the radio waits for what. The defaults are for real hardware; tests are in a hurry."""

    check_s: float = 1.0  # a scan that died is noticed within this time
    # BlueZ answers within milliseconds; right after bluetoothd was killed a call can take 25 s. One that is
    # given up and made anew is sooner through, and a sign of life is due every 5 s.
    call_s: float = 4.0
    doubt_s: float = 0.3  # BlueZ may restart a discovery by itself: not discovering must be seen twice
    # A canary advertises every second or so. With a look every second, and a second before health tells of
    # what got worse, its silence is told within 10 s.
    canary_s: float = 7.0
    # Without one that is trusted: what was heard a minute ago does not prove that it hears now.
    silence_s: float = 60.0
    monitor_s: float = (
        60.0  # a monitor that failed once is tried again; that costs a tenth of a second's hearing
    )
    # Signals tell of an adapter that comes. To ask costs a good part of a second among a thousand devices.
    look_out_s: float = 300.0
    retry_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0)  # the last one for ever
    ladder: Ladder = field(default_factory=lambda: LADDER)


# Whether an advertisement with this address, service data, manufacturer data and strength is wanted.
Concerns: TypeAlias = Callable[[str, Mapping[str, bytes], Mapping[int, bytes], int | None], bool]


class Ear:
    """Hears advertisements with one adapter until it is cancelled, whatever happens to it.

    `choose` picks the adapter and may raise UnavailableError; `changed` is called when `hearing` has changed;
    `alone` tells whether no other adapter hears. The rest is as in `Radio`, which see.
    """

    def __init__(
        self,
        *,
        choose: Callable[[Ear, tuple[Adapter, ...]], Adapter],
        canary: str | None,
        on_advertisement: Callable[[Advertisement], None],
        concerns: Concerns,
        changed: Callable[[], None],
        alone: Callable[[Ear], bool],
        alive: Callable[[Ear], None],
        remedies: Remedies | None,
        timing: Timing,
    ) -> None:
        self.adapter: Adapter | None = None  # that it scans with, or tries to
        self.path: str | None = None  # of the adapter, as it was last seen; None: it has none to mend
        self.hearing: Hearing | None = None  # None: nothing is known yet
        self.trusted = False  # the canary: its silence would show that the radio is deaf
        self.failing: Climb | None = None  # what is done about scans that fail
        self.nudge: Callable[[], None] = lambda: None  # has it look again, at once
        self._choose = choose
        self._canary = canary
        self._on_advertisement = on_advertisement
        self._concerns = concerns
        self._changed = changed
        self._alone = alone
        self._alive: Alive = lambda: alive(self)
        self._remedies = remedies
        self._timing = timing
        self._usb: str | None = None  # likewise: the device it is
        self._manager: BlueZManager | None = None  # bleak's, of the running scan
        self._remembered: dict[str, dict[str, dict[str, Any]]] = {}  # bleak's: path, interface, property
        self._heard_s: float | None = None  # anything, since a scan failed, CLOCK_MONOTONIC
        self._canary_s: float | None = None  # likewise: the canary
        self._well_s: float | None = None  # when bluetoothd was last asked and said that it scans, likewise
        self._failures = 0  # in a row, without anything heard between
        self._silent: Climb | None = None  # what is done about a scan that hears nothing

    async def run(self) -> None:
        """Scan until cancelled. A failure is told and tried again after at most 5 s, for ever."""
        while True:
            step, pause_s = await self._attempt()
            self._alive()
            await self._take(step)
            await asyncio.sleep(pause_s)

    async def _attempt(self) -> tuple[Step, float]:
        """One connection and the scans on it: what is to be done then, and how long to wait after it."""
        soon_s = self._timing.retry_s[0]
        try:
            async with connect(self._timing.call_s) as bluetoothd:
                self.nudge = bluetoothd.nudge
                try:
                    return await self._scan(bluetoothd), soon_s
                except UnavailableError as error:
                    if error.finding is Finding.TAKEN:
                        await self._look_out(bluetoothd, error)
                        return Step.NEW_SCANNER, soon_s
                    if error.finding not in _TOLD:
                        raise
                    step, pause_s = self._fail(error)
                    if step is Step.NEW_SCANNER:
                        await bluetoothd.change(pause_s)
                    return step, soon_s
        except UnavailableError as error:
            return self._fail(error)
        except BleakError as error:
            return self._fail(UnavailableError(f"the scan does not start: {error}", Finding.REFUSED))
        except Exception as error:  # when BlueZ answers oddly bleak raises KeyError, AssertionError, …
            text = f"the scan ended: {type(error).__name__}: {error}"
            if self._say(State.FAILED, text):
                logger.exception("the scan ended unexpectedly; trying again")
            return self._fail(UnavailableError(text, Finding.REFUSED))

    def _fail(self, error: UnavailableError) -> tuple[Step, float]:
        """Say so; what is to be done about it, and how long to wait then."""
        self._say(State.FAILED, str(error))
        self._failures = 0 if self._heard_s is not None else self._failures + 1
        now_s = time.monotonic()
        if self.failing is None or self._heard_s is not None:
            self.failing = Climb(since_s=now_s)
        self._heard_s = self._canary_s = None
        self.failing, step = self._climb(self.failing, error.finding, now_s)
        return step, self._timing.retry_s[min(self._failures, len(self._timing.retry_s) - 1)]

    async def _look_out(self, bluetoothd: Bluetoothd, error: UnavailableError) -> None:
        """Forget the adapter that others have now, and wait until there is news of one."""
        self._say(State.FAILED, str(error))
        # One that had an adapter did not listen for others yet: it does so when it asks once more.
        until_s = time.monotonic() + (self._timing.look_out_s if self.path is None else 0.0)
        self.path = self._usb = self._heard_s = self._canary_s = self.failing = self._silent = None
        self._failures = 0
        while not bluetoothd.news and bluetoothd.connected and time.monotonic() < until_s:
            self._alive()
            await bluetoothd.change(self._timing.check_s)

    def _climb(self, before: Climb, finding: Finding, now_s: float) -> tuple[Climb, Step]:
        able = {Step.NEW_SCANNER} if self._remedies is None else self._remedies.able(
            self.path, self._usb, alone=self._alone(self)
        )  # fmt: skip
        return climb(before, finding, now_s, able, self._timing.ladder)

    async def _take(self, step: Step) -> None:
        """Take a step, if it is more than a fresh scan."""
        if self._remedies is None or step is Step.NEW_SCANNER:
            return
        name = self.path.rpartition("/")[2] if self.path else "the radio"
        logger.warning("%s does not hear (%s): %s", name, self.hearing and self.hearing.detail, step)
        try:
            await self._remedies.take(step, self.path, self._usb, self._timing.call_s)
        except (UnavailableError, OSError) as error:
            logger.warning("%s: the %s failed: %s", name, step, error)
        self._alive()

    async def _scan(self, bluetoothd: Bluetoothd) -> Step:
        """Scan with an adapter until something else than a fresh scan is to be done."""
        self._alive()
        if self.path is None:
            await bluetoothd.expect_adapters()
        adapters = await bluetoothd.adapters()
        self.adapter = None
        self.adapter = adapter = self._choose(self, adapters)
        self.path = adapter.path
        self._usb = self._remedies.usb_device(adapter.name) if self._remedies else None
        if not adapter.powered:
            raise UnavailableError(_off(adapter), Finding.OFF)
        bluetoothd.watch(adapter.path)
        # Before the scan: the kernel decides about the duplicate filter when a scan starts.
        self._alive()
        no_monitor = await bluetoothd.register_monitor(adapter.path)
        step = Step.NEW_SCANNER
        while step is Step.NEW_SCANNER:
            step = await self._listen(bluetoothd, adapter, no_monitor)
            if step is Step.NEW_SCANNER and not bluetoothd.monitor_active and no_monitor != EXPERIMENTAL:
                return step  # on a connection of its own: the monitor is to be registered anew
        self._heard_s = self._canary_s = None
        self._say(State.FAILED, f"{adapter.name} hears nothing: {step}")
        return step

    async def _listen(self, bluetoothd: Bluetoothd, adapter: Adapter, no_monitor: str | None) -> Step:
        """One scan, on a connection of its own; the step that is to follow."""
        manager = BlueZManager()
        try:
            self._alive()
            starting = self._start(manager, bluetoothd, adapter.path)
            stop = await within(self._timing.call_s, "starting the scan", starting)
            try:
                return await self._supervise(bluetoothd, adapter, no_monitor)
            except UnavailableError as error:
                self._say(State.FAILED, str(error))  # now: to stop takes a second when bluetoothd is gone
                raise
            finally:
                with suppress(Exception):  # a dead scan cannot be stopped; its connection is closed next
                    async with asyncio.timeout(_STOP_LIMIT_S):
                        await stop()
        except UnavailableError as error:
            self._say(State.FAILED, str(error))
            raise
        finally:
            self._alive()
            self._manager = None
            await drop(manager)

    async def _start(
        self, manager: BlueZManager, bluetoothd: Bluetoothd, path: str
    ) -> Callable[[], Awaitable[None]]:
        """Start a scan that tells nothing of what bluetoothd heard before it; returns what stops it."""
        await manager.async_init()
        self._manager, self._remembered = manager, manager._properties
        # Between asking for all devices and using the answer bleak drops what it is told, and of a device it
        # does not know it hands on nothing, for as long as that advertises: what the monitor heard is added.
        for device, interfaces in (await bluetoothd.devices()).items():
            self._remembered.setdefault(device, interfaces)
        for device in self._remembered:
            self._forget(device)
        return await manager.active_scan(path, _FILTERS, self._hear, lambda _: None)

    def _forget(self, path: str) -> None:
        """Take a device's data out of bleak's memory: its next callback has what is signalled then, alone."""
        properties = self._remembered.get(path, {}).get(DEVICE)
        if properties is not None:
            properties.pop("ManufacturerData", None)
            properties.pop("ServiceData", None)

    def _hear(self, path: str, properties: Mapping[str, Any]) -> None:
        """Take what bleak tells of a device: all of its properties, after one of them was signalled."""
        now_s = time.monotonic()
        address = properties["Address"]
        service_data = properties.get("ServiceData", {})
        manufacturer_data = properties.get("ManufacturerData", {})
        rssi_dbm = properties.get("RSSI")
        if self._concerns(address, service_data, manufacturer_data, rssi_dbm):
            self._on_advertisement(
                Advertisement(
                    address=address,
                    heard_s=now_s,
                    rssi_dbm=rssi_dbm,
                    name=properties.get("Name"),
                    service_data=service_data,
                    manufacturer_data=manufacturer_data,
                )
            )
        self._forget(path)  # also a stranger's: it may be assigned by its next frame
        # BlueZ withdraws a device's signal strength when a scan ends: that is no advertisement, and proves no
        # hearing, though its data are passed on like any other.
        if rssi_dbm is not None:
            if self._heard_s is None or (self._canary_s is None and address == self._canary):
                self.nudge()
            self._heard_s = now_s
            if address == self._canary:
                self._canary_s = now_s

    async def _supervise(self, bluetoothd: Bluetoothd, adapter: Adapter, no_monitor: str | None) -> Step:
        """Look after a running scan; the step that its silence asks for. Raises when it is dead."""
        began_s = time.monotonic()
        doubted = False
        while True:
            if bluetoothd.ended is not None:  # before asking: one that only starts takes seconds to answer
                raise bluetoothd.ended
            asked_s = time.monotonic()
            now = await bluetoothd.adapter(adapter.path)
            self._alive()
            if not now.powered:
                raise UnavailableError(_off(now), Finding.OFF)
            if not now.discovering and doubted:
                text = f"{adapter.name} stopped scanning: starting again"
                raise UnavailableError(text, Finding.REFUSED)
            doubted = not now.discovering
            self._well_s = self._well_s if doubted else asked_s
            lacking = None if bluetoothd.monitor_active else no_monitor or "bluetoothd released ours"
            step = self._judge(adapter.name, lacking, began_s)
            if step is Step.LISTEN and lacking not in {None, EXPERIMENTAL}:
                step = Step.NEW_SCANNER if time.monotonic() - began_s > self._timing.monitor_s else step
            if step is not Step.LISTEN:
                return step
            if doubted:
                await asyncio.sleep(self._timing.doubt_s)
            else:
                await bluetoothd.change(self._timing.check_s)

    def _judge(self, name: str, no_monitor: str | None, began_s: float) -> Step:
        """Say how the scan is, given that it runs since `began_s`; the step that it asks for."""
        now_s = time.monotonic()
        if now_s - began_s >= STEADY_S:
            self.failing = None
        shortcomings = []
        if no_monitor:
            shortcomings.append(
                f"advertisement monitors are not available ({no_monitor}): repeated presses may be missed"
            )
        lacking = self._unheard(now_s)
        self.trusted = trusted(
            self.trusted, heard_s=self._heard_s, canary_s=self._canary_s, began_s=began_s,
            within_s=self._timing.canary_s,
        )  # fmt: skip
        proof_s = self._timing.canary_s if self.trusted else self._timing.silence_s
        if self._heard_s is not None and now_s - self._heard_s <= proof_s:
            self.failing = self._silent = None
            if lacking:
                shortcomings.append(f"hears others, but {lacking}: look at its battery")
            if shortcomings:
                self._say(State.DEGRADED, f"{name} scans; " + "; ".join(shortcomings))
            else:
                self._say(State.OK, f"{name} scans and hears")
            return Step.LISTEN
        until_s = self._heard_s or began_s
        detail = f"{UNPROVEN}{name} scans; " + "; ".join([lacking or "", *shortcomings])
        self._say(State.DEGRADED, detail, until_s)
        if self._silent is None:
            self._silent = Climb(since_s=until_s)
        finding = Finding.CANARY_SILENT if self.trusted else Finding.SILENT
        self._silent, step = self._climb(self._silent, finding, now_s)
        return step

    def _unheard(self, now_s: float) -> str | None:
        """What should have been heard lately and was not, in words; None when it was."""
        if self._canary is None:
            who, heard_s, within_s = "anything", self._heard_s, self._timing.silence_s
        else:
            who, heard_s, within_s = "the canary", self._canary_s, self._timing.canary_s
        if heard_s is None:
            return f"has not heard {who} yet"
        return f"has not heard {who} for {within_s:g} s" if now_s - heard_s > within_s else None

    def _say(self, state: State, detail: str, until_s: float | None = None) -> bool:
        """Tell on change; whether it was one. `until_s`: until when it heard."""
        if state is State.FAILED:
            until_s = max((at_s for at_s in (self._well_s, self._heard_s) if at_s is not None), default=None)
        hearing = Hearing(state=state, detail=detail, until_s=until_s)
        if self.hearing == hearing:
            return False
        self.hearing = hearing
        self._changed()
        return True


def _off(adapter: Adapter) -> str:
    return f"{adapter.name} is off: `rfkill unblock bluetooth`, then `bluetoothctl power on`"


async def drop(manager: BlueZManager) -> None:
    """Close bleak's connection to the bus, so that bluetoothd forgets the scan on it.

    After a start that was given up bluetoothd may count a scan that bleak does not know of, and then answers
    every new one on that connection with InProgress.
    """
    if manager._bus is not None:
        bus, manager._bus = manager._bus, None
        await disconnect(bus)
