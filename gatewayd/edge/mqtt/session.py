"""MQTT 5 through paho: one socket, one session, from CONNECT to its end. Nothing reconnects by itself.

paho runs on the event loop through its socket callbacks; its own queue is never used (publish only while
connected) and each session has a client of its own. paho calls back while it holds its locks, so callbacks
only note what happened; the listener is told once paho has returned. Everything is on one thread, so a
PUBACK is never told before `publish` has returned its message id.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MQTTException as PropertyError  # type: ignore[attr-defined]  # 2.1: its own
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gatewayd.core.payload import Rendered
from gatewayd.edge.mqtt.line import Line, LinkError, Login
from gatewayd.edge.mqtt.packed import publish_properties
from gatewayd.edge.mqtt.terms import (
    FAILURE,
    NO_ACKNOWLEDGING,
    TOO_LARGE,
    Terms,
    packet_bytes,
)

logger = logging.getLogger(__name__)

CONNACK_S: Final = 5.0  # a round trip, twice where a packet was lost, and a broker that is busy
MISC_S: Final = 1.0  # how often paho looks at its keep-alive
_DISCARD: Final = struct.pack("ii", 1, 0)  # struct linger: closing discards what is unsent (socket(7))
# What paho raises when a broker's bytes are not MQTT.
_BROKEN: Final = (MQTTException, PropertyError, ValueError, KeyError, IndexError, TypeError, struct.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for us when we are gone."""

    topic: str
    payload: bytes
    delay_s: int
    retain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message that came in; `topic` is whole."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None = None
    correlation: bytes | None = None


class RefusedError(Exception):
    """This message is not for this broker: try it again later, others go on. `reason`: as a PUBACK's."""

    def __init__(self, what: str, reason: int) -> None:
        super().__init__(what)
        self.reason = reason


class Listener(Protocol):
    """Who is told what happens on a session. Called on the loop, never from inside `publish`."""

    def on_puback(self, mid: int, reason: int) -> None:
        """The broker answered a publish; a `reason` of `FAILURE` or more is a refusal."""

    def on_incoming(self, incoming: Incoming) -> None:
        """A message came in."""

    def on_denied(self, topic: str, reason: int) -> None:
        """The broker refused a subscription."""

    def on_lost(self, why: str, reason: int | None) -> None:
        """The session ended; told once, not for one's own `close`. `reason`: where the broker gave one."""


def _properties(packet: int) -> Any:  # Any: paho gives its properties no types
    return Properties(packet)  # type: ignore[no-untyped-call]


class _Client(Client):
    """paho's client over a socket that is already connected."""

    def __init__(self, line: Line, client_id: str) -> None:
        self._line = line
        super().__init__(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)

    def _create_socket(self) -> socket.socket:
        """paho's own would block the loop in DNS, TCP and TLS; the hook is the same in 2.1 and 2.2."""
        return self._line.socket


class Session:
    """One MQTT 5 session. Begin it with `await Session.begin(…)`."""

    def __init__(self, line: Line, client_id: str, listener: Listener) -> None:
        self.address = line.address
        self.terms = Terms()
        self._keep_alive_s = 0
        self._subscribed: dict[int, tuple[str, ...]] = {}  # message id -> topics, until their SUBACK
        self._socket = line.socket
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._told: deque[Callable[[], None]] = deque()  # what paho said, until it has returned
        self._telling = False
        self._ended = False
        self._awaits_write = False  # the socket did not take all that paho has
        self._timer: asyncio.TimerHandle | None = None
        self._client = client = _Client(line, client_id)
        client.max_inflight_messages = 0  # no bound of paho's own: what is in flight is the drain's decision
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = lambda *_: None  # paho leaves writing to us, see `_flush`

    @classmethod
    async def begin(
        cls,
        line: Line,
        *,
        client_id: str,
        keep_alive_s: int,
        expiry_s: int,
        who: Login | None,
        will: Will,
        listener: Listener,
    ) -> Session:
        """Send CONNECT over `line` and return the session once the broker accepted; LinkError otherwise."""
        session = cls(line, client_id, listener)
        client = session._client
        session._keep_alive_s = keep_alive_s
        if who is not None:
            client.username_pw_set(who.username, who.password)
        will_properties = _properties(PacketTypes.WILLMESSAGE)
        will_properties.WillDelayInterval = will.delay_s
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=will_properties)
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = expiry_s
        try:
            session._call(
                lambda: client.connect(
                    line.address, keepalive=keep_alive_s, clean_start=False, properties=properties
                )
            )
            session._flush()
            session._tick()
            async with asyncio.timeout(CONNACK_S):
                await session._connack
        except TimeoutError as error:
            session.abort()
            raise LinkError(f"{line.address}: no CONNACK within {CONNACK_S:.0f} s") from error
        except BaseException:
            session.abort()
            raise
        return session

    def publish(
        self, topic: str, rendered: Rendered, *, retain: bool, correlation: bytes | None = None
    ) -> tuple[int, int]:
        """Publish at QoS 1 now; return the message id its PUBACK will have, and the packet's size, bytes.

        LinkError when the session has ended; RefusedError when this broker, or any, cannot be sent this.
        """
        if self._ended:
            raise LinkError("the session has ended")
        size, most = packet_bytes(topic, rendered, correlation), self.terms.packet_bytes
        if most is not None and size > most:
            raise RefusedError(f"expected at most {most} bytes, got {size}", TOO_LARGE)
        try:
            info = self._client.publish(
                topic,
                rendered.payload,
                qos=1,
                retain=retain,
                properties=publish_properties(rendered, correlation),
            )
        except ValueError as error:  # a topic with a wildcard, a payload past 256 MiB
            raise RefusedError(
                f"expected a topic and payload MQTT can carry, got {error}", FAILURE
            ) from error
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"the session has ended: {info.rc.name}")
        self._flush()
        return info.mid, size

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe at QoS 1; what was published retained says so. LinkError when the session has ended."""
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        wanted = tuple(topics)
        code, mid = self._client.subscribe([(topic, options) for topic in wanted])
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise LinkError(f"the session has ended: {code.name}")
        self._subscribed[mid] = wanted
        self._flush()

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe; nothing when the session has ended."""
        self._client.unsubscribe(topic)
        self._flush()

    def close(self) -> None:
        """End the session cleanly: DISCONNECT, so that the will is not published."""
        if not self._ended:
            self._finish()
            self._client.disconnect()
            self._client.loop_write()
        self._drop()

    def abort(self) -> None:
        """End the session without a word, as a dead link would; the broker publishes the will.

        What has not left yet never does: the next session sends it again, rendered anew, and on a slow link
        it must not stand behind this one's.
        """
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        self._drop()

    def _drop(self) -> None:
        self._finish()
        self._client.on_socket_close = None  # paho closes the socket once more when it is collected
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _finish(self) -> None:
        self._ended = True
        self._told.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- driving paho ---------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], object]) -> None:
        """Let paho work, then tell the listener what it said meanwhile."""
        if self._ended:
            return
        try:
            function()
        except _BROKEN as error:
            self._note_lost(f"expected MQTT from the broker, got {type(error).__name__}: {error}")
        except OSError as error:
            self._note_lost(str(error))
        self._await_write()
        if self._telling:  # called by the listener: the outer call tells the rest, in order
            return
        self._telling = True
        try:
            while self._told:
                self._told.popleft()()
        finally:
            self._telling = False

    def _await_write(self) -> None:
        """Wait for the socket only where paho could not write at once: each change is a system call."""
        wants = self._client.want_write()
        if wants is self._awaits_write or self._socket.fileno() < 0:
            return
        self._awaits_write = wants
        if wants:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _flush(self) -> None:
        """Write now, not at the loop's next turn."""
        self._call(self._client.loop_write)

    def _readable(self) -> None:
        self._call(self._read)

    def _read(self) -> None:
        self._client.loop_read()
        # OpenSSL may hold more than one packet; the socket then never becomes readable for it
        while isinstance(self._socket, ssl.SSLSocket) and not self._ended and self._socket.fileno() >= 0:
            if not self._socket.pending():
                return
            self._client.loop_read()

    def _tick(self) -> None:
        self._call(self._client.loop_misc)
        if not self._ended:
            self._timer = self._loop.call_later(MISC_S, self._tick)

    # --- what paho says; noted, never acted upon, for paho holds its locks ----------------------------------

    def _on_socket_open(self, _client: Client, _userdata: object, _socket: object) -> None:
        self._loop.add_reader(self._socket, self._readable)

    def _on_socket_close(self, _client: Client, _userdata: object, _socket: object) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)

    def _on_connect(
        self, _client: Client, _userdata: object, flags: ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:  # Any: see Terms.of
        if reason.is_failure:
            self._note_lost(f"refused: {reason}", reason.value)
            return
        self.terms = Terms.of(properties, resumed=flags.session_present)
        if not self.terms.acknowledges:
            why = "expected a broker that takes QoS 1, got one that takes QoS 0 only: it acknowledges nothing"
            self._note_lost(why, NO_ACKNOWLEDGING)
            return
        if self.terms.keep_alive_s:
            # Longer than ours is no use: we must know that the link is dead as soon as ever. paho takes the
            # broker's from 2.2 on, and has no way to set it while connected.
            self._client._keepalive = min(self._keep_alive_s, self.terms.keep_alive_s)
        if not self._connack.done():
            self._connack.set_result(None)

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            self._note_lost(f"the link ended the session: {reason}")
        else:
            self._note_lost(f"the broker ended the session: {reason}", reason.value)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            logger.debug("a message came in under a topic that is not UTF-8; ignored")
            return
        incoming = Incoming(
            topic=topic,
            payload=bytes(message.payload),
            retained=message.retain,
            response_topic=getattr(message.properties, "ResponseTopic", None),
            correlation=getattr(message.properties, "CorrelationData", None),
        )
        self._told.append(lambda: self._listener.on_incoming(incoming))

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._told.append(lambda: self._listener.on_puback(mid, reason.value))

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for topic, reason in zip(self._subscribed.pop(mid, ()), reasons, strict=False):
            if reason.is_failure:
                self._told.append(partial(self._listener.on_denied, topic, reason.value))

    def _note_lost(self, why: str, reason: int | None = None) -> None:
        if not self._connack.done():
            self._connack.set_exception(LinkError(f"{self.address}: {why}", reason))
        self._told.append(lambda: self._lost(why, reason))

    def _lost(self, why: str, reason: int | None) -> None:
        if self._ended:
            return
        self.abort()
        if self._connack.exception() is None:
            self._listener.on_lost(why, reason)
