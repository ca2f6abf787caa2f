"""The visit: each rule by itself, then all of them against a model of the rules and a clock of our own."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from contract import validate
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.core import payload, topic
from gatewayd.core.alarm import Publish
from gatewayd.core.battery import Charge
from gatewayd.core.command import Actor, Incoming, Reply, VisitCommand, read
from gatewayd.core.fields import Code
from gatewayd.core.model import Auth, Body, ClockSource, ClockState, Draft, Instant, Keep, MessageClass, Tag
from gatewayd.core.supervision import TagState
from gatewayd.core.visit import (
    TABLE,
    CheckedOut,
    Doubt,
    Doubts,
    Effect,
    Forget,
    Overdue,
    Save,
    Settings,
    Ticked,
    TimeUp,
    Trigger,
    Visit,
    Visits,
    VisitState,
    doubts,
    from_json,
    obey,
    retell,
    step,
    to_json,
    told_in_alarms,
)
from gatewayd.core.visit.model import AHEAD_S, of_worker
from gatewayd.core.visit.orders import KNOWN_MAX
from gatewayd.core.visiting import Close, Extend, Open, Risk, VisitOrder

DOCS = Path(__file__).parent.parent.parent / "docs"
NOON_S = 1_772_366_400.0  # 2026-03-01T12:00:00Z
MIN_S = 60.0
DAY_S = 86_400.0
SETTINGS = Settings(reminder_s=300.0, grace_s=60.0, pre_alarm_s=30.0)  # as they are by default
ADA = Actor(id="ada", name="Ada")
WHERE: Body = {"street": "Dam", "number": "1", "addition": "b", "floor": "3", "city": "Amsterdam"}
WELL: Doubts = {"w-1": (), "w-2": ()}


class World:
    """A gateway around the table: its clock, its visits, and what the last step asked for.

    Everything published is held to the contract.
    """

    def __init__(self, *, source: ClockSource = ClockSource.NTP) -> None:
        self.now = Instant(boot="b1", mono_s=100.0, wall_s=NOON_S, source=source, uncertainty_ms=5)
        self.visits: Visits = {}
        self.effects: tuple[Effect, ...] = ()
        self.doubts = WELL
        self.ids = count(1)
        self._stamper = payload.Stamper("3f6f5a0e-7c07-4b35-9d2b-2f8a6a0b4d11")

    def tick(self, after_s: float = 0.0) -> list[str]:
        """Let time pass, and be told of it; return what happened."""
        wall_s = self.now.wall_s + after_s
        self.now = replace(self.now, mono_s=self.now.mono_s + after_s, wall_s=wall_s)
        self.visits, effects = step(self.visits, Ticked(doubts=self.doubts), self.now, SETTINGS)
        return self._take(effects)

    def press(self, worker: str = "w-1", auth: Auth = Auth.OK) -> list[str]:
        """Check out by a press; return what happened."""
        checked_out = CheckedOut(worker=worker, auth=auth)
        self.visits, effects = step(self.visits, checked_out, self.now, SETTINGS)
        return self._take(effects)

    def order(self, order: VisitOrder) -> Reply:
        """Give a command; return the reply."""
        given = VisitCommand(id=f"c-{next(self.ids)}", actor=ADA, order=order)
        self.visits, effects = obey(self.visits, given, self.now)
        self._take(effects)
        [reply] = [effect for effect in effects if isinstance(effect, Reply)]
        return reply

    def open(self, minutes: float = 60, visit: str = "v-1", **more: Any) -> Reply:
        """Open a visit that ends so many minutes from now."""
        end_s = self.now.wall_s + minutes * MIN_S
        known: dict[str, Any] = {"visit": visit, "worker": "w-1", "end_s": end_s}
        return self.order(Open(**(known | more)))

    def reboot(self, off_s: float, source: ClockSource = ClockSource.NTP) -> list[str]:
        """Lose everything but what is on the disk, and start again so much later."""
        self.restart()
        boot, wall_s = f"{self.now.boot}+", self.now.wall_s + off_s
        self.now = replace(self.now, boot=boot, mono_s=5.0, wall_s=wall_s, source=source)
        return self.tick()

    def restart(self) -> None:
        self.visits = {name: from_json(to_json(visit)) for name, visit in self.visits.items()}

    def know(self, wall_s: float, source: ClockSource = ClockSource.NTP) -> list[str]:
        """Learn the time."""
        self.now = replace(self.now, wall_s=wall_s, source=source)
        return self.tick()

    def _take(self, effects: tuple[Effect, ...]) -> list[str]:
        self.effects = effects
        return [str(self.told(draft).get("event")) for draft in self.drafts]

    def told(self, draft: Draft) -> dict[str, Any]:
        """The message as ops get it."""
        clock = ClockState(boot="now", offset_s=0.0, source=ClockSource.NONE, uncertainty_ms=0)
        message = self._stamper.stamp(draft, next(self.ids).to_bytes(10, "big"))
        rendered = payload.render(message, gateway="gw-1", clock=clock, published=self.now)
        return validate(draft.topic, rendered.payload) or {}

    @property
    def drafts(self) -> list[Draft]:
        return [effect.draft for effect in self.effects if isinstance(effect, Publish)]

    @property
    def alarms(self) -> list[Overdue]:
        """What the last step raised."""
        return [effect for effect in self.effects if isinstance(effect, Overdue)]

    def __getitem__(self, visit: str) -> Visit:
        return self.visits[visit]


@pytest.fixture
def world() -> World:
    return World()


# --- the table ----------------------------------------------------------------------------------------------


def diagram() -> str:
    """The table as a picture and a list, for `docs/visit.md`."""
    rows = [(trigger, start, end) for trigger, row in TABLE.items() for start, end in row.items()]
    picture = [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {VisitState.PLANNED}: {Trigger.PLANNED}",
        f"    [*] --> {VisitState.OPEN}: {Trigger.OPENED}",
        *(f"    {start} --> {end}: {trigger}" for trigger, start, end in rows if start is not end),
        "```",
    ]
    stays = [
        f"- `{trigger}` leaves it as it is: {', '.join(same)}"
        for trigger, row in TABLE.items()
        if (same := [f"`{start}`" for start, end in row.items() if start is end])
    ]
    return "\n".join(["<!-- table -->", *picture, "", *stays, "<!-- /table -->"])


def test_the_picture_in_the_documentation_is_the_table() -> None:
    """When it is not: put what `diagram` returns there."""
    assert diagram() in (DOCS / "visit.md").read_text()


def test_every_trigger_is_in_the_table_and_closing_is_final() -> None:
    assert set(TABLE) == set(Trigger)
    assert not [trigger for trigger, row in TABLE.items() if VisitState.CLOSED in row]


# --- opening ------------------------------------------------------------------------------------------------


def test_a_visit_is_told_and_stored_at_once(world: World) -> None:
    """Retained, until a day after its end; without where it is and what is said there."""
    reply = world.open(60, address=WHERE, note="dog", risk=Risk.HIGH, code_word_ref="card 7")
    assert reply.code is None
    [draft] = world.drafts
    assert world.told(draft)["expected_end_at"] == "2026-03-01T13:00:00.000Z"
    assert draft.body == {
        "visit": "v-1",
        "state": "open",
        "event": "opened",
        "worker": "w-1",
        "risk": "high",
        "expected_end_at": draft.body["expected_end_at"],
        "actor": {"id": "ada", "name": "Ada"},
    }
    assert (draft.topic, draft.message_class, draft.keep) == ("visit/v-1", MessageClass.STATE, Keep.AT_ONCE)
    assert (draft.retain, draft.replaces, draft.expires_s) == (True, True, 3_600 + DAY_S)
    assert Save(visit=world["v-1"]) in world.effects


def test_an_alarm_on_a_visit_carries_what_ops_sent_ahead(world: World) -> None:
    """The worker's own visit, while they are on it."""
    world.open(60, address=WHERE, note="dog", risk=Risk.HIGH, code_word_ref="card 7")
    on = of_worker(world.visits, "w-1")
    assert on is not None
    assert {**on.in_alarm, "expected_end_at": None} == {
        "id": "v-1",
        "worker": "w-1",
        "expected_end_at": None,
        "risk": "high",
        "note": "dog",
        "code_word_ref": "card 7",
        "address": WHERE,
    }
    assert of_worker(world.visits, "w-2") is None
    assert of_worker(world.visits, None) is None
    world.order(Close(visit="v-1"))
    assert of_worker(world.visits, "w-1") is None


@pytest.mark.parametrize("minutes", [4.4, 1440.1, -1, 0])
def test_a_timer_runs_5_to_1440_minutes(world: World, minutes: float) -> None:
    """Five minutes as they are when somebody says so, half a minute before it has come here."""
    reply = world.open(minutes)
    assert (reply.code, bool(world.visits)) == (Code.INVALID, False)
    assert reply.message.startswith("expected_end: expected 5 to 1440 min")
    assert world.open(4.6).code is None
    assert world.open(1440, "v-2", worker="w-2").code is None


def test_a_planned_visits_timer_runs_from_its_start(world: World) -> None:
    later_s = NOON_S + 3 * DAY_S
    assert world.open(start_s=later_s, end_s=later_s + 299).code is Code.INVALID
    assert world.open(start_s=later_s, end_s=later_s + DAY_S).code is None
    too_late_s = NOON_S + AHEAD_S + 1
    assert world.open(visit="v-2", start_s=too_late_s, end_s=too_late_s + 600).code is Code.INVALID


def test_an_id_is_used_once(world: World) -> None:
    """Also of a visit that is closed: it is another one."""
    world.open()
    assert world.open().code is Code.CONFLICT
    world.order(Close(visit="v-1"))
    assert world.open().code is Code.CONFLICT


def test_a_worker_is_on_one_visit_at_a_time(world: World) -> None:
    """A planned one waits until the one before is closed, while that is to last."""
    world.open(60)
    assert world.open(60, "v-2").code is Code.CONFLICT
    start_s = NOON_S + 600
    assert world.open(visit="v-3", start_s=start_s, end_s=start_s + 3_600).code is None
    world.tick(700)
    assert world["v-3"].state is VisitState.PLANNED
    world.order(Close(visit="v-1"))
    assert world.tick(1) == ["opened"]


def planned(world: World, visit: str, from_min: float, until_min: float) -> None:
    """Plan a visit, in minutes from noon."""
    start_s, end_s = NOON_S + from_min * MIN_S, NOON_S + until_min * MIN_S
    assert (
        world.open(visit=visit, start_s=start_s, end_s=end_s, address={**WHERE, "number": visit}).code is None
    )


def happened(world: World, from_min: float, until_min: float) -> dict[str, list[str]]:
    """What happens to each visit while time passes second by second; it is `from_min` past noon."""
    found: dict[str, list[str]] = {}
    for _ in range(round((until_min - from_min) * MIN_S)):
        world.tick(1)
        for draft in world.drafts:
            by = f" by {draft.body['by']}" if "by" in draft.body else ""
            found.setdefault(str(draft.body["visit"]), []).append(f"{draft.body['event']}{by}")
    return found


def door(world: World) -> Body:
    """What an alarm would tell of the worker's visit now."""
    told = told_in_alarms(world.visits, "w-1")
    assert told is not None
    return told


WHOLE = ["reminded", "overdue", "alarmed"]


def test_a_check_out_that_was_forgotten_leaves_nobody_unwatched(world: World) -> None:
    """The next visit begins and is watched; the one before is closed by it, and its address is erased."""
    planned(world, "v-1", 1, 30)
    planned(world, "v-2", 90, 120)
    first = happened(world, 0, 89)
    assert first == {"v-1": ["opened", *WHOLE]}
    assert door(world)["id"] == "v-1"
    assert happened(world, 89, 90.1) == {"v-1": ["closed by next_visit"], "v-2": ["opened"]}
    assert (world["v-1"].address, world["v-2"].before) == (None, "v-1")
    assert (door(world)["id"], door(world)["before"]) == ("v-2", "v-1")
    assert happened(world, 90.1, 122) == {"v-2": WHOLE}


def test_the_next_visit_takes_no_alarm_away(world: World) -> None:
    """One that follows at once begins when help was called for the one before."""
    planned(world, "v-1", 1, 30)
    planned(world, "v-2", 30, 60)
    assert happened(world, 0, 31.4) == {"v-1": ["opened", "reminded", "overdue"]}
    assert door(world)["id"] == "v-1"
    assert happened(world, 31.4, 32) == {"v-1": ["alarmed", "closed by next_visit"], "v-2": ["opened"]}
    assert happened(world, 32, 62) == {"v-2": WHOLE}


def test_who_stays_longer_is_found_at_that_door(world: World) -> None:
    """And the planned visit begins when the one before is over, to end as it was planned."""
    planned(world, "v-1", 1, 30)
    planned(world, "v-2", 30, 60)
    happened(world, 0, 29)
    world.order(Extend(visit="v-1"))
    assert happened(world, 29, 44) == {"v-1": ["reminded"]}
    assert door(world)["id"] == "v-1"
    world.press()
    assert happened(world, 44, 62) == {"v-2": ["opened", *WHOLE]}


def test_an_end_is_watched_though_the_visit_before_goes_on(world: World) -> None:
    """It begins at its end at the latest; alarms tell it then, and that nobody ended the one before."""
    planned(world, "v-1", 1, 100)
    planned(world, "v-2", 30, 60)
    assert happened(world, 0, 59.9) == {"v-1": ["opened"]}
    assert happened(world, 59.9, 62) == {"v-2": ["opened", *WHOLE]}
    assert (door(world)["id"], door(world)["before"]) == ("v-2", "v-1")
    assert world["v-1"].state is VisitState.OPEN
    world.press()
    assert door(world)["id"] == "v-1"
    assert happened(world, 62, 103) == {"v-1": WHOLE}


def test_of_visits_one_upon_another_alarms_tell_the_last(world: World) -> None:
    """Whatever the order in which the disk gives them back."""
    planned(world, "v-3", 20, 40)
    planned(world, "v-2", 10, 30)
    planned(world, "v-1", 1, 100)
    happened(world, 0, 40.1)
    assert [world[name].rank for name in ("v-1", "v-2", "v-3")] == [0, 1, 2]
    world.restart()
    assert (door(world)["id"], door(world)["before"]) == ("v-3", "v-2")


def test_visits_that_passed_while_it_was_off_are_each_alarmed(world: World) -> None:
    """Then each is closed by the next."""
    for number, name in enumerate(("v-1", "v-2", "v-3")):
        planned(world, name, 30 * number + 1, 30 * number + 25)
    world.tick(61)
    world.reboot(4 * 3_600)
    raised = [each.visit.address for each in world.alarms]
    for _ in range(3):
        world.tick(1)
        raised += [each.visit.address for each in world.alarms]
    assert raised == [{**WHERE, "number": name} for name in ("v-1", "v-2", "v-3")]
    assert [world[name].state for name in ("v-1", "v-2")] == [VisitState.CLOSED] * 2


def test_a_clock_that_may_be_wrong_closes_no_visit() -> None:
    """The next one begins all the same; a better clock takes back what was too early."""
    world = World(source=ClockSource.RTC)
    planned(world, "v-1", 1, 30)
    planned(world, "v-2", 90, 120)
    assert happened(world, 0, 91) == {"v-1": ["opened", *WHOLE], "v-2": ["opened"]}
    assert door(world)["id"] == "v-2"
    assert sorted(world.know(NOON_S + 600)) == ["corrected", "planned"]
    assert (door(world)["id"], world["v-2"].before) == ("v-1", None)
    assert happened(world, 10, 90.1) == {"v-1": [*WHOLE, "closed by next_visit"], "v-2": ["opened"]}


def test_without_a_clock_the_visit_that_surely_began_is_told(world: World) -> None:
    """A planned one waits for it till its own end may have come, and is no more certain then."""
    planned(world, "v-1", 1, 60)
    planned(world, "v-2", 600, 630)
    world.tick(120)
    world.reboot(10, ClockSource.NONE)
    happened(world, 2, 31)
    assert (world["v-1"].alarm is None, world["v-2"].state) == (False, VisitState.PLANNED)
    assert happened(world, 31, 34) == {"v-2": ["opened", *WHOLE]}
    assert (door(world)["id"], world["v-1"].state) == ("v-1", VisitState.OVERDUE)


def test_only_so_many_visits_are_held(world: World) -> None:
    for n in range(KNOWN_MAX):
        world.visits = {**world.visits, f"v-{n}": Visit(**VISIT_FIELDS | {"id": f"v-{n}"})}
    assert world.open(60, "one-more").code is Code.UNAVAILABLE


VISIT_FIELDS: dict[str, Any] = {
    "id": "v-1",
    "worker": "w-9",
    "state": VisitState.CLOSED,
    "seed": "019ca945-0a00-7000-8000-000000000001",
    "end_s": NOON_S,
    "anchor": World().now,
    "closed": World().now,
}


# --- the timer ----------------------------------------------------------------------------------------------


def test_nobody_says_that_it_is_over_and_an_alarm_is_raised(world: World) -> None:
    """Reminder 5 min before the end, overdue 60 s after it, the alarm after 30 s of pre-alarm; once."""
    world.open(60)
    assert world.tick() == []
    assert world.tick(55 * MIN_S - 1) == []
    assert world.tick(1) == ["reminded"]
    assert world.tick(5 * MIN_S + 59) == []
    assert world.tick(1) == ["overdue"]
    assert world.drafts[0].body["alarm_at"] == replace(
        world.now, mono_s=world.now.mono_s + 30, wall_s=world.now.wall_s + 30
    )
    assert TimeUp(worker="w-1") in world.effects
    assert world.alarms == []
    assert world.tick(29) == []
    assert world.tick(1) == ["alarmed"]
    [raised] = world.alarms
    assert world["v-1"].alarm == raised.alarm == world.drafts[0].body["alarm"]
    assert raised.visit.in_alarm["id"] == "v-1"
    assert world.tick(3_600) == []


def test_the_alarm_has_one_id_whatever_dies(world: World) -> None:
    """A kill before anything was stored, and it is raised again under the same."""
    world.open(5)
    before = world.visits
    world.tick(400)
    first = world.alarms
    world.visits = before
    world.restart()
    world.tick(10)
    assert [each.alarm for each in world.alarms] == [each.alarm for each in first]


@pytest.mark.parametrize("at_s", [0, 3_300, 3_659, 3_665, 3_689])
def test_checking_out_ends_the_watch_at_any_moment_before(world: World, at_s: float) -> None:
    world.open(60)
    world.tick(at_s)
    assert world.press() == ["closed"]
    assert (world.drafts[0].body["by"], world.drafts[0].body["auth"]) == ("press", "ok")
    assert world.tick(600) == []


@pytest.mark.parametrize("auth", [Auth.FAILED, Auth.REPLAYED])
def test_a_press_that_fails_to_prove_itself_checks_nobody_out(world: World, auth: Auth) -> None:
    """Whoever recorded one must not end the watch; ops are told."""
    world.open(60)
    assert world.press(auth=auth) == ["check_out_refused"]
    assert (world["v-1"].state, world.drafts[0].body["reason"]) == (VisitState.OPEN, "unproven")


def test_a_check_out_pressed_again_to_be_sure_ends_no_visit_that_follows(world: World) -> None:
    """Neither one that began by itself, nor one that ops opened meanwhile; 60 s later it does."""
    for follow in ("planned", "opened"):
        world = World()
        world.open(60)
        planned(world, "v-2", 2, 60)
        world.tick(180)
        if follow == "opened":
            world.order(Close(visit="v-2"))
        assert world.press() == ["closed"]
        if follow == "opened":
            assert world.open(60, "v-2b").code is None
        happening = world.tick(1)
        assert happening == ([] if follow == "opened" else ["opened"])
        world.tick(4)
        assert world.press() == ["check_out_refused"]
        assert world.drafts[0].body["reason"] == "too_soon"
        world.tick(56)
        assert world.press() == ["closed"]


def test_a_check_out_just_as_a_planned_visit_begins_may_be_of_the_one_before(world: World) -> None:
    """Though that one was closed by ops; a refused press holds off no later one."""
    world.open(60)
    planned(world, "v-2", 2, 60)
    world.tick(180)
    world.order(Close(visit="v-1"))
    world.tick(1)
    for after_s, expected in ((0, "check_out_refused"), (59, "check_out_refused"), (1, "closed")):
        world.tick(after_s)
        assert world.press() == [expected]


def test_a_check_out_holds_off_none_of_another_worker(world: World) -> None:
    world.open(60)
    world.open(60, "v-2", worker="w-2")
    assert (world.press(), world.press("w-2")) == (["closed"], ["closed"])


def test_a_press_on_no_visit_says_nothing(world: World) -> None:
    world.open(60, start_s=NOON_S + 600)
    assert world.press() == []
    assert world.press("w-2") == []


@pytest.mark.parametrize(("at_s", "end_s"), [(0, 4_500), (3_310, 4_500), (3_665, 4_565), (9_000, 9_900)])
def test_an_extension_gives_15_minutes(world: World, at_s: float, end_s: float) -> None:
    """From the end, or from now where that is past; the new end is watched as the first one was."""
    world.open(60)
    world.tick(at_s)
    assert world.order(Extend(visit="v-1")).code is None
    assert (world["v-1"].state, world["v-1"].alarm) == (VisitState.OPEN, None)
    assert world["v-1"].end_s == NOON_S + end_s
    world.tick(end_s - at_s + 89)
    assert world.alarms == []
    world.tick(1)
    assert len(world.alarms) == 1


def test_each_end_has_an_alarm_of_its_own(world: World) -> None:
    world.open(60)
    world.tick(3_690)
    [first] = world.alarms
    world.order(Extend(visit="v-1"))
    world.tick(1_000)
    [second] = world.alarms
    assert first.alarm != second.alarm


def test_no_extension_beyond_a_day(world: World) -> None:
    world.open(1430)
    reply = world.order(Extend(visit="v-1"))
    assert (reply.code, world["v-1"].end_s) == (Code.REFUSED, NOON_S + 1430 * MIN_S)


def test_an_extension_until_a_time(world: World) -> None:
    """Which is to come, and after the end."""
    world.open(60)
    for end_s in (NOON_S + 3_600, NOON_S + 1_000):
        assert world.order(Extend(visit="v-1", end_s=end_s)).code is Code.INVALID
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 1_500 * MIN_S)).code is Code.REFUSED
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 7_200)).code is None
    assert world["v-1"].end_s == NOON_S + 7_200
    world.tick(9_000)
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 8_000)).code is Code.INVALID
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 9_600)).code is None
    assert world["v-1"].state is VisitState.OPEN


def test_a_planned_visit_is_extended_too(world: World) -> None:
    world.open(60, start_s=NOON_S + 600)
    assert world.order(Extend(visit="v-1")).code is None
    assert (world["v-1"].state, world["v-1"].end_s) == (VisitState.PLANNED, NOON_S + 4_500)
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 1_440 * MIN_S + 600)).code is None
    assert world.order(Extend(visit="v-1", end_s=NOON_S + 1_440 * MIN_S + 601)).code is Code.REFUSED


def test_what_is_not_there_or_closed_is_not_changed(world: World) -> None:
    assert world.order(Extend(visit="v-1")).code is Code.UNKNOWN
    world.open(60)
    world.order(Close(visit="v-1"))
    for order in (Extend(visit="v-1"), Close(visit="v-1")):
        assert world.order(order).code is Code.CONFLICT


# --- privacy ------------------------------------------------------------------------------------------------


def test_closing_erases_where_it_was(world: World) -> None:
    """And what was said there; the rest within 24 h after the end."""
    world.open(60, address=WHERE, note="dog", code_word_ref="card 7")
    world.order(Close(visit="v-1"))
    assert world.drafts[0].expires_s == DAY_S
    stored = [to_json(effect.visit) for effect in world.effects if isinstance(effect, Save)]
    assert not any(word in text for text in stored for word in ("Dam", "dog", "card"))
    world.tick(22 * 3_600)
    assert "v-1" in world.visits
    world.tick(1.5 * 3_600)
    assert world.effects == (Forget(visit="v-1"),)
    assert world.visits == {}


def test_a_closed_visit_whose_age_nobody_knows_is_erased(world: World) -> None:
    world.open(60)
    world.order(Close(visit="v-1"))
    world.reboot(60, ClockSource.NONE)
    assert world.visits == {}


def test_one_that_was_alarmed_and_never_closed_is_erased_a_day_after_its_end(world: World) -> None:
    """It is told as closed, by nobody."""
    world.open(60, address=WHERE)
    world.tick(3_700)
    world.tick(22 * 3_600)
    assert "v-1" in world.visits
    assert world.tick(1.5 * 3_600) == ["closed"]
    assert world.drafts[0].body["by"] == "time"
    assert world.drafts[0].expires_s is not None
    assert world.drafts[0].expires_s < 0.7 * 3_600  # of the day that its state is kept after its end
    assert [effect for effect in world.effects if not isinstance(effect, Publish)] == [Forget(visit="v-1")]
    assert world.visits == {}


def test_a_visit_comes_back_from_the_disk_as_it_went(world: World) -> None:
    start_s = NOON_S + 60
    world.open(60, start_s=start_s, address=WHERE, note="dog", risk=Risk.LOW, code_word_ref="card 7")
    more: dict[str, Any] = {"began": world.now, "before": "v-0", "rank": 1, "checked_out": True}
    full = replace(world["v-1"], doubts=(Doubt.TAG_LOST,), checked=True, alarm="a", closed=world.now, **more)
    for visit in (world["v-1"], full):
        assert from_json(to_json(visit)) == visit


@pytest.mark.parametrize(
    "change", [{"seed": "x"}, {"state": "late"}, {"end_s": "soon"}, {"doubts": [1]}, {"id": None}]
)
def test_a_damaged_record_is_refused(world: World, change: dict[str, Any]) -> None:
    world.open(60)
    with pytest.raises(ValueError):
        from_json(payload.dump({**payload.load(to_json(world["v-1"])), **change}))


# --- clocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("set_s", [-7_200.0, 7_200.0])
def test_a_clock_that_is_set_moves_no_deadline(world: World, set_s: float) -> None:
    world.open(60)
    assert world.know(NOON_S + set_s) == []
    world.restart()
    world.tick(3_689)
    assert world.alarms == []
    world.tick(1)
    assert len(world.alarms) == 1


def test_a_better_clock_reads_them_anew(world: World) -> None:
    """Ops said when it ends; the gateway's own clock was an hour behind."""
    world = World(source=ClockSource.RTC)
    world.open(120)
    assert world.know(NOON_S + 3_600) == []
    world.tick(3_690)
    assert len(world.alarms) == 1


def test_a_reboot_is_survived(world: World) -> None:
    """Across boots the wall clock tells, and what passed while the gateway was off has passed."""
    world.open(60)
    assert world.reboot(3_000) == []
    assert world.tick(300) == ["reminded"]
    assert world.reboot(1_000) == ["overdue", "alarmed"]
    assert len(world.alarms) == 1


def test_a_reboot_without_a_clock_errs_towards_alarming(world: World) -> None:
    """The end counts as reached, and the message says so."""
    world.open(60)
    assert world.reboot(10, ClockSource.NONE) == ["None", "reminded"]
    assert all(draft.body["clock_assumed"] for draft in world.drafts)
    assert world.tick(60) == ["overdue"]
    assert world.tick(30) == ["alarmed"]


def test_a_clock_that_is_known_in_time_takes_it_back(world: World) -> None:
    world.open(60)
    world.reboot(10, ClockSource.NONE)
    world.tick(70)
    assert world["v-1"].state is VisitState.OVERDUE
    assert world.know(NOON_S + 100) == ["corrected"]
    assert "clock_assumed" not in world.drafts[0].body
    assert world.tick(100) == []
    assert world.reboot(10, ClockSource.NONE) == ["None", "reminded"]
    assert world.know(NOON_S + 3_500) == ["None"]
    assert world.tick(160) == ["overdue"]


def test_what_was_overdue_is_alarmed_at_once_after_a_reboot_without_a_clock(world: World) -> None:
    world.open(60)
    world.tick(3_665)
    world.reboot(10, ClockSource.NONE)
    assert len(world.alarms) == 1


def test_a_visit_opened_without_a_clock_ends_after_5_minutes() -> None:
    """Whatever its end would be; known in time, it ends as ops said, and within a day."""
    world = World(source=ClockSource.NONE)
    assert world.open(end_s=NOON_S + 30 * DAY_S).code is None
    assert world.drafts[0].body["clock_assumed"] is True
    world.tick(389)
    assert world.alarms == []
    world.tick(1)
    assert len(world.alarms) == 1
    world = World(source=ClockSource.NONE)
    world.open(end_s=NOON_S + 30 * DAY_S)
    world.know(NOON_S + 1_000)
    assert world["v-1"].end_s == NOON_S + 1_000 + DAY_S


@pytest.mark.parametrize("begun", [True, False])
def test_a_mistyped_year_is_not_watched_for_ever(begun: bool) -> None:
    """Opened without a clock: once one is known, the end is within a day, or a week and a day if planned.

    Also one that began meanwhile, since no clock could tell: it is planned again.
    """
    world = World(source=ClockSource.NONE)
    far_s = NOON_S + 3_000 * 365 * DAY_S
    world.open(start_s=far_s, end_s=far_s + 3_600)
    if begun:
        assert world.tick() == ["opened"]
    world.know(NOON_S)
    left_s = world["v-1"].end_s - NOON_S
    assert world["v-1"].state is VisitState.PLANNED
    assert left_s == DAY_S + AHEAD_S
    world.tick(left_s)
    world.tick(100)
    assert world["v-1"].alarm is not None


def test_a_planned_visit_begins_where_no_clock_can_tell() -> None:
    """Opened without one, or met by a reboot without one."""
    world = World(source=ClockSource.NONE)
    assert world.open(start_s=NOON_S + DAY_S, end_s=NOON_S + DAY_S + 3_600).code is None
    assert world.tick() == ["opened"]
    assert world.open(visit="v-2", start_s=NOON_S, end_s=NOON_S + 2 * DAY_S).code is Code.INVALID
    world = World()
    world.open(start_s=NOON_S + DAY_S, end_s=NOON_S + DAY_S + 3_600)
    assert world.reboot(10, ClockSource.NONE) == ["None", "opened"]
    world.tick(3_689)
    assert world.alarms == []
    world.tick(1)
    assert len(world.alarms) == 1


@pytest.mark.parametrize("blind_s", [30, 3_700])
def test_a_visit_that_began_without_a_clock_is_planned_again_once_one_is_known(blind_s: float) -> None:
    """It begins and ends when ops said, whatever was raised, and of whatever was checked out, meanwhile."""
    world = World()
    start_s = NOON_S + DAY_S
    world.open(start_s=start_s, end_s=start_s + 3_600)
    assert world.reboot(10, ClockSource.NONE) == ["None", "opened"]
    assert world.press() == ["check_out_refused"]
    assert world.drafts[0].body["reason"] == "clock_unknown"
    world.tick(blind_s)
    early = [each.alarm for each in world.alarms]
    assert world.know(NOON_S + 4_000) == ["planned"]
    assert world.press() == []
    assert world.tick(start_s - NOON_S - 4_000) == ["opened"]
    world.tick(3_600 + 89)
    assert world.alarms == []
    world.tick(1)
    assert len(world.alarms) == 1
    assert world.alarms[0].alarm not in early


def test_a_visit_that_was_alarmed_without_a_clock_is_watched_to_its_end(world: World) -> None:
    """The worker is still behind the door when ops have closed what was raised too early."""
    world.open(120)
    world.reboot(10, ClockSource.NONE)
    world.tick(90)
    [early] = world.alarms
    assert world.know(NOON_S + 110) == ["corrected"]
    world.tick(7_200 + 89 - 110)
    assert world.alarms == []
    world.tick(1)
    [late] = world.alarms
    assert late.alarm != early.alarm


# --- before the door ----------------------------------------------------------------------------------------


def test_what_is_wrong_with_the_tag_is_told_before_the_door(world: World) -> None:
    """From 10 min before a planned visit begins, and when it is right again."""
    world.open(90, start_s=NOON_S + 1_800)
    world.doubts = {"w-1": (Doubt.TAG_LOST, Doubt.BATTERY_CRITICAL)}
    assert world.tick(1_199) == []
    assert world.tick(1) == ["readiness"]
    assert world.drafts[0].body["warnings"] == ["tag_lost", "battery_critical"]
    assert world.tick(1) == []
    world.doubts = WELL
    assert world.tick(1) == ["readiness"]
    assert "warnings" not in world.drafts[0].body
    assert world.tick(600) == ["opened"]


def test_a_visit_that_is_opened_now_is_looked_at_once(world: World) -> None:
    """Behind the door the vehicle need not hear the tag."""
    world.doubts = {"w-1": (Doubt.TAG_LOST,)}
    world.open(60)
    assert world.tick(1) == ["readiness"]
    world.doubts = WELL
    assert world.tick(1) == []


def test_a_worker_without_a_tag_is_warned_of(world: World) -> None:
    world.open(60, worker="w-3")
    world.tick(1)
    assert world.drafts[0].body["warnings"] == ["no_tag"]


def tag(name: str, worker: str | None = "w-1") -> Tag:
    return Tag(name=name, format="bthome", worker=worker)


@pytest.mark.parametrize(
    ("state", "battery", "found"),
    [
        (TagState.SEEN, Charge.LOW, ()),
        (TagState.WEAK, None, ()),
        (TagState.LOST, Charge.OK, (Doubt.TAG_LOST,)),
        (TagState.UNKNOWN, Charge.OK, (Doubt.TAG_UNKNOWN,)),
        (None, None, (Doubt.TAG_UNKNOWN,)),
        (TagState.SEEN, Charge.CRITICAL, (Doubt.BATTERY_CRITICAL,)),
        (TagState.LOST, Charge.CRITICAL, (Doubt.TAG_LOST, Doubt.BATTERY_CRITICAL)),
    ],
)
def test_a_tag_is_doubted_for_what_is_known(
    state: TagState | None, battery: Charge | None, found: tuple[Doubt, ...]
) -> None:
    states = {} if state is None else {"t-1": state}
    assert doubts([tag("t-1"), tag("t-9", None)], states, {"t-1": battery}) == {"w-1": found}


def test_of_several_tags_the_best_counts() -> None:
    states = {"t-1": TagState.LOST, "t-2": TagState.SEEN, "t-3": TagState.UNKNOWN}
    assert doubts([tag("t-1"), tag("t-2"), tag("t-3")], states, {}) == {"w-1": ()}


def test_everything_is_told_again_when_the_broker_forgot(world: World) -> None:
    """As it stands, with what is left of its time there."""
    world.open(60)
    world.open(60, "v-2", worker="w-2")
    world.order(Close(visit="v-2"))
    world.tick(100)
    drafts = [effect.draft for effect in retell(world.visits, world.now) if isinstance(effect, Publish)]
    assert [(draft.topic, draft.expires_s) for draft in drafts] == [
        (topic.visit("v-1"), 3_500 + DAY_S),
        (topic.visit("v-2"), DAY_S - 100),
    ]
    assert all("event" not in world.told(draft) for draft in drafts)
    assert [draft.message_class for draft in drafts] == [MessageClass.STATE, MessageClass.TELEMETRY]


# --- commands -----------------------------------------------------------------------------------------------

OPENING: dict[str, Any] = {
    "id": "c-1",
    "actor": {"id": "ada"},
    "visit": "v-1",
    "worker": "w-1",
    "expected_end": "2026-03-01T13:00:00Z",
}


def given(**more: Any) -> VisitCommand | Reply:
    data = payload.dump({**OPENING, **more}).encode()
    found = read(Incoming(name="visit/open", payload=data), World().now)
    assert isinstance(found, VisitCommand | Reply)
    return found


def test_an_opening_is_read_whole() -> None:
    more = {"risk": "low", "note": "dog", "code_word_ref": "card 7", "address": {**WHERE, "postcode": None}}
    found = given(expected_start="2026-03-01T12:30:00+00:00", **more)
    assert isinstance(found, VisitCommand)
    assert found.order == Open(
        visit="v-1",
        worker="w-1",
        end_s=NOON_S + 3_600,
        start_s=NOON_S + 1_800,
        address=WHERE,
        note="dog",
        risk=Risk.LOW,
        code_word_ref="card 7",
    )
    bare = given(address={})
    assert isinstance(bare, VisitCommand)
    assert bare.order == Open(visit="v-1", worker="w-1", end_s=NOON_S + 3_600)


def test_an_extension_is_read() -> None:
    data = payload.dump(OPENING).encode()
    found = read(Incoming(name="visit/extend", payload=data), World().now)
    assert isinstance(found, VisitCommand)
    assert found.order == Extend(visit="v-1", end_s=NOON_S + 3_600)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"visit": "a b"}, "visit: expected"), ({"worker": "Ada Jansen"}, "worker: expected a reference"),
        ({"worker": None}, "worker: expected"), ({"expected_end": "13:00"}, "expected_end: expected an RFC"),
        ({"expected_end": None}, "expected_end: expected a text"), ({"risk": "dog"}, "risk: expected one of"),
        ({"risk": 3}, "risk: expected one of"), ({"address": "Dam 1"}, "address: expected an object"),
        ({"address": {"country": "NL"}}, "address: expected an object"), ({"note": ""}, "note: expected"),
        ({"address": {"number": 1}}, "number: expected a text"), ({"expected_start": 3}, "expected_start: "),
        ({"note": "x" * 2_001}, "note: expected"), ({"code_word_ref": "x" * 101}, "code_word_ref: "),
    ],
    ids=str,
)  # fmt: skip
def test_an_opening_that_is_not_one_says_why(more: dict[str, Any], expected: str) -> None:
    found = given(**more)
    assert isinstance(found, Reply)
    assert (found.code, found.message[: len(expected)]) == (Code.INVALID, expected)


# --- all of it, against a model -----------------------------------------------------------------------------


class Model:
    """The rules of the field for one worker's visit, in true time: when an alarm must have been raised."""

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s
        self.over = False
        self.alarms = 0  # of this end
        self.blind_s: float | None = None  # since when no clock tells, in this boot

    def must(self, now_s: float) -> bool:
        """Whether help must have been called by now: the end, 60 s of grace, 30 s of pre-alarm."""
        due_s = self.end_s if self.blind_s is None else self.blind_s
        return not self.over and now_s >= due_s + 90

    def may(self, now_s: float) -> bool:
        """Whether it may have been: only then, or where no clock can tell."""
        return not self.over and (now_s >= self.end_s + 90 or self.blind_s is not None)


class Watching(RuleBasedStateMachine):
    """One worker, whatever happens in whatever order; the true time is ours."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.true_s = NOON_S
        self.model: Model | None = None
        self.number = 0
        self.raised: list[str] = []
        self.out: tuple[str, float] | None = None  # the last check-out by a press: in which boot, and when

    def happened(self) -> None:
        """Count what was raised, and compare."""
        raised = [each.alarm for each in self.world.alarms]
        self.raised += raised
        if self.model is None:
            assert not raised
            return
        self.model.alarms += len(raised)
        assert self.model.alarms <= 1
        if raised:
            assert self.model.may(self.true_s)
        if self.model.must(self.true_s):
            assert self.model.alarms == 1

    def pass_time(self, seconds: float) -> None:
        self.true_s += seconds
        self.world.tick(seconds)
        self.happened()
        if self.model is not None and "v" + str(self.number) not in self.world.visits:
            self.model = None  # erased

    @precondition(lambda self: self.model is None or self.model.over)
    @rule(minutes=st.integers(5, 1440))
    def open(self, minutes: int) -> None:
        if self.world.now.source is ClockSource.NONE or self.world.now.wall_s != self.true_s:
            return  # what ops said would be read by a wrong clock: rules of their own, tested above
        self.number += 1
        assert self.world.open(minutes, f"v{self.number}", address=WHERE).code is None
        self.model = Model(self.true_s + minutes * MIN_S)

    @rule(seconds=st.sampled_from([1.0, 31.0, 59.0, 300.0, 1_800.0, 20_000.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.model is not None and not self.model.over and self.model.blind_s is None)
    @rule(seconds=st.sampled_from([-301, -299, 1, 59, 61, 89, 90]))
    def wait_until_near_the_end(self, seconds: int) -> None:
        assert self.model is not None
        ahead_s = self.model.end_s + seconds - self.true_s
        if ahead_s > 0:
            self.pass_time(ahead_s)

    @precondition(lambda self: self.model is not None and self.model.blind_s is None)
    @rule()
    def extend(self) -> None:
        assert self.model is not None
        before = self.world.visits
        reply = self.world.order(Extend(visit=f"v{self.number}"))
        if reply.code is None:
            assert not self.model.over
            self.model = Model(max(self.model.end_s, self.true_s) + 900)
        else:
            assert self.world.visits == before

    @precondition(lambda self: self.model is not None)
    @rule(by_press=st.booleans(), auth=st.sampled_from(Auth))
    def check_out(self, by_press: bool, auth: Auth) -> None:
        assert self.model is not None
        if by_press:
            before = self.model.over
            proven = auth not in {Auth.FAILED, Auth.REPLAYED}
            closed = self.world.press(auth=auth) == ["closed"]
            if self.out is None or self.out[0] == self.world.now.boot:  # else a wrong clock may have its say
                soon = self.out is not None and self.true_s - self.out[1] < 60
                assert closed is (proven and not soon and not before)
            self.model.over |= closed
            self.out = (self.world.now.boot, self.true_s) if closed else self.out
        else:
            self.world.order(Close(visit=f"v{self.number}"))
            self.model.over = True

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.pass_time(0)

    @rule(off_s=st.sampled_from([20.0, 600.0, 40_000.0]), known=st.booleans())
    def reboot(self, off_s: float, known: bool) -> None:
        self.true_s += off_s
        self.world.restart()
        wall_s = self.true_s if known else 0.0
        source = ClockSource.NTP if known else ClockSource.NONE
        boot = f"{self.world.now.boot}+"
        self.world.now = replace(self.world.now, boot=boot, mono_s=9.0, wall_s=wall_s, source=source)
        if known:
            self.see()
        elif self.model is not None:
            self.model.blind_s = self.true_s
        self.pass_time(0)

    def see(self) -> None:
        """A clock tells: what was raised too early is not the alarm of the end."""
        if self.model is not None:
            self.model.blind_s = None
            if self.true_s < self.model.end_s - SETTINGS.reminder_s:
                self.model.alarms = 0

    @rule(off_s=st.sampled_from([-90_000.0, -60.0, 60.0, 90_000.0]))
    def set_the_clock(self, off_s: float) -> None:
        """Somebody sets it wrong, and it says that it is right."""
        if self.world.now.source is not ClockSource.NONE:
            self.world.now = replace(self.world.now, wall_s=self.world.now.wall_s + off_s)
            self.pass_time(0)

    @rule()
    def learn_the_time(self) -> None:
        """The clock is right again, or at last."""
        self.world.now = replace(self.world.now, wall_s=self.true_s, source=ClockSource.NTP)
        self.see()
        self.pass_time(0)

    @invariant()
    def every_alarm_has_an_id_of_its_own(self) -> None:
        assert len(set(self.raised)) == len(self.raised)

    @invariant()
    def nothing_of_a_closed_visit_says_where_it_was(self) -> None:
        for visit in self.world.visits.values():
            assert visit.state is not VisitState.CLOSED or visit.address is None
        assert not any("Dam" in str(draft.body) for draft in self.world.drafts)


Watching.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_whatever_happens_the_rules_hold = Watching.TestCase
