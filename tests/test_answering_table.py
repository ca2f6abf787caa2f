"""What `gatewayd ops` makes of what is typed, before anybody is asked."""

from __future__ import annotations

import json
import re
from datetime import datetime

import contract
import pytest

from gatewayd.cli import main
from gatewayd.core import command
from gatewayd.ops.picture import Picture, lines
from gatewayd.ops.table import ADDRESS, COMMANDS, fields

# As the contract names them.
CONTRACT = {
    "alarm/received",
    "alarm/accept",
    "alarm/decline",
    "alarm/respond",
    "alarm/on_scene",
    "alarm/escalate",
    "alarm/note",
    "alarm/close",
    "alarm/reopen",
    "alarm/review",
    "alarm/raise",
    "listen/start",
    "listen/stop",
    "locate",
    "visit/open",
    "visit/extend",
    "visit/close",
    "test/run",
    "test/press_window",
    "tag/assign",
    "tag/revoke",
}


def test_every_command_of_the_contract_can_be_given() -> None:
    assert set(COMMANDS) >= CONTRACT


def test_every_command_of_the_daemon_can_be_given() -> None:
    assert set(COMMANDS) >= set(command.NAMES)


# What a person may type for each field.
TYPED = {
    **dict.fromkeys(("alarm", "visit", "tag", "tags"), "x-1"),
    **dict.fromkeys(("eta_s", "max_s", "every_s", "for_s"), "60"),
    **dict.fromkeys(("text", "lesson", "note", "code_word_ref", *ADDRESS), "a word"),
    **dict.fromkeys(("expected_end", "at"), "2026-03-01T12:00:00Z"),
    "expected_start": "2026-03-01T11:00:00Z",
    "worker": "nurse-1",
    "outcome": "false",
    "police": "no",
    "cause": "manual",
    "risk": "high",
    "cancel": "refused",
    "mode": "test",
}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name in command.NAMES])
def test_what_is_typed_is_a_command_of_the_contract(name: str) -> None:
    """With every field it may have."""
    row = COMMANDS[name]
    given = {key: TYPED[key] for key in row.fields if (name, key) != ("alarm/raise", "worker")}
    body = fields(name, None if row.about is None else TYPED[row.about], given)
    contract.validate(f"cmd/{name}", json.dumps({**body, "id": "c-1", "actor": {"id": "Ada"}}).encode())


def test_an_address_becomes_an_object() -> None:
    """As the contract has it; the time in so many minutes becomes one with an offset."""
    given = {
        "worker": "nurse-1",
        "street": "Elm Road",
        "number": "12",
        "floor": "3",
        "expected_end": "+45min",
    }
    found = fields("visit/open", "v-1", given)
    assert found["visit"] == "v-1"
    assert found["address"] == {"street": "Elm Road", "number": "12", "floor": "3"}
    end = datetime.fromisoformat(str(found["expected_end"]))
    assert abs((end - datetime.now().astimezone()).total_seconds() - 45 * 60) < 60


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gw-1"], "expected a command"),
        (["gw-1", "alarm/dance"], "expected a command"),
        (["gw/1", "accept", "a"], "expected a gateway's id"),
        (["gw-1", "accept"], "alarm/accept: expected the alarm's id after it"),
        (["gw-1", "listen/stop", "a"], "listen/stop: expected no argument"),
        (["gw-1", "accept", "a", "--eta-s", "5"], "expected only its own fields (none), got --eta-s"),
        (["gw-1", "respond", "a", "--eta-s", "soon"], "--eta-s: expected a whole number, got 'soon'"),
        (["gw-1", "accept", "a", "--set", "x"], "--set: expected NAME=JSON"),
        (["gw-1", "accept", "a", "--set", "x=y"], "--set: expected JSON after x="),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, before any broker is dialled: there is none here."""
    assert main(["ops", *words, "--broker", "127.0.0.1:1"]) == 2
    assert expected in capsys.readouterr().err


def test_no_broker_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "list", "--broker", "127.0.0.1:1"]) == 1
    assert "no broker at 127.0.0.1:1" in capsys.readouterr().err


def test_a_tag_that_another_gateway_hears_is_covered() -> None:
    """Several gateways may know one tag; a battery that is nearly empty is told even so."""
    heard = [
        ("g/gw-1/status", {"state": "online"}),
        ("g/gw-2/status", {"state": "online"}),
        ("g/gw-1/tag/t-1", {"state": "lost", "worker": "nurse-1"}),
        ("g/gw-2/tag/t-1", {"state": "seen", "worker": "nurse-1"}),
        ("g/gw-1/tag/t-2", {"state": "lost", "worker": "nurse-2"}),
        ("g/gw-1/tag/t-3", {"state": "seen", "worker": "nurse-3", "battery": "critical"}),
        ("g/gw-1/tag/t-4", {"state": "seen"}),
        ("g/gw-1/tag/t-4", {}),
    ]
    told = "\n".join(lines(Picture.of("g", heard)))
    assert re.search(
        r"tags not covered: 2\n  t-2  nurse-2, lost at gw-1\n  t-3  nurse-3, battery critical\n", told
    )


def test_what_a_message_says_cannot_drive_the_terminal() -> None:
    alarm = {"handling": "raised", "mode": "actual", "cause": "panic\x1b[2J"}
    told = "\n".join(lines(Picture.of("g", [("g/gw-1/alarm/a/state", alarm)])))
    assert "panic" in told
    assert "\x1b" not in told


def test_a_closed_visit_is_not_open() -> None:
    heard = [("g/gw-1/visit/v-1", {"state": "overdue"}), ("g/gw-1/visit/v-2", {"state": "closed"})]
    assert [name for _, name, _ in Picture.of("g", heard).visits] == ["v-1"]


def test_a_visit_is_listed_with_what_is_wrong_before_the_door() -> None:
    """Who, until when, and that the tag's battery will not last."""
    visit = {
        "state": "open",
        "worker": "nurse-1",
        "expected_end_at": "2026-03-01T12:00:00.000Z",
        "warnings": ["battery_critical"],
    }
    told = [*lines(Picture.of("g", [("g/gw-1/visit/v-1", visit)]))]
    expected = "gw-1 v-1, nurse-1, open, expected to end 2026-03-01T12:00:00.000Z"
    assert f'  {expected}, WARNING ["battery_critical"]' in told
