"""Carries out what the core decides: what is heard goes in; what must be sent, stored and recorded goes out.

Everything here runs on the event loop and waits for nothing. What one turn of the core asks to be published
and saved goes into one batch, so it is stored together or not at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Literal, Protocol

from gatewayd.announcer import Announcer
from gatewayd.config.model import Config
from gatewayd.core import alarm as alarms
from gatewayd.core import command, desk, payload, topic, visit
from gatewayd.core.alarm.model import WIRED, meant, sources
from gatewayd.core.button import to_wearer
from gatewayd.core.coverage.record import Changes
from gatewayd.core.fields import Refusal
from gatewayd.core.model import (
    Advertisement,
    Body,
    Draft,
    Fix,
    Instant,
    Intent,
    Message,
    Press,
    TagEvent,
    TagReport,
    Told,
)
from gatewayd.core.next_ids import NextIds, Seeds
from gatewayd.core.upkeep import Assign, Locate, Revoke
from gatewayd.core.uuid7 import RANDOM_BYTES, uuid7
from gatewayd.driller import Driller
from gatewayd.listener import Listener
from gatewayd.logbook import log_accepted, log_event
from gatewayd.near import Near
from gatewayd.notary import Notary
from gatewayd.recorder import Recorder
from gatewayd.records import (
    ALARM,
    ANNOUNCED,
    COVERAGE,
    DRILL,
    NEXT,
    ONLY,
    PLACE,
    RECORDING,
    REPLY,
    Put,
    RecordKey,
    Records,
    changes,
    read,
    seeds_put,
)
from gatewayd.supervisor import Supervisor
from gatewayd.uplink import Batch
from gatewayd.visits import VisitWatch
from gatewayd.wearers import Wearers
from gatewayd.whereabouts import Whereabouts

logger = logging.getLogger(__name__)

# What may come before the disk's records were read: presses of every tag a gateway may have, and commands.
EARLY: Final = 10_000
# More than can have been published since the broker's state of an adopted alarm was told: minutes of sound.
CHUNKS_UNTOLD: Final = 1_000


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
        tell_room: Callable[[Told], None] = lambda _told: None,
        tell_wearer: Callable[[str, Told], None] = lambda _tag, _told: None,
        show_test: Callable[[], None] = lambda: None,
        tested: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one that knows nothing yet.

        `accepted` tells the room that an alarm is safe, `show_test` that a test is, `tell_room` what ops do
        about it, `tell_wearer` a tag both; all are silent unless configured. `tested`: health has news of
        tests.
        """
        self.sender: Sender  # the uplink, which is made after the gateway and may be made anew
        self._now = now
        self._near = Near(accepted=accepted, tested=show_test, room=tell_room, wearer=tell_wearer)
        self._stamper = payload.Stamper(run)
        self._alarms: alarms.Alarms = {}
        self._visits = VisitWatch(now=now)
        self._wearers = Wearers()
        self._next_ids = NextIds(self._new_id)
        self._replies: desk.Replies = {}
        self._whereabouts = Whereabouts(config, now=now)
        self._early: dict[object, Callable[[], None]] | None = {}  # None: the disk's records were waited for
        self._unread = True  # the disk has not said what it knows
        self.recorder = Recorder(now=now, on_event=self._step, on_chunk=self._chunk)
        self.notary = Notary(now=now)
        self.supervisor = Supervisor(config.tags, now=now, publish=self.publish)
        self.listener = Listener(
            self.supervisor,
            now=now,
            judge=self._judge,
            on_press=self._press,
            keep=lambda put: self._store(put, self.supervisor.changes(alone=False)),
        )
        self._announcer = Announcer(now=now, publish=self.publish, store=lambda put: self._store(put, None))
        self.driller = Driller(
            config,
            now=now,
            new_id=self._new_id,
            publish=self.publish,
            store=lambda record: self._store({(DRILL, ONLY): record}, None),
            changed=tested,
        )
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Work with a configuration from now on. What is known of tags that stay is kept."""
        self._configured, config = config, self._wearers.applied(config)
        self._config = config
        self._visits.configure(config)
        self._whereabouts.configure(config)
        self.recorder.configure(rate_hz=config.audio.rate_hz, chunk_s=config.audio.chunk_s)
        self.listener.configure(config.tags)
        self.supervisor.configure(config.tags)
        self.driller.configure(config)
        self._settings = alarms.Settings(
            audio=config.audio.enabled,
            duration_s=config.audio.duration_s,
            listen_basis=config.audio.listen_basis,
            test_audio=config.test.microphone,
            escalate_after_s=config.alarm.escalate_after_s,
            tags=config.tags,
        )
        if self._early is None:
            self._provide_alarm_ids()
            self._announcer.configure(config, self._alarms)

    # --- what is known at the start -------------------------------------------------------------------------

    def restore(self, records: Records) -> None:
        """Take what an earlier run left on disk, by kind; nothing: it did not answer. Then what was heard."""
        self._unread = not records
        self._next_ids.restore(records.get(NEXT, {}), self._now().mono_s)
        self._alarms = self._restore(records)
        self._provide_alarm_ids()
        self._announcer.restore(records.get(ANNOUNCED, {}), config=self._config, alarms=self._alarms)
        early, self._early = self._early or {}, None
        self._step(alarms.Resumed())
        self._watch_visits()  # first of all: their times are read anew in another boot
        for act in early.values():
            act()

    def restore_late(self, records: Records) -> None:
        """Take what the disk says after we had to begin without it."""
        self._unread = False
        self._step(alarms.Recalled(alarms=tuple(self._restore(records).values())))
        self._watch_visits()  # after the alarms: one of them may be hushed
        self._announcer.restore(records.get(ANNOUNCED, {}), config=self._config, alarms=self._alarms)

    def _restore(self, records: Records) -> alarms.Alarms:
        """Take all but alarms, and return these; what is known by now is newer."""
        self.listener.restore(records)
        for alarm, mark in records.get(RECORDING, {}).items():
            if alarm not in self._alarms:
                self.recorder.restore(alarm, mark)
        self.supervisor.restore(self.listener.presences, records.get(COVERAGE, {}))
        self.driller.restore(records.get(DRILL, {}).get(ONLY))
        self._whereabouts.restore(records.get(PLACE, {}).get(ONLY))
        self._replies = {**read(REPLY, records, desk.from_json), **self._replies}
        for part in (self._visits, self._wearers, self.notary):
            part.restore(records)
        self.configure(self._configured)
        stored = read(ALARM, records, alarms.from_json)
        for known in stored.values():
            if known.audio.wanted and known.audio.recorded_in is None:
                self.recorder.began(known.id, known.pressed)
        return stored

    def store_all(self) -> None:
        """Store all that must outlive a restart: the power may go."""
        records: dict[RecordKey, str] = seeds_put(self._next_ids.seeds)
        for part in (self.listener, self._visits, self._announcer, self._wearers, self.notary):
            records |= part.records
        records |= {(ALARM, name): alarms.to_json(alarm) for name, alarm in self._alarms.items()}
        records |= {(REPLY, name): desk.to_json(reply) for name, reply in self._replies.items()}
        records |= {(RECORDING, name): mark for name, mark in self.recorder.marks.items()}
        records[DRILL, ONLY] = self.driller.record
        records |= self._whereabouts.record(anew=True)
        self._store(records, self.supervisor.record.save(self._now()))

    def on_outbox_replaced(self) -> None:
        """Store the same, and the whole record of coverage, for a new database has begun."""
        self.supervisor.record.store_anew()
        self.store_all()

    def finish(self) -> None:
        """Store what is heard to the end, and where: the daemon stops."""
        if self._early is None:
            self._seal(stopping=True)
            put = {**self.listener.records, **self._whereabouts.record(anew=True)}
            self._store(put, self.supervisor.record.save(self._now(), stopped=True))

    def _store(self, records: Put, changes: Changes | None) -> None:
        """Store records, what is due of the record of coverage with them, and where we are."""
        put = {} if changes is None else {(COVERAGE, key): text for key, text in changes.put.items()}
        forget = () if changes is None else tuple((COVERAGE, key) for key in changes.forget)
        if records or put:
            self.sender.send(Batch(records={**records, **put, **self._whereabouts.record()}, forget=forget))

    def _provide_alarm_ids(self) -> None:
        """Store what each tag's next alarm id is made from before it is needed."""
        self._store_seeds(self._next_ids.provide((*self.listener.tags, WIRED)))

    def _store_seeds(self, seeds: Seeds) -> None:
        if seeds:
            self.sender.send(Batch(records=seeds_put(seeds)))

    # --- what is heard --------------------------------------------------------------------------------------

    def on_advertisement(self, advertisement: Advertisement) -> None:
        """Hear an advertisement."""
        tag = self.listener.sender(advertisement)
        if tag is None:
            return
        said = (tag.name, *advertisement.service_data.values(), *advertisement.manufacturer_data.values())
        if not self._postponed(partial(self.on_advertisement, advertisement), said):
            self.listener.hear(tag, advertisement)

    def on_report(self, name: str, report: TagReport, heard_s: float) -> None:
        """Hear what a tag told over its connection; `heard_s`: CLOCK_MONOTONIC."""
        tag = self.listener.tags.get(name)
        if tag is not None and not self._postponed(partial(self.on_report, name, report, heard_s)):
            self.listener.report(tag, report, heard_s)

    def on_wired_press(self, heard: Instant) -> None:
        """The wired button was pressed."""
        if not self._postponed(partial(self.on_wired_press, heard)):
            press = Press(tag=WIRED, event=TagEvent.PRESS, heard=heard)
            self._press(self._judge(press), {})

    def _postponed(self, act: Callable[[], None], said: object = None) -> bool:
        """Whether it is too early; then `act` is done after the restore, once of all that `said` the same."""
        if self._early is None:
            return False
        if len(self._early) < EARLY:
            self._early.setdefault(said or act, act)
        return True

    def _judge(self, press: Press) -> Press:
        """Return the press as what it is: a test, when it was announced."""
        return self.driller.judge(press, meant(self._alarms, self._settings.tags))

    def _press(self, press: Press, records: Put) -> None:
        """Do what a press means, and store `records` with it."""
        if press.intent is Intent.CHECK_OUT:
            self._watch_over(self._visits.check_out(press), records)
            return
        pressed = alarms.Pressed(
            press=press,
            next_alarm_id=self._next_ids.give(press),
            position=self._whereabouts.position(),
            recent=self._whereabouts.recent,
            decided=self._now(),
            test_s=self.driller.left_s(press),
            visit=self._visits.in_alarm(press.worker),
        )
        self._step(pressed, {**records, **self._whereabouts.record()})

    # --- visits ---------------------------------------------------------------------------------------------

    def _watch_visits(self) -> None:
        """Watch over visits, and over tags that may fall silent."""
        states, where = self.supervisor.states, self._whereabouts
        self._watch_over(self._visits.tick(states, self.supervisor.batteries(self.listener.presences)))
        known, here, recent = self._alarms.values(), where.position(), where.recent
        for lost in self._visits.lost(states, known, self._new_id, position=here, recent=recent):
            self._step(lost)

    def _watch_over(self, effects: Iterable[visit.Effect], records: Put | None = None) -> None:
        """Carry out what visits ask for, the alarm of one that is overdue in the same batch."""
        wanted: list[desk.Wanted] = list(effects)
        for effect in tuple(wanted):
            if isinstance(effect, visit.Overdue):
                where = self._whereabouts
                raised = self._visits.raised(effect, position=where.position(), recent=where.recent)
                self._alarms, more = alarms.step(self._alarms, raised, self._now(), self._settings)
                wanted += more
        self._carry_out(wanted, records)

    # --- where we are ---------------------------------------------------------------------------------------

    def on_fix(self, fix: Fix) -> None:
        """Take a fix."""
        self._whereabouts.take(fix)
        self._tell_position()

    def _tell_position(self) -> None:
        where = self._whereabouts.position()
        if where is not None:
            self._step(alarms.Positioned(position=where))
            visiting = self._visits.any_begun
            for draft in self._whereabouts.due(where, self._alarms.values(), visiting=visiting):
                self.publish(draft)

    # --- what ops say ---------------------------------------------------------------------------------------

    def on_command(self, incoming: command.Incoming) -> None:
        """Carry out a command, once however often it comes, and answer it."""
        if self._postponed(partial(self.on_command, incoming)):
            return
        known = desk.Known(
            alarms=self._alarms,
            visits=self._visits.known,
            replies=self._replies,
            record=self.supervisor.record,
            position=self._whereabouts.position(),
            recent=self._whereabouts.recent,
        )
        known, effects = desk.answer(known, incoming, self._now(), self._settings, upkeep=self._upkeep)
        self._alarms, self._visits.known, self._replies = known.alarms, known.visits, known.replies
        self._carry_out(effects)
        self.notary.asked(incoming, effects)

    def _upkeep(self, given: command.UpkeepCommand) -> Refusal:
        """Carry out what is about the gateway and its tags; return why not."""
        match given.order:
            case Locate():
                known, visiting = self._alarms.values(), self._visits.any_begun
                return self._whereabouts.locate(given.order, known, visiting=visiting)
            case Assign() | Revoke():
                refusal = self._wearers.obey(
                    given.order, given.actor, self._configured, sources(self._alarms)
                )
                if refusal is None:
                    self.sender.send(Batch(records=self._wearers.records))
                    self.configure(self._configured)
                return refusal
            case _:
                return self.driller.obey(given.order, given.actor, meant(self._alarms, self._settings.tags))

    @property
    def tests(self) -> Body:
        """What health tells of tests."""
        return self.driller.body(self.listener.presences)

    def on_retained_alarm(self, name: str, body: bytes) -> None:
        """Adopt an open alarm that the broker holds and our disk does not know."""
        if self._postponed(partial(self.on_retained_alarm, name, body)) or name in self._alarms:
            return
        try:
            found = alarms.adopt(body)
        except ValueError as error:
            logger.warning("expected our own alarm state at the broker: %s", error)
            self.sender.send(Batch(records=self._replace_spent(name)))  # the id is in use all the same
            return
        self._step(alarms.Adopted(alarm=found, lasting=not self._unread))
        if name in self._alarms:
            self.recorder.number_from(name, found.audio.chunks + CHUNKS_UNTOLD)

    def on_forgotten(self) -> None:
        """Tell the state of every alarm, visit and tag again: the broker may have lost what it retained."""
        if not self._postponed(self.on_forgotten):
            self._alarms, effects = alarms.retell(self._alarms, self._now(), self._settings)
            self._carry_out((*effects, *self._visits.retell()))
            self.supervisor.retell()

    # --- time -----------------------------------------------------------------------------------------------

    def on_tick(self) -> None:
        """Time passed: about once a second."""
        if self._early is not None:
            return
        self._step(alarms.Ticked(unproved=self.recorder.unproved))
        self._store_seeds(self._next_ids.renew(self._now().mono_s, self.listener.numbered))
        self._tell_position()  # an old one is told too, as such; a hub's needs no fix
        self.supervisor.tick(self.listener.presences)
        self._watch_visits()
        self.driller.tick()
        self._replies, forgotten = desk.forget_old(self._replies, self._now())
        self._carry_out(forgotten)
        self._store({}, self.supervisor.changes(alone=True))
        self._seal()

    def _seal(self, *, stopping: bool = False) -> None:
        """Tell in a manifest of each recording that has stopped, and who listened: no alarm waits for it."""
        known = self.recorder, self._alarms, self._config, self.stamp
        for batch in (*self.notary.seal(*known, stopping=stopping), *self.notary.told(self.stamp)):
            self.sender.send(batch)

    @property
    def open_alarms(self) -> int:
        """How many alarms wait for people."""
        return sum(alarm.open for alarm in self._alarms.values())

    # --- carrying out ---------------------------------------------------------------------------------------

    def _step(
        self, event: alarms.Event, records: Put | None = None, messages: Iterable[Message] = ()
    ) -> None:
        """Let the core decide about `event`, and carry it out together with `records` and `messages`."""
        self._alarms, effects = alarms.step(self._alarms, event, self._now(), self._settings)
        self._carry_out(effects, records, messages)

    def _carry_out(
        self, effects: Iterable[desk.Wanted], records: Put | None = None, messages: Iterable[Message] = ()
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
                    log_event(effect.draft)
                    self.notary.note(effect.draft)
                    if (told := to_wearer(effect.draft)) is not None:
                        self._near.handled(self._alarms.get(told[0]), told[1])
                case alarms.Forget():
                    self.recorder.forget(effect.alarm)
                case visit.TimeUp():
                    tags = self._visits.wearing(effect.worker)
                    self._near.time_up(effect.worker, tags, self._alarms.values())
                case _:
                    pass
        self._announcer.tell(self._alarms)

    def _batch(self, effects: Iterable[desk.Wanted], records: Put, sound: Iterable[Message]) -> Batch:
        messages = list(sound)
        # What comes with sound says where that ends: nothing, where a full disk does not take it.
        marks, given = (records, {}) if messages else ({}, records)
        put, forget = changes(effects)
        for effect in effects:
            if isinstance(effect, alarms.Publish):
                messages.append(self.stamp(effect.draft))
            elif isinstance(effect, alarms.Spent):
                put |= self._replace_spent(effect.alarm)
        put = {**given, **put}
        return Batch(messages=tuple(messages), records=put, forget=tuple(forget), marks=marks)

    def _replace_spent(self, alarm: str) -> dict[RecordKey, str]:
        return seeds_put(self._next_ids.spent(alarm, self._now().boot))

    def publish(self, draft: Draft) -> None:
        """Send one message on its own."""
        self.sender.send(Batch(messages=(self.stamp(draft),)))

    def stamp(self, draft: Draft, sound: bytes | None = None) -> Message:
        """Make a message of a draft."""
        return self._stamper.stamp(draft, os.urandom(RANDOM_BYTES), sound=sound)

    def _chunk(
        self, draft: Draft, pages: bytes, mark: str, told: alarms.Chunked, lists: Sequence[Draft]
    ) -> None:
        """Send a chunk in one batch with what another run must know: where to go on, what is missing."""
        messages = (self.stamp(draft, pages), *map(self.stamp, lists))
        self._step(told, {(RECORDING, told.alarm): mark}, messages)

    def _new_id(self) -> str:
        return uuid7(int(self._now().wall_s * 1000), os.urandom(RANDOM_BYTES))

    def on_hop(self, message: Message, kind: alarms.HopKind, at: Instant) -> None:
        """Note how far a message has come; the press it tells of is safe once disk or broker has it."""
        where = topic.parse(message.topic)
        if where is None or where.alarm is None or where.kind is not topic.Kind.ALARM_EVENT:
            return
        if "cause" in message.body and kind is not alarms.HopKind.PUBLISHED:
            by: Literal["disk", "broker"] = "disk" if kind is alarms.HopKind.STORED else "broker"
            self._near.stored(self._alarms.get(where.alarm), by)
            log_accepted(where.alarm, by)
        self._step(alarms.Hop(alarm=where.alarm, message=message.id, kind=kind, at=at))
