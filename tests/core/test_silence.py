"""A tag that falls silent, as an alarm."""

from gatewayd.core.model import Tag
from gatewayd.core.silence import Silence, of_workers, step
from gatewayd.core.supervision import TagState

TAGS = [
    Tag(name="a", format="bthome", worker="w-1"),
    Tag(name="b", format="bthome", worker="w-1"),
    Tag(name="c", format="bthome", worker="w-2"),
    Tag(name="d", format="bthome"),
]
SEEN, WEAK, LOST, UNKNOWN = TagState.SEEN, TagState.WEAK, TagState.LOST, TagState.UNKNOWN


def after(
    *rounds: tuple[float, dict[str, TagState]],
    workers: tuple[str, ...] = ("w-1", "w-2"),
    open_until_s: float = 0.0,
) -> list[str]:
    """For whom alarms were due in rounds of time and states; the pre-alarm lasts 30 s.

    Those that were due before `open_until_s` are open until then.
    """
    silence = Silence()
    found: list[str] = []
    for now_s, states in rounds:
        alarmed = found if now_s < open_until_s else []
        silence, due = step(silence, of_workers(TAGS, states, workers), alarmed, now_s, 30.0)
        found += due
    return found


def test_a_tag_that_falls_silent_is_an_alarm_once_after_the_pre_alarm() -> None:
    heard, lost = {"c": SEEN}, {"c": LOST}
    assert after((0, heard), (10, lost), (39, lost)) == []
    assert after((0, heard), (10, lost), (40, lost), (41, lost), (900, lost)) == ["w-2"]


def test_one_that_is_heard_again_is_none_and_may_fall_silent_anew() -> None:
    heard, lost = {"c": WEAK}, {"c": LOST}
    assert after((0, heard), (10, lost), (39, heard), (50, lost), (79, lost)) == []
    assert after((0, heard), (10, lost), (40, lost), (50, heard), (60, lost), (90, lost)) == ["w-2"] * 2


def test_no_second_alarm_while_one_is_open() -> None:
    """At the edge of coverage; who is lost anew when it is closed is alarmed then, whoever is back is not."""
    heard, lost = {"c": WEAK, "a": SEEN}, {"c": LOST, "a": SEEN}
    edge = [(0, heard), (10, lost), (40, lost), (50, heard), (60, lost), (90, lost), (100, lost)]
    assert after(*edge, open_until_s=900) == ["w-2"]
    assert after(*edge, (899, heard), (900, heard), open_until_s=900) == ["w-2"]
    assert after(*edge, (900, lost), (901, lost), open_until_s=900) == ["w-2"] * 2
    other = {"a": LOST, "b": LOST, "c": LOST}
    assert after(*edge, (110, other), (140, other), open_until_s=900) == ["w-2", "w-1"]


def test_one_that_was_never_heard_cannot_fall_silent() -> None:
    assert after((0, {"c": UNKNOWN}), (10, {"c": LOST}), (900, {"c": LOST})) == []


def test_of_a_workers_tags_the_best_one_counts() -> None:
    assert (
        after((0, {"a": SEEN, "b": SEEN}), (10, {"a": LOST, "b": WEAK}), (900, {"a": LOST, "b": SEEN})) == []
    )
    both = {"a": LOST, "b": LOST}
    assert after((0, {"a": SEEN}), (10, both), (40, both)) == ["w-1"]


def test_while_the_radio_is_deaf_nobody_is_silent() -> None:
    """It begins anew when it hears."""
    heard, lost, deaf = {"c": SEEN}, {"c": LOST}, {"c": UNKNOWN}
    assert after((0, heard), (10, lost), (20, deaf), (30, lost), (59, lost)) == []
    assert after((0, heard), (10, lost), (20, deaf), (30, lost), (60, lost)) == ["w-2"]


def test_only_those_count_whom_it_is_about() -> None:
    """Whose visit begins later must be heard on it first."""
    heard, lost = {"c": SEEN}, {"c": LOST}
    assert after((0, heard), (10, lost), (90, lost), workers=("w-1",)) == []
    silence, _ = step(Silence(), of_workers(TAGS, heard, ()), (), 0.0, 30.0)
    for now_s in (10.0, 90.0):
        silence, due = step(silence, of_workers(TAGS, lost, ("w-2",)), (), now_s, 30.0)
        assert due == ()
