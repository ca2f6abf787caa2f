"""A GPS receiver on a pseudo-terminal: paced sentences at a baud rate, along a route or at one place.

It stands where a real one would: whoever opens `link` with the right baud rate reads NMEA 0183, with
another one garbage. It can be unplugged and plugged in again, fall silent, lose its fix or be damaged.
"""

from __future__ import annotations

import asyncio
import os
import termios
import time
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from math import atan2, cos, degrees, hypot, radians
from pathlib import Path
from typing import Final

import pynmea2

_METRES_PER_DEGREE: Final = 111_320.0  # of latitude
_MPS_PER_KNOT: Final = 1852 / 3600
_BITS_PER_BYTE: Final = 10  # start, eight data bits, stop
_PIECE_BYTES: Final = 32  # what a UART's buffer hands on at a time
_TOLD_BYTES: Final = 1 << 16  # what a terminal keeps, at most
_GARBLE: Final = bytes((value * 37 + 0xC3) & 0xFF | 0x80 for value in range(256))  # nothing of it is ASCII

# A drive through the Dutch town of Delft, for demonstrations.
DELFT: Final = ((52.0116, 4.3571), (52.0105, 4.3622), (52.0064, 4.3650), (52.0022, 4.3702), (51.9990, 4.3742))


class GpsReceiver:
    """A receiver at the end of the symbolic link `link`; plugged in while `run` runs, or by `plug`.

    `route`: points (latitude, longitude) driven along to and fro at `speed_mps`; a single point is a parked
    vehicle. `wall` gives the time it tells.
    """

    def __init__(
        self,
        link: Path,
        *,
        route: Sequence[tuple[float, float]] = DELFT,
        speed_mps: float = 8.0,
        baud: int = 9600,
        rate_hz: float = 1.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.silent = False  # sends nothing
        self.fix = True  # has a fix
        self.damaged = False  # every sentence has a wrong byte
        self.sent = 0  # epochs
        self._link = link
        self._legs = _legs(route)
        self._speed_mps = speed_mps if self._legs[0][2] else 0.0
        self._baud = baud
        self._rate_hz = rate_hz
        self._wall = wall
        self._ends: tuple[int, int] | None = None  # ours and the reader's

    def plug(self) -> str:
        """Make the device appear; give the terminal behind the link."""
        if self._ends is not None:
            return os.ttyname(self._ends[1])
        ours, theirs = os.openpty()
        os.set_blocking(ours, False)
        tty.setraw(theirs)  # no echo, before anyone opens it
        self._ends = ours, theirs
        waiting = self._link.with_name(f".{self._link.name}.new")
        waiting.unlink(missing_ok=True)
        waiting.symlink_to(os.ttyname(theirs))
        waiting.replace(self._link)
        return os.ttyname(theirs)

    def unplug(self) -> None:
        """Make the device vanish; who has it open gets an error."""
        if self._ends is None:
            return
        self._link.unlink(missing_ok=True)
        for end in self._ends:
            os.close(end)
        self._ends = None

    async def run(self) -> None:
        """Send until cancelled."""
        self.plug()
        began_s = time.monotonic()
        try:
            while True:
                driven_s = time.monotonic() - began_s
                self._hear()
                if not self.silent:
                    await self.send(self.sentences(driven_s))
                    self.sent += 1
                spent_s = time.monotonic() - began_s - driven_s
                await asyncio.sleep(max(0.0, 1 / self._rate_hz - spent_s))
        finally:
            self.unplug()

    def _hear(self) -> None:
        """Take what it is told, and heed none of it: unread, it would fill the terminal and hold the writer.

        A tty echoes what it hears until whoever opens it has told it not to.
        """
        if self._ends is not None:
            with suppress(BlockingIOError):
                os.read(self._ends[0], _TOLD_BYTES)

    def sentences(self, driven_s: float) -> bytes:
        """Give the sentences of the epoch that is now, `driven_s` seconds after the start."""
        lat, lon, course = self._place(driven_s)
        now = datetime.fromtimestamp(self._wall(), UTC)
        clock, day = f"{now:%H%M%S}.{now.microsecond // 10_000:02}", f"{now:%d%m%y}"
        where = [*_written(lat, 2, "NS"), *_written(lon, 3, "EW")] if self.fix else ["", "", "", ""]
        speed, heading = f"{self._speed_mps / _MPS_PER_KNOT:.2f}", f"{course:.1f}"
        status, mode, quality, used = ("A", "A", "1", "09") if self.fix else ("V", "N", "0", "00")
        satellites = [f"{number:02}" for number in range(3, 12)] if self.fix else [""] * 9
        told = [
            pynmea2.RMC("GN", "RMC", [clock, status, *where, speed, heading, day, "", "", mode]),
            pynmea2.GGA("GN", "GGA", [clock, *where, quality, used, "0.9", "1.2", "M", "45.1", "M", "", ""]),
            pynmea2.GSA(
                "GN", "GSA", ["A", "3" if self.fix else "1", *satellites, "", "", "", "1.7", "0.9", "1.4"]
            ),
            pynmea2.GST("GN", "GST", [clock, "6.1", "1.5", "1.2", "12.0", "1.3", "1.4", "2.9"]),
        ]
        return "".join(f"{sentence}\r\n" for sentence in told).encode()

    def _place(self, driven_s: float) -> tuple[float, float, float]:
        """Latitude, longitude and course after so many seconds."""
        left_m = self._speed_mps * driven_s % (sum(leg[2] for leg in self._legs) or 1.0)
        leg = self._legs[0]
        for leg in self._legs:
            if left_m <= leg[2]:
                break
            left_m -= leg[2]
        start, end, length_m, course = leg
        part = min(left_m / length_m, 1.0) if length_m else 0.0
        return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]), course

    async def send(self, data: bytes) -> None:
        """Write at the pace of the baud rate; what nobody reads is lost, as on a wire."""
        if self.damaged:
            data = data.replace(b"$G", b"$X")
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            if self._ends is not None:
                ours, theirs = self._ends
                rate = termios.tcgetattr(theirs)[5]
                if rate != getattr(termios, f"B{self._baud}"):
                    piece = piece.translate(_GARBLE)
                with suppress(BlockingIOError):
                    os.write(ours, piece)
            await asyncio.sleep(len(piece) * _BITS_PER_BYTE / self._baud)


_Leg = tuple[tuple[float, float], tuple[float, float], float, float]  # from, to, metres, degrees


def _legs(route: Sequence[tuple[float, float]]) -> list[_Leg]:
    stops = [*route, *reversed(route[:-1])] if len(route) > 1 else [*route, *route]
    legs = []
    for start, end in pairwise(stops):
        north = (end[0] - start[0]) * _METRES_PER_DEGREE
        east = (end[1] - start[1]) * _METRES_PER_DEGREE * cos(radians(start[0]))
        legs.append((start, end, hypot(north, east), degrees(atan2(east, north)) % 360))
    return legs


def _written(angle: float, width: int, hemispheres: str) -> tuple[str, str]:
    """Write an angle as NMEA does: degrees and minutes in one, then the hemisphere."""
    minutes = round(abs(angle) * 60, 5)
    whole, rest = divmod(minutes, 60)
    return f"{int(whole):0{width}}{rest:08.5f}", hemispheres[angle < 0]
