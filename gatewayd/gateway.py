"""Carries out what the core decides: what is heard goes in; what must be sent, stored and recorded goes out.

Everything here runs on the event loop and waits for nothing. What one turn of the core asks to be published
and saved goes into one batch, so it is stored together or not at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

from gatewayd.config.model import Config
from gatewayd.core import alarm as alarms
from gatewayd.core import command, coverage, desk, payload, tags, topic
from gatewayd.core.alarm.model import WIRED
from gatewayd.core.button import to_wearer
from gatewayd.core.coverage.record import Changes
from gatewayd.core.journal import MessageId, fields
from gatewayd.core.model import (
    Advertisement,
    Body,
    Draft,
    Fix,
    Instant,
    Keep,
    Message,
    MessageClass,
    Press,
    State,
    Subject,
    Tag,
    TagEvent,
    TagReport,
    Told,
)
from gatewayd.core.next_ids import NextIds, Seeds
from gatewayd.core.presence import TagPresence, observe
from gatewayd.core.roster import Roster
from gatewayd.core.track import Track
from gatewayd.core.uuid7 import RANDOM_BYTES, uuid7
from gatewayd.recorder import Recorder
from gatewayd.supervisor import Supervisor
from gatewayd.uplink import Batch

logger = logging.getLogger(__name__)

# What may come before the disk's records were read: presses of every tag a gateway may have, and commands.
EARLY: Final = 10_000
# More than can have been published since the broker's state of an adopted alarm was told: minutes of sound.
CHUNKS_UNTOLD: Final = 1_000
SEEN_S: Final = 30.0  # a tag heard this recently counts as heard, in the STATUS line

_Value = TypeVar("_Value")
_MESSAGE_IDS: Final = {"raised": MessageId.ALARM_RAISED, "closed": MessageId.ALARM_CLOSED}

# The kinds of record in the outbox.
TAG: Final = "tag"
NEXT: Final = "next_alarm"
ALARM: Final = "alarm"
RECORDING: Final = "recording"
REPLY: Final = "reply"
COVERAGE: Final = coverage.KIND
RECORDS: Final = (TAG, NEXT, ALARM, RECORDING, REPLY, COVERAGE)


Effect: TypeAlias = alarms.Effect | desk.SaveReply | desk.ForgetReply
RecordKey: TypeAlias = tuple[str, str]
Put: TypeAlias = Mapping[RecordKey, str]  # records to be stored
Records: TypeAlias = Mapping[str, Mapping[str, str]]  # as the disk has them: by kind, then by key


class Sender(Protocol):
    """What everything leaves through: `uplink.Uplink`."""

    def send(self, batch: Batch) -> None:
        """Store and publish; neither waits for the other."""


class Gateway:
    """What the gateway knows while it runs: tags' presence, open alarms, the newest fix, the recording."""

    def __init__(
        self,
        config: Config,
        *,
        run: str,
        now: Callable[[], Instant],
        accepted: Callable[[Literal["disk", "broker"]], None],
        tell_wearer: Callable[[str, Told], None] = lambda _tag, _told: None,
    ) -> None:
        """`accepted` tells the room that an alarm is safe, `tell_wearer` a tag; silent unless configured."""
        self.sender: Sender  # the uplink, which is made after the gateway and may be made anew
        self._now = now
        self._accepted = accepted
        self._tell_wearer = tell_wearer
        self._stamper = payload.Stamper(run)
        self._alarms: alarms.Alarms = {}
        self._presences: dict[str, TagPresence] = {}
        self._saved: dict[str, Instant] = {}
        self._next_ids = NextIds(self._new_id)
        self._replies: desk.Replies = {}
        self._track = Track()
        self._early: dict[object, Callable[[], None]] | None = {}  # None: the disk's records have been read
        self.recorder = Recorder(now=now, on_event=self._step, on_chunk=self._chunk)
        self._supervisor = Supervisor(config.tags, now=now, publish=self.publish)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Work with a configuration from now on. What is known of tags that stay is kept."""
        self._config = config
        self.recorder.configure(rate_hz=config.audio.rate_hz, chunk_s=config.audio.chunk_s)
        self._roster = Roster(config.tags)
        self._tags = {tag.name: tag for tag in config.tags}
        self._supervisor.configure(config.tags)
        self._settings = alarms.Settings(audio=config.audio.enabled, duration_s=config.audio.duration_s)
        if self._early is None:
            self._provide_alarm_ids()

    # --- what is known at the start -------------------------------------------------------------------------

    def restore(self, records: Records) -> None:
        """Take what an earlier run left on disk, by kind; then what was heard while it was being read."""
        for name, text in records.get(TAG, {}).items():
            self._presences[name] = TagPresence.from_json(text)
        self._next_ids.restore(records.get(NEXT, {}), self._now().mono_s)
        for alarm, mark in records.get(RECORDING, {}).items():
            self.recorder.restore(alarm, mark)
        self._supervisor.restore(self._presences, records.get(COVERAGE, {}))
        self._replies = _read(REPLY, records, desk.from_json)
        self._alarms = _read(ALARM, records, alarms.from_json)
        for known in self._alarms.values():
            if known.audio.wanted and known.audio.recorded_in is None:
                self.recorder.began(known.id, known.pressed)
        self._provide_alarm_ids()
        early, self._early = self._early or {}, None
        self._step(alarms.Resumed())
        for act in early.values():
            act()

    def restore_late(self, records: Records) -> None:
        """Take what the disk says after we had to begin without it: what is known by now is newer."""
        for name, text in records.get(TAG, {}).items():
            self._presences.setdefault(name, TagPresence.from_json(text))
        self._supervisor.restore(self._presences, records.get(COVERAGE, {}))
        for alarm, mark in records.get(RECORDING, {}).items():
            if alarm not in self._alarms:
                self.recorder.restore(alarm, mark)
        self._replies = {**_read(REPLY, records, desk.from_json), **self._replies}
        for known in _read(ALARM, records, alarms.from_json).values():
            self._step(alarms.Adopted(alarm=known))

    def store_all(self) -> None:
        """Store all that must outlive a restart: the power may go."""
        records: dict[RecordKey, str] = _seeds(self._next_ids.seeds)
        records |= {(TAG, name): presence.to_json() for name, presence in self._presences.items()}
        records |= {(ALARM, name): alarms.to_json(alarm) for name, alarm in self._alarms.items()}
        records |= {(REPLY, name): desk.to_json(reply) for name, reply in self._replies.items()}
        records |= {(RECORDING, name): mark for name, mark in self.recorder.marks.items()}
        self._store(records, self._supervisor.record.save(self._now()))

    def on_outbox_replaced(self) -> None:
        """Store the same, and the whole record of coverage, for a new database has begun."""
        self._supervisor.record.store_anew()
        self.store_all()

    def finish(self) -> None:
        """Store what is heard to the end: the daemon stops."""
        if self._early is None:
            self._store({}, self._supervisor.record.save(self._now(), stopped=True))

    def _store(self, records: Put, changes: Changes | None) -> None:
        """Store records, and what is due of the record of coverage with them."""
        put = {} if changes is None else {(COVERAGE, key): text for key, text in changes.put.items()}
        forget = () if changes is None else tuple((COVERAGE, key) for key in changes.forget)
        if records or put:
            self.sender.send(Batch(records={**records, **put}, forget=forget))

    def _provide_alarm_ids(self) -> None:
        """Store what each tag's next alarm id is made from before it is needed."""
        self._store_seeds(self._next_ids.provide((*self._tags, WIRED)))

    def _store_seeds(self, seeds: Seeds) -> None:
        if seeds:
            self.sender.send(Batch(records=_seeds(seeds)))

    # --- what is heard --------------------------------------------------------------------------------------

    def concerns(
        self, address: str, service_data: Mapping[str, bytes], manufacturer_data: Mapping[int, bytes]
    ) -> bool:
        """Whether an advertisement with these is of one of our tags. Most are not."""
        self._supervisor.something()
        return self._roster.sender(address, service_data, manufacturer_data) is not None

    def on_advertisement(self, advertisement: Advertisement) -> None:
        """Hear an advertisement."""
        tag = self._roster.find(advertisement)
        if tag is None:
            return
        said = (tag.name, *advertisement.service_data.values(), *advertisement.manufacturer_data.values())
        if self._postponed(partial(self.on_advertisement, advertisement), said):
            return
        report = tags.decode(advertisement, format=tag.format, key=tag.key)
        if report is not None:
            self._observe(tag, report, advertisement.heard_s, advertisement.rssi_dbm)

    def on_report(self, name: str, report: TagReport, heard_s: float) -> None:
        """Hear what a tag told over its connection; `heard_s`: CLOCK_MONOTONIC."""
        tag = self._tags.get(name)
        if tag is not None and not self._postponed(partial(self.on_report, name, report, heard_s)):
            self._observe(tag, report, heard_s, None)

    def _observe(self, tag: Tag, report: TagReport, heard_s: float, rssi_dbm: int | None) -> None:
        before = self._presences.get(tag.name) or TagPresence()
        heard = self._at(heard_s)
        presence, press = observe(before, tag, report, heard, rssi_dbm)
        if press is not None:
            self._press(press, {(TAG, tag.name): presence.to_json()})
            self._saved[tag.name] = heard
        elif presence.due(self._saved.get(tag.name), heard):
            self._store({(TAG, tag.name): presence.to_json()}, self._supervisor.changes(alone=False))
            self._saved[tag.name] = heard
        # Last: had the press failed on its way, its next copy must not count as one.
        self._presences[tag.name] = presence
        self._supervisor.heard(tag, heard_s, rssi_dbm)

    def on_radio(self, state: State, detail: str) -> None:
        """The radio said how it is."""
        self._supervisor.radio(state, detail)

    def on_wired_press(self, heard: Instant) -> None:
        """The wired button was pressed."""
        if not self._postponed(partial(self.on_wired_press, heard)):
            self._press(Press(tag=WIRED, event=TagEvent.PRESS, heard=heard), {})

    def _postponed(self, act: Callable[[], None], said: object = None) -> bool:
        """Whether it is too early; then `act` is done after the restore, once of all that `said` the same."""
        if self._early is None:
            return False
        if len(self._early) < EARLY:
            self._early.setdefault(said or act, act)
        return True

    def _at(self, mono_s: float) -> Instant:
        now = self._now()
        return replace(now, mono_s=mono_s, wall_s=now.wall_s + mono_s - now.mono_s)

    def _press(self, press: Press, records: Put) -> None:
        now = self._now()
        pressed = alarms.Pressed(
            press=press,
            next_alarm_id=self._next_ids.give(press),
            position=self._position(now),
            recent=self._track.recent,
            decided=now,
        )
        self._step(pressed, records)

    # --- where we are ---------------------------------------------------------------------------------------

    def on_fix(self, fix: Fix) -> None:
        """Take a fix."""
        now = self._now()
        self._track.take(fix, now, subject=self._config.gateway.kind)
        self._tell_position(now)

    def _position(self, now: Instant) -> Body | None:
        gateway = self._config.gateway
        hub = None
        if gateway.kind is Subject.HUB and gateway.latitude is not None and gateway.longitude is not None:
            hub = (gateway.latitude, gateway.longitude)
        return self._track.position(now, subject=gateway.kind, hub=hub)

    def _tell_position(self, now: Instant) -> None:
        where = self._position(now)
        if where is None:
            return
        self._step(alarms.Positioned(position=where))
        always = self._config.gps.publish == "always"
        if self._track.due(now, alarm_open=self.open_alarms > 0, always=always):
            self.publish(
                Draft(
                    topic=topic.POSITION,
                    message_class=MessageClass.POSITION,
                    keep=Keep.WHEN_WAITING,
                    at=now,
                    body=where,
                )
            )

    # --- what ops say ---------------------------------------------------------------------------------------

    def on_command(self, incoming: command.Incoming) -> None:
        """Carry out a command, once however often it comes, and answer it."""
        if self._postponed(partial(self.on_command, incoming)):
            return
        self._alarms, self._replies, effects = desk.answer(
            self._alarms,
            self._replies,
            incoming,
            self._now(),
            self._settings,
            record=self._supervisor.record,
        )
        self._carry_out(effects)

    def on_retained_alarm(self, name: str, body: bytes) -> None:
        """Adopt an open alarm that the broker holds and our disk does not know."""
        if self._postponed(partial(self.on_retained_alarm, name, body)):
            return
        if name in self._alarms:
            return
        try:
            found = alarms.adopt(body)
        except ValueError as error:
            logger.warning("expected our own alarm state at the broker: %s", error)
            self.sender.send(Batch(records=self._replace_spent(name)))  # the id is in use all the same
            return
        self._step(alarms.Adopted(alarm=found))
        if name in self._alarms:
            self.recorder.number_from(name, found.audio.chunks + CHUNKS_UNTOLD)

    def on_forgotten(self) -> None:
        """Tell the state of every alarm and tag again: the broker may have lost what it retained."""
        if not self._postponed(self.on_forgotten):
            self._alarms, effects = alarms.retell(self._alarms, self._now(), self._settings)
            self._carry_out(effects)
            self._supervisor.retell()

    # --- time -----------------------------------------------------------------------------------------------

    def on_tick(self) -> None:
        """Time passed: about once a second."""
        if self._early is not None:
            return
        self._step(alarms.Ticked())
        numbered = {name for name, presence in self._presences.items() if presence.numbered}
        self._store_seeds(self._next_ids.renew(self._now().mono_s, numbered))
        self._tell_position(self._now())  # an old one is told too, as such; a hub's needs no fix
        self._supervisor.tick(self._presences)
        self._store({}, self._supervisor.changes(alone=True))

    @property
    def open_alarms(self) -> int:
        """How many alarms wait for people."""
        return sum(alarm.open for alarm in self._alarms.values())

    @property
    def hearing(self) -> int:
        """How many assigned tags were heard lately."""
        now = self._now()
        seen = (presence.last_seen for presence in self._presences.values())
        return sum(at is not None and at.boot == now.boot and now.mono_s - at.mono_s <= SEEN_S for at in seen)

    # --- carrying out ---------------------------------------------------------------------------------------

    def _step(
        self, event: alarms.Event, records: Put | None = None, messages: Iterable[Message] = ()
    ) -> None:
        """Let the core decide about `event`, and carry it out together with `records` and `messages`."""
        self._alarms, effects = alarms.step(self._alarms, event, self._now(), self._settings)
        self._carry_out(effects, records, messages)

    def _carry_out(
        self, effects: Iterable[Effect], records: Put | None = None, messages: Iterable[Message] = ()
    ) -> None:
        """Send and store what one turn asks for in one batch; then see to the microphone."""
        wanted = list(effects)
        batch = self._batch(wanted, records or {}, messages)
        if batch.messages or batch.records or batch.forget:
            self.sender.send(batch)
        for effect in wanted:  # an alarm has left before anything else begins
            match effect:
                case alarms.StartAudio():
                    self.recorder.start(effect.alarm)
                case alarms.StopAudio():
                    self.recorder.stop(effect.alarm)
                case alarms.Publish():
                    _log(effect.draft)
                    if (told := to_wearer(effect.draft)) is not None:
                        self._tell(*told)
                case alarms.Forget():
                    self.recorder.forget(effect.alarm)
                case _:
                    pass

    def _batch(self, effects: Iterable[Effect], records: Put, sound: Iterable[Message]) -> Batch:
        messages = list(sound)
        # What comes with sound says where that ends: nothing, where a full disk does not take it.
        marks, put = (records, {}) if messages else ({}, dict(records))
        forget: list[RecordKey] = []
        for effect in effects:
            match effect:
                case alarms.Publish():
                    messages.append(self.stamp(effect.draft))
                case alarms.Save():
                    put[ALARM, effect.alarm.id] = alarms.to_json(effect.alarm)
                case alarms.Forget():
                    forget += [(ALARM, effect.alarm), (RECORDING, effect.alarm)]
                case alarms.Spent():
                    put |= self._replace_spent(effect.alarm)
                case desk.SaveReply():
                    put[REPLY, str(effect.reply.id)] = desk.to_json(effect.reply)
                case desk.ForgetReply():
                    forget.append((REPLY, effect.command))
                case _:
                    pass
        return Batch(messages=tuple(messages), records=put, forget=tuple(forget), marks=marks)

    def _replace_spent(self, alarm: str) -> dict[RecordKey, str]:
        return _seeds(self._next_ids.spent(alarm, self._now().boot))

    def publish(self, draft: Draft) -> None:
        """Send one message on its own."""
        self.sender.send(Batch(messages=(self.stamp(draft),)))

    def stamp(self, draft: Draft, sound: bytes | None = None) -> Message:
        """Make a message of a draft."""
        return self._stamper.stamp(draft, os.urandom(RANDOM_BYTES), sound=sound)

    def _chunk(self, draft: Draft, pages: bytes, mark: str, told: alarms.Chunked) -> None:
        """Send a chunk in one batch with what another run must know: where to go on, what is missing."""
        self._step(told, {(RECORDING, told.alarm): mark}, (self.stamp(draft, pages),))

    def _new_id(self) -> str:
        return uuid7(int(self._now().wall_s * 1000), os.urandom(RANDOM_BYTES))

    def on_hop(self, message: Message, kind: alarms.HopKind, at: Instant) -> None:
        """Note how far a message has come; the press it tells of is safe once disk or broker has it."""
        where = topic.parse(message.topic)
        if where is None or where.alarm is None or where.kind is not topic.Kind.ALARM_EVENT:
            return
        if "cause" in message.body and kind is not alarms.HopKind.PUBLISHED:
            self._accept(where.alarm, "disk" if kind is alarms.HopKind.STORED else "broker")
        self._step(alarms.Hop(alarm=where.alarm, message=message.id, kind=kind, at=at))

    def _accept(self, alarm: str, by: Literal["disk", "broker"]) -> None:
        """Tell the room, and the journal, that an alarm is safe from now on."""
        self._accepted(by)
        known = self._alarms.get(alarm)
        if known is not None and known.stored is None and known.confirmed is None:  # the first of the two
            self._tell(alarm, Told.STORED)
        extra = fields(MessageId.ALARM_ACCEPTED, alarm=alarm)
        logger.info("alarm %s: accepted, the %s has it", alarm, by, extra=extra)

    def _tell(self, alarm: str, told: Told) -> None:
        """Tell the wearer of the tag that an alarm is of."""
        known = self._alarms.get(alarm)
        if known is not None and known.tag is not None:
            self._tell_wearer(str(known.tag["id"]), told)


def _seeds(seeds: Seeds) -> dict[RecordKey, str]:
    return {(NEXT, tag): seed for tag, seed in seeds.items()}


def _read(
    kind: str, records: Mapping[str, Mapping[str, str]], from_json: Callable[[str], _Value]
) -> dict[str, _Value]:
    """Read the records of a kind. A damaged one is told and left out: the others still count."""
    found: dict[str, _Value] = {}
    for name, text in records.get(kind, {}).items():
        try:
            found[name] = from_json(text)
        except ValueError as error:
            logger.error("the record %s %s is damaged and left out: %s", kind, name, error)
    return found


def _log(draft: Draft) -> None:
    """Tell the journal of an alarm's event; positions are left out."""
    where = topic.parse(draft.topic)
    if where is None or where.kind is not topic.Kind.ALARM_EVENT or draft.body["type"] == "position":
        return
    kind = str(draft.body["type"])
    tag = draft.body.get("tag")
    name = str(tag["id"]) if isinstance(tag, Mapping) else None
    message_id = _MESSAGE_IDS.get(kind, MessageId.ALARM_CHANGED)
    level = logging.WARNING if kind in {"raised", "repeated"} else logging.INFO
    extra = fields(message_id, alarm=where.alarm, tag=name)
    logger.log(level, "alarm %s: %s (%s)", where.alarm, kind, draft.body["mode"], extra=extra)
