"""What Home Assistant is told of the gateway and its tags, and how a position is told to OwnTracks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gatewayd.core import discovery, owntracks, payload
from gatewayd.core.alarm.model import Alarm, Cause, Part, Responder
from gatewayd.core.alarm.table import Handling
from gatewayd.core.model import ClockSource, ClockState, Draft, Instant, Keep, Mode, Subject, Tag

NOW = Instant(boot="b", mono_s=100.0, wall_s=1_700_000_100.0, source=ClockSource.NTP, uncertainty_ms=5)
CLOCK = ClockState(boot="b", offset_s=1_700_000_000.0, source=ClockSource.NTP, uncertainty_ms=5)
BASE = "gatewayd/gw-1"
WHERE: Mapping[str, Any] = {
    "lat": 52.1,
    "lon": 5.1,
    "alt_m": 12.6,
    "speed_mps": 10.0,
    "course_deg": 89.6,
    "eph_m": 4.4,
    "fix_at": replace(NOW, wall_s=NOW.wall_s - 2),
    "trusted": True,
    "method": "gnss",
}

# https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload and the page of each platform
TEXT = {"type": "string", "minLength": 1}


def texts(*names: str) -> dict[str, Any]:
    """An object of these texts and nothing else, the first of which it needs."""
    return {"required": [names[0]], "additionalProperties": False, "properties": dict.fromkeys(names, TEXT)}


DISCOVERY = {
    "type": "object",
    "required": ["device", "origin", "components"],
    "additionalProperties": False,
    "properties": {
        "device": {
            "required": ["identifiers", "name"],
            "additionalProperties": False,
            "properties": {
                "identifiers": {"type": "array", "items": TEXT, "minItems": 1},
                **dict.fromkeys(("name", "manufacturer", "model", "sw_version", "via_device"), TEXT),
            },
        },
        "origin": texts("name", "sw_version"),
        "components": {"minProperties": 1, "additionalProperties": {"$ref": "#/$defs/component"}},
    },
    "$defs": {
        "component": {
            "required": ["platform", "unique_id", "name", "availability"],
            "properties": {
                "platform": {"enum": ["binary_sensor", "sensor", "device_tracker", "button"]},
                "availability": {
                    "type": "array",
                    "items": texts("topic", "value_template"),
                },
                "availability_mode": {"enum": ["all", "any", "latest"]},
                "entity_category": {"enum": ["config", "diagnostic"]},
                "qos": {"enum": [0, 1, 2]},
            },
            "oneOf": [
                {"required": ["state_topic"], "properties": {"platform": {"pattern": "sensor$"}}},
                {"required": ["json_attributes_topic"], "properties": {"platform": {"pattern": "tracker$"}}},
                {"required": ["command_topic"], "properties": {"platform": {"const": "button"}}},
            ],
        }
    },
}  # fmt: skip


def devices(*tags: str) -> Mapping[str, Draft]:
    return discovery.devices(
        base=BASE,
        discovery_prefix="homeassistant",
        subject=Subject.VEHICLE,
        tags=[Tag(name=name, format="bthome") for name in tags],
        version="1",
        now=NOW,
    )


def rendered(draft: Draft) -> dict[str, Any]:
    message = payload.Stamper("run").stamp(draft, bytes(10))
    text = payload.render(message, gateway="gw-1", clock=CLOCK, published=NOW).payload
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


ADA = Responder(actor={"id": "Ada"}, part=Part.ACCEPTED, since=NOW)


def alarm(name: str, **fields: Any) -> Alarm:
    known: dict[str, Any] = {
        "mode": Mode.ACTUAL,
        "cause": Cause.PANIC,
        "handling": Handling.RAISED,
        "tag": {"id": "nurse-1"},
        "press_key": None,
        "presses": 1,
        "call_id": "c",
        **dict.fromkeys(("opened", "pressed", "spoken", "called", "updated", "stated"), NOW),
    }
    return Alarm(id=name, **{**known, **fields})


def test_the_gateway_and_each_tag_are_devices_as_documented() -> None:
    """Retained, one message each, without our envelope, of the schema Home Assistant documents."""
    found = devices("nurse-1", "nurse-2")
    assert [*found] == [
        "/homeassistant/device/gw-1/config",
        "/homeassistant/device/gw-1/nurse-1/config",
        "/homeassistant/device/gw-1/nurse-2/config",
    ]
    for draft in found.values():
        assert draft.retain
        assert draft.keep is Keep.NEVER
        Draft202012Validator(DISCOVERY).validate(rendered(draft))
    assert rendered(found["/homeassistant/device/gw-1/nurse-1/config"])["device"]["via_device"] == BASE


def test_no_two_entities_have_one_unique_id() -> None:
    """Not even where a tag is called as what the gateway itself shows."""
    ids = [
        component["unique_id"]
        for draft in devices("nurse-1", "alarms", "gw-1").values()
        for component in rendered(draft)["components"].values()
    ]
    assert len(ids) == len(set(ids))


def test_every_topic_it_reads_or_writes_is_below_our_base() -> None:
    """What it shows comes from the contract's topics; what it commands is a command of the contract."""
    told = json.dumps([rendered(draft) for draft in devices("nurse-1").values()])
    topics = set(re.findall(r'_topic": "([^"]+)"', told)) | set(re.findall(r'"topic": "([^"]+)"', told))
    read = ("status", "health", "position", "alarms", "tag/nurse-1")
    given = ("cmd/alarm/accept", "cmd/test/run", "cmd/test/press_window")
    assert topics == {f"{BASE}/{name}" for name in (*read, *given)}


def test_a_tag_has_no_position() -> None:
    """Nobody knows where a worker is; the vehicle's position is the vehicle's."""
    found = devices("nurse-1")
    platforms = [each["platform"] for each in rendered([*found.values()][1])["components"].values()]
    assert "device_tracker" not in platforms
    gateway = rendered(found["/homeassistant/device/gw-1/config"])
    assert gateway["components"]["position"]["name"] == "Position of the vehicle"


def test_open_alarms_are_told_oldest_first_and_closed_ones_not() -> None:
    known = {
        "a-2": alarm("a-2", responders=(ADA,), handling=Handling.ACCEPTED),
        "a-1": alarm("a-1", tag=None, cause=Cause.WIRED, mode=Mode.TEST),
        "a-0": alarm("a-0", handling=Handling.CLOSED),
    }
    told = rendered(discovery.open_alarms(known, NOW))
    assert [(each["alarm"], each["tag"], each["mode"]) for each in told["open"]] == [
        ("a-1", "wired", "test"),
        ("a-2", "nurse-1", "actual"),
    ]
    assert [each.get("owner") for each in told["open"]] == [None, {"id": "Ada"}]


def test_what_is_withdrawn_is_an_empty_retained_message() -> None:
    draft = discovery.withdrawn("/homeassistant/device/gw-1/config", NOW)
    assert draft.retain
    assert draft.clears


# --- OwnTracks ----------------------------------------------------------------------------------------------


def test_a_position_becomes_an_owntracks_location() -> None:
    """In its units: km/h, whole metres and degrees, seconds since 1970; no battery, for it has none."""
    draft = owntracks.location(WHERE, "owntracks/fleet", "gw-1", NOW)
    assert draft is not None
    assert draft.topic == "/owntracks/fleet/gw-1"
    assert not draft.retain
    assert rendered(draft) == {
        "_type": "location",
        "topic": "owntracks/fleet/gw-1",
        "tid": "-1",
        "tst": 1_700_000_098,
        "created_at": 1_700_000_100,
        "lat": 52.1,
        "lon": 5.1,
        "acc": 4,
        "alt": 13,
        "vel": 36,
        "cog": 90,
    }


def test_what_is_not_known_is_absent() -> None:
    """A hub's position has no time and no accuracy of its own; it is true now."""
    hub: Mapping[str, Any] = {"lat": 52.1, "lon": 5.1, "trusted": True, "method": "hub_fixed"}
    draft = owntracks.location(hub, "o", "gw-1", NOW)
    assert draft is not None
    assert rendered(draft)["tst"] == 1_700_000_100
    assert not {"acc", "alt", "vel", "cog", "batt"} & rendered(draft).keys()


@pytest.mark.parametrize("more", [{"method": "last_known"}, {"simulated": True}])
def test_what_owntracks_could_not_mark_as_doubtful_is_not_told(more: Mapping[str, Any]) -> None:
    assert owntracks.location({**WHERE, **more}, "o", "gw-1", NOW) is None


def test_nothing_is_told_while_nobody_knows_the_time() -> None:
    """It would be put on the map at a wrong hour."""
    assert owntracks.location(WHERE, "o", "gw-1", replace(NOW, source=ClockSource.NONE)) is None
