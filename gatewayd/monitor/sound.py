"""An alarm's chunks, put in order again: to a file that plays, and to a player that listens along.

Chunks come late, out of order or twice, and some never, when the gateway had to drop them for space. What is
missing between two chunks is filled with packets that decoders conceal (RFC 7845, section 4.1), so that time
stays true; a link whose header is missing gets one; every link ends. A chunk of noise is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatewayd.core import ogg

# Six hours at 24 kbit/s: no recording is longer, whatever is sent.
LIMIT_BYTES: Final = 64 * 1024 * 1024
# More missing than this between two chunks is not evicted sound but a broken granule position.
_FILL_LIMIT_S: Final = 3600

_HEADER: Final = struct.Struct("<4sBBqIIIB")  # RFC 3533, section 6
_FIRST: Final = 0x02
_LAST: Final = 0x04
_SEQUENCE_AT: Final = 18
_CHECKSUM_AT: Final = 22
_OPUS_HEAD: Final = struct.Struct("<8sBBHI")  # RFC 7845, section 5.1
_HEADER_PAGES: Final = 2
# What Opus always works with, where no header says what the recording's was (RFC 7845, section 5.1).
_PRE_SKIP: Final = 312
_RATE_HZ: Final = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One Ogg page."""

    raw: bytes
    flags: int
    granule: int
    serial: int
    sequence: int
    packets: tuple[bytes, ...]  # those that end on this page

    @property
    def is_header(self) -> bool:
        """Whether it is one of a link's two header pages."""
        return bool(self.packets) and self.packets[0].startswith((b"OpusHead", b"OpusTags"))


def pages(data: bytes) -> Iterator[Page]:
    """Split whole pages. ValueError where the bytes are none."""
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise ValueError(f"expected an Ogg page at byte {at}, got {len(data) - at} bytes")
        magic, version, flags, granule, serial, sequence, _, count = _HEADER.unpack_from(data, at)
        table = data[at + _HEADER.size : at + _HEADER.size + count]
        end = at + _HEADER.size + count + sum(table)
        if magic != b"OggS" or version != 0 or len(table) < count or end > len(data):
            raise ValueError(f"expected a whole Ogg page at byte {at}, got {data[at : at + 4]!r}")
        yield Page(
            raw=data[at:end],
            flags=flags,
            granule=granule,
            serial=serial,
            sequence=sequence,
            packets=tuple(_packets(table, data[at + _HEADER.size + count : end])),
        )
        at = end


def _packets(table: bytes, body: bytes) -> Iterator[bytes]:
    at = start = 0
    for length in table:
        at += length
        if length < 255:  # noqa: PLR2004 - a shorter segment ends a packet (RFC 3533, section 5)
            yield body[start:at]
            start = at


class Stitcher:
    """Chunks in rising order in, a valid stream out: gaps filled, pages numbered without a hole."""

    def __init__(self, head: bytes | None = None) -> None:
        """`head`: the two header pages of the alarm state, for a link whose own are missing."""
        self._pre_skip, self._rate_hz = _parameters(head)
        self._serial: int | None = None  # of the open link
        self._out = 0  # the next page's number in what is written
        self._in = 0  # the next page's number as the gateway counts
        self._granule = 0
        self._toc: bytes | None = None  # the link's last packet

    def chunk(self, data: bytes) -> bytes:
        """The bytes to write for the next chunk there is. ValueError, and nothing changed, for noise."""
        return b"".join([self._page(page) for page in list(pages(data))])

    def end(self) -> bytes:
        """The end of the link that is open."""
        if self._serial is None:
            return b""
        bare = ogg.Link(self._serial, sequence=self._out, granule=self._granule).audio([], last=True)
        self._serial = None
        return bare

    def _page(self, page: Page) -> bytes:
        before = b""
        if page.flags & _FIRST:
            before = self.end()
            self._open(page.serial, granule=0)
            self._pre_skip, self._rate_hz = _parameters(page.raw)
        elif page.serial != self._serial:
            before = self.end() + self._missing_head(page)
        elif page.sequence > self._in:
            before = self._fill(page)
        self._in = page.sequence + 1
        written = self._renumbered(page)
        self._out += 1
        if not page.is_header:
            self._granule = max(self._granule, page.granule)
            self._toc = next((packet for packet in reversed(page.packets) if packet), self._toc)
        if page.flags & _LAST:
            self._serial = None
        return before + written

    def _open(self, serial: int, *, granule: int) -> None:
        self._serial, self._granule = serial, granule
        self._in = self._out = 0
        self._toc = None

    def _missing_head(self, page: Page) -> bytes:
        link = ogg.Link(page.serial)
        self._open(page.serial, granule=_begins(page))
        self._out = _HEADER_PAGES
        return link.header(pre_skip=self._pre_skip, rate_hz=self._rate_hz)

    def _fill(self, page: Page) -> bytes:
        missing = (_begins(page) - self._granule) // ogg.PACKET_GRANULES
        if missing <= 0 or missing * ogg.PACKET_MS > _FILL_LIMIT_S * 1000 or self._serial is None:
            return b""
        like = self._toc or next((packet for packet in page.packets if packet), None)
        if like is None:
            return b""
        link = ogg.Link(self._serial, sequence=self._out, granule=self._granule)
        filled = link.audio([ogg.concealed(like)] * missing)
        self._out, self._granule = link.sequence, link.granule
        return filled

    def _renumbered(self, page: Page) -> bytes:
        if page.sequence == self._out:
            return page.raw
        raw = bytearray(page.raw)
        struct.pack_into("<I", raw, _SEQUENCE_AT, self._out)
        struct.pack_into("<I", raw, _CHECKSUM_AT, 0)
        struct.pack_into("<I", raw, _CHECKSUM_AT, ogg.checksum(raw))
        return bytes(raw)


def _begins(page: Page) -> int:
    """The granule position before the page's first packet."""
    return max(0, page.granule - len(page.packets) * ogg.PACKET_GRANULES)


def _parameters(head: bytes | None) -> tuple[int, int]:
    """Pre-skip and rate from a header page; the usual ones where there is none."""
    try:
        packet = next(pages(head or b"")).packets[0]
        _, _, _, pre_skip, rate_hz = _OPUS_HEAD.unpack_from(packet)
    except (ValueError, StopIteration, IndexError, struct.error):
        return _PRE_SKIP, _RATE_HZ
    return pre_skip, rate_hz


class Sound:
    """One alarm's chunks, as far as they have come."""

    def __init__(self) -> None:
        self.head: bytes | None = None  # from the alarm state
        self._chunks: dict[int, bytes] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def add(self, n: int, data: bytes) -> bool:
        """Keep chunk `n`. False for a double, for noise, and when there is too much."""
        if n in self._chunks or self._size_bytes + len(data) > LIMIT_BYTES:
            return False
        try:
            list(pages(data))
        except ValueError:
            return False
        self._chunks[n] = data
        self._size_bytes += len(data)
        return True

    def file(self) -> bytes:
        """All there is, as a valid Ogg Opus file. It begins where the first chunk does."""
        stitcher = Stitcher(self.head)
        found = [stitcher.chunk(self._chunks[n]) for n in sorted(self._chunks)]
        return b"".join([*found, stitcher.end()])


class Order:
    """Chunks in the order they are to be heard: waits a little for a late one, then goes on without."""

    # A live chunk is 0.5 s; one that is sent again after a redial comes within two.
    WAIT_S: Final = 2.0

    def __init__(self) -> None:
        self._next: int | None = None
        self._waiting: dict[int, bytes] = {}
        self._since_s = 0.0

    def push(self, n: int, data: bytes, now_s: float) -> list[bytes]:
        """Take chunk `n`; give those that are due. What comes after its turn is left out."""
        if self._next is None:
            self._next = n
        if n >= self._next and n not in self._waiting:
            if not self._waiting:
                self._since_s = now_s
            self._waiting[n] = data
        return self.due(now_s)

    def due(self, now_s: float) -> list[bytes]:
        """The chunks whose turn it is, or that have waited long enough."""
        found = []
        while self._waiting:
            first = min(self._waiting)
            if first != self._next and now_s - self._since_s < self.WAIT_S:
                break
            found.append(self._waiting.pop(first))
            self._next = first + 1
            self._since_s = now_s
        return found
