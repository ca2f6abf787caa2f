"""Alarms and visits together, in the gateway: whatever people do in whatever order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_gateway import CLOCK, TAG_NAME, WHERE, Room

from gatewayd.core import alarm, payload, topic, visit
from gatewayd.core.alarm import HopKind
from gatewayd.core.command import Incoming
from gatewayd.core.model import Message, Mode
from gatewayd.core.topic import Kind
from gatewayd.core.visit import VisitState
from gatewayd.records import ALARM, VISIT

# BTHome's events by what they mean here: press is an alarm.
MEANINGS = "cancel_on = double\nduress_on = triple\ncheckout_on = long\ntest_on = hold\n"
EVENTS = {"press": 1, "double": 2, "triple": 3, "long": 4, "hold": 0x80}
PASSED_S = 5 * 60 + 60 + 30 + 1  # the shortest visit, its grace and its pre-alarm
HANDLED = {
    "accept": {}, "decline": {}, "respond": {}, "on_scene": {}, "escalate": {}, "received": {}, "review": {},
    "note": {"text": "x", "cancel": "refused"}, "close": {"outcome": "false"}, "reopen": {},
}  # fmt: skip


class People(RuleBasedStateMachine):
    """A gateway, its disk, its wearer and its ops; kills at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(more=MEANINGS)
        self.room.gateway.restore({})
        self.number = 0
        self.judged = 0  # batches
        self.open: set[str] = set()  # alarms that are meant, and that nobody closed
        self.alarmed: list[str] = []  # of visits, as their topics told

    @property
    def alarms(self) -> dict[str, alarm.Alarm]:
        """What is stored of alarms."""
        records = self.room.disk.records.get(ALARM, {})
        return {name: alarm.from_json(text) for name, text in records.items()}

    @property
    def visits(self) -> dict[str, visit.Visit]:
        """What is stored of visits."""
        records = self.room.disk.records.get(VISIT, {})
        return {name: visit.from_json(text) for name, text in records.items()}

    def _new(self) -> Iterator[Message]:
        batches = self.room.disk.batches[self.judged :]
        self.judged = len(self.room.disk.batches)
        return (message for batch in batches for message in batch.messages)

    def _ask(self, name: str, **fields: Any) -> None:
        self.number += 1
        body = {"id": f"c-{self.number}", "actor": {"id": "desk"}, **fields}
        self.room.gateway.on_command(Incoming(name=name, payload=json.dumps(body).encode()))

    def _some(self, n: int) -> str:
        names = list(self.alarms)
        return names[n % len(names)] if names else "none"

    @rule(event=st.sampled_from(sorted(EVENTS)))
    def press(self, event: str) -> None:
        self.number += 1
        self.room.press(self.number % 256, EVENTS[event])

    @rule(name=st.sampled_from(["v-1", "v-2"]), ends_s=st.sampled_from([300, 900]), later=st.booleans())
    def opened(self, name: str, ends_s: float, later: bool) -> None:
        now = self.room.now()

        def at(seconds: float) -> str:
            return payload.at(replace(now, wall_s=now.wall_s + seconds, boot="-"), CLOCK)

        start = {"expected_start": at(100)} if later else {}
        end = at(ends_s + 100 * later)
        self._ask("visit/open", visit=name, worker="nurse-1", expected_end=end, address=WHERE, **start)

    @rule(name=st.sampled_from(["v-1", "v-2"]), what=st.sampled_from(["extend", "extend", "close"]))
    def changed(self, name: str, what: str) -> None:
        self._ask(f"visit/{what}", visit=name)

    @rule(n=st.integers(0, 5), what=st.sampled_from(sorted(HANDLED)))
    def handled(self, n: int, what: str) -> None:
        self._ask(f"alarm/{what}", alarm=self._some(n), **HANDLED[what])

    @rule(cause=st.sampled_from(["manual", "duress"]), tag=st.booleans())
    def raised(self, cause: str, tag: bool) -> None:
        self._ask("alarm/raise", cause=cause, **({"tag": TAG_NAME} if tag else {"worker": "nurse-1"}))

    @rule(seconds=st.sampled_from([1, 20, PASSED_S, 1_000, 1_000, 90_000]))
    def wait(self, seconds: float) -> None:
        self.room.now_s += seconds
        self.room.gateway.on_tick()

    @rule(kind=st.sampled_from([HopKind.STORED, HopKind.CONFIRMED]))
    def hop(self, kind: HopKind) -> None:
        if self.alarms:
            self.room.hop(kind)

    @rule(late=st.booleans())
    def kill(self, late: bool) -> None:
        """Also with a disk that answers late."""
        before = self.room
        self.room = Room(disk=before.disk, more=MEANINGS, now_s=before.now_s + 1)
        stored = {kind: dict(records) for kind, records in before.disk.records.items()}
        self.room.gateway.restore({} if late else stored)
        if late:
            self.room.gateway.restore_late(stored)
        self.room.gateway.store_all()
        known = {name for kind, name in self.room.disk.batches[-1].records if kind == VISIT}
        assert known == set(self.visits)

    @invariant()
    def all_holds(self) -> None:
        self._what_is_told_is_allowed()
        self._nothing_is_lost()
        self._a_visit_whose_time_is_over_has_its_alarm()

    def _what_is_told_is_allowed(self) -> None:
        """The address is in events of alarms alone; and no alarm that is meant ends unless ops say so."""
        for message in self._new():
            where = topic.parse(message.topic)
            assert where is not None
            if message.retain or where.kind is not Kind.ALARM_EVENT:
                assert str(WHERE["street"]) not in json.dumps(message.body, default=str)
            if message.body.get("event") == "alarmed":
                self.alarmed.append(str(message.body["alarm"]))
            if where.kind is Kind.ALARM_EVENT and message.body["mode"] != "test":
                kind, name = message.body["type"], str(message.body["alarm"])
                if kind in {"raised", "reopened"}:
                    self.open.add(name)
                elif kind == "closed":
                    assert message.body["actor"]
                    self.open.discard(name)

    def _nothing_is_lost(self) -> None:
        """What ops did not close is on the disk, open; and an open alarm is known to the gateway."""
        kept = {name for name, each in self.alarms.items() if each.open and each.mode is Mode.ACTUAL}
        assert kept == self.open
        assert self.room.gateway.open_alarms >= len(kept)

    def _a_visit_whose_time_is_over_has_its_alarm(self) -> None:
        """Once each end: neither a kill nor an extension raises one twice."""
        events = self.room.disk.events("raised")
        ids = Counter(str(event["alarm"]) for event in events if event["cause"] == "overdue")
        assert all(number == 1 for number in ids.values())
        assert sorted(ids) == sorted(self.alarmed)
        for each in self.visits.values():
            if each.alarm is not None:
                assert ids[each.alarm] == 1
            elif each.state is VisitState.OVERDUE:
                assert each.passed_s(each.end_s, self.room.now()) < PASSED_S
            if each.state is VisitState.CLOSED:
                assert each.address is None


TestPeople = People.TestCase
TestPeople.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
