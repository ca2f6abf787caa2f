"""The monitor's session with the broker: subscribe, show, save, play; come back when the link was lost."""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TextIO

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gatewayd.config import model as config
from gatewayd.config.build import PLAIN_PORT
from gatewayd.config.credentials import credential_path, read_credential
from gatewayd.config.settings import MQTT_BROKERS
from gatewayd.monitor import news as reading
from gatewayd.monitor.desk import JsonView, LiveView, PlainView
from gatewayd.monitor.keep import Listener, Recorder
from gatewayd.monitor.meter import Meter
from gatewayd.monitor.news import Doubles, News
from gatewayd.monitor.player import NoPlayerError, Player, find

EXIT_FINE: Final = 0
EXIT_FAILED: Final = 1

KEEP_ALIVE_S: Final = 15
_CONNECT_S: Final = 5.0
_TICK_S: Final = 0.25  # a view drawn four times a second looks live
_PAUSE_S: Final = 1.0  # between attempts to come back

# Everything that goes up; commands go down and are for the gateway.
_UP: Final = ("status", "health", "position", "reply", "alarm/#", "tag/+", "visit/+")


class View(Protocol):
    """Where messages are shown."""

    def show(self, news: News, level_dbfs: float | None) -> None: ...
    def say(self, line: str) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the monitor is asked to do."""

    brokers: Sequence[config.Broker]  # tried in turn
    prefix: str
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = None
    json: bool = False
    alarm: str | None = None  # only what belongs to this one
    count: int | None = None  # end after so many messages
    timeout_s: float | None = None  # end after so long
    listen: bool = False
    save: Path | None = None


class RefusedError(Exception):
    """The broker does not let us in, or not read: stop, trying again is of no use."""


class UnreachableError(Exception):
    """No broker answers there: another may, or the same one later."""


def options_from(settings: config.Config, credentials: Path | None) -> Options:
    """Return how to reach the brokers of a configuration. CredentialError, OSError: a file is missing."""
    mqtt = settings.mqtt
    password = None
    if mqtt.password_credential is not None:
        password = read_credential(credentials, mqtt.password_credential)
    return Options(
        brokers=mqtt.brokers,
        prefix=settings.gateway.prefix,
        tls=tls_context(mqtt, credentials),
        username=mqtt.username,
        password=password,
    )


def parse_broker(text: str) -> config.Broker:
    """Return the broker `HOST[:PORT]`, without TLS. ValueError when it is none."""
    try:
        ((host, port),) = MQTT_BROKERS.read(text)
    except ValueError:
        raise ValueError(f"expected one HOST or HOST:PORT, got {text!r}") from None
    return config.Broker(host=host, port=port or PLAIN_PORT)


def tls_context(mqtt: config.Mqtt, credentials: Path | None) -> ssl.SSLContext | None:
    """Make the TLS settings of a configuration; None for a plain one. OSError: a file cannot be used."""
    if not mqtt.tls:
        return None
    context = ssl.create_default_context(cafile=mqtt.ca_file)
    if mqtt.client_certificate is not None:
        key = None
        if mqtt.client_key_credential is not None:
            key = credential_path(credentials, mqtt.client_key_credential)
        context.load_cert_chain(mqtt.client_certificate, key)
    return context


def make_client(options: Options) -> Client:
    """Return a client that will show the broker who we are; not connected yet."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect_timeout = _CONNECT_S
    if options.tls is not None:
        client.tls_set_context(options.tls)
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    return client


def dial(client: Client, broker: config.Broker) -> None:
    """Connect to a broker. UnreachableError: it does not answer; RefusedError: it is not the one we trust."""
    where = f"{broker.host}:{broker.port}"
    try:
        client.connect(broker.host, broker.port, KEEP_ALIVE_S, clean_start=True)
    except ssl.SSLCertVerificationError as error:
        raise RefusedError(f"the broker at {where} has no certificate we trust: {error}") from error
    except OSError as error:
        raise UnreachableError(f"no broker at {where}: {error}") from error


def not_let_in(reason: ReasonCode) -> str:
    """Say that the broker refused us, and what to look at."""
    return f"the broker refused us: {reason}; look at the user name and the password"


def run(options: Options, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Run the monitor until it has what it was asked for, or is interrupted. Return the exit code.

    0: done (with `count`: that many messages came); 1: refused, nothing to play with, or time was up first.
    """
    try:
        player = Player(find()) if options.listen else None
    except NoPlayerError as error:
        err.write(f"{error}\n")
        return EXIT_FAILED
    view = _view(options, out, err)
    monitor = Monitor(options, view, player)
    try:
        return monitor.run()
    except RefusedError as error:
        err.write(f"{error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FINE
    except BrokenPipeError:  # whoever read the lines has gone, and has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # so that the last flush fails no more
        return EXIT_FINE
    finally:
        monitor.close()


def _view(options: Options, out: TextIO, err: TextIO) -> View:
    if options.json:
        return JsonView(out, err)
    if out.isatty():
        try:
            return LiveView(out)
        except ImportError:
            err.write("plain lines, since rich is not installed (pip install 'gatewayd[terminal]')\n")
    return PlainView(out)


class Monitor:
    """One run. paho is driven from here, without a thread of its own: messages come in between two ticks."""

    def __init__(self, options: Options, view: View, player: Player | None) -> None:
        self._options = options
        self._view = view
        self._doubles = Doubles()
        self._meter = Meter()
        self._recorder = Recorder(options.save, view.say)
        self._listener = Listener(player)
        self._shown = 0
        self._inbox: list[News] = []
        self._refused: str | None = None
        self._trouble: str | None = None  # what was said last about reaching the broker
        self._stopped = False
        self._client = self._make_client()

    def stop(self) -> None:
        """End `run` soon; may be called from another thread."""
        self._stopped = True

    def run(self) -> int:
        """Show what comes until there is enough of it. RefusedError when the broker will not have us."""
        end_s = None if self._options.timeout_s is None else time.monotonic() + self._options.timeout_s
        attempts = 0
        while not self._stopped and (end_s is None or time.monotonic() < end_s):
            if self._client.socket() is None:
                if attempts:
                    time.sleep(_PAUSE_S)
                self._connect(self._options.brokers[attempts % len(self._options.brokers)])
                attempts += 1
                continue
            self._client.loop(_TICK_S)
            if self._refused is not None:
                raise RefusedError(self._refused)
            if self._take_inbox():
                return EXIT_FINE
            now_s = time.monotonic()
            self._recorder.tick(now_s)
            self._listener.tick(now_s)
            self._view.tick()
        return EXIT_FINE if self._options.count is None else EXIT_FAILED

    def close(self) -> None:
        """Leave everything in order: the session, the file, the player, the terminal."""
        self._client.disconnect()
        self._recorder.save()
        self._listener.close()
        self._view.close()

    def _take_inbox(self) -> bool:
        """Show what came. Whether that is enough."""
        inbox, self._inbox = self._inbox, []
        for news in inbox:
            if self._doubles.again(news):
                continue
            self._recorder.take(news)
            self._listener.take(news, time.monotonic())
            self._view.show(news, None if news.sound is None else self._meter.level_dbfs(news.sound))
            self._shown += 1
            if self._shown == self._options.count:
                return True
        return False

    def _connect(self, broker: config.Broker) -> None:
        try:
            dial(self._client, broker)
        except UnreachableError as error:
            self._say(f"{error}; trying again")

    def _say(self, trouble: str) -> None:
        """A trouble that repeats is said once."""
        if trouble != self._trouble:
            self._view.say(trouble)
        self._trouble = trouble

    def _make_client(self) -> Client:
        client = make_client(self._options)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(
        self, client: Client, _user: object, _flags: ConnectFlags, reason: ReasonCode, _: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused = not_let_in(reason)
            return
        if self._trouble is not None:
            self._say("connected")
            self._trouble = None
        base = f"{self._options.prefix}/+"
        below = _UP if self._options.alarm is None else (f"alarm/{self._options.alarm}/#",)
        client.subscribe([(f"{base}/{part}", SubscribeOptions(qos=1)) for part in below])

    def _on_subscribe(
        self, _client: Client, _user: object, _id: int, reasons: list[ReasonCode], _: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"the broker does not let us read {self._options.prefix}/+/…: {reasons[0]}"

    def _on_message(self, _client: Client, _user: object, message: MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", ())
        self._inbox.append(reading.read(self._options.prefix, message.topic, bytes(message.payload), pairs))

    def _on_disconnect(
        self, _client: Client, _user: object, _flags: object, reason: ReasonCode, _: Properties | None
    ) -> None:
        if reason.is_failure and self._refused is None:
            self._say(f"the connection was lost: {reason}; trying again")
