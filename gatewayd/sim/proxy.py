"""A TCP proxy that behaves as a modem does: refuses, swallows, slows down, delays, flaps.

It stands between a gateway and its broker where there is no netem. What it swallows it has accepted: no FIN,
no RST, the way a radio link dies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Final

from gatewayd.sim.broker import LOOPBACK, held_port

PIECE_BYTES: Final = 512  # at 64 kbit/s a piece takes 64 ms, so the rate is smooth to the eye of a 2 s limit
CATCH_UP_S: Final = 0.05  # a busy machine wakes the proxy late; so much of the rate is made up for
POLL_S: Final = 0.02  # how often a held connection looks whether it may go on


class Mode(StrEnum):
    """What the link does."""

    OPEN = "open"
    REFUSE = "refuse"  # a connection is reset at once
    BLACK_HOLE = "black_hole"  # bytes are accepted and vanish; connections stay open, and dead ever after
    HOLD = "hold"  # nothing passes, nothing is lost: TCP sends again what a radio link did not carry


class Proxy:
    """From a free loopback port to `port` on loopback. An async context manager.

    `rate`: bytes per second in each direction, None: as fast as it goes. `delay_s`: how long each direction
    takes. `target`: the port behind it. `mode`, `rate`, `delay_s` and `target` may be changed at any time.
    """

    def __init__(self, port: int, *, rate: float | None = None) -> None:
        self.port = held_port(self)
        self.mode = Mode.OPEN
        self.rate = rate
        self.delay_s = 0.0
        self.target = port
        self.accepted = 0  # connections so far
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._stranded: set[asyncio.StreamWriter] = set()  # of them, those that carry nothing any more
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection there is."""
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()

    def strand(self) -> None:
        """Swallow what comes on the connections there are; new ones are carried: a modem in another cell."""
        self._stranded |= self._connections

    async def flap(self, up_s: float, down_s: float) -> None:
        """Cut and refuse for `down_s`, carry for `up_s`, until cancelled."""
        while True:
            self.mode = Mode.REFUSE
            self.cut()
            await asyncio.sleep(down_s)
            self.mode = Mode.OPEN
            await asyncio.sleep(up_s)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as one
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.mode is Mode.REFUSE:
            writer.transport.abort()
            return
        said = await self._held(reader)
        if said is None:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._connections |= {writer, far_writer}
        far_writer.write(said)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, far_writer))
                tasks.create_task(self._carry(far_reader, writer))
        finally:
            self._connections -= {writer, far_writer}
            self._stranded -= {writer, far_writer}
            for end in (writer, far_writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _held(self, reader: asyncio.StreamReader) -> bytes | None:
        """What a new connection says while nothing passes; None when it gives up: its SYN was never heard."""
        said = b""
        with suppress(OSError):
            while self.mode is Mode.HOLD:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        if not (data := await reader.read(PIECE_BYTES)):
                            return None
                        said += data
            return said
        return None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end; then the other end hears of it, unless the link is a black hole."""
        loop = asyncio.get_running_loop()
        late: deque[bytes] = deque()  # on its way, in order
        free_s = 0.0  # when the link has carried what it was given
        due_s = 0.0  # when the last of it is there
        with suppress(OSError):
            while data := await reader.read(PIECE_BYTES if self.rate else 1 << 16):
                if self._swallows(writer):
                    self._stranded.add(writer)  # a stream has no holes: it never carries again
                    continue
                while self.mode is Mode.HOLD:  # noqa: ASYNC110 - as below
                    await asyncio.sleep(POLL_S)
                if self.rate:
                    free_s = max(free_s, loop.time() - CATCH_UP_S) + len(data) / self.rate
                    await asyncio.sleep(free_s - loop.time())
                if self.delay_s or late:
                    late.append(data)
                    due_s = max(due_s, loop.time() + self.delay_s)
                    loop.call_at(due_s, lambda: writer.write(late.popleft()))
                else:
                    writer.write(data)
                    await writer.drain()
        while late or self._swallows(writer):  # noqa: ASYNC110 - `mode` is a plain attribute, set by a test
            await asyncio.sleep(POLL_S)
        writer.close()

    def _swallows(self, writer: asyncio.StreamWriter) -> bool:
        return self.mode is Mode.BLACK_HOLE or writer in self._stranded
