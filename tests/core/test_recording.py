"""Captured sound to chunks: numbering, time, gaps, and what real players say of the file."""

import base64
import math
import struct
from dataclasses import replace
from pathlib import Path

import opuslib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from players import accepted, decode, needs_players, opusinfo

from gatewayd.core.model import ClockSource, Instant
from gatewayd.core.recording import Chunk, Gap, GapCause, Mark, Recording
from gatewayd.core.sound import Closed, Event, Failed, Missing, Opened, Packet

NOW = Instant(boot="b", mono_s=1000.0, wall_s=1_700_000_000.0, source=ClockSource.NTP, uncertainty_ms=5)


def tone_packets(count: int) -> list[bytes]:
    encoder = opuslib.Encoder(16_000, 1, "voip")
    encoder.bitrate = 24_000
    pcm = struct.pack("<16000h", *(round(16000 * math.sin(math.tau * 440 * i / 16000)) for i in range(16000)))
    return [encoder.encode(pcm[at * 640 : at * 640 + 640], 320) for at in (n % 50 for n in range(count))]


TONE = tone_packets(50)


class Session:
    """A microphone and the recording it feeds, at the times that are told."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.chunks: list[Chunk] = []

    def take(self, event: Event) -> None:
        self.chunks += self.recording.take(event, replace(NOW, mono_s=event.at_s, wall_s=wall(event.at_s)))

    def open(self, at_s: float) -> None:
        self.take(Opened(at_s=at_s, pre_skip=312))

    def sound(self, at_s: float, count: int) -> None:
        for n in range(count):
            self.take(Packet(at_s=at_s + n * 0.02, opus=TONE[n % 50]))

    @property
    def file(self) -> bytes:
        return b"".join(chunk.pages for chunk in self.chunks)

    @property
    def gaps(self) -> list[Gap]:
        return [gap for chunk in self.chunks for gap in chunk.gaps]


def wall(mono_s: float) -> float:
    return NOW.wall_s + mono_s - NOW.mono_s


def session(mark: Mark | None = None) -> Session:
    return Session(Recording("alarm-1", rate_hz=16_000, chunk_s=0.5, mark=mark))


def test_chunks_are_numbered_and_dated() -> None:
    """The first after 100 ms, then one each 500 ms, the last at the end; each with its instant."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 100)
    one.take(Closed(at_s=1002.0))
    assert [chunk.n for chunk in one.chunks] == [0, 1, 2, 3, 4]
    assert [chunk.duration_ms for chunk in one.chunks] == [100, 500, 500, 500, 400]
    assert [round(chunk.at.mono_s, 6) for chunk in one.chunks] == [1000.0, 1000.1, 1000.6, 1001.1, 1001.6]
    assert [round(chunk.at.wall_s - NOW.wall_s, 3) for chunk in one.chunks] == [0.0, 0.1, 0.6, 1.1, 1.6]
    assert one.gaps == []


def test_the_head_is_what_chunk_0_begins_with() -> None:
    """Whoever joins later gets it from the alarm state; before there is sound there is none."""
    one = session()
    assert session().recording.head_base64 is None
    one.open(1000.0)
    one.sound(1000.0, 5)
    head = base64.b64decode(one.recording.head_base64 or "")
    assert head[28:36] == b"OpusHead"
    assert one.chunks[0].pages.startswith(head)


def test_lost_sound_keeps_its_place() -> None:
    """300 ms that were not read in time: concealed packets fill them, and the chunk lists the gap."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 40)
    one.sound(1001.1, 45)
    one.take(Closed(at_s=1002.0))
    assert sum(chunk.duration_ms for chunk in one.chunks) == 2000
    (gap,) = one.gaps
    assert (gap.duration_ms, gap.cause, gap.filled) == (300, GapCause.OVERRUN, True)
    assert gap.at.mono_s == pytest.approx(1000.8)
    assert gap.at.wall_s == pytest.approx(wall(1000.8))


def test_a_device_that_comes_back_goes_on_in_its_link() -> None:
    """What was heard goes at once, the time without the device follows in pieces, the sound in step."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 10)
    one.take(Failed(at_s=1000.3, reason="unplugged"))
    assert [chunk.duration_ms for chunk in one.chunks] == [100, 100]
    one.take(Missing(at_s=1002.2))
    assert [chunk.duration_ms for chunk in one.chunks] == [100, 100, 2000]
    one.open(1003.0)
    one.sound(1003.0, 50)
    one.take(Closed(at_s=1004.0))
    assert sum(chunk.duration_ms for chunk in one.chunks) == 4000
    assert [(gap.duration_ms, gap.cause) for gap in one.gaps] == [
        (2000, GapCause.DEVICE),
        (800, GapCause.DEVICE),
    ]
    assert one.file.count(b"OpusHead") == 1


def test_a_device_that_stays_away_is_a_gap_to_the_end() -> None:
    """The recording lasts as long as it was wanted."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 10)
    one.take(Failed(at_s=1000.3, reason="unplugged"))
    one.take(Closed(at_s=1001.2))
    assert sum(chunk.duration_ms for chunk in one.chunks) == 1200
    assert one.gaps[-1].duration_ms == 1000


def test_nothing_comes_of_nothing() -> None:
    """Without a first sound there is no chunk, and time without a recording is not filled."""
    one = session()
    one.take(Failed(at_s=1000.0, reason="no device"))
    one.take(Missing(at_s=1002.0))
    one.take(Closed(at_s=1003.0))
    one.open(1004.0)
    one.take(Missing(at_s=1005.0))
    one.take(Closed(at_s=1006.0))
    one.sound(1006.0, 30)
    assert one.chunks == []
    assert one.recording.next_n == 0


def test_an_end_between_two_chunks_is_a_chunk() -> None:
    """A link that ends with nothing pending still gets its last page."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 5)
    one.take(Closed(at_s=1000.1))
    assert [(chunk.n, chunk.duration_ms) for chunk in one.chunks] == [(0, 100), (1, 0)]
    assert one.chunks[-1].pages[5] == 4
    assert one.chunks[-1].mark.ended


def test_wanted_again_begins_a_new_link() -> None:
    """Another start for the same alarm: numbers go on, headers and serial number are new, no gap is told."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 10)
    one.take(Closed(at_s=1000.2))
    one.open(1100.0)
    one.sound(1100.0, 10)
    one.take(Closed(at_s=1100.2))
    assert [chunk.n for chunk in one.chunks] == [0, 1, 2, 3]
    assert one.file.count(b"OpusHead") == 2
    assert len({chunk.mark.serial for chunk in one.chunks}) == 2
    assert [chunk.duration_ms for chunk in one.chunks] == [100, 100, 100, 100]
    assert [chunk.mark.granule for chunk in one.chunks] == [4800, 9600, 14_400, 19_200]
    assert one.gaps == []


def killed_and_resumed(boot: str = "b", source: ClockSource = ClockSource.NTP) -> Session:
    """A second run that goes on after a first that was killed at 1000.6 s."""
    first = session()
    first.open(1000.0)
    first.sound(1000.0, 37)
    mark = Mark.from_json(first.chunks[-1].mark.to_json())
    second = session(replace(mark, end=replace(mark.end, boot=boot, source=source)))
    second.chunks = list(first.chunks)
    second.open(1010.0)
    second.sound(1010.0, 50)
    second.take(Closed(at_s=1011.0))
    return second


def test_after_a_restart_the_old_link_is_ended_and_a_new_one_begins() -> None:
    """The numbering goes on; the time between is a gap that nothing fills."""
    both = killed_and_resumed()
    assert [chunk.n for chunk in both.chunks] == [0, 1, 24, 25, 26]
    (gap,) = both.gaps
    assert gap.skipped == 22  # 9.4 s of chunks of half a second, and 4 that may have been shorter
    assert (gap.duration_ms, gap.cause, gap.filled) == (9400, GapCause.RESTART, False)
    assert gap.at.mono_s == pytest.approx(1000.6)
    assert both.chunks[2].gaps == (gap,)


def test_after_a_reboot_the_gap_is_as_long_as_the_wall_clocks_say() -> None:
    """Monotonic times of two boots do not compare."""
    assert killed_and_resumed(boot="a").gaps[0].duration_ms == 9400


def test_after_a_reboot_without_a_clock_the_gap_has_no_length() -> None:
    """Nothing is guessed, and no number given twice."""
    both = killed_and_resumed(boot="a", source=ClockSource.NONE)
    assert both.gaps[0].duration_ms is None
    assert both.chunks[2].n == 1_002


def test_a_recording_the_disk_knows_nothing_of_leaves_out_what_it_may_have_given() -> None:
    """It began, and went out from memory before the disk had any of it: no link is ended, no number used."""
    nothing = Mark(next_n=0, serial=0, sequence=0, granule=0, end=replace(NOW, mono_s=1000.0), ended=False)
    second = session(nothing)
    second.open(1003.0)
    second.sound(1003.0, 30)
    assert [chunk.n for chunk in second.chunks] == [10, 11]
    assert [(gap.duration_ms, gap.skipped) for gap in second.gaps] == [(3000, 10)]
    assert second.file.startswith(second.recording.head or b"?")


def test_a_recording_that_was_ended_is_not_ended_again() -> None:
    """A restart after a proper end, then listening anew: no gap, no second end."""
    first = session()
    first.open(1000.0)
    first.sound(1000.0, 5)
    first.take(Closed(at_s=1000.1))
    second = session(first.chunks[-1].mark)
    second.open(1010.0)
    second.sound(1010.0, 5)
    assert second.gaps == []
    assert second.file.startswith(second.recording.head or b"?")


def test_a_recording_that_ended_though_it_was_wanted_goes_on_after_a_gap() -> None:
    """The daemon stopped, as at an upgrade: its link has its end, and the time until the next is missing."""
    first = session()
    first.open(1000.0)
    first.sound(1000.0, 5)
    first.chunks += first.recording.end(1000.1, NOW, wanted=True)
    second = session(Mark.from_json(first.chunks[-1].mark.to_json()))
    second.open(1010.0)
    second.sound(1010.0, 30)
    assert [(gap.duration_ms, gap.cause) for gap in second.gaps] == [(9900, GapCause.RESTART)]
    assert second.file.startswith(second.recording.head or b"?")


def test_a_resumed_recording_ends_the_old_link_with_its_first_sound() -> None:
    """When the device fails once more before any sound came, the next opening still ends it."""
    first = session()
    first.open(1000.0)
    first.sound(1000.0, 5)
    second = session(first.chunks[-1].mark)
    second.open(1010.0)
    second.take(Closed(at_s=1011.0))
    assert second.chunks == []
    second.open(1020.0)
    second.sound(1020.0, 5)
    assert second.file[5] == 4
    assert [(gap.duration_ms, gap.skipped) for gap in second.gaps] == [(19900, 43)]
    assert second.chunks[0].n == 44


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("sound"), st.integers(1, 60)),
            st.tuples(st.just("lost"), st.integers(1, 60)),
            st.tuples(st.just("failed"), st.integers(0, 60)),
            st.tuples(st.just("missing"), st.integers(0, 60)),
            st.tuples(st.just("opened"), st.integers(0, 60)),
        ),
        max_size=12,
    )
)
def test_time_stays_true_whatever_happens(story: list[tuple[str, int]]) -> None:
    """From first sound to end: chunks lie end to end, and gaps and sound add up to the whole."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 1)
    at, heard = 1, 1  # packets
    for what, count in story:
        if what == "sound":
            one.sound(1000.0 + at * 0.02, count)
            heard += count
        at += count
        if what == "failed":
            one.take(Failed(at_s=1000.0 + at * 0.02, reason="unplugged"))
        elif what == "missing":
            one.take(Missing(at_s=1000.0 + at * 0.02))
        elif what == "opened":
            one.open(1000.0 + at * 0.02)
    one.sound(1000.0 + at * 0.02, 1)
    one.take(Closed(at_s=1000.0 + (at + 1) * 0.02))
    assert sum(chunk.duration_ms for chunk in one.chunks) == (at + 1) * 20
    assert sum(gap.duration_ms or 0 for gap in one.gaps) == (at - heard) * 20
    for chunk, following in zip(one.chunks, one.chunks[1:], strict=False):
        assert following.at.mono_s == pytest.approx(chunk.at.mono_s + chunk.duration_ms / 1000)


# --- what players say ---------------------------------------------------------------------------------------


@needs_players
def test_players_accept_a_recording_with_gaps(tmp_path: Path) -> None:
    """Overrun, device away, device back: no warning, and as long as it lasted."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 40)
    one.sound(1001.1, 45)
    one.take(Failed(at_s=1002.0, reason="unplugged"))
    one.take(Missing(at_s=1010.0))
    one.open(1011.0)
    one.sound(1011.0, 50)
    one.take(Closed(at_s=1012.0))
    file = tmp_path / "alarm.opus"
    file.write_bytes(one.file)
    assert len(accepted(file)) / 16_000 == pytest.approx(12.0, abs=0.1)


@needs_players
def test_players_accept_a_recording_that_a_restart_cut_in_two(tmp_path: Path) -> None:
    """Two links, the first ended by the second run: both play whole."""
    file = tmp_path / "alarm.opus"
    file.write_bytes(killed_and_resumed().file)
    assert len(accepted(file)) / 16_000 == pytest.approx(1.6, abs=0.1)


@needs_players
def test_players_accept_sound_that_was_wanted_twice(tmp_path: Path) -> None:
    """Two links of one run, longer than any jump in time that a player passes over in silence."""
    one = session()
    for start_s in (1000.0, 1100.0):
        one.open(start_s)
        one.sound(start_s, 750)
        one.take(Closed(at_s=start_s + 15))
    file = tmp_path / "alarm.opus"
    file.write_bytes(one.file)
    assert len(accepted(file)) / 16_000 == pytest.approx(30.0, abs=0.1)


@needs_players
def test_a_recording_cut_off_by_a_kill_plays_to_its_end(tmp_path: Path) -> None:
    """Without its last page ffmpeg does not complain; opusinfo says, and only, that the end is missing."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 55)
    file = tmp_path / "alarm.opus"
    file.write_bytes(one.file)
    samples, complaints = decode(file)
    assert complaints == ""
    assert len(samples) / 16_000 == pytest.approx(1.1, abs=0.1)
    warnings = [line for line in opusinfo(file).splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "EOS not set" in warnings[0]


@needs_players
def test_one_can_join_in_the_middle(tmp_path: Path) -> None:
    """The head and any later chunks play."""
    one = session()
    one.open(1000.0)
    one.sound(1000.0, 105)
    one.take(Closed(at_s=1002.1))
    file = tmp_path / "alarm.opus"
    file.write_bytes((one.recording.head or b"") + b"".join(chunk.pages for chunk in one.chunks[2:]))
    samples, complaints = decode(file)
    assert complaints == ""
    assert len(samples) / 16_000 == pytest.approx(1.5, abs=0.1)


def test_a_gap_says_how_long_it_is_where_that_is_known() -> None:
    """As the alarm's state carries it."""
    at = Instant(boot="b", mono_s=1.0, wall_s=2.0, source=ClockSource.NTP, uncertainty_ms=1)
    known = Gap(at=at, duration_ms=40, cause=GapCause.OVERRUN, filled=True)
    unknown = Gap(at=at, duration_ms=None, cause=GapCause.RESTART, filled=False)
    assert known.body == {"at": at, "duration_ms": 40, "cause": "overrun", "filled": True}
    assert unknown.body == {"at": at, "cause": "restart", "filled": False}
