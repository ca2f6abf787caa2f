"""What goes out next: classes in order, oldest first, and nothing twice, lost or stuck."""

from collections import Counter, deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.core import drain
from gatewayd.core.drain import ORDER, QUEUE, REFUSED, Backlog
from gatewayd.core.lane import age_s
from gatewayd.core.link import (
    LEAST_BYTES,
    MOST_BYTES,
    QUEUE_S,
    STALLED_S,
    Window,
    backoff_s,
    refused_s,
    smoothed,
    suspect_after_s,
)
from gatewayd.core.model import ClockSource, Instant, Keep, Message, MessageClass

SOURCE = ClockSource.NTP
# What the disk has: live sound that comes back from it is `audio`.
ON_DISK = frozenset(MessageClass) - {MessageClass.AUDIO_LIVE}


def instant(mono_s: float, boot: str = "boot") -> Instant:
    return Instant(boot=boot, mono_s=mono_s, wall_s=1e9 + mono_s, source=SOURCE, uncertainty_ms=1)


NOW = instant(1000.0)


def message(
    n: int,
    name: MessageClass = MessageClass.ALARM,
    *,
    topic: str | None = None,
    keep: Keep = Keep.AT_ONCE,
    sound: bytes | None = None,
    at: Instant = NOW,
) -> Message:
    return Message(
        id=f"m{n}",
        run="run",
        seq=n,
        topic=topic or f"t{n}",
        message_class=name,
        keep=keep,
        at=at,
        body={},
        replaces=topic is not None,
        retain=topic is not None,
        sound=sound,
    )


def opened(*, session: bool = True) -> Backlog:
    """A backlog whose disk is empty, with a session."""
    backlog = Backlog()
    for name in backlog.to_load(NOW):
        backlog.loaded(name, (), more=False)
    if session:
        backlog.connected(65_535)
    return backlog


def drained(backlog: Backlog, now: Instant = NOW, *, size: int = 1) -> list[str]:
    """Publish whatever is next until nothing is."""
    ids = []
    while (each := backlog.next(now)) is not None:
        backlog.sent(each.id, size, now)
        ids.append(each.id)
    return ids


def test_classes_go_in_their_order() -> None:
    """An alarm goes before everything else, telemetry after everything else."""
    backlog = opened()
    for n, name in enumerate(reversed(ORDER)):
        backlog.add(message(n, name))
    assert drained(backlog) == ["m5", "m4", "m3", "m2", "m1", "m0"]


def test_within_a_class_the_oldest_goes_first() -> None:
    """Within a class: as they were sent."""
    backlog = opened()
    for n in range(5):
        backlog.add(message(n))
    assert drained(backlog) == ["m0", "m1", "m2", "m3", "m4"]


def test_nothing_goes_without_a_session() -> None:
    """Publish only while connected."""
    backlog = opened(session=False)
    backlog.add(message(1))
    backlog.sent("m1", 1, NOW)
    assert backlog.next(NOW) is None
    assert len(backlog.known) == 1


def test_live_sound_leads_and_late_sound_fills_in() -> None:
    """A chunk younger than 10 s goes before a position; one that waited longer goes after it."""
    backlog = opened()
    backlog.add(message(1, MessageClass.AUDIO_LIVE, sound=b"late", at=instant(980.0)))
    backlog.add(message(2, MessageClass.POSITION))
    backlog.add(message(3, MessageClass.AUDIO_LIVE, sound=b"live", at=instant(999.0)))
    assert drained(backlog) == ["m3", "m2", "m1"]


def test_the_newest_sound_leads_where_a_link_is_too_thin_for_all() -> None:
    """What no listener waits for any more gives way to what is now, oldest first; then it fills the gap."""
    backlog = opened()
    for n, ended_s in enumerate((994.0, 996.0, 998.4, 998.6, 999.5)):
        at = instant(ended_s - 0.5)
        chunk = message(n, MessageClass.AUDIO_LIVE, sound=b"x", at=at)
        backlog.add(replace(chunk, body={"duration_ms": 500}))
    assert drained(backlog) == ["m3", "m4", "m0", "m1", "m2"]


def test_live_sound_that_is_gone_does_not_lead() -> None:
    """Dropped for space between two others, it is skipped."""
    backlog = opened()
    for n, at_s in enumerate((995.0, 999.0, 999.5)):
        backlog.add(message(n, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(at_s)))
    backlog.forget(["m1"])
    assert drained(backlog) == ["m2", "m0"]


def test_after_a_restart_the_gap_fills_in_order() -> None:
    """What is too late for a listener waits for what an earlier run left on disk, and goes behind it."""
    backlog = opened()
    backlog.reload()
    backlog.to_load(NOW)
    for name in ON_DISK - {MessageClass.AUDIO}:
        backlog.loaded(name, (), more=False)
    for n, at_s in ((6, 996.0), (7, 997.0), (8, 999.0)):
        backlog.add(message(n, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(at_s)), stored=n == 6)
    assert drained(backlog) == ["m8"]
    left = [message(n, MessageClass.AUDIO, sound=b"y", at=instant(990.0 + n)) for n in (1, 2, 3)]
    backlog.loaded(MessageClass.AUDIO, left, more=False)
    assert drained(backlog) == ["m1", "m2", "m3"]
    backlog.to_load(NOW)
    six = message(6, MessageClass.AUDIO, sound=b"x", at=instant(996.0))
    backlog.loaded(MessageClass.AUDIO, [six], more=False)
    assert drained(backlog) == ["m6", "m7"]


def test_live_sound_whose_link_broke_takes_its_place_among_older_sound() -> None:
    """It was in flight while newer sound became too late for a listener: it goes before it all the same."""
    backlog = opened()
    for n, at_s in ((1, 998.5), (2, 999.0)):
        backlog.add(message(n, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(at_s)))
    assert drained(backlog, instant(1000.0), size=1_000_000) == ["m1"]
    backlog.add(message(0, MessageClass.AUDIO, sound=b"x", at=instant(990.0)))
    backlog.add(message(9, MessageClass.AUDIO, sound=b"x", at=instant(999.5, "before")))
    assert drained(backlog, instant(1001.0)) == []
    backlog.disconnected()
    backlog.connected(65_535)
    assert drained(backlog, instant(1001.0)) == ["m0", "m9", "m1", "m2"]
    newer = message(4, MessageClass.AUDIO, sound=b"x", at=instant(999.8))
    backlog.add(message(3, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(999.4)))
    backlog.add(newer)
    assert drained(backlog, instant(1001.0)) == ["m3", "m4"]


def test_sound_of_another_boot_is_not_live() -> None:
    """Its age is not known; it fills in."""
    backlog = opened()
    backlog.add(message(1, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(999.0, "before")))
    backlog.add(message(2, MessageClass.POSITION))
    assert drained(backlog) == ["m2", "m1"]


def test_live_sound_that_is_stored_and_aged_waits_behind_what_is_on_disk() -> None:
    """Its class has older sound on disk: it is let go of and comes back with a page."""
    backlog = Backlog()
    backlog.connected(65_535)
    backlog.to_load(NOW)
    chunk = message(2, MessageClass.AUDIO_LIVE, sound=b"x", at=instant(980.0))
    backlog.add(chunk, stored=True)
    for name in ON_DISK - {MessageClass.AUDIO}:
        backlog.loaded(name, (), more=False)
    assert drained(backlog) == []
    older = message(1, MessageClass.AUDIO, sound=b"y", at=instant(970.0))
    backlog.loaded(MessageClass.AUDIO, [older], more=False)
    assert drained(backlog) == ["m1"]
    assert backlog.to_load(NOW) == (MessageClass.AUDIO,)
    backlog.loaded(MessageClass.AUDIO, [replace(chunk, message_class=MessageClass.AUDIO)], more=False)
    assert drained(backlog) == ["m2"]


def test_a_message_twice_is_one() -> None:
    """The same id again is the same message."""
    backlog = opened()
    backlog.add(message(1))
    backlog.add(message(1))
    assert drained(backlog) == ["m1"]


def test_only_the_newest_of_a_replaced_topic_goes() -> None:
    """A state that was replaced before it went never goes."""
    backlog = opened()
    backlog.add(message(1, topic="alarm/a/state"))
    backlog.add(message(2, topic="alarm/a/state"))
    assert drained(backlog) == ["m2"]


def test_a_state_in_flight_that_was_replaced_is_not_sent_again() -> None:
    """After a lost session the older state must not go after the newer one."""
    backlog = opened()
    backlog.add(message(1, topic="alarm/a/state"))
    assert drained(backlog) == ["m1"]
    backlog.add(message(2, topic="alarm/a/state"))
    assert drained(backlog) == ["m2"]
    backlog.confirmed("m2", NOW)
    backlog.disconnected()
    backlog.connected(20)
    assert drained(backlog) == []


def test_the_puback_of_a_state_that_was_replaced_is_its_own() -> None:
    """It says nothing of the newer one."""
    backlog = opened()
    backlog.add(message(1, topic="alarm/a/state"))
    drained(backlog)
    backlog.add(message(2, topic="alarm/a/state"))
    backlog.confirmed("m1", NOW)
    assert drained(backlog) == ["m2"]


def test_a_refused_state_that_was_replaced_is_not_tried_again() -> None:
    """Nor after the broker refused it, before or after the newer one came."""
    backlog = opened()
    backlog.add(message(1, topic="alarm/a/state"))
    drained(backlog)
    backlog.add(message(2, topic="alarm/a/state"))
    backlog.refused("m1", NOW)
    assert drained(backlog, instant(2000.0)) == ["m2"]
    backlog.refused("m2", NOW)
    backlog.add(message(3, topic="alarm/a/state"))
    assert drained(backlog, instant(2000.0)) == ["m3"]


def test_what_was_in_flight_goes_first_after_a_lost_session_in_order() -> None:
    """Unconfirmed messages go again, before those that waited."""
    backlog = opened()
    for n in range(3):
        backlog.add(message(n))
    drained(backlog)
    backlog.add(message(3))
    backlog.confirmed("m1", NOW)
    backlog.disconnected()
    backlog.connected(65_535)
    assert drained(backlog) == ["m0", "m2", "m3"]


def test_a_refused_message_waits_and_holds_up_nobody() -> None:
    """The class behind it goes on; it is tried again after 2 s, then after 4 s."""
    backlog = opened()
    backlog.add(message(1))
    backlog.add(message(2))
    drained(backlog)
    backlog.refused("m1", NOW)
    backlog.confirmed("m2", NOW)
    backlog.add(message(3))
    assert drained(backlog) == ["m3"]
    assert drained(backlog, instant(1001.9)) == []
    assert drained(backlog, instant(1002.0)) == ["m1"]
    backlog.refused("m1", instant(1002.0))
    assert drained(backlog, instant(1005.9)) == []
    assert drained(backlog, instant(1006.0)) == ["m1"]


def refusing(name: MessageClass, count: int, *, stored: bool) -> Backlog:
    """A backlog whose broker refused `count` messages of a class."""
    backlog = opened()
    for n in range(count):
        backlog.add(message(n, name), stored=stored)
    for each in drained(backlog):
        backlog.refused(each, NOW)
    return backlog


def test_a_refused_class_waits_on_disk_until_it_is_tried_again() -> None:
    """Memory keeps a hundred, oldest first; other classes go on; one success and the class does too."""
    backlog = refusing(MessageClass.AUDIO, 300, stored=True)
    assert backlog.known == {f"m{n}" for n in range(REFUSED)}
    assert backlog.to_load(NOW) == ()
    backlog.add(message(900, MessageClass.AUDIO))
    backlog.add(message(901, MessageClass.TELEMETRY))
    assert drained(backlog) == ["m901"]
    due = instant(1002.0)
    again = drained(backlog, due)
    assert again == [f"m{n}" for n in range(REFUSED)]
    assert backlog.to_load(due) == ()
    for each in again:
        backlog.refused(each, due)
    assert drained(backlog, instant(1003.0)) == []
    for each in drained(backlog, instant(1006.0)):
        backlog.confirmed(each, instant(1006.0))
    assert backlog.to_load(instant(1006.0)) == (MessageClass.AUDIO,)


def test_refused_messages_not_on_disk_give_way_when_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go before the classes above them: a reply is not dropped for a position nobody takes."""
    monkeypatch.setattr(drain, "MEMORY_BYTES", 3_500)
    backlog = refusing(MessageClass.POSITION, 4, stored=False)
    backlog.add(message(900, MessageClass.STATE))
    assert [each.id for each in backlog.overfull()] == ["m0", "m1"]
    assert backlog.known == {"m2", "m3", "m900"}
    assert drained(backlog) == ["m900"]
    assert drained(backlog, instant(1002.0)) == ["m2", "m3"]


def test_an_alarm_goes_however_many_others_were_refused() -> None:
    """A broker may refuse one kind of alarm message and take another."""
    backlog = refusing(MessageClass.ALARM, REFUSED + 50, stored=True)
    assert len(backlog.known) == REFUSED + 50
    backlog.add(message(900))
    assert drained(backlog) == ["m900"]


def test_refused_alarms_are_not_loaded_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a bound the rest waits on disk."""
    monkeypatch.setattr(drain, "REFUSED_ALARMS", 5)
    backlog = refusing(MessageClass.ALARM, 5, stored=True)
    backlog.add(message(900))
    assert drained(backlog) == ["m900"]
    backlog.loaded(MessageClass.ALARM, (), more=True)
    assert backlog.to_load(NOW) == ()


def test_a_new_session_tries_what_was_refused() -> None:
    """The broker may be another one; until then something counts as refused."""
    backlog = opened()
    assert not backlog.refuses
    backlog = refusing(MessageClass.STATE, 3, stored=False)
    assert backlog.refuses
    backlog.disconnected()
    backlog.connected(65_535)
    assert drained(backlog) == ["m0", "m1", "m2"]
    assert backlog.refuses
    for n in range(3):
        backlog.confirmed(f"m{n}", NOW)
    assert not backlog.refuses


def test_what_a_broker_ended_the_session_over_waits_and_holds_up_nobody() -> None:
    """The oldest in flight: a new session goes on without it, and it is tried again when it is due."""
    backlog = opened()
    assert backlog.blame() is None
    backlog.add(message(1))
    backlog.add(message(2))
    drained(backlog)
    assert backlog.blame() == "m1"
    backlog.refused("m1", NOW)
    backlog.disconnected()
    backlog.connected(65_535)
    assert drained(backlog) == ["m2"]
    assert drained(backlog, instant(1001.9)) == []
    assert drained(backlog, instant(1002.0)) == ["m1"]
    backlog.refused("m1", instant(1002.0))
    backlog.disconnected()
    backlog.connected(65_535)
    assert drained(backlog, instant(1002.1)) == ["m1", "m2"]


def test_a_broker_that_acknowledges_nothing_is_noticed() -> None:
    """Half a minute without a PUBACK while something is in flight; an idle link is well."""
    backlog = opened(session=False)
    assert not backlog.stalled(instant(5000.0))
    backlog.connected(65_535)
    assert not backlog.stalled(instant(5000.0))
    for n in range(2):
        backlog.add(message(n, MessageClass.POSITION))
    drained(backlog)
    backlog.confirmed("m0", instant(1010.0))
    assert not backlog.stalled(instant(1010.0 + STALLED_S))
    assert backlog.stalled(instant(1010.1 + STALLED_S))
    backlog.confirmed("m1", instant(1050.0))
    assert not backlog.stalled(instant(5000.0))


def test_a_refused_reply_is_done() -> None:
    """Whoever asked named a topic we may not publish to; it is not tried again."""
    backlog = opened()
    reply = replace(message(1, MessageClass.STATE), response_topic="not/ours")
    backlog.add(reply)
    drained(backlog)
    assert backlog.refused("m1", NOW) == reply
    assert drained(backlog, instant(2000.0)) == []
    assert len(backlog.known) == 0


def test_answers_to_what_is_not_in_flight_change_nothing() -> None:
    """A PUBACK for a message that is not in flight is ignored."""
    backlog = opened()
    backlog.add(message(1))
    assert backlog.confirmed("m9", NOW) is None
    backlog.refused("m9", NOW)
    backlog.stored(["m9"])
    backlog.forget(["m9"])
    assert drained(backlog) == ["m1"]


def test_an_alarm_goes_though_the_window_is_full() -> None:
    """Sound in flight never holds an alarm up."""
    backlog = opened()
    for n in range(4):
        backlog.add(message(n, MessageClass.AUDIO, sound=b"x"))
    assert drained(backlog, size=LEAST_BYTES // 2) == ["m0", "m1"]
    backlog.add(message(8, MessageClass.STATE))
    backlog.add(message(9))
    assert drained(backlog, size=LEAST_BYTES) == ["m9"]


def test_what_the_broker_can_take_is_kept_for_alarms_too() -> None:
    """The broker's Receive Maximum binds alarms, birth and farewell too; alarms have four places of it."""
    backlog = opened(session=False)
    backlog.connected(8)
    backlog.sent("birth", 1, NOW)
    for n in range(8):
        backlog.add(message(n, MessageClass.STATE))
    assert len(drained(backlog)) == 2
    for n in range(10, 18):
        backlog.add(message(n))
    assert drained(backlog) == ["m10", "m11", "m12", "m13"]
    assert backlog.confirmed("birth", NOW) is None
    assert drained(backlog) == ["m14"]


def test_a_broker_that_takes_one_at_a_time_gets_one_at_a_time() -> None:
    """A Receive Maximum of 1 is kept to, beginning with the birth."""
    backlog = opened(session=False)
    backlog.connected(1)
    backlog.sent("birth", 1, NOW)
    backlog.add(message(1))
    backlog.add(message(2, MessageClass.STATE))
    assert drained(backlog) == []
    backlog.confirmed("birth", NOW)
    assert drained(backlog) == ["m1"]
    backlog.confirmed("m1", NOW)
    assert drained(backlog) == ["m2"]


def test_alarms_stand_behind_alarms_only() -> None:
    """Of themselves no more than the window is in flight: thousands are not all handed to a thin link."""
    backlog = opened()
    for n in range(2):
        backlog.add(message(n, MessageClass.AUDIO, sound=b"x"))
    assert drained(backlog, size=LEAST_BYTES // 2) == ["m0", "m1"]
    for n in range(10, 20):
        backlog.add(message(n))
    assert drained(backlog, size=LEAST_BYTES // 2) == ["m10", "m11"]
    backlog.confirmed("m10", instant(1001.0))
    assert drained(backlog, instant(1001.0), size=LEAST_BYTES // 2) == ["m12"]


def test_what_is_never_stored_goes_anew_to_a_broker_that_may_have_lost_it() -> None:
    """The latest health and tags, once more."""
    backlog = opened()
    backlog.add(message(1, MessageClass.STATE, topic="health", keep=Keep.NEVER))
    backlog.add(message(2, MessageClass.STATE, topic="health", keep=Keep.NEVER))
    assert drained(backlog) == ["m2"]
    backlog.confirmed("m2", NOW)
    assert len(backlog.known) == 0
    backlog.disconnected()
    backlog.connected(20)
    assert drained(backlog) == []
    backlog.retell()
    assert drained(backlog) == ["m2"]


def test_older_alarms_on_disk_go_before_newer_ones_in_memory() -> None:
    """A new alarm waits for a page that was asked for a moment ago, so that the order stands."""
    backlog = Backlog()
    backlog.connected(65_535)
    assert set(backlog.to_load(NOW)) == ON_DISK
    assert backlog.to_load(NOW) == ()
    backlog.add(message(5))
    assert drained(backlog) == []
    backlog.loaded(MessageClass.ALARM, [message(1), message(2)], more=False)
    assert drained(backlog) == ["m1", "m2", "m5"]


def test_a_lower_class_does_not_overtake_what_the_disk_is_about_to_bring() -> None:
    """Alarms that lie on disk go before a position in memory; a disk that hangs does not hold it for long."""
    backlog = Backlog()
    backlog.connected(65_535)
    for name in backlog.to_load(NOW):
        if name is not MessageClass.ALARM:
            backlog.loaded(name, (), more=False)
    backlog.add(message(5, MessageClass.POSITION))
    assert drained(backlog) == []
    assert drained(backlog, instant(1000.3)) == ["m5"]


def test_a_disk_that_hangs_holds_an_alarm_up_for_a_moment() -> None:
    """Then it goes from memory; what the disk brings later goes after it."""
    backlog = Backlog()
    backlog.connected(65_535)
    backlog.to_load(NOW)
    backlog.add(message(5))
    backlog.add(message(6, MessageClass.POSITION))
    assert drained(backlog, instant(1000.04)) == []
    assert drained(backlog, instant(1000.3)) == ["m5"]
    assert drained(backlog, instant(1005.3)) == ["m6"]
    backlog.loaded(MessageClass.ALARM, [message(1)], more=False)
    assert drained(backlog) == ["m1"]


def test_a_disk_that_cannot_be_read_holds_nothing_up_and_is_asked_again() -> None:
    """Without the disk everything goes from memory; five seconds later it is asked once more."""
    backlog = Backlog()
    backlog.connected(65_535)
    for name in backlog.to_load(NOW):
        backlog.unreadable(name, NOW)
    backlog.add(message(5))
    assert drained(backlog) == ["m5"]
    assert backlog.to_load(instant(1004.9)) == ()
    assert set(backlog.to_load(instant(1005.0))) == ON_DISK


def test_memory_lets_go_of_what_is_on_disk_and_not_next() -> None:
    """Beyond two pages a class lies on disk only, and comes back in order."""
    backlog = opened(session=False)
    everything = [message(n) for n in range(QUEUE + 30)]
    for each in everything:
        backlog.add(each)
    assert len(backlog.known) == QUEUE + 30
    backlog.stored(each.id for each in everything)
    assert len(backlog.known) == QUEUE
    backlog.add(message(900), stored=True)
    assert len(backlog.known) == QUEUE
    backlog.connected(65_535)
    ids = drained(backlog)
    assert ids == [f"m{n}" for n in range(QUEUE)]
    assert backlog.to_load(NOW) == (MessageClass.ALARM,)
    backlog.loaded(MessageClass.ALARM, [*everything[QUEUE:], message(900)], more=False)
    assert drained(backlog) == [*(f"m{n}" for n in range(QUEUE, QUEUE + 30)), "m900"]


def test_what_goes_to_disk_only_while_a_page_comes_is_asked_for_again() -> None:
    """The page was read before it was stored; the next one has it."""
    backlog = Backlog()
    backlog.to_load(NOW)
    backlog.add(message(1))
    backlog.stored(["m1"])
    assert len(backlog.known) == 0
    backlog.loaded(MessageClass.ALARM, (), more=False)
    assert backlog.to_load(NOW) == (MessageClass.ALARM,)


def test_a_page_does_not_bring_back_a_state_that_was_replaced() -> None:
    """Neither one that waits, nor one that went while the page was read."""
    backlog = Backlog()
    backlog.connected(20)
    backlog.to_load(NOW)
    backlog.add(message(2, topic="s"))
    assert drained(backlog, instant(1000.3)) == ["m2"]
    backlog.confirmed("m2", NOW)
    backlog.add(message(4, topic="t"))
    page = [message(1, topic="s"), message(3, topic="t"), message(4, topic="t"), message(5, topic="u")]
    backlog.loaded(MessageClass.ALARM, page, more=False)
    assert drained(backlog) == ["m5", "m4"]


def test_what_was_evicted_from_disk_is_dropped_unless_in_flight() -> None:
    """An eviction reaches memory too; what is in flight may still be confirmed."""
    backlog = opened()
    backlog.add(message(1, MessageClass.TELEMETRY))
    drained(backlog)
    backlog.add(message(2, MessageClass.TELEMETRY))
    backlog.forget(["m1", "m2"])
    assert drained(backlog) == []
    assert len(backlog.known) == 1


def test_a_state_told_again_goes_behind_what_is_new_and_keeps_its_place_where_it_waits() -> None:
    """Where the broker may have lost it; an alarm's own state, which waits anyway, goes with its alarm."""
    backlog = opened(session=False)
    backlog.add(message(1))
    backlog.add(message(2, topic="a"))
    backlog.add(message(3, MessageClass.STATE, topic="b"))
    backlog.add(message(4, MessageClass.TELEMETRY, topic="a"))
    backlog.add(message(5, MessageClass.TELEMETRY, topic="c"))
    backlog.add(message(6, MessageClass.POSITION))
    backlog.connected(65_535)
    assert drained(backlog) == ["m1", "m4", "m3", "m6", "m5"]


def test_a_page_of_one_class_does_not_bring_back_a_state_that_is_of_another_now() -> None:
    """The older row of the topic is on its way from the disk while the newer one comes."""
    backlog = Backlog()
    backlog.connected(65_535)
    backlog.to_load(NOW)
    backlog.add(message(2, topic="a"))
    for name in ON_DISK:
        rows = [message(1, MessageClass.TELEMETRY, topic="a")] if name is MessageClass.TELEMETRY else []
        backlog.loaded(name, rows, more=False)
    assert drained(backlog) == ["m2"]


def test_what_went_before_its_class_is_found_again_on_disk() -> None:
    """Memory lets go of a state that took an earlier one's place: its row is of its own class."""
    backlog = opened()
    for n in range(QUEUE):
        backlog.add(message(n))
    backlog.add(message(900, topic="a"))
    backlog.add(message(901, MessageClass.TELEMETRY, topic="a"))
    backlog.stored(["m901"])
    assert backlog.to_load(NOW) == (MessageClass.TELEMETRY,)


def test_another_database_is_read_from_its_beginning() -> None:
    """It may hold what memory does not know; live sound lies in memory alone."""
    backlog = opened()
    assert backlog.to_load(NOW) == ()
    backlog.reload()
    assert set(backlog.to_load(NOW)) == ON_DISK
    backlog.reload()
    backlog.loaded(MessageClass.ALARM, (message(1),), more=False)
    assert drained(backlog) == ["m1"]
    assert backlog.to_load(NOW) == (MessageClass.ALARM,)


def test_memory_drops_the_lowest_class_first_and_never_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a disk memory is bounded: telemetry goes first, then sound; alarms stay."""
    monkeypatch.setattr(drain, "MEMORY_BYTES", 4_500)
    backlog = opened(session=False)
    backlog.add(message(1, MessageClass.TELEMETRY))
    backlog.add(message(2, MessageClass.AUDIO, sound=b""))
    backlog.add(message(3, MessageClass.STATE))
    backlog.add(message(4))
    assert backlog.overfull() == ()
    backlog.add(message(5))
    backlog.add(message(6))
    assert [each.id for each in backlog.overfull()] == ["m1", "m2"]
    for n in range(10, 20):
        backlog.add(message(n))
    assert [each.id for each in backlog.overfull()] == ["m3"]
    assert len(backlog.known) == 13


def test_memory_only_lets_go_of_what_is_on_disk_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored is not lost when memory is full; what has overflowed and is not stored is."""
    monkeypatch.setattr(drain, "MEMORY_BYTES", 500)
    backlog = Backlog()
    backlog.add(message(1, MessageClass.AUDIO))
    assert [each.id for each in backlog.overfull()] == ["m1"]
    backlog = opened(session=False)
    backlog.add(message(2, MessageClass.AUDIO), stored=True)
    assert backlog.overfull() == ()
    assert len(backlog.known) == 0
    assert backlog.to_load(NOW) == (MessageClass.AUDIO,)


def test_what_is_not_on_disk_is_told() -> None:
    """What never goes there is not counted."""
    backlog = opened()
    backlog.add(message(1))
    backlog.add(message(2), stored=True)
    backlog.add(message(3, MessageClass.STATE, keep=Keep.NEVER))
    assert [each.id for each in backlog.unstored] == ["m1"]
    assert [each.id for each in backlog.held] == ["m1", "m2"]
    assert backlog.known == {"m1", "m2", "m3"}
    assert [backlog.is_stored(each) for each in ("m1", "m2", "m9")] == [False, True, False]


def test_an_alarm_without_puback_makes_the_link_suspect() -> None:
    """After 2 s, or four times the smoothed PUBACK time, 5 s at most; other classes never do."""
    backlog = opened()
    assert not backlog.alarm_waits()
    backlog.add(message(1, MessageClass.POSITION))
    drained(backlog)
    assert not backlog.suspect(instant(1100.0))
    assert not backlog.alarm_waits()
    backlog.add(message(2))
    assert backlog.alarm_waits()
    drained(backlog)
    assert backlog.alarm_waits()
    assert not backlog.suspect(instant(1002.0))
    assert backlog.suspect(instant(1002.1))
    backlog.confirmed("m2", instant(1003.0))
    assert backlog.puback_s == 3.0
    backlog.add(message(3))
    drained(backlog, instant(1010.0))
    assert not backlog.suspect(instant(1015.0))
    assert backlog.suspect(instant(1015.1))


def test_an_alarm_that_waits_for_the_disk_waits() -> None:
    """The backoff is short for it too."""
    backlog = Backlog()
    backlog.to_load(NOW)
    backlog.add(message(1))
    assert backlog.alarm_waits()


def test_the_window_grows_with_the_rate_and_stays_small_on_a_slow_link() -> None:
    """64 kbit/s: 6 kB; a fast link: as much as leaves in a quarter of a second, at most 1 MiB."""
    slow, fast = Window(65_535), Window(65_535)
    now_s = 0.0
    for n in range(50):
        slow.sent(str(n), 1_000, now_s)
        now_s += 0.125
        assert slow.answered(str(n), now_s) == pytest.approx(0.125)
    assert slow.limit_bytes == LEAST_BYTES
    for n in range(2_000):
        fast.sent(str(n), 1_000, now_s)
        now_s += 0.001
        fast.answered(str(n), now_s)
    assert 200_000 < fast.limit_bytes < 300_000
    for n in range(100):
        fast.sent(str(n), 100_000, now_s)
        fast.answered(str(n), now_s)
    assert fast.limit_bytes == MOST_BYTES


def test_the_window_shrinks_when_the_link_slows_down() -> None:
    """What comes back while the window was full tells the new rate."""
    window = Window(65_535)
    now_s = 0.0
    for n in range(200):
        window.sent(str(n), 1_000, now_s)
        now_s += 0.01
        window.answered(str(n), now_s)
    before = window.limit_bytes
    window.sent("small", 10, now_s)
    window.answered("small", now_s + 1.0)
    assert window.limit_bytes == before  # the link was idle: this says nothing
    for n in range(40):
        window.sent(str(n), before, now_s)
        now_s += before / 8_000
        window.answered(str(n), now_s)
    assert window.limit_bytes < before / 4


class Pipe:
    """A link that is a queue, with more to send than it takes: `rate` in bytes a second."""

    SIZE = 1_700  # a chunk of half a second

    def __init__(self, rate: float, round_trip_s: float) -> None:
        self.rate = rate
        self.window = Window(65_535)
        self.now_s = self._free_s = 0.0
        self._round_trip_s = round_trip_s
        self._back: deque[tuple[float, str]] = deque()  # PUBACKs on their way
        self._sent = 0

    def run(self, for_s: float) -> float:
        """Keep the window full for a time; return the rate that came of it, bytes a second."""
        end_s, done = self.now_s + for_s, 0
        while self.now_s < end_s:
            while self.window.has_room:
                self._sent += 1
                self._free_s = max(self._free_s, self.now_s) + self.SIZE / self.rate
                self.window.sent(str(self._sent), self.SIZE, self.now_s)
                self._back.append((self._free_s + self._round_trip_s, str(self._sent)))
            self.now_s, message_id = self._back.popleft()
            self.window.answered(message_id, self.now_s)
            done += self.SIZE
        return done / for_s

    @property
    def alarm_s(self) -> float:
        """How long an alarm would take to be acknowledged."""
        return max(0.0, self._free_s - self.now_s) + 1_000 / self.rate + self._round_trip_s


@pytest.mark.parametrize("round_trip_s", [0.05, 0.6])
@pytest.mark.parametrize("rate", [8_000.0, 125_000.0, 1_250_000.0])
def test_a_window_fills_the_link_and_keeps_an_alarm_s_way_short(rate: float, round_trip_s: float) -> None:
    """64 kbit/s to 10 Mbit/s, with 50 and 600 ms: nine tenths of it, and nobody waits long behind that."""
    pipe = Pipe(rate, round_trip_s)
    pipe.run(20.0)
    assert pipe.run(20.0) > 0.9 * rate
    assert pipe.alarm_s < round_trip_s + max(QUEUE_S, LEAST_BYTES / rate) + 0.4


@pytest.mark.parametrize("round_trip_s", [0.05, 0.6])
def test_a_window_follows_a_link_that_becomes_slow_and_fast_again(round_trip_s: float) -> None:
    """10 Mbit/s, 64 kbit/s, 10 Mbit/s in one session."""
    pipe = Pipe(1_250_000.0, round_trip_s)
    pipe.run(20.0)
    assert pipe.window.limit_bytes > 250_000
    pipe.rate = 8_000.0
    pipe.run(160.0)  # what was in flight leaves
    assert pipe.window.limit_bytes < 12_000
    assert pipe.alarm_s < 2.0
    pipe.rate = 1_250_000.0
    pipe.run(30.0)
    assert pipe.run(10.0) > 0.9 * pipe.rate


def test_a_window_has_room_until_bytes_or_messages_are_used_up() -> None:
    """Bytes, or the broker's Receive Maximum less what is kept for alarms."""
    window = Window(10)
    for n in range(6):
        assert window.has_room
        window.sent(str(n), 1, 0.0)
    assert not window.has_room
    assert window.has_room_for_alarm
    assert window.answered("none", 0.0) is None
    assert Window(1).has_room


def test_backoff_grows_to_thirty_seconds_and_to_three_while_an_alarm_waits() -> None:
    """Each span begins where the one before it ended; an alarm has the first, whatever failed before."""
    spans = [[backoff_s(n, jitter, alarm_waits=False) for jitter in (0.0, 1.0)] for n in range(4)]
    assert spans == [[1.0, 3.0], [3.0, 9.0], [9.0, 27.0], [10.0, 30.0]]
    assert backoff_s(99, 1.0, alarm_waits=False) == 30.0
    assert [backoff_s(99, jitter, alarm_waits=True) for jitter in (0.0, 1.0)] == [1.0, 3.0]
    assert refused_s(1) == 2.0
    assert refused_s(50) == 300.0


@pytest.mark.parametrize("away_s", [0.5, 5.0, 12.9])
def test_a_thousand_gateways_come_back_to_one_broker_without_a_storm(away_s: float) -> None:
    """Each dials at most three times, all are there within a minute; the first dials spread over 2 s."""
    chance = Random(7)
    dials: Counter[int] = Counter()
    for _ in range(1_000):
        at_s, failures = 0.0, 0
        while True:
            at_s += backoff_s(failures, chance.random(), alarm_waits=False)
            dials[int(at_s)] += 1
            if at_s > away_s:
                break
            failures += 1
        assert failures <= 2
        assert at_s < 60.0
    assert max(dials.values()) < 600


def test_the_age_of_what_waits_is_told_by_a_clock_that_knows() -> None:
    """The monotonic one within a boot; the wall's where both times are known; otherwise nothing."""
    assert age_s(instant(990.0), NOW) == 10.0
    assert age_s(instant(990.0, "before"), NOW) == 10.0
    assert age_s(instant(1010.0, "before"), NOW) == 0.0
    assert age_s(replace(instant(990.0, "before"), source=ClockSource.NONE), NOW) is None


def test_smoothing_and_suspicion() -> None:
    """The first round trip counts whole, each further one an eighth; suspicion begins at 2 to 5 s."""
    assert smoothed(None, 0.8) == 0.8
    assert smoothed(0.8, 1.6) == pytest.approx(0.9)
    assert suspect_after_s(None) == 2.0
    assert suspect_after_s(1.0) == 4.0
    assert suspect_after_s(20.0) == 5.0


@given(st.lists(st.sampled_from(ORDER), max_size=60))
@settings(max_examples=200, deadline=None)
def test_whatever_waits_goes_once_by_class_then_age(names: list[MessageClass]) -> None:
    """For any mix: every message once, classes in order, oldest first within a class."""
    backlog = opened()
    everything = [message(n, name) for n, name in enumerate(names)]
    for each in everything:
        backlog.add(each)
    expected = sorted(everything, key=lambda each: (ORDER.index(each.message_class), each.seq))
    assert drained(backlog) == [each.id for each in expected]


class Draining(RuleBasedStateMachine):
    """A backlog beside a disk and a broker, with sessions that break and pages that come when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.backlog = Backlog()
        self.disk: dict[str, Message] = {}  # rows, in order
        self.pending: dict[str, Message] = {}  # on their way to the disk
        self.pages: dict[MessageClass, tuple[tuple[Message, ...], bool]] = {}
        self.published: list[Message] = []
        self.flying: list[Message] = []
        self.confirmed: Counter[str] = Counter()
        self.everything: dict[str, Message] = {}
        self.connected = False

    @rule(name=st.sampled_from((MessageClass.ALARM, MessageClass.AUDIO, MessageClass.AUDIO_LIVE)))
    def send(self, name: MessageClass) -> None:
        for _ in range(7):
            each = message(len(self.everything), name, at=self.now)
            self.everything[each.id] = each
            self.pending[each.id] = each
            self.backlog.add(each)

    @rule()
    def store(self) -> None:
        for each in self.pending.values():
            late = each.message_class is MessageClass.AUDIO_LIVE
            self.disk[each.id] = replace(each, message_class=MessageClass.AUDIO) if late else each
        ids = list(self.pending)
        self.pending.clear()
        self.backlog.stored(ids)

    @rule()
    def ask(self) -> None:
        for name in self.backlog.to_load(self.now):
            known = self.backlog.known
            rows = [e for e in self.disk.values() if e.message_class is name and e.id not in known]
            self.pages[name] = (tuple(rows[:5]), len(rows) > 5)

    @precondition(lambda self: self.pages)
    @rule(fails=st.booleans())
    def answer(self, fails: bool) -> None:
        name, (rows, more) = self.pages.popitem()
        if fails:
            self.backlog.unreadable(name, self.now)
        else:
            fresh = [each for each in rows if each.id in self.disk]
            self.backlog.loaded(name, fresh, more=more)

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.backlog.connected(20)

    @precondition(lambda self: self.connected)
    @rule()
    def publish(self) -> None:
        while (each := self.backlog.next(self.now)) is not None:
            self.backlog.sent(each.id, 500, self.now)
            self.flying.append(each)

    @precondition(lambda self: self.flying)
    @rule(refused=st.booleans())
    def puback(self, refused: bool) -> None:
        each = self.flying.pop(0)
        if refused:
            self.backlog.refused(each.id, self.now)
            return
        self.backlog.confirmed(each.id, self.now)
        self.confirmed[each.id] += 1
        self.disk.pop(each.id, None)
        self.pending.pop(each.id, None)

    @precondition(lambda self: self.connected)
    @rule()
    def lose(self) -> None:
        self.connected = False
        self.flying.clear()
        self.backlog.disconnected()

    @rule(s=st.floats(0.0, 12.0))
    def wait(self, s: float) -> None:
        self.now = instant(self.now.mono_s + s)

    @invariant()
    def nothing_is_published_after_it_was_confirmed(self) -> None:
        assert all(count == 1 for count in self.confirmed.values())

    def teardown(self) -> None:
        """In the end, with a good disk and a good link, everything arrives."""
        for _ in range(len(self.everything) * 2 + 20):
            self.now = instant(self.now.mono_s + 301.0)
            if not self.connected:
                self.connect()
            self.store()
            self.ask()
            while self.pages:
                self.answer(fails=False)
            self.publish()
            while self.flying:
                self.puback(refused=False)
            if len(self.confirmed) == len(self.everything) and not self.disk:
                break
        assert set(self.confirmed) == set(self.everything)
        assert len(self.backlog.known) == 0


Draining.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_everything_arrives_once = Draining.TestCase
