"""One MQTT 5 session against a real mosquitto."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sending import Heard, begin, clock, plain_line, settings, text, until

from gatewayd.config.model import Broker as Address
from gatewayd.core.model import ClockSource
from gatewayd.core.payload import Rendered
from gatewayd.edge.mqtt import (
    Line,
    LinkError,
    Login,
    RefusedError,
    Session,
    Will,
    dial,
    how_dates_are_judged,
    login,
    tls_context,
)
from gatewayd.edge.mqtt.line import NO_CHECK_TIME
from gatewayd.sim.broker import LOOPBACK, Broker, free_port, make_certificates


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.kill()


async def test_a_publish_gets_its_puback(broker: Broker) -> None:
    """The id `publish` returns is the one its PUBACK has."""
    heard = Heard()
    session = await begin(broker.port, heard)
    mids = [session.publish("t", text(b"x"), retain=False)[0] for _ in range(10)]
    await until(lambda: len(heard.pubacks) == 10)
    assert [mid for mid, _ in heard.pubacks] == mids
    assert all(reason < 0x80 for _, reason in heard.pubacks)
    assert session.terms.receive_maximum == 20  # mosquitto's default
    session.close()


async def test_a_message_arrives_with_its_properties(broker: Broker) -> None:
    """Content type, user properties, expiry, correlation data and retain reach the subscriber."""
    ops, gateway = Heard(), Heard()
    listening = await begin(broker.port, ops, client_id="ops")
    sending = await begin(broker.port, gateway, client_id="gateway")
    rendered = Rendered(
        payload=b"\x00sound", content_type="audio/ogg", user_properties=(("at", "now"),), expires_s=60
    )
    sending.publish("kept", rendered, retain=True, correlation=b"\x01\x02")
    await until(lambda: gateway.pubacks)
    listening.subscribe(["kept"])
    await until(lambda: ops.incoming)
    (incoming,) = ops.incoming
    assert (incoming.topic, incoming.payload, incoming.retained) == ("kept", b"\x00sound", True)
    assert incoming.correlation == b"\x01\x02"
    listening.unsubscribe("kept")
    listening.close()
    sending.close()


async def test_a_publish_from_inside_a_callback_works(broker: Broker) -> None:
    """paho holds its locks while it calls back; the listener is told when it has let go."""

    class Answering(Heard):
        session: Session

        def on_puback(self, mid: int, reason: int) -> None:
            super().on_puback(mid, reason)
            if len(self.pubacks) < 5:
                self.session.publish("t", text(b"x"), retain=False)

    heard = Answering()
    heard.session = await begin(broker.port, heard)
    heard.session.publish("t", text(b"x"), retain=False)
    await until(lambda: len(heard.pubacks) == 5)
    heard.session.close()


async def test_a_large_message_leaves_whole(broker: Broker) -> None:
    """What the socket does not take at once follows when it is writable."""
    ops, gateway = Heard(), Heard()
    listening = await begin(broker.port, ops, client_id="ops")
    listening.subscribe(["t"])
    sending = await begin(broker.port, gateway, client_id="gateway")
    payload = bytes(range(256)) * 40_000
    sending.publish("t", text(payload), retain=False)
    await until(lambda: ops.payloads("t"))
    assert ops.payloads("t") == [payload]
    listening.close()
    sending.close()


async def test_a_killed_broker_is_told_once(broker: Broker) -> None:
    """The listener hears that the session ended, and publishing fails from then on."""
    heard = Heard()
    session = await begin(broker.port, heard)
    broker.kill()
    await until(lambda: heard.lost)
    assert len(heard.lost) == 1
    with pytest.raises(LinkError):
        session.publish("t", text(b"x"), retain=False)
    with pytest.raises(LinkError):
        session.subscribe(["t"])
    session.close()


async def test_the_will_is_published_after_an_abort_and_not_after_a_close(broker: Broker) -> None:
    """A clean end says nothing, a sudden one lets the broker speak."""
    ops = Heard()
    listening = await begin(broker.port, ops, client_id="ops")
    listening.subscribe(["will/#"])
    (await begin(broker.port, Heard(), client_id="clean")).close()
    (await begin(broker.port, Heard(), client_id="sudden")).abort()
    await until(lambda: ops.payloads("will/sudden"))
    assert ops.payloads("will/clean") == []
    listening.close()


async def test_a_takeover_is_told(broker: Broker) -> None:
    """A second session of the same client id ends the first one."""
    heard = Heard()
    await begin(broker.port, heard, client_id="twin")
    second = await begin(broker.port, Heard(), client_id="twin")
    await until(lambda: heard.lost)
    assert len(heard.lost) == 1
    second.close()


async def test_a_wrong_topic_is_an_error_not_a_lost_session(broker: Broker) -> None:
    """What MQTT cannot carry is refused before it is sent."""
    session = await begin(broker.port, Heard())
    with pytest.raises(RefusedError, match="expected a topic and payload MQTT can carry"):
        session.publish("a/#", text(b"x"), retain=False)
    session.close()


async def test_a_port_nobody_listens_on_is_a_link_error() -> None:
    """The error says which broker, and why."""
    port = free_port()
    with pytest.raises(LinkError, match=rf"127\.0\.0\.1:{port}: .*refused"):
        await plain_line(port)


async def test_a_name_that_does_not_resolve_falls_back_to_its_last_address(broker: Broker) -> None:
    """DNS may fail where the way to the broker does not."""
    nowhere = Address(host="broker.invalid", port=broker.port)
    with pytest.raises(LinkError, match=r"broker\.invalid"):
        await dial(nowhere, None, user_timeout_s=10)
    line = await dial(nowhere, None, user_timeout_s=10, last_good=LOOPBACK)
    assert line.address == LOOPBACK
    line.socket.close()


async def test_a_name_server_that_is_silent_is_not_waited_for(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver gives up after half a minute; an alarm goes to the last good address long before."""
    asked = threading.Event()
    resolve = socket.getaddrinfo

    def silent(host: str, *arguments: Any, **fields: Any) -> Any:
        if host == "broker.example.org":
            asked.wait(30)
        return resolve(host, *arguments, **fields)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr("gatewayd.edge.mqtt.line.NAME_S", 0.2)
    nowhere = Address(host="broker.example.org", port=broker.port)
    try:
        async with asyncio.timeout(10):
            line = await dial(nowhere, None, user_timeout_s=10, last_good=LOOPBACK)
        assert line.address == LOOPBACK
        line.socket.close()
    finally:
        asked.set()


async def test_where_a_name_has_several_addresses_the_last_good_one_is_dialled_first(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others may swallow what is sent to them, and cost an alarm seconds each."""
    resolve = socket.getaddrinfo

    def several(host: str, *arguments: Any, **fields: Any) -> Any:
        if host == "broker.example.org":
            return [*resolve("127.0.0.2", *arguments, **fields), *resolve(LOOPBACK, *arguments, **fields)]
        return resolve(host, *arguments, **fields)

    monkeypatch.setattr(socket, "getaddrinfo", several)
    with socket.create_server(("127.0.0.2", broker.port)):
        for last_good, dialled in ((None, "127.0.0.2"), (LOOPBACK, LOOPBACK)):
            name = Address(host="broker.example.org", port=broker.port)
            line = await dial(name, None, user_timeout_s=10, last_good=last_good)
            assert line.address == dialled
            line.socket.close()


async def test_a_broker_that_speaks_something_else_is_a_link_error() -> None:
    """Bytes that are not MQTT end the session with an error, never with an exception of another kind."""
    noises = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00\x00",
        b"\x20\x03\x00\x00\x7f",
        b"\xf0\x00",
        b"",
    ]

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(noises[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        while noises:
            with pytest.raises(LinkError):
                await begin(port, Heard())
            noises.pop(0)
            if not noises:
                break


async def test_noise_after_the_connack_ends_the_session_and_nothing_else() -> None:
    """A broker gone mad is a lost session."""
    heard = Heard()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(
            b"\x20\x03\x00\x00\x00" + b"\x32\x07\x00\x01\xff\x00\x01\x05\x26" + b"\x40\xff\xff\xff\xff\x7f"
        )
        await writer.drain()
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        session = await begin(server.sockets[0].getsockname()[1], heard)
        await until(lambda: heard.lost)
        session.abort()


async def test_a_password_is_asked_for_and_given(tmp_path: Path) -> None:
    """Username and password by credential; without them the broker refuses and says so."""
    (tmp_path / "mqtt-password").write_text("s3cret\n")
    broker = Broker(tmp_path / "broker", login=("gw1", "s3cret"))
    broker.start()
    try:
        with pytest.raises(LinkError, match=r"Not authorized|Bad user name"):
            await begin(broker.port, Heard())
        who = login(settings(broker.port, username="gw1", password_credential="mqtt-password"), tmp_path)
        assert who == Login(username="gw1", password="s3cret")
        session = await Session.begin(
            await plain_line(broker.port),
            client_id="gw1",
            keep_alive_s=8,
            expiry_s=0,
            who=who,
            will=Will(topic="w", payload=b"", delay_s=0),
            listener=Heard(),
        )
        session.close()
    finally:
        broker.kill()


def test_a_login_without_a_password_and_one_that_is_missing(tmp_path: Path) -> None:
    """No username: no login; a credential that is not there is an error that names it."""
    assert login(settings(1), None) is None
    assert login(settings(1, username="gw1"), None) == Login(username="gw1", password=None)
    with pytest.raises(LinkError, match="mqtt-password"):
        login(settings(1, username="gw1", password_credential="mqtt-password"), tmp_path)


async def _tls_line(
    port: int, context: ssl.SSLContext, host: str = "localhost", offset_s: float | None = None
) -> Line:
    broker = Address(host=host, port=port)
    return await dial(broker, context, user_timeout_s=10, last_good=LOOPBACK, offset_s=offset_s)


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    """The broker is known by our CA, we by our certificate; without one there is no session."""
    made = make_certificates(tmp_path / "pki")
    broker = Broker(tmp_path / "broker", certificates=made, client_certificates=True)
    broker.start()
    try:
        mqtt = settings(
            broker.port,
            tls=True,
            ca_file=made.ca,
            client_certificate=made.client,
            client_key_credential="client.key",
        )
        context = tls_context(mqtt, tmp_path / "pki", judge_dates=True)
        heard = Heard()
        session = await begin(broker.port, heard, line=await _tls_line(broker.port, context))
        session.subscribe(["t"])
        for n in range(50):
            session.publish("t", text(b"%d" % n * 300), retain=False)
        await until(lambda: len(heard.pubacks) == 50 and len(heard.incoming) == 50)
        session.close()

        nobody = tls_context(settings(broker.port, tls=True, ca_file=made.ca), None, judge_dates=True)
        with pytest.raises(LinkError):
            await begin(broker.port, Heard(), line=await _tls_line(broker.port, nobody))

        stranger = make_certificates(tmp_path / "other")
        unknown = tls_context(settings(broker.port, tls=True, ca_file=stranger.ca), None, judge_dates=True)
        with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
            await _tls_line(broker.port, unknown)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("begins", "wrong"),
    [(timedelta(days=-3), "certificate has expired"), (timedelta(days=3), "certificate is not yet valid")],
)
async def test_dates_are_not_judged_while_the_time_is_not_known(
    tmp_path: Path, begins: timedelta, wrong: str
) -> None:
    """Name and chain still are; and only a configured CA makes the exception."""
    made = make_certificates(tmp_path / "pki", begins=datetime.now(UTC) + begins)
    other = make_certificates(tmp_path / "other", begins=datetime.now(UTC) + begins)
    broker = Broker(tmp_path / "broker", certificates=made)
    broker.start()
    try:
        mqtt = settings(broker.port, tls=True, ca_file=made.ca)
        with pytest.raises(LinkError, match=wrong):
            await _tls_line(broker.port, tls_context(mqtt, None, judge_dates=True))
        context = tls_context(mqtt, None, judge_dates=False)
        (await begin(broker.port, Heard(), line=await _tls_line(broker.port, context))).close()
        with pytest.raises(LinkError, match="Hostname mismatch"):
            await _tls_line(broker.port, context, host="broker.invalid")
        stranger = tls_context(replace(mqtt, ca_file=other.ca), None, judge_dates=False)
        with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
            await _tls_line(broker.port, stranger)
        system = tls_context(replace(mqtt, ca_file=None), None, judge_dates=False)
        assert not system.verify_flags & NO_CHECK_TIME
        with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
            await _tls_line(broker.port, system)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("began", "wrong"),
    [
        (timedelta(hours=1), None),
        (timedelta(days=3), "has expired"),
        (timedelta(days=-3), "is not yet valid"),
    ],
)
async def test_dates_are_judged_by_the_time_of_fixes(
    tmp_path: Path, began: timedelta, wrong: str | None
) -> None:
    """The system's clock is three years back and nobody sets it: the receiver knows the time all the same."""
    true_s = time.time() + 3 * 365 * 86_400
    made = make_certificates(tmp_path / "pki", begins=datetime.fromtimestamp(true_s, UTC) - began)
    broker = Broker(tmp_path / "broker", certificates=made)
    broker.start()
    try:
        mqtt = settings(broker.port, tls=True, ca_file=made.ca)
        known = replace(clock(), source=ClockSource.GNSS, offset_s=true_s - time.monotonic())
        dates = how_dates_are_judged(mqtt, known)
        assert dates.judged
        context = tls_context(mqtt, None, judge_dates=dates.by_system)
        dialling = _tls_line(broker.port, context, offset_s=dates.offset_s)
        if wrong is None:
            (await begin(broker.port, Heard(), line=await dialling)).close()
        else:
            with pytest.raises(LinkError, match=wrong):
                await dialling
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("source", "own_ca", "judged"),
    [
        (ClockSource.NTP, True, True),
        (ClockSource.GNSS, True, True),
        (ClockSource.RTC, True, False),
        (ClockSource.NONE, True, False),
        (ClockSource.NONE, False, True),
    ],
)
def test_dates_are_judged_where_somebody_vouches_for_the_time(
    tmp_path: Path, source: ClockSource, own_ca: bool, judged: bool
) -> None:
    """A real-time clock may be wrong without knowing it; only a configured CA makes an exception."""
    mqtt = settings(1, tls=True, ca_file=tmp_path / "ca.pem" if own_ca else None)
    assert how_dates_are_judged(mqtt, replace(clock(), source=source)).judged is judged


@pytest.mark.parametrize("aborted", [True, False])
async def test_what_has_not_left_goes_with_a_session_that_is_given_up(aborted: bool) -> None:
    """It must not delay the next one's; one that is closed still says goodbye."""
    with socket.create_server((LOOPBACK, 0)) as server:
        line = await plain_line(server.getsockname()[1])
        peer, _ = server.accept()
        peer.sendall(bytes.fromhex("2003000000"))  # CONNACK, and then it does not read
        session = await begin(0, Heard(), line=line)
        session.publish("t", text(bytes(8_000_000)), retain=False)
        if aborted:
            session.abort()
            with peer, pytest.raises(ConnectionResetError):
                read_all(peer)
        else:
            session.close()
            with peer:
                assert read_all(peer) > 0


def read_all(peer: socket.socket) -> int:
    """Read to the end; how much there was."""
    peer.settimeout(5)
    return sum(iter(lambda: len(peer.recv(1 << 20)), 0))


def test_tls_files_that_cannot_be_read_are_a_link_error(tmp_path: Path) -> None:
    """It is retried: the file may be put there while the gateway runs."""
    with pytest.raises(LinkError, match="TLS cannot be set up"):
        tls_context(settings(1, tls=True, ca_file=tmp_path / "none.pem"), None, judge_dates=True)
    made = make_certificates(tmp_path / "pki")
    mqtt = settings(1, tls=True, client_certificate=made.client, client_key_credential="none.key")
    with pytest.raises(LinkError, match=r"none\.key"):
        tls_context(mqtt, tmp_path, judge_dates=True)


async def test_a_silent_broker_ends_the_wait_for_connack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A black hole that accepts connections does not hold us for ever."""
    monkeypatch.setattr("gatewayd.edge.mqtt.session.CONNACK_S", 0.1)
    ended = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while await reader.read(1000):
                continue
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(swallow, LOOPBACK, 0)
    async with server:
        with pytest.raises(LinkError, match="no CONNACK"):
            await begin(server.sockets[0].getsockname()[1], Heard())
        await ended.wait()
