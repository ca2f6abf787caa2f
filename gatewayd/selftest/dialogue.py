"""One talk with a broker, step by step, to learn which step fails: name, connection, TLS, MQTT, permissions.

It uses a client id of its own with a clean start and no will, so it neither takes the daemon's session over
nor says anything about the gateway. What it publishes is an empty message, not retained, as the state of an
alarm that nobody knows: to a consumer the withdrawal of what never was, to the broker's ACL an alarm.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.config.model import Broker, Config
from gatewayd.core import topic
from gatewayd.edge.mqtt import Dates, LinkError, judge_dates, login, tls_context

# Each answer; over a modem at 64 kbit/s and 600 ms one takes 1.2 s, three times that where a packet is lost.
ANSWER_S: Final = 5.0
# A retained message comes right behind the SUBACK.
_RETAINED_S: Final = 1.0
_POLL_S: Final = 0.05
_NOBODY: Final = "selftest"  # no alarm has this id: the gateway's are UUIDs


class Step(StrEnum):
    """What is done, in this order."""

    FILES = "files"  # certificates and credentials
    NAME = "name"
    CONNECTION = "connection"
    TLS = "tls"
    CONNACK = "connack"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    DONE = "done"


@dataclass(slots=True, kw_only=True)
class Talk:
    """What came of a talk; it fills while it goes on, so that one that hangs can be judged too."""

    broker: Broker
    client_id: str
    step: Step = Step.FILES  # the one that failed, or hangs
    problem: str = ""  # what it said; empty: nothing came in time
    code: int | None = None  # MQTT's reason, or OpenSSL's verification error
    address: str = ""
    dates_judged: bool = True
    tls: str = ""  # the version
    expires_s: float | None = None  # the broker's certificate, since 1970
    round_trip_ms: float | None = None  # from PUBLISH to PUBACK
    health: bytes | None = None  # what the broker keeps of the daemon's

    @property
    def name(self) -> str:
        """The broker as it is configured."""
        return f"{self.broker.host}:{self.broker.port}"


class _FailedError(Exception):
    """The step failed; `code` where the peer gave a number."""

    def __init__(self, problem: str, code: int | None = None) -> None:
        super().__init__(problem)
        self.code = code


class _Client(Client):
    """paho's client over a socket that is connected already."""

    def __init__(self, line: socket.socket, client_id: str) -> None:
        self._line = line
        super().__init__(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)

    def _create_socket(self) -> socket.socket:
        return self._line


def talk(told: Talk, config: Config, credentials: Path | None, dates: Dates) -> None:
    """Go through the steps and note in `told` what came of them; blocks.

    `dates`: how certificates' dates are judged.
    """
    told.dates_judged = dates.judged
    line: socket.socket | None = None
    try:
        context = None
        if config.mqtt.tls:
            context = tls_context(config.mqtt, credentials, judge_dates=dates.by_system)
        who = login(config.mqtt, credentials)
        line = _connect(told, context)
        if isinstance(line, ssl.SSLSocket) and dates.offset_s is not None:
            judge_dates(line, dates.offset_s)
        session = _Session(told, line)
        if who is not None:
            session.client.username_pw_set(who.username, who.password)
        base = topic.base(config.gateway.prefix, config.gateway.id)
        session.run(base, int(ANSWER_S))
        told.step = Step.DONE
    except _FailedError as error:
        told.problem, told.code = str(error), error.code
    except ssl.SSLCertVerificationError as error:
        told.problem, told.code = error.verify_message, error.verify_code
    except (LinkError, OSError) as error:
        told.problem = (getattr(error, "strerror", None) or str(error)).strip()
    finally:
        if line is not None:
            line.close()


def _connect(told: Talk, context: ssl.SSLContext | None) -> socket.socket:
    broker = told.broker
    told.step = Step.NAME
    found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
    told.step = Step.CONNECTION
    line = _first(told, [address[4] for address in found])
    if context is None:
        return line
    told.step = Step.TLS
    try:
        secured = context.wrap_socket(line, server_hostname=broker.host)
    except OSError:
        line.close()
        raise
    told.tls = secured.version() or ""
    expires = (secured.getpeercert() or {}).get("notAfter")
    told.expires_s = ssl.cert_time_to_seconds(expires) if isinstance(expires, str) else None
    return secured


def _first(told: Talk, addresses: list[Any]) -> socket.socket:  # Any: an address of either family
    """Connect to the first address that lets us; OSError of the last one when none does."""
    failure = OSError("the name has no address")
    for address in addresses:
        try:
            line = socket.create_connection(address[:2], timeout=ANSWER_S)
        except OSError as error:
            failure = error
        else:
            told.address = str(address[0])
            return line
    raise failure


class _Session:
    """An MQTT session, driven from here without a thread of its own."""

    def __init__(self, told: Talk, line: socket.socket) -> None:
        self._told = told
        self._connack: ReasonCode | None = None
        self._puback: ReasonCode | None = None
        self._suback: list[ReasonCode] = []
        self._ended: ReasonCode | None = None
        self.client = client = _Client(line, told.client_id)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect

    def run(self, base: str, keep_alive_s: int) -> None:
        """Connect, publish, subscribe, read what is retained, leave."""
        told, client = self._told, self.client
        told.step = Step.CONNACK
        client.connect(told.broker.host, told.broker.port, keep_alive_s, clean_start=True)
        self._until(lambda: self._connack, ANSWER_S)
        self._accepted(self._connack)
        told.step = Step.PUBLISH
        began_s = time.monotonic()
        client.publish(f"{base}/{topic.alarm_state(_NOBODY)}", b"", qos=1)
        self._until(lambda: self._puback, ANSWER_S)
        self._accepted(self._puback)
        told.round_trip_ms = (time.monotonic() - began_s) * 1000
        told.step = Step.SUBSCRIBE
        client.subscribe([(f"{base}/{topic.COMMANDS}", 1), (f"{base}/{topic.HEALTH}", 1)])
        self._until(lambda: self._suback, ANSWER_S)
        self._accepted(self._suback[0] if self._suback else None)
        self._until(lambda: told.health, _RETAINED_S)
        client.disconnect()
        client.loop(_POLL_S)

    def _until(self, happened: Callable[[], object], limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while not happened() and time.monotonic() < end_s:
            if self.client.loop(_POLL_S) is not MQTTErrorCode.MQTT_ERR_SUCCESS and not happened():
                why = f": {self._ended}" if self._ended is not None else ""
                raise _FailedError(f"the broker ended the connection{why}")

    def _accepted(self, reason: ReasonCode | None) -> None:
        if reason is None:
            raise _FailedError("")
        if reason.is_failure:
            raise _FailedError(str(reason), reason.value)

    def _on_connect(
        self, _client: Client, _user: object, _flags: ConnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        self._connack = reason

    def _on_publish(
        self, _client: Client, _user: object, _mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._puback = reason

    def _on_subscribe(
        self, _client: Client, _user: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._suback = reasons

    def _on_message(self, _client: Client, _user: object, message: MQTTMessage) -> None:
        if message.topic.endswith(f"/{topic.HEALTH}"):
            self._told.health = bytes(message.payload)

    def _on_disconnect(
        self, _client: Client, _user: object, _flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        self._ended = reason
