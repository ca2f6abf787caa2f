"""A gateway of the week: the daemon's own deciding part on a simulated machine, and a broker that takes all.

What leaves it is stored and published as the uplink does it: stored at once, published in the order of its
class while there is a session, published anew in the next session where no PUBACK came.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from shift.tags import Frame
from simulated import Act, Machine, Timeline, hear

from gatewayd.config.model import Config
from gatewayd.core import sound
from gatewayd.core.alarm import HopKind
from gatewayd.core.command import Incoming
from gatewayd.core.health import Facts, Health, HostFacts
from gatewayd.core.model import (
    ClockSource,
    ClockState,
    Component,
    Fix,
    Keep,
    Message,
    MessageClass,
    State,
)
from gatewayd.core.payload import dump, render
from gatewayd.gateway import Gateway
from gatewayd.uplink import Batch
from week.journal import Command, Fact, Journal, Look, Shown
from week.journal import Message as Told

DISK_S: Final = 0.005
PUBACK_S: Final = 0.02
WAITED_S: Final = 10.0  # then what need not be stored at once is
AWAY_S: Final = 3600.0  # for so long the broker keeps a session, and commands for it
RETELL_S: Final = 60.0
HEALTH_S: Final = 300.0
OPEN_S: Final = 0.2  # the microphone takes so long
_FIRST: Final = {name: rank for rank, name in enumerate(MessageClass)}


class Broker:
    """What it retains; all that it takes goes to the desk."""

    def __init__(self, journal: Journal, desk: Callable[[Told], None]) -> None:
        self.retained: dict[tuple[str, str], bytes] = {}  # by gateway and topic
        self._journal = journal
        self._desk = desk

    def take(self, told: Told, payload: bytes) -> None:
        """A message came."""
        if told.retain:
            if payload:
                self.retained[told.site, told.topic] = payload
            else:
                self.retained.pop((told.site, told.topic), None)
        self._journal.messages.append(told)
        self._desk(told)


class Microphone:
    """One that opens and closes; what it hears is for other tests."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._wanted = False

    def start(self) -> None:
        """Open it."""
        self._wanted = True
        self._site.fact(Fact.MICROPHONE, so=True)
        self._site.later(OPEN_S, self._opened)

    def stop(self) -> None:
        """Close it; who starts it meanwhile has it open."""
        self._wanted = False
        self._site.later(OPEN_S, self._closed)

    def _opened(self) -> None:
        self._take(sound.Opened(at_s=self._site.machine.now().mono_s, pre_skip=312))

    def _closed(self) -> None:
        self._site.fact(Fact.MICROPHONE, so=self._wanted)
        self._take(sound.Closed(at_s=self._site.machine.now().mono_s))

    def _take(self, event: sound.Event) -> None:
        if self._site.gateway is not None:
            self._site.gateway.recorder.take(event)


@dataclass(slots=True, eq=False)
class Site:
    """One gateway, which dies and comes back with what its disk has."""

    machine: Machine
    config: Config
    time: Timeline
    journal: Journal
    broker: Broker
    gateway: Gateway | None = None
    network: bool = True
    hears: bool = False
    restored: bool = False  # it has read its disk
    waiting: dict[str, Message] = field(default_factory=dict)  # by id
    _in_flight: set[str] = field(default_factory=set)
    _commands: list[Command] = field(default_factory=list)  # held by the broker
    _left_s: float = 0.0  # when the last session ended
    _told_s: float = float("-inf")
    _health: Health | None = None
    _runs: int = 0
    _session: int = 0
    online: bool = False
    _greeted: int = 0  # the run that has read what the broker retains

    @property
    def name(self) -> str:
        return self.machine.name

    def fact(self, fact: Fact, *, so: bool) -> None:
        self.journal.note(self.name, fact, self.time.now_s, so=so)

    def later(self, wait_s: float, act: Act) -> None:
        """Do something if this run of the daemon is still there then."""
        run = self._runs

        def if_there() -> None:
            if self._runs == run and self.gateway is not None:
                act()

        self.time.after(wait_s, if_there)

    # --- the machine and the daemon -------------------------------------------------------------------------

    def switch_on(self, *, wrong_s: float = 0.0) -> None:
        self.machine.boot(wrong_s=wrong_s)
        self._tell_clock()

    def power_off(self) -> None:
        self.fact(Fact.TIMED, so=False)
        self.fact(Fact.RIGHT, so=False)

    def learn_time(self) -> None:
        self.machine.learn_time()
        self._tell_clock()

    def set_clock(self, wrong_s: float, source: ClockSource) -> None:
        """Somebody, or something, sets the clock wrong while it runs."""
        self.machine.show(wrong_s, source)
        self.fact(Fact.RIGHT, so=False)

    def _tell_clock(self) -> None:
        told = self.machine.source is not ClockSource.NONE
        self.fact(Fact.TIMED, so=told)
        self.fact(Fact.RIGHT, so=told)

    def start(self, reads_s: float = 0.1) -> None:
        """The daemon starts; it has read its disk `reads_s` later."""
        self._runs += 1
        self._told_s = float("-inf")
        self.gateway = Gateway(
            self.config,
            run=f"{self.name}-{self._runs}",
            now=self.machine.now,
            accepted=lambda by: self._show("room", f"accepted {by}"),
            tell_wearer=lambda tag, told: self._show(tag, told.value),
            tested=lambda: self.later(0.0, self._tell_health),
        )
        self.gateway.sender = self
        self.gateway.recorder.attach(Microphone(self))
        self._health = Health.begin(self.machine.now())
        self.later(reads_s, self._restore)
        self.later(0.3, self._hear)
        self.later(0.5, self.connect)

    def _restore(self) -> None:
        assert self.gateway is not None
        self.gateway.restore(self.machine.read())
        self.restored = True
        self.fact(Fact.UP, so=True)

    def _hear(self) -> None:
        assert self.gateway is not None
        self.hears = True
        self.gateway.supervisor.radio(State.OK, "")
        assert self._health is not None
        self._health = self._health.report(Component.RADIO, State.OK, "", self.machine.now())

    def stop(self, *, killed: bool) -> None:
        """The daemon ends. What need not be stored at once, and waited for a moment only, is lost."""
        if self.gateway is None:
            return
        if not killed:
            self.gateway.recorder.finish()
            self.gateway.finish()
        self.disconnect()
        mono_s = self.machine.now().mono_s
        self.waiting = {
            name: message
            for name, message in self.waiting.items()
            if message.keep is Keep.AT_ONCE
            or (message.keep is Keep.WHEN_WAITING and (not killed or mono_s - message.at.mono_s > WAITED_S))
        }
        self.gateway = self._health = None
        self.hears = self.restored = False
        self.fact(Fact.UP, so=False)
        self.fact(Fact.MICROPHONE, so=False)

    def look(self, secret: str) -> None:
        """Look whether something is on the disk, or waits there for the broker."""
        texts = [text for records in self.machine.disk.values() for text in records.values()]
        texts += [dump(message.body) for message in self.waiting.values()]
        found = any(secret in text for text in texts)
        self.journal.looks.append(Look(site=self.name, at_s=self.time.now_s, secret=secret, found=found))

    def _show(self, where: str, what: str) -> None:
        self.journal.shown.append(Shown(site=self.name, at_s=self.time.now_s, where=where, what=what))

    # --- what comes in --------------------------------------------------------------------------------------

    def hear(self, frame: Frame) -> bool:
        """Hear a frame if that is possible; whether it was."""
        if self.gateway is None or not self.hears:
            return False
        hear(self.gateway, frame, self.machine.now().mono_s)
        return True

    def take_fix(self, fix: Fix) -> None:
        if self.gateway is not None:
            self.gateway.on_fix(fix)

    def tick(self) -> None:
        if self.gateway is not None:
            self.gateway.on_tick()
            if self._health is not None and self._health.message_due(self.machine.now(), HEALTH_S):
                self._tell_health()

    def _tell_health(self) -> None:
        if self.gateway is None or self._health is None or not self.restored:
            return
        facts = Facts(host=HostFacts(), tests=self.gateway.tests)
        self._health, draft = self._health.publish(facts, self.machine.now())
        self.gateway.publish(draft)

    def command(self, command: Command, *, retained: bool = False, twice: bool = False) -> None:
        """Somebody gives a command; the broker holds it while the gateway is away."""
        self.journal.commands[command.id] = command
        if retained:
            self.later(0.05, lambda: self._deliver(command, retained=True))
            return
        for _ in range(2 if twice else 1):
            self._commands.append(command)
        self.time.after(0.05, self._deliver_all)

    def _deliver_all(self) -> None:
        while self.online and self._commands:
            self._deliver(self._commands.pop(0))

    def _deliver(self, command: Command, *, retained: bool = False) -> None:
        assert self.gateway is not None
        if command.came_s is None:
            command.came_s = self.time.now_s
        payload = json.dumps(command.body).encode()
        self.gateway.on_command(Incoming(name=command.name, payload=payload, retained=retained))

    # --- what goes out --------------------------------------------------------------------------------------

    def send(self, batch: Batch) -> None:
        """Store and publish; neither waits for the other."""
        self.machine.store(batch.records, batch.forget)
        for message in batch.messages:
            if message.replaces:
                old = [name for name, each in self.waiting.items() if each.topic == message.topic]
                for name in old:
                    del self.waiting[name]
            self.waiting[message.id] = message
            if message.keep is Keep.AT_ONCE:
                self._hop(DISK_S, message, HopKind.STORED)
        self.later(0.0, self._pump)

    def _hop(self, wait_s: float, message: Message, kind: HopKind) -> None:
        def tell() -> None:
            assert self.gateway is not None
            self.gateway.on_hop(message, kind, self.machine.now())

        if message.message_class is MessageClass.ALARM:
            self.later(wait_s, tell)

    def _pump(self) -> None:
        if not self.online:
            return
        ready = [message for name, message in self.waiting.items() if name not in self._in_flight]
        for message in sorted(ready, key=lambda message: _FIRST[message.message_class]):
            self._publish(message)

    def _publish(self, message: Message) -> None:
        now = self.machine.now()
        offset_s = now.wall_s - now.mono_s
        clock = ClockState(
            boot=now.boot, offset_s=offset_s, source=now.source, uncertainty_ms=now.uncertainty_ms
        )
        rendered = render(message, gateway=self.name, clock=clock, published=now)
        body: Any = None
        if message.sound is not None:
            body = {}
        elif rendered.payload:
            body = json.loads(rendered.payload)
        self._in_flight.add(message.id)
        self._hop(0.0, message, HopKind.PUBLISHED)
        session = self._session

        def confirm() -> None:
            if self._session == session and self.online:
                self._in_flight.discard(message.id)
                self.waiting.pop(message.id, None)
                self._hop(0.0, message, HopKind.CONFIRMED)

        self.later(PUBACK_S, confirm)
        came_s = self.time.now_s
        self.broker.take(
            Told(
                site=self.name,
                came_s=came_s,
                topic=message.topic,
                body=body,
                retain=message.retain,
                expires_s=rendered.expires_s,
                happened_s=came_s - (body or {}).get("late_s", 0.0),
                boot=now.boot,
            ),
            rendered.payload,
        )
        if message.topic == "test" and self.gateway is not None:
            back = rendered.payload
            self.later(PUBACK_S, partial(self.gateway.driller.on_back, back))

    def connect(self) -> None:
        """Begin a session, where there is a network."""
        if not self.network or self.online or self.gateway is None:
            return
        self.online = True
        self._session += 1
        self.fact(Fact.ONLINE, so=True)
        if self.time.now_s - self._left_s > AWAY_S:
            self._commands.clear()
        if self._greeted != self._runs:
            self._greeted = self._runs
            for (site, topic), payload in list(self.broker.retained.items()):
                if site == self.name and topic.startswith("alarm/") and topic.endswith("/state"):
                    self.gateway.on_retained_alarm(topic.split("/")[1], payload)
        if self.time.now_s - self._told_s > RETELL_S:
            self._told_s = self.time.now_s
            self.gateway.on_forgotten()
        self._pump()
        self._deliver_all()

    def disconnect(self) -> None:
        """The session ends; what was in flight waits again."""
        if self.online:
            self.online = False
            self._left_s = self.time.now_s
            self._in_flight.clear()
            self.fact(Fact.ONLINE, so=False)
