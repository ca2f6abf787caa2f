"""What leaves the daemon: rendered when it is published, with the time that is known by then."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from contract import validate
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import payload, status, topic
from gatewayd.core.model import (
    Body,
    ClockSource,
    ClockState,
    Draft,
    Instant,
    Json,
    Keep,
    Message,
    MessageClass,
)
from gatewayd.core.uuid7 import RANDOM_BYTES

RUN = "3f6f5a0e-7c07-4b35-9d2b-2f8a6a0b4d11"
RANDOM = bytes(RANDOM_BYTES)
NOON_S = 1_772_366_400.0  # 2026-03-01T12:00:00Z
THEN = Instant(boot="b1", mono_s=100.0, wall_s=NOON_S, source=ClockSource.NTP, uncertainty_ms=5)
CLOCK = ClockState(boot="b1", offset_s=NOON_S - 100.0, source=ClockSource.NTP, uncertainty_ms=5)

INSTANTS = st.builds(
    Instant,
    boot=st.text(),
    mono_s=st.floats(allow_nan=False, allow_infinity=False),
    wall_s=st.floats(allow_nan=False, allow_infinity=False),
    source=st.sampled_from(ClockSource),
    uncertainty_ms=st.integers(0, 10**6),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | st.text() | INSTANTS
KEYS = st.text(max_size=8) | st.sampled_from(["$instant", "$", "$$instant", "at"])
VALUES: st.SearchStrategy[Json] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=5)


def draft(body: Body | None = None, *, at: Instant = THEN, id: str | None = None) -> Draft:  # noqa: A002
    return Draft(
        topic=topic.POSITION,
        message_class=MessageClass.POSITION,
        keep=Keep.WHEN_WAITING,
        at=at,
        body={} if body is None else body,
        id=id,
    )


def message(body: Body | None = None, *, at: Instant = THEN) -> Message:
    return payload.Stamper(RUN).stamp(draft(body, at=at), RANDOM)


def chunk() -> Message:
    audio = replace(draft({"duration_ms": 500}), topic=topic.alarm_audio("a", 0))
    return payload.Stamper(RUN).stamp(audio, RANDOM, sound=b"OggS...")


def render(found: Message, *, clock: ClockState = CLOCK, published: Instant = THEN) -> payload.Rendered:
    return payload.render(found, gateway="gw-1", clock=clock, published=published)


def read(found: Message, *, clock: ClockState = CLOCK, published: Instant = THEN) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(render(found, clock=clock, published=published).payload)
    return result


def after(seconds: float) -> Instant:
    return replace(THEN, mono_s=THEN.mono_s + seconds, wall_s=THEN.wall_s + seconds)


def test_the_stamper_numbers_the_messages_of_its_run() -> None:
    stamper = payload.Stamper(RUN)
    found = [stamper.stamp(draft(), RANDOM) for _ in range(3)]
    assert [(each.run, each.seq) for each in found] == [(RUN, 1), (RUN, 2), (RUN, 3)]


def test_a_fresh_id_carries_the_time_and_a_derived_one_stands() -> None:
    """A UUIDv7 of when it happened, unless the draft brings one."""
    stamper = payload.Stamper(RUN)
    assert int(stamper.stamp(draft(), RANDOM).id.replace("-", "")[:12], 16) == NOON_S * 1000
    assert stamper.stamp(draft(id="mine"), RANDOM).id == "mine"


def test_a_message_is_its_draft() -> None:
    """Whatever the draft says of itself reaches the message."""
    asked = Draft(
        topic=topic.REPLY,
        message_class=MessageClass.STATE,
        keep=Keep.AT_ONCE,
        at=THEN,
        body={"ok": True},
        retain=True,
        replaces=True,
        clears=True,
        expires_s=7,
        response_topic="ops/1",
        correlation=b"c",
    )
    found = payload.Stamper(RUN).stamp(asked, RANDOM, sound=b"s")
    for name in Draft.__dataclass_fields__:
        if name != "id":
            assert getattr(found, name) == getattr(asked, name), name
    assert found.sound == b"s"


def test_the_envelope() -> None:
    assert read(message({"x": 1}), published=after(1.5)) == {
        "v": 1,
        "id": message().id,
        "gateway": "gw-1",
        "boot": "b1",
        "run": RUN,
        "seq": 1,
        "at": "2026-03-01T12:00:00.000Z",
        "clock": {"source": "ntp", "uncertainty_ms": 5},
        "late_s": 1.5,
        "x": 1,
    }
    assert render(message()).content_type == "application/json"


def test_the_expiry_goes_with_it() -> None:
    assert render(replace(message(), expires_s=7)).expires_s == 7
    assert render(replace(chunk(), expires_s=7)).expires_s == 7


@pytest.mark.parametrize(
    ("late_s", "source", "left_s"),
    [
        (0, ClockSource.NTP, 60),
        (45, ClockSource.NTP, 15),
        (90, ClockSource.NTP, 1),
        (45, ClockSource.NONE, 60),
    ],
)
def test_what_waited_here_is_retained_no_longer_for_that(
    late_s: float, source: ClockSource, left_s: int
) -> None:
    """Where a clock tells how long it waited."""
    kept = replace(message(), retain=True, expires_s=60)
    clock = replace(CLOCK, source=source)
    assert render(kept, clock=clock, published=after(late_s)).expires_s == left_s
    assert render(replace(kept, retain=False), clock=clock, published=after(late_s)).expires_s == 60


def test_an_instant_in_the_body_is_rendered_where_it_stands() -> None:
    found = read(message({"a": {"fix_at": THEN}, "timeline": [{"at": THEN}]}))
    assert found["a"] == {"fix_at": "2026-03-01T12:00:00.000Z"}
    assert found["timeline"] == [{"at": "2026-03-01T12:00:00.000Z"}]


@pytest.mark.parametrize(
    ("source", "uncertainty_ms"), [(ClockSource.NONE, 0), (ClockSource.RTC, 1), (ClockSource.NTP, 500)]
)
def test_a_time_told_before_the_clock_was_known_is_told_rightly(
    source: ClockSource, uncertainty_ms: int
) -> None:
    """Same boot, and the clock is better now: wall time is monotonic time plus what is known now."""
    early = Instant(boot="b1", mono_s=100.0, wall_s=7.0, source=source, uncertainty_ms=uncertainty_ms)
    found = read(message({"fix_at": early}, at=early))
    assert found["at"] == found["fix_at"] == "2026-03-01T12:00:00.000Z"
    assert found["clock"] == {"source": "ntp", "uncertainty_ms": 5}


def test_a_clock_set_by_hand_counts_though_nobody_vouches_for_it() -> None:
    """Three years wrong at boot, then set with `date`: what waits is told with the time set, source none."""
    years_ago = replace(THEN, wall_s=NOON_S - 3 * 365 * 86_400, source=ClockSource.NONE)
    found = read(message(at=years_ago), clock=replace(CLOCK, source=ClockSource.NONE))
    assert (found["at"], found["clock"]["source"]) == ("2026-03-01T12:00:00.000Z", "none")


@pytest.mark.parametrize(
    "clock",
    [
        ClockState(boot="b1", offset_s=0.0, source=ClockSource.NONE, uncertainty_ms=0),
        ClockState(boot="b1", offset_s=0.0, source=ClockSource.NTP, uncertainty_ms=5),
        ClockState(boot="b2", offset_s=0.0, source=ClockSource.NTP, uncertainty_ms=0),
    ],
)
def test_a_time_is_left_alone_when_nothing_better_is_known_of_it(clock: ClockState) -> None:
    """A clock that got worse, one as good, and one of another boot change nothing."""
    found = read(message(), clock=clock)
    assert (found["at"], found["clock"]["uncertainty_ms"]) == ("2026-03-01T12:00:00.000Z", 5)


def test_lateness_is_monotonic_within_a_boot() -> None:
    """Right though the wall clock was set in between."""
    published = replace(after(90.0), wall_s=7.0)
    assert read(message(), published=published)["late_s"] == 90.0


def test_lateness_across_boots_is_what_the_wall_clocks_say() -> None:
    published = Instant(boot="b2", mono_s=3.0, wall_s=0.0, source=ClockSource.NONE, uncertainty_ms=0)
    clock = ClockState(boot="b2", offset_s=NOON_S + 57.0, source=ClockSource.GNSS, uncertainty_ms=50)
    assert read(message(), clock=clock, published=published)["late_s"] == 60.0


def test_lateness_is_never_negative() -> None:
    assert read(message(), published=after(-3.0))["late_s"] == 0


@pytest.mark.parametrize("wall_s", [float("nan"), float("inf"), -1.0, 1e18])
def test_an_absurd_time_is_clamped(wall_s: float) -> None:
    """A message never fails for its clock."""
    absurd = replace(THEN, wall_s=wall_s)
    found = message(at=absurd)
    assert read(found)["at"] in {"1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z"}
    assert found.id[14] == "7"


def test_what_json_cannot_say_never_keeps_a_message_back() -> None:
    found = read(message({"hdop": float("nan"), "list": [float("inf")], "name": "a\ud800b"}))
    assert (found["hdop"], found["list"], found["name"]) == (None, [None], "a?b")


def test_a_replys_id_is_its_commands() -> None:
    """Where body and envelope have the same name, the body's stands."""
    assert read(message({"id": "command-1"}))["id"] == "command-1"


def test_a_withdrawn_topic_is_an_empty_payload() -> None:
    assert render(replace(message({"x": 1}), clears=True)) == payload.Rendered(payload=b"", content_type=None)


def test_a_chunk_is_its_pages_with_user_properties() -> None:
    found = render(chunk(), published=after(9.9))
    assert (found.payload, found.content_type) == (b"OggS...", "audio/ogg")
    assert dict(found.user_properties) == {
        "at": "2026-03-01T12:00:00.000Z",
        "clock": "ntp",
        "late-s": "9.9",
        "duration-ms": "500",
        "sha256": sha256(b"OggS...").hexdigest(),
        "live": "true",
    }
    validate("alarm/a/audio/0", found.payload, found.user_properties)


def test_a_chunk_of_ten_seconds_ago_is_not_live() -> None:
    assert dict(render(chunk(), published=after(10.0)).user_properties)["live"] == "false"


def test_birth_will_and_clean_stop_are_of_the_contract() -> None:
    """Birth and will carry the same number; the will has no time."""
    stamper = payload.Stamper(RUN)
    birth = render(stamper.stamp(status.birth(4, "0.1.0", THEN), RANDOM)).payload
    stopped = render(stamper.stamp(status.stopped(4, "0.1.0", THEN), RANDOM)).payload
    will_message = stamper.stamp(status.will(4, "0.1.0", THEN), RANDOM)
    will = payload.render_will(will_message, gateway="gw-1")
    found = [validate("status", each) for each in (birth, will.payload, stopped)]
    online, gone, stopping = [each or {} for each in found]
    assert (online["state"], online["session"]) == ("online", 4)
    assert (gone["state"], gone["session"]) == ("offline", 4)
    assert not {"at", "clock", "late_s", "since"} & gone.keys()
    assert stopping["reason"] == "stopped"


def test_an_instant_in_a_will_becomes_null() -> None:
    found = payload.render_will(message({"since": THEN}), gateway="gw-1")
    assert json.loads(found.payload)["since"] is None


@given(BODIES)
def test_a_body_comes_back_from_the_disk_as_it_went(body: dict[str, Json]) -> None:
    """Instants, keys that look like our mark, half surrogates: everything."""
    assert payload.load(payload.dump(body)) == body


@given(BODIES, INSTANTS, INSTANTS)
def test_rendering_never_fails(body: dict[str, Json], at: Instant, published: Instant) -> None:
    clock = ClockState(boot=at.boot, offset_s=0.0, source=ClockSource.NTP, uncertainty_ms=0)
    found = json.loads(render(message(body, at=at), clock=clock, published=published).payload)
    assert found.keys() >= body.keys()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "[" * 100_000, '{"a":{"$instant":3}}', '{"a":{"$instant":[]}}',
        '{"$instant":["b",1,1,"ntp",5]}', '{"a":{"$instant":["b",1,1,"sun",5]}}',
        '{"a":{"$instant":["b",1,1,"ntp",Infinity]}}', '{"a":{"$instant":["b",null,1,"ntp",5]}}',
    ],
)  # fmt: skip
def test_damage_is_refused(text: str) -> None:
    """A ValueError, whatever lies on the disk."""
    with pytest.raises(ValueError):
        payload.load(text)


def test_a_time_comes_back_from_its_text() -> None:
    assert payload.wall("2026-03-01T12:00:00.000Z") == NOON_S
    assert payload.wall("2026-03-01T13:00:00+01:00") == NOON_S


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-03-01T12:00:00", "2026-03-01", "2026-13-01T12:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        payload.wall(text)


def test_only_ntp_and_gnss_vouch_for_the_time() -> None:
    """A real-time clock tells what somebody once set."""
    assert {source for source in ClockSource if source.vouched} == {ClockSource.NTP, ClockSource.GNSS}
