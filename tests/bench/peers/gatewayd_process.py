"""gatewayd's sending side as the daemon has it, outbox and uplink, fed in place of radio and microphone.

`python -m bench.peers.gatewayd_process PORT STATE`, lines of a `Feed` on stdin and stdout. An alarm is its
`raised` event, accepted when the wearer would be told: disk or broker has it. Sound is a chunk, accepted when
the disk has it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from functools import partial
from pathlib import Path

from sending import GATEWAY, Maker, Reports, clock, now, settings

from bench.peers.feed import SOUND, content
from gatewayd.core import topic
from gatewayd.core.alarm import HopKind
from gatewayd.core.model import Instant, Message, MessageClass
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.uplink import Uplink

BUDGET_BYTES = 1 << 30  # the default of [outbox] budget


class Sender:
    """Takes what is fed in, and says what is accepted."""

    def __init__(self, port: int, state: Path) -> None:
        self._make = Maker(str(uuid.uuid4()))
        self._waiting: dict[str, str] = {}  # message id -> mark
        self.outbox = Outbox(
            state / "outbox.db", budget_bytes=BUDGET_BYTES, now=now, report=Reports(), alive=lambda: None
        )
        self.uplink = Uplink(
            mqtt=settings(port),
            gateway=GATEWAY,
            version="0",
            outbox=self.outbox,
            stamp=self._make.stamp,
            now=now,
            clock=clock,
            credentials=None,
            report=Reports(),
            alive=lambda: None,
            on_hop=self._hop,
            on_command=lambda *_: None,
            on_retained_state=lambda *_: None,
        )

    def take(self, mark: str, size: int) -> None:
        """Send one message."""
        said, number = content(mark, size), int(mark[1:])
        if mark.startswith(SOUND):
            place, body = topic.alarm_audio("bench", number), {"duration_ms": 500}
            chunk = self._make(MessageClass.AUDIO_LIVE, place, body=body, sound=said.encode())
            self.uplink.send(Batch(messages=(chunk,)))
            self.outbox.store(Batch()).add_done_callback(partial(_stored, mark))
            return
        event = self._make(MessageClass.ALARM, topic.alarm_event(f"bench-{mark}"), body={"content": said})
        self._waiting[event.id] = mark
        self.uplink.send(Batch(messages=(event,)))

    def _hop(self, message: Message, kind: HopKind, _at: Instant) -> None:
        if kind is not HopKind.PUBLISHED and (mark := self._waiting.pop(message.id, None)) is not None:
            say(mark)


def _stored(mark: str, future: asyncio.Future[Instant]) -> None:
    if not future.cancelled():
        say(mark)


def say(mark: str) -> None:
    sys.stdout.write(f"{mark}\n")
    sys.stdout.flush()


async def main(port: int, state: Path) -> None:
    sender = Sender(port, state)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = [asyncio.create_task(sender.outbox.run()), asyncio.create_task(sender.uplink.run())]
    async for line in lines:
        mark, size = line.decode().split()
        sender.take(mark, int(size))
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
