"""The GPS receiver: a serial port, or gpsd's share of one. Bytes in, fixes out; it never gives up.

A port that vanishes is opened again when it is back; a wrong baud rate is found by trying; silence and a
missing fix are told. What the bytes mean is `core.fix`'s business. gpsd is asked for NMEA and not for its
JSON: it passes a receiver's own sentences on (and makes some of binary protocols), so that both sources
take the same way and nothing a receiver said is lost.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

import serial

from gatewayd.config.model import Gps as Settings
from gatewayd.config.model import GpsdSource, SerialSource
from gatewayd.core.fix import Receiver
from gatewayd.core.health import Alive, Report
from gatewayd.core.model import Fix, Instant, State

# The commonest first: what receivers are sold with, then what they are set to, then the rest.
BAUDS: Final = (9600, 115200, 38400, 57600, 4800, 19200)
# Bytes for this long and no sentence among them: the next rate. A receiver sends every second, and a
# sentence takes 0.2 s at 4800 baud.
PROBE_S: Final = 2.0
# No sentence for this long is a fault: of the wiring, the baud rate or the receiver. Ten epochs.
SILENT_S: Final = 10.0
# No fix for this long is told; under trees and bridges one comes and goes within seconds.
NO_FIX_S: Final = 10.0
# A receiver pauses between its bursts for longer than this, and within one for less: the epoch is over.
PAUSE_S: Final = 0.1
# Between two reads of a port: a UART has something every 8 bytes, and a wake-up for each is what listening
# would cost most. Shorter than the pause, so that none is taken for one; none after a read that brought much,
# for the kernel keeps 4096 bytes.
REST_S: Final = 0.05
TRICKLE_BYTES: Final = 512
# How often it is looked whether something is due when nothing comes; also the sign of life.
TICK_S: Final = 0.5
# Between two attempts to open; doubled up to the last, so that a replugged receiver is found in 2 s.
RETRY_FIRST_S: Final = 0.25
RETRY_LAST_S: Final = 2.0
# A driver that takes longer hangs; a port opens in milliseconds, gpsd answers in less than a second.
OPEN_S: Final = 5.0
# The daemon's stop waits no longer for a port to close; the end of the process closes it in any case.
CLOSE_S: Final = 1.0
_READ_BYTES: Final = 4096

_WATCH: Final = b'?WATCH={"enable":true,"nmea":true}\n'
# What a device may raise: pyserial lets termios.error through, and ValueError for a wrong URL.
_DEVICE_ERRORS: Final = (OSError, EOFError, ValueError, termios.error)
_HINTS: Final = {
    errno.ENOENT: "is it plugged in?",
    errno.ENODEV: "is it plugged in?",
    errno.ENXIO: "is it plugged in?",
    errno.EACCES: "is the user in the group dialout?",
    errno.EAGAIN: "another program holds it; if that is gpsd, use gpsd:// as the source",
    errno.ECONNREFUSED: "is gpsd running?",
}

_T = TypeVar("_T")
_Read = Callable[[], Awaitable[bytes]]


class Gps:
    """Listens to the receiver and gives each fix to `on_fix`, newest last.

    `report` is told every change of state: ok with a fix, degraded without one or without a sentence,
    failed while the device cannot be opened. `alive` is called at least every
    two seconds, the longest wait before another attempt to open.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_fix: Callable[[Fix], None],
        report: Report,
        alive: Alive,
        now: Callable[[], Instant],
        open_port: Callable[..., serial.Serial] = serial.serial_for_url,
    ) -> None:
        self._source = settings.source
        self._name = _named(settings.source)
        self._on_fix = on_fix
        self._report = report
        self._alive = alive
        self._now = now
        self._open_port = open_port
        self._said: tuple[State, str] | None = None
        self._baud: int | None = None  # the rate at which sentences came last

    async def run(self) -> None:
        """Listen until cancelled."""
        if self._source is None:
            self._say(State.OFF, "not configured")
            return
        retry_s = RETRY_FIRST_S
        while True:
            session = _Session(self._now)
            try:
                if isinstance(self._source, SerialSource):
                    await self._listen_serial(self._source, session)
                else:
                    await self._listen_gpsd(self._source, session)
            except _DEVICE_ERRORS as error:
                self._tell(session.flush())
                self._say(State.FAILED, f"{self._name}: {_explained(error)}")
            retry_s = RETRY_FIRST_S if session.heard else min(retry_s * 2, RETRY_LAST_S)
            self._alive()
            await asyncio.sleep(retry_s)

    async def _listen_serial(self, source: SerialSource, session: _Session) -> None:
        tuner = _Tuner(source.baud, self._baud)
        port = await self._patiently(
            _aside(lambda: self._open_port(source.device, baudrate=tuner.baud, timeout=0, exclusive=True))
        )
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        fd = port.fileno()

        rest_s = 0.0

        async def read() -> bytes:
            nonlocal rest_s
            await asyncio.sleep(rest_s)
            ready.clear()
            loop.add_reader(fd, ready.set)
            await ready.wait()
            loop.remove_reader(fd)
            # Readable and yet empty is the end of a device: pyserial raises then.
            data = bytes(port.read(_READ_BYTES))
            rest_s = REST_S if len(data) < TRICKLE_BYTES else 0.0
            return data

        def retune() -> None:
            if tuner.due(session):
                port.baudrate = tuner.baud
                port.reset_input_buffer()

        close_s = None  # while the daemon runs: as long as it takes, for a second opening would hang too
        try:
            await self._listen(read, session, tuner=tuner, retune=retune)
        except asyncio.CancelledError:
            close_s = CLOSE_S
            raise
        finally:
            self._baud = tuner.baud if session.heard else self._baud
            loop.remove_reader(fd)
            with suppress(*_DEVICE_ERRORS):  # what failed before it, or the cancellation, is what counts
                async with asyncio.timeout(close_s):
                    await self._patiently(_aside(port.close))

    async def _listen_gpsd(self, source: GpsdSource, session: _Session) -> None:
        async with asyncio.timeout(OPEN_S):
            reader, writer = await self._patiently(asyncio.open_connection(source.host, source.port))
        try:
            writer.write(_WATCH)

            async def read() -> bytes:
                data = await reader.read(_READ_BYTES)
                if not data:
                    raise EOFError("gpsd closed the connection")
                return data

            await self._listen(read, session)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _listen(
        self,
        read: _Read,
        session: _Session,
        *,
        tuner: _Tuner | None = None,
        retune: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what comes until the source fails; look every `TICK_S` whether it is as it should be."""
        self._judge(session, tuner)
        reading = asyncio.ensure_future(read())
        try:
            while True:
                await asyncio.wait({reading}, timeout=PAUSE_S if session.unflushed else TICK_S)
                if reading.done():
                    fixes = session.take(reading.result())
                    reading = asyncio.ensure_future(read())
                else:
                    fixes = session.flush()
                self._tell(fixes)
                retune()
                self._judge(session, tuner)
                self._alive()
        finally:
            reading.cancel()

    def _tell(self, fixes: list[Fix]) -> None:
        for fix in fixes:
            self._on_fix(fix)

    def _judge(self, session: _Session, tuner: _Tuner | None) -> None:
        at = "" if tuner is None else f" at {tuner.baud} baud"
        if session.silent_s >= SILENT_S:
            what = "bytes but no sentence" if session.garbled else "no sentence"
            self._say(
                State.DEGRADED,
                f"{what} for {SILENT_S:.0f} s from {self._name}: check wiring, baud, that it sends NMEA",
            )
        elif not session.heard:
            if self._said is None or self._said[0] is State.FAILED:
                self._say(State.DEGRADED, f"waiting for a sentence from {self._name}")
        elif session.without_fix_s >= NO_FIX_S:
            self._say(State.DEGRADED, f"no fix from {self._name}{at}", f", {session.satellites} satellites")
        elif session.fixed:
            but = ""
            if tuner is not None and tuner.configured not in {None, tuner.baud}:
                but += f", not {tuner.configured} as configured"
            if session.disbelieved_utc_s is not None:
                wrong = datetime.fromtimestamp(session.disbelieved_utc_s, UTC).date()
                but += f", its date {wrong} is before this release (week number rolled over?) and not used"
            self._say(State.OK, f"fix from {self._name}{at}{but}")

    async def _patiently(self, awaitable: Awaitable[_T]) -> _T:
        """Wait with signs of life, and say so when it takes too long."""
        future = asyncio.ensure_future(awaitable)
        began_s = self._now().mono_s
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=TICK_S)
                self._alive()
                if self._now().mono_s - began_s > OPEN_S and not future.done():
                    self._say(State.FAILED, f"{self._name} hangs while it is opened or closed")
            return future.result()
        finally:
            future.cancel()

    def _say(self, state: State, reason: str, figures: str = "") -> None:
        """Report a change; the same reason with other figures is no change."""
        if (state, reason) == self._said:
            return
        self._said = (state, reason)
        self._report(state, reason + figures)


class _Session:
    """One opening of the source: what was heard in it, and when."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self._receiver = Receiver()
        self._heard_s = self._fixed_s = now().mono_s
        self.garbled_since_s: float | None = None  # when the first bytes came that no sentence was found in
        self.unflushed = False
        self.fixed = False
        self.satellites = 0

    @property
    def heard(self) -> bool:
        """Whether a sentence came."""
        return self._receiver.assembler.sentences > 0

    @property
    def garbled(self) -> bool:
        return self.garbled_since_s is not None

    @property
    def garbled_s(self) -> float:
        """Since when bytes come but no sentence."""
        return 0.0 if self.garbled_since_s is None else self._now().mono_s - self.garbled_since_s

    @property
    def silent_s(self) -> float:
        return self._now().mono_s - self._heard_s

    @property
    def without_fix_s(self) -> float:
        return self._now().mono_s - self._fixed_s

    @property
    def disbelieved_utc_s(self) -> float | None:
        return self._receiver.disbelieved_utc_s

    def take(self, data: bytes) -> list[Fix]:
        """Take bytes that have just come; give the fixes of the epochs they end."""
        now = self._now()
        before = self._receiver.assembler.sentences
        fixes = self._receiver.feed(data, now)
        self.unflushed = True
        if self._receiver.assembler.sentences > before:
            self._heard_s = now.mono_s
            self.garbled_since_s = None
        elif self.garbled_since_s is None:
            self.garbled_since_s = now.mono_s
        return self._noted(fixes)

    def flush(self) -> list[Fix]:
        """Give the fix of the epoch that the receiver's pause has ended."""
        self.unflushed = False
        return self._noted(self._receiver.flush())

    def _noted(self, fixes: list[Fix]) -> list[Fix]:
        for fix in fixes:
            self.satellites = fix.satellites or 0
            if fix.lat is not None:
                self.fixed = True
                self._fixed_s = self._now().mono_s
        return fixes


class _Tuner:
    """Which baud rate to listen at: the one that worked, the configured one, or the next to try."""

    def __init__(self, configured: int | None, worked: int | None) -> None:
        self.configured = configured
        first = worked or configured
        self._rates = [*([first] if first else []), *(baud for baud in BAUDS if baud != first)]
        self._searching = first is None

    @property
    def baud(self) -> int:
        return self._rates[0]

    def due(self, session: _Session) -> bool:
        """Whether it is time for another rate, which then is `baud`."""
        if session.heard and not session.garbled:
            self._searching = False
        if session.garbled_s < (PROBE_S if self._searching else SILENT_S):
            return False
        self._searching = True
        self._rates = [*self._rates[1:], self._rates[0]]
        session.garbled_since_s = None
        return True


def _aside(function: Callable[[], _T]) -> Awaitable[_T]:
    """Run what may block in a thread of its own; a daemon, so that a hanging driver cannot stop a stop."""
    outcome: Future[_T] = Future()

    def work() -> None:
        outcome.set_running_or_notify_cancel()  # from here on it settles, whether or not anyone still waits
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 it is raised where the outcome is awaited
            outcome.set_exception(error)

    threading.Thread(target=work, name="gps-port", daemon=True).start()
    return asyncio.wrap_future(outcome)


def _named(source: SerialSource | GpsdSource | None) -> str:
    if isinstance(source, GpsdSource):
        return f"gpsd://{source.host}:{source.port}"
    return source.device if source is not None else ""


def _explained(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        return str(error) or "no answer"
    hint = _HINTS.get(number)
    return os.strerror(number) + (f"; {hint}" if hint else "")
