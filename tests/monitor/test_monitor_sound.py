"""Chunks put in order again: what comes late, twice or never leaves a file that plays and keeps time."""

import math
import shutil
import struct
import subprocess
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import ogg
from gatewayd.monitor.meter import SILENCE_DBFS, Meter, bar
from gatewayd.monitor.sound import LIMIT_BYTES, Order, Sound, Stitcher, pages

opuslib = pytest.importorskip("opuslib", reason="libopus makes the sound of these tests")

RATE_HZ = 16_000
PRE_SKIP = 312
PACKETS = 25  # half a second


def tone(count: int, amplitude: int = 8000) -> list[bytes]:
    """`count` packets of a 440 Hz tone, really encoded."""
    encoder = opuslib.Encoder(RATE_HZ, 1, opuslib.APPLICATION_VOIP)
    step = RATE_HZ * ogg.PACKET_MS // 1000
    found = []
    for number in range(count):
        samples = array("h", (0,)) * step
        for at in range(step):
            samples[at] = int(amplitude * math.sin(2 * math.pi * 440 * (number * step + at) / RATE_HZ))
        found.append(encoder.encode(samples.tobytes(), step))
    return found


def recording(chunks: int, serial: int = 7, *, ended: bool = True) -> list[bytes]:
    """A link as the gateway cuts it: the header with chunk 0, half a second a chunk."""
    link = ogg.Link(serial)
    found = [link.header(pre_skip=PRE_SKIP, rate_hz=RATE_HZ)]
    found += [b""] * (chunks - 1)
    packets = tone(chunks * PACKETS)
    for n in range(chunks):
        part = packets[n * PACKETS : (n + 1) * PACKETS]
        found[n] += link.audio(part, last=ended and n == chunks - 1)
    return found


CHUNKS = recording(8)
HEAD = ogg.Link(7).header(pre_skip=PRE_SKIP, rate_hz=RATE_HZ)


def kept(numbers: list[int], head: bytes | None = None) -> bytes:
    sound = Sound()
    sound.head = head
    for n in numbers:
        sound.add(n, CHUNKS[n])
    return sound.file()


def granules(data: bytes) -> list[int]:
    return [page.granule for page in pages(data) if not page.is_header]


def test_chunks_in_order_come_out_as_they_are() -> None:
    """Nothing missing: the file is the chunks, byte for byte."""
    assert kept(list(range(8))) == b"".join(CHUNKS)


@given(st.permutations(range(8)), st.lists(st.integers(0, 7)))
def test_order_and_doubles_do_not_matter(order: list[int], again: list[int]) -> None:
    """Whatever the order, however often: the same file."""
    assert kept([*order, *again]) == b"".join(CHUNKS)


@given(st.sets(st.integers(1, 6)))
def test_what_is_missing_is_filled(missing: set[int]) -> None:
    """Between chunks time stays true, pages are numbered without a hole, and each checksum is right."""
    found = list(pages(kept([n for n in range(8) if n not in missing])))
    assert [page.sequence for page in found] == list(range(len(found)))
    packets = sum(len(page.packets) for page in found if not page.is_header)
    assert packets == 8 * PACKETS
    assert found[-1].granule == 8 * PACKETS * ogg.PACKET_GRANULES
    for page in found:
        blank = bytearray(page.raw)
        struct.pack_into("<I", blank, 22, 0)
        assert struct.unpack_from("<I", page.raw, 22)[0] == ogg.checksum(blank)


def test_a_recording_joined_in_the_middle_gets_its_head() -> None:
    """The alarm state's header pages go before the first chunk there is; nothing is made up before it."""
    data = kept([3, 4], head=HEAD)
    found = list(pages(data))
    assert data.startswith(HEAD)
    assert found[2].granule == 4 * PACKETS * ogg.PACKET_GRANULES
    assert found[-1].flags & 0x04


def test_a_recording_without_any_head_still_gets_one() -> None:
    """No alarm state was seen: the usual parameters stand in."""
    assert next(pages(kept([3]))).is_header


def test_a_broken_head_is_as_none() -> None:
    """Noise in the alarm state does not spoil the file."""
    assert next(pages(kept([3], head=b"OggS" + bytes(30)))).is_header


def test_a_new_link_follows_the_old_one() -> None:
    """A link that was left open is ended before the next one begins."""
    first, second = recording(2, serial=1, ended=False), recording(2, serial=2)
    sound = Sound()
    for n, chunk in enumerate(first + second):
        sound.add(n, chunk)
    found = list(pages(sound.file()))
    assert [page.serial for page in found if page.flags & 0x04] == [1, 2]


def test_noise_is_left_out() -> None:
    """A chunk that is no Ogg is refused; the others make the file."""
    sound = Sound()
    assert not sound.add(0, b"noise")
    assert not sound.add(0, b"OggS" + bytes(40))
    assert sound.add(0, CHUNKS[0])
    assert len(sound) == 1


def test_there_is_a_limit() -> None:
    """A flood of sound does not fill the memory."""
    assert not Sound().add(0, CHUNKS[0] * (LIMIT_BYTES // len(CHUNKS[0]) + 1))


def test_an_absurd_position_is_not_filled() -> None:
    """A granule position years ahead does not make a file of years."""
    link = ogg.Link(7, sequence=90, granule=2**50)
    stitcher = Stitcher()
    stitcher.chunk(CHUNKS[0])
    assert len(stitcher.chunk(link.audio(tone(2)))) < 1000


@given(st.binary(max_size=300))
def test_noise_raises_nothing_but_value_error(data: bytes) -> None:
    """Splitting pages ends with ValueError or pages, whatever the bytes."""
    try:
        found = list(pages(data))
    except ValueError:
        return
    assert b"".join(page.raw for page in found) == data


@pytest.mark.skipif(shutil.which("opusinfo") is None, reason="opusinfo (opus-tools) is not installed")
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("numbers", [list(range(8)), [0, 1, 5, 7], [0, 7]])
def test_players_accept_the_file_and_its_length(tmp_path: Path, numbers: list[int]) -> None:
    """opusinfo finds no fault, ffmpeg decodes without a word, the length is four seconds."""
    path = tmp_path / "alarm.opus"
    path.write_bytes(kept(numbers))
    info = subprocess.run(["opusinfo", path], capture_output=True, text=True, check=False)
    assert "WARNING" not in info.stdout + info.stderr, info.stdout
    assert info.returncode == 0, info.stderr
    decode = ["ffmpeg", "-v", "warning", "-i", str(path), "-f", "s16le", "-ar", "16000", "-ac", "1", "-"]
    decoded = subprocess.run(decode, capture_output=True, check=True)
    assert decoded.stderr == b""
    assert abs(len(decoded.stdout) / 2 / RATE_HZ - 4) < 0.1


def test_the_order_waits_for_a_late_chunk() -> None:
    """A chunk that comes within two seconds takes its turn; then what waited follows."""
    order = Order()
    assert order.push(4, b"4", 0.0) == [b"4"]
    assert order.push(6, b"6", 0.5) == []
    assert order.push(5, b"5", 1.0) == [b"5", b"6"]


def test_the_order_goes_on_without_a_chunk_that_does_not_come() -> None:
    """After two seconds the next one there is follows; the late one is left out then."""
    order = Order()
    order.push(0, b"0", 0.0)
    assert order.push(2, b"2", 1.0) == []
    assert order.due(2.9) == []
    assert order.due(3.0) == [b"2"]
    assert order.push(1, b"1", 3.1) == []


def test_a_tone_has_its_level() -> None:
    """A tone at a quarter of full scale is 15 dB below it: 12 for its peak, 3 for its form."""
    level = Meter().level_dbfs(CHUNKS[3])
    assert level == pytest.approx(-15.3, abs=1.5)


def test_silence_is_the_lowest_level() -> None:
    """Digital silence is at the bottom of the meter."""
    link = ogg.Link(7)
    level = Meter().level_dbfs(link.audio(tone(5, amplitude=0)))
    assert level is not None
    assert level <= SILENCE_DBFS + 1


def test_missing_sound_and_noise_have_no_level() -> None:
    """What was not captured is not shown as silence."""
    meter = Meter()
    concealed = [ogg.concealed(tone(1)[0])] * 5
    assert meter.level_dbfs(ogg.Link(7).audio(concealed)) is None
    assert meter.level_dbfs(b"noise") is None
    assert meter.level_dbfs(ogg.Link(7).audio([b"\xff" * 40])) is None


@pytest.mark.parametrize(("level", "lit"), [(0.0, 20), (-30.0, 10), (-60.0, 0), (-99.0, 0), (3.0, 20)])
def test_the_bar_is_full_at_full_scale(level: float, lit: int) -> None:
    """Twenty signs, from −60 to 0 dBFS."""
    assert bar(level) == "█" * lit + "░" * (20 - lit)
