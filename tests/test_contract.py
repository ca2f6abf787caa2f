"""The contract as it is written down: the schemas say enough, and the overview lists everything."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract import DOCS, SCHEMAS, bundle, check, schemas, validate
from jsonschema import Draft202012Validator, ValidationError

from gatewayd.core import command, topic, visit
from gatewayd.core.alarm import Handling, Trigger
from gatewayd.core.alarm.model import AudioState, Cause, Part
from gatewayd.core.coverage import Verdict
from gatewayd.core.fields import Code
from gatewayd.core.handling import Outcome
from gatewayd.core.model import Auth, ClockSource, Component, FixMode, Method, Mode, State, Subject, TagEvent
from gatewayd.core.supervision import TagState
from gatewayd.core.topic import Kind
from gatewayd.core.visit import Doubt, NoCheckOut, VisitState
from gatewayd.core.visiting import Risk

ALARM = "019ca945-0a00-7000-8000-000000000001"
ENVELOPE: dict[str, Any] = {
    "v": 1,
    "id": "019ca945-0a00-7000-8000-000000000002",
    "gateway": "gw-1",
    "boot": "5d2b6f0e",
    "run": "3f6f5a0e-7c07-4b35-9d2b-2f8a6a0b4d11",
    "seq": 1,
    "at": "2026-03-01T12:00:00.000Z",
    "clock": {"source": "ntp", "uncertainty_ms": 5},
    "late_s": 0.01,
}
EVENT: dict[str, Any] = {
    **ENVELOPE,
    "alarm": ALARM,
    "type": "raised",
    "mode": "actual",
    "cause": "panic",
    "severity": "critical",
    "presses": 1,
    "tag": {"id": "t-1", "auth": "none", "event": "press"},
    "recent": [],
    "hops_ms": {"heard": 0, "decided": 0.4},
}


VISIT: dict[str, Any] = {
    **ENVELOPE,
    "visit": "v-1",
    "state": "open",
    "worker": "w-1",
    "expected_end_at": "2026-03-01T13:00:00.000Z",
}


def published(topic_: str, body: dict[str, Any]) -> dict[str, Any] | None:
    return validate(topic_, json.dumps(body).encode())


# --- the schemas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", schemas(), ids=lambda path: path.name)
def test_a_schema_is_one(path: Path) -> None:
    """Of JSON Schema 2020-12, with what it refers to in place."""
    schema = json.loads(path.read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    for reference in re.findall(r'"\$ref": "([^"]*)"', path.read_text()):
        found(path, reference)


def found(path: Path, reference: str) -> Any:
    """What a reference leads to. Raises where it leads to nothing."""
    file, _, inside = reference.partition("#")
    node = json.loads((path.parent / file if file else path).read_text())
    for key in inside.split("/")[1:]:
        node = node[key]
    return node


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (("envelope", "header", "properties", "clock", "properties", "source"), ClockSource),
        (("envelope", "mode"), Mode),
        (("envelope", "outcome"), Outcome),
        (("envelope", "tag", "properties", "auth"), Auth),
        (("envelope", "tag", "properties", "event"), set(TagEvent) - {TagEvent.NONE}),
        (("envelope", "position", "properties", "mode"), FixMode),
        (("envelope", "position", "properties", "subject"), Subject),
        (("envelope", "position", "properties", "method"), Method),
        (("health", "state"), State),
        (("reply", "coverage", "properties", "verdict"), Verdict),
    ],
)
def test_the_enums_are_those_of_the_code(place: tuple[str, ...], values: Any) -> None:
    """What the daemon can say, the schema allows, and nothing else."""
    node = bundle()["$defs"][place[0]]["$defs"]
    for key in place[1:]:
        node = node[key]
    assert sorted(node["enum"]) == sorted(values)


def test_the_enums_of_the_alarm_are_those_of_the_code() -> None:
    """The contract names causes that no version of the daemon has yet."""
    schema = bundle()["$defs"]
    state = schema["alarm-state"]["properties"]
    assert state["handling"]["enum"] == list(Handling)
    assert state["audio"]["properties"]["state"]["enum"] == list(AudioState)
    assert set(Cause) <= set(schema["envelope"]["$defs"]["cause"]["enum"])
    assert {trigger.type for trigger in Trigger} == set(schema["envelope"]["$defs"]["event_type"]["enum"])
    assert state["responders"]["items"]["properties"]["state"]["enum"] == list(Part)
    assert schema["reply"]["properties"]["error"]["properties"]["code"]["enum"] == list(Code)
    assert schema["health"]["properties"]["components"]["required"] == list(Component)
    assert schema["tag"]["properties"]["state"]["enum"] == list(TagState)
    told = schema["visit"]["properties"]
    assert told["state"]["enum"] == list(VisitState)
    assert told["event"]["enum"] == list(visit.Trigger)
    assert told["warnings"]["items"]["enum"] == list(Doubt)
    assert told["risk"]["enum"] == list(Risk)
    assert told["reason"]["enum"] == list(NoCheckOut)


# --- what they say ------------------------------------------------------------------------------------------


ON_VISIT = {"id": "v-1", "worker": "nurse-1", "expected_end_at": "2026-03-01T12:30:00.000Z"}


def test_a_message_of_the_contract_passes() -> None:
    """On its topic, whole or below the base; with fields of a later version."""
    assert published(f"alarm/{ALARM}/event", EVENT) == EVENT
    assert published(f"gatewayd/gw-1/alarm/{ALARM}/event", {**EVENT, "weather": {"id": 3}, "new": None})


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2}, {"id": "x"}, {"id": "019ca945-0a00-4000-8000-000000000002"}, {"gateway": "a/b"},
        {"boot": 1}, {"run": "run-1"}, {"seq": 0}, {"seq": "1"}, {"at": "2026-03-01T12:00:00Z"},
        {"at": 1772366400},
        {"at": "2026-13-01T12:00:00.000Z"}, {"clock": {"source": "sun", "uncertainty_ms": 5}},
        {"clock": {"source": "ntp"}}, {"late_s": -1}, {"late_s": "0"}, {"alarm": "a b"}, {"type": "panicked"},
        {"mode": "real"}, {"cause": "fear"}, {"severity": "low"}, {"presses": 0}, {"tag": {"id": "t-1"}},
        {"tag": {"id": "t-1", "auth": "maybe", "event": "press"}}, {"recent": [1]}, {"hops_ms": {}},
        {"tag": {"id": "t-1", "auth": "none", "event": "none"}}, {"press_key": 7}, {"actor": {"name": "Ada"}},
        {"position": {}}, {"position": {"trusted": "yes", "subject": "hub", "method": "gnss"}},
        {"position": {"trusted": True, "subject": "worker", "method": "gnss"}}, {"cause": "wired"},
        {"position": {"trusted": True, "subject": "hub", "method": "gnss", "lat": 1}},
        {"type": "closed"}, {"type": "closed", "outcome": "real"}, {"type": "accepted"}, {"type": "position"},
        {"type": "audio_unavailable"}, {"type": "corroborated"}, {"cause": "overdue"},
        {"type": "received", "actor": {"id": "ada"}, "visit": ON_VISIT}, {"visit": {**ON_VISIT, "id": ""}},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_field_does_not(wrong: dict[str, Any]) -> None:
    """A wrong type, an unknown word, something that an event of this type must have."""
    with pytest.raises(ValidationError):
        published(f"alarm/{ALARM}/event", {**EVENT, **wrong})


@pytest.mark.parametrize("field", [*ENVELOPE, "alarm", "type", "mode", "cause", "tag", "hops_ms"])
def test_nor_does_a_missing_one(field: str) -> None:
    with pytest.raises(ValidationError):
        published(f"alarm/{ALARM}/event", {key: value for key, value in EVENT.items() if key != field})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("status", {**ENVELOPE, "state": "online", "session": 1, "version": "0"}),  # no since
        ("status", {**ENVELOPE, "state": "offline", "session": 1, "version": "0"}),  # a will knows no time
        ("status", {**ENVELOPE, "state": "away", "session": 1, "version": "0", "since": ENVELOPE["at"]}),
        ("reply", {**ENVELOPE, "ok": True, "error": {"code": "invalid", "message": "m"}}),
        ("reply", {**ENVELOPE, "ok": False}),
        ("reply", {**ENVELOPE, "ok": False, "error": {"code": "bad", "message": "m"}}),
        ("reply", {**ENVELOPE, "id": None, "ok": True}),
        ("position", ENVELOPE),
        ("health", {**ENVELOPE, "overall": "ok", "components": {}}),
        (f"alarm/{ALARM}/state", EVENT),
        ("cmd/alarm/accept", {"id": "c", "actor": {"id": "a"}}),
        ("cmd/alarm/close", {"id": "c", "actor": {"id": "a"}, "alarm": ALARM}),
        ("cmd/listen/start", {"id": "c", "actor": {"id": "a"}, "alarm": ALARM, "max_s": 0}),
        ("cmd/listen/stop", {"id": "c"}),
        ("cmd/coverage/get", {"id": "c", "actor": {"id": "a"}}),
        ("cmd/test/run", {"id": "c"}),
        ("cmd/test/press_window", {"id": "c", "actor": {"id": "a"}, "tags": [], "for_s": 60}),
        ("cmd/test/press_window", {"id": "c", "actor": {"id": "a"}, "tags": ["t-1"]}),
        ("test", ENVELOPE),
        ("tag/t-1", {**ENVELOPE, "state": "gone", "heard_since_start": True, "started_at": ENVELOPE["at"]}),
        ("tag/t-1", {**ENVELOPE, "state": "seen"}),
        ("visit/v-1", {**VISIT, "state": "late"}),
        ("visit/v-1", {**VISIT, "address": {"street": "Dam"}}),
        ("visit/v-1", {**VISIT, "event": "overdue"}),
        ("visit/v-1", {**VISIT, "event": "closed"}),
        ("visit/v-1", {**VISIT, "event": "check_out_refused"}),
        ("cmd/visit/open", {"id": "c", "actor": {"id": "a"}, "visit": "v-1", "worker": "w-1"}),
        ("cmd/visit/close", {"id": "c", "actor": {"id": "a"}}),
    ],
)
def test_other_wrong_messages_do_not(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        published(name, wrong)


def test_other_right_ones_do() -> None:
    where = {"trusted": True, "subject": "hub", "method": "hub_fixed", "lat": 52, "lon": 5.1}
    assert published("position", {**ENVELOPE, **where})
    assert published("reply", {**ENVELOPE, "id": "c-1", "ok": True})
    assert published(
        "reply", {**ENVELOPE, "id": None, "ok": False, "error": {"code": "invalid", "message": "m"}}
    )
    assert published("cmd/listen/stop", {"id": "c", "actor": {"id": "a"}})
    assert validate(f"alarm/{ALARM}/state", b"") is None
    assert validate("tag/t-1", b"") is None
    assert published("visit/v-1", VISIT)


def test_an_alarm_is_told_on_its_own_topic() -> None:
    with pytest.raises(AssertionError, match="speaks of alarm"):
        published("alarm/other/event", EVENT)


def test_a_retained_topic_tells_no_address() -> None:
    """However deep it lies; an event, which passes, may."""
    address = {"street": "Kerkstraat", "number": "12"}
    visit = {"id": "v-1", "worker": "w-1", "expected_end_at": ENVELOPE["at"], "address": address}
    assert published(f"alarm/{ALARM}/event", {**EVENT, "visit": visit})
    tag = {**ENVELOPE, "state": "seen", "heard_since_start": True, "started_at": ENVELOPE["at"]}
    assert published("tag/t-1", tag)
    for more in ({"visit": visit}, {"visits": [{"street": "Kerkstraat"}]}):
        with pytest.raises(AssertionError, match="is retained, and tells"):
            published("tag/t-1", {**tag, **more})


@pytest.mark.parametrize("name", ["gatewayd/gw-1/nothing", "nothing", "other/gw-1/status"])
def test_a_topic_that_the_contract_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(AssertionError, match="no topic"):
        published(name, ENVELOPE)


@pytest.mark.parametrize(
    ("pages", "wrong"),
    [
        (b"RIFF", {}), (b"OggS", {"sha256": "0"}), (b"OggS", {"live": "yes"}), (b"OggS", {"at": "now"}),
        (b"OggS", {"duration-ms": "-1"}), (b"OggS", {"clock": "sundial"}), (b"OggS", {"late-s": "-1"}),
    ],
)  # fmt: skip
def test_a_chunk_that_is_not_one_is_refused(pages: bytes, wrong: dict[str, str]) -> None:
    digest = sha256(pages).hexdigest()
    properties = {
        "at": str(ENVELOPE["at"]),
        "clock": "ntp",
        "late-s": "0.1",
        "duration-ms": "500",
        "sha256": digest,
        "live": "true",
    }
    validate(f"alarm/{ALARM}/audio/0", b"OggS", {**properties, "sha256": sha256(b"OggS").hexdigest()}.items())
    with pytest.raises((AssertionError, ValidationError)):
        validate(f"alarm/{ALARM}/audio/0", pages, {**properties, **wrong}.items())


# --- the overview -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overview() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
    return document


def addresses(overview: dict[str, Any]) -> set[str]:
    base = topic.base("{prefix}", "{gateway}") + "/"
    found_ = {str(channel["address"]) for channel in overview["channels"].values()}
    assert all(address.startswith(base) for address in found_)
    return {address.removeprefix(base) for address in found_}


def test_the_overview_lists_every_topic(overview: dict[str, Any]) -> None:
    """Every kind the code knows, and every command it obeys."""
    listed = addresses(overview)
    filled = {
        address.replace("{alarm}", ALARM)
        .replace("{n}", "0")
        .replace("{tag}", "t-1")
        .replace("{visit}", "v-1")
        for address in listed
    }
    parsed = [topic.parse(address) for address in filled]
    assert {each.kind for each in parsed if each is not None} == set(Kind)
    assert None not in parsed
    commands = {each.command for each in parsed if each is not None and each.command is not None}
    assert commands == set(command.NAMES)


def test_the_overview_is_of_asyncapi_3(overview: dict[str, Any]) -> None:
    """Each channel has messages and its parameters, each operation a channel."""
    assert overview["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= overview["info"].keys()
    for channel in overview["channels"].values():
        assert channel["messages"]
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))
    used = {operation["channel"]["$ref"].split("/")[-1] for operation in overview["operations"].values()}
    assert used == set(overview["channels"])
    for operation in overview["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert ("reply" in operation) == (operation["action"] == "receive")


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [reference for item in node for reference in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + [reference for item in node.values() for reference in references(item)]


def test_what_the_overview_refers_to_is_there(overview: dict[str, Any]) -> None:
    """Within it and in the schemas, each of which it uses."""
    used = set()
    for reference in references(overview):
        file, _, inside = reference.partition("#")
        if file:
            found(DOCS / "asyncapi.yaml", reference)
            used.add((DOCS / file).resolve())
        else:
            node: Any = overview
            for key in inside.split("/")[1:]:
                node = node[key]
    assert used == {path.resolve() for path in schemas()} - {(SCHEMAS / "envelope.json").resolve()}


def test_each_message_is_checked_against_the_schema_the_overview_names() -> None:
    """`check` takes what stands in the bundle."""
    check("#/$defs/envelope", ENVELOPE)
