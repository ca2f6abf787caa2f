"""How a tag is, and when ops are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewayd.core.battery import Charge
from gatewayd.core.model import Auth, ClockSource, Instant, State, Tag
from gatewayd.core.supervision import (
    CHANGE_S,
    REFRESH_S,
    STEADY_S,
    Ear,
    Hearing,
    TagState,
    Watch,
    cleared,
    heard,
    hearing,
    judge,
    powered,
    switched_on,
    told,
)
from gatewayd.core.tag_record import TagPresence

TAG = Tag(name="t-1", format="bthome", worker="nurse-1")  # lost after 60 s
HEARS = Ear(hearing=Hearing.HEARS, since_s=0.0, heard_s=1e6)  # always somebody
UNPROVEN = Ear(hearing=Hearing.UNPROVEN, since_s=0.0, why="unproven: silence")
DEAF = Ear(hearing=Hearing.DEAF, since_s=0.0, why="no adapter")


def at(mono_s: float) -> Instant:
    return Instant(boot="b", mono_s=mono_s, wall_s=1e9 + mono_s, source=ClockSource.NTP, uncertainty_ms=5)


def listened(*heard_at: float, rssi_dbm: int | None = -60, watch: Watch | None = None) -> Watch:
    """A watch that heard its tag then, and was judged each time."""
    watch = watch or Watch()
    for at_s in heard_at:
        watch = judge(heard(watch, TAG, at_s, rssi_dbm), TAG, HEARS, at_s)
    return watch


@pytest.mark.parametrize(
    ("state", "detail", "expected"),
    [
        (State.OK, "hci0 scans and hears", Hearing.HEARS),
        (State.DEGRADED, "hci0 scans; no monitor", Hearing.HEARS),
        (State.DEGRADED, "unproven: hci0 scans, nobody was heard for 600 s", Hearing.UNPROVEN),
        (State.FAILED, "unproven", Hearing.DEAF),
        (State.OFF, "not enabled", Hearing.DEAF),
    ],
)
def test_what_the_radio_says_of_itself_tells_whether_it_hears(
    state: State, detail: str, expected: Hearing
) -> None:
    assert hearing(state, detail) is expected


@pytest.mark.parametrize(
    ("silent_s", "ear", "expected"),
    [
        (30, HEARS, TagState.SEEN),
        (31, HEARS, TagState.WEAK),
        (60, HEARS, TagState.WEAK),
        (61, HEARS, TagState.LOST),
        (30, UNPROVEN, TagState.SEEN),
        (61, UNPROVEN, TagState.UNKNOWN),
        (1, DEAF, TagState.UNKNOWN),
        (61, replace(HEARS, since_s=150.0), TagState.UNKNOWN),  # deaf until 11 s ago
        (61, replace(HEARS, heard_s=130.0), TagState.UNKNOWN),  # nobody at all for 31 s
        (61, replace(HEARS, heard_s=131.0), TagState.LOST),
    ],
)
def test_silence_is_judged_by_what_could_have_been_heard(
    silent_s: float, ear: Ear, expected: TagState
) -> None:
    """Seen up to half of `lost_after`, then weak, then lost: but only if the radio heard all that time."""
    watch = listened(100.0)
    assert judge(watch, TAG, ear, 100.0 + silent_s).state is expected


def test_a_tag_never_heard_is_unknown_until_it_could_have_been() -> None:
    """Then it is lost, and says that it was not heard since the start."""
    assert judge(Watch(), TAG, HEARS, 60.0).state is TagState.UNKNOWN
    assert judge(Watch(), TAG, replace(HEARS, heard_s=30.0), 61.0).state is TagState.UNKNOWN
    watch = judge(Watch(), TAG, HEARS, 61.0)
    assert watch.state is TagState.LOST
    _, draft = told(watch, TAG, TagPresence(), HEARS, at(61.0))
    assert draft is not None
    assert draft.body == {
        "state": "lost",
        "heard_since_start": False,
        "started_at": at(0.0),
        "worker": "nurse-1",
    }
    assert switched_on(at(61.0)) == at(0.0)


@pytest.mark.parametrize("silent_s", [40.0, 100.0])
def test_what_was_weak_or_lost_is_seen_again_only_when_it_stays(silent_s: float) -> None:
    """A tag at the edge of hearing does not flap."""
    watch = judge(listened(100.0), TAG, HEARS, 100.0 + silent_s)
    back_s = 101.0 + silent_s
    watch = listened(back_s, back_s + STEADY_S - 1, watch=watch)
    assert watch.state is TagState.WEAK
    assert listened(back_s + STEADY_S, watch=watch).state is TagState.SEEN


def test_what_was_unknown_is_seen_at_once() -> None:
    """The radio was deaf; the tag was here all along."""
    watch = judge(listened(100.0), TAG, DEAF, 200.0)
    assert watch.state is TagState.UNKNOWN
    assert listened(201.0, watch=watch).state is TagState.SEEN


def test_a_faint_tag_is_weak_until_it_is_clearly_louder() -> None:
    """The average counts, with a margin; without a level nothing is said of it."""
    watch = listened(100.0, rssi_dbm=-91)
    assert watch.state is TagState.WEAK
    watch = listened(*range(110, 130), rssi_dbm=-85, watch=watch)
    assert watch.state is TagState.WEAK
    watch = listened(*range(130, 150), rssi_dbm=-83, watch=watch)
    assert watch.state is TagState.SEEN
    assert listened(150.0, rssi_dbm=-95, watch=watch).state is TagState.SEEN  # one reading is no trend
    assert listened(150.0, rssi_dbm=None, watch=watch).level_dbm == watch.level_dbm
    assert not listened(100.0, rssi_dbm=None).faint


# --- what is told -------------------------------------------------------------------------------------------


def test_a_state_is_told_whole() -> None:
    """Retained, the newest only, and never a reason to write to the disk."""
    presence = TagPresence(last_seen=at(100.0), rssi_dbm=-60, battery_pct=15, auth=Auth.OK, last_test=at(5.0))
    watch, draft = told(powered(listened(100.0), presence), TAG, presence, HEARS, at(101.0))
    assert draft is not None
    assert (draft.topic, draft.retain, draft.replaces, draft.keep) == ("tag/t-1", True, True, "never")
    assert draft.body == {
        "state": "seen",
        "heard_since_start": True,
        "started_at": at(0.0),
        "last_seen_at": at(100.0),
        "rssi_dbm": -60,
        "battery_pct": 15,
        "battery": "low",
        "worker": "nurse-1",
        "auth": "ok",
        "last_test_at": at(5.0),
    }
    assert told(watch, TAG, presence, HEARS, at(101.0 + REFRESH_S)) == (watch, None)  # nothing is new


@pytest.mark.parametrize(
    ("presence", "expected"),
    [
        (TagPresence(battery_pct=20), {"battery_pct": 20, "battery": "low"}),
        (TagPresence(battery_mv=2000), {"battery_mv": 2000, "battery": "critical"}),
        (
            TagPresence(battery_pct=50, battery_mv=2000),
            {"battery_pct": 50, "battery_mv": 2000, "battery": "ok"},
        ),
        (TagPresence(battery_mv=3700), {"battery_mv": 3700}),
        (TagPresence(), {}),
    ],
)
def test_a_battery_is_told_as_the_tag_told_it_and_judged(
    presence: TagPresence, expected: dict[str, object]
) -> None:
    """What is not known of it is absent."""
    _, draft = told(powered(Watch(), presence), TAG, presence, HEARS, at(1.0))
    assert draft is not None
    assert {name: value for name, value in draft.body.items() if name.startswith("battery")} == expected


def test_a_voltage_that_moves_with_the_load_is_no_news_but_its_level_is() -> None:
    """By 50 mV about where low begins: one message each 5 min, and of a level one each time it is another."""
    watch, drafts = listened(100.0), []
    for tick in range(1, 1201):
        presence = TagPresence(battery_mv=2750 if tick % 2 else 2800)
        watch, draft = told(powered(watch, presence), TAG, presence, HEARS, at(100.0 + tick))
        drafts += [draft] if draft is not None else []
    assert [draft.at.mono_s - 101 for draft in drafts] == [0, 301, 602, 903]
    assert {draft.body["battery"] for draft in drafts} == {"low"}
    for mv, level in ((2500, "critical"), (2900, "ok")):
        presence = TagPresence(battery_mv=mv)
        due_s = watch.told_s + CHANGE_S
        assert told(powered(watch, presence), TAG, presence, HEARS, at(due_s - 0.1))[1] is None
        watch, draft = told(powered(watch, presence), TAG, presence, HEARS, at(due_s))
        assert draft is not None
        assert draft.body["battery"] == level


def test_a_watch_knows_its_battery() -> None:
    """Visits ask for it."""
    watch = powered(Watch(), TagPresence(battery_mv=2600))
    assert watch.battery is Charge.LOW
    assert powered(watch, TagPresence(battery_mv=2600)) is watch


@pytest.mark.parametrize(
    ("changed", "due_s"),
    [
        (TagPresence(rssi_dbm=-70), REFRESH_S),
        (TagPresence(rssi_dbm=-60, battery_pct=50), CHANGE_S),
        (TagPresence(), REFRESH_S),
    ],
)
def test_what_changes_all_the_time_is_told_rarely(changed: TagPresence, due_s: float) -> None:
    watch, _ = told(listened(100.0), TAG, TagPresence(rssi_dbm=-60), HEARS, at(100.0))
    assert told(watch, TAG, changed, HEARS, at(100.0 + due_s - 0.1))[1] is None
    assert told(watch, TAG, changed, HEARS, at(100.0 + due_s))[1] is not None


def test_a_new_state_is_told_at_once_with_its_reason() -> None:
    watch, _ = told(listened(100.0), TAG, TagPresence(), HEARS, at(100.0))
    _, draft = told(judge(watch, TAG, DEAF, 100.1), TAG, TagPresence(), DEAF, at(100.1))
    assert draft is not None
    assert (draft.body["state"], draft.body["why"]) == ("unknown", "no adapter")


def test_a_tag_that_is_revoked_is_withdrawn() -> None:
    draft = cleared("t-1", at(1.0))
    assert (draft.topic, draft.clears, draft.retain) == ("tag/t-1", True, True)
