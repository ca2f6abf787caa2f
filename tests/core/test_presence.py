"""One press however many copies of it are heard: each rule by itself, then all against a model tag."""

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gatewayd.core.model import (
    ON_AIR_S,
    Auth,
    ClockSource,
    Instant,
    Mode,
    Press,
    Presses,
    Tag,
    TagEvent,
    TagReport,
)
from gatewayd.core.presence import (
    COUNT_SILENCE_S,
    EVENT_SILENCE_S,
    PACKET_IDS,
    observe,
)
from gatewayd.core.tag_record import BURST_S, SAVE_EVERY_S, TagPresence

PLAIN = Tag(name="nurse-1", format="bthome", address="C4:11:22:33:44:55", worker="w-17")
SEALED = replace(PLAIN, key=bytes(16), key_expected=True)
BEACON = Tag(name="beacon", format="ibeacon", identity={"uuid": "00" * 16})


def at(
    mono_s: float, boot: str = "b1", *, wall_s: float | None = None, source: ClockSource = ClockSource.NTP
) -> Instant:
    return Instant(
        boot=boot,
        mono_s=mono_s,
        wall_s=1.8e9 + mono_s if wall_s is None else wall_s,
        source=source,
        uncertainty_ms=5,
    )


def plain(packet_id: int | None, *buttons: TagEvent, battery_pct: int | None = None) -> TagReport:
    return TagReport(format="bthome", buttons=buttons, packet_id=packet_id, battery_pct=battery_pct)


def sealed(counter: int, packet_id: int | None, *buttons: TagEvent) -> TagReport:
    return TagReport(
        format="bthome",
        buttons=buttons,
        packet_id=packet_id,
        counter=counter,
        encrypted=True,
        authenticated=True,
        auth=Auth.OK,
    )


def unread(raw: bytes, counter: int | None = None) -> TagReport:
    return TagReport(format="bthome", counter=counter, encrypted=True, auth=Auth.FAILED, raw=raw)


def counted(count: int, *, now: bool = False, event: TagEvent = TagEvent.PRESS) -> TagReport:
    return TagReport(format="moko", buttons=(event,), presses=Presses(count=count, now=now))


HERE = TagReport(format="ibeacon", identity={"uuid": "00" * 16, "major": 1, "minor": 2})
PRESS, DOUBLE, LONG, NONE = TagEvent.PRESS, TagEvent.DOUBLE, TagEvent.LONG, TagEvent.NONE


def test_what_comes_once_for_each_press_is_one_however_soon_after_another() -> None:
    """A notification over a connection has no copies."""
    tag = Tag(name="button", format="itag", address="C4:11:22:33:44:55")
    report = TagReport(format="itag", buttons=(TagEvent.PRESS,), once=True)
    presence, first = observe(TagPresence(), tag, report, at(0.0), None)
    _, second = observe(presence, tag, report, at(0.1), None)
    assert first is not None
    assert second is not None


class Ear:
    """Hears reports one after the other and remembers; `restart` keeps only what a disk would."""

    def __init__(self, tag: Tag) -> None:
        self.tag = tag
        self.presence = TagPresence()
        self.now = at(100)

    def hear(self, report: TagReport, *, after_s: float = 0.1, rssi_dbm: int | None = -60) -> Press | None:
        self.now = at(self.now.mono_s + after_s, self.now.boot)
        self.presence, press = observe(self.presence, self.tag, report, self.now, rssi_dbm)
        return press

    def events(self, *reports: TagReport) -> list[TagEvent | None]:
        return [None if press is None else press.event for press in map(self.hear, reports)]

    def auths(self, *reports: TagReport) -> list[Auth | None]:
        return [None if press is None else press.auth for press in map(self.hear, reports)]

    def restart(self) -> None:
        self.presence = TagPresence.from_json(self.presence.to_json())


# --- numbered frames ----------------------------------------------------------------------------------------


def test_a_press_says_what_was_heard() -> None:
    """Tag, event, worker, number, battery and signal go with the press."""
    ear = Ear(PLAIN)
    ear.hear(plain(4, NONE, battery_pct=90))
    assert ear.hear(plain(5, PRESS)) == Press(
        tag="nurse-1",
        event=PRESS,
        heard=ear.now,
        auth=Auth.NONE,
        format="bthome",
        worker="w-17",
        counter=5,
        press_key="nurse-1-5",
        copy_key="packet 5 press",
        battery_pct=90,
        rssi_dbm=-60,
    )


def test_copies_are_one_press() -> None:
    """The same packet id again, at once, after 30 s or after hours, is not a press."""
    ear = Ear(PLAIN)
    assert ear.events(plain(5, PRESS), plain(5, PRESS), plain(5, PRESS)) == [PRESS, None, None]
    assert ear.hear(plain(5, PRESS), after_s=30) is None
    assert ear.hear(plain(5, PRESS), after_s=7 * 3600) is None


def test_a_copy_after_a_restart_is_no_press() -> None:
    """What was raised before a restart is not raised after it, and the next press is."""
    ear = Ear(PLAIN)
    ear.hear(plain(5, PRESS))
    ear.restart()
    assert ear.events(plain(5, PRESS), plain(6, PRESS)) == [None, PRESS]


def test_an_old_packet_id_is_a_press_when_another_was_heard_since() -> None:
    """Ids wrap: by id alone one real press in 256 would be dropped."""
    ear = Ear(PLAIN)
    assert ear.events(plain(5, PRESS), plain(6, NONE), plain(5, PRESS)) == [PRESS, None, PRESS]


def test_the_packet_id_wraps() -> None:
    """255 is followed by 0."""
    assert Ear(PLAIN).events(plain(255, PRESS), plain(0, PRESS)) == [PRESS, PRESS]


def test_a_heartbeat_does_not_use_up_the_press_of_its_id() -> None:
    """The same id with other buttons is another frame."""
    assert Ear(PLAIN).events(plain(5, NONE), plain(5, PRESS)) == [None, PRESS]


def test_a_press_without_a_number_has_no_key() -> None:
    """`press_key` is absent where the format has no counter; counter 0 is a number."""
    press = Ear(PLAIN).hear(plain(None, PRESS))
    assert press is not None
    assert (press.counter, press.press_key) == (None, None)
    press = Ear(PLAIN).hear(plain(0, PRESS))
    assert press is not None
    assert press.press_key == "nurse-1-0"


def test_the_button_of_several() -> None:
    """The first button with a wanted event; of a single button nothing is said."""
    press = Ear(PLAIN).hear(plain(1, NONE, NONE, DOUBLE, NONE))
    assert press is not None
    assert (press.event, press.button) == (DOUBLE, 3)
    press = Ear(PLAIN).hear(plain(1, DOUBLE))
    assert press is not None
    assert press.button is None


def test_what_each_event_means() -> None:
    """Alarm, test, or nothing; an event that is both is an alarm; one that has no name always is."""
    tag = replace(PLAIN, alarm_on=frozenset({LONG, NONE}), test_on=frozenset({DOUBLE, LONG, NONE}))

    def meaning(*buttons: TagEvent) -> tuple[TagEvent, Mode] | None:
        press = Ear(tag).hear(plain(1, *buttons))
        return None if press is None else (press.event, press.mode)

    assert meaning(LONG) == (LONG, Mode.ACTUAL)
    assert meaning(DOUBLE) == (DOUBLE, Mode.TEST)
    assert meaning(PRESS) is None
    assert meaning(NONE) is None
    assert meaning(TagEvent.UNKNOWN) == (TagEvent.UNKNOWN, Mode.ACTUAL)
    assert meaning(DOUBLE, LONG) == (LONG, Mode.ACTUAL)


def test_the_last_test_is_remembered() -> None:
    """Over a restart; an actual press is none."""
    ear = Ear(replace(PLAIN, test_on=frozenset({DOUBLE}), alarm_on=frozenset({LONG})))
    ear.hear(plain(1, LONG))
    assert ear.presence.last_test is None
    ear.hear(plain(2, DOUBLE))
    assert ear.presence.last_test == ear.presence.last_seen
    assert TagPresence.from_json(ear.presence.to_json()) == ear.presence


def test_an_event_nobody_wants_is_heard_all_the_same() -> None:
    """Its id is used up: wanting it later does not raise the old one."""
    ear = Ear(replace(PLAIN, alarm_on=frozenset({LONG})))
    assert ear.hear(plain(5, PRESS)) is None
    ear.tag = PLAIN
    assert ear.hear(plain(5, PRESS)) is None


# --- proof --------------------------------------------------------------------------------------------------


def test_a_counter_above_all_others_proves_the_press() -> None:
    """Authentic and new."""
    press = Ear(SEALED).hear(sealed(7, 1, PRESS))
    assert press is not None
    assert (press.auth, press.counter, press.press_key) == (Auth.OK, 7, "nurse-1-1")


def test_two_gateways_give_a_press_that_is_sealed_anew_one_key() -> None:
    """One hears the burst, the other only the heartbeat that repeats it under the next counter."""
    one, other = Ear(SEALED).hear(sealed(401, 5, PRESS)), Ear(SEALED).hear(sealed(402, 5, PRESS))
    assert one is not None
    assert other is not None
    assert (one.counter, other.counter) == (401, 402)
    assert one.press_key == other.press_key == "nurse-1-5"


def test_without_a_packet_id_the_counter_is_the_key() -> None:
    """There is nothing else that two gateways could agree on."""
    press = Ear(SEALED).hear(sealed(401, None, PRESS))
    assert press is not None
    assert press.press_key == "nurse-1-401"


def test_a_repeated_press_under_a_new_counter_is_a_copy() -> None:
    """Some firmware's heartbeat is the old press with the old packet id, sealed anew; for hours."""
    ear = Ear(SEALED)
    assert ear.auths(sealed(7, 1, PRESS), sealed(7, 1, PRESS), sealed(8, 1, PRESS)) == [Auth.OK, None, None]
    assert ear.auths(sealed(9, 2, PRESS), sealed(9 + 4 * PACKET_IDS, 2, PRESS)) == [Auth.OK, None]


def test_without_a_packet_id_the_counter_decides() -> None:
    """A new counter is a new press, the same one a copy."""
    ear = Ear(SEALED)
    assert ear.auths(sealed(7, None, PRESS), sealed(7, None, PRESS)) == [Auth.OK, None]
    assert ear.auths(sealed(8, None, PRESS), sealed(9, None, NONE)) == [Auth.OK, None]


def test_a_recording_raises_and_proves_nothing() -> None:
    """However much of it is played back, before or after a restart, no counter of it is OK again."""
    ear = Ear(SEALED)
    recording = [sealed(7, 1, PRESS), sealed(8, 2, NONE), sealed(9, 3, PRESS)]
    assert ear.auths(*recording) == [Auth.OK, None, Auth.OK]
    ear.restart()
    assert ear.auths(*recording) == [Auth.REPLAYED, None, None]
    assert ear.auths(*recording) == [Auth.REPLAYED, None, None]
    assert ear.presence.auth is Auth.OK  # the last frame of it is a copy of the last proven one


def test_an_equal_counter_with_other_content_is_replayed() -> None:
    """A genuine tag never seals two contents under one counter; a new battery may."""
    assert Ear(SEALED).auths(sealed(7, 1, PRESS), sealed(7, 1, LONG)) == [Auth.OK, Auth.REPLAYED]


def test_a_new_battery_is_marked_until_its_counter_has_passed() -> None:
    """Counter and id begin anew: each press raises once, REPLAYED, then OK again."""
    ear = Ear(SEALED)
    assert ear.auths(sealed(500, 40, PRESS)) == [Auth.OK]
    assert ear.auths(sealed(1, 0, NONE), sealed(2, 1, PRESS), sealed(2, 1, PRESS)) == [
        None,
        Auth.REPLAYED,
        None,
    ]
    assert ear.auths(sealed(3, 1, PRESS), sealed(501, 2, PRESS)) == [None, Auth.OK]


def test_a_second_new_battery_with_the_same_packet_id_is_a_press() -> None:
    """The id may be the same; the counter came down, so it is another press."""
    ear = Ear(SEALED)
    ear.auths(sealed(500, 40, PRESS), sealed(2, 1, PRESS))
    assert ear.auths(sealed(1, 1, PRESS)) == [Auth.REPLAYED]


def test_a_press_repeated_across_the_highest_counter_is_not_raised_again() -> None:
    """Raised as REPLAYED under a counter just below, it is the same press just above."""
    ear = Ear(SEALED)
    ear.auths(sealed(500, 40, PRESS), sealed(499, 1, PRESS))
    assert ear.auths(sealed(501, 1, PRESS), sealed(502, 2, PRESS)) == [None, Auth.OK]


def test_a_recording_does_not_swallow_the_next_press() -> None:
    """A frame recorded when its id was last round has the id and buttons of the coming press."""
    ear = Ear(SEALED)
    ear.auths(sealed(1000, 39, NONE))
    assert ear.auths(sealed(1001 - PACKET_IDS, 40, PRESS)) == [Auth.REPLAYED]
    assert ear.auths(sealed(1001, 40, PRESS)) == [Auth.OK]


def test_a_forged_plain_frame_does_not_swallow_the_next_press() -> None:
    """Anyone can send the id and buttons of the coming press in the clear: both raise."""
    assert Ear(SEALED).auths(sealed(7, 4, NONE), plain(5, PRESS), sealed(8, 5, PRESS)) == [
        None,
        Auth.FAILED,
        Auth.OK,
    ]


def test_a_proof_that_is_missing_is_failed() -> None:
    """A plain frame of a tag with a key, also while its key cannot be read; without a key nothing was due."""
    for tag, auth in (
        (SEALED, Auth.FAILED),
        (replace(SEALED, key=None), Auth.FAILED),
        (replace(SEALED, key_expected=False), Auth.FAILED),
        (PLAIN, Auth.NONE),
    ):
        assert Ear(tag).auths(plain(5, PRESS)) == [auth]
        assert Ear(tag).auths(unread(b"E1")) == [auth]


def test_what_cannot_be_read_raises() -> None:
    """Each new unreadable frame is a press of event UNKNOWN, whatever is configured; a copy is not."""
    ear = Ear(replace(SEALED, alarm_on=frozenset({LONG}), test_on=frozenset(TagEvent)))
    press = ear.hear(unread(b"E1", counter=3))
    assert press is not None
    assert (press.event, press.mode, press.press_key) == (TagEvent.UNKNOWN, Mode.ACTUAL, "nurse-1-3")
    assert ear.hear(unread(b"E1", counter=3)) is None
    ear.restart()
    assert ear.events(unread(b"E1", counter=3), unread(b"E2"), unread(b"E2")) == [
        None,
        TagEvent.UNKNOWN,
        None,
    ]


def test_kinds_are_kept_apart() -> None:
    """What cannot be read says nothing of the plain frames around it: their copies stay copies."""
    ear = Ear(PLAIN)
    assert ear.events(plain(5, PRESS), unread(b"E1"), plain(5, PRESS)) == [PRESS, TagEvent.UNKNOWN, None]


# --- edges --------------------------------------------------------------------------------------------------


def test_an_identity_that_appears_is_a_press() -> None:
    """Once per time on the air, however long, and again after silence."""
    ear = Ear(BEACON)
    first = ear.hear(HERE)
    assert first is not None
    assert (first.event, first.auth, first.press_key) == (PRESS, Auth.NONE, None)
    assert [ear.hear(HERE, after_s=ON_AIR_S) for _ in range(3)] == [None, None, None]
    assert ear.hear(HERE, after_s=ON_AIR_S + 0.1) is not None


@pytest.mark.parametrize("on_air_s", [1.0, 60.0, 600.0])
def test_an_identity_appears_after_as_long_as_its_slot_is_on_the_air(on_air_s: float) -> None:
    """A hole of that length in a burst is none; a longer silence ended it."""
    ear = Ear(replace(BEACON, on_air_s=on_air_s))
    assert ear.hear(HERE) is not None
    assert ear.hear(HERE, after_s=on_air_s) is None
    assert ear.hear(HERE, after_s=on_air_s + 0.1) is not None


def test_what_a_tag_has_on_the_air_at_rest_shows_that_it_is_there() -> None:
    """It is no press, ends none and does not draw it out; the alarm names the configured format."""
    resting: dict[str, str | int] = {"uuid": "11" * 16, "major": 1, "minor": 2}
    tag = replace(BEACON, format="kontakt_ibeacon", identity=HERE.identity, resting=resting, on_air_s=10.0)
    ear, rest = Ear(tag), TagReport(format="ibeacon", identity=resting)
    assert ear.hear(rest) is None
    assert ear.presence.last_seen == ear.now
    press = ear.hear(HERE)
    assert press is not None
    assert (press.event, press.format) == (PRESS, "kontakt_ibeacon")
    assert [ear.hear(rest, after_s=5), ear.hear(HERE, after_s=5), ear.hear(rest, after_s=5)] == [None] * 3
    assert ear.presence.last_seen == ear.now
    assert ear.hear(HERE, after_s=5.1) is not None


def test_a_slot_at_rest_that_has_a_section_of_its_own_calls_nobody() -> None:
    """It appears and goes with its wearer: it is seen."""
    ear = Ear(replace(BEACON, alarm_on=frozenset()))
    assert not ear.tag.calls
    assert BEACON.calls
    assert [ear.hear(HERE, after_s=100) for _ in range(3)] == [None] * 3
    assert ear.presence.last_seen == ear.now


def test_two_reports_of_one_instant_are_one_press() -> None:
    """Two scanners may tell of the same moment."""
    ear = Ear(BEACON)
    assert [bool(ear.hear(HERE, after_s=0)), bool(ear.hear(HERE, after_s=0))] == [True, False]


def test_telemetry_is_neither_press_nor_silence() -> None:
    """It keeps the battery, and leaves the edge as it is."""
    ear = Ear(BEACON)
    telemetry = TagReport(format="eddystone", battery_mv=2900)
    assert ear.hear(telemetry) is None
    assert ear.hear(HERE) is not None
    assert ear.hear(telemetry, after_s=ON_AIR_S) is None
    assert ear.presence.battery_mv == 2900
    assert ear.hear(HERE, after_s=0.1) is not None


def test_a_battery_told_in_another_unit_replaces_what_was_told_before() -> None:
    """By another setting, or by the tag before this one: 90 % must not hide a battery of 2.0 V."""
    ear = Ear(BEACON)
    ear.hear(TagReport(format="ela", battery_pct=90))
    ear.hear(TagReport(format="ela", battery_mv=2000))
    assert (ear.presence.battery_pct, ear.presence.battery_mv) == (None, 2000)
    ear.hear(TagReport(format="ela"))
    assert (ear.presence.battery_pct, ear.presence.battery_mv) == (None, 2000)
    ear.hear(TagReport(format="ela", battery_pct=90))
    assert (ear.presence.battery_pct, ear.presence.battery_mv) == (90, None)


def test_a_button_without_any_number_is_an_edge() -> None:
    """Copies follow within seconds; silence, another event or none ends it."""
    ear = Ear(PLAIN)
    press, none, double = plain(None, PRESS), plain(None, NONE), plain(None, DOUBLE)
    assert ear.events(press, press, double, double, none, double) == [PRESS, None, DOUBLE, None, None, DOUBLE]
    assert ear.hear(double, after_s=EVENT_SILENCE_S) is None
    assert ear.hear(double, after_s=EVENT_SILENCE_S + 0.1) is not None


def test_a_restart_in_the_middle_of_a_burst_does_not_raise_it_again() -> None:
    """What was last heard is on the disk."""
    ear = Ear(BEACON)
    ear.hear(HERE)
    ear.restart()
    assert ear.hear(HERE, after_s=ON_AIR_S) is None


@pytest.mark.parametrize(
    ("later", "raises"),
    [
        (at(1, "b2", wall_s=1.8e9 + 120), False),
        (at(1, "b2", wall_s=1.8e9 + 180), True),
        (at(1, "b2", wall_s=1.8e9 + 50), True),
        (at(1, "b2", wall_s=1.8e9 + 120, source=ClockSource.NONE), True),
    ],
    ids=["known, short", "known, long", "clock set back", "clock not set"],
)
def test_a_silence_across_a_reboot(later: Instant, *, raises: bool) -> None:
    """By the wall clock where it was set on both sides; otherwise it cannot be told, and raises."""
    presence, _ = observe(TagPresence(), BEACON, HERE, at(100), None)
    _, press = observe(presence, BEACON, HERE, later, None)
    assert (press is not None) == raises


# --- the record ---------------------------------------------------------------------------------------------


def test_what_is_known_of_a_tag() -> None:
    """The latest of each; what a frame does not say stays."""
    ear = Ear(PLAIN)
    ear.hear(plain(1, NONE, battery_pct=80))
    ear.hear(plain(2, NONE), rssi_dbm=None)
    known = ear.presence
    assert (known.last_seen, known.rssi_dbm, known.battery_pct, known.auth) == (ear.now, -60, 80, Auth.NONE)


reports = st.one_of(
    st.builds(plain, st.one_of(st.none(), st.integers(0, 255)), st.sampled_from(TagEvent)),
    st.builds(sealed, st.integers(0, 2**32 - 1), st.one_of(st.none(), st.integers(0, 255)), st.just(PRESS)),
    st.builds(unread, st.binary(max_size=255)),
    st.just(HERE),
)


@given(st.lists(reports, max_size=6))
def test_the_record_survives_the_disk(heard: list[TagReport]) -> None:
    """It is read as it was written."""
    ear = Ear(SEALED)
    for report in heard:
        ear.hear(report)
    assert TagPresence.from_json(ear.presence.to_json()) == ear.presence


WHOLE = Ear(SEALED)
WHOLE.events(sealed(7, 1, PRESS), plain(5, PRESS), plain(None, PRESS))
RECORD = json.loads(WHOLE.presence.to_json())
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(RECORD)), json_values)
def test_a_damaged_record_is_a_fresh_one(name: str, value: object) -> None:
    """Whatever stands in a field, it is either a record one can go on with, or none."""
    presence = TagPresence.from_json(json.dumps(RECORD | {name: value}))
    for report in (sealed(8, 2, PRESS), plain(6, PRESS), plain(None, DOUBLE), unread(b"E1"), HERE):
        presence, press = observe(presence, SEALED, report, at(1e6), -60)
        assert press is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '{"frames": null}',
        '{"frames": {"odd": {"content": "", "counter": null}}}',
        '{"frames": {}, "edge": {"content": "identity", "since": 1, "heard": 2}}',
        '{"frames": {}, "battery_pct": true}',
        '{"frames": {}, "auth": "maybe"}',
    ],
)
def test_what_is_no_record(text: str) -> None:
    """A fresh start, so the next press raises."""
    assert TagPresence.from_json(text) == TagPresence()


def test_when_a_heartbeat_must_be_saved() -> None:
    """At first, then at most every ten minutes, and only when something was heard since."""
    ear = Ear(PLAIN)
    assert not ear.presence.due(None, ear.now)
    ear.hear(plain(1, NONE))
    assert ear.presence.due(None, ear.now)
    saved_at = ear.now
    ear.hear(plain(2, NONE), after_s=SAVE_EVERY_S - 1)
    assert not ear.presence.due(saved_at, ear.now)
    assert ear.presence.due(saved_at, at(ear.now.mono_s + 1))
    assert not ear.presence.due(ear.now, at(ear.now.mono_s + SAVE_EVERY_S))
    assert ear.presence.due(at(0, "b0"), ear.now)
    assert not ear.presence.due(saved_at, at(1, "b2"))


def test_ids_cannot_come_round_between_two_saves() -> None:
    """With a heartbeat every 8 s; or a restart could take a new press for the one that was saved."""
    assert SAVE_EVERY_S < PACKET_IDS * HEARTBEAT_S / 2


def test_when_a_burst_must_be_saved() -> None:
    """Every ten seconds while it is on the air; not for ever if it never ends, and not for telemetry."""
    ear = Ear(BEACON)
    ear.hear(HERE)
    saved_at = ear.now
    ear.hear(HERE, after_s=9)
    assert not ear.presence.due(saved_at, ear.now)
    ear.hear(HERE, after_s=1)
    assert ear.presence.due(saved_at, ear.now)
    assert not ear.presence.due(ear.now, at(ear.now.mono_s + 20))
    while ear.presence.due(saved_at, ear.now):
        saved_at = ear.now
        ear.hear(HERE, after_s=10)
    assert BURST_S < ear.now.mono_s - 100 <= BURST_S + 11


# --- against a model tag ------------------------------------------------------------------------------------

HEARTBEAT_S = 8.0
EXAMPLES = 5_000 if os.environ.get("GATEWAYD_LONG") else 100


class NumberedTag(RuleBasedStateMachine):
    """A tag that numbers its frames, as the makers describe it, and a gateway that dies now and then.

    Each activation is numbered by the model. It must be raised exactly once if any frame of it is heard.
    Excluded is only what nobody could tell. A press may be lost that has the id and buttons of the last frame
    remembered of its kind, though of another activation: the id came round while nothing was heard, or since
    the last save, or a new battery began at that very id. A press may be raised twice when the counter passes
    the old battery's highest while nothing was heard for 256 of them.
    """

    tag = PLAIN
    sealed = False

    def __init__(self) -> None:
        super().__init__()
        self.mono_s = 1000.0
        self.packet_id = 0
        self.counter = 0
        self.buttons: tuple[TagEvent, ...] = (NONE,)
        self.activation: int | None = None  # that the tag's present frame tells of
        self.activations = 0
        self.raised: set[int] = set()
        self.presence = TagPresence()
        self.saved, self.saved_at = self.presence.to_json(), at(0)
        # What the gateway remembers, told independently: the frame (id, buttons, counter) and its activation,
        # of the highest counter (any, when nothing is sealed) and of the last one below.
        self.remembered: dict[str, tuple[tuple[int, tuple[TagEvent, ...], int], int | None]] = {}
        self.saved_remembered = dict(self.remembered)

    @initialize(repeats=st.booleans(), packet_id=st.integers(0, 255), counter=st.integers(0, 600))
    def begin(self, repeats: bool, packet_id: int, counter: int) -> None:
        self.repeats, self.packet_id, self.counter = repeats, packet_id, counter

    def report(self) -> TagReport:
        if self.sealed:
            return sealed(self.counter, self.packet_id, *self.buttons)
        return plain(self.packet_id, *self.buttons)

    def hear(self) -> None:
        frame = (self.packet_id, self.buttons, self.counter)
        highest, lower = self.remembered.get("highest"), self.remembered.get("lower")
        fresh = highest is None or self.counter > highest[0][2]
        track = "highest" if not self.sealed or fresh or (highest and highest[0] == frame) else "lower"
        alike = [
            last for last in (highest if track == "highest" else lower, lower if fresh else None) if last
        ]
        now = at(self.mono_s)
        self.presence, press = observe(self.presence, self.tag, self.report(), now, -60)
        self.remembered[track] = (frame, self.activation)
        if self.activation is None:
            assert press is None, "a heartbeat raised"
        elif self.activation in self.raised:
            far = lower is not None and fresh and self.counter - lower[0][2] >= PACKET_IDS
            assert press is None or far, "raised twice"
        elif all(last[0][:2] != frame[:2] or last[1] == self.activation for last in alike):
            assert press is not None, "a press was lost"
        if press is not None:
            expected = Auth.NONE if not self.sealed else Auth.OK if track == "highest" else Auth.REPLAYED
            assert press.auth is expected
        if self.activation is not None:
            self.raised.add(self.activation)
        if press is not None or self.presence.due(self.saved_at, now):
            self.saved, self.saved_at = self.presence.to_json(), now
            self.saved_remembered = dict(self.remembered)

    @rule(copies=st.integers(0, 3), buttons=st.sampled_from([(PRESS,), (DOUBLE,), (NONE, PRESS)]))
    def press(self, copies: int, buttons: tuple[TagEvent, ...]) -> None:
        self.packet_id = (self.packet_id + 1) % PACKET_IDS
        self.counter += 1
        self.buttons = buttons
        self.activations += 1
        self.activation = self.activations
        self.mono_s += 1
        for _ in range(copies):
            self.mono_s += 0.1
            self.hear()

    @rule(after_s=st.sampled_from([0.1, 5.0, 30.0, 7200.0]))
    def copy(self, after_s: float) -> None:
        """The last frame again, unchanged."""
        self.mono_s += after_s
        self.hear()

    @rule(beats=st.sampled_from([1, 2, 80, 255, 256, 257]), heard=st.sampled_from(["all", "last", "none"]))
    def heartbeats(self, beats: int, heard: str) -> None:
        """The old press under its old id and a new counter, or nothing pressed under a new id."""
        for beat in range(beats):
            self.mono_s += HEARTBEAT_S
            self.counter += 1
            if not self.repeats:
                self.packet_id = (self.packet_id + 1) % PACKET_IDS
                self.buttons, self.activation = (NONE,), None
            if heard == "all" or (heard == "last" and beat == beats - 1):
                self.hear()

    @rule()
    def new_battery(self) -> None:
        """Number and counter begin anew; nothing is pressed."""
        self.packet_id = self.counter = 0
        self.buttons, self.activation = (NONE,), None

    @rule()
    def kill(self) -> None:
        """Only what was saved is left: the last press, and what was due."""
        self.presence = TagPresence.from_json(self.saved)
        self.remembered = dict(self.saved_remembered)
        self.mono_s += 3


class SealedTag(NumberedTag):
    tag = SEALED
    sealed = True


class IdentityTag(RuleBasedStateMachine):
    """A tag on the air for 30 s when pressed, then silent for longer; copies are lost, never 20 s of them."""

    def __init__(self) -> None:
        super().__init__()
        self.mono_s = 1000.0
        self.left_s = 0.0
        self.raised = False
        self.presence = TagPresence()
        self.saved, self.saved_at = self.presence.to_json(), at(0)

    def hear(self) -> None:
        now = at(self.mono_s)
        self.presence, press = observe(self.presence, BEACON, HERE, now, -60)
        assert (press is not None) == (not self.raised)
        self.raised = True
        if press is not None or self.presence.due(self.saved_at, now):
            self.saved, self.saved_at = self.presence.to_json(), now

    @precondition(lambda self: self.left_s <= 0)
    @rule(silent_s=st.floats(0.1, 10_000))
    def press(self, silent_s: float) -> None:
        self.mono_s += ON_AIR_S + silent_s
        self.left_s, self.raised = 30.0, False
        self.hear()

    @precondition(lambda self: self.left_s > 0)
    @rule(after_s=st.floats(0.1, 19))
    def copy(self, after_s: float) -> None:
        self.mono_s += after_s
        self.left_s -= after_s
        if self.left_s > 0:
            self.hear()

    @rule()
    def kill(self) -> None:
        """What was heard in the last 10 s may be forgotten; with 19 s of loss that is still no silence."""
        self.presence = TagPresence.from_json(self.saved)


TestPlainTag = NumberedTag.TestCase
TestSealedTag = SealedTag.TestCase
TestIdentityTag = IdentityTag.TestCase
for case in (TestPlainTag, TestSealedTag, TestIdentityTag):
    case.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)


# --- tags that count their presses -------------------------------------------------------------------------


def test_a_count_is_one_press_however_often_it_is_told() -> None:
    """Triggered frames for a while, then the same count at rest; the next count is the next press."""
    ear = Ear(PLAIN)
    assert ear.events(counted(4)) == [None]
    assert ear.events(counted(5, now=True), counted(5, now=True), counted(5)) == [PRESS, None, None]
    assert ear.events(counted(6, now=True), counted(6)) == [PRESS, None]


def test_each_kind_of_press_has_a_count_of_its_own() -> None:
    """Their frames are on the air in turn."""
    ear = Ear(PLAIN)
    resting = (counted(9, event=DOUBLE), counted(1, event=LONG))
    assert ear.events(counted(4), *resting) == [None] * 3
    assert ear.events(counted(5, now=True), *resting, counted(5, now=True), *resting) == [PRESS] + [None] * 5
    assert ear.events(counted(5), counted(10, now=True, event=DOUBLE)) == [None, DOUBLE]


def test_a_press_whose_own_frames_were_lost_is_told_by_its_count() -> None:
    """The tag was heard just before, and counts one more now."""
    ear = Ear(PLAIN)
    ear.hear(counted(4))
    assert ear.hear(counted(5), after_s=COUNT_SILENCE_S) is not None


def test_what_a_killed_gateway_knew_of_a_count_may_be_too_old_to_tell() -> None:
    """What it saved is older than what it heard: pressed meanwhile, the tag may have been elsewhere."""
    ear = Ear(PLAIN)
    ear.hear(counted(4))
    record = ear.presence.to_json()
    ear.hear(counted(4), after_s=COUNT_SILENCE_S)
    ear.presence = TagPresence.from_json(record)
    assert ear.hear(counted(5), after_s=2.0) is None


def test_what_was_pressed_out_of_our_hearing_is_no_press_here() -> None:
    """The tag comes back from elsewhere with a higher count; pressed now, it is one."""
    ear = Ear(PLAIN)
    ear.hear(counted(4))
    assert ear.hear(counted(7), after_s=COUNT_SILENCE_S + 1) is None
    assert ear.hear(counted(8, now=True), after_s=COUNT_SILENCE_S + 1) is not None


def test_what_was_pressed_out_of_our_hearing_is_no_press_whichever_count_comes_first() -> None:
    """The kinds are told in turn: that one of them is heard again says nothing of what another counted."""
    ear = Ear(PLAIN)
    assert ear.events(counted(4), counted(9, event=DOUBLE)) == [None, None]
    assert ear.hear(counted(4), after_s=COUNT_SILENCE_S + 1) is None
    assert ear.events(counted(10, event=DOUBLE), counted(11, event=DOUBLE)) == [None, DOUBLE]


def test_the_first_frame_of_a_counting_tag_is_a_press_only_while_it_says_so() -> None:
    """Otherwise every tag that is handed out would raise."""
    assert Ear(PLAIN).events(counted(5)) == [None]
    assert Ear(PLAIN).events(counted(5, now=True)) == [PRESS]


def test_a_new_battery_is_no_press_and_the_press_after_it_is_one() -> None:
    """The count begins anew at 0; it may wrap to 0 while the button is used."""
    ear = Ear(PLAIN)
    assert ear.events(counted(5), counted(0), counted(1, now=True)) == [None, None, PRESS]
    assert ear.events(counted(65_535, now=True), counted(0, now=True)) == [PRESS, PRESS]


def test_a_counting_tag_is_known_after_a_restart() -> None:
    """The same count is a copy, across a restart and by its keys; two gateways give it one key."""
    ear = Ear(PLAIN)
    press = ear.hear(counted(5, now=True))
    assert press is not None
    assert (press.counter, press.press_key, press.copy_key) == (5, "nurse-1-press-5", "press-5")
    assert ear.presence.numbered
    ear.presence = TagPresence.from_json(ear.presence.to_json())
    assert ear.events(counted(5, now=True), counted(6, now=True)) == [None, PRESS]


def test_a_burst_of_a_minute_is_one_press_and_so_is_one_with_a_restart_in_it() -> None:
    """What was saved with the press is enough: nothing is saved while it is repeated."""
    ear = Ear(PLAIN)
    assert ear.hear(counted(1, now=True)) is not None
    record = ear.presence.to_json()
    assert [ear.hear(counted(1, now=True), after_s=20) for _ in range(3)] == [None, None, None]
    ear.presence = TagPresence.from_json(record)
    assert ear.hear(counted(1, now=True)) is None


def test_a_count_that_a_new_battery_brought_back_is_a_press() -> None:
    """The tag advertises only when triggered: pressed once with each battery, it says 1 each time."""
    ear = Ear(PLAIN)
    ear.events(counted(1, now=True), counted(1, now=True))
    ear.restart()
    assert ear.hear(counted(1, now=True), after_s=BURST_S) is None
    assert ear.hear(counted(1, now=True), after_s=BURST_S + 0.1) is not None
    assert ear.hear(counted(1, now=True)) is None
    assert ear.hear(counted(1, now=True), after_s=3600) is not None


def test_a_count_that_came_back_is_no_press_while_nobody_presses() -> None:
    """At rest it is what the gateway knows, however long it was not heard."""
    ear = Ear(PLAIN)
    ear.hear(counted(1, now=True))
    assert [ear.hear(counted(1), after_s=3600) for _ in range(2)] == [None, None]


def test_a_count_that_was_known_at_rest_only_can_come_back() -> None:
    """It was never heard in use: since it was heard at all counts."""
    ear = Ear(PLAIN)
    ear.hear(counted(1))
    assert ear.hear(counted(1, now=True), after_s=BURST_S) is None
    ear = Ear(PLAIN)
    ear.hear(counted(1))
    assert ear.hear(counted(1, now=True), after_s=BURST_S + 1) is not None


def test_a_tag_that_is_heard_all_the_time_has_no_new_battery() -> None:
    """Seconds since the last click that come round after 18 h say "just now", and nobody clicked."""
    ear = Ear(PLAIN)
    ear.hear(counted(1, now=True))
    assert not any(ear.hear(counted(1), after_s=COUNT_SILENCE_S) for _ in range(10))
    assert ear.hear(counted(1, now=True), after_s=COUNT_SILENCE_S) is None


@pytest.mark.parametrize(
    ("later", "raises"),
    [
        (at(1, "b2", wall_s=1.8e9 + 3600), True),
        (at(1, "b2", wall_s=1.8e9 + 130), False),
        (at(1, "b2", wall_s=1.8e9), False),
        (at(1, "b2", wall_s=1.8e9 + 3600, source=ClockSource.NONE), False),
    ],
    ids=["an hour", "a moment", "set back", "unknown"],
)
def test_whether_a_count_came_back_only_a_clock_can_tell(later: Instant, raises: bool) -> None:
    """After a reboot: where nobody knows how long it took, an equal count is a copy."""
    presence, _ = observe(TagPresence(), PLAIN, counted(1, now=True), at(100), None)
    _, press = observe(presence, PLAIN, counted(1, now=True), later, None)
    assert (press is not None) == raises


def test_a_count_that_was_known_in_an_earlier_boot_without_a_clock_stays_a_copy() -> None:
    """Heard again at rest meanwhile, it was used nobody knows how long ago."""
    unset = at(100, source=ClockSource.NONE)
    presence, _ = observe(TagPresence(), PLAIN, counted(1, now=True), unset, None)
    presence, _ = observe(presence, PLAIN, counted(1), at(1, "b2"), None)
    _, press = observe(presence, PLAIN, counted(1, now=True), at(3600, "b2"), None)
    assert press is None


def test_a_count_that_was_stored_before_its_use_was_known_is_read() -> None:
    """By an earlier version."""
    ear = Ear(PLAIN)
    ear.hear(counted(5, now=True))
    stored = json.loads(ear.presence.to_json())
    del stored["counts"]["press"]["used"]
    ear.presence = TagPresence.from_json(json.dumps(stored))
    assert ear.presence.counts["press"].count == 5
    assert ear.events(counted(5, now=True), counted(6, now=True)) == [None, PRESS]
