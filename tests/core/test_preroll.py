"""Sound from before an alarm: kept for some seconds, told first, and of one recording only."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatewayd.core.preroll import MOST_S, PreRoll
from gatewayd.core.sound import Closed, Event, Failed, Missing, Opened, Packet


@dataclass
class Room:
    """A microphone that is open, and what the recorder gets of it."""

    keep_s: float = 1.0
    got: list[Event] = field(default_factory=list)
    now_s: float = 10.0

    def __post_init__(self) -> None:
        self.source = PreRoll(self.keep_s, self.got.append)

    def opens(self) -> None:
        self.source.take(Opened(at_s=self.now_s, pre_skip=312))

    def sounds(self, seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            self.source.take(Packet(at_s=self.now_s, opus=b"x"))
            self.now_s = round(self.now_s + 0.02, 2)

    def times(self) -> list[float]:
        return [event.at_s for event in self.got]


def test_the_last_seconds_come_first_and_then_what_is_heard() -> None:
    """In a link that begins with them; nothing leaves before it is wanted."""
    room = Room()
    room.opens()
    room.sounds(5)
    assert room.got == []
    room.source.start()
    room.source.start()
    assert room.got[0] == Opened(at_s=14.0, pre_skip=312)
    assert room.times()[1:] == [round(14 + n * 0.02, 2) for n in range(50)]
    room.sounds(0.02)
    assert room.got[-1] == Packet(at_s=15.0, opus=b"x")


def test_the_next_recording_has_nothing_of_the_one_before() -> None:
    room = Room()
    room.opens()
    room.source.start()
    room.sounds(1)
    room.source.stop()
    room.source.stop()
    assert room.got[-1] == Closed(at_s=room.now_s)
    room.got.clear()
    room.sounds(0.1)
    room.source.start()
    assert room.times() == [11.0, 11.0, 11.02, 11.04, 11.06, 11.08]


def test_a_microphone_that_fails_is_told_and_what_it_heard_is_forgotten() -> None:
    """Whether it was wanted then or is wanted later; when it opens again, sound begins."""
    room = Room()
    room.opens()
    room.sounds(1)
    room.source.take(Failed(at_s=11.0, reason="unplugged"))
    room.source.take(Missing(at_s=12.0))
    room.source.start()
    assert room.got == [Failed(at_s=11.0, reason="unplugged")]
    room.source.take(Missing(at_s=13.0))
    room.opens()
    assert room.got[1:] == [Missing(at_s=13.0), Opened(at_s=11.0, pre_skip=312)]


def test_a_microphone_that_is_not_open_yet_is_waited_for() -> None:
    room = Room()
    room.source.start()
    assert room.got == []
    room.opens()
    assert room.got == [Opened(at_s=10.0, pre_skip=312)]
    room.source.take(Closed(at_s=10.5))
    assert room.got[-1] == Closed(at_s=10.5)


def test_no_more_than_thirty_seconds_are_kept() -> None:
    """Whatever is asked for."""
    room = Room(keep_s=60.0)
    room.opens()
    room.sounds(45)
    room.source.start()
    assert len(room.got) == 1 + MOST_S * 50


def test_what_was_heard_before_the_device_went_away_is_not_taken_for_the_last_seconds() -> None:
    room = Room()
    room.opens()
    room.sounds(1)
    room.source.take(Failed(at_s=11.0, reason="unplugged"))
    room.now_s = 60.0
    room.opens()
    room.sounds(0.04)
    room.source.start()
    assert room.times() == [60.0, 60.0, 60.02]
