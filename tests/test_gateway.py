"""What the gateway does with what it hears: before its records are read, with damaged ones, with any disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gatewayd.config.layers import Layers
from gatewayd.config.load import assemble
from gatewayd.config.model import Config
from gatewayd.core import command, payload, topic
from gatewayd.core.alarm import HopKind
from gatewayd.core.alarm.model import WIRED
from gatewayd.core.battery import Charge
from gatewayd.core.journal import MessageId
from gatewayd.core.model import (
    Advertisement,
    ClockSource,
    ClockState,
    Fix,
    FixMode,
    Instant,
    Message,
    MessageClass,
    State,
    Told,
)
from gatewayd.core.tag_record import BURST_S, TagPresence
from gatewayd.core.tags import eddystone, itag, moko
from gatewayd.core.tags.text import parse_service_data
from gatewayd.core.topic import Kind
from gatewayd.gateway import EARLY, Gateway
from gatewayd.records import ALARM, COVERAGE, DRILL, NEXT, PLACE, RECORDING, REPLY, TAG, VISIT
from gatewayd.uplink import Batch

ADDRESS = "C4:11:22:33:44:55"
OTHER_ADDRESS = "C4:11:22:33:44:66"
TAG_NAME = "nurse-1-tag"
CLOCK = ClockState(boot="b", offset_s=1_700_000_000.0, source=ClockSource.NTP, uncertainty_ms=1)
CONFIGURATION = f"""
[gateway]
id = gw-1
[audio]
enabled = no
[tag {TAG_NAME}]
address = {ADDRESS}
worker = nurse-1
"""


def configured(more: str = "") -> Config:
    layers = Layers()
    layers.add((CONFIGURATION + more).encode(), "gatewayd.conf")
    return assemble(layers, credentials=None, machine_id="0" * 32).config


@dataclass
class Disk:
    """An uplink and its disk: keeps what is sent."""

    batches: list[Batch] = field(default_factory=list)
    records: dict[str, dict[str, str]] = field(default_factory=dict)

    def send(self, batch: Batch) -> None:
        self.batches.append(batch)
        for (kind, key), text in batch.records.items():
            self.records.setdefault(kind, {})[key] = text
        for kind, key in batch.forget:
            self.records.get(kind, {}).pop(key, None)

    def events(self, *types: str) -> list[Mapping[str, Any]]:
        """The alarm events sent so far."""
        found = []
        for batch in self.batches:
            for message in batch.messages:
                where = topic.parse(message.topic)
                if where is not None and where.kind is Kind.ALARM_EVENT and message.body["type"] in types:
                    found.append(message.body)
        return found


@dataclass
class Room:
    """A gateway, its disk, and a clock."""

    disk: Disk = field(default_factory=Disk)
    accepted: list[str] = field(default_factory=list)
    told: list[tuple[str, Told]] = field(default_factory=list)
    shown: list[Told] = field(default_factory=list)
    more: str = ""  # of the configuration
    now_s: float = 1_000.0
    boot: str = "b"
    tests_shown: int = 0  # in the room
    config: Config | None = None  # None: the plain one with `more`
    source: ClockSource = ClockSource.NTP

    def __post_init__(self) -> None:
        self.gateway = Gateway(
            configured(self.more) if self.config is None else self.config,
            run="run",
            now=self.now,
            accepted=self.accepted.append,
            tell_room=self.shown.append,
            tell_wearer=lambda tag, told: self.told.append((tag, told)),
            show_test=self.show_test,
        )
        self.gateway.sender = self.disk

    def show_test(self) -> None:
        self.tests_shown += 1

    def now(self) -> Instant:
        return Instant(
            boot=self.boot,
            mono_s=self.now_s,
            wall_s=1_700_000_000 + self.now_s,
            source=self.source,
            uncertainty_ms=1,
        )

    def press(self, packet_id: int = 1, event: int = 1) -> None:
        """Hear a plain BTHome frame with a pressed button: 1, or 4 for a long press."""
        uuid, data = parse_service_data(f"fcd2:4400{packet_id:02x}3a{event:02x}")
        advertisement = Advertisement(
            address=ADDRESS, heard_s=self.now_s, rssi_dbm=-60, service_data={uuid: data}
        )
        self.gateway.on_advertisement(advertisement)

    def fix(self) -> Fix:
        """A good one, now."""
        return Fix(mode=FixMode.FIX_3D, received=self.now(), lat=52.0, lon=4.0, hdop=1.0, satellites=9)

    def beat(self) -> None:
        """Hear a plain BTHome frame that nobody pressed."""
        uuid, data = parse_service_data("fcd2:4400003a00")
        self.gateway.on_advertisement(
            Advertisement(address=ADDRESS, heard_s=self.now_s, rssi_dbm=-60, service_data={uuid: data})
        )

    def states(self, which: str = TAG_NAME) -> list[Message]:
        """What was told of a tag so far."""
        sent = (message for batch in self.disk.batches for message in batch.messages)
        return [message for message in sent if message.topic == topic.tag(which)]

    def covered(self, at_s: float) -> Mapping[str, Any]:
        """What is answered of the tag's coverage."""
        now = self.now()
        moment = payload.at(replace(now, wall_s=now.wall_s + at_s - now.mono_s, boot="-"), CLOCK)
        self.command("coverage/get", tag=TAG_NAME, at=moment)
        found = self.disk.batches[-1].messages[-1].body["coverage"]
        assert isinstance(found, Mapping)
        return found

    def hop(self, kind: HopKind) -> None:
        """The last event that was sent came so far."""
        events = [
            message
            for batch in self.disk.batches
            for message in batch.messages
            if message.topic.endswith("/event")
        ]
        self.gateway.on_hop(events[-1], kind, self.now())

    def command(self, name: str, **fields: Any) -> None:
        body = {"id": f"{name}-1", "actor": {"id": "desk"}, **fields}
        self.gateway.on_command(command.Incoming(name=name, payload=json.dumps(body).encode()))


@pytest.fixture
async def room() -> Room:
    """A gateway that has read its records: there were none."""
    room = Room()
    room.gateway.restore({})
    return room


async def test_what_is_heard_before_the_records_are_read_is_kept_in_order() -> None:
    """A press, its copies and a command: nothing is decided without what the disk knows, nothing is lost."""
    room = Room()
    for _ in range(3):
        room.press()
    room.gateway.on_wired_press(room.now())
    assert room.disk.batches == []
    room.gateway.restore({})
    tag, wired = room.disk.events("raised")
    assert (tag["cause"], wired["cause"]) == ("panic", "wired")


async def test_what_is_kept_before_the_records_are_read_is_bounded() -> None:
    """A disk that does not answer and a tag that shouts fill no memory."""
    room = Room()
    for _ in range(EARLY + 500):
        room.press()
    room.gateway.restore({})
    assert len(room.disk.events("raised")) == 1


async def test_a_press_and_all_that_belongs_to_it_is_one_transaction(room: Room) -> None:
    """The event, the state, the tag's counter and its next alarm's id: all or nothing."""
    room.press()
    (batch,) = [batch for batch in room.disk.batches if batch.messages]
    (raised,) = room.disk.events("raised")
    assert [message.message_class for message in batch.messages] == [MessageClass.ALARM] * 2
    assert {kind for kind, _ in batch.records} == {ALARM, TAG, NEXT}
    assert batch.records[NEXT, TAG_NAME] != raised["alarm"]


async def test_an_alarms_id_was_stored_before_it_was_needed(room: Room) -> None:
    """So the press that is heard again after a kill raises under the same id, and another under another."""
    ready = dict(room.disk.records[NEXT])
    room.press(7)
    (raised,) = room.disk.events("raised")
    for number, same in ((7, True), (8, False)):
        again = Room()
        again.gateway.restore({NEXT: ready})
        again.press(number)
        assert (again.disk.events("raised")[0]["alarm"] == raised["alarm"]) is same


async def test_what_an_earlier_run_may_have_used_is_replaced_once_copies_are_over(room: Room) -> None:
    """Of the wired button, and of tags that do not number their presses."""
    ready = dict(room.disk.records[NEXT])
    again = Room(now_s=room.now_s)
    again.gateway.restore({NEXT: ready})
    again.press(7)
    again.now_s += BURST_S + 1
    again.gateway.on_tick()
    assert again.disk.records[NEXT][WIRED] != ready[WIRED]


async def test_a_restart_neither_raises_an_old_press_nor_loses_a_new_one(room: Room) -> None:
    """What was stored with the press is enough."""
    room.press(1)
    (raised,) = room.disk.events("raised")
    later = Room(now_s=room.now_s + 15)
    later.gateway.restore(room.disk.records)
    later.press(1)
    assert later.disk.events("raised", "repeated") == []
    assert later.gateway.open_alarms == 1
    later.press(2)
    (repeated,) = later.disk.events("raised", "repeated")
    assert (repeated["type"], repeated["alarm"]) == ("repeated", raised["alarm"])


@pytest.mark.parametrize("text", ["", "{", "null", '"x"', "[]", '{"id": 1}', "\ud800"])
@pytest.mark.parametrize("kind", [TAG, NEXT, ALARM, RECORDING, REPLY])
async def test_a_damaged_record_costs_no_press(kind: str, text: str) -> None:
    """Whatever stands on the disk, the next press raises."""
    room = Room()
    room.gateway.restore({kind: {TAG_NAME: text}})
    room.press()
    assert len(room.disk.events("raised")) == 1


async def test_the_room_is_told_what_has_the_alarm_first_the_disk_or_the_broker(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """And the journal is; for what called for help and for nothing else."""
    caplog.set_level(logging.INFO)
    room.press()
    room.hop(HopKind.PUBLISHED)
    room.hop(HopKind.CONFIRMED)
    room.hop(HopKind.STORED)
    assert room.accepted == ["broker", "disk"]
    (raised,) = room.disk.events("raised")
    room.command("alarm/received", alarm=raised["alarm"])
    room.hop(HopKind.STORED)
    assert room.accepted == ["broker", "disk"]
    written = [vars(record) for record in caplog.records]
    told = [each["ALARM_ID"] for each in written if each.get("MESSAGE_ID") == MessageId.ALARM_ACCEPTED]
    assert told == [raised["alarm"], raised["alarm"]]


async def test_how_far_an_alarm_has_come_is_in_its_state(room: Room) -> None:
    """It waits for the state's next telling."""
    room.press()
    room.hop(HopKind.CONFIRMED)
    (raised,) = room.disk.events("raised")
    room.command("alarm/accept", alarm=raised["alarm"])
    state = next(
        message.body for message in room.disk.batches[-1].messages if message.topic.endswith("/state")
    )
    assert state["hops_ms"] == {"heard": 0, "decided": 0.0, "confirmed": 0.0}


async def test_a_replaced_database_gets_all_that_must_outlive_a_restart(room: Room) -> None:
    """Tags, next ids, open alarms and replies, tests and where we are, from memory."""
    room.gateway.on_fix(room.fix())
    room.press()
    (raised,) = room.disk.events("raised")
    room.command("alarm/accept", alarm=raised["alarm"])
    known, room.disk.records = room.disk.records, {}
    room.gateway.on_outbox_replaced()
    assert room.disk.records.pop(COVERAGE)
    assert room.disk.records.pop(DRILL)
    assert room.disk.records.pop(PLACE) == known.pop(PLACE)
    assert room.disk.records == known
    assert set(known) == {TAG, NEXT, ALARM, REPLY}


async def test_a_tag_that_a_reload_adds_has_an_alarm_id_at_once(room: Room) -> None:
    """And tags that stay keep theirs."""
    before = dict(room.disk.records[NEXT])
    room.gateway.configure(configured("[tag nurse-2-tag]\naddress = C4:11:22:33:44:66\n"))
    after = room.disk.records[NEXT]
    assert after.items() > before.items()
    assert set(after) - set(before) == {"nurse-2-tag"}


async def test_an_alarm_the_broker_knows_is_taken_up_once_and_nonsense_never(room: Room) -> None:
    """What the disk knows counts for more; what is no state message is left alone."""
    room.press()
    name = str(room.disk.events("raised")[0]["alarm"])
    for body in (b"", b"{", b"[]", b'{"alarm": 1}', b"\xff" * 70_000):
        room.gateway.on_retained_alarm(name, body)
        batches = len(room.disk.batches)
        room.gateway.on_retained_alarm(name, body)
        assert len(room.disk.batches) == batches
        room.gateway.on_retained_alarm("other", body)
    assert room.gateway.open_alarms == 1


async def test_a_broker_that_forgot_is_told_the_alarms_once_they_are_known() -> None:
    """A session may come before the records are read; what is said of it is said then."""
    before = Room()
    before.gateway.restore({})
    before.press()
    room = Room()
    room.gateway.on_forgotten()
    assert room.disk.batches == []
    room.gateway.restore(before.disk.records)
    states = [each for batch in room.disk.batches for each in batch.messages if each.topic.endswith("/state")]
    assert len(states) == 1
    assert states[0].retain


async def test_positions_are_told_while_an_alarm_is_open_and_not_else(room: Room) -> None:
    """Every 5 s; `[gps] publish = alarm` is the default."""

    def told() -> int:
        return sum(
            message.topic == topic.POSITION for batch in room.disk.batches for message in batch.messages
        )

    def drive(seconds: int) -> None:
        for _ in range(seconds):
            room.now_s += 1
            room.gateway.on_fix(room.fix())
            room.gateway.on_tick()

    drive(20)
    assert told() == 0
    room.press()
    drive(21)
    assert told() in {4, 5}


async def test_an_advertisement_of_nobody_is_not_looked_into(room: Room) -> None:
    """And one of ours that no decoder claims is no press."""
    before = len(room.disk.batches)
    room.gateway.on_advertisement(Advertisement(address="00:00:00:00:00:01", heard_s=room.now_s))
    room.gateway.on_advertisement(Advertisement(address=ADDRESS, heard_s=room.now_s))
    assert len(room.disk.batches) == before
    assert room.gateway.listener.hearing == 0
    room.press()
    assert room.gateway.listener.hearing == 1


async def test_what_a_slow_disk_says_late_is_taken_where_nothing_newer_is_known(room: Room) -> None:
    """An open alarm of the run before is known again; its tag was not heard yet, so a copy is none."""
    before = Room()
    before.gateway.restore({})
    before.press()
    (raised,) = before.disk.events("raised")
    room.gateway.restore_late(before.disk.records)
    assert room.gateway.open_alarms == 1
    room.press()
    assert room.disk.events("raised", "repeated") == []
    room.command("alarm/accept", alarm=raised["alarm"])
    assert len(room.disk.events("accepted")) == 1


async def test_an_alarm_that_the_broker_told_of_first_has_its_address_again_when_the_disk_answers() -> None:
    """The broker never had it: what is read back from there is not stored while the disk may know better."""
    before = Room()
    before.gateway.restore({})
    visit_opened(before)
    before.press()
    (raised,) = before.disk.events("raised")
    sent = (message for batch in before.disk.batches for message in batch.messages)
    state = next(message for message in sent if message.topic == f"alarm/{raised['alarm']}/state")
    told = payload.render(state, gateway="gw-1", clock=CLOCK, published=before.now())
    room = Room(now_s=before.now_s + 5)
    room.gateway.restore({})
    room.gateway.on_retained_alarm(raised["alarm"], told.payload)
    assert ALARM not in room.disk.records
    room.gateway.restore_late(before.disk.records)
    room.command("alarm/accept", alarm=raised["alarm"])
    (accepted,) = room.disk.events("accepted")
    assert accepted["visit"]["address"] == WHERE


async def test_a_vehicle_does_not_stand_where_a_depot_does(room: Room) -> None:
    """Coordinates of a vehicle are not its position; without a fix there is none."""
    room.gateway.configure(configured("[gateway]\nlatitude = 52.1\nlongitude = 5.1\n"))
    room.press()
    (raised,) = room.disk.events("raised")
    assert "position" not in raised


async def test_a_press_told_over_a_connection_is_one_however_soon_after_another(room: Room) -> None:
    """Each notification came once: the second of two is counted, though it says the same."""
    room.gateway.configure(configured("[tag connected]\nformat = itag\naddress = C4:11:22:33:44:66\n"))
    for _ in range(2):
        room.gateway.on_report("connected", itag.notified(b"\x01"), room.now_s)
    (raised,) = room.disk.events("raised")
    assert raised["tag"]["format"] == "itag"
    assert json.loads(room.disk.records[ALARM][raised["alarm"]])["presses"] == 2


async def test_what_is_told_over_a_connection_before_the_records_are_read_is_kept() -> None:
    room = Room()
    room.gateway.on_report(TAG_NAME, itag.notified(b"\x01"), room.now_s)
    assert room.disk.batches == []
    room.gateway.restore({})
    assert len(room.disk.events("raised")) == 1


async def test_a_tag_that_is_configured_no_more_tells_nothing(room: Room) -> None:
    """A report may be under way while a reload takes its tag out."""
    room.gateway.on_report("gone", itag.notified(b"\x01"), room.now_s)
    assert room.disk.events("raised") == []


@pytest.mark.parametrize("hops", [(HopKind.STORED, HopKind.CONFIRMED), (HopKind.CONFIRMED, HopKind.STORED)])
async def test_the_wearer_is_told_once_that_the_alarm_is_safe_and_then_that_it_is_received(
    room: Room, hops: tuple[HopKind, ...]
) -> None:
    """Disk or broker, whichever is first; a person at ops after that."""
    room.press()
    room.hop(HopKind.PUBLISHED)
    assert room.told == []
    room.hop(hops[0])
    assert room.told == [(TAG_NAME, Told.STORED)]
    room.hop(hops[1])
    (raised,) = room.disk.events("raised")
    room.command("alarm/received", alarm=raised["alarm"])
    assert room.told == [(TAG_NAME, Told.STORED), (TAG_NAME, Told.RECEIVED)]


async def test_the_room_is_told_what_ops_do(room: Room) -> None:
    """That it was received, and that somebody is on the way."""
    room.press()
    (raised,) = room.disk.events("raised")
    for name in ("received", "accept", "respond"):
        room.command(f"alarm/{name}", alarm=raised["alarm"])
    assert room.shown == [Told.RECEIVED, Told.ON_THE_WAY]


@pytest.mark.parametrize("meaning", ["cancel_on", "duress_on"])
async def test_a_cancelling_and_a_duress_press_look_alike(meaning: str) -> None:
    """From either on nothing near the wearer tells of the alarm any more, whatever ops do."""
    room = Room(more=f"alarm_on = press\n{meaning} = long")
    room.gateway.restore({})
    room.press()
    room.hop(HopKind.STORED)
    room.now_s += 20
    room.press(2, event=4)
    room.hop(HopKind.STORED)
    room.hop(HopKind.CONFIRMED)
    (raised,) = room.disk.events("raised")
    for name in ("received", "accept", "respond"):
        room.command(f"alarm/{name}", alarm=raised["alarm"])
    assert (room.accepted, room.told, room.shown) == (["disk"], [(TAG_NAME, Told.STORED)], [])
    [told] = room.disk.events("cancel_requested" if meaning == "cancel_on" else "escalated")
    assert (told["alarm"], told.get("reason")) == (
        raised["alarm"], None if meaning == "cancel_on" else "duress"
    )  # fmt: skip


@pytest.mark.parametrize(("meaning", "causes"), [("cancel_on", []), ("duress_on", ["duress"])])
async def test_without_an_open_alarm_they_look_alike_too(meaning: str, causes: list[str]) -> None:
    """Nothing shows; a duress press has raised an alarm."""
    room = Room(more=f"{meaning} = long")
    room.gateway.restore({})
    room.press(2, event=4)
    for kind in HopKind if causes else ():
        room.hop(kind)
    assert [event["cause"] for event in room.disk.events("raised")] == causes
    assert (room.accepted, room.told, room.shown) == ([], [], [])


async def test_ops_raise_an_alarm_for_a_tag_of_this_gateway(room: Room) -> None:
    """It is there as if pressed, but nothing near tells of it, and a press then belongs to it."""
    room.command("alarm/raise", tag=TAG_NAME, cause="manual", note="She rang: somebody is at the door.")
    (raised,) = room.disk.events("raised")
    assert (raised["presses"], raised["cause"]) == (0, "manual")
    room.hop(HopKind.STORED)
    assert room.accepted == []
    room.press()
    assert len(room.disk.events("raised")) == 1
    assert [event["presses"] for event in room.disk.events("repeated")] == [1]


async def test_an_alarm_nobody_takes_is_escalated_while_the_broker_is_away(room: Room) -> None:
    """By the gateway's own ticks; it stops when somebody takes it."""
    room.press()
    levels = []
    for _ in range(100):
        room.now_s += 1
        room.gateway.on_tick()
        levels.append(len(room.disk.events("escalated")))
    assert (levels[28], levels[29], levels[59], levels[99]) == (0, 1, 2, 2)
    room.command("alarm/accept", alarm=room.disk.events("raised")[0]["alarm"])
    room.now_s += 1_000
    room.gateway.on_tick()
    assert len(room.disk.events("escalated")) == 2


async def test_the_wired_button_has_no_wearer_to_tell(room: Room) -> None:
    room.gateway.on_wired_press(room.now())
    room.hop(HopKind.STORED)
    assert room.accepted == ["disk"]
    assert room.told == []


# --- coverage -----------------------------------------------------------------------------------------------

HOUR_S = 3_600


def hours(room: Room, count: int) -> None:
    """A tag near that sends a heartbeat every 8 s."""
    for _ in range(count * HOUR_S // 8):
        room.now_s += 8
        room.gateway.listener.concerns("", {}, {}, -70)
        room.beat()
        room.gateway.on_tick()


async def test_a_strength_that_bluez_withdraws_is_no_hearing(room: Room) -> None:
    """The end of a scan that died does not make its deafness shorter."""
    supervisor, began_s = room.gateway.supervisor, room.now_s
    supervisor.radio(State.OK, "hci0 scans and hears")
    for rssi_dbm in (-70, None):
        room.now_s += 100
        room.gateway.listener.concerns("", {}, {}, rssi_dbm)
        room.gateway.on_tick()
    room.now_s += 1
    supervisor.radio(State.FAILED, "hci0 stopped scanning: starting again")
    (block,) = supervisor.record.blocks(room.now())
    assert [(span.from_s, span.hearing) for span in block.spans][-1] == (101, "deaf")
    assert room.now_s == began_s + 201


async def test_a_quiet_day_is_written_with_what_is_written_anyway(room: Room) -> None:
    """The record rides with what is remembered of the tag, every 10 min, and is small."""
    room.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    hours(room, 24)
    batches = [batch for batch in room.disk.batches if any(kind == COVERAGE for kind, _ in batch.records)]
    alone = [batch for batch in batches if all(kind == COVERAGE for kind, _ in batch.records)]
    assert 24 * 5 < len(batches) <= 24 * 6 + 2
    assert len(alone) <= 2
    texts = [text for batch in batches for (kind, _), text in batch.records.items() if kind == COVERAGE]
    assert max(map(len, texts)) < 250
    assert len(room.disk.records[COVERAGE]) in {24, 25}


async def test_a_record_is_written_alone_when_nobody_is_heard(room: Room) -> None:
    """That a tag was not heard is a record, too; lost hearing is told to the disk soon."""

    def pass_time(seconds: int) -> int:
        before = len(room.disk.batches)
        for _ in range(seconds):
            room.now_s += 1
            room.gateway.on_tick()
        return sum(any(kind == COVERAGE for kind, _ in batch.records) for batch in room.disk.batches[before:])

    room.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    assert pass_time(1) == 1
    assert pass_time(680) == 0
    assert pass_time(20) == 1
    room.gateway.supervisor.radio(State.FAILED, "no adapter")
    assert pass_time(61) == 1


async def test_what_was_covered_is_known_after_a_restart() -> None:
    """And the time between is one in which nobody ran; a damaged record is told and left out."""
    before = Room()
    before.gateway.restore({})
    before.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    hours(before, 2)
    last_s = before.now_s
    before.gateway.finish()
    room = Room(now_s=last_s + 600)
    room.gateway.restore(before.disk.records | {COVERAGE: {**before.disk.records[COVERAGE], "x": "{"}})
    room.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    room.now_s += 300
    assert room.covered(last_s - 100)["verdict"] == "covered"
    assert room.covered(last_s + 100)["why"] == "the gateway was not running"
    assert room.covered(room.now_s - 10)["verdict"] == "not_heard"
    room.gateway.on_tick()
    assert room.states()[-1].body["heard_since_start"] is True  # in this boot


async def test_another_database_gets_the_whole_record(room: Room) -> None:
    """Not only the block that grows."""
    room.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    hours(room, 3)
    known, room.disk.records = room.disk.records[COVERAGE], {}
    room.gateway.on_outbox_replaced()
    assert room.disk.records[COVERAGE].keys() >= known.keys()
    assert len(known) >= 3


async def test_after_a_stop_the_newest_fix_is_known() -> None:
    """Also that of a vehicle that stands: after a restart in a garage it is what is told."""
    before = Room()
    before.gateway.restore({})
    before.gateway.on_fix(before.fix())
    before.press()
    before.now_s += 300
    before.gateway.on_fix(before.fix())
    before.gateway.finish()
    room = Room(now_s=before.now_s + 20)
    room.gateway.restore(before.disk.records)
    room.gateway.on_tick()
    (told,) = (each for batch in room.disk.batches for each in batch.messages if each.topic == topic.POSITION)
    assert told.body["age_s"] == pytest.approx(20)


async def test_before_its_records_are_read_a_stop_writes_nothing() -> None:
    room = Room()
    room.gateway.finish()
    assert room.disk.batches == []


async def test_a_tags_state_is_told_again_when_the_broker_forgot_or_the_clock_is_known(room: Room) -> None:
    """What a retained message said of times was said by another clock."""
    room.gateway.on_tick()
    room.gateway.on_tick()
    assert len(room.states()) == 1
    room.gateway.on_forgotten()
    room.gateway.on_tick()
    assert len(room.states()) == 2
    room.source = ClockSource.GNSS
    room.gateway.on_tick()
    assert len(room.states()) == 3


async def test_a_revoked_tag_is_withdrawn() -> None:
    """While the gateway runs, and where it was revoked while nobody ran."""
    room = Room()
    room.gateway.restore({TAG: {"old": "{}"}})
    (withdrawn,) = room.states("old")
    assert withdrawn.clears
    room.gateway.configure(configured("[tag other]\naddress = C4:11:22:33:44:66\n"))
    assert room.states() == []
    layers = Layers()
    layers.add(b"[gateway]\nid = gw-1\n[audio]\nenabled = no\n", "gatewayd.conf")
    room.gateway.configure(assemble(layers, credentials=None, machine_id="0" * 32).config)
    assert [message.clears for message in room.states()] == [True]


async def test_copies_of_a_press_that_a_stop_cuts_in_two_are_one_press(room: Room) -> None:
    """Of a tag that numbers nothing only silence tells presses apart: what was heard to the end is stored."""
    uuid, data = parse_service_data("fcd2:403a01")
    copy = Advertisement(address=ADDRESS, heard_s=room.now_s, rssi_dbm=-60, service_data={uuid: data})
    for _ in range(5):
        room.gateway.on_advertisement(replace(copy, heard_s=room.now_s))
        room.now_s += 1
    room.gateway.finish()
    again = Room(now_s=room.now_s + 6.5)
    again.gateway.restore(room.disk.records)
    again.gateway.on_advertisement(replace(copy, heard_s=again.now_s))
    assert again.disk.events("raised", "repeated") == []


async def test_the_same_state_of_the_radio_again_changes_nothing(room: Room) -> None:
    """A radio that hears may say this and that of itself."""
    room.gateway.supervisor.radio(State.OK, "hci0 scans and hears")
    room.now_s += 100
    room.gateway.supervisor.radio(State.DEGRADED, "hci0 scans; advertisement monitors are not available")
    room.now_s += 10
    assert room.covered(room.now_s)["verdict"] == "not_heard"


# --- Home Assistant and OwnTracks ---------------------------------------------------------------------------

HOME = "[home_assistant]\ndiscovery_prefix = homeassistant\n"
DEVICE = "/homeassistant/device/gw-1/config"
TAG_DEVICE = f"/homeassistant/device/gw-1/{TAG_NAME}/config"


def newest(room: Room, name: str) -> Message | None:
    """The last message sent to a topic."""
    found = [message for batch in room.disk.batches for message in batch.messages if message.topic == name]
    return found[-1] if found else None


def test_home_assistant_is_told_nothing_unless_configured() -> None:
    room = Room()
    room.gateway.restore({})
    room.press()
    assert newest(room, DEVICE) is None
    assert newest(room, topic.ALARMS) is None


def test_open_alarms_are_told_to_home_assistant_as_they_come_and_go() -> None:
    """Once for each change, with the alarm's own event and not later."""
    room = Room()
    room.gateway.configure(configured(HOME))
    room.gateway.restore({})
    before = newest(room, topic.ALARMS)
    assert before is not None
    assert before.body["open"] == []
    room.press()
    told = newest(room, topic.ALARMS)
    assert told is not None
    found: Any = told.body["open"]
    assert [each["tag"] for each in found] == [TAG_NAME]
    room.gateway.on_tick()
    assert newest(room, topic.ALARMS) is told


def test_a_tag_that_was_revoked_is_withdrawn_from_home_assistant() -> None:
    """Also where that happened while nobody ran: what was announced once is remembered."""
    room = Room()
    room.gateway.configure(configured(HOME))
    room.gateway.restore({})
    assert newest(room, TAG_DEVICE) is not None
    later = Room(disk=Disk(records=room.disk.records))
    later.gateway.configure(replace(configured(HOME), tags=()))
    later.gateway.restore(room.disk.records)
    gone = newest(later, TAG_DEVICE)
    assert gone is not None
    assert gone.clears
    kept = newest(later, DEVICE)
    assert kept is not None
    assert not kept.clears


def test_another_discovery_prefix_withdraws_what_was_told_below_the_first() -> None:
    """While the daemon runs; what is below the new one stands."""
    room = Room()
    room.gateway.configure(configured(HOME))
    room.gateway.restore({})
    room.gateway.configure(configured(HOME.replace("= homeassistant", "= home")))
    gone, told = newest(room, DEVICE), newest(room, "/home/device/gw-1/config")
    assert gone is not None
    assert gone.clears
    assert told is not None
    assert not told.clears


def test_a_position_that_is_published_is_told_to_owntracks_too() -> None:
    room = Room()
    room.gateway.configure(configured("[owntracks]\ntopic = owntracks/fleet\n[gps]\npublish = always\n"))
    room.gateway.restore({})
    room.gateway.on_fix(Fix(mode=FixMode.FIX_3D, received=room.now(), lat=52.1, lon=5.1))
    told = newest(room, "/owntracks/fleet/gw-1")
    assert told is not None
    assert (told.body["_type"], told.body["lat"]) == ("location", 52.1)
    assert newest(room, topic.POSITION) is not None


# --- visits -------------------------------------------------------------------------------------------------

WHERE = {"street": "Dam", "number": "1", "floor": "3"}


def visit_opened(room: Room, ends_s: float = 600.0, **more: Any) -> None:
    """Open a visit of the tag's worker that ends so many seconds from now."""
    end = payload.at(replace(room.now(), wall_s=room.now().wall_s + ends_s, boot="-"), CLOCK)
    room.command("visit/open", visit="v-1", worker="nurse-1", expected_end=end, address=WHERE, **more)


def visit_told(room: Room) -> list[Mapping[str, Any]]:
    """What was told on the visit's topic so far."""
    sent = (message for batch in room.disk.batches for message in batch.messages)
    return [message.body for message in sent if message.topic == topic.visit("v-1")]


async def test_a_battery_that_is_told_in_mv_is_warned_of_before_the_door() -> None:
    """A MOKO at 2.0 V: on its own topic, and in the visit's warnings, which a load of 50 mV does not move."""
    room = Room(config=configured(f"[tag {TAG_NAME}]\nformat = moko\n"))
    room.gateway.restore({})
    room.gateway.supervisor.radio(State.OK, "scans")
    for millivolt in (2000, 2050, 2000, 2050):
        response = (
            bytes.fromhex("00 00 0010 0001 0002 03E8 0190 BA") + millivolt.to_bytes(2, "big") + bytes(6)
        )
        room.gateway.on_advertisement(
            Advertisement(
                address=ADDRESS, heard_s=room.now_s, rssi_dbm=-60, service_data={moko.RESPONSE: response}
            )
        )
        room.now_s += 1
        room.gateway.on_tick()
        if not visit_told(room):
            visit_opened(room)
    assert [(told.body["battery"], told.body["battery_mv"]) for told in room.states()] == [("critical", 2000)]
    assert visit_told(room)[-1]["warnings"] == ["battery_critical"]


async def test_a_battery_from_before_a_restart_is_known_before_the_first_tick() -> None:
    """A visit that is on when the gateway starts is looked at then."""
    room = Room()
    told = TagPresence(last_seen=room.now(), battery_pct=5)
    room.gateway.restore({TAG: {TAG_NAME: told.to_json()}})
    assert room.gateway.supervisor.batteries(room.gateway.listener.presences) == {TAG_NAME: Charge.CRITICAL}


async def test_eddystone_telemetry_is_heard_and_never_a_press() -> None:
    """By the address beside the identity: it is seen at rest, with its battery; its identity is the press."""
    namespace, instance = "00112233445566778899", "aabbccddeeff"
    section = f"[tag e]\nformat = eddystone\nnamespace = {namespace}\ninstance = {instance}\naddress = "
    room = Room(config=configured(section + OTHER_ADDRESS))
    room.gateway.restore({})
    room.gateway.supervisor.radio(State.OK, "scans")

    def hear(data: str, address: str) -> None:
        frame = {eddystone.SERVICE: bytes.fromhex(data)}
        room.gateway.on_advertisement(
            Advertisement(address=address, heard_s=room.now_s, rssi_dbm=-60, service_data=frame)
        )
        room.now_s += 1
        room.gateway.on_tick()

    hear("2000 09C4 1500 00000102 00000A00", OTHER_ADDRESS)
    hear("00E7" + namespace + "000000000000", OTHER_ADDRESS)
    assert [(told.body["state"], told.body["battery"]) for told in room.states("e")] == [("seen", "critical")]
    assert room.disk.events("raised") == []
    hear("00E7" + namespace + instance, "5A:00:00:00:00:01")
    assert [event["tag"]["id"] for event in room.disk.events("raised")] == ["e"]


async def test_a_press_on_a_visit_tells_the_address(room: Room) -> None:
    """And one after it does not."""
    visit_opened(room)
    room.press(1)
    room.command("visit/close", visit="v-1")
    room.gateway.on_wired_press(room.now())
    tag, wired = room.disk.events("raised")
    assert tag["visit"]["address"] == WHERE
    assert "visit" not in wired


@pytest.mark.parametrize("whose", [{"worker": "nurse-1"}, {"tag": TAG_NAME}])
async def test_an_alarm_that_ops_raise_tells_the_visit_of_its_worker(
    room: Room, whose: dict[str, str]
) -> None:
    """By whichever of the two they said whom they mean."""
    visit_opened(room)
    room.command("alarm/raise", cause="duress", **whose)
    (raised,) = room.disk.events("raised")
    assert raised["visit"]["address"] == WHERE


async def test_an_alarm_that_ops_raise_for_another_tells_nothing_of_the_visit(room: Room) -> None:
    visit_opened(room)
    room.command("alarm/raise", cause="manual", worker="nurse-2")
    (raised,) = room.disk.events("raised")
    assert "visit" not in raised


@pytest.mark.parametrize("meaning", ["cancel_on", "duress_on"])
async def test_who_was_made_to_press_is_not_given_away_when_time_is_up(meaning: str) -> None:
    """Whoever stands there takes the press for a check-out; a beep would say that the visit goes on."""
    room = Room(more=f"alarm_on = press\n{meaning} = long")
    room.gateway.restore({})
    visit_opened(room)
    room.press(1)
    room.press(2, event=4)
    room.hop(HopKind.STORED)
    room.told.clear()
    room.now_s += 660
    room.gateway.on_tick()
    assert visit_told(room)[-1]["event"] == "overdue"
    assert (room.told, room.shown) == ([], [])
    room.now_s += 30
    room.gateway.on_tick()
    assert [event["cause"] for event in room.disk.events("raised")][-1] == "overdue"


async def test_nor_by_a_gateway_that_is_started_meanwhile_and_whose_disk_answers_late() -> None:
    room = Room(more="duress_on = long")
    room.gateway.restore({})
    visit_opened(room)
    room.press(1, event=4)
    again = Room(more="duress_on = long", now_s=room.now_s + 660)
    again.gateway.restore({})
    again.gateway.restore_late(room.disk.records)
    assert visit_told(again)[-1]["event"] == "overdue"
    assert (again.told, again.shown) == ([], [])


async def test_a_time_that_is_up_again_is_told_while_the_alarm_of_the_first_is_open(room: Room) -> None:
    """Extended after its alarm: nobody pressed anything that had to look like a check-out."""
    visit_opened(room)
    for seconds in (660, 30):
        room.now_s += seconds
        room.gateway.on_tick()
    room.command("visit/extend", visit="v-1")
    room.now_s += 15 * 60 + 60
    room.gateway.on_tick()
    assert room.told == [(TAG_NAME, Told.TIME_UP)] * 2
    assert room.shown == [Told.TIME_UP] * 2


async def test_a_visit_closed_while_its_alarm_is_open_leaves_the_alarm(room: Room) -> None:
    """Only people close it; who takes it is still told where, though the visit has forgotten it."""
    visit_opened(room)
    for seconds in (660, 30):
        room.now_s += seconds
        room.gateway.on_tick()
    (raised,) = room.disk.events("raised")
    room.command("visit/close", visit="v-1")
    assert "Dam" not in room.disk.records[VISIT]["v-1"]
    again = Room(now_s=room.now_s + 5)
    again.gateway.restore(room.disk.records)
    again.command("alarm/accept", alarm=raised["alarm"])
    (accepted,) = again.disk.events("accepted")
    assert (accepted["alarm"], accepted["visit"]["address"]) == (raised["alarm"], WHERE)


async def test_an_overdue_visit_and_its_alarm_are_one_transaction(room: Room) -> None:
    """So that it is neither lost nor raised under another id; the address is in it, and nowhere else."""
    visit_opened(room)
    room.now_s += 660
    room.gateway.on_tick()
    assert room.told == [(TAG_NAME, Told.TIME_UP)]
    assert visit_told(room)[-1]["event"] == "overdue"
    room.now_s += 30
    room.gateway.on_tick()
    (raised,) = room.disk.events("raised")
    assert (raised["cause"], raised["severity"], raised["worker"]) == ("overdue", "high", "nurse-1")
    assert raised["visit"]["address"] == WHERE
    (batch,) = [
        batch for batch in room.disk.batches if any("/event" in each.topic for each in batch.messages)
    ]
    assert {(VISIT, "v-1"), (ALARM, raised["alarm"])} <= batch.records.keys()
    assert visit_told(room)[-1]["alarm"] == raised["alarm"]
    assert all("address" not in body for body in visit_told(room))


async def test_a_restart_goes_on_watching(room: Room) -> None:
    """From what the disk has; also when it answers late."""
    visit_opened(room)
    for late in (False, True):
        again = Room(now_s=room.now_s + 690)
        if late:
            again.gateway.restore({})
            again.gateway.restore_late(room.disk.records)
        else:
            again.gateway.restore(room.disk.records)
        (raised,) = again.disk.events("raised")
        assert raised["visit"]["address"] == WHERE


async def test_all_that_is_known_of_visits_is_stored_when_the_power_may_go(room: Room) -> None:
    visit_opened(room)
    room.disk.records.clear()
    room.gateway.store_all()
    assert "v-1" in room.disk.records[VISIT]


async def test_a_broker_that_forgot_is_told_of_visits_again(room: Room) -> None:
    visit_opened(room)
    before = len(visit_told(room))
    room.gateway.on_forgotten()
    assert len(visit_told(room)) == before + 1


async def test_a_press_of_check_out_closes_the_visit(room: Room) -> None:
    """It raises no alarm; on no visit it says nothing; and the counter is stored with it."""
    room.gateway.configure(configured("alarm_on = long\ncheckout_on = press\n"))
    room.press(1)
    assert visit_told(room) == []
    visit_opened(room)
    room.press(2)
    (batch,) = [batch for batch in room.disk.batches if (VISIT, "v-1") in batch.records][1:]
    assert (TAG, TAG_NAME) in batch.records
    assert visit_told(room)[-1]["state"] == "closed"
    assert room.disk.events("raised") == []
    assert "Dam" not in room.disk.records[VISIT]["v-1"]


async def test_a_check_out_of_a_tag_without_a_worker_says_nothing(room: Room) -> None:
    nobodys = CONFIGURATION.replace("worker = nurse-1", "checkout_on = press")
    layers = Layers()
    layers.add(nobodys.encode(), "gatewayd.conf")
    room.gateway.configure(assemble(layers, credentials=None, machine_id="0" * 32).config)
    visit_opened(room)
    room.press(1)
    assert visit_told(room)[-1]["state"] == "open"


async def test_an_erased_visit_leaves_no_record(room: Room) -> None:
    visit_opened(room)
    room.command("visit/close", visit="v-1")
    room.now_s += 24 * 3_600
    room.gateway.on_tick()
    assert room.disk.records[VISIT] == {}


async def test_a_silent_tag_is_told_before_the_door(room: Room) -> None:
    room.gateway.supervisor.radio(State.OK, "scans")
    room.now_s += 120
    room.gateway.listener.concerns("", {}, {}, -70)  # somebody else is heard
    room.gateway.on_tick()
    visit_opened(room)
    room.gateway.on_tick()
    assert visit_told(room)[-1]["warnings"] == ["tag_lost"]


async def test_positions_are_told_during_a_visit_where_so_configured(room: Room) -> None:
    room.gateway.configure(configured("[gps]\npublish = visit\n"))

    def positions() -> int:
        sent = (message for batch in room.disk.batches for message in batch.messages)
        return sum(message.topic == topic.POSITION for message in sent)

    fix = Fix(mode=FixMode.FIX_3D, received=room.now(), lat=52.0, lon=5.0)
    room.gateway.on_fix(fix)
    assert positions() == 0
    visit_opened(room)
    room.gateway.on_fix(fix)
    assert positions() == 1
