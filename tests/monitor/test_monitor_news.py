"""What the broker delivered, read and shown: complete for a person, harmless for the terminal."""

import io
import json
import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.topic import Kind
from gatewayd.monitor.desk import Desk, JsonView, LiveView, PlainView, alarm_lines
from gatewayd.monitor.news import Doubles, News, lines, read, to_json

ALARM = "0198c7a2-6f00-7abc-8def-0123456789ab"
BASE = "gatewayd/gw-1a2b3c4d"
POSITION = {
    "lat": 52.0907123,
    "lon": 5.1214249,
    "eph_m": 4.4,
    "age_s": 0.34,
    "trusted": True,
    "mode": "3d",
    "method": "gnss",
    "subject": "vehicle",
}
RAISED: dict[str, Any] = {
    "v": 1,
    "id": "one",
    "at": "2026-03-01T08:15:30.125Z",
    "alarm": ALARM,
    "type": "raised",
    "mode": "actual",
    "cause": "panic",
    "severity": "critical",
    "tag": {"id": "tag-1", "worker": "nurse-7", "auth": "ok", "battery_pct": 80, "rssi_dbm": -61},
    "position": POSITION,
    "hops_ms": {"heard": 0, "decided": 0.4},
}


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The reader is in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def message(below: str, body: object, **properties: str) -> News:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read("gatewayd", f"{BASE}/{below}", payload, tuple(properties.items()))


def test_an_alarm_is_told_in_four_lines() -> None:
    """Who, why and how grave; tag and proof; position with age and trust; hops."""
    assert lines(message(f"alarm/{ALARM}/event", RAISED)) == [
        "08:15:30 gw-1a2b3c4d  ALARM panic critical, nurse-7, 456789ab",
        "           tag tag-1, auth ok, battery 80 %, -61 dBm",
        "           52.09071, 5.12142, ± 4 m, 0.3 s old, trusted, 3d gnss, of the vehicle",
        "           heard 0.0 ms → decided 0.4 ms",
    ]


def test_a_test_alarm_says_so_first() -> None:
    """Nobody runs for a test."""
    assert "TEST ALARM" in lines(message(f"alarm/{ALARM}/event", {**RAISED, "mode": "test"}))[0]


@pytest.mark.parametrize(
    ("below", "body", "told"),
    [
        (f"alarm/{ALARM}/event", {"type": "repeated", "mode": "test"}, "TEST repeated"),
        (f"alarm/{ALARM}/event", {"type": "repeated", "mode": "actual"}, "repeated"),
        (f"alarm/{ALARM}/state", {"handling": "closed", "mode": "test"}, "TEST alarm 89ab is closed"),
    ],
)
def test_all_that_is_told_of_a_test_says_so_first(below: str, body: dict[str, Any], told: str) -> None:
    (line,) = lines(message(below, body))
    assert line.split("  ")[-1].replace("456789ab", "89ab").startswith(told)


def test_health_tells_what_is_to_be_known_of_tests() -> None:
    """One that failed, tags whose presses call nobody now, tags that nobody tested."""
    tests = {
        "end_to_end": {"state": "failed", "detail": "not back"},
        "windows": {"t-1": {"ends_at": "2026-03-01T08:15:30.125Z"}},
        "overdue": ["t-2", "t-3"],
    }
    (line,) = lines(message("health", {"overall": "ok", "tests": tests}))
    assert line.endswith("health ok; test failed: not back; presses are tests: t-1; not tested: t-2, t-3")
    fine = {"end_to_end": {"state": "ok", "latency_ms": 3}, "overdue": []}
    (line,) = lines(message("health", {"overall": "ok", "tests": fine}))
    assert line.endswith("health ok")


def test_an_alarm_without_a_position_says_so() -> None:
    """What is not known is said, not left out."""
    body = {**RAISED, "position": None, "tag": None}
    told = lines(message(f"alarm/{ALARM}/event", body))
    assert "worker not known" in told[0]
    assert told[1].strip() == "tag not known"
    assert told[2].strip() == "position not known yet"


@pytest.mark.parametrize(
    ("below", "body", "told"),
    [
        (
            f"alarm/{ALARM}/event",
            {"type": "audio_started", "codec": "opus", "alarm": ALARM, "recent": []},
            "audio_started 456789ab: codec opus",
        ),
        (
            f"alarm/{ALARM}/event",
            {"type": "position", "position": {**POSITION, "trusted": False}},
            "position 456789ab: position 52.09071, 5.12142, ± 4 m, 0.3 s old, NOT trusted, "
            "3d gnss, of the vehicle",
        ),
        (
            f"alarm/{ALARM}/state",
            {
                "handling": "received",
                "owner": "desk-2",
                "presses": 2,
                "audio": {"state": "recording", "chunks": 12},
                "hops_ms": {"heard": 0, "confirmed": 5.61, "stored": 2},
            },
            "alarm 456789ab is received, owner desk-2, 2 presses, sound recording, 12 chunks, "
            "heard 0.0 ms → stored 2.0 ms → confirmed 5.6 ms",
        ),
        (
            "health",
            {
                "overall": "degraded",
                "components": {
                    "mic": {"state": "failed", "detail": "no such device"},
                    "gps": {"state": "ok", "detail": "3d"},
                },
                "outbox": {"depth": 4},
            },
            "health degraded; mic failed: no such device; 4 waiting",
        ),
        ("status", {"state": "online", "session": 3, "version": "0.1.0"}, "online, session 3, version 0.1.0"),
        ("status", {"state": "offline", "reason": "stopped"}, "offline, stopped"),
        ("position", {"mode": "none", "lat": None}, "position not known"),
        ("reply", {"ok": True, "id": "x"}, "reply: ok true"),
        ("tag/tag-1", {"state": "seen"}, "tag/tag-1: state seen"),
    ],
)
def test_each_kind_is_a_line(below: str, body: dict[str, Any], told: str) -> None:
    """Each message is one line that says what is new."""
    [line] = lines(message(below, body))
    assert line.removeprefix(f"{'':8} gw-1a2b3c4d  ") == told


def test_a_chunk_of_sound_is_a_line() -> None:
    """Which alarm, which chunk, how long, live or late."""
    found = message(f"alarm/{ALARM}/audio/12", b"OggS", **{"duration-ms": "500", "live": "true"})
    assert lines(found)[0].endswith("sound 456789ab chunk 12, 0.50 s, live")


def test_a_withdrawn_topic_says_so() -> None:
    """An empty retained payload clears."""
    assert lines(message(f"alarm/{ALARM}/state", b""))[0].endswith(f"alarm/{ALARM}/state cleared")


@pytest.mark.parametrize("payload", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_garbage_is_named_not_raised(payload: bytes) -> None:
    """What is no JSON object is told as that."""
    found = message("health", payload)
    assert found.error is not None
    assert found.error.startswith("expected")
    assert json.loads(to_json(found))["error"] == found.error


def test_figures_too_large_are_not_shown() -> None:
    """A number no float can hold, and a length that is none, are as if they were absent."""
    huge = 10**400
    body = {"lat": 1, "lon": 2, "eph_m": huge, "age_s": huge}
    assert lines(message("position", body))[0].endswith("position 1.00000, 2.00000, NOT trusted")
    chunk = message(f"alarm/{ALARM}/audio/3", b"OggS", **{"duration-ms": "9" * 5000})
    assert lines(chunk)[0].endswith("chunk 3, late")


def test_no_message_can_drive_the_terminal() -> None:
    """Escape sequences from the network are shown as signs, also in names."""
    hostile = "\x1b]0;owned\x07\u202e"
    body = {**RAISED, "tag": {"id": hostile, "auth": hostile}, "cause": hostile, "\x1b[2J": 1}
    for below in (f"alarm/{ALARM}/event", "health", "reply", "visit/x"):
        told = "".join(lines(message(below, body)))
        assert told.isprintable()


def test_json_has_the_payload_or_what_describes_the_sound() -> None:
    """One object a message."""
    assert json.loads(to_json(message("status", {"state": "online"}))) == {
        "topic": f"{BASE}/status",
        "payload": {"state": "online"},
    }
    chunk = message(f"alarm/{ALARM}/audio/3", b"OggS", live="true")
    assert json.loads(to_json(chunk))["audio"] == {"n": 3, "bytes": 4, "live": "true"}
    assert json.loads(to_json(message("status", b"")))["payload"] is None


def test_doubles_are_known_by_their_id() -> None:
    """The same message again is one; a chunk is known by its number; what has no id is always new."""
    doubles = Doubles()
    event = message(f"alarm/{ALARM}/event", RAISED)
    chunk = message(f"alarm/{ALARM}/audio/3", b"OggS")
    plain = message("reply", {"ok": True})
    assert [doubles.again(news) for news in (event, chunk, plain)] == [False, False, False]
    assert [doubles.again(news) for news in (event, chunk, plain)] == [True, True, False]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "type",
        "tag",
        "position",
        "hops_ms",
        "components",
        "outbox",
        "audio",
        "at",
        "handling",
        "state",
        "presses",
    ]
)
topics = st.sampled_from(
    [
        "status",
        "health",
        "position",
        "reply",
        f"alarm/{ALARM}/event",
        f"alarm/{ALARM}/state",
        "tag/a",
        "x/y/z",
        "",
    ]
)


@given(topics, st.dictionaries(names | st.text(max_size=6), json_values, max_size=6), st.booleans())
def test_no_object_raises(below: str, body: dict[str, Any], raised: bool) -> None:
    """Whatever JSON stands where, every view shows something."""
    if raised:
        body["type"] = "raised"
    found = message(below, body)
    out = io.StringIO()
    for view in (PlainView(out), JsonView(out, out)):
        view.show(found, None)
    desk = Desk()
    desk.take(found, None)
    for alarm in desk.alarms.values():
        assert all(line.isprintable() for line in alarm_lines(alarm))


@given(st.text(max_size=30), st.binary(max_size=60))
def test_no_topic_and_no_payload_raises(topic: str, payload: bytes) -> None:
    """Topics of other people's making come out as what they are."""
    found = read("gatewayd", topic, payload)
    assert lines(found)
    assert to_json(found)


def told(desk: Desk, below: str, body: object, level: float | None = None, **properties: str) -> None:
    desk.take(message(below, body, **properties), level)


VISIT = {
    "id": "v-1", "worker": "nurse-7", "risk": "high", "note": "dog in the hall", "code_word_ref": "card 7",
    "address": {"street": "Dam", "number": "1", "addition": "b", "floor": "3", "postcode": "10", "city": "A"},
}  # fmt: skip
DOOR = "v-1: Dam 1 b, floor 3, 10 A, risk high, dog in the hall, code word: card 7"


def test_an_alarm_on_a_visit_tells_which_door() -> None:
    """As it is raised, and as somebody takes it; without an address it says so."""
    assert f"           visit {DOOR}" in lines(message(f"alarm/{ALARM}/event", {**RAISED, "visit": VISIT}))
    [taken] = lines(message(f"alarm/{ALARM}/event", {"type": "accepted", "visit": VISIT}))
    assert taken.endswith(f"accepted 456789ab: visit {DOOR}")
    [taken] = lines(message(f"alarm/{ALARM}/event", {"type": "accepted", "visit": {"id": "v-1"}}))
    assert taken.endswith("visit v-1: no address")
    after = {"id": "v-1", "before": "v-0"}
    [taken] = lines(message(f"alarm/{ALARM}/event", {"type": "accepted", "visit": after}))
    assert taken.endswith("visit v-1: nobody ended v-0 before")


def test_the_desk_knows_the_door_once_an_event_told_it() -> None:
    """Also one that began with the state, which has no address; and what changed the alarm since counts."""
    desk = Desk()
    told(desk, f"alarm/{ALARM}/event", {**RAISED, "visit": VISIT})
    told(desk, f"alarm/{ALARM}/state", {**RAISED, "cause": "duress", "visit": {"id": "v-1", "risk": "high"}})
    assert f"visit {DOOR}" in alarm_lines(desk.alarms[ALARM])
    assert desk.alarms[ALARM].body["cause"] == "duress"
    late = Desk()
    told(late, f"alarm/{ALARM}/state", {"visit": {"id": "v-1"}})
    assert "visit v-1: no address" in alarm_lines(late.alarms[ALARM])
    told(late, f"alarm/{ALARM}/event", {"type": "accepted", "visit": VISIT})
    assert f"visit {DOOR}" in alarm_lines(late.alarms[ALARM])


def test_the_desk_puts_an_alarm_together() -> None:
    """Event, state, position and sound of one alarm are one picture, with the latest hops."""
    desk = Desk()
    told(desk, f"alarm/{ALARM}/event", RAISED)
    told(desk, f"alarm/{ALARM}/event", {"type": "position", "position": {**POSITION, "lat": 52.1}})
    told(desk, f"alarm/{ALARM}/state", {"handling": "accepted", "hops_ms": {"heard": 0, "confirmed": 6}})
    told(desk, f"alarm/{ALARM}/audio/0", b"OggS", -30.0, **{"duration-ms": "500"})
    told(desk, f"alarm/{ALARM}/audio/1", b"OggS", -30.0, **{"duration-ms": "500"})
    assert alarm_lines(desk.alarms[ALARM]) == [
        f"accepted, {ALARM}",
        "tag tag-1, auth ok, battery 80 %, -61 dBm",
        "52.10000, 5.12142, ± 4 m, 0.3 s old, trusted, 3d gnss, of the vehicle",
        "heard 0.0 ms → confirmed 6.0 ms",
        "sound ██████████░░░░░░░░░░ -30.0 dBFS  1.0 s in 2 chunks",
    ]


def test_a_closed_alarm_leaves_the_desk() -> None:
    """Closed or cleared, it is no longer open."""
    desk = Desk()
    told(desk, f"alarm/{ALARM}/state", {"handling": "raised"})
    told(desk, f"alarm/{ALARM}/state", {"handling": "closed"})
    assert desk.alarms == {}


def test_the_desk_does_not_grow() -> None:
    """A flood of names fills neither the memory nor the screen."""
    desk = Desk()
    for number in range(200):
        desk.take(read("gatewayd", f"gatewayd/gw-{number}/status", b'{"state":"online"}'), None)
        told(desk, f"alarm/a{number}/event", RAISED)
    assert len(desk.gateways) == 50
    assert list(desk.alarms) == [f"a{number}" for number in range(195, 200)]


def test_the_live_view_draws_the_desk() -> None:
    """With rich, the gateway's row, the alarm's panel and the level are on the screen."""
    pytest.importorskip("rich", reason="rich draws the live view; it is optional")
    out = io.StringIO()
    view = LiveView(out)
    view.show(message("status", {"state": "online"}), None)
    view.show(message("health", {"overall": "ok"}), None)
    view.show(message(f"alarm/{ALARM}/event", RAISED), None)
    view.show(message(f"alarm/{ALARM}/audio/0", b"OggS", **{"duration-ms": "500"}), -12.0)
    view.say("keeping the sound")
    view.tick()
    view.close()
    drawn = out.getvalue()
    for expected in ("gw-1a2b3c4d", "online", "ALARM panic, nurse-7", "-12.0 dBFS", "keeping the sound"):
        assert expected in drawn


def test_plain_lines_show_the_level() -> None:
    """Without a terminal the level stands behind the chunk's line."""
    out = io.StringIO()
    view = PlainView(out)
    view.show(message(f"alarm/{ALARM}/audio/0", b"OggS"), -30.0)
    view.say("connected")
    view.tick()
    view.close()
    first, second = out.getvalue().splitlines()
    assert first.endswith("██████████░░░░░░░░░░ -30.0 dBFS")
    assert second == "connected"


def test_json_keeps_its_lines_clean() -> None:
    """What is not a message goes to the other stream."""
    out, err = io.StringIO(), io.StringIO()
    view = JsonView(out, err)
    view.say("connected")
    view.show(message("status", {"state": "online"}), -3.0)
    view.tick()
    view.close()
    assert json.loads(out.getvalue())["payload"] == {"state": "online"}
    assert err.getvalue() == f"connected{os.linesep}"


def test_kinds_follow_the_topic() -> None:
    """The contract's topics are known; another one is shown as it is."""
    assert message("health", {}).kind is Kind.HEALTH
    assert message("visit/v1", {}).kind is Kind.VISIT
    assert message("weather/v1", {}).kind is None
    assert read("gatewayd", "other/topic", b"{}").gateway is None
