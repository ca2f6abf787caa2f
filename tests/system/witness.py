"""What wearers were told, seen from outside of the machine.

The light that tells a wearer is not in the machine. At the same moment the daemon writes a line into its
journal, and that is followed here: what was read was told before it was read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from gatewayd.core.journal import MessageId
from system.machine import Machine

END_S: Final = 30.0  # for the line to the machine to end with it
_LINES: Final = f"MESSAGE_ID={MessageId.STARTED} MESSAGE_ID={MessageId.ALARM_ACCEPTED}"
_FOLLOW: Final = f"journalctl --follow --lines=1 --output=json {_LINES}"


class Witness:
    """Follows the journal of a machine."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self.told: set[str] = set()  # the alarms that were accepted since
        self._reading = asyncio.create_task(self._read(lines))

    async def end(self) -> None:
        """Wait for the end of a machine that was cut off: what was on its way by then was told, too."""
        async with asyncio.timeout(END_S):
            await self._reading

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            with suppress(ValueError):  # the last one may have been cut off
                self.told.add(json.loads(line)["ALARM_ID"])


@asynccontextmanager
async def witness(machine: Machine) -> AsyncIterator[Witness]:
    """Look on from now on; the daemon has been started before."""
    async with machine.running(_FOLLOW) as journal:
        assert journal.stdout is not None
        await journal.stdout.readline()  # the newest so far: from here on it is followed
        yield Witness(journal.stdout)
