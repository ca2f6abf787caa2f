"""The broker's row: talks with a real mosquitto, each step of which fails once."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from looking import loaded, said, worst
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gatewayd.config.model import Broker as BrokerSettings
from gatewayd.config.model import Config, Mqtt
from gatewayd.core.model import ClockSource, ClockState
from gatewayd.selftest.broker import EXPIRES_SOON_S, SLOW_MS, judge, look
from gatewayd.selftest.dialogue import Step, Talk
from gatewayd.selftest.row import Finding, Row, Verdict
from gatewayd.sim.broker import LOOPBACK, Broker, Certificates, free_port, make_certificates
from gatewayd.sim.proxy import Mode, Proxy

BASE = "gatewayd/gw-1"
PASSWORD = "correct horse"
NOW_S = datetime.now(UTC).timestamp()


def config(folder: Path, *brokers: str, more: str = "") -> Config:
    text = f"[gateway]\nid = gw-1\n[mqtt]\nbrokers = {' '.join(brokers)}\n{more}"
    return loaded(text, credentials=folder).config


async def talks(settings: Config, folder: Path, source: ClockSource = ClockSource.NTP) -> list[Talk]:
    clock = ClockState(boot="b", offset_s=time.time() - time.monotonic(), source=source, uncertainty_ms=1)
    return await look(settings, folder, clock)


async def found(settings: Config, folder: Path) -> list[Finding]:
    return judge(await talks(settings, folder), settings.mqtt, BASE, NOW_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Starts brokers, and stops them."""
    brokers: list[Broker] = []

    def start(**settings: object) -> Broker:
        broker = Broker(tmp_path / f"broker{len(brokers)}", **settings)  # type: ignore[arg-type]
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@asynccontextmanager
async def consumer(port: int) -> AsyncIterator[list[MQTTMessage]]:
    """Everything that is published while the block lasts."""
    heard: list[MQTTMessage] = []
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe("#", qos=1)

    def on_subscribe(_client: Client, *_: object) -> None:
        loop.call_soon_threadsafe(subscribed.set)

    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _user, message: heard.append(message)
    client.connect(LOOPBACK, port)
    client.loop_start()
    await subscribed.wait()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


async def test_a_broker_that_takes_alarms_says_how_fast(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    broker = started()
    verdict, text, _ = worst(await found(config(tmp_path, f"localhost:{broker.port}"), tmp_path))
    assert verdict is Verdict.OK
    assert text.startswith(f"localhost:{broker.port} (")
    assert "takes alarms: PUBACK in " in text


async def test_nothing_is_said_that_a_consumer_could_misunderstand(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    """One empty message, not retained: the withdrawal of an alarm's state that nobody has. And no will."""
    broker = started()
    async with consumer(broker.port) as heard:
        await found(config(tmp_path, f"{LOOPBACK}:{broker.port}"), tmp_path)
    (message,) = heard
    assert (message.topic, message.payload, message.retain) == (f"{BASE}/alarm/selftest/state", b"", False)


async def test_the_daemons_session_is_left_alone(tmp_path: Path, started: Callable[..., Broker]) -> None:
    """It has another client id."""
    broker = started()
    ended: list[object] = []
    connected = asyncio.Event()
    loop = asyncio.get_running_loop()
    daemon = Client(CallbackAPIVersion.VERSION2, "gatewayd-gw-1", protocol=MQTTProtocolVersion.MQTTv5)

    def on_connect(_client: Client, *_: object) -> None:
        loop.call_soon_threadsafe(connected.set)

    daemon.on_connect = on_connect
    daemon.on_disconnect = lambda *arguments: ended.append(arguments)
    daemon.connect(LOOPBACK, broker.port)
    daemon.loop_start()
    await connected.wait()
    assert worst(await found(config(tmp_path, f"{LOOPBACK}:{broker.port}"), tmp_path))[0] is Verdict.OK
    assert ended == []
    daemon.disconnect()
    daemon.loop_stop()


async def test_what_the_broker_keeps_of_the_daemon_is_read(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    broker = started()
    health = json.dumps({"at": "2026-03-01T12:00:00.000Z"}).encode()
    daemon = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    daemon.connect(LOOPBACK, broker.port)
    daemon.loop_start()
    daemon.publish(f"{BASE}/health", health, qos=1, retain=True).wait_for_publish(5)
    daemon.disconnect()
    daemon.loop_stop()
    (talk,) = await talks(config(tmp_path, f"{LOOPBACK}:{broker.port}"), tmp_path)
    assert talk.health == health


# --- each step fails once -----------------------------------------------------------------------------------


async def test_a_name_that_is_not_found_is_told(tmp_path: Path) -> None:
    verdict, text, do = worst(await found(config(tmp_path, "broker.invalid"), tmp_path))
    assert (verdict, "the name is not found" in text) == (Verdict.FAIL, True)
    assert "resolvectl query broker.invalid" in do


async def test_a_broker_that_does_not_run_is_told(tmp_path: Path) -> None:
    port = free_port()
    verdict, text, do = worst(await found(config(tmp_path, f"{LOOPBACK}:{port}"), tmp_path))
    assert verdict is Verdict.FAIL
    assert f"{LOOPBACK}:{port}: no connection: " in text
    assert f"nc -vz {LOOPBACK} {port}" in do


async def test_a_connection_that_swallows_everything_is_told(
    tmp_path: Path, started: Callable[..., Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.selftest.dialogue.ANSWER_S", 0.3)
    async with Proxy(started().port) as proxy:
        proxy.mode = Mode.BLACK_HOLE
        (talk,) = await talks(config(tmp_path, f"{LOOPBACK}:{proxy.port}"), tmp_path)
        proxy.mode = Mode.OPEN
    assert (talk.step, talk.problem) == (Step.CONNACK, "")
    verdict, text, do = worst(judge([talk], MQTT, BASE, NOW_S))
    assert (verdict, "no answer in time" in text) == (Verdict.FAIL, True)
    assert "firewall" in do


async def test_a_port_that_is_no_brokers_is_told(tmp_path: Path) -> None:
    """It ends the connection, or talks something else."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        verdict, text, do = worst(await found(config(tmp_path, f"{LOOPBACK}:{port}"), tmp_path))
    assert (verdict, "the broker gave no session" in text) == (Verdict.FAIL, True)
    assert "MQTT 5" in do


def secure(issued: Certificates, more: str = "") -> str:
    return f"tls = yes\nca_file = {issued.ca}\n{more}"


async def test_a_secure_broker_says_so(
    tmp_path: Path, started: Callable[..., Broker], issued: Certificates
) -> None:
    """And that its certificate, of the test's own, is about to expire."""
    (tmp_path / "broker").write_text(PASSWORD)
    broker = started(certificates=issued, login=("gw-1", PASSWORD))
    settings = config(
        tmp_path,
        f"localhost:{broker.port}",
        more=secure(issued, "username = gw-1\npassword_credential = broker\n"),
    )
    row = said(await found(settings, tmp_path))
    assert row.verdict is Verdict.WARN
    assert "expires in 23 h" in row.worst_first[0].found
    assert "TLSv1.3" in row.worst_first[1].found
    assert len(row.findings) == 2


async def test_a_certificate_of_another_authority_is_a_matter_of_its_chain(
    tmp_path: Path, started: Callable[..., Broker], issued: Certificates
) -> None:
    broker = started(certificates=make_certificates(tmp_path / "other"))
    verdict, text, do = worst(
        await found(config(tmp_path, f"localhost:{broker.port}", more=secure(issued)), tmp_path)
    )
    assert (verdict, "TLS failed at the certificate's chain: " in text) == (Verdict.FAIL, True)
    assert "ca_file" in do


async def test_a_certificate_for_another_host_is_a_matter_of_its_name(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    elsewhere = make_certificates(tmp_path / "pki", hosts=("elsewhere",))
    broker = started(certificates=elsewhere)
    settings = config(tmp_path, f"localhost:{broker.port}", more=secure(elsewhere))
    verdict, text, do = worst(await found(settings, tmp_path))
    assert (verdict, "TLS failed at the certificate's name: " in text) == (Verdict.FAIL, True)
    assert "a certificate for this name" in do


async def test_a_certificate_of_another_day_is_a_matter_of_its_date(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    """While the clock is not known the daemon does not judge dates, and neither does the self-test."""
    for begins in (datetime.now(UTC) - timedelta(days=3), datetime.now(UTC) + timedelta(days=3)):
        issued = make_certificates(tmp_path / f"pki{begins:%d}", begins=begins)
        broker = started(certificates=issued)
        settings = config(tmp_path, f"localhost:{broker.port}", more=secure(issued))
        verdict, text, do = worst(await found(settings, tmp_path))
        assert (verdict, "the certificate's date" in text) == (Verdict.FAIL, True)
        assert "clock" in do
        (talk,) = await talks(settings, tmp_path, ClockSource.GNSS)  # judged by the receiver's time
        assert "the certificate's date" in worst(judge([talk], settings.mqtt, BASE, NOW_S))[1]
        (talk,) = await talks(settings, tmp_path, ClockSource.NONE)
        assert talk.step is Step.DONE
        row = said(judge([talk], settings.mqtt, BASE, NOW_S))
        assert row.verdict is Verdict.WARN
        assert any("was not judged" in finding.found for finding in row.findings)


async def test_tls_with_a_port_that_is_not_encrypted_is_told(
    tmp_path: Path, started: Callable[..., Broker], issued: Certificates
) -> None:
    settings = config(tmp_path, f"localhost:{started().port}", more=secure(issued))
    verdict, text, do = worst(await found(settings, tmp_path))
    assert (verdict, "TLS failed" in text) == (Verdict.FAIL, True)
    assert "TLS port" in do


async def test_a_broker_that_wants_a_client_certificate_is_told(
    tmp_path: Path, started: Callable[..., Broker], issued: Certificates
) -> None:
    broker = started(certificates=issued, client_certificates=True)
    verdict, _, do = worst(
        await found(config(tmp_path, f"localhost:{broker.port}", more=secure(issued)), tmp_path)
    )
    assert (verdict, "client certificate" in do) == (Verdict.FAIL, True)


async def test_a_client_certificate_is_presented(
    tmp_path: Path, started: Callable[..., Broker], issued: Certificates
) -> None:
    (tmp_path / "key").write_bytes(issued.client_key.read_bytes())
    broker = started(certificates=issued, client_certificates=True)
    more = f"client_certificate = {issued.client}\nclient_key_credential = key\n"
    settings = config(tmp_path, f"localhost:{broker.port}", more=secure(issued, more))
    (talk,) = await talks(settings, tmp_path)
    assert talk.step is Step.DONE


async def test_a_wrong_password_is_told(tmp_path: Path, started: Callable[..., Broker]) -> None:
    (tmp_path / "broker").write_text("wrong")
    broker = started(login=("gw-1", PASSWORD))
    more = "username = gw-1\npassword_credential = broker\n"
    verdict, text, do = worst(await found(config(tmp_path, f"{LOOPBACK}:{broker.port}", more=more), tmp_path))
    assert (verdict, "Not authorized" in text) == (Verdict.FAIL, True)
    assert "password_credential" in do
    assert "gatewayd-gw-1-selftest" in do


async def test_a_missing_password_or_ca_is_told(tmp_path: Path) -> None:
    more = "username = gw-1\npassword_credential = broker\n"
    settings = config(tmp_path, f"{LOOPBACK}:{free_port()}", more=more)
    verdict, text, do = worst(await found(settings, tmp_path))
    assert (verdict, "credential broker" in text) == (Verdict.FAIL, True)
    assert "check-config" in do
    settings = config(tmp_path, f"{LOOPBACK}:{free_port()}", more="tls = yes\nca_file = /nowhere/ca.pem\n")
    assert "TLS cannot be set up" in worst(await found(settings, tmp_path))[1]


async def test_an_acl_that_does_not_let_alarms_through_is_told(
    tmp_path: Path, started: Callable[..., Broker]
) -> None:
    """Though it lets the gateway in."""
    (tmp_path / "broker").write_text(PASSWORD)
    acl = tmp_path / "acl"
    acl.write_text(f"user gw-1\ntopic write {BASE}/status\ntopic read {BASE}/cmd/#\n")
    broker = started(login=("gw-1", PASSWORD), settings=(f"acl_file {acl}",))
    more = "username = gw-1\npassword_credential = broker\n"
    verdict, text, do = worst(await found(config(tmp_path, f"{LOOPBACK}:{broker.port}", more=more), tmp_path))
    assert verdict is Verdict.FAIL
    assert f"publishing an alarm below {BASE} is refused: Not authorized" in text
    assert f"topic write {BASE}/#" in do
    acl.write_text("pattern readwrite gatewayd/%u/#\n")
    allowed = started(login=("gw-1", PASSWORD), settings=(f"acl_file {acl}",))
    settings = config(tmp_path, f"{LOOPBACK}:{allowed.port}", more=more)
    assert worst(await found(settings, tmp_path))[0] is Verdict.OK


# --- the verdict --------------------------------------------------------------------------------------------

MQTT = Mqtt(
    brokers=(BrokerSettings(host="b", port=8883),),
    tls=True,
    ca_file=None,
    client_certificate=None,
    client_key_credential=None,
    username="gw-1",
    password_credential=None,
    keep_alive_s=8,
)
DONE = Talk(
    broker=BrokerSettings(host="b", port=8883),
    client_id="gatewayd-gw-1-selftest",
    step=Step.DONE,
    address="192.0.2.1",
    tls="TLSv1.3",
    expires_s=NOW_S + EXPIRES_SOON_S + 1,
    round_trip_ms=12.0,
)


def judged(*told: Talk, mqtt: Mqtt = MQTT) -> Row:
    return said(judge(told, mqtt, BASE, NOW_S))


def test_one_broker_of_two_is_enough_for_a_warning() -> None:
    """The other one takes its place."""
    broken = replace(DONE, step=Step.CONNECTION, problem="Connection refused")
    assert judged(DONE, broken).verdict is Verdict.WARN
    assert judged(broken, broken).verdict is Verdict.FAIL


def test_a_slow_link_is_told() -> None:
    row = judged(replace(DONE, round_trip_ms=SLOW_MS + 1))
    assert (row.verdict, "modem" in row.findings[0].do) == (Verdict.WARN, True)


def test_a_broker_that_lets_anyone_in_is_told() -> None:
    """Where it can be reached from elsewhere."""
    row = judged(DONE, mqtt=replace(MQTT, username=None))
    assert (row.verdict, "anyone" in row.worst_first[0].found) == (Verdict.WARN, True)
    assert judged(DONE, mqtt=replace(MQTT, username=None, tls=False)).verdict is Verdict.OK


@pytest.mark.parametrize("code", [0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x97, 0x9F, 0xEE])
def test_every_refusal_of_a_session_has_its_advice(code: int) -> None:
    row = judged(replace(DONE, step=Step.CONNACK, problem="refused", code=code))
    assert row.verdict is Verdict.FAIL


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.DONE])
def test_every_step_has_its_advice(step: Step) -> None:
    """Also where nothing came back at all."""
    assert judged(replace(DONE, step=step, problem="")).verdict is Verdict.FAIL
    assert "no answer in time" in judged(replace(DONE, step=step, problem="")).findings[0].found


def test_commands_that_may_not_be_read_are_told() -> None:
    """mosquitto grants every subscription and filters later; other brokers refuse it here."""
    row = judged(replace(DONE, step=Step.SUBSCRIBE, problem="Not authorized", code=0x87))
    assert f"topic read {BASE}/cmd/#" in row.findings[0].do


def test_an_unknown_fault_of_a_certificate_is_one_of_trust() -> None:
    row = judged(replace(DONE, step=Step.TLS, problem="odd", code=ssl.SSL_ERROR_SSL + 90))
    assert "ca_file" in row.findings[0].do
