"""Remembers over a restart that the real-time clock was right: otherwise it does not count after a boot."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final

from gatewayd.edge.clock import Clock
from gatewayd.edge.outbox import Batch, Outbox

logger = logging.getLogger(__name__)

RECORD: Final = ("clock", "rtc")  # in the outbox: the wall time at which the real-time clock was right
LOOK_S: Final = 10.0  # a car that is driven for a minute is long enough to tell
KEEP_S: Final = 86_400.0  # a write a day; the record counts for weeks


async def keep_time(clock: Clock, outbox: Outbox, *, look_s: float = LOOK_S) -> None:
    """Tell the clock what is remembered; then remember when the real-time clock is right, for ever."""
    right_s = _read((await outbox.records(RECORD[0])).get(RECORD[1]))
    clock.trust_rtc(right_s)
    while True:
        now_s, right = clock.now().wall_s, clock.rtc_is_right()
        if right and not 0 <= now_s - right_s < KEEP_S:
            right_s = now_s
            outbox.store(Batch(records={RECORD: repr(right_s)}))
            clock.trust_rtc(right_s)
        elif right is False and right_s != -math.inf:
            logger.warning("the real-time clock is wrong: it does not count until it is set")
            right_s = -math.inf
            outbox.store(Batch(forget=(RECORD,)))
            clock.trust_rtc(right_s)
        await asyncio.sleep(look_s)


def _read(text: str | None) -> float:
    """Return the time that is remembered; -inf: none, or a damaged record."""
    try:
        return -math.inf if text is None else float(text)
    except ValueError as error:
        logger.error("the record of the real-time clock is damaged and left out: %s", error)
        return -math.inf
