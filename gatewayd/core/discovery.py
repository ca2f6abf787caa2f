"""What Home Assistant is told, so that it shows the gateway and each tag as a device by itself.

Its MQTT discovery, one retained message a device (Home Assistant 2024.11 and newer):
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. What a device shows comes from the
topics that are there anyway, and from `alarms`, which names all open alarms in one retained message: of
several states that are each retained under a topic of their own, none tells whether another is open.

Rules: a tag has no position here, for nobody knows it; the gateway's is called the vehicle's or the hub's.
Only an actual alarm turns an alarm on. A button accepts the alarm it shows, and is there only while one is;
what it sends expires within a minute, for a person who pressed it and saw nothing happen has gone on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gatewayd.core import topic
from gatewayd.core.alarm import Alarms
from gatewayd.core.model import Body, Draft, Instant, Json, Keep, MessageClass, State, Subject, Tag
from gatewayd.core.supervision import TagState

PRESS_WINDOW_S: Final = 120  # to find the tag, press it and see it told; a shift's start has no more time
# Home Assistant does not tell who pressed a button in it.
_ACTOR: Final = "{'id': 'home-assistant', 'name': 'Home Assistant'}"
_EXPIRES: Final = "(utcnow() + timedelta(seconds=60)).isoformat()"
_ID: Final = "entity_id[-64:] ~ '-' ~ utcnow().timestamp()"  # within the 128 characters of a command's id


def devices(
    *, base: str, discovery_prefix: str, subject: Subject, tags: Iterable[Tag], version: str, now: Instant
) -> Mapping[str, Draft]:
    """Return the message of each device, by its topic. `base`: of the gateway's topics."""
    gateway = base.rpartition("/")[2]
    origin: Body = {"name": "gatewayd", "sw_version": version}
    found: dict[str, Body] = {
        f"{discovery_prefix}/device/{gateway}/config": {
            "device": {
                "identifiers": [base],
                "name": gateway,
                "manufacturer": "gatewayd",
                "model": f"{subject.value} gateway",
                "sw_version": version,
            },
            "origin": origin,
            "components": _gateway(base, subject),
        }
    }
    for tag in tags:
        found[f"{discovery_prefix}/device/{gateway}/{tag.name}/config"] = {
            "device": {
                "identifiers": [f"{base}/{tag.name}"],
                "name": tag.name,
                "manufacturer": "gatewayd",
                "model": f"{tag.format} tag",
                "via_device": base,
            },
            "origin": origin,
            "components": _tag(base, tag.name),
        }
    return {
        topic.elsewhere(whole): _retained(topic.elsewhere(whole), body, now) for whole, body in found.items()
    }


def open_alarms(alarms: Alarms, now: Instant) -> Draft:
    """Return the message on `alarms`: those that are open, oldest first."""
    found = sorted((alarm for alarm in alarms.values() if alarm.open), key=lambda alarm: alarm.id)
    fields: list[Json] = []
    for alarm in found:
        owner: Body = {} if alarm.owner is None else {"owner": alarm.owner}
        fields.append(
            {
                "alarm": alarm.id,
                "tag": alarm.source,
                "mode": alarm.mode.value,
                "cause": alarm.cause.value,
                "handling": alarm.handling.value,
                **owner,
            }
        )
    return _retained(topic.ALARMS, {"open": fields}, now)


def withdrawn(name: str, now: Instant) -> Draft:
    """Return the message that withdraws a device, or `alarms`."""
    return _retained(name, {}, now, clears=True)


def _retained(name: str, body: Body, now: Instant, *, clears: bool = False) -> Draft:
    return Draft(
        topic=name,
        message_class=MessageClass.STATE,
        keep=Keep.NEVER,
        at=now,
        body=body,
        retain=True,
        replaces=True,
        clears=clears,
    )


def _gateway(base: str, subject: Subject) -> dict[str, Json]:
    return {
        "alarm": _alarm(base, f"{base}/alarm", ""),
        "accept": _accept(base, f"{base}/accept", ""),
        "health": {
            **_entity(base, "sensor", f"{base}/health", "Health"),
            "device_class": "enum",
            "options": [State.OK.value, State.DEGRADED.value, State.FAILED.value],
            "entity_category": "diagnostic",
            "state_topic": f"{base}/{topic.HEALTH}",
            "value_template": "{{ value_json.overall }}",
            "json_attributes_topic": f"{base}/{topic.HEALTH}",
            "json_attributes_template": "{{ value_json.components | tojson }}",
        },
        "position": {
            **_entity(base, "device_tracker", f"{base}/position", f"Position of the {subject.value}"),
            "source_type": "gps",
            "json_attributes_topic": f"{base}/{topic.POSITION}",
            "json_attributes_template": (
                "{{ dict({'latitude': value_json.lat, 'longitude': value_json.lon,"
                " 'trusted': value_json.trusted, 'method': value_json.method},"
                " **({'gps_accuracy': value_json.eph_m} if value_json.eph_m is defined else {})) | tojson }}"
            ),
        },
        "test": _button(base, f"{base}/test", "Test", "test/run", "") | {"entity_category": "diagnostic"},
    }


def _tag(base: str, name: str) -> dict[str, Json]:
    unique, told = f"{base}/{name}", f"{base}/{topic.tag(name)}"
    window = f", 'tags': ['{name}'], 'for_s': {PRESS_WINDOW_S}"
    return {
        "alarm": _alarm(base, f"{unique}/alarm", f" | selectattr('tag', 'eq', '{name}')"),
        "accept": _accept(base, f"{unique}/accept", f" | selectattr('tag', 'eq', '{name}')"),
        "state": {
            **_entity(base, "sensor", f"{unique}/state", "Tag"),
            "device_class": "enum",
            "options": [state.value for state in TagState],
            "state_topic": told,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": told,
        },
        "battery": {
            **_entity(base, "sensor", f"{unique}/battery", "Battery"),
            "device_class": "battery",
            "unit_of_measurement": "%",
            "entity_category": "diagnostic",
            "state_topic": told,
            "value_template": "{{ value_json.battery_pct | default('None') }}",
        },
        "test": _button(base, f"{unique}/test", "Test a press", "test/press_window", window)
        | {"entity_category": "diagnostic"},
    }


def _entity(base: str, platform: str, unique: str, name: str) -> dict[str, Json]:
    return {
        "platform": platform,
        "unique_id": unique,
        "name": name,
        "qos": 1,
        "availability": [_online(base)],
    }


def _online(base: str) -> Body:
    return {"topic": f"{base}/{topic.STATUS}", "value_template": "{{ value_json.state }}"}


def _alarm(base: str, unique: str, of: str) -> Json:
    """Whether an actual alarm is open; `of`: a filter for whose."""
    return {
        **_entity(base, "binary_sensor", unique, "Alarm"),
        "device_class": "safety",
        "state_topic": f"{base}/{topic.ALARMS}",
        "value_template": (
            f"{{{{ 'ON' if value_json.open{of} | selectattr('mode', 'eq', 'actual') | list else 'OFF' }}}}"
        ),
        "json_attributes_topic": f"{base}/{topic.ALARMS}",
        "json_attributes_template": f"{{{{ {{'open': value_json.open{of} | list}} | tojson }}}}",
    }


def _accept(base: str, unique: str, of: str) -> Json:
    """A button that takes the oldest alarm that nobody has taken, one that is meant before a test."""
    free = f"value_json.open{of} | rejectattr('owner', 'defined')"
    meant_first = f"{free} | sort(attribute='mode')"  # actual, exercise, test; the oldest of each stays first
    shown: Body = {
        "topic": f"{base}/{topic.ALARMS}",
        "value_template": f"{{{{ 'online' if {free} | list else 'offline' }}}}",
    }
    return {
        **_button(base, unique, "Accept", "alarm/accept", ", 'alarm': this.attributes.alarm"),
        "availability": [_online(base), shown],
        "availability_mode": "all",
        "json_attributes_topic": f"{base}/{topic.ALARMS}",
        "json_attributes_template": (
            f"{{{{ {{'alarm': {meant_first} | map(attribute='alarm') | first | default(none)}} | tojson }}}}"
        ),
    }


def _button(base: str, unique: str, name: str, command: str, fields: str) -> dict[str, Json]:
    """A button that gives a command; `fields`: its own, as the inside of a Jinja mapping."""
    return {
        **_entity(base, "button", unique, name),
        "command_topic": f"{base}/{topic.command(command)}",
        "command_template": (
            f"{{{{ {{'id': {_ID}, 'actor': {_ACTOR}, 'expires_at': {_EXPIRES}{fields}}} | tojson }}}}"
        ),
    }
