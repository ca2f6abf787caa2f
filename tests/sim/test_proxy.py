"""The link that a proxy plays while nothing passes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.proxy import Mode, Proxy

BRIEF_S = 0.2


class Far:
    """Who is behind the proxy: remembers what each connection said."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.heard)
        self.heard.append(b"")
        while data := await reader.read(1024):
            self.heard[place] += data
        writer.close()

    async def until(self, heard: list[bytes]) -> None:
        async with asyncio.timeout(5):
            while self.heard != heard:  # noqa: ASYNC110 - a plain list
                await asyncio.sleep(0.01)


@asynccontextmanager
async def link() -> AsyncIterator[tuple[Far, Proxy]]:
    far = Far()
    server = await asyncio.start_server(far.serve, LOOPBACK, 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield far, proxy


async def test_what_is_held_arrives_once_it_passes() -> None:
    """Of a connection there was, and of one that is made meanwhile; nothing before."""
    async with link() as (far, proxy):
        _, before = await asyncio.open_connection(LOOPBACK, proxy.port)
        before.write(b"a")
        await far.until([b"a"])
        proxy.mode = Mode.HOLD
        before.write(b"b")
        _, meanwhile = await asyncio.open_connection(LOOPBACK, proxy.port)
        meanwhile.write(b"c")
        await asyncio.sleep(BRIEF_S)
        assert far.heard == [b"a"]
        proxy.mode = Mode.OPEN
        await far.until([b"ab", b"c"])
        before.close()
        meanwhile.close()


async def test_who_gives_up_while_nothing_passes_is_never_heard() -> None:
    """As a SYN that nobody answered: a late CONNECT would take the next session over."""
    async with link() as (far, proxy):
        proxy.mode = Mode.HOLD
        _, gives_up = await asyncio.open_connection(LOOPBACK, proxy.port)
        gives_up.write(b"CONNECT")
        await asyncio.sleep(BRIEF_S)
        gives_up.close()
        await asyncio.sleep(BRIEF_S)
        proxy.mode = Mode.OPEN
        await asyncio.sleep(BRIEF_S)
        assert far.heard == []
