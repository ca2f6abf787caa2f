"""Keeps a session up: dials, doubts a link that does not answer, backs off.

A link that is doubted is not given up: another one is dialled beside it and takes its place when a broker
answers. So a link that is only slow goes on, and one that is dead has its successor as soon as there is one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, Protocol

from gatewayd.config.model import Broker
from gatewayd.core.link import WIDEST, backoff_s
from gatewayd.core.model import Instant
from gatewayd.edge.mqtt import LinkError
from gatewayd.uplink.race import first_link
from gatewayd.uplink.wire import Link, Owner, Wire

REDIAL_S: Final = 10.0  # a link takes a doubted one's place at most so often: it must be able to prove itself
STEADY_S: Final = 10.0  # a session that lasted less has failed
HURRY_S: Final = 1.0  # an alarm dials at once, alarms not faster than this


class Need(Protocol):
    """What is wanted of the link: the backlog knows."""

    def alarm_waits(self) -> bool:
        """Say whether an alarm waits or is in flight."""

    def suspect(self, now: Instant) -> bool:
        """Say whether an alarm waits for its PUBACK for too long."""


class Keeper:
    """Keeps a session with one of the brokers for `owner`. `run` must run."""

    def __init__(
        self,
        *,
        wire: Wire,
        owner: Owner,
        need: Need,
        now: Callable[[], Instant],
        failed: Callable[[str], None],
        twin: Callable[[], bool],
    ) -> None:
        """`failed` is told why there is no session; `twin` tells whether another gateway goes by our id."""
        self.addresses: dict[str, str] = {}  # broker -> the last address it was reached at
        self._wire = wire
        self._owner = owner
        self._need = need
        self._now = now
        self._failed = failed
        self._twin = twin
        self._brokers = wire.mqtt.brokers  # in the order they are dialled
        self._jitter = secrets.SystemRandom().random
        self._hurried = asyncio.Event()  # an alarm waits: dial now
        self._woken = asyncio.Event()  # the session is doubted, or one has ended
        self._doubted = False
        self._dialled_s = float("-inf")
        self._doubt_from_s = float("-inf")

    def hurry(self) -> None:
        """Dial now: a new alarm waits."""
        self._hurried.set()

    def doubt(self) -> None:
        """Dial beside the session there is, unless that was done a moment ago."""
        if self._now().mono_s >= self._doubt_from_s:
            self._doubted = True
            self._woken.set()

    async def run(self) -> None:
        """Keep a session up until cancelled; the owner is told of each."""
        failures = 0
        while True:
            link = await self._dial()
            if link is None:
                failures += 1
                await self._pause(failures)
            else:
                failures = await self._stay(link, failures)
                await self._pause(max(0, failures - 1))  # it was reached: once is no failure of the broker's

    async def _stay(self, link: Link, failures: int) -> int:
        """Stay on a session and those that take its place; return the failures in a row when all ended."""
        successor: Link | None = link
        while successor is not None:
            link = successor
            self._owner.on_begun(link)
            self._hurried.clear()
            successor = await self._successor(link)
        ended = link.ended.result()
        self._failed(ended.why)
        if ended.elsewhere:
            self._brokers = _last(self._brokers, link.broker)
        if self._twin():  # two gateways with one id must not fight at speed
            return WIDEST + 1
        return 0 if ended.again or self._now().mono_s - link.began_s > STEADY_S else failures + 1

    async def _successor(self, link: Link) -> Link | None:
        """Return the session that takes a doubted one's place; None when it has ended."""
        link.ended.add_done_callback(lambda _: self._woken.set())
        self._doubted = False
        while not link.ended.done():
            if not self._doubted:
                self._woken.clear()
                await self._woken.wait()
                continue
            successor = await self._dial(beside=link)
            self._doubted = False
            now_s = self._now().mono_s
            if successor is not None:
                self._doubt_from_s = now_s + REDIAL_S
                link.give_up("an alarm waited for its PUBACK: another session took its place")
                return successor
            self._doubt_from_s = now_s + backoff_s(0, self._jitter(), alarm_waits=True)
        return None

    async def _dial(self, beside: Link | None = None) -> Link | None:
        """Dial the brokers; None when none gave a session.

        `beside` a session that is doubted, other brokers come first; and once it need not be doubted any more
        it is left in peace.
        """

        def wanted() -> bool:
            return beside is None or beside.ended.done() or self._need.suspect(self._now())

        async def connect(broker: Broker) -> Link:
            try:
                return await self._wire.connect(broker, self._owner, self.addresses, wanted)
            except LinkError as error:
                if beside is None or beside.ended.done():
                    self._failed(str(error))
                raise

        self._dialled_s = self._now().mono_s
        self._hurried.clear()
        brokers = self._brokers if beside is None else _last(self._brokers, beside.broker)
        try:
            link = await first_link(brokers, connect, self._need.alarm_waits)
        except LinkError:
            return None
        self._brokers = (link.broker, *(each for each in self._brokers if each != link.broker))
        return link

    async def _pause(self, failures: int) -> None:
        """Wait before the next dial; a new alarm cuts it short."""
        waits = self._need.alarm_waits()
        if failures or not waits:
            try:
                async with asyncio.timeout(backoff_s(failures, self._jitter(), alarm_waits=waits)):
                    await self._hurried.wait()  # Python 3.11's wait_for may swallow a cancellation
            except TimeoutError:
                return
        await asyncio.sleep(self._dialled_s + HURRY_S - self._now().mono_s)


def _last(brokers: tuple[Broker, ...], broker: Broker) -> tuple[Broker, ...]:
    """Return the brokers with this one at the end."""
    return (*(each for each in brokers if each != broker), broker)
