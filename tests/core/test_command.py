"""Commands: whatever comes in gets one clear answer, and has its effect once."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from typing import Any

import pytest
from contract import check
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import desk, topic
from gatewayd.core.alarm import Pressed, Publish, Save, Settings, step
from gatewayd.core.command import (
    LARGEST_BYTES,
    Actor,
    Command,
    CoverageGet,
    Incoming,
    ListenStart,
    ListenStop,
    Reply,
    UpkeepCommand,
    VisitCommand,
    read,
)
from gatewayd.core.coverage import Record
from gatewayd.core.desk import REMEMBER_MAX, REMEMBER_S, ForgetReply, SaveReply, answer
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.handling import (
    Accept,
    Close,
    Decline,
    Escalate,
    Note,
    OnScene,
    Outcome,
    Raise,
    Raising,
    Received,
    Reopen,
    Respond,
    Review,
)
from gatewayd.core.model import ClockSource, Draft, Instant, Keep, Mode, Press, Tag, TagEvent
from gatewayd.core.supervision import Ear, Hearing
from gatewayd.core.upkeep import Assign, Locate, PressWindow, Revoke, TestRun, UpkeepOrder
from gatewayd.core.uuid7 import uuid7
from gatewayd.core.visit import Visits

NOON_S = 1_772_366_400.0  # 2026-03-01T12:00:00Z
NOW = Instant(boot="b1", mono_s=100.0, wall_s=NOON_S, source=ClockSource.NTP, uncertainty_ms=1000)
ALARM = uuid7(int(NOON_S * 1000), bytes(10))
SETTINGS = Settings(audio=True, duration_s=600.0)
ROUNDS = 10**6 if os.environ.get("GATEWAYD_LONG") else 3_000


def fields(**more: Any) -> dict[str, Any]:
    return {"id": "c-1", "actor": {"id": "desk-3", "name": "Ada"}, "alarm": ALARM, **more}


def incoming(name: str = "alarm/accept", *, retained: bool = False, **more: Any) -> Incoming:
    return Incoming(name=name, payload=json.dumps(fields(**more)).encode(), retained=retained)


def refused(
    found: Command | VisitCommand | UpkeepCommand | CoverageGet | Reply,
) -> tuple[str | None, Code | None, str]:
    assert isinstance(found, Reply)
    return found.id, found.code, found.message


@pytest.mark.parametrize(
    ("name", "more", "order", "schema"),
    [
        ("alarm/received", {}, Received(alarm=ALARM), "alarm"),
        ("alarm/accept", {}, Accept(alarm=ALARM), "alarm"),
        ("alarm/close", {"outcome": "real"}, Close(alarm=ALARM, outcome=Outcome.REAL), "close"),
        (
            "alarm/close",
            {"outcome": "false", "police": True, "lesson": "Knock first."},
            Close(alarm=ALARM, outcome=Outcome.FALSE, police=True, lesson="Knock first."),
            "close",
        ),
        (
            "alarm/close",
            {"outcome": "duplicate", "police": "P-17", "lesson": None},
            Close(alarm=ALARM, outcome=Outcome.DUPLICATE, police="P-17"),
            "close",
        ),
        ("alarm/decline", {}, Decline(alarm=ALARM), "alarm"),
        ("alarm/respond", {}, Respond(alarm=ALARM), "respond"),
        ("alarm/respond", {"eta_s": 0}, Respond(alarm=ALARM, eta_s=0), "respond"),
        ("alarm/on_scene", {}, OnScene(alarm=ALARM), "alarm"),
        ("alarm/escalate", {}, Escalate(alarm=ALARM), "alarm"),
        ("alarm/note", {"text": "x"}, Note(alarm=ALARM, text="x"), "note"),
        (
            "alarm/note",
            {"text": "x", "cancel": "refused"},
            Note(alarm=ALARM, text="x", refuses_cancel=True),
            "note",
        ),
        ("alarm/reopen", {}, Reopen(alarm=ALARM), "alarm"),
        ("alarm/review", {}, Review(alarm=ALARM), "alarm"),
        ("alarm/raise", {"tag": "t-1", "cause": "manual"}, Raise(cause=Raising.MANUAL, tag="t-1"), "raise"),
        (
            "alarm/raise",
            {"worker": "w:1@x", "cause": "duress", "note": "Code word."},
            Raise(cause=Raising.DURESS, worker="w:1@x", note="Code word."),
            "raise",
        ),
        ("listen/start", {}, ListenStart(alarm=ALARM), "listen_start"),
        ("listen/start", {"max_s": 60}, ListenStart(alarm=ALARM, max_s=60), "listen_start"),
        ("listen/stop", {}, ListenStop(), "listen_stop"),
    ],
)
def test_a_command_is_read(name: str, more: dict[str, Any], order: object, schema: str) -> None:
    """What the schema allows is understood."""
    check(f"#/$defs/command/$defs/{schema}", fields(**more))
    found = read(incoming(name, **more), NOW)
    assert found == Command(id="c-1", actor=Actor(id="desk-3", name="Ada"), order=order)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "more", "order", "schema"),
    [
        ("test/run", {}, TestRun(), "test_run"),
        (
            "test/press_window",
            {"tags": ["t-1"], "for_s": 0},
            PressWindow(tags=("t-1",), for_s=0),
            "press_window",
        ),
        (
            "test/press_window",
            {"tags": ["t-1", "wired"], "for_s": 3600},
            PressWindow(tags=("t-1", "wired"), for_s=3600),
            "press_window",
        ),
        (
            "test/press_window",
            {"tags": ["t-1"], "for_s": 60, "mode": "exercise"},
            PressWindow(tags=("t-1",), for_s=60, mode=Mode.EXERCISE),
            "press_window",
        ),
        ("locate", {}, Locate(every_s=5, for_s=600), "locate"),
        ("locate", {"every_s": 1, "for_s": 0}, Locate(every_s=1, for_s=0), "locate"),
        ("tag/assign", {"tag": "t-1", "worker": "w-1"}, Assign(tag="t-1", worker="w-1"), "tag_assign"),
        ("tag/assign", {"tag": "t-1"}, Assign(tag="t-1"), "tag_assign"),
        ("tag/revoke", {"tag": "t-1"}, Revoke(tag="t-1"), "tag"),
    ],
)
def test_a_command_about_the_gateway_is_read(
    name: str, more: dict[str, Any], order: UpkeepOrder, schema: str
) -> None:
    check(f"#/$defs/command/$defs/{schema}", fields(**more))
    assert read(incoming(name, **more), NOW) == UpkeepCommand(
        id="c-1", actor=Actor(id="desk-3", name="Ada"), order=order
    )


def test_an_actor_may_have_no_name() -> None:
    found = read(incoming(actor={"id": "script"}), NOW)
    assert isinstance(found, Command)
    assert found.actor.body == {"id": "script"}


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("alarm/accept", {"actor": None}, "actor: expected an object with id and name, got nothing"),
        ("alarm/accept", {"actor": "Ada"}, "actor: expected an object with id and name, got 'Ada'"),
        ("alarm/accept", {"actor": {}}, "id: expected a text of 1 to 100 characters, got nothing"),
        ("alarm/accept", {"actor": {"id": 3}}, "id: expected a text of 1 to 100 characters, got 3"),
        ("alarm/accept", {"actor": {"id": "a", "name": ""}}, "name: expected a text of 1 to 100"),
        ("alarm/accept", {"alarm": None}, "alarm: expected an alarm's id, got nothing"),
        ("alarm/accept", {"alarm": "a/b"}, "alarm: expected an alarm's id, got 'a/b'"),
        ("alarm/accept", {"expires_at": 3}, "expires_at: expected a text"),
        ("alarm/accept", {"expires_at": "soon"}, "expires_at: expected an RFC 3339 time"),
        ("alarm/close", {}, "outcome: expected one of real, false, test, technical, duplicate, got nothing"),
        ("alarm/close", {"outcome": "fine"}, "got 'fine'"),
        ("alarm/close", {"outcome": "real", "police": 3}, "police: expected a text"),
        ("alarm/close", {"outcome": "real", "lesson": "x" * 2001}, "lesson: expected a text of 1 to 2000"),
        ("alarm/respond", {"eta_s": -1}, "eta_s: expected a whole number of seconds from 0 to 86400, got -1"),
        ("alarm/respond", {"eta_s": 1.5}, "eta_s"),
        ("alarm/note", {}, "text: expected a text of 1 to 2000 characters, got nothing"),
        ("alarm/note", {"text": "x", "cancel": "granted"}, "cancel: expected refused, or nothing"),
        ("alarm/note", {"text": "x", "cancel": []}, "cancel: expected refused, or nothing"),
        ("alarm/raise", {"tag": "t-1"}, "cause: expected one of manual, duress, got nothing"),
        ("alarm/raise", {"tag": "t-1", "cause": "panic"}, "cause: expected one of manual, duress"),
        ("alarm/raise", {"cause": "manual"}, "tag: expected either a tag or a worker, got nothing"),
        (
            "alarm/raise",
            {"cause": "manual", "tag": "t", "worker": "w"},
            "a tag or a worker, got 'both'",
        ),
        ("alarm/raise", {"cause": "manual", "tag": "a/b"}, "tag: expected a tag's id"),
        ("alarm/raise", {"cause": "manual", "worker": "Ada Bell"}, "worker: expected a reference"),
        ("alarm/raise", {"cause": "manual", "worker": 3}, "worker: expected a reference"),
        ("listen/start", {"max_s": 0}, "max_s: expected a whole number of seconds from 1 to 3600, got 0"),
        ("listen/start", {"max_s": 3601}, "max_s"),
        ("listen/start", {"max_s": True}, "max_s"),
        ("listen/start", {"max_s": "60"}, "max_s"),
        ("alarm/accept", {"actor": {"id": "a\ud800"}}, "id: expected a text"),
        ("test/run", {"actor": None}, "actor: expected an object"),
        ("test/press_window", {"for_s": 60}, "tags: expected a list of 1 to 1000 tags' ids, got nothing"),
        ("test/press_window", {"tags": [], "for_s": 60}, "tags: expected a list of 1 to 1000"),
        ("test/press_window", {"tags": ["t-1", "a/b"], "for_s": 60}, "tags: expected tags' ids"),
        ("test/press_window", {"tags": ["t-1", 3], "for_s": 60}, "tags: expected tags' ids"),
        ("test/press_window", {"tags": ["t-1"]}, "for_s: expected a whole number of seconds from 0 to 3600"),
        ("test/press_window", {"tags": ["t-1"], "for_s": 3601}, "for_s"),
        ("test/press_window", {"tags": ["t-1"], "for_s": -1}, "for_s"),
        ("test/press_window", {"tags": ["t-1"], "for_s": True}, "for_s"),
        (
            "test/press_window",
            {"tags": ["t-1"], "for_s": 1, "mode": "actual"},
            "mode: expected test or exercise",
        ),
        ("test/press_window", {"tags": ["t-1"], "for_s": 1, "mode": [1]}, "mode: expected test or exercise"),
    ],
)
def test_a_wrong_field_is_named(name: str, more: dict[str, Any], expected: str) -> None:
    command, code, message = refused(read(incoming(name, **more), NOW))
    assert (command, code) == ("c-1", Code.INVALID)
    assert expected in message


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"id":NaN}', b"[" * 60_000, b'{"a":' * 12_000,
        b"9" * 5_000, b" " * (LARGEST_BYTES + 1), b"{}", b'{"id":null}', b'{"id":3}', b'{"id":""}',
        json.dumps({"id": "x" * 129}).encode(),
    ],
)  # fmt: skip
def test_what_has_no_readable_id_is_answered_without_one(data: bytes) -> None:
    """invalid, and the reply's id is null."""
    command, code, message = refused(read(Incoming(name="alarm/accept", payload=data), NOW))
    assert (command, code) == (None, Code.INVALID)
    assert "expected" in message
    assert len(message) < 200


def test_a_retained_command_is_refused() -> None:
    """It would be obeyed again at every connection."""
    assert refused(read(incoming(retained=True), NOW))[:2] == ("c-1", Code.REFUSED)


@pytest.mark.parametrize("name", ["", "alarm", "alarm/lower", "alarm/accept/now", "x" * 5_000])
def test_a_command_that_does_not_exist_is_unknown(name: str) -> None:
    command, code, message = refused(read(incoming(name), NOW))
    assert (command, code) == ("c-1", Code.UNKNOWN)
    assert len(message) < 500  # the names there are, and no more than a word of what came


@pytest.mark.parametrize(
    ("expires_at", "source", "expected"),
    [
        ("2026-03-01T12:00:01Z", ClockSource.NTP, None),
        ("2026-03-01T13:00:01+01:00", ClockSource.RTC, None),
        ("2026-03-01T11:59:59.500Z", ClockSource.NTP, None),  # within the clock's uncertainty
        ("2026-03-01T11:59:58Z", ClockSource.NTP, Code.EXPIRED),
        ("2026-03-01T11:59:58Z", ClockSource.NONE, None),  # nobody knows the time
    ],
)
def test_an_expired_command_is_refused(expires_at: str, source: ClockSource, expected: Code | None) -> None:
    """By a clock that knows."""
    found = read(incoming(expires_at=expires_at), replace(NOW, source=source))
    assert (found.code if isinstance(found, Reply) else None) is expected


def test_what_makes_presses_tests_is_not_obeyed_late() -> None:
    """Without a clock nobody knows whether its time is over, and a broker may have held it."""
    body = {"id": "c-1", "actor": {"id": "ada"}, "tags": ["t-1"], "for_s": 60}
    blind = replace(NOW, source=ClockSource.NONE)
    until = {"expires_at": "2026-03-01T12:00:30Z"}
    for more, code in (({}, None), (until, Code.UNAVAILABLE), (until | {"for_s": 0}, None)):
        found = read(Incoming(name="test/press_window", payload=json.dumps(body | more).encode()), blind)
        assert (found.code if isinstance(found, Reply) else None) is code


def test_a_reply_goes_where_the_command_asked() -> None:
    """To the MQTT 5 response topic with its correlation data; without one, to `reply`."""
    reply = Reply(id="c-1", at=NOW, known=True)
    asked = reply.draft("ops/7/answers", b"\x01")
    assert (asked.topic, asked.response_topic, asked.correlation) == (topic.REPLY, "ops/7/answers", b"\x01")
    assert reply.draft().response_topic is None
    assert reply.draft().body == {"id": "c-1", "ok": True}


@pytest.mark.parametrize("response_topic", ["", "a/+", "a/#", "a\0b", "x" * 257, "a\ud800"])
def test_a_response_topic_nobody_can_publish_to_is_not_used(response_topic: str) -> None:
    assert Reply(id="c-1", at=NOW).draft(response_topic).response_topic is None


def test_a_refusal_says_why() -> None:
    """Nothing of a command that was not understood is kept on the disk at once."""
    found = Reply(id=None, at=NOW, code=Code.INVALID, message="expected …, got …").draft()
    assert found.body == {
        "id": None,
        "ok": False,
        "error": {"code": "invalid", "message": "expected …, got …"},
    }
    assert found.keep is Keep.WHEN_WAITING


@pytest.mark.parametrize(
    "reply",
    [Reply(id="c", at=NOW, known=True), Reply(id="c", at=NOW, code=Code.CONFLICT, message="m", known=True)],
)
def test_a_reply_comes_back_from_the_disk(reply: Reply) -> None:
    assert desk.from_json(desk.to_json(reply)) == reply


@pytest.mark.parametrize(
    "text", ["", "{}", '{"id":3}', '{"id":"c","at":{"$instant":["b",1,1,"ntp",1]},"code":"x","message":"m"}']
)
def test_a_damaged_reply_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        desk.from_json(text)


# --- the desk -----------------------------------------------------------------------------------------------


class Desk:
    """The alarms and the remembered replies, as the daemon holds them."""

    def __init__(self) -> None:
        press = Press(tag="t-1", event=TagEvent.PRESS, heard=NOW)
        self.alarms, _ = step({}, Pressed(press=press, next_alarm_id=ALARM, decided=NOW), NOW, SETTINGS)
        self.visits: Visits = {}
        self.replies: desk.Replies = {}
        self.record = Record([Tag(name="t-1", format="bthome")], Ear(hearing=Hearing.HEARS, since_s=0.0), NOW)
        self.effects: tuple[object, ...] = ()
        self.kept_up: list[UpkeepCommand] = []
        self.refusal: Refusal = None

    def upkeep(self, command: UpkeepCommand) -> Refusal:
        """Note the command."""
        self.kept_up.append(command)
        return self.refusal

    def ask(self, command: Incoming, now: Instant = NOW) -> Draft:
        """Answer the command; return the reply."""
        known = desk.Known(alarms=self.alarms, visits=self.visits, replies=self.replies, record=self.record)
        known, self.effects = answer(known, command, now, SETTINGS, upkeep=self.upkeep)
        self.alarms, self.visits, self.replies = known.alarms, known.visits, known.replies
        drafts = [effect.draft for effect in self.effects if isinstance(effect, Publish)]
        [reply] = [draft for draft in drafts if draft.topic == topic.REPLY]
        return reply


def test_a_command_has_its_effect_once() -> None:
    """The same id again gets the same reply, where it was asked for this time; nothing else happens."""
    ops = Desk()
    first = ops.ask(incoming())
    assert first.body == {"id": "c-1", "ok": True}
    assert any(isinstance(effect, Save) for effect in ops.effects)
    assert SaveReply(reply=ops.replies["c-1"]) in ops.effects
    again = ops.ask(replace(incoming("alarm/close"), response_topic="ops/1"))
    assert (again.body, again.response_topic) == (first.body, "ops/1")
    assert len(ops.effects) == 1


def test_a_command_that_comes_again_after_it_expired_gets_the_same_reply() -> None:
    """A redelivery: it was carried out in time, and `expired` would say it was not."""
    ops = Desk()
    command = incoming(expires_at="2026-03-01T12:00:30Z")
    first = ops.ask(command)
    again = ops.ask(command, replace(NOW, mono_s=NOW.mono_s + 60, wall_s=NOW.wall_s + 60))
    assert first.body == again.body == {"id": "c-1", "ok": True}


def test_a_conflict_is_remembered_too() -> None:
    ops = Desk()
    ops.ask(incoming(id="c-1"))
    conflict = ops.ask(incoming(id="c-2", actor={"id": "other"}))
    assert conflict.body["ok"] is False
    assert ops.ask(incoming(id="c-2", actor={"id": "other"})).body == conflict.body


def test_an_order_of_a_visit_has_its_effect_once() -> None:
    """As those of alarms have, which it leaves alone."""
    ops = Desk()
    opening = incoming(
        "visit/open", alarm=None, visit="v-1", worker="w-1", expected_end="2026-03-01T13:00:00Z"
    )
    assert ops.ask(opening).body == {"id": "c-1", "ok": True}
    known, alarms = ops.visits, ops.alarms
    assert ops.ask(opening).body == {"id": "c-1", "ok": True}
    assert (ops.visits, ops.alarms) == (known, alarms)
    assert ops.ask(incoming("visit/close", id="c-2", alarm=None, visit="v-1")).body["ok"] is True


def test_what_could_not_be_read_is_not_remembered() -> None:
    """Noise fills neither memory nor disk; a corrected command under the same id is carried out."""
    ops = Desk()
    assert ops.ask(incoming(alarm=3)).body["ok"] is False
    assert not ops.replies
    assert ops.ask(incoming()).body["ok"] is True


def test_replies_are_kept_a_day() -> None:
    ops = Desk()
    ops.ask(incoming())
    ops.ask(incoming(id="c-2"), replace(NOW, mono_s=NOW.mono_s + REMEMBER_S))
    assert set(ops.replies) == {"c-1", "c-2"}
    ops.ask(incoming(id="c-3"), replace(NOW, mono_s=NOW.mono_s + REMEMBER_S + 1))
    assert set(ops.replies) == {"c-2", "c-3"}
    assert ForgetReply(command="c-1") in ops.effects


def test_a_reply_is_forgotten_after_a_day_without_another_command() -> None:
    ops = Desk()
    ops.ask(incoming())
    later = replace(NOW, mono_s=NOW.mono_s + REMEMBER_S)
    assert desk.forget_old(ops.replies, later) == (ops.replies, ())
    assert desk.forget_old(ops.replies, replace(later, mono_s=later.mono_s + 1)) == (
        {},
        (ForgetReply(command="c-1"),),
    )


def test_a_command_about_the_gateway_has_its_effect_once() -> None:
    """The same id again gets the same reply, also where that refused."""
    ops = Desk()
    for _ in range(2):
        assert ops.ask(incoming("test/run")).body["ok"]
    assert ops.kept_up == [UpkeepCommand(id="c-1", actor=Actor(id="desk-3", name="Ada"), order=TestRun())]
    assert set(ops.replies) == {"c-1"}
    ops.refusal = (Code.UNKNOWN, "expected another tag")
    for _ in range(2):
        assert ops.ask(incoming("tag/revoke", id="c-2", tag="t-9")).body["error"] == {
            "code": "unknown",
            "message": "expected another tag",
        }
    assert len(ops.kept_up) == 2


def test_a_reply_whose_age_nobody_knows_is_kept() -> None:
    """After a power cut on a gateway without a clock a redelivered command still has no second effect."""
    ops = Desk()
    ops.ask(incoming())
    ops.ask(incoming(id="c-2"), replace(NOW, boot="b2", mono_s=1.0, source=ClockSource.NONE))
    assert "c-1" in ops.replies


def test_only_so_many_replies_are_kept() -> None:
    """The oldest give way."""
    ops = Desk()
    for n in range(REMEMBER_MAX + 1):
        ops.ask(incoming(id=f"c-{n}"), replace(NOW, mono_s=NOW.mono_s + n, wall_s=NOW.wall_s + n))
    assert len(ops.replies) == REMEMBER_MAX
    assert "c-0" not in ops.replies
    assert ops.effects[-1] == ForgetReply(command="c-0")


def question(**more: Any) -> Incoming:
    return incoming("coverage/get", alarm=None, **{"tag": "t-1", **more})


def test_a_question_is_answered_and_leaves_nothing() -> None:
    """Of now without `at`; under the same id it is answered anew, for it has no effect."""
    ops = Desk()
    ops.record.heard("t-1", NOW.mono_s, faint=False)
    later = replace(NOW, mono_s=NOW.mono_s + 3, wall_s=NOW.wall_s + 3)
    reply = ops.ask(question(), later)
    coverage = reply.body["coverage"]
    assert isinstance(coverage, dict)
    assert (reply.body["ok"], coverage["verdict"], coverage["at"]) == (True, "covered", later)
    assert len(ops.effects) == 1
    assert not ops.replies
    assert reply.keep is Keep.WHEN_WAITING
    earlier = ops.ask(question(at="2026-03-01T13:00:01+01:00"), later).body["coverage"]
    assert isinstance(earlier, dict)
    assert earlier["at"] == replace(NOW, mono_s=NOW.mono_s + 1, wall_s=NOW.wall_s + 1)


@pytest.mark.parametrize(
    ("more", "code", "expected"),
    [
        ({"tag": "a/b"}, Code.INVALID, "tag: expected a tag's id"),
        ({"tag": None}, Code.INVALID, "tag: expected a tag's id"),
        ({"at": "10:14"}, Code.INVALID, "at: expected an RFC 3339 time"),
        ({"at": 3}, Code.INVALID, "at: expected a text"),
        ({"at": "2026-03-01T12:00:02Z"}, Code.INVALID, "at: expected a time that has passed"),
        ({"tag": "other"}, Code.UNKNOWN, "got other"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(more: dict[str, Any], code: Code, expected: str) -> None:
    """A wrong field, a time to come, a tag that never was assigned here."""
    error = Desk().ask(question(**more)).body["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    assert expected in str(error["message"])


def test_a_time_to_come_is_not_judged_by_a_clock_that_is_not_known() -> None:
    """It is answered as of now."""
    clockless = replace(NOW, source=ClockSource.NONE)
    assert Desk().ask(question(at="2027-03-01T12:00:02Z"), clockless).body["ok"] is True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(ALARM),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "id", "actor", "alarm", "outcome", "police", "lesson", "max_s", "expires_at", "tag", "at", "eta_s",
    "text", "cancel", "worker", "cause", "note",
)  # fmt: skip
NAMES = (
    "alarm/received",
    "alarm/accept",
    "alarm/close",
    "listen/start",
    "listen/stop",
    "coverage/get",
    "",
    "alarm/raise",
    "alarm/respond",
    "alarm/note",
    "alarm/reopen",
    "alarm/review",
)


@given(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.dictionaries(st.sampled_from(KEYS), st.just(None)),
    st.booleans(),
)
def test_any_fields_get_one_answer(
    name: str, more: dict[str, Any], without: dict[str, None], retained: bool
) -> None:
    """A command nearly right, each field possibly of any JSON type or absent."""
    body = {key: value for key, value in fields(outcome="real", **{}).items() if key not in without} | more
    ops = Desk()
    asked = Incoming(name=name, payload=json.dumps(body).encode(), retained=retained)
    assert ops.ask(asked).body["ok"] in {True, False}


def test_noise_never_raises_and_leaves_nothing() -> None:
    """Random bytes, and real commands with bytes changed: each gets one reply."""
    source = random.Random(5)
    ops = Desk()
    whole = incoming().payload
    for _ in range(ROUNDS):
        if source.random() < 0.5:
            data = source.randbytes(source.randrange(64))
        else:
            changed = bytearray(whole)
            for _ in range(source.randrange(1, 4)):
                changed[source.randrange(len(changed))] = source.randrange(256)
            data = bytes(changed)
        ops.ask(Incoming(name=source.choice(NAMES), payload=data))
    assert len(ops.replies) <= REMEMBER_MAX
    assert list(ops.alarms) == [ALARM]
