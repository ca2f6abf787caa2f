"""One session with one broker: dialled, announced, published on, left.

Birth and will carry the session's number, so whoever reads `status` can tell a will that came late from one
that is true.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from gatewayd.config.model import Broker, Gateway, Mqtt
from gatewayd.core import status, topic
from gatewayd.core.model import (
    ClockState,
    Draft,
    Instant,
    Message,
)
from gatewayd.core.payload import render, render_will
from gatewayd.edge.mqtt import (
    NO_RETAIN,
    Incoming,
    Line,
    LinkError,
    Session,
    Will,
    dial,
    how_dates_are_judged,
    login,
    tls_context,
)

logger = logging.getLogger(__name__)

EXPIRY_S: Final = 3600  # commands sent within an hour of absence still arrive
WILL_DELAY_S: Final = 3  # a takeover by our own next session must not announce "offline"
DIAL_S: Final = 8.0  # a name, and two of its addresses at the socket's own limit, which names the cause
FAREWELL_S: Final = 1.0  # for the PUBACK of "stopped" (SIGTERM: 5 s in all)
USER_TIMEOUT: Final = 1.5  # keep-alives: after as long the broker has given us up too (MQTT 5, 3.1.2.10)
TOPIC_BYTES: Final = 65_535  # MQTT 5, section 1.5.4
DAY_S: Final = 86_400


class Owner(Protocol):
    """Who is told what happens on a link."""

    def on_begun(self, link: Link) -> None:
        """A session is there; what it replaces is lost."""

    def on_answer(self, message_id: str, reason: int) -> None:
        """The broker answered a message with a reason code."""

    def on_incoming(self, link: Link, incoming: Incoming) -> None:
        """A message came in."""

    def on_denied(self, link: Link, topic: str, reason: int) -> None:
        """The broker refused a subscription."""

    def on_lost(self, link: Link, reason: int | None) -> None:
        """The session ended; `reason`: what the broker said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session ended."""

    why: str
    again: bool = False  # we want another one of the same broker
    elsewhere: bool = False  # the broker does not want us, or does not do its work: try another one first


@dataclass(slots=True, kw_only=True, eq=False)
class Link:
    """A session and what belongs to it alone; it listens to its session."""

    wire: Wire
    owner: Owner
    broker: Broker
    number: int  # in birth and will
    judged: bool  # certificates' dates were
    ended: asyncio.Future[Ended]
    began_s: float = 0.0  # since when the session is up
    session: Session | None = None
    ids: dict[int, str] = field(default_factory=dict)  # MQTT message id -> ours
    farewell: int | None = None  # message id of the last word
    answered: bool = False  # the broker has acknowledged something: it does its work
    denied: str | None = None  # the subscription the broker refused, and why

    @property
    def name(self) -> str:
        """The broker as it is configured."""
        return f"{self.broker.host}:{self.broker.port}"

    @property
    def retains(self) -> bool:
        """Whether the broker retains what we publish."""
        return self.broker not in self.wire.unretained and (
            self.session is None or self.session.terms.retains
        )

    def announce(self) -> tuple[str, int]:
        """Publish the birth; return its id and the packet's size, bytes. LinkError as `publish`."""
        birth = self.wire.status(status.birth, self.number)
        return birth.id, self.publish(birth, self.wire.now())

    def publish(self, message: Message, now: Instant) -> int:
        """Publish now; return the packet's size, bytes.

        LinkError when the session has ended, RefusedError when the message cannot be published here.
        """
        size, _ = self._publish(message, now)
        return size

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe below our base. LinkError when the session has ended."""
        self._alive().subscribe(self.wire.whole(each) for each in topics)

    def unsubscribe(self, below: str) -> None:
        """Unsubscribe below our base."""
        if self.session is not None:
            self.session.unsubscribe(self.wire.whole(below))

    def give_up(self, why: str, *, again: bool = False, elsewhere: bool = False) -> None:
        """End the session without a word: the broker publishes the will unless we are back in time.

        `again`: nothing is wrong with it, another one is wanted; `elsewhere`: one of another broker.
        """
        if self.session is not None:
            self.session.abort()
        self._end(Ended(why=why, again=again, elsewhere=elsewhere), None)

    async def leave(self) -> None:
        """Say that we stop, wait until the broker has it, and end the session cleanly."""
        try:
            stopped = self.wire.status(status.stopped, self.number)
            _, self.farewell = self._publish(stopped, self.wire.now())
            async with asyncio.timeout(FAREWELL_S):
                await self.ended
        except (LinkError, TimeoutError) as error:
            logger.debug("the broker was not told that we stop: %s", error)
        if self.session is not None:
            self.session.close()

    def on_puback(self, mid: int, reason: int) -> None:
        """Tell the owner; of birth and farewell nobody needs to know."""
        if mid == self.farewell and not self.ended.done():
            self.ended.set_result(Ended(why="stopped"))
        self.answered = True
        message_id = self.ids.pop(mid, None)
        if message_id is not None:
            self.owner.on_answer(message_id, reason)

    def on_incoming(self, incoming: Incoming) -> None:
        """Tell the owner."""
        self.owner.on_incoming(self, incoming)

    def on_denied(self, topic: str, reason: int) -> None:
        """Tell the owner."""
        self.owner.on_denied(self, topic, reason)

    def on_lost(self, why: str, reason: int | None) -> None:
        """Tell the owner, once."""
        if reason == NO_RETAIN:
            self.wire.unretained.add(self.broker)
        self._end(Ended(why=why, elsewhere=reason is not None), reason)

    def _end(self, ended: Ended, reason: int | None) -> None:
        if not self.ended.done():
            self.ended.set_result(ended)
            self.owner.on_lost(self, reason)

    def _publish(self, message: Message, now: Instant) -> tuple[int, int]:
        session, wire = self._alive(), self.wire
        rendered = render(message, gateway=wire.gateway.id, clock=wire.clock(), published=now)
        whole = wire.address(message)
        retain = message.retain and self.retains
        mid, size = session.publish(whole, rendered, retain=retain, correlation=message.correlation)
        self.ids[mid] = message.id
        wire.count(size, now)
        return size, mid

    def _alive(self) -> Session:
        if self.session is None or self.ended.done():
            raise LinkError("the session has ended")
        return self.session


class Wire:
    """How messages become packets, and brokers sessions."""

    def __init__(
        self,
        *,
        mqtt: Mqtt,
        gateway: Gateway,
        version: str,
        stamp: Callable[[Draft], Message],
        now: Callable[[], Instant],
        clock: Callable[[], ClockState],
        credentials: Path | None,
    ) -> None:
        self.mqtt = mqtt
        self.gateway = gateway
        self.now = now
        self.clock = clock
        self.unretained: set[Broker] = set()  # brokers that take no session with a retained will
        self._base = topic.base(gateway.prefix, gateway.id)
        self._version = version
        self._stamp = stamp
        self._credentials = credentials
        self._sent = (0, 0)  # day since 1970, bytes

    @property
    def sent_today_bytes(self) -> int:
        """Published since midnight UTC, retries included."""
        day, sent = self._sent
        return sent if day == _day(self.now()) else 0

    def count(self, size: int, now: Instant) -> None:
        """A packet of `size` bytes was published."""
        day, sent = self._sent
        today = _day(now)
        self._sent = (today, size + (sent if day == today else 0))

    def whole(self, below: str) -> str:
        """Return the whole topic of one below our base, or of one elsewhere."""
        return topic.whole(self._base, below)

    def address(self, message: Message) -> str:
        """Return the whole topic a message goes to.

        An alias in its place would save 26 of a position's 552 bytes, and nothing of sound: each chunk has a
        topic of its own.
        A reply goes where its command asked, unless that is no topic name (MQTT 5, 3.3.2.3.5: no wildcards).
        """
        asked = message.response_topic
        if asked and not set(asked) & set("+#\0") and len(asked.encode()) <= TOPIC_BYTES:
            return asked
        return self.whole(message.topic)

    def below(self, whole: str) -> str:
        """Return what stands below our base."""
        return whole.removeprefix(f"{self._base}/")

    def status(self, kind: Callable[[int, str, Instant], Draft], number: int) -> Message:
        """Return the gateway's status: of session `number`, as `core.status` has it."""
        return self._stamp(kind(number, self._version, self.now()))

    async def connect(
        self, broker: Broker, owner: Owner, addresses: Mapping[str, str], wanted: Callable[[], bool]
    ) -> Link:
        """Begin a session with a broker. LinkError when it cannot be had.

        `addresses`: where brokers were last reached, by `Link.name`. `wanted`: asked once the way is there,
        for CONNECT ends the session that the same broker has with us.
        While nobody vouches for the time the certificates' dates are not judged, but only with our own CA.
        """
        dates = how_dates_are_judged(self.mqtt, self.clock())
        context = None
        if self.mqtt.tls:
            context = tls_context(self.mqtt, self._credentials, judge_dates=dates.by_system)
        link = Link(
            wire=self,
            owner=owner,
            broker=broker,
            number=secrets.randbits(32),
            judged=dates.judged or context is None,
            ended=asyncio.get_running_loop().create_future(),
        )
        user_timeout_s = USER_TIMEOUT * self.mqtt.keep_alive_s
        dialling = dial(
            broker,
            context,
            user_timeout_s=user_timeout_s,
            last_good=addresses.get(link.name),
            offset_s=dates.offset_s,
        )
        try:
            async with asyncio.timeout(DIAL_S):
                line = await dialling
        except TimeoutError as error:
            raise LinkError(f"{link.name}: no connection within {DIAL_S:.0f} s") from error
        if not wanted():
            line.socket.close()
            raise LinkError(f"{link.name}: not needed any more")
        try:
            link.session = await self._begin(line, link)
        except LinkError as error:
            if error.reason == NO_RETAIN:
                self.unretained.add(broker)
            raise
        link.began_s = self.now().mono_s
        return link

    def _begin(self, line: Line, link: Link) -> Coroutine[Any, Any, Session]:
        will = render_will(self.status(status.will, link.number), gateway=self.gateway.id)
        return Session.begin(
            line,
            client_id=f"{self.gateway.prefix}-{self.gateway.id}",
            keep_alive_s=self.mqtt.keep_alive_s,
            expiry_s=EXPIRY_S,
            who=login(self.mqtt, self._credentials),
            will=Will(
                topic=self.whole(topic.STATUS),
                payload=will.payload,
                delay_s=WILL_DELAY_S,
                retain=link.broker not in self.unretained,
            ),
            listener=link,
        )


def _day(now: Instant) -> int:
    return int(now.wall_s // DAY_S)
