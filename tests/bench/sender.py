"""The sending side of a gateway alone, without radio and microphone: the real outbox, the real uplink."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sending import GATEWAY, Maker, clock, now, running_outbox

from gatewayd.config.model import Gateway, Mqtt
from gatewayd.core.alarm import HopKind
from gatewayd.core.model import Instant, Message, MessageClass, State
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.uplink import Uplink

TOGETHER: Final = 1_000  # messages that are stored at once while an outbox is filled


class Sender(Uplink):
    """The uplink as it is, but that it notes its sessions and counts every PUBACK."""

    def __init__(self, outbox: Outbox, mqtt: Mqtt, gateway: Gateway) -> None:
        self.make = Maker()
        self.sessions_s: list[float] = []  # when each was up, monotonic
        self.last_s = 0.0  # when the last PUBACK came
        self.answered = 0
        self._up = False
        self._confirmed: dict[str, asyncio.Future[float]] = {}  # alarm messages
        self._news = asyncio.Event()
        super().__init__(
            mqtt=mqtt,
            gateway=gateway,
            version="0",
            outbox=outbox,
            stamp=self.make.stamp,
            now=now,
            clock=clock,
            credentials=None,
            report=self._reported,
            alive=lambda: None,
            on_hop=self._hopped,
            on_command=lambda _: None,
            on_retained_state=lambda *_: None,
        )

    def on_answer(self, message_id: str, reason: int) -> None:
        """A PUBACK came."""
        super().on_answer(message_id, reason)
        self.answered += 1
        self.last_s = time.monotonic()
        self._news.set()

    async def until_answered(self, number: int) -> None:
        """Wait until so many PUBACKs have come."""
        while self.answered < number:
            self._news.clear()
            await self._news.wait()

    def alarm(self) -> asyncio.Future[float]:
        """Raise an alarm; the future has when the broker confirmed it, monotonic seconds."""
        message = self.make(body={"alarm": "a", "type": "raised"})
        future = asyncio.get_running_loop().create_future()
        self._confirmed[message.id] = future
        self.send(Batch(messages=(message,)))
        return future

    async def session(self, number: int = 1) -> float:
        """Wait for the first session, or a later one; when it was up."""
        while len(self.sessions_s) < number:
            self._news.clear()
            await self._news.wait()
        return self.sessions_s[number - 1]

    def _reported(self, state: State, _detail: str) -> None:
        if state is not State.FAILED and not self._up:
            self.sessions_s.append(now().mono_s)
            self._news.set()
        self._up = state is not State.FAILED

    def _hopped(self, message: Message, kind: HopKind, at: Instant) -> None:
        if kind is HopKind.CONFIRMED and message.id in self._confirmed:
            self._confirmed.pop(message.id).set_result(at.mono_s)


@asynccontextmanager
async def sending(path: Path, mqtt: Mqtt, *, name: str = GATEWAY.id) -> AsyncIterator[Sender]:
    """Gateway `name`'s sending side with its outbox at `path`. It has no link but within `dialling`."""
    async with running_outbox(path) as outbox:
        yield Sender(outbox, mqtt, replace(GATEWAY, id=name))


@asynccontextmanager
async def dialling(sender: Sender) -> AsyncIterator[None]:
    """The uplink runs within the block."""
    task = asyncio.create_task(sender.run(), name="uplink")
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def fill(path: Path, messages: Iterable[Message]) -> None:
    """Store messages in the outbox at `path`, as an outage of any length leaves them."""
    rest = iter(messages)
    async with running_outbox(path) as outbox:
        while some := tuple(itertools.islice(rest, TOGETHER)):
            await outbox.store(Batch(messages=some))


def waited(message: Message, for_s: float) -> Message:
    """The message as if it had happened `for_s` seconds ago."""
    at = replace(message.at, mono_s=message.at.mono_s - for_s, wall_s=message.at.wall_s - for_s)
    return replace(message, at=at)


def sound(make: Maker, number: int, size: int, *, for_s: float = 0.0) -> Message:
    """Chunk `number` of an alarm's sound, `size` bytes, made `for_s` seconds ago."""
    message = make(
        MessageClass.AUDIO_LIVE, f"alarm/a/audio/{number}", body={"duration_ms": 500}, sound=bytes(size)
    )
    return waited(message, for_s)
