"""When a GATT button is connected, waited for, and left alone."""

from itertools import product

import pytest

from gatewayd.core import button
from gatewayd.core.button import LASTED_S, LOOK_EVERY_S, NEAR_S, PAUSE_S, Do, Tie, to_wearer
from gatewayd.core.model import ClockSource, Draft, Instant, Keep, MessageClass, Told


def test_the_table_has_a_row_for_everything() -> None:
    assert set(button.DO) == set(product((True, False), repeat=3))


@pytest.mark.parametrize(
    ("heard_s", "tried_s", "free", "do"),
    [
        (100.0, None, True, Do.CONNECT),
        (100.0 - NEAR_S, None, True, Do.CONNECT),
        (100.0, None, False, Do.WAIT),
        (100.0, 99.9, True, Do.WAIT),
        (100.0, 99.9, False, Do.WAIT),
        (99.0 - NEAR_S, None, True, Do.LOOK),
        (None, None, True, Do.LOOK),  # at the start: a run that was killed may have left it connected
        (None, 100.0 - LOOK_EVERY_S, True, Do.LOOK),
        (None, None, False, Do.WAIT),
        (None, 99.0, True, Do.LEAVE),
        (None, 99.0, False, Do.LEAVE),
    ],
)
def test_what_is_done(heard_s: float | None, tried_s: float | None, *, free: bool, do: Do) -> None:
    """One at a time, only what was heard lately, after a pause; the rest is looked for now and then."""
    assert Tie(heard_s=heard_s, tried_s=tried_s).do(100.0, free=free) is do


def test_the_pause_grows_with_each_failure_and_has_an_end() -> None:
    """It is heard all the while; the last pause is for ever."""
    tie = Tie()
    for pause_s in (*PAUSE_S[1:], PAUSE_S[-1]):
        tie = tie.ended(100.0, lasted_s=0.0).heard(100.0 + pause_s)
        assert tie.do(100.0 + pause_s - 0.1, free=True) is Do.WAIT
        assert tie.do(100.0 + pause_s, free=True) is Do.CONNECT


def test_a_connection_that_lasted_is_made_anew_at_once_and_one_that_did_not_is_a_failure() -> None:
    """The tag walked away and is back; against one that takes a connection only to end it."""
    failed = Tie(failures=3)
    assert failed.ended(100.0, lasted_s=LASTED_S).failures == 0
    assert failed.ended(100.0, lasted_s=LASTED_S - 1.0).failures == 4
    again = failed.ended(100.0, lasted_s=LASTED_S).heard(100.0 + PAUSE_S[0])
    assert again.do(100.0 + PAUSE_S[0], free=True) is Do.CONNECT


def test_what_was_heard_before_a_connection_does_not_lead_to_the_next() -> None:
    """A tag that went away is not searched for."""
    assert Tie(heard_s=100.0).ended(100.0, lasted_s=LASTED_S).do(101.0, free=True) is Do.LEAVE


def test_to_have_looked_in_vain_is_no_failure() -> None:
    looked = Tie(failures=1).missed(100.0)
    assert looked == Tie(failures=1, tried_s=100.0)
    assert looked.do(100.0, free=True) is Do.LEAVE


@pytest.mark.parametrize(
    ("topic", "kind", "told"),
    [
        ("alarm/one/event", "received", Told.RECEIVED),
        ("alarm/one/event", "responding", Told.ON_THE_WAY),
        ("alarm/one/event", "accepted", None),  # somebody took it: nobody is on the way yet
        ("alarm/one/event", "raised", None),  # that is told when it is stored
        ("alarm/one/state", "received", None),
        ("position", "received", None),
        ("elsewhere/at/all", "received", None),
    ],
)
def test_what_the_wearer_is_told(topic: str, kind: str, told: Told | None) -> None:
    """Each event by its own word, and no other message."""
    at = Instant(boot="b", mono_s=1.0, wall_s=1.0, source=ClockSource.NTP, uncertainty_ms=1)
    draft = Draft(
        topic=topic, message_class=MessageClass.ALARM, keep=Keep.AT_ONCE, at=at, body={"type": kind}
    )
    assert to_wearer(draft) == (None if told is None else ("one", told))
