"""A broker that does as it is told, on the real wire: what no mosquitto can be brought to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gatewayd.sim.broker import LOOPBACK


@dataclass(frozen=True)
class Published:
    """A PUBLISH as it came."""

    topic: str
    payload: bytes
    retain: bool
    mid: int
    size: int  # of the whole packet, bytes


@dataclass(frozen=True)
class End:
    """Answer a PUBLISH with a DISCONNECT."""

    reason: int


def acknowledge(_: Published) -> int | None:
    return 0


@dataclass
class Scripted:
    """Listens on `port` from `async with` on.

    `connack`: its reason, by the number of the connection, from 0. `terms`: its CONNACK's properties, by
    paho's names. `answer`: the reason code of a PUBACK, None for none, or the end of the session. `suback`:
    the reason code of every subscription.
    """

    connack: Callable[[int], int] = lambda _: 0
    terms: Mapping[str, Any] = field(default_factory=dict)
    answer: Callable[[Published], int | End | None] = acknowledge
    suback: int = 1
    puback_s: float = 0.0  # how long a PUBACK takes
    port: int = 0
    connections: int = 0
    published: list[Published] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    connects: int = 0  # CONNECTs, which not every connection brings
    pings: int = 0
    most_in_flight: int = 0

    async def __aenter__(self) -> Scripted:
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    def topics(self) -> list[str]:
        return [each.topic for each in self.published]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        in_flight: set[int] = set()

        def puback(mid: int, reason: int) -> None:
            in_flight.discard(mid)
            writer.write(bytes((0x40, 3)) + mid.to_bytes(2, "big") + bytes((reason,)))

        while True:
            kind = (await reader.readexactly(1))[0]
            length, body = await _body(reader)
            match kind >> 4:
                case 1:
                    self.connects += 1
                    writer.write(self._connack(self.connack(number)))
                case 3:
                    each = _publish(kind, body, length)
                    self.published.append(each)
                    in_flight.add(each.mid)
                    self.most_in_flight = max(self.most_in_flight, len(in_flight))
                    answer = self.answer(each)
                    if isinstance(answer, End):
                        writer.write(bytes((0xE0, 1, answer.reason)))
                        await writer.drain()
                        writer.close()
                        return
                    if answer is not None:
                        asyncio.get_running_loop().call_later(self.puback_s, puback, each.mid, answer)
                case 8:
                    topics = _subscribe(body)
                    self.subscribed += topics
                    packet = body[:2] + b"\0" + bytes((self.suback,)) * len(topics)
                    writer.write(bytes((0x90, len(packet))) + packet)
                case 12:
                    self.pings += 1
                    writer.write(b"\xd0\x00")
                case 14:
                    return

    def _connack(self, reason: int) -> bytes:
        properties = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]  # paho's own
        for name, value in self.terms.items():
            setattr(properties, name, value)
        packed: bytes = b"\0" if reason else properties.pack()  # type: ignore[no-untyped-call]
        return bytes((0x20, 2 + len(packed), 0, reason)) + packed


async def _body(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """What follows a packet's first byte: how many bytes its length took, and the rest."""
    value = shift = length = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return length, await reader.readexactly(value)


def _publish(kind: int, body: bytes, length: int) -> Published:
    end = 2 + int.from_bytes(body[:2], "big")
    mid = int.from_bytes(body[end : end + 2], "big")
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
    _, taken = properties.unpack(body[end + 2 :])  # type: ignore[no-untyped-call]
    return Published(
        topic=body[2:end].decode(),
        payload=body[end + 2 + taken :],
        retain=bool(kind & 1),
        mid=mid,
        size=1 + length + len(body),
    )


def _subscribe(body: bytes) -> list[str]:
    at, found = 3, []  # after the message id and no properties
    while at < len(body):
        length = int.from_bytes(body[at : at + 2], "big")
        found.append(body[at + 2 : at + 2 + length].decode())
        at += 3 + length
    return found
