"""One press has one id whatever dies in between, and no two presses share one."""

from itertools import count

import pytest

from gatewayd.core.model import ClockSource, Instant, Press, TagEvent
from gatewayd.core.next_ids import NextIds
from gatewayd.core.tag_record import BURST_S
from gatewayd.core.uuid7 import is_uuid, uuid7

NUMBERS = count()


def fresh() -> str:
    return uuid7(1_800_000_000_000, next(NUMBERS).to_bytes(10, "big"))


def press(copy_key: str | None = None, boot: str = "b") -> Press:
    heard = Instant(boot=boot, mono_s=5.0, wall_s=1.8e9, source=ClockSource.NTP, uncertainty_ms=5)
    return Press(tag="t", event=TagEvent.PRESS, heard=heard, copy_key=copy_key)


@pytest.fixture
def ids() -> NextIds:
    found = NextIds(fresh)
    found.provide(["t"])
    return found


def killed(ids: NextIds, now_s: float = 100.0) -> NextIds:
    """Another run with what was stored before."""
    again = NextIds(fresh)
    again.restore(ids.seeds, now_s)
    assert again.provide(["t"]) == {}
    return again


@pytest.mark.parametrize("copy_key", ["packet 7 press", None])
def test_a_press_heard_again_after_a_kill_has_the_same_id(ids: NextIds, copy_key: str | None) -> None:
    """The seed was stored before, and nothing since."""
    assert is_uuid(ids.give(press(copy_key)))
    assert killed(ids).give(press(copy_key)) == ids.give(press(copy_key))


def test_another_press_after_a_kill_has_another_id(ids: NextIds) -> None:
    """Consumers would take it for a copy, and an emergency would be lost."""
    first = ids.give(press("packet 7 press"))
    assert killed(ids).give(press("packet 8 press")) != first


def test_after_a_reboot_a_press_without_a_number_is_another(ids: NextIds) -> None:
    """Its copies were over, or a second alarm is the lesser evil."""
    first = ids.give(press())
    assert killed(ids).give(press(boot="later")) != first


def test_within_a_boot_it_is_another_once_the_copies_are_over(ids: NextIds) -> None:
    """What an earlier run may have used is replaced then, and stored; of a tag that numbers, it stays."""
    first = ids.give(press())
    again = killed(ids)
    assert again.renew(100.0 + BURST_S, ()) == {}
    assert again.give(press()) == first
    renewed = again.renew(100.1 + BURST_S, ())
    assert renewed == again.seeds
    assert again.give(press()) != first
    assert again.renew(900.0, ()) == {}
    numbered = killed(ids)
    assert numbered.renew(900.0, {"t"}) == {}
    assert numbered.seeds == ids.seeds


def test_a_seed_that_was_replaced_by_then_stays(ids: NextIds) -> None:
    """It was stored with an alarm of this run."""
    again = killed(ids)
    replaced = again.spent(again.give(press()), "b")
    assert again.renew(900.0, ()) == {}
    assert again.seeds == replaced


def test_what_was_given_or_read_back_is_spent(ids: NextIds) -> None:
    """The seed gives way to a fresh one, which is to be stored; an id of somebody else's changes nothing."""
    assert ids.spent(fresh(), "b") == {}
    numbered = ids.give(press("packet 7 press"))
    assert ids.spent(numbered, "b") == ids.seeds
    timed = ids.give(press())
    again = killed(ids)
    assert again.spent(timed, "b") == again.seeds != ids.seeds


def test_a_damaged_seed_counts_as_not_there() -> None:
    """The next press still raises, as one of a tag that is unknown does."""
    ids = NextIds(fresh)
    ids.restore({"t": "damaged"}, 0.0)
    assert is_uuid(ids.give(press()))
    assert set(ids.provide(["t"])) == {"t"}
