"""Who wears a tag as ops say, and where the gateway is as often as they ask."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from test_gateway import TAG_NAME, Room, configured, visit_opened

from gatewayd.core import topic
from gatewayd.core.model import Fix, FixMode, Message, State, Subject
from gatewayd.records import WEARER

IDS = count()


@pytest.fixture
async def room() -> Room:
    """A gateway that has read its records: there were none."""
    room = Room()
    room.gateway.restore({})
    return room


def sent(room: Room, name: str) -> list[Message]:
    """What was sent to a topic so far."""
    return [each for batch in room.disk.batches for each in batch.messages if each.topic == name]


def answered(room: Room, name: str, **fields: Any) -> str:
    """Give a command; "ok", or the code of its refusal."""
    room.command(name, id=f"c-{next(IDS)}", **fields)
    body: Any = sent(room, topic.REPLY)[-1].body
    return "ok" if body["ok"] else str(body["error"]["code"])


async def test_an_alarm_is_of_who_wears_the_tag_by_now(room: Room) -> None:
    """And their visit is told with it; after a restart, too."""
    assert answered(room, "tag/assign", tag=TAG_NAME, worker="nurse-7") == "ok"
    room.command("visit/open", visit="v-7", worker="nurse-7", expected_end="2026-11-22T12:00:00Z")
    again = Room(now_s=room.now_s + 60)
    again.gateway.restore(room.disk.records)
    again.press(1)
    (raised,) = again.disk.events("raised")
    assert raised["tag"]["worker"] == "nurse-7"


async def test_a_revoked_tag_calls_nobody_until_it_is_assigned(room: Room) -> None:
    """Its state goes from the broker, also after a restart; assigned, it is the configuration's worker's."""
    room.gateway.on_tick()
    assert answered(room, "tag/revoke", tag=TAG_NAME) == "ok"
    assert sent(room, topic.tag(TAG_NAME))[-1].clears
    again = Room(now_s=room.now_s + 60)
    again.gateway.restore(room.disk.records)
    again.press(1)
    assert again.disk.events("raised") == []
    assert answered(again, "tag/assign", tag=TAG_NAME) == "ok"
    again.press(2)
    (raised,) = again.disk.events("raised")
    assert raised["tag"]["worker"] == "nurse-1"


async def test_a_new_configuration_leaves_what_ops_said(room: Room) -> None:
    answered(room, "tag/revoke", tag=TAG_NAME)
    room.gateway.configure(configured())
    room.press(1)
    assert room.disk.events("raised") == []


async def test_the_disk_that_answers_late_is_believed(room: Room) -> None:
    answered(room, "tag/revoke", tag=TAG_NAME)
    late = Room(now_s=room.now_s + 60)
    late.gateway.restore({})
    late.gateway.restore_late(room.disk.records)
    late.press(1)
    assert late.disk.events("raised") == []


async def test_what_ops_said_is_stored_when_the_power_may_go(room: Room) -> None:
    answered(room, "tag/revoke", tag=TAG_NAME)
    room.disk.records.clear()
    room.gateway.store_all()
    assert room.disk.records[WEARER] == {TAG_NAME: '{"worker": null}'}


async def test_a_damaged_record_of_it_is_left_out(room: Room) -> None:
    """The tag calls: a doubt never silences one."""
    for damaged in ("", "[]", '{"worker": 1}'):
        again = Room()
        again.gateway.restore({WEARER: {TAG_NAME: damaged}})
        again.press(1)
        assert len(again.disk.events("raised")) == 1


@pytest.mark.parametrize("name", ["tag/assign", "tag/revoke"])
async def test_a_tag_that_is_not_there_or_has_an_open_alarm_stays_as_it_is(room: Room, name: str) -> None:
    assert answered(room, name, tag="another") == "unknown"
    room.press(1)
    assert answered(room, name, tag=TAG_NAME) == "conflict"


async def test_a_tag_of_nobody_is_assigned_to_somebody_only() -> None:
    room = Room(config=configured("\n[tag pool]\nformat = bthome\naddress = C4:11:22:33:44:66\n"))
    room.gateway.restore({})
    assert answered(room, "tag/assign", tag="pool") == "invalid"
    assert answered(room, "tag/assign", tag="pool", worker="nurse-9") == "ok"


def told(room: Room, seconds: int) -> int:
    """How many positions are told in so many seconds."""
    before = len(sent(room, topic.POSITION))
    for _ in range(seconds):
        room.now_s += 1
        room.gateway.on_fix(Fix(mode=FixMode.FIX_3D, received=room.now(), lat=52.0, lon=5.0))
        room.gateway.on_tick()
    return len(sent(room, topic.POSITION)) - before


@pytest.mark.parametrize(("publish", "how"), [("always", "ok"), ("visit", "refused"), ("alarm", "refused")])
async def test_positions_are_told_as_often_as_ops_ask_where_they_may_leave(publish: str, how: str) -> None:
    """Always, on a visit, or in an alarm; so long and no longer, or until ops say so."""
    room = Room(config=configured(f"[gps]\npublish = {publish}\n"))
    room.gateway.restore({})
    told(room, 60)
    assert answered(room, "locate", every_s=2, for_s=60) == how
    if publish == "visit":
        visit_opened(room)
        assert answered(room, "locate", every_s=2, for_s=60) == "ok"
    elif publish == "alarm":
        room.press(1)
        assert answered(room, "locate", every_s=2, for_s=60) == "ok"
    assert told(room, 60) in {29, 30, 31}
    assert told(room, 60) <= 13
    answered(room, "locate", every_s=1, for_s=600)
    assert answered(room, "locate", every_s=1, for_s=0) == "ok"
    assert told(room, 60) <= 13


@pytest.mark.parametrize("publish", ["visit", "alarm"])
async def test_nobody_is_located_longer_than_positions_may_leave(publish: str) -> None:
    """Asked for in an alarm or on a visit, it ends with that; and goes on in the next, within its time."""
    room = Room(config=configured(f"[gps]\npublish = {publish}\n"))
    room.gateway.restore({})
    visit_opened(room, ends_s=3_600.0)
    room.press(1)
    assert answered(room, "locate", every_s=1, for_s=3_600) == "ok"
    assert told(room, 60) >= 59
    alarm = room.disk.events("raised")[0]["alarm"]
    assert answered(room, "alarm/close", alarm=alarm, outcome="false") == "ok"
    assert (told(room, 60) >= 59) is (publish == "visit")
    room.command("visit/close", visit="v-1")
    assert told(room, 60) == 0
    room.press(2)
    assert told(room, 60) >= 59


async def test_a_test_is_no_alarm_to_be_located_in(room: Room) -> None:
    """Whoever may announce one could follow the vehicle."""
    room.command("test/press_window", tags=[TAG_NAME], for_s=600)
    room.press(1)
    assert room.disk.events("raised")[0]["mode"] == "test"
    assert answered(room, "locate", every_s=1, for_s=3_600) == "refused"


@pytest.mark.parametrize(
    ("kind", "risk", "raises"),
    [("vehicle", "high", True), ("vehicle", "low", False), ("vehicle", None, False), ("hub", None, True)],
)
async def test_a_tag_that_falls_silent_raises_where_it_is_to(
    kind: str, risk: str | None, raises: bool
) -> None:
    """In a hub always; in a vehicle on a visit of high risk, whose address it tells; after the pre-alarm."""
    config = configured("[alarm]\ntag_lost = yes\n")
    room = Room(config=replace(config, gateway=replace(config.gateway, kind=Subject(kind))))
    room.gateway.restore({})
    room.gateway.supervisor.radio(State.OK, "scans")
    if risk is not None:
        visit_opened(room, risk=risk)
    room.beat()
    for _ in range(61 + 29):
        room.now_s += 1
        room.gateway.listener.concerns("", {}, {}, -70)  # others are heard
        room.gateway.on_tick()
    assert room.disk.events("raised") == []
    for _ in range(60):
        room.now_s += 1
        room.gateway.listener.concerns("", {}, {}, -70)  # others are heard
        room.gateway.on_tick()
    told = [(event["cause"], event["severity"], event["worker"]) for event in room.disk.events("raised")]
    assert told == ([("tag_lost", "high", "nurse-1")] if raises else [])
    if raises and risk is not None:
        assert room.disk.events("raised")[0]["visit"]["address"]


async def test_a_tag_at_the_edge_of_coverage_has_one_alarm_open_at_a_time() -> None:
    """However often it is lost and heard; lost when that is closed, it has the next one."""
    room = Room(config=configured("[alarm]\ntag_lost = yes\n"))
    room.gateway.restore({})
    room.gateway.supervisor.radio(State.OK, "scans")
    visit_opened(room, 3_600.0, risk="high")
    for _ in range(3):
        room.beat()
        for _ in range(150):
            room.now_s += 1
            room.gateway.listener.concerns("", {}, {}, -70)  # others are heard
            room.gateway.on_tick()
    [raised] = room.disk.events("raised")
    assert answered(room, "alarm/close", alarm=raised["alarm"], outcome="false") == "ok"
    room.gateway.on_tick()
    assert [event["cause"] for event in room.disk.events("raised")] == ["tag_lost"] * 2


async def test_a_tag_that_falls_silent_raises_nothing_unless_configured(room: Room) -> None:
    room.gateway.supervisor.radio(State.OK, "scans")
    visit_opened(room, risk="high")
    room.beat()
    for _ in range(200):
        room.now_s += 1
        room.gateway.listener.concerns("", {}, {}, -70)  # others are heard
        room.gateway.on_tick()
    assert room.disk.events("raised") == []
