"""Was this worker covered at 10:14? The record, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from gatewayd.core.coverage import Answer, Block, Record, Verdict, answer, from_json
from gatewayd.core.coverage.answer import (
    NO_CLOCK,
    NOT_ASSIGNED,
    NOT_RECORDED,
    NOT_RUNNING,
    ROUNDED_S,
    TOO_EARLY,
    UNSAVED_S,
)
from gatewayd.core.coverage.record import (
    ALONE_S,
    BLOCK_S,
    BLOCKS_MAX,
    KEEP_S,
    LOST_SAVE_S,
    RUNS_MAX,
    SAVE_EVERY_S,
    SPANS_MAX,
)
from gatewayd.core.model import ClockSource, Instant, Tag
from gatewayd.core.supervision import Ear, Hearing

EPOCH_S = 1_800_000_000.0  # of the wall clock when the boot's began
TAG = Tag(name="t-1", format="bthome")  # lost after 60 s
OTHER = Tag(name="t-2", format="bthome")
HEARS = Ear(hearing=Hearing.HEARS, since_s=0.0)


def at(mono_s: float, boot: str = "b", source: ClockSource = ClockSource.NTP) -> Instant:
    return Instant(boot=boot, mono_s=mono_s, wall_s=EPOCH_S + mono_s, source=source, uncertainty_ms=5)


def ear(word: str, since_s: float, why: str = "") -> Ear:
    return Ear(hearing=Hearing(word), since_s=since_s, why=why)


def record(
    *tags: Tag, boot: str = "b", source: ClockSource = ClockSource.NTP, begin_s: float = 0.0
) -> Record:
    return Record(tags or (TAG,), HEARS, at(begin_s, boot, source))


def beats(record: Record, first_s: int, last_s: int, step_s: int = 8, *, faint: bool = False) -> None:
    for at_s in range(first_s, last_s + 1, step_s):
        record.heard("t-1", at_s, faint=faint)


def asked(blocks: Iterable[Block], at_s: float, now: Instant | None = None, tag: str = "t-1") -> Answer:
    found = answer(blocks, tag, EPOCH_S + at_s - ROUNDED_S, now or at(100_000.0))
    assert found is not None
    return found


def said(record: Record, at_s: float, now_s: float = 10_000.0) -> Answer:
    return asked(record.blocks(at(now_s)), at_s, at(now_s))


def moment(found: Instant | None) -> float | None:
    return None if found is None else found.wall_s - EPOCH_S


# --- what was heard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "verdict"),
    [
        (99, Verdict.NOT_HEARD),
        (100, Verdict.COVERED),
        (200, Verdict.COVERED),
        (330, Verdict.COVERED),
        (331, Verdict.WEAK),
        (360, Verdict.WEAK),
        (361, Verdict.NOT_HEARD),
    ],
)
def test_hearing_and_silence_are_told_apart(at_s: float, verdict: Verdict) -> None:
    """As a tag's state is: up to half of `lost_after` covered, up to all of it weak."""
    kept = record()
    beats(kept, 100, 300)
    assert said(kept, at_s).verdict is verdict


def test_a_faint_tag_is_weak_then() -> None:
    """Until it was louder."""
    kept = record()
    beats(kept, 100, 300, faint=True)
    beats(kept, 310, 400)
    assert [said(kept, at_s).verdict for at_s in (200, 305, 320)] == ["weak", "weak", "covered"]


def test_the_hearings_around_a_moment_are_told() -> None:
    """The last before and the first after; where it was heard all the time, from when to when."""
    kept = record()
    beats(kept, 100, 300, step_s=10)
    beats(kept, 500, 600, step_s=10)
    silent = said(kept, 400)
    assert (moment(silent.last_heard), moment(silent.next_heard)) == (300, 500)
    covered = said(kept, 550)
    assert (moment(covered.heard_from), moment(covered.heard_to)) == (500, 600)
    assert (covered.last_heard, covered.next_heard) == (None, None)
    assert moment(said(kept, 650).last_heard) == 600
    assert (said(kept, 50).last_heard, moment(said(kept, 50).next_heard)) == (None, 100)


def test_an_advertisement_out_of_order_changes_nothing() -> None:
    """What was heard before the record began counts at its beginning."""
    kept = record(begin_s=100.0)
    kept.heard("t-1", 99.0, faint=False)
    kept.heard("t-1", 110.0, faint=False)
    kept.heard("t-1", 105.0, faint=False)
    (block,) = kept.blocks(at(120.0))
    assert [(run.first_s, run.last_s) for run in block.tracks["t-1"].runs] == [(0, 10)]


# --- what could be heard ------------------------------------------------------------------------------------


def test_a_radio_that_failed_was_deaf_from_the_last_second_it_was_known_to_hear() -> None:
    """With its reason, until it hears again."""
    kept = record()
    beats(kept, 10, 100, step_s=10)
    kept.known(104.0)  # somebody else
    kept.radio(ear("deaf", 120.0, "no adapter"))
    kept.radio(ear("hears", 200.0))
    assert said(kept, 103).verdict is Verdict.COVERED
    found = said(kept, 110)
    assert (found.verdict, found.why) == (Verdict.COULD_NOT_HEAR, "no adapter")
    assert (moment(found.since), moment(found.until)) == (105, 200)
    assert moment(found.last_heard) == 100


def test_a_radio_that_is_deaf_for_less_than_a_second_was_so_in_that_second() -> None:
    """Health told it, so the record does."""
    found = record()
    beats(found, 0, 96)
    found.known(100.1)
    found.radio(ear("deaf", 100.2, "bluetoothd ended"))
    found.radio(ear("hears", 100.9))
    beats(found, 104, 200)
    assert said(found, 100.5).verdict is Verdict.COULD_NOT_HEAR
    assert said(found, 101.5).verdict is Verdict.COVERED


def spans(record: Record) -> list[tuple[int, str]]:
    (block,) = record.blocks(at(1_000.0))
    return [(span.from_s, span.hearing) for span in block.spans]


def test_of_a_second_the_worst_is_kept() -> None:
    """A scan that is replaced is deaf, then unproven until it hears, all within half a second."""
    kept = record()
    kept.known(99.1)
    kept.radio(ear("deaf", 100.2, "the scan is dead"))
    kept.radio(ear("unproven", 100.5, "unproven: not yet"))
    assert spans(kept) == [(0, "hears"), (100, "deaf"), (101, "unproven")]
    kept.radio(ear("hears", 100.9))
    beats(kept, 101, 200)
    assert spans(kept) == [(0, "hears"), (100, "deaf"), (101, "hears")]
    assert [said(kept, at_s).verdict for at_s in (100, 100.99, 101)] == [
        Verdict.COULD_NOT_HEAR,
        Verdict.COULD_NOT_HEAR,
        Verdict.COVERED,
    ]


def test_a_silence_that_is_told_from_the_second_of_a_deafness_leaves_it_there() -> None:
    """Nothing was heard since that scan began: unproven from then on, and deaf before."""
    kept = record()
    kept.known(99.1)
    kept.radio(ear("deaf", 100.2, "the scan is dead"))
    kept.radio(ear("hears", 100.9))
    kept.radio(ear("unproven", 161.0, "unproven: silence"))
    assert spans(kept) == [(0, "hears"), (100, "deaf"), (101, "unproven")]


def test_a_radio_that_comes_and_goes_all_the_time_was_deaf_in_each_second() -> None:
    """Also where a deafness is one with that of the second before; and the record does not grow by it."""
    kept = record()
    for tenth in range(0, 100, 2):
        kept.known(100 + tenth / 10)
        kept.radio(ear("deaf", 100 + tenth / 10, "off"))
        kept.radio(ear("hears", 100.1 + tenth / 10))
    assert spans(kept) == [(0, "hears"), (100, "deaf"), (110, "hears")]


def test_a_deafness_lasts_to_the_end_of_its_last_second() -> None:
    """However long it was."""
    kept = record()
    kept.radio(ear("deaf", 100.0, "off"))
    kept.radio(ear("hears", 110.9))
    beats(kept, 111, 200)
    assert [said(kept, at_s).verdict for at_s in (110.5, 111)] == [Verdict.COULD_NOT_HEAR, Verdict.COVERED]


def test_a_deafness_within_the_second_in_which_a_block_ends_is_in_it() -> None:
    """What follows it is the next block's."""
    kept = record()
    kept.known(100.1)
    kept.radio(ear("deaf", 100.2, "off"))
    kept.radio(ear("hears", 100.4))
    kept.assign((TAG, OTHER), at(100.6))
    first, second = kept.blocks(at(200.0))
    assert [span.hearing for span in (*first.spans, *second.spans)] == ["hears", "deaf", "hears", "hears"]
    assert [said(kept, at_s).verdict for at_s in (100.3, 101)] == [Verdict.COULD_NOT_HEAR, Verdict.UNKNOWN]


def test_a_radio_that_comes_and_goes_without_hearing_anything_was_deaf_all_the_time() -> None:
    """That it scans again is no proof that it hears."""
    kept = record()
    for at_s in (10.0, 20.0, 30.0):
        kept.radio(ear("deaf", at_s, "off"))
        kept.radio(ear("hears", at_s + 5))
    kept.radio(ear("deaf", 40.0, "off"))
    (block,) = kept.blocks(at(50.0))
    assert [(span.from_s, span.hearing) for span in block.spans] == [(0, Hearing.DEAF)]


def test_an_unproven_time_that_ends_deaf_was_deaf_from_its_last_proof() -> None:
    """What seemed unproven is known afterwards."""
    kept = record()
    kept.known(50.0)
    kept.radio(ear("unproven", 60.0, "unproven: silence"))
    assert said(kept, 70).why == "unproven: silence"
    kept.radio(ear("deaf", 100.0, "the scan is dead"))
    kept.radio(ear("deaf", 130.0, "bluetoothd is gone"))  # another reason, from then on
    assert [said(kept, at_s).why for at_s in (55, 70, 131)] == [
        "the scan is dead",
        "the scan is dead",
        "bluetoothd is gone",
    ]


def test_a_radio_that_fell_silent_is_unproven_from_the_last_second_it_was_known_to_hear() -> None:
    """It is found out a minute later; in that minute nobody can be said not to be heard. Nor deaf, before."""
    kept = record()
    kept.radio(ear("deaf", 100.0, "no adapter"))
    kept.radio(ear("unproven", 150.0, "unproven: not yet"))
    kept.radio(ear("hears", 200.0))
    kept.known(300.0)
    kept.radio(ear("unproven", 361.0, "unproven: silence"))
    assert (said(kept, 120).verdict, said(kept, 160).why) == (Verdict.COULD_NOT_HEAR, "unproven: not yet")
    assert said(kept, 300).verdict is Verdict.NOT_HEARD
    found = said(kept, 340)
    assert (found.verdict, found.why, moment(found.since)) == (Verdict.UNKNOWN, "unproven: silence", 301)


def test_while_hearing_is_unproven_only_a_tag_that_is_heard_is_known_of() -> None:
    kept = record()
    kept.known(99.0)
    kept.radio(ear("unproven", 100.0, "unproven: silence"))
    beats(kept, 500, 600)
    assert said(kept, 550).verdict is Verdict.COVERED
    found = said(kept, 400)
    assert (found.verdict, found.why, moment(found.since)) == (Verdict.UNKNOWN, "unproven: silence", 100)


def test_a_silence_right_after_deafness_proves_nothing() -> None:
    """The tag has had no time to be heard again."""
    kept = record()
    kept.radio(ear("deaf", 100.0, "no adapter"))
    kept.radio(ear("hears", 200.0))
    assert said(kept, 250).verdict is Verdict.UNKNOWN
    assert said(kept, 260).verdict is Verdict.NOT_HEARD


def test_deafness_is_told_whole_over_blocks() -> None:
    """Whatever the record's own pieces are."""
    kept = record()
    kept.radio(ear("deaf", 100.0, "off"))
    for at_s in range(1, 4):
        kept.save(at(at_s * BLOCK_S))
    kept.radio(ear("hears", 3 * BLOCK_S + 50))
    for asked_s in (200.0, 1.5 * BLOCK_S, 3 * BLOCK_S + 20):
        found = said(kept, asked_s, 4 * BLOCK_S)
        assert (moment(found.since), moment(found.until)) == (0, 3 * BLOCK_S + 50)


def test_deafness_that_goes_on_has_no_end() -> None:
    """In one block, and over several."""
    kept = record()
    kept.known(99.0)
    kept.radio(ear("deaf", 100.0, "off"))
    assert said(kept, 200, 300).until is None
    kept.save(at(BLOCK_S))
    assert said(kept, 200, BLOCK_S + 1).until is None
    assert moment(said(kept, BLOCK_S + 1, BLOCK_S + 2).since) == 100


def test_another_reason_ends_it_at_the_blocks_border() -> None:
    kept = record()
    kept.radio(ear("deaf", 0.0, "off"))
    kept.save(at(BLOCK_S))
    kept.radio(ear("deaf", BLOCK_S, "gone"))
    assert moment(said(kept, 10).until) == BLOCK_S
    assert moment(said(kept, BLOCK_S + 10).since) == BLOCK_S


def test_another_boots_deafness_is_another() -> None:
    """The times between are the gateway's that did not run."""
    one, two = record(), record(boot="c", begin_s=901.0)
    for kept in (one, two):
        kept.radio(ear("deaf", 0.0, "off"))
    blocks = (*one.blocks(at(900.0)), *two.blocks(at(2000.0, "c")))
    assert moment(asked(blocks, 500).until) == 900
    assert moment(asked(blocks, 1500).since) == 901


# --- when the gateway was not running -----------------------------------------------------------------------


def ended(*, stopped: bool, source: ClockSource = ClockSource.NTP) -> list[Block]:
    """A run of 1,000 s that ended, and one from 9,000 to 9,100 s."""
    first, second = record(source=source), record(boot="c", begin_s=9_000.0)
    beats(first, 0, 1_000)
    texts = first.save(at(1_000.0, source=source), stopped=stopped).put.values()
    return [*map(from_json, texts), *second.blocks(at(9_100.0, "c"))]


@pytest.mark.parametrize(
    ("stopped", "at_s", "verdict", "why"),
    [
        (True, 1_001, Verdict.COULD_NOT_HEAR, NOT_RUNNING),
        (False, 1_001, Verdict.UNKNOWN, NOT_RECORDED),
        (False, 1_001 + UNSAVED_S, Verdict.COULD_NOT_HEAR, NOT_RUNNING),
        (True, 9_101, Verdict.UNKNOWN, NOT_RECORDED),
        (True, 90_000, Verdict.COULD_NOT_HEAR, NOT_RUNNING),
        (True, -1, Verdict.UNKNOWN, TOO_EARLY),
    ],
)
def test_a_time_without_a_record_says_why(stopped: bool, at_s: float, verdict: Verdict, why: str) -> None:
    """Not running; or died before it wrote what it heard; or before the record begins."""
    found = asked(ended(stopped=stopped), at_s)
    assert (found.verdict, found.why) == (verdict, why)


def test_a_gap_tells_its_borders_and_the_hearings_around_it() -> None:
    found = asked(ended(stopped=True), 5_000)
    assert (moment(found.since), moment(found.until)) == (1_000, 9_000)
    assert (moment(found.last_heard), found.next_heard) == (1_000, None)


def test_a_tag_that_was_not_assigned_then_is_not_judged() -> None:
    """Nor is one that never was."""
    kept = record()
    kept.assign([TAG, OTHER], at(500.0))
    kept.assign([OTHER, TAG], at(600.0))  # the same
    blocks = kept.blocks(at(1_000.0))
    assert len(blocks) == 2
    assert asked(blocks, 400, tag="t-2").why == NOT_ASSIGNED
    assert asked(blocks, 700, tag="t-2").verdict is Verdict.NOT_HEARD
    assert answer(blocks, "t-3", EPOCH_S, at(1_000.0)) is None


# --- clocks -------------------------------------------------------------------------------------------------


def test_a_block_without_a_clock_is_told_rightly_once_its_boot_knows_the_time() -> None:
    """By a later block, or by the clock as it stands."""
    early = record(source=ClockSource.NONE)
    beats(early, 100, 300)
    wrong = replace(at(400.0, source=ClockSource.NONE), wall_s=5.0)
    blocks = [replace(block, end=wrong) for block in early.blocks(at(400.0))]
    assert asked(blocks, 200, at(1_000.0)).verdict is Verdict.COVERED
    assert asked(blocks, 200, at(1_000.0)).body["clock"] == {"source": "ntp", "uncertainty_ms": 5}
    later = record(begin_s=400.0).blocks(at(500.0))
    assert asked([*blocks, *later], 200, at(9.0, "other")).verdict is Verdict.COVERED


def test_an_unknown_clock_is_said() -> None:
    """What the gateway believed is all there is."""
    kept = record(source=ClockSource.NONE)
    beats(kept, 100, 300)
    found = asked(kept.blocks(at(400.0, source=ClockSource.NONE)), 200, at(9.0, "other"))
    assert found.verdict is Verdict.COVERED
    assert found.body["clock"] == {"source": "none", "uncertainty_ms": 5}


def test_a_gap_may_be_the_time_that_has_no_clock() -> None:
    """Where the gateway ran without knowing the time, nobody can say that it did not run then."""
    blocks = ended(stopped=True, source=ClockSource.NONE)
    now = at(9_200.0, "c")
    assert asked(blocks, 20_000, now).why == NO_CLOCK
    assert asked(blocks, 8_000, now).why == NO_CLOCK
    assert asked(blocks, 9_099, now).why == ""


# --- the disk -----------------------------------------------------------------------------------------------


def test_a_block_comes_back_from_the_disk() -> None:
    kept = record(TAG, OTHER)
    beats(kept, 100, 300)
    beats(kept, 310, 330, faint=True)
    kept.radio(ear("deaf", 400.0, "no adapter"))
    (block,) = kept.blocks(at(500.0))
    assert from_json(block.to_json()) == block


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ('"stopped":false', '"stopped":0'),
        ('[0,"hears",""]', '[0,"hears"]'),
        ('[0,"hears",""]', '[0,"sees",""]'),
        ('[[0,"hears",""]]', "[]"),
        ('"runs":[1,2,0]', '"runs":[1,2]'),
        ('"runs":[1,2,0]', '"runs":[1,2,"0"]'),
        ('"runs":[1,2,0]', '"run":[]'),
        ("{", "["),
    ],
)
def test_a_damaged_block_is_told(part: str, wrong: str) -> None:
    kept = record()
    kept.heard("t-1", 1.0, faint=False)
    kept.heard("t-1", 2.0, faint=False)
    text = kept.blocks(at(3.0))[0].to_json()
    assert part in text
    with pytest.raises(ValueError):
        from_json(text.replace(part, wrong, 1))


def test_the_record_is_stored_rarely() -> None:
    """When it begins; with something else after 10 min, alone after more; soon where hearing is lost."""
    kept = record()
    assert kept.due(at(0.0), alone=True)
    kept.save(at(0.0))
    assert not kept.due(at(SAVE_EVERY_S - 1), alone=False)
    assert kept.due(at(SAVE_EVERY_S), alone=False)
    assert not kept.due(at(ALONE_S - 1), alone=True)
    assert kept.due(at(ALONE_S), alone=True)
    kept.save(at(ALONE_S))
    kept.radio(ear("deaf", ALONE_S + 1, "off"))
    assert not kept.due(at(ALONE_S + LOST_SAVE_S - 1), alone=True)
    assert kept.due(at(ALONE_S + LOST_SAVE_S), alone=True)
    kept.save(at(ALONE_S + LOST_SAVE_S))
    kept.radio(ear("deaf", ALONE_S + LOST_SAVE_S + 1, "gone"))  # another reason is no loss
    assert not kept.due(at(ALONE_S + 3 * LOST_SAVE_S), alone=True)


def test_an_ended_block_is_not_written_again() -> None:
    """Unless another database began."""
    kept = record()
    first = kept.save(at(BLOCK_S))
    second = kept.save(at(BLOCK_S + SAVE_EVERY_S))
    assert len(first.put) == len(second.put) == 1
    assert not first.put.keys() & second.put.keys()
    kept.store_anew()
    assert first.put.keys() | second.put.keys() == kept.save(at(BLOCK_S + SAVE_EVERY_S)).put.keys()


def test_a_block_that_ended_between_two_savings_is_written() -> None:
    kept = record()
    kept.assign([OTHER], at(100.0))
    assert len(kept.save(at(200.0)).put) == 2


def test_much_that_happens_ends_a_block_sooner() -> None:
    """So what is written anew stays small."""
    kept = record()
    for n in range(SPANS_MAX):
        kept.radio(ear("deaf", 10.0 * n, f"off {n}"))
    kept.save(at(3_000.0))
    assert len(kept.blocks(at(3_001.0))) == 2
    for n in range(RUNS_MAX):
        kept.heard("t-1", 3_001.0 + 2 * n, faint=bool(n % 2))
    kept.save(at(3_100.0))
    assert len(kept.blocks(at(3_101.0))) == 3


def test_what_is_older_than_72_hours_is_erased() -> None:
    """As far as it is known to be."""
    old, clockless = record(), record(boot="x", source=ClockSource.NONE)
    stored = [*old.blocks(at(100.0)), *clockless.blocks(at(200.0, "x", ClockSource.NONE))]
    now = at(KEEP_S + 201.0)
    kept = record(boot="b", begin_s=KEEP_S + 200.0)
    kept.restore(stored)
    assert kept.save(now).forget == (stored[0].key,)
    assert [block.key for block in kept.blocks(now)][:1] == [stored[1].key]


def test_the_oldest_goes_when_there_are_too_many_or_they_are_too_large() -> None:
    """A radio that comes and goes for days does not fill the disk."""
    (block,) = record(boot="x", source=ClockSource.NONE).blocks(at(10.0, "x", ClockSource.NONE))
    many = [
        replace(block, begin_s=float(n), end=replace(block.end, wall_s=EPOCH_S + n))
        for n in range(BLOCKS_MAX)
    ]
    kept = record()
    kept.restore(many)
    assert kept.save(at(1.0)).forget == (many[0].key,)
    large = [
        replace(each, spans=tuple(replace(block.spans[0], why="x" * 200) for _ in range(SPANS_MAX)))
        for each in many[:30]
    ]
    kept = record()
    kept.restore(large)
    forgotten = kept.save(at(1.0)).forget
    assert forgotten == tuple(each.key for each in large[: len(forgotten)])
    assert 0 < len(forgotten) < 30
