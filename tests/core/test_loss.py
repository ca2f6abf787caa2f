"""What was dropped is counted, with when it happened, and adds up."""

import pytest

from gatewayd.core.loss import Loss, added, losses, taken_back
from gatewayd.core.model import ClockSource, Instant, MessageClass

AUDIO, POSITION = MessageClass.AUDIO, MessageClass.POSITION


def at(mono_s: float, boot: str = "b", wall_s: float | None = None) -> Instant:
    wall_s = mono_s if wall_s is None else wall_s
    return Instant(boot=boot, mono_s=mono_s, wall_s=wall_s, source=ClockSource.RTC, uncertainty_ms=5)


def test_losses_are_counted_by_class_with_the_earliest_and_the_latest() -> None:
    found = losses([(AUDIO, at(2)), (POSITION, at(9)), (AUDIO, at(1)), (AUDIO, at(3))])
    assert found == {
        AUDIO: Loss(count=3, first=at(1), last=at(3)),
        POSITION: Loss(count=1, first=at(9), last=at(9)),
    }


def test_losses_add_up() -> None:
    one, other = losses([(AUDIO, at(2))]), losses([(AUDIO, at(5)), (POSITION, at(1))])
    assert added(one, other) == losses([(AUDIO, at(2)), (AUDIO, at(5)), (POSITION, at(1))])
    assert added({}, one) == added(one, {}) == one


def test_what_arrived_after_all_is_taken_back() -> None:
    """A message may be dropped for space while the broker is answering it."""
    found = losses([(AUDIO, at(1)), (AUDIO, at(2))])
    once = added(found, taken_back(AUDIO, at(1)))
    assert once == {AUDIO: Loss(count=1, first=at(1), last=at(2))}
    assert added(once, taken_back(AUDIO, at(2))) == {}


def test_within_a_boot_the_monotonic_clock_tells_which_was_earlier() -> None:
    """The wall clock may have been set in between."""
    early, late = at(1, wall_s=9e9), at(2, wall_s=5.0)
    assert losses([(AUDIO, late), (AUDIO, early)])[AUDIO] == Loss(count=2, first=early, last=late)


def test_across_boots_wall_clocks_tell() -> None:
    early, late = at(99, boot="a", wall_s=1e9), at(2, boot="b", wall_s=2e9)
    assert losses([(AUDIO, late), (AUDIO, early)])[AUDIO] == Loss(count=2, first=early, last=late)


def test_a_loss_is_stored_and_read_back() -> None:
    loss = Loss(count=3, first=at(1), last=at(3))
    assert Loss.from_json(loss.to_json()) == loss


@pytest.mark.parametrize("text", ["[]", "{}", '{"count": 1, "from_at": 5.0, "to_at": 6.0}'])
def test_a_damaged_loss_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Loss.from_json(text)
