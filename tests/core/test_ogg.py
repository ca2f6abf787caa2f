"""Ogg pages as an independent reader sees them."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import ogg


@dataclass(frozen=True)
class Page:
    flags: int
    granule: int
    serial: int
    sequence: int
    table: bytes
    body: bytes


def crc(data: bytes) -> int:
    """Bit by bit, as RFC 3533 words it."""
    value = 0
    for byte in data:
        for bit in range(7, -1, -1):
            carry = (value >> 31) ^ (byte >> bit & 1)
            value = (value << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if carry else 0)
    return value


def parse(data: bytes) -> list[Page]:
    pages = []
    while data:
        assert data[:5] == b"OggS\0"
        flags = data[5]
        granule, serial, sequence, checksum = struct.unpack_from("<qIII", data, 6)
        table = data[27 : 27 + data[26]]
        end = 27 + len(table) + sum(table)
        assert crc(data[:22] + bytes(4) + data[26:end]) == checksum
        pages.append(Page(flags, granule, serial, sequence, table, data[27 + len(table) : end]))
        data = data[end:]
    return pages


def packets_of(pages: list[Page]) -> list[bytes]:
    packets, open_packet = [], b""
    for page in pages:
        assert bool(page.flags & 1) == (open_packet != b""), "continued exactly when a packet is open"
        body, at = page.body, 0
        for length in page.table:
            open_packet += body[at : at + length]
            at += length
            if length < 255:
                packets.append(open_packet)
                open_packet = b""
    assert open_packet == b""
    return packets


@pytest.mark.parametrize("data", [b"", b"\0", b"123456789", bytes(range(256)) * 3])
def test_the_checksum_is_that_of_the_specification(data: bytes) -> None:
    """The table gives what shifting bit by bit gives."""
    assert ogg.checksum(data) == crc(data)


def test_a_link_begins_with_its_two_headers() -> None:
    """OpusHead alone on the first page, OpusTags on the second, both at granule position 0."""
    pages = parse(ogg.Link(7).header(pre_skip=312, rate_hz=16_000))
    assert [(page.flags, page.granule, page.serial, page.sequence) for page in pages] == [
        (2, 0, 7, 0),
        (0, 0, 7, 1),
    ]
    head, tags = packets_of(pages)
    assert head == b"OpusHead\x01\x01" + struct.pack("<HIh", 312, 16_000, 0) + b"\0"
    assert tags == b"OpusTags" + struct.pack("<I", 8) + b"gatewayd" + struct.pack("<I", 0)


def test_a_link_can_go_on_in_the_time_of_the_one_before() -> None:
    """Its sound counts on from there; its headers are at granule position 0 all the same."""
    link = ogg.Link(7, granule=48_000)
    pages = parse(link.header(pre_skip=312, rate_hz=16_000) + link.audio([b"a", b"b"]))
    assert [page.granule for page in pages] == [0, 0, 48_000 + 2 * 960]


@given(st.lists(st.lists(st.binary(max_size=1275), max_size=60), max_size=6), st.integers(0, 2**32 - 1))
def test_any_packets_come_back(calls: list[list[bytes]], serial: int) -> None:
    """Every call gives whole pages; numbers rise by one, granule positions by 960 a packet; the last ends."""
    link = ogg.Link(serial)
    pages = parse(link.header(pre_skip=312, rate_hz=16_000))
    count = 0
    for packets in calls:
        audio = parse(link.audio(packets))
        assert packets_of(audio) == packets
        for page in audio:
            count += sum(length < 255 for length in page.table)
            assert page.granule == count * 960 if any(length < 255 for length in page.table) else -1
        pages += audio
    pages += parse(link.audio([], last=True))
    assert [page.sequence for page in pages] == list(range(len(pages)))
    assert {page.serial for page in pages} == {serial}
    assert [page.flags & 6 for page in pages] == [2, *[0] * (len(pages) - 2), 4]
    assert (pages[-1].granule, link.granule) == (-1, count * 960)


def test_a_packet_longer_than_a_page_goes_on_on_the_next() -> None:
    """A page on which no packet ends has granule position -1; the next one is marked as continued."""
    packet = bytes(200_000)
    pages = parse(ogg.Link(1).audio([b"a", packet, b"b"], last=True))
    assert packets_of(pages) == [b"a", packet, b"b"]
    assert [page.granule for page in pages] == [960, -1, -1, 2880]
    assert [page.flags for page in pages] == [0, 1, 1, 5]


def test_a_page_holds_a_second_at_most() -> None:
    """Many packets in one call make several pages; the last of them ends the link."""
    pages = parse(ogg.Link(1).audio([b"x"] * 100, last=True))
    assert [(len(page.table), page.flags, page.granule) for page in pages] == [
        (50, 0, 48_000),
        (50, 4, 96_000),
    ]


def test_a_page_holds_255_segments_at_most() -> None:
    """Where packets are so big that a second does not fit, the page breaks earlier, between two of them."""
    pages = parse(ogg.Link(1).audio([bytes(1020)] * 52))  # 1020 = 4 × 255: five segments, the last one empty
    assert [(len(page.table), page.flags, page.granule) for page in pages] == [
        (250, 0, 48_000),
        (10, 0, 52 * 960),
    ]
    pages = parse(ogg.Link(1).audio([bytes(1275)] * 50))
    assert [(len(page.table), page.flags, page.granule) for page in pages] == [
        (255, 0, 42 * 960),
        (45, 1, 48_000),
    ]


def test_another_run_can_end_a_link() -> None:
    """The end goes on where the link stood, without a packet."""
    link = ogg.Link(9)
    link.header(pre_skip=0, rate_hz=16_000)
    link.audio([b"x"] * 3)
    (page,) = parse(ogg.Link(9, sequence=link.sequence, granule=link.granule).audio([], last=True))
    assert (page.flags, page.granule, page.sequence, page.table) == (4, -1, 3, b"")


@given(st.binary(min_size=1, max_size=100))
def test_a_concealed_packet_is_a_frame_of_no_bytes(packet: bytes) -> None:
    """It keeps configuration and channels of the packet before (RFC 7845, 4.1) and says: one frame."""
    concealed = ogg.concealed(packet)
    assert len(concealed) == 1
    assert concealed[0] >> 2 == packet[0] >> 2
    assert concealed[0] & 3 == 0
