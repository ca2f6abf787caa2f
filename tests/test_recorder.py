"""Whose sound it is, and what becomes of it when the microphone is changed under a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest

from gatewayd.core import alarm as alarms
from gatewayd.core import payload, sound
from gatewayd.core.evidence import LIST_CHUNKS, digest
from gatewayd.core.model import ClockSource, Draft, Instant
from gatewayd.recorder import Recorder

FIRST, SECOND = "first", "second"
OPUS = bytes([0x48, 1, 2, 3])  # a packet of 20 ms, as far as its first byte says
RATE_HZ, CHUNK_S = 16_000, 0.5


@dataclass
class Source:
    """A microphone that notes what is wanted of it."""

    wanted: list[bool] = field(default_factory=list)

    def start(self) -> None:
        self.wanted.append(True)

    def stop(self) -> None:
        self.wanted.append(False)


@dataclass
class Told:
    """A recorder, its microphone, a clock, and all it told."""

    source: Source = field(default_factory=Source)
    events: list[alarms.Event] = field(default_factory=list)
    chunks: list[tuple[Draft, bytes, str, alarms.Chunked]] = field(default_factory=list)
    lists: list[Draft] = field(default_factory=list)
    now_s: float = 100.0

    def __post_init__(self) -> None:
        self.recorder = Recorder(now=self.now, on_event=self.events.append, on_chunk=self._take)
        self.recorder.configure(rate_hz=RATE_HZ, chunk_s=CHUNK_S)
        self.recorder.attach(self.source)

    def _take(
        self, draft: Draft, pages: bytes, mark: str, told: alarms.Chunked, lists: Sequence[Draft]
    ) -> None:
        self.chunks.append((draft, pages, mark, told))
        self.lists += lists

    def now(self) -> Instant:
        return Instant(
            boot="b",
            mono_s=self.now_s,
            wall_s=1_000_000 + self.now_s,
            source=ClockSource.NTP,
            uncertainty_ms=1,
        )

    def hear(self, seconds: float) -> None:
        """The microphone opens and gives sound."""
        self.recorder.take(sound.Opened(at_s=self.now_s, pre_skip=312))
        self.go_on(seconds)

    def go_on(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.recorder.take(sound.Packet(at_s=self.now_s, opus=OPUS))
            self.now_s += 0.02

    def close(self) -> None:
        self.recorder.take(sound.Closed(at_s=self.now_s))

    def of(self, alarm: str) -> list[str]:
        """The topics of an alarm's chunks, in order."""
        return [draft.topic for draft, _, _, told in self.chunks if told.alarm == alarm]

    def ended(self) -> list[str]:
        return [event.alarm for event in self.events if isinstance(event, alarms.SoundEnded)]


@pytest.fixture
def told() -> Told:
    return Told()


def topics(alarm: str, *numbers: int) -> list[str]:
    return [f"alarm/{alarm}/audio/{n}" for n in numbers]


def test_an_alarm_is_recorded_from_start_to_stop(told: Told) -> None:
    """Opened, numbered chunks with a mark each, then that it has ended."""
    told.recorder.start(FIRST)
    told.recorder.start(FIRST)  # it is being recorded already
    told.hear(1.1)  # a first short chunk of 0.1 s, then whole ones
    told.recorder.stop(FIRST)
    told.close()
    assert told.source.wanted == [True, False]
    assert isinstance(told.events[0], alarms.SoundOpened)
    assert told.of(FIRST) == topics(FIRST, 0, 1, 2, 3)  # the last one has the end alone
    assert told.ended() == [FIRST]


def test_the_next_alarms_sound_waits_for_the_first_ones_last_chunk(told: Told) -> None:
    """Its numbers begin anew, and no packet of the first one's is in it."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.start(SECOND)
    told.go_on(0.1)  # on its way when the microphone was told to stop
    told.close()
    told.hear(0.2)
    assert told.source.wanted == [True, False, True]
    assert told.of(FIRST) == topics(FIRST, 0, 1)
    assert told.of(SECOND) == topics(SECOND, 0)
    assert told.ended() == [FIRST]


def test_without_a_microphone_it_is_said_at_once(told: Told) -> None:
    """And sound begins when one is configured while the alarm is open."""
    told.recorder.attach(None)
    told.recorder.start(FIRST)
    assert isinstance(told.events[0], alarms.SoundUnavailable)
    told.recorder.attach(told.source)
    told.hear(0.2)
    assert told.source.wanted == [True]
    assert told.of(FIRST) == topics(FIRST, 0)


def test_a_stop_for_an_alarm_that_is_not_recorded_changes_nothing(told: Told) -> None:
    told.recorder.start(FIRST)
    told.recorder.stop(SECOND)
    assert told.source.wanted == [True]


def test_another_microphone_goes_on_with_the_recording(told: Told) -> None:
    """A reload changed the device: the link goes on, its numbers too."""
    told.recorder.start(FIRST)
    told.hear(0.2)
    other = Source()
    told.recorder.attach(other)
    told.hear(0.6)
    other_wants = other.wanted
    assert other_wants == [True]
    assert told.of(FIRST) == topics(FIRST, 0, 1)
    assert told.ended() == []


def test_a_microphone_that_is_configured_away_ends_the_link_and_is_said(told: Told) -> None:
    """The sound so far is whole; it goes on in a new link when there is a microphone again."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.attach(None)
    assert told.of(FIRST) == topics(FIRST, 0, 1)
    assert isinstance(told.events[-1], alarms.SoundUnavailable)
    assert told.ended() == []
    told.recorder.attach(told.source)
    told.hear(0.2)
    assert told.of(FIRST) == topics(FIRST, 0, 1, 2)
    assert told.chunks[2][1].startswith(b"OggS\0\2")  # a beginning of stream


def test_a_microphone_that_comes_back_records_nobody_who_is_not_to_be_recorded(told: Told) -> None:
    """The alarm was closed meanwhile; the next one's sound is its own."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.attach(None)
    told.recorder.stop(FIRST)
    told.recorder.attach(told.source)
    assert told.source.wanted == [True]
    told.recorder.start(SECOND)
    told.hear(0.2)
    assert told.of(SECOND) == topics(SECOND, 0)
    assert told.of(FIRST) == topics(FIRST, 0, 1)


def test_a_microphone_that_is_changed_while_closing_owes_nothing(told: Told) -> None:
    """The end it did not live to tell is told for it; the next alarm's sound is not taken for the first's."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.stop(FIRST)
    told.recorder.start(SECOND)
    other = Source()
    told.recorder.attach(other)
    assert told.ended() == [FIRST]
    told.hear(0.2)
    assert other.wanted == [True]
    assert told.of(SECOND) == topics(SECOND, 0)


def test_a_stop_of_the_daemon_closes_the_link(told: Told) -> None:
    """The last page says so (RFC 3533, section 6: header type bit 2); without a recording nothing happens."""
    told.recorder.finish()
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.finish()
    pages = told.chunks[-1][1]
    assert pages[pages.rfind(b"OggS") + 5] & 0x04


def test_sound_that_is_wanted_after_a_stop_is_missing_until_it_goes_on(told: Told) -> None:
    """The daemon stops and starts, as at an upgrade: the time between is a gap, and it is named."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    told.recorder.finish()
    next_run = Told(now_s=told.now_s + 5)
    next_run.recorder.restore(FIRST, told.chunks[-1][2])
    next_run.recorder.start(FIRST)
    next_run.hear(0.2)
    ((_, pages, _, chunked),) = next_run.chunks
    assert [(gap["cause"], gap["duration_ms"]) for gap in chunked.gaps] == [("restart", 5_000)]
    assert pages.startswith(b"OggS\0\2")  # the link before has its end


def test_another_run_goes_on_from_the_mark(told: Told) -> None:
    """Beyond those it may have given, the link that was left open is ended first, and the gap is told."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    next_run = Told(now_s=told.now_s + 5)
    next_run.recorder.restore(FIRST, told.chunks[-1][2])
    next_run.recorder.start(FIRST)
    next_run.hear(0.2)
    ((_, _, _, chunked),) = next_run.chunks
    assert [(gap["cause"], gap["skipped"]) for gap in chunked.gaps] == [("restart", 14)]
    assert next_run.of(FIRST) == topics(FIRST, len(told.chunks) + 14)


@pytest.mark.parametrize("mark", ["", "{}", "null", '{"next_n": 1}'])
def test_a_damaged_mark_costs_no_sound(told: Told, mark: str) -> None:
    """A new link begins."""
    told.recorder.restore(FIRST, mark)
    told.recorder.start(FIRST)
    told.hear(0.2)
    assert told.of(FIRST) == topics(FIRST, 0)


def test_a_recording_without_a_mark_leaves_out_what_went_out_before_the_disk_had_it(told: Told) -> None:
    """A mark that came from the disk says more, and stays."""
    at = replace(told.now(), mono_s=told.now_s - 2)
    told.recorder.began(FIRST, at)
    told.recorder.start(FIRST)
    told.hear(0.2)
    assert told.of(FIRST) == topics(FIRST, 8)
    told.recorder.began(FIRST, at)
    assert payload.load(told.recorder.marks[FIRST])["next_n"] == 9


def test_an_adopted_alarm_is_numbered_from_beyond_what_may_have_been_sent(told: Told) -> None:
    """A forgotten one begins anew."""
    told.recorder.number_from(FIRST, 1_007)
    told.recorder.start(FIRST)
    told.hear(0.2)
    assert told.of(FIRST) == topics(FIRST, 1_007)
    told.recorder.stop(FIRST)
    told.close()
    told.recorder.forget(FIRST)
    told.recorder.start(FIRST)
    told.hear(0.2)
    assert told.of(FIRST)[-1:] == topics(FIRST, 0)


def test_marks_can_be_read_back(told: Told) -> None:
    """What goes with a chunk is what `restore` takes."""
    told.recorder.start(FIRST)
    told.hear(0.2)
    assert payload.load(told.chunks[0][2])["next_n"] == 1


# --- what proves it -----------------------------------------------------------------------------------------


def test_every_chunk_is_listed_by_its_hash_in_its_order(told: Told) -> None:
    """A list leaves with the chunk that fills it, the last one when the chain is sealed."""
    told.recorder.start(FIRST)
    told.hear(0.1 + 0.5 * (LIST_CHUNKS + 1))
    assert len(told.lists) == 1
    assert told.recorder.unsealed(stopping=False) == ()  # it is being recorded
    assert told.recorder.unproved == {FIRST}
    told.recorder.stop(FIRST)
    told.close()
    assert told.recorder.unsealed(stopping=False) == (FIRST,)
    chain, rest = told.recorder.seal(FIRST)
    texts = [str(draft.body["list"]) for draft in (*told.lists, *rest)]
    lines = [line.split("  ") for text in texts for line in text.splitlines()[1:]]
    assert lines == [
        [sha256(pages).hexdigest(), f"audio/{n}"] for n, (_, pages, _, _) in enumerate(told.chunks)
    ]
    assert [draft.topic for draft in (*told.lists, *rest)] == [
        f"alarm/{FIRST}/evidence/0",
        f"alarm/{FIRST}/evidence/{LIST_CHUNKS}",
    ]
    assert f" before {digest(texts[0])}\n" in texts[1]
    assert chain.before == digest(texts[1])
    assert chain.count == len(told.chunks)
    assert told.recorder.unsealed(stopping=True) == ()


def test_another_run_goes_on_with_the_chain(told: Told) -> None:
    """What the first one left unsealed is sealed by the next, and what was left out is listed as a gap."""
    told.recorder.start(FIRST)
    told.hear(0.3)
    next_run = Told(now_s=told.now_s + 5)
    next_run.recorder.restore(FIRST, told.chunks[-1][2])
    assert next_run.recorder.unsealed(stopping=False) == (FIRST,)
    next_run.recorder.start(FIRST)
    next_run.hear(0.2)
    next_run.recorder.finish()
    chain, (last,) = next_run.recorder.seal(FIRST)
    assert chain.start == 0
    assert chain.count == len(told.chunks) + len(next_run.chunks)
    assert "# gap restart 5200 ms, 14 numbers left out" in str(last.body["list"])


def test_without_what_the_disk_had_a_chain_begins_anew(told: Told) -> None:
    told.recorder.number_from(FIRST, 1_007)
    told.recorder.start(FIRST)
    told.hear(0.2)
    told.recorder.stop(FIRST)
    told.close()
    chain, (only,) = told.recorder.seal(FIRST)
    assert chain.start == 1_007
    assert " from 1007 before none\n" in str(only.body["list"])
