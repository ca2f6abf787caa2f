"""The recording of an alarm: captured sound in, numbered chunks of whole Ogg pages out.

The rules:
- Chunks in order, concatenated, are a valid Ogg Opus file.
- Time stays true within a link: what is missing is filled with packets that decoders conceal, and listed as
  a gap. Silence is never made up.
- A device that goes and comes back goes on in its link. Sound wanted anew, or after a restart of the daemon,
  begins a new link in the same numbering; a link that a kill left open is ended first.
- No number is given twice. Sound may go out before a slow disk has it, so after a kill as many numbers are
  left out as chunks can have been made since the last one the disk tells of; the gap says how many.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, cast

from gatewayd.core import ogg
from gatewayd.core.model import Body, ClockSource, Instant
from gatewayd.core.sound import PACKET_S, Event, Failed, Missing, Opened, Packet

# The first chunk is short, so that a player can begin: 5 packets, 100 ms.
_FIRST_PACKETS: Final = 5
# Chunks an earlier run may have made beyond one for each `chunk_s`: short ones, at a link's ends and where
# the device failed. Where no clock tells for how long it ran on: minutes of sound.
_SHORT_CHUNKS: Final = 4
_UNKNOWN_CHUNKS: Final = 1_000


class GapCause(StrEnum):
    """Why sound is missing."""

    OVERRUN = "overrun"  # it was not read in time
    DEVICE = "device"  # the device, or the process that captures, was away
    RESTART = "restart"  # the daemon was


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Sound that is missing. A long one is listed in pieces, each in the chunk that stands for it."""

    at: Instant
    duration_ms: int | None  # None: not known, the boot changed and no clock was there
    cause: GapCause
    filled: bool  # concealed packets keep its place in the file; else a new link begins after it
    skipped: int = 0  # numbers left out after it: an earlier run may have given them

    @property
    def body(self) -> Body:
        """The gap as the alarm's state carries it."""
        duration: Body = {} if self.duration_ms is None else {"duration_ms": self.duration_ms}
        skipped: Body = {"skipped": self.skipped} if self.skipped else {}
        return {"at": self.at, **duration, "cause": self.cause.value, "filled": self.filled, **skipped}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a recording has come. Stored with each chunk, so that another run of the daemon can go on."""

    next_n: int  # the next chunk's number
    serial: int  # of the link
    sequence: int  # of the link's next page; 0: none has begun
    granule: int
    end: Instant  # of the sound so far
    ended: bool  # the link is
    wanted: bool = False  # it ended because the daemon stopped: what follows is missing

    def to_json(self) -> Body:
        return {
            "next_n": self.next_n,
            "serial": self.serial,
            "sequence": self.sequence,
            "granule": self.granule,
            "end": self.end,
            "ended": self.ended,
            "wanted": self.wanted,
        }

    @classmethod
    def from_json(cls, body: Body) -> Mark:
        """The mark that `to_json` gave `body` of."""
        return cls(
            next_n=cast("int", body["next_n"]),
            serial=cast("int", body["serial"]),
            sequence=cast("int", body["sequence"]),
            granule=cast("int", body["granule"]),
            end=cast("Instant", body["end"]),
            ended=cast("bool", body["ended"]),
            wanted=bool(body.get("wanted")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a recording: what one message carries."""

    n: int  # 0, 1, 2 …
    pages: bytes
    at: Instant  # of its first sample
    duration_ms: int
    gaps: tuple[Gap, ...]
    mark: Mark


def moment(mono_s: float, now: Instant) -> Instant:
    """The instant at which the monotonic clock of `now`'s boot stood at `mono_s`."""
    return replace(now, mono_s=mono_s, wall_s=now.wall_s + mono_s - now.mono_s)


def _between_ms(earlier: Instant, later: Instant) -> int | None:
    if earlier.boot == later.boot:
        return round((later.mono_s - earlier.mono_s) * 1000)
    if ClockSource.NONE in {earlier.source, later.source}:
        return None
    return max(0, round((later.wall_s - earlier.wall_s) * 1000))


class Recording:
    """One alarm's recording. Feed it every event of the microphone, in order; it gives chunks.

    With a `mark` it goes on where that mark's run of the daemon stopped.
    """

    def __init__(self, alarm: str, *, rate_hz: int, chunk_s: float, mark: Mark | None = None) -> None:
        """`rate_hz`: of the device; `chunk_s`: how much sound a chunk holds, at least 0.02."""
        self.head: bytes | None = None  # the two header pages of the link
        self.next_n = mark.next_n if mark else 0
        self._alarm = alarm
        self._rate_hz = rate_hz
        self._chunk_packets = max(1, round(chunk_s / PACKET_S))
        self._before = mark  # another run's, until the first link of this one
        self._link: ogg.Link | None = None
        self._granule = mark.granule if mark else 0  # of the end of the link before
        self._start_s = 0.0  # of the link's first sample
        self._placed = 0  # packets of the link, pending ones included
        self._prefix = b""  # pages that go before the pending packets
        self._pending: list[bytes] = []
        self._gaps: list[Gap] = []  # of the pending packets
        self._cause = GapCause.OVERRUN
        self._toc = b""  # the latest packet: what a concealed one is made after

    @property
    def head_base64(self) -> str | None:
        """The two header pages for the alarm state: they and any later chunks play."""
        return base64.b64encode(self.head).decode() if self.head is not None else None

    def take(self, event: Event, now: Instant) -> list[Chunk]:
        """What is ready to go after `event`."""
        match event:
            case Opened():
                if self._link is None:
                    self._begin(event, now)
                return []
            case Packet():
                return self._sound(event, now)
            case Failed():
                self._cause = GapCause.DEVICE
                return self._cut(now)  # what there is may be all there will be for long
            case Missing():
                self._cause = GapCause.DEVICE
                self._fill(event.at_s, now)
                return self._cut(now)
        return self.end(event.at_s, now)  # Closed

    def end(self, at_s: float, now: Instant, *, wanted: bool = False) -> list[Chunk]:
        """The last chunk: the link ends. Harmless when there is none. `wanted`: the sound still is."""
        if self._link is None:
            return []
        if self._cause is GapCause.DEVICE:
            self._fill(at_s, now)
        chunks = self._cut(now, last=True, wanted=wanted)
        self._granule = self._link.granule
        self._link, self._placed = None, 0
        return chunks

    def _begin(self, opened: Opened, now: Instant) -> None:
        end_before = self._close_before(moment(opened.at_s, now))
        # Serial numbers differ within the chain, since each link begins in a chunk of its own.
        serial = (zlib.crc32(self._alarm.encode()) + self.next_n) & 0xFFFFFFFF
        # Granule positions go on where the link before ended, as RFC 7845, 4.5 allows: to a player that knows
        # but one time line (ffmpeg) time would otherwise jump back.
        self._link = ogg.Link(serial, granule=self._granule)
        self._start_s, self._placed = opened.at_s, 0
        self._cause = GapCause.OVERRUN
        self.head = self._link.header(pre_skip=opened.pre_skip, rate_hz=self._rate_hz)
        self._prefix = end_before + self.head

    def _close_before(self, start: Instant) -> bytes:
        """The end of the link that another run left open; the time since it recorded is a gap."""
        mark = self._before
        if mark is None or (mark.ended and not mark.wanted):
            return b""
        missing_ms = _between_ms(mark.end, start)
        skipped = 0 if mark.ended else self._perhaps_given(missing_ms)
        self.next_n = mark.next_n + skipped
        gap = Gap(at=mark.end, duration_ms=missing_ms, cause=GapCause.RESTART, filled=False, skipped=skipped)
        self._gaps = [gap]
        if mark.ended or not mark.sequence:
            return b""
        return ogg.Link(mark.serial, sequence=mark.sequence, granule=mark.granule).audio([], last=True)

    def _perhaps_given(self, missing_ms: int | None) -> int:
        """How many numbers another run may have given since its mark."""
        if missing_ms is None:
            return _UNKNOWN_CHUNKS
        return missing_ms // (self._chunk_packets * ogg.PACKET_MS) + _SHORT_CHUNKS

    def _sound(self, packet: Packet, now: Instant) -> list[Chunk]:
        if self._link is None:  # it came after the end
            return []
        if self._placed:
            self._fill(packet.at_s, now)
        self._cause = GapCause.OVERRUN
        self._pending.append(packet.opus)
        self._toc = packet.opus
        self._placed += 1
        cut = self._placed > len(self._pending)  # a chunk of this link was
        full = self._chunk_packets if cut else min(_FIRST_PACKETS, self._chunk_packets)
        return self._cut(now) if len(self._pending) >= full else []

    def _fill(self, until_s: float, now: Instant) -> None:
        """Keep time: conceal what is missing between the packets so far and `until_s`."""
        missing = round((until_s - self._start_s) / PACKET_S) - self._placed
        if missing <= 0 or not self._placed:
            return
        at = moment(self._start_s + self._placed * PACKET_S, now)
        duration_ms = missing * ogg.PACKET_MS
        self._gaps.append(Gap(at=at, duration_ms=duration_ms, cause=self._cause, filled=True))
        self._pending += [ogg.concealed(self._toc)] * missing
        self._placed += missing

    def _cut(self, now: Instant, *, last: bool = False, wanted: bool = False) -> list[Chunk]:
        """The pending packets as a chunk; with `last` one that ends the link, though nothing is pending."""
        link = self._link
        if link is None or not (self._pending or (last and self._placed)):
            return []
        pages = self._prefix + link.audio(self._pending, last=last)
        end_s = self._start_s + self._placed * PACKET_S
        duration_s = len(self._pending) * PACKET_S
        mark = Mark(
            next_n=self.next_n + 1,
            serial=link.serial,
            sequence=link.sequence,
            granule=link.granule,
            end=moment(end_s, now),
            ended=last,
            wanted=wanted,
        )
        chunk = Chunk(
            n=self.next_n,
            pages=pages,
            at=moment(end_s - duration_s, now),
            duration_ms=round(duration_s * 1000),
            gaps=tuple(self._gaps),
            mark=mark,
        )
        self.next_n += 1
        self._before = None
        self._prefix = b""
        self._pending.clear()
        self._gaps.clear()
        return [chunk]
