"""Checks what the daemon publishes against `docs/schema`: tests of any layer hold it to the contract."""

import json
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from gatewayd.core import topic as topics
from gatewayd.core.topic import Kind

DOCS = Path(__file__).parent.parent / "docs"
SCHEMAS = DOCS / "schema"

_SCHEMA = {
    Kind.STATUS: "status",
    Kind.HEALTH: "health",
    Kind.POSITION: "position",
    Kind.REPLY: "reply",
    Kind.AUDIT: "audit",
    Kind.TEST: "test",
    Kind.TAG: "tag",
    Kind.ALARMS: "alarms",
    Kind.VISIT: "visit",
    Kind.ALARM_EVENT: "alarm-event",
    Kind.ALARM_STATE: "alarm-state",
    Kind.ALARM_EVIDENCE: "evidence",
    Kind.ALARM_EVIDENCE_LIST: "evidence-list",
}
# What a broker does not retain. All others stay with it for whoever asks: no address may be in them.
_PASSING = {
    Kind.POSITION,
    Kind.REPLY,
    Kind.AUDIT,
    Kind.TEST,
    Kind.ALARM_EVENT,
    Kind.ALARM_AUDIO,
    Kind.COMMAND,
}
# The parts of an address, as `visit/open` has them.
_ADDRESS = {"address", "street", "number", "addition", "postcode", "city"}
_COMMAND = {
    "alarm/received": "alarm",
    "alarm/accept": "alarm",
    "alarm/decline": "alarm",
    "alarm/respond": "respond",
    "alarm/on_scene": "alarm",
    "alarm/escalate": "alarm",
    "alarm/note": "note",
    "alarm/reopen": "alarm",
    "alarm/review": "alarm",
    "alarm/raise": "raise",
    "alarm/close": "close",
    "listen/start": "listen_start",
    "listen/stop": "listen_stop",
    "test/run": "test_run",
    "test/press_window": "press_window",
    "visit/open": "visit_open",
    "visit/extend": "visit_extend",
    "visit/close": "visit",
    "locate": "locate",
    "tag/assign": "tag_assign",
    "tag/revoke": "tag",
    "coverage/get": "coverage_get",
}


def validate(
    topic: str, payload: bytes, properties: Iterable[tuple[str, str]] = (), *, prefix: str = "gatewayd"
) -> dict[str, Any] | None:
    """Raise unless the message is one of the contract; return its JSON, None where it carries none.

    `topic` may be whole or begin below the base; `properties` are the MQTT 5 user properties.
    """
    below = topics.below(prefix, topic)
    parsed = topics.parse(topic if below is None else below[1])
    assert parsed is not None, f"the contract has no topic {topic}"
    if parsed.kind is Kind.ALARM_AUDIO:
        _validate_audio(payload, dict(properties))
        return None
    if parsed.kind in {Kind.ALARM_STATE, Kind.TAG, Kind.ALARMS} and not payload:
        return None  # withdrawn
    if parsed.kind is Kind.COMMAND:
        reference = f"#/$defs/command/$defs/{_COMMAND[str(parsed.command)]}"
    else:
        reference = f"#/$defs/{_SCHEMA[parsed.kind]}"
    body = json.loads(payload)
    check(reference, body)
    if parsed.kind is Kind.ALARM_EVIDENCE:
        check("#/$defs/evidence/$defs/manifest", json.loads(body["signed"]))
    if parsed.alarm is not None:
        assert body["alarm"] == parsed.alarm, f"{topic} speaks of alarm {body['alarm']}"
    assert isinstance(body, dict)
    if parsed.kind not in _PASSING:
        assert not (told := _keys(body) & _ADDRESS), f"{topic} is retained, and tells {', '.join(told)}"
    return body


def _keys(node: object) -> set[str]:
    """The names of all fields, at any depth."""
    if isinstance(node, list):
        return {key for item in node for key in _keys(item)}
    if not isinstance(node, dict):
        return set()
    return set(node) | {key for item in node.values() for key in _keys(item)}


def check(reference: str, value: object) -> None:
    """Raise unless the value is as the schema at this place of `bundle` says."""
    Draft202012Validator({**bundle(), "$ref": reference}).validate(value)


@cache
def bundle() -> dict[str, Any]:
    """All schemas in one document, below `$defs`: validators of every age resolve its references."""
    return {"$defs": {path.stem: _moved(path.stem, json.loads(path.read_text())) for path in schemas()}}


def schemas() -> list[Path]:
    return sorted(SCHEMAS.glob("*.json"))


def _moved(name: str, node: Any) -> Any:
    if isinstance(node, list):
        return [_moved(name, item) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(name, value) for key, value in node.items() if key != "$schema"}
    if isinstance(reference := node.get("$ref"), str):
        file, _, inside = reference.partition("#")
        moved["$ref"] = f"#/$defs/{file.removesuffix('.json') or name}{inside}"
    return moved


def _validate_audio(payload: bytes, properties: dict[str, str]) -> None:
    assert payload.startswith(b"OggS"), f"expected whole Ogg pages, got {payload[:4]!r}"
    check("#/$defs/envelope/$defs/time", properties["at"])
    assert properties["clock"] in {"ntp", "gnss", "rtc", "none"}
    assert float(properties["late-s"]) >= 0
    assert int(properties["duration-ms"]) >= 0
    assert properties["sha256"] == sha256(payload).hexdigest()
    assert properties["live"] in {"true", "false"}
