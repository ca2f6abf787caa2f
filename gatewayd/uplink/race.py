"""Dialling brokers: one after the other, or side by side while an alarm waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from gatewayd.config.model import Broker
from gatewayd.edge.mqtt import LinkError
from gatewayd.uplink.wire import Link

STAGGER_S: Final = 1.0  # a broker that is well has answered by then on the links we know


async def first_link(
    brokers: Iterable[Broker],
    connect: Callable[[Broker], Coroutine[Any, Any, Link]],
    hurried: Callable[[], bool],
) -> Link:
    """Return the first session there is; LinkError when no broker gives one.

    The next broker is dialled when those before have failed, or 1 s after the last while `hurried` says so:
    a broker that swallows everything must not hold an alarm up.
    """
    waiting = deque(brokers)
    dials: set[asyncio.Task[Link]] = set()
    try:
        while waiting or dials:
            if waiting and (not dials or hurried()):
                dials.add(asyncio.create_task(connect(waiting.popleft()), name="dial"))
            done, _ = await asyncio.wait(dials, timeout=STAGGER_S, return_when=asyncio.FIRST_COMPLETED)
            for dial in done:
                dials.remove(dial)
                if not isinstance(dial.exception(), LinkError):
                    return dial.result()
        raise LinkError("no broker gave a session")
    finally:
        for dial in dials:
            dial.cancel()
            dial.add_done_callback(_drop)


def _drop(dial: asyncio.Task[Link]) -> None:
    """End a session that came too late."""
    if not dial.cancelled() and dial.exception() is None and (session := dial.result().session) is not None:
        session.abort()
