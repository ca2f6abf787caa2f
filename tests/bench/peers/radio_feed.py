"""Puts what it is fed on the air, for a system that takes nothing but Bluetooth: BlueZ is simulated.

`python -m bench.peers.radio_feed`, the bus in DBUS_SYSTEM_BUS_ADDRESS, lines of a `Feed` on stdin. Each
message is a tag of its own that advertises for 3 s, as a pressed one does, with its mark for a name. Nothing
is ever accepted: such a system tells nobody that it heard.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from bench.peers.feed import content
from gatewayd.sim.air import burst
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import SYSTEM_BUS
from gatewayd.sim.tag import Frame

BURST_S: Final = 3.0
COMPANY: Final = 0xFFFF  # reserved for tests


def frame(mark: str) -> Frame:
    """What the tag of a mark advertises."""
    number = int(mark[1:]) + (ord(mark[0]) << 16)
    address = "C4:33:" + number.to_bytes(4, "big").hex(":").upper()
    return Frame(
        address=address, name=content(mark, 0), manufacturer_data={COMPANY: number.to_bytes(4, "big")}
    )


async def main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with BlueZ(os.environ[SYSTEM_BUS]) as bluez, asyncio.TaskGroup() as bursts:
        async for line in lines:
            bursts.create_task(burst(bluez, frame(line.decode().split()[0]), BURST_S))


if __name__ == "__main__":
    asyncio.run(main())
