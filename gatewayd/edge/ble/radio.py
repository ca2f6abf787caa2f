"""One scan after another through bleak, each supervised, so that the gateway knows whether it really hears.

An active scan with every repeat reported. It can die without a callback or an exception (an adapter that was
off and on, a bluetoothd that was restarted), so the adapter is looked at every second, and whatever ends a
scan, a fresh one on a fresh connection follows. Silence alone proves nothing on a country road; an owned tag
that always advertises (the canary) does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

from bleak import BleakScanner
from bleak.backends.bluezdbus import manager as bleak_manager
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError

from gatewayd.config import model as config
from gatewayd.core.health import Alive, Report
from gatewayd.core.model import Advertisement, State
from gatewayd.edge.ble.bluez import (
    DEVICE,
    Adapter,
    Bluetoothd,
    UnavailableError,
    connect,
    disconnect,
    within,
)

logger = logging.getLogger(__name__)

# What bleak says where BlueZ tells no signal strength. BlueZ withdraws a device's when a scan ends: such a
# callback is no advertisement and proves no hearing, though its data are passed on like any other.
_NO_RSSI_DBM: Final = -127
_STOP_LIMIT_S: Final = 1.0  # the daemon must be down within 5 s, and the connection is closed anyway
# bleak 3 takes the adapter in `bluez`, 0.22 as a keyword; each silently ignores the other's form. The layout
# tells them apart: to read a version takes as long as to import all of bleak.
_ADAPTER_IN_BLUEZ: Final = find_spec("bleak.args") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long the radio waits for what. The defaults are for real hardware; tests are in a hurry."""

    check_s: float = 1.0  # a scan that died is noticed within this time
    # BlueZ answers within milliseconds; right after bluetoothd was killed a call can take 25 s. One that is
    # given up and made anew is sooner through, and a sign of life is due every 5 s.
    call_s: float = 4.0
    doubt_s: float = 0.3  # BlueZ may restart a discovery by itself: not discovering must be seen twice
    canary_s: float = 30.0  # a canary advertises at least every few seconds
    silence_s: float = 600.0  # without one: long enough that fresh scans on a country road cost nothing
    retry_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0)  # the last one for ever


# Whether an advertisement with this address, service data and manufacturer data is wanted.
Concerns: TypeAlias = Callable[[str, Mapping[str, bytes], Mapping[int, bytes]], bool]


def _everything(
    _address: str, _service_data: Mapping[str, bytes], _manufacturer_data: Mapping[int, bytes]
) -> bool:
    return True


class Radio:
    """Hears advertisements until it is cancelled, whatever happens to adapter, bluetoothd or D-Bus.

    `on_advertisement` is called in the event loop for every report that `concerns` wants (default: all of
    them), repeats included: both must be cheap and must not raise. It is given the data that were sent now,
    though BlueZ and bleak keep those of earlier frames of the device too, so that the other slots of a tag do
    not pass for an alarm slot that goes on for ever. A press is decided on counters or edges all the same,
    never on being called.

    How that can be told: while a client asks for duplicates BlueZ signals `ManufacturerData`, and likewise
    `ServiceData`, with every frame that has such data, and the property then holds the entries of this frame
    (and its scan response) only; a frame without such data leaves the property alone and unsignalled. What
    cannot be told: of two frames with the same property that bluetoothd takes in one turn of its loop the
    later one's data are signalled alone; a burst's next copy makes up for it. And in the second before a scan
    that died is replaced, BlueZ may merge entries within a property.
    """

    def __init__(
        self,
        settings: config.Radio,
        *,
        on_advertisement: Callable[[Advertisement], None],
        report: Report,
        alive: Alive,
        concerns: Concerns = _everything,
        timing: Timing | None = None,
    ) -> None:
        self._wanted = settings.adapter
        self._canary = settings.canary.upper() if settings.canary else None
        self._on_advertisement = on_advertisement
        self._concerns = concerns
        self._report = report
        self._alive = alive
        self._timing = timing or Timing()
        self._proof_s = self._timing.canary_s if self._canary else self._timing.silence_s
        self._patience_s = self._proof_s
        self._heard_s: float | None = None  # the last proof that this scan hears, CLOCK_MONOTONIC
        self._nudge: Callable[[], None] = lambda: None
        self._remembered: dict[str, dict[str, dict[str, Any]]] = {}  # bleak's: path, interface, property
        self._said: tuple[State, str] | None = None

    async def run(self) -> None:
        """Scan until cancelled. A failure is reported and tried again after at most 5 s, for ever."""
        failures = 0
        while True:
            self._heard_s = None
            failed = await self._attempt()
            failures = failures + 1 if failed and not self._has_heard() else 0
            self._alive()
            await asyncio.sleep(self._timing.retry_s[min(failures, len(self._timing.retry_s) - 1)])

    async def _attempt(self) -> bool:
        """One connection with one scan on it; whether it failed."""
        try:
            async with connect(self._timing.call_s) as bluetoothd:
                self._nudge = bluetoothd.nudge
                await self._scan(bluetoothd)
        except UnavailableError as error:
            self._say(State.FAILED, str(error))
        except BleakError as error:
            self._say(State.FAILED, f"the scan does not start: {error}")
        except Exception as error:  # when BlueZ answers oddly bleak raises KeyError, AssertionError, …
            if self._say(State.FAILED, f"the scan ended: {type(error).__name__}: {error}"):
                logger.exception("the scan ended unexpectedly; trying again")
        else:
            return False
        return True

    async def _scan(self, bluetoothd: Bluetoothd) -> None:
        """One scan, from the choice of the adapter to its end."""
        self._alive()
        adapter = choose(await bluetoothd.adapters(), self._wanted)
        bluetoothd.watch(adapter.path)
        # Before the scan: the kernel decides about the duplicate filter when a scan starts.
        self._alive()
        no_monitor = await bluetoothd.register_monitor(adapter.path)
        scanner = self._scanner(adapter.name)
        try:
            self._alive()
            await within(self._timing.call_s, "starting the scan", self._start(scanner, bluetoothd))
            await self._supervise(bluetoothd, adapter, no_monitor)
        except UnavailableError as error:
            self._say(State.FAILED, str(error))  # now: to clean up takes a second when bluetoothd is gone
            raise
        finally:
            with suppress(Exception):  # a dead scan cannot be stopped; its connection is closed next
                async with asyncio.timeout(_STOP_LIMIT_S):
                    await scanner.stop()
            self._alive()
            await forget_connection()

    def _scanner(self, name: str) -> BleakScanner:
        old_form: dict[str, Any] = {} if _ADAPTER_IN_BLUEZ else {"adapter": name}
        return BleakScanner(
            self._heard, bluez={"adapter": name, "filters": {"DuplicateData": True}}, **old_form
        )

    async def _start(self, scanner: BleakScanner, bluetoothd: Bluetoothd) -> None:
        """Start a scan that tells nothing of what bluetoothd heard before it."""
        manager = await bleak_manager.get_global_bluez_manager()
        self._remembered = manager._properties
        # Between asking for all devices and using the answer bleak drops what it is told, and of a device it
        # does not know it hands on nothing, for as long as that advertises: what the monitor heard is added.
        for path, interfaces in (await bluetoothd.devices()).items():
            self._remembered.setdefault(path, interfaces)
        for path in self._remembered:
            self._forget(path)
        await scanner.start()

    def _forget(self, path: str) -> None:
        """Take a device's data out of bleak's memory: its next callback has what is signalled then, alone."""
        properties = self._remembered.get(path, {}).get(DEVICE)
        if properties is not None:
            properties.pop("ManufacturerData", None)
            properties.pop("ServiceData", None)

    def _heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        now_s = time.monotonic()
        rssi_dbm = None if data.rssi == _NO_RSSI_DBM else data.rssi
        if self._concerns(device.address, data.service_data, data.manufacturer_data):
            self._on_advertisement(
                Advertisement(
                    address=device.address,
                    heard_s=now_s,
                    rssi_dbm=rssi_dbm,
                    name=data.local_name,
                    service_data=data.service_data,
                    manufacturer_data=data.manufacturer_data,
                )
            )
            self._forget(data.platform_data[0])
        if rssi_dbm is not None and (self._canary is None or self._canary == device.address):
            if self._heard_s is None:
                self._nudge()
            self._heard_s = now_s

    async def _supervise(self, bluetoothd: Bluetoothd, adapter: Adapter, no_monitor: str | None) -> None:
        """Look after a running scan; returns when it has been silent for too long, raises when it is dead."""
        began_s = time.monotonic()
        doubted = False
        while True:
            if bluetoothd.ended:  # before asking: a bluetoothd that is only starting takes seconds to answer
                raise UnavailableError(bluetoothd.ended)
            now = await bluetoothd.adapter(adapter.path)
            self._alive()
            if not now.powered:
                raise UnavailableError(_off(now))
            if not now.discovering and doubted:
                raise UnavailableError(f"{adapter.name} stopped scanning: starting again")
            doubted = not now.discovering
            lacking = None if bluetoothd.monitor_active else no_monitor or "bluetoothd released ours"
            self._judge(adapter.name, lacking)
            if self._silent_too_long(began_s):
                return
            if doubted:
                await asyncio.sleep(self._timing.doubt_s)
            else:
                await bluetoothd.change(self._timing.check_s)

    def _judge(self, name: str, no_monitor: str | None) -> None:
        """Say how the radio is, given that it scans."""
        shortcomings = []
        if no_monitor:
            shortcomings.append(
                f"advertisement monitors are not available ({no_monitor}): repeated presses may be missed"
            )
        who = "the canary" if self._canary else "anything"
        if not self._has_heard():
            shortcomings.append(f"has not heard {who} yet")
        elif self._silent_s(0.0) > self._proof_s:
            shortcomings.append(f"has not heard {who} for {self._proof_s:g} s")
        else:
            self._patience_s = self._proof_s
        if shortcomings:
            self._say(State.DEGRADED, f"{name} scans; " + "; ".join(shortcomings))
        else:
            self._say(State.OK, f"{name} scans and hears")

    def _silent_too_long(self, began_s: float) -> bool:
        """Whether a fresh scan is worth it: ever more rarely while it does not help."""
        if self._silent_s(began_s) <= self._patience_s:
            return False
        self._patience_s = min(2 * self._patience_s, self._timing.silence_s)
        return True

    def _has_heard(self) -> bool:
        return self._heard_s is not None

    def _silent_s(self, began_s: float) -> float:
        """How long ago the last proof of hearing is, or the scan's beginning where there is none."""
        return time.monotonic() - (began_s if self._heard_s is None else self._heard_s)

    def _say(self, state: State, detail: str) -> bool:
        """Report on change; whether it was one."""
        if self._said == (state, detail):
            return False
        self._said = (state, detail)
        self._report(state, detail)
        return True


def choose(adapters: tuple[Adapter, ...], wanted: str | None) -> Adapter:
    """The adapter to scan with: by name, by address (numbers change, it does not), or the first that is on.

    Raises UnavailableError when it is not there or off.
    """
    if not adapters:
        raise UnavailableError("no Bluetooth adapter: plug one in, or see `rfkill list` and `dmesg`")
    candidates = [a for a in adapters if wanted is None or wanted.upper() in {a.name.upper(), a.address}]
    if not candidates:
        found = ", ".join(f"{a.name} {a.address}" for a in adapters)
        raise UnavailableError(f"expected adapter {wanted}, found {found}: plug it in or see [radio] adapter")
    for adapter in candidates:
        if adapter.powered:
            return adapter
    raise UnavailableError(_off(candidates[0]))


def _off(adapter: Adapter) -> str:
    return f"{adapter.name} is off: `rfkill unblock bluetooth`, then `bluetoothctl power on`"


async def forget_connection() -> None:
    """Close this event loop's connection of bleak to the bus, so that bluetoothd forgets its scan.

    bleak keeps one for ever and has no way to drop it. After a start that was given up bluetoothd may count
    a scan that bleak does not know of, and then answers every new one with InProgress.
    """
    manager = bleak_manager._global_instances.get(asyncio.get_running_loop())
    if manager is not None and manager._bus is not None:
        bus, manager._bus = manager._bus, None
        await disconnect(bus)
