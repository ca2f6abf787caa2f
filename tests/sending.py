"""What tests of the sending side share: messages, settings, an outbox that runs, a listener."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewayd.config.model import Broker as Address
from gatewayd.config.model import Gateway, Mqtt
from gatewayd.core import command
from gatewayd.core.alarm import HopKind
from gatewayd.core.drain import Backlog
from gatewayd.core.model import (
    Body,
    ClockSource,
    ClockState,
    Draft,
    Instant,
    Keep,
    Message,
    MessageClass,
    State,
    Subject,
)
from gatewayd.core.payload import Rendered, Stamper
from gatewayd.edge.mqtt import Incoming, Line, Session, Will, dial
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.sim.broker import LOOPBACK
from gatewayd.uplink import Uplink

BASE = "gatewayd/gw1"
BOOT = "0b0b0b0b-0000-4000-8000-000000000000"
GATEWAY = Gateway(id="gw1", prefix="gatewayd", kind=Subject.VEHICLE, latitude=None, longitude=None)


def now() -> Instant:
    return Instant(
        boot=BOOT, mono_s=time.monotonic(), wall_s=time.time(), source=ClockSource.NTP, uncertainty_ms=5
    )


def clock() -> ClockState:
    return ClockState(
        boot=BOOT, offset_s=time.time() - time.monotonic(), source=ClockSource.NTP, uncertainty_ms=5
    )


def settings(*ports: int, **changed: object) -> Mqtt:
    fields: dict[str, object] = {
        "brokers": tuple(Address(host=LOOPBACK, port=port) for port in ports),
        "tls": False,
        "ca_file": None,
        "client_certificate": None,
        "client_key_credential": None,
        "username": None,
        "password_credential": None,
        "keep_alive_s": 8,
    }
    return Mqtt(**(fields | changed))  # type: ignore[arg-type]  # the test's own fields


class Maker:
    """Makes messages of one run."""

    def __init__(self, run: str = "5e5e5e5e-0000-4000-8000-000000000000") -> None:
        self._stamper = Stamper(run)

    def stamp(self, draft: Draft) -> Message:
        return self._stamper.stamp(draft, os.urandom(10))

    def __call__(
        self,
        message_class: MessageClass = MessageClass.ALARM,
        topic: str = "alarm/a/event",
        *,
        body: Body | None = None,
        keep: Keep = Keep.AT_ONCE,
        sound: bytes | None = None,
        replaces: bool = False,
        at: Instant | None = None,
        retain: bool = False,
        id: str | None = None,  # noqa: A002 - the message's own name for it
    ) -> Message:
        draft = Draft(
            topic=topic,
            message_class=message_class,
            keep=keep,
            at=at or now(),
            body=body or {"alarm": "a"},
            replaces=replaces,
            retain=retain,
            id=id,
        )
        return self._stamper.stamp(draft, os.urandom(10), sound=sound)


@dataclass
class Reports:
    """What a component said of itself."""

    said: list[tuple[State, str]] = field(default_factory=list)

    def __call__(self, state: State, detail: str) -> None:
        self.said.append((state, detail))

    @property
    def state(self) -> State | None:
        return self.said[-1][0] if self.said else None


@asynccontextmanager
async def running_outbox(
    path: Path,
    reports: Reports | None = None,
    *,
    budget_bytes: int = 1 << 30,
    retry_s: float = 0.05,
    **often_s: float,
) -> AsyncIterator[Outbox]:
    """An outbox that runs, and stops cleanly."""
    outbox = Outbox(
        path,
        budget_bytes=budget_bytes,
        now=now,
        report=reports or Reports(),
        alive=lambda: None,
        retry_s=retry_s,
        **often_s,
    )
    task = asyncio.create_task(outbox.run())
    try:
        await outbox.decided()
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - conditions of all kinds
            await asyncio.sleep(0.005)


@dataclass
class Heard:
    """A listener that remembers."""

    pubacks: list[tuple[int, int]] = field(default_factory=list)
    incoming: list[Incoming] = field(default_factory=list)
    denied: list[tuple[str, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    reasons: list[int | None] = field(default_factory=list)  # of the losses

    def on_puback(self, mid: int, reason: int) -> None:
        self.pubacks.append((mid, reason))

    def on_incoming(self, incoming: Incoming) -> None:
        self.incoming.append(incoming)

    def on_denied(self, topic: str, reason: int) -> None:
        self.denied.append((topic, reason))

    def on_lost(self, why: str, reason: int | None) -> None:
        self.lost.append(why)
        self.reasons.append(reason)

    def payloads(self, topic: str) -> list[bytes]:
        return [incoming.payload for incoming in self.incoming if incoming.topic == topic]


@dataclass
class Daemon:
    """The sending side of a daemon, and what was said and asked of it."""

    outbox: Outbox
    uplink: Uplink
    task: asyncio.Task[None]
    reports: Reports
    make: Maker
    on_forgotten: Callable[[], None] = lambda: None
    commands: list[command.Incoming] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)
    adopted: list[bool] = field(default_factory=list)
    hops: list[tuple[str, HopKind]] = field(default_factory=list)  # an alarm's message, and how far it came

    def send(self, *arguments: Any, **fields: Any) -> Message:
        message = self.make(*arguments, **fields)
        self.uplink.send(Batch(messages=(message,)))
        return message

    def confirmed(self, *messages: Message) -> bool:
        """Whether the broker has all of these alarm messages."""
        return {(each.id, HopKind.CONFIRMED) for each in messages} <= set(self.hops)

    async def written(self) -> None:
        """Wait until the disk has everything sent so far."""
        await self.outbox.store(Batch())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@dataclass
class Wall:
    """A clock whose source may change."""

    source: ClockSource = ClockSource.NTP

    def __call__(self) -> ClockState:
        state = clock()
        return ClockState(boot=state.boot, offset_s=state.offset_s, source=self.source, uncertainty_ms=5)


@asynccontextmanager
async def running(
    path: Path,
    mqtt: Mqtt,
    *,
    wall: Wall | None = None,
    credentials: Path | None = None,
    backlog: Backlog | None = None,
    make: Maker | None = None,
) -> AsyncIterator[Daemon]:
    async with running_outbox(path) as outbox:
        make, reports = make or Maker(), Reports()
        daemon: Daemon
        uplink = Uplink(
            mqtt=mqtt,
            gateway=GATEWAY,
            version="0.1.0",
            outbox=outbox,
            stamp=make.stamp,
            now=now,
            clock=wall or Wall(),
            credentials=credentials,
            report=reports,
            alive=lambda: None,
            on_hop=lambda message, kind, _at: daemon.hops.append((message.id, kind)),
            on_command=lambda incoming: daemon.commands.append(incoming),  # noqa: PLW0108 - made below
            on_retained_state=lambda alarm, state: daemon.states.update({alarm: state}),
            on_adopted=lambda: daemon.adopted.append(True),
            on_forgotten=lambda: daemon.on_forgotten(),  # noqa: PLW0108 - made below
            backlog=backlog,
        )
        task = asyncio.create_task(uplink.run())
        daemon = Daemon(outbox=outbox, uplink=uplink, task=task, reports=reports, make=make)
        try:
            yield daemon
        finally:
            await daemon.stop()


async def plain_line(port: int) -> Line:
    return await dial(Address(host=LOOPBACK, port=port), None, user_timeout_s=10)


async def begin(
    port: int, listener: Heard, *, client_id: str = "ops", line: Line | None = None, keep_alive_s: int = 8
) -> Session:
    """A session with the broker on `port`."""
    return await Session.begin(
        line or await plain_line(port),
        client_id=client_id,
        keep_alive_s=keep_alive_s,
        expiry_s=60,
        who=None,
        will=Will(topic=f"will/{client_id}", payload=b"gone", delay_s=0, retain=False),
        listener=listener,
    )


def text(payload: bytes) -> Rendered:
    return Rendered(payload=payload, content_type=None)


@asynccontextmanager
async def ops(port: int, topics: str = f"{BASE}/#") -> AsyncIterator[Heard]:
    """An ops desk that listens."""
    heard = Heard()
    session: Session = await begin(port, heard, client_id="ops")
    session.subscribe([topics])
    try:
        yield heard
    finally:
        session.close()


def bodies(heard: Heard, below: str) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in heard.payloads(f"{BASE}/{below}") if payload]
