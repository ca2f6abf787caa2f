"""Ogg Opus: packets to pages. The Ogg container of RFC 3533, carrying Opus as RFC 7845 says.

Lives here: page layout, checksum, the two header packets, granule positions. Not here: when a chunk is full
and what was missed (`recording`), and reading Ogg back, which the gateway never does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

GRANULE_HZ: Final = 48_000  # granule positions count at 48 kHz whatever the input's rate (RFC 7845, 4)
PACKET_MS: Final = 20  # one frame a packet: the least overhead at which a lost packet is still hard to hear
PACKET_GRANULES: Final = GRANULE_HZ * PACKET_MS // 1000

_CONTINUED: Final = 0x01  # header type flags (RFC 3533, 6)
_FIRST: Final = 0x02
_LAST: Final = 0x04
# Capture pattern, version, flags, granule position, serial number, sequence number, checksum, segments.
_PAGE: Final = struct.Struct("<4sBBqIIIB")
_CHECKSUM_AT: Final = 22  # offset of the checksum in the page
_SEGMENTS: Final = 255  # segments a page may have, and bytes a segment may have
_PAGE_PACKETS: Final = 1000 // PACKET_MS  # a second a page at most (RFC 7845, 6); opusinfo warns above 5 s
_NO_GRANULE: Final = -1  # a page on which no packet ends
_POLYNOMIAL: Final = 0x04C11DB7  # RFC 3533, 6: unreflected, started at 0, not inverted, unlike zlib's

_VENDOR: Final = b"gatewayd"
_MONO_FAMILY: Final = 0  # channel mapping family 0: mono or stereo, no table follows (RFC 7845, 5.1.1)


def _remainder(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1) ^ (_POLYNOMIAL if value & 0x80000000 else 0)
    return value & 0xFFFFFFFF


_REMAINDERS: Final = tuple(map(_remainder, range(256)))


def checksum(data: bytes | bytearray) -> int:
    """Ogg's CRC-32 of a page whose checksum field is zero (RFC 3533, section 6)."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ _REMAINDERS[value >> 24 ^ byte]
    return value


def concealed(packet: bytes) -> bytes:
    """The packet that stands for one that is missing after `packet`: the same configuration, no sound.

    Its one frame has zero bytes, which tells a decoder to conceal a loss (RFC 6716, 3.2.1; RFC 7845, 4.1).
    `packet` is not empty and holds frames of `PACKET_MS`.
    """
    return bytes([packet[0] & 0xFC])  # configuration and channels kept, code 0: one frame


class Link:
    """One logical bitstream: a header, then audio pages, then an end. Several in a row are a chained file.

    Each call returns whole pages; together, in order, they are a valid stream of mono packets of `PACKET_MS`.
    To go on with a link that another process began, give the sequence number and granule position it had; to
    begin one that goes on in the time of the link before, the granule position of that one's end.
    """

    def __init__(self, serial: int, *, sequence: int = 0, granule: int = 0) -> None:
        self.serial = serial  # 32 bits, unique within the chain
        self.sequence = sequence  # of the next page
        self.granule = granule  # samples at 48 kHz up to the next packet, pre-skip included

    def header(self, *, pre_skip: int, rate_hz: int) -> bytes:
        """The two header pages. `pre_skip`: the encoder's delay in samples at 48 kHz (RFC 7845, 5)."""
        gain_db = 0
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, pre_skip, rate_hz, gain_db, _MONO_FAMILY)
        tags = struct.pack(f"<8sI{len(_VENDOR)}sI", b"OpusTags", len(_VENDOR), _VENDOR, 0)
        return self._pages([head], step=0, first=True) + self._pages([tags], step=0)

    def audio(self, packets: Sequence[bytes], *, last: bool = False) -> bytes:
        """Pages that hold `packets`; with `last` the link ends with them. Without packets: a bare end."""
        pages = b""
        for start in range(0, len(packets), _PAGE_PACKETS):
            ends = last and start + _PAGE_PACKETS >= len(packets)
            pages += self._pages(packets[start : start + _PAGE_PACKETS], step=PACKET_GRANULES, last=ends)
        return pages if packets or not last else self._pages([], step=0, last=True)

    def _pages(
        self, packets: Iterable[bytes], *, step: int, first: bool = False, last: bool = False
    ) -> bytes:
        pages = bytearray()
        table = bytearray()  # the segments' lengths
        body = bytearray()
        flags = _FIRST if first else 0
        ended = _NO_GRANULE  # on the page being filled
        for packet in packets:
            for start in range(0, len(packet) + 1, _SEGMENTS):  # a last segment under 255 bytes ends a packet
                if len(table) == _SEGMENTS:
                    pages += self._page(flags, ended, table, body)
                    table.clear()
                    body.clear()
                    flags, ended = _CONTINUED if start else 0, _NO_GRANULE
                segment = packet[start : start + _SEGMENTS]
                table.append(len(segment))
                body += segment
            self.granule += step
            ended = self.granule if step else 0  # a header page has 0 wherever the sound begins (RFC 7845, 4)
        pages += self._page(flags | (_LAST if last else 0), ended, table, body)
        return bytes(pages)

    def _page(self, flags: int, granule: int, table: bytearray, body: bytearray) -> bytes:
        header = _PAGE.pack(b"OggS", 0, flags, granule, self.serial, self.sequence, 0, len(table))
        page = bytearray(header + table + body)
        struct.pack_into("<I", page, _CHECKSUM_AT, checksum(page))
        self.sequence += 1
        return bytes(page)
