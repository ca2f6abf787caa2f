"""The topics of the contract, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import topic
from gatewayd.core.topic import Kind, Topic, below, is_id, parse

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (topic.STATUS, Topic(kind=Kind.STATUS)),
        (topic.HEALTH, Topic(kind=Kind.HEALTH)),
        (topic.POSITION, Topic(kind=Kind.POSITION)),
        (topic.REPLY, Topic(kind=Kind.REPLY)),
        (topic.ALARMS, Topic(kind=Kind.ALARMS)),
        (topic.AUDIT, Topic(kind=Kind.AUDIT)),
        (topic.tag("t-1"), Topic(kind=Kind.TAG, tag="t-1")),
        (topic.command("alarm/accept"), Topic(kind=Kind.COMMAND, command="alarm/accept")),
        (topic.command("locate"), Topic(kind=Kind.COMMAND, command="locate")),
    ],
)
def test_what_is_built_is_parsed(text: str, expected: Topic) -> None:
    assert parse(text) == expected


@given(IDS, st.integers(0, 999_999_999))
def test_an_alarms_topics_are_built_and_parsed(alarm: str, n: int) -> None:
    """Whatever the alarm's id is."""
    assert parse(topic.alarm_event(alarm)) == Topic(kind=Kind.ALARM_EVENT, alarm=alarm)
    assert parse(topic.alarm_state(alarm)) == Topic(kind=Kind.ALARM_STATE, alarm=alarm)
    assert parse(topic.alarm_audio(alarm, n)) == Topic(kind=Kind.ALARM_AUDIO, alarm=alarm, n=n)
    assert parse(topic.alarm_evidence(alarm)) == Topic(kind=Kind.ALARM_EVIDENCE, alarm=alarm)
    listed = Topic(kind=Kind.ALARM_EVIDENCE_LIST, alarm=alarm, n=n)
    assert parse(topic.alarm_evidence_list(alarm, n)) == listed


@pytest.mark.parametrize(
    "text",
    [
        "", "status/", "/status", "statuses", "alarm", "alarm/a", "alarm/a/events", "alarm/a b/state",
        "alarm//state", "alarm/+/state", "alarm/a/audio", "alarm/a/audio/", "alarm/a/audio/01",
        "alarm/a/audio/-1", "alarm/a/audio/x", "alarm/a/audio/٣", "alarm/a b/audio/1", "cmd", "cmd/",
        "cmd/Alarm", "cmd/a/b/c/d/e", "cmd/alarm/", "tag", "tag/t 1", "visit/v 1", f"alarm/{'a' * 65}/state",
    ],
)  # fmt: skip
def test_no_other_topic_is_parsed(text: str) -> None:
    """One of a later version, or nobody's."""
    assert parse(text) is None


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    parse(text)
    below("gatewayd", text)


@given(IDS)
def test_the_base_comes_off_again(gateway: str) -> None:
    assert below("gatewayd", f"{topic.base('gatewayd', gateway)}/status") == (gateway, "status")
    assert below("care/team-1", f"{topic.base('care/team-1', gateway)}/alarm/a/state") == (
        gateway,
        "alarm/a/state",
    )


@pytest.mark.parametrize("text", ["gatewayd", "gatewayd/gw", "gatewayd/g w/status", "other/gw/status"])
def test_what_is_not_below_the_prefix_is_not_split(text: str) -> None:
    assert below("gatewayd", text) is None


@pytest.mark.parametrize(("text", "expected"), [("gw-1_A", True), ("", False), ("a/b", False), ("é", False)])
def test_an_id_is_letters_digits_and_two_signs(text: str, expected: bool) -> None:
    assert is_id(text) is expected


def test_a_topic_elsewhere_is_whole_and_not_of_the_contract() -> None:
    """What is published for somebody else's eyes lies where they look, not below our base."""
    name = topic.elsewhere("homeassistant/device/gw-1/config")
    assert topic.is_elsewhere(name)
    assert parse(name) is None
    assert topic.whole("gatewayd/gw-1", name) == "homeassistant/device/gw-1/config"
    assert topic.whole("gatewayd/gw-1", topic.STATUS) == "gatewayd/gw-1/status"
