"""Tests of presses and of the way to the broker, as the gateway has them done; and where it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from test_gateway import TAG_NAME, Room, configured, visit_opened

from gatewayd.core.alarm import HopKind
from gatewayd.core.drill import START_S
from gatewayd.core.model import ClockSource, Message, Subject
from gatewayd.records import DRILL


@pytest.fixture
async def room() -> Room:
    """A gateway that has read its records: there were none."""
    room = Room()
    room.gateway.restore({})
    return room


def window(room: Room, *tags: str, for_s: int = 600) -> None:
    room.command("test/press_window", tags=list(tags or [TAG_NAME]), for_s=for_s)


def reply(room: Room) -> Mapping[str, Any]:
    """The last one."""
    return sent(room, "reply")[-1].body


def sent(room: Room, topic: str) -> list[Message]:
    return [message for batch in room.disk.batches for message in batch.messages if message.topic == topic]


def pass_time(room: Room, seconds: int) -> None:
    for _ in range(seconds):
        room.now_s += 1
        room.gateway.on_tick()


# --- presses that were announced ----------------------------------------------------------------------------


async def test_a_press_within_the_window_is_a_test_and_is_closed_with_it(room: Room) -> None:
    """Born a test, told as one at every step, and never anything else."""
    window(room)
    assert reply(room)["ok"]
    pass_time(room, 30)
    room.press(1)
    pass_time(room, 600)
    assert [body["type"] for body in room.disk.events("raised", "closed")] == ["raised", "closed"]
    states = [message.body for message in sent(room, f"alarm/{room.disk.events('raised')[0]['alarm']}/state")]
    assert {body["mode"] for body in [*room.disk.events("raised", "closed"), *states]} == {"test"}
    assert room.disk.events("closed")[0]["outcome"] == "test"


async def test_a_press_after_the_window_is_real_and_a_test_absorbs_it_not(room: Room) -> None:
    """In the very moment it ends, before any tick, with the test's alarm still open."""
    window(room, for_s=60)
    room.press(1)
    room.now_s += 60
    room.press(2)
    assert [body["mode"] for body in room.disk.events("raised")] == ["test", "actual"]
    assert room.disk.events("repeated") == []


async def test_a_press_of_a_tag_that_the_window_does_not_name_is_real(room: Room) -> None:
    window(room, "wired")
    room.press(1)
    room.gateway.on_wired_press(room.now())
    assert [body["mode"] for body in room.disk.events("raised")] == ["actual", "test"]


async def test_an_exercise_absorbs_its_own_tags_only_and_is_closed_by_people(room: Room) -> None:
    """Another's press is real, and so is the same tag's after it."""
    room.command("test/press_window", tags=[TAG_NAME], for_s=60, mode="exercise")
    room.press(1)
    room.gateway.on_wired_press(room.now())
    room.now_s += 20
    room.press(2)
    pass_time(room, 60)
    room.press(3)
    told = [(body["type"], body["mode"]) for body in room.disk.events("raised", "repeated", "closed")]
    assert told == [
        ("raised", "exercise"),
        ("raised", "actual"),
        ("repeated", "exercise"),
        ("raised", "actual"),
    ]
    assert room.gateway.open_alarms == 3


async def test_a_test_is_never_taken_for_part_of_an_emergency_nor_the_other_way(room: Room) -> None:
    """The press of a tag whose alarm is open is real, whatever was announced meanwhile."""
    window(room)
    room.press(1)
    room.command("test/press_window", id="end", tags=[TAG_NAME], for_s=0)
    room.press(2)
    assert [body["mode"] for body in room.disk.events("raised")] == ["test", "actual"]
    room.command("test/press_window", id="again", tags=[TAG_NAME], for_s=60)
    assert reply(room)["error"]["code"] == "conflict"
    room.now_s += 20
    room.press(3)
    assert [body["mode"] for body in room.disk.events("repeated")] == ["actual"]


async def test_a_press_of_a_worker_whose_alarm_is_open_is_no_test(room: Room) -> None:
    """Also where no press raised it: the desk tests all tags while somebody's visit is overdue."""
    window(room)
    room.command("alarm/raise", id="raise", worker="nurse-1", cause="manual")
    room.command("test/press_window", id="again", tags=[TAG_NAME], for_s=60)
    assert reply(room)["error"]["code"] == "conflict"
    room.now_s += 20
    room.press(1)
    assert [body["mode"] for body in room.disk.events("raised", "repeated")] == ["actual", "actual"]


async def test_a_window_opened_before_an_emergency_does_not_swallow_what_follows_it(room: Room) -> None:
    """Only a press from before the window began can have raised it: one that was told late."""
    early_s = room.now_s - 1
    window(room)
    now_s, room.now_s = room.now_s, early_s
    room.press(1)
    room.now_s = now_s + 20
    room.press(2)
    assert [body["mode"] for body in room.disk.events("raised", "repeated")] == ["actual", "actual"]


async def test_the_microphone_stays_shut_unless_configured() -> None:
    """And nobody may open it by a command."""
    plain = configured()
    for microphone in (False, True):
        audio, test = replace(plain.audio, enabled=True), replace(plain.test, microphone=microphone)
        room = Room(config=replace(plain, audio=audio, test=test))
        room.gateway.restore({})
        window(room)
        room.press(1)
        (raised,) = room.disk.events("raised")
        state = sent(room, f"alarm/{raised['alarm']}/state")[-1].body["audio"]
        assert isinstance(state, Mapping)
        assert state["state"] == ("unavailable" if microphone else "off")  # there is none in this room
        room.command("listen/start", alarm=raised["alarm"])
        assert (reply(room)["ok"], raised["mode"]) == (microphone, "test")


async def test_the_room_shows_a_test_as_one(room: Room) -> None:
    window(room)
    room.press(1)
    room.hop(HopKind.STORED)
    assert (room.tests_shown, room.accepted) == (1, [])


async def test_the_last_test_of_a_tag_is_kept_and_told(room: Room) -> None:
    """On its topic, across a restart; before it the tag is overdue."""
    assert room.gateway.tests["overdue"] == [TAG_NAME]
    window(room)
    room.press(1)
    pressed = room.now()
    pass_time(room, 15)
    assert room.states()[-1].body["last_test_at"] == pressed
    again = Room(disk=room.disk, now_s=room.now_s)
    again.gateway.restore(room.disk.records)
    assert again.gateway.tests["overdue"] == []


async def test_a_tag_that_only_shows_that_it_is_there_is_not_to_be_tested() -> None:
    """Its slot at rest: nothing of it means anything."""
    rest = f"[tag rest]\nformat = ibeacon\nuuid = {uuid4()}\nmajor = 1\nminor = 2\nalarm_on = none\n"
    room = Room(config=configured(rest))
    room.gateway.restore({})
    assert room.gateway.tests["overdue"] == [TAG_NAME]


async def test_a_real_press_is_no_test(room: Room) -> None:
    room.press(1)
    assert room.gateway.tests["overdue"] == [TAG_NAME]


async def test_the_window_outlives_a_restart(room: Room) -> None:
    """And a reboot, as far as clocks can tell; where they cannot, presses are real."""
    window(room)
    for boot, source, mode in (
        ("b", ClockSource.NONE, "test"),
        ("c", ClockSource.NTP, "test"),
        ("c", ClockSource.NONE, "actual"),
    ):
        again = Room(now_s=room.now_s + 60, boot=boot, source=source)
        again.gateway.restore(room.disk.records)
        again.press(1)
        assert [body["mode"] for body in again.disk.events("raised")] == [mode]


async def test_a_damaged_record_of_tests_is_left_out() -> None:
    """A press is real then."""
    room = Room()
    room.gateway.restore({DRILL: {"last": "{}"}})
    room.press(1)
    assert [body["mode"] for body in room.disk.events("raised")] == ["actual"]


async def test_a_window_for_strangers_is_refused_and_changes_nothing(room: Room) -> None:
    window(room, TAG_NAME, "nobody")
    assert reply(room)["error"]["code"] == "unknown"
    room.press(1)
    assert [body["mode"] for body in room.disk.events("raised")] == ["actual"]


async def test_the_same_command_again_opens_no_second_window(room: Room) -> None:
    """It gets the same reply; the window ends when it would have."""
    window(room, for_s=60)
    room.now_s += 40
    window(room, for_s=60)
    assert reply(room)["ok"]
    room.now_s += 30
    room.press(1)
    assert [body["mode"] for body in room.disk.events("raised")] == ["actual"]


# --- to the broker and back ---------------------------------------------------------------------------------


async def test_the_test_runs_now_when_it_is_asked_for(room: Room) -> None:
    """What comes back from the broker ends it; anything else does not."""
    room.command("test/run")
    assert reply(room)["ok"]
    (message,) = sent(room, "test")
    for nothing in (b"", b"{", b"[]", b'{"id": "other"}'):
        room.gateway.driller.on_back(nothing)
    room.now_s += 0.25
    room.gateway.driller.on_back(json.dumps({"id": message.id}).encode())
    told = room.gateway.tests["end_to_end"]
    assert isinstance(told, Mapping)
    assert (told["state"], told["latency_ms"]) == ("ok", 250.0)


async def test_a_test_that_runs_is_not_begun_again(room: Room) -> None:
    room.command("test/run", id="one")
    room.command("test/run", id="two")
    assert reply(room)["ok"]
    assert len(sent(room, "test")) == 1


async def test_the_daily_test_is_done_without_being_asked(room: Room) -> None:
    """Once the modem has had its time; not where it is switched off."""
    pass_time(room, int(START_S) - 1)
    assert sent(room, "test") == []
    pass_time(room, 1)
    assert len(sent(room, "test")) == 1
    off = Room(config=configured("[test]\ndaily_at =\n"))
    off.gateway.restore({})
    pass_time(off, int(START_S) + 10)
    assert sent(off, "test") == []


async def test_a_test_that_does_not_come_back_is_told(room: Room) -> None:
    room.command("test/run")
    pass_time(room, 31)
    told = room.gateway.tests["end_to_end"]
    assert isinstance(told, Mapping)
    assert told["state"] == "failed"


# --- where we are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("publish", "idle", "visited"), [("always", 3, 3), ("visit", 0, 3), ("alarm", 0, 0)])
async def test_positions_leave_as_the_policy_says(publish: str, idle: int, visited: int) -> None:
    """Always, during visits, or during alarms only: every 30 s, and every 5 s in an alarm."""
    room = Room(config=configured(f"[gps]\npublish = {publish}\n"))
    room.gateway.restore({})

    def told(seconds: int) -> int:
        before = len(sent(room, "position"))
        for _ in range(seconds):
            room.gateway.on_fix(room.fix())
            pass_time(room, 1)
        return len(sent(room, "position")) - before

    assert told(89) == idle
    visit_opened(room)
    assert told(89) in {visited, visited + bool(visited)}
    room.command("visit/close", visit="v-1")
    room.press(1)
    assert told(100) in {20, 21}


async def test_where_it_was_is_known_after_a_restart(room: Room) -> None:
    """In the first alarm, before any fix: as the last known position, not trusted."""
    room.gateway.on_fix(room.fix())
    room.gateway.store_all()
    again = Room(boot="c", now_s=10)
    again.gateway.restore(room.disk.records)
    again.press(1)
    where = again.disk.events("raised")[0]["position"]
    assert (where["lat"], where["method"], where["trusted"]) == (52.0, "last_known", False)


async def test_a_hub_is_where_it_was_put() -> None:
    """Without any receiver."""
    room = Room(config=configured("[gateway]\nkind = hub\nlatitude = 52.1\nlongitude = 5.1\n"))
    room.gateway.restore({})
    room.press(1)
    where = room.disk.events("raised")[0]["position"]
    assert (where["lat"], where["method"], where["subject"]) == (52.1, "hub_fixed", Subject.HUB)


# --- what is erased -----------------------------------------------------------------------------------------


async def test_a_reply_is_erased_after_a_day_though_nobody_asks_for_anything(room: Room) -> None:
    """Its words may name people."""
    room.command("listen/stop")
    assert room.disk.records["reply"]
    room.now_s += 86_400
    pass_time(room, 1)
    assert room.disk.records["reply"] == {}
