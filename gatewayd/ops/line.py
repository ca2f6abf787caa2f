"""A short session with the broker: subscribe, ask, hear; it ends with the command that needed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gatewayd.monitor.client import Options, RefusedError, UnreachableError, dial, make_client, not_let_in

_TICK_S: Final = 0.05
FAILURE: Final = 0x80  # MQTT 5, section 2.4: reason codes from here on are failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message that came in."""

    topic: str
    payload: bytes


class Line:
    """A session with the first of the brokers that answers. paho is driven from here, without a thread."""

    def __init__(self, reach: Options, limit_s: float) -> None:
        """Everything together may take `limit_s`."""
        self.heard: list[Heard] = []
        self._ends_s = time.monotonic() + limit_s
        self._reach = reach
        self._subscribed = 0
        self._refused: str | None = None
        self._acknowledged: dict[int, ReasonCode] = {}
        self._welcome = False
        try:
            self._client = self._open()
        except (RefusedError, UnreachableError):
            self.close()
            raise

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe, and wait until the broker says so. Its errors: as `until`."""
        wanted = self._subscribed + 1
        # At most once, for what is retained then comes before the broker's next word, however much it is.
        self._client.subscribe([(topic, SubscribeOptions(qos=0)) for topic in topics])
        if not self.until(lambda: self._subscribed >= wanted):
            raise UnreachableError("the broker does not answer a subscription")

    def publish(self, topic: str, payload: bytes, *, expires_s: int) -> ReasonCode | None:
        """Publish, and return what the broker said; None: nothing. Its errors: as `until`."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
        properties.MessageExpiryInterval = expires_s
        mid = self._client.publish(topic, payload, qos=1, properties=properties).mid
        self.until(lambda: mid in self._acknowledged)
        return self._acknowledged.get(mid)

    def until(self, happened: Callable[[], object], limit_s: float | None = None) -> bool:
        """Wait until something is true, at most `limit_s` and to the end of the session's time.

        RefusedError: the broker does not let us; UnreachableError: the connection was lost.
        """
        now_s = time.monotonic()
        ends_s = self._ends_s if limit_s is None else min(self._ends_s, now_s + limit_s)
        while not happened():
            if time.monotonic() >= ends_s:
                return False
            if self._client.socket() is None:
                raise UnreachableError("the connection to the broker was lost")
            self._client.loop(_TICK_S)
            if self._refused is not None:
                raise RefusedError(self._refused)
        return True

    def settle(self, quiet_s: float, most_s: float) -> None:
        """Wait until nothing came for `quiet_s`, at most `most_s`. Its errors: as `until`."""
        ends_s, known = time.monotonic() + most_s, -1
        while known < len(self.heard) and time.monotonic() < ends_s:
            known = len(self.heard)
            self._another(quiet_s)

    def _another(self, limit_s: float) -> None:
        known = len(self.heard)
        self.until(lambda: len(self.heard) > known, limit_s)

    def close(self) -> None:
        """Leave, for good."""
        self._client.disconnect()
        # The client knows us by its callbacks: let go of it, and it closes its sockets now and not some time.
        del self._client

    def _open(self) -> Client:
        trouble: list[str] = []
        for broker in self._reach.brokers:
            self._client = client = make_client(self._reach)
            client.on_connect = self._on_connect
            client.on_subscribe = self._on_subscribe
            client.on_publish = self._on_publish
            client.on_message = self._on_message
            try:
                dial(client, broker)
                if self.until(lambda: self._welcome):
                    return client
                trouble.append(f"no broker at {broker.host}:{broker.port}: it does not answer")
            except UnreachableError as error:
                trouble.append(str(error))
        raise UnreachableError("; ".join(trouble))

    def _on_connect(
        self, _client: Client, _user: object, _flags: ConnectFlags, reason: ReasonCode, _: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused = not_let_in(reason)
        self._welcome = True

    def _on_subscribe(
        self, _client: Client, _user: object, _id: int, reasons: list[ReasonCode], _: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"the broker does not let us read {self._reach.prefix}/…: {reasons[0]}"
        self._subscribed += 1

    def _on_publish(
        self, _client: Client, _user: object, mid: int, reason: ReasonCode, _: Properties | None
    ) -> None:
        self._acknowledged[mid] = reason

    def _on_message(self, _client: Client, _user: object, message: MQTTMessage) -> None:
        self.heard.append(Heard(topic=message.topic, payload=bytes(message.payload)))
