"""The receiver: its port and who else has it, what comes out of it, and where that says we are.

While the daemon runs the port is its own: it is looked at from outside, and the daemon is asked.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import serial

from gatewayd.config.model import Gps, GpsdSource, SerialSource
from gatewayd.core.model import Fix, Instant, State
from gatewayd.core.nmea import Assembler
from gatewayd.edge import gps
from gatewayd.selftest.machine import Machine, Process, end
from gatewayd.selftest.row import Finding, count, fail, off, ok, warn

# So many positions, and nothing more is to be learnt: the clock takes the time from three with a date, and
# the port may have been opened within an epoch, so that the first has none.
FIXES: Final = 4
_LOOK_S: Final = 0.1
_GROUP: Final = stat.S_IRGRP | stat.S_IWGRP
_ALL: Final = stat.S_IROTH | stat.S_IWOTH
# Where receivers turn up: USB ones by id first, which is stable, then the header's port.
_PORTS: Final = ("serial/by-id/*", "ttyACM*", "ttyUSB*", "serial0", "ttyAMA0")
_LOGIN: Final = frozenset({"agetty", "login", "getty"})
_GNSS_DAEMON: Final = "gpsd"


@dataclass(slots=True, kw_only=True)
class Heard:
    """What came in while it listened."""

    listened_s: float = 0.0
    size_bytes: int | None = None  # None: not counted (gpsd)
    sentences: int = 0
    bauds: tuple[int, ...] = ()  # that were tried
    fixes: int = 0  # with a position
    last: Fix | None = None  # the newest, with a position if any was
    age_s: float = 0.0  # of it
    said: tuple[State, str] | None = None  # by the receiver's edge, last


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A serial port from outside."""

    exists: bool
    others: tuple[str, ...] = ()  # ports that are there
    holders: tuple[Process, ...] = ()  # who has it open
    console: str = ""  # how the kernel's command line names it as a console; empty: it does not
    getty: bool = False  # systemd keeps a login on it
    permitted: bool = True  # the service may read and write it; also where there is no service


def tty_name(device: str | Path) -> str:
    """Return the kernel's name of a port, of what /dev/gps or /dev/serial0 point to."""
    return Path(os.path.realpath(device)).name


def look_at_port(device: str, machine: Machine, *, getty: bool, groups: frozenset[int] | None) -> Port:
    """Look at a port without opening it; blocks shortly.

    `getty`: systemd keeps a login on it. `groups`: the service's; None where there is no service.
    """
    path = machine.path(device)
    name = Path(os.path.realpath(path)).name
    try:
        status = path.stat()
    except OSError:
        there = [str(port) for pattern in _PORTS for port in sorted(machine.path("/dev").glob(pattern))]
        return Port(exists=False, others=tuple(there), console=_console(machine, name))
    return Port(
        exists=True,
        holders=tuple(machine.holders(path)),
        console=_console(machine, name),
        getty=getty,
        permitted=groups is None
        or status.st_mode & _ALL == _ALL
        or (status.st_mode & _GROUP == _GROUP and status.st_gid in groups),
    )


def _console(machine: Machine, name: str) -> str:
    """Return how the kernel was told to use this port as a console; a Pi's firmware has replaced serial0."""
    match = re.search(rf"(?<!\S)console={re.escape(name)}(,\S*)?(?!\S)", machine.text("/proc/cmdline"))
    return "" if match is None else match[0]


class _Tap(serial.Serial):
    """A port whose bytes are counted on their way."""

    def __init__(self, heard: Heard, device: str, **settings: Any) -> None:  # Any: pyserial's own
        self._heard = heard
        self._assembler = Assembler()
        super().__init__(device, **settings)

    def read(self, size: int = 1) -> bytes:
        data = bytes(super().read(size))
        self._heard.size_bytes = (self._heard.size_bytes or 0) + len(data)
        self._assembler.feed(data)
        self._heard.sentences = self._assembler.sentences
        if self.baudrate not in self._heard.bauds:
            self._heard.bauds = (*self._heard.bauds, self.baudrate)
        return data


async def listen(
    settings: Gps, *, now: Callable[[], Instant], learn: Callable[[Fix], None], listen_s: float
) -> Heard:
    """Open the receiver and listen for at most `listen_s` seconds; `learn` gets each fix."""
    heard = Heard(size_bytes=0 if isinstance(settings.source, SerialSource) else None)

    def on_fix(fix: Fix) -> None:
        learn(fix)
        heard.fixes += fix.lat is not None
        if fix.lat is not None or heard.fixes == 0:
            heard.last = fix

    def report(state: State, detail: str) -> None:
        heard.said = (state, detail)

    receiver = gps.Gps(
        settings,
        on_fix=on_fix,
        report=report,
        alive=lambda: None,
        now=now,
        open_port=lambda device, **more: _Tap(heard, device, **more),
    )
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    task = asyncio.create_task(receiver.run(), name="selftest gps")
    try:
        while heard.listened_s < listen_s and heard.fixes < FIXES:
            await asyncio.sleep(_LOOK_S)
            heard.listened_s = loop.time() - began_s
    finally:
        await end(task)
    if heard.last is not None and heard.last.received is not None:
        heard.age_s = now().mono_s - heard.last.received.mono_s
    return heard


# --- the verdict --------------------------------------------------------------------------------------------


def judge_port(source: SerialSource, port: Port, *, daemon: int | None, pi: bool) -> list[Finding]:
    """Say what is wrong with a port before it is opened; nothing when nothing is.

    `daemon`: its process, which may have the port.
    """
    if not port.exists:
        return [_absent(source, port, pi=pi)]
    findings = []
    if port.console or port.getty or any(holder.name in _LOGIN for holder in port.holders):
        findings.append(_console_on_it(source, port, pi=pi))
    for holder in port.holders:
        if holder.pid == daemon or holder.name in _LOGIN:
            continue
        if holder.name == _GNSS_DAEMON:
            do = "set [gps] source = gpsd://localhost, or `systemctl disable --now gpsd.service gpsd.socket`"
        else:
            do = f"stop that program (`kill {holder.pid}`, or its service)"
        findings.append(fail(f"{source.device} is held by {holder}", do))
    if not port.permitted:
        findings.append(
            fail(
                f"the service may not read and write {source.device}: it belongs to another group",
                "its group must be dialout: turn a login on it off, or `usermod -aG dialout gatewayd`; then"
                " plug it in again or reboot",
            )
        )
    return findings


def _absent(source: SerialSource, port: Port, *, pi: bool) -> Finding:
    header = "; one on the header needs the UART: `raspi-config nonint do_serial_hw 0`, reboot" if pi else ""
    there = ", ".join(port.others[:4])
    if there:
        do = f"plug the receiver in, or set [gps] source = serial:DEVICE to one of {there}{header}"
    else:
        do = f"plug the receiver in; `dmesg` tells whether the machine sees it{header}"
    return fail(f"{source.device} is not there", do)


def _console_on_it(source: SerialSource, port: Port, *, pi: bool) -> Finding:
    name = tty_name(source.device)
    signs = [f"the kernel was started with {port.console}"] if port.console else []
    signs += [f"systemd keeps a login on it (serial-getty@{name})"] if port.getty else []
    signs += [f"{holder.name} has it open" for holder in port.holders if holder.name in _LOGIN]
    off_ = "raspi-config nonint do_serial_cons 1" if pi else f"systemctl disable --now serial-getty@{name}"
    where = "/boot/firmware/cmdline.txt" if pi else "the kernel's command line"
    return fail(
        f"{source.device} is the serial console: {', '.join(signs)}",
        f"`{off_}`, see that no console={name} or console=serial0 is left in {where}, then reboot",
    )


def judge(settings: Gps, heard: Heard) -> list[Finding]:
    """Say what a source that was listened to gives."""
    match settings.source:
        case None:
            return [off("[gps] source = none")]
        case SerialSource() as source:
            return _judge_serial(source, heard)
        case GpsdSource() as source:
            return [_judge_sentences(heard, f"gpsd://{source.host}:{source.port}")]


def _judge_serial(source: SerialSource, heard: Heard) -> list[Finding]:
    in_s = f"in {heard.listened_s:.0f} s"
    if heard.sentences or heard.fixes:
        return [_judge_sentences(heard, source.device, configured=source.baud)]
    if heard.size_bytes:
        tried = ", ".join(map(str, heard.bauds))
        return [
            fail(
                f"{source.device}: {count(heard.size_bytes, 'byte')} {in_s}, but no NMEA at {tried} baud",
                "look the receiver's baud rate up and set it behind @ in [gps] source; if it is right, the"
                " receiver does not speak NMEA (u-blox: it was set to UBX), or something else uses the port",
            )
        ]
    state, detail = heard.said or (State.FAILED, f"{source.device}: it does not open")
    if state is State.FAILED:
        return [fail(detail, "see what it says; `dmesg | tail` says more; plug the receiver in again")]
    return [
        fail(
            f"{source.device} opens, and nothing at all came from it {in_s}",
            "check the wiring: the receiver's TX to the Pi's RX (GPIO15, pin 10), ground to ground, its"
            " supply; try another port",
        )
    ]


def _judge_sentences(heard: Heard, name: str, *, configured: int | None = None) -> Finding:
    state, detail = heard.said or (State.FAILED, f"{name}: no answer")
    fix, in_s = heard.last, f"in {heard.listened_s:.0f} s"
    if fix is None or fix.lat is None:
        if state is State.FAILED:
            return fail(detail, "`systemctl status gpsd` says whether it runs; correct [gps] source")
        satellites = count((fix and fix.satellites) or 0, "satellite")
        if heard.size_bytes is None and fix is None:
            return fail(f"{name}: no sentence {in_s}", "see that gpsd has a receiver: `cgps`")
        return warn(
            f"{name}: sentences, but no fix {in_s}, {satellites} used",
            "give the antenna a free view of the sky and wait: a cold start takes some minutes; then look at"
            " the antenna's plug and cable",
        )
    rate = f" at {heard.bauds[-1]} baud" if heard.bauds else ""
    hdop = "" if fix.hdop is None else f", hdop {fix.hdop:g}"
    satellites = count(fix.satellites or 0, "satellite")
    what = f"{name}{rate}: {fix.mode} fix, {satellites}{hdop}, {heard.age_s:.1f} s old"
    if fix.simulated:
        return warn(f"{what}, simulated by the receiver", "switch the receiver's simulation off")
    if configured is not None and configured != heard.bauds[-1]:
        return warn(f"{what}; configured: {configured}", "correct what stands behind @ in [gps] source")
    if fix.utc_s is None:
        return warn(
            f"{what}, without a date that can be true, so no time for the gateway",
            "where the receiver's week number has rolled over: new firmware or another receiver; where it"
            " sends no RMC or ZDA sentence: set it to",
        )
    return ok(what)
