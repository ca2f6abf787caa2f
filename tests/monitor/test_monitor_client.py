"""The monitor at a real broker: what is published is shown, kept and played; a lost link comes back."""

import io
import json
import os
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gatewayd.config.load import load
from gatewayd.config.model import Broker, Mqtt
from gatewayd.core import ogg
from gatewayd.monitor import player
from gatewayd.monitor.client import EXIT_FAILED, EXIT_FINE, Options, options_from, run, tls_context
from gatewayd.monitor.player import NoPlayerError, Player, find
from gatewayd.sim import broker as sim

pytestmark = pytest.mark.skipif(
    shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None,
    reason="mosquitto is not installed",
)

BASE = "gatewayd/gw-1a2b3c4d"
SILENCE = b"\x08" + bytes(20)  # a packet for the container's sake: SILK, 20 ms, mono


PLAIN = Mqtt(
    brokers=(),
    tls=False,
    ca_file=None,
    client_certificate=None,
    client_key_credential=None,
    username=None,
    password_credential=None,
    keep_alive_s=8,
)


class Mosquitto(sim.Broker):
    """A broker of the test's own, and a gateway that publishes to it."""

    directory: Path

    @property
    def address(self) -> Broker:
        return Broker(host=sim.LOOPBACK, port=self.port)

    def subscribed(self, times: int = 1) -> None:
        """Wait until somebody subscribed, for the nth time."""
        end_s = time.monotonic() + 10
        while (self.directory / "mosquitto.log").read_text().count("Sending SUBACK") < times:
            assert time.monotonic() < end_s, "expected a subscription within 10 s"
            time.sleep(0.01)

    def publish(self, below: str, payload: bytes, *, retain: bool = False, **user: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho left it untyped
        properties.UserProperty = list(user.items())
        gateway = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        gateway.connect(sim.LOOPBACK, self.port)
        gateway.loop_start()
        gateway.publish(f"{BASE}/{below}", payload, 1, retain, properties).wait_for_publish(10)
        gateway.disconnect()
        gateway.loop_stop()


@contextmanager
def running(broker: Mosquitto) -> Iterator[Mosquitto]:
    """Start it, and stop it however the test ends."""
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, settings=("log_type all",))
    broker.directory = tmp_path
    with running(broker):
        yield broker


def options(mosquitto: Mosquitto, **more: Any) -> Options:
    return replace(
        Options(brokers=(mosquitto.address,), prefix="gatewayd", json=True, timeout_s=10.0), **more
    )


def chunks(count: int) -> list[bytes]:
    link = ogg.Link(5)
    found = [link.header(pre_skip=312, rate_hz=16000) + link.audio([SILENCE] * 25)]
    return found + [link.audio([SILENCE] * 25) for _ in range(count - 1)]


class Running:
    """A monitor in a thread, with what it printed."""

    def __init__(self, asked: Options) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, args=(asked,))
        self._thread.start()

    def _run(self, asked: Options) -> None:
        self.code = run(asked, self.out, self.err)

    def printed(self, text: str) -> None:
        """Wait until it printed that."""
        end_s = time.monotonic() + 10
        while text not in self.out.getvalue() + self.err.getvalue():
            assert time.monotonic() < end_s, (
                f"{text!r} not in {self.out.getvalue()!r}, {self.err.getvalue()!r}"
            )
            time.sleep(0.02)

    def end(self) -> int | None:
        self._thread.join(15)
        return self.code

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]


def test_what_is_published_is_shown_as_json(mosquitto: Mosquitto) -> None:
    """Retained and live messages, garbage and sound: one JSON object each; a double is one; then it ends."""
    mosquitto.publish("status", b'{"id":"s","state":"online"}', retain=True)
    monitor = Running(options(mosquitto, count=4))
    monitor.printed("online")
    mosquitto.publish("alarm/a1/event", b'{"id":"e","type":"raised"}')
    mosquitto.publish("alarm/a1/event", b'{"id":"e","type":"raised"}')
    mosquitto.publish("health", b"garbage")
    mosquitto.publish("alarm/a1/audio/0", b"OggS", live="true")
    assert monitor.end() == EXIT_FINE
    assert [message["topic"].removeprefix(f"{BASE}/") for message in monitor.messages] == [
        "status",
        "alarm/a1/event",
        "health",
        "alarm/a1/audio/0",
    ]
    assert "error" in monitor.messages[2]
    assert monitor.messages[3]["audio"] == {"n": 0, "bytes": 4, "live": "true"}


def test_one_alarm_can_be_asked_for(mosquitto: Mosquitto) -> None:
    """With an alarm's id only what belongs to it comes."""
    monitor = Running(options(mosquitto, alarm="a2", count=1))
    mosquitto.subscribed()
    mosquitto.publish("alarm/a1/event", b'{"id":"1"}')
    mosquitto.publish("health", b'{"id":"2"}')
    mosquitto.publish("alarm/a2/event", b'{"id":"3"}')
    assert monitor.end() == EXIT_FINE
    assert [message["payload"]["id"] for message in monitor.messages] == ["3"]


def test_time_is_up(mosquitto: Mosquitto) -> None:
    """Fewer messages than asked for in time is a failure; without a count it is the end."""
    assert run(options(mosquitto, count=1, timeout_s=0.5), io.StringIO(), io.StringIO()) == EXIT_FAILED
    assert run(options(mosquitto, timeout_s=0.5), io.StringIO(), io.StringIO()) == EXIT_FINE


def test_the_sound_is_kept_in_order(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Late, doubled and missing chunks of one alarm become one whole file; another alarm's stay out."""
    path = tmp_path / "alarm.opus"
    sound = chunks(4)
    monitor = Running(options(mosquitto, count=5, save=path))
    mosquitto.subscribed()
    for n in (0, 3, 1, 1):
        mosquitto.publish(f"alarm/a1/audio/{n}", sound[n])
    mosquitto.publish("alarm/a2/audio/0", sound[0])
    mosquitto.publish("alarm/a1/audio/7", b"noise")
    assert monitor.end() == EXIT_FINE
    kept = path.read_bytes()
    assert kept.startswith(sound[0] + sound[1])
    assert kept.count(b"OggS") == 7  # two headers, four chunks of which one is filled in, the end
    assert f"keeping the sound of alarm a1 in {path}" in monitor.err.getvalue()


def test_a_file_that_cannot_be_written_is_said_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The monitor goes on showing."""
    monitor = Running(options(mosquitto, count=2, save=tmp_path / "none" / "alarm.opus"))
    mosquitto.subscribed()
    for n, chunk in enumerate(chunks(2)):
        mosquitto.publish(f"alarm/a1/audio/{n}", chunk)
    assert monitor.end() == EXIT_FINE
    assert monitor.err.getvalue().count("cannot be kept") == 1


def test_a_lost_broker_is_said_and_found_again(mosquitto: Mosquitto) -> None:
    """The link comes back by itself, and what is published then is shown."""
    monitor = Running(options(mosquitto, count=1))
    mosquitto.subscribed()
    mosquitto.stop()
    monitor.printed("lost")
    mosquitto.start()
    monitor.printed("connected")
    mosquitto.subscribed(2)
    mosquitto.publish("status", b'{"id":"s","state":"online"}')
    assert monitor.end() == EXIT_FINE


def test_an_absent_broker_is_said_once_and_the_next_is_tried(mosquitto: Mosquitto) -> None:
    """Several brokers share one namespace; the first that answers is taken."""
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Broker(host="127.0.0.1", port=closed.getsockname()[1])
        mosquitto.publish("status", b'{"id":"s"}', retain=True)
        monitor = Running(options(mosquitto, brokers=(nobody, mosquitto.address), count=1))
        assert monitor.end() == EXIT_FINE
    assert monitor.err.getvalue().count("no broker at 127.0.0.1") == 1


def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    """Trying again would not help: it ends, and says what to look at."""
    err = io.StringIO()
    with running(Mosquitto(tmp_path, login=("ops", "right"))) as broker:
        assert run(options(broker, username="ops", password="wrong"), io.StringIO(), err) == EXIT_FAILED
    assert "user name" in err.getvalue()


# paho leaves its socket to the garbage collector when a TLS handshake fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    """With the configuration's files the broker lets us in; with a broker of another CA we do not go on."""
    certificates = sim.make_certificates(tmp_path / "ours")
    others = sim.make_certificates(tmp_path / "others")
    mqtt = replace(
        PLAIN,
        tls=True,
        ca_file=certificates.ca,
        client_certificate=certificates.client,
        client_key_credential="client.key",
    )
    err = io.StringIO()
    with running(
        Mosquitto(tmp_path / "broker", certificates=certificates, client_certificates=True)
    ) as broker:
        good = options(broker, tls=tls_context(mqtt, tmp_path / "ours"), timeout_s=1.0)
        assert run(good, io.StringIO(), err) == EXIT_FINE
        assert err.getvalue() == ""
        distrusting = tls_context(replace(mqtt, ca_file=others.ca), tmp_path / "ours")
        assert run(replace(good, tls=distrusting), io.StringIO(), err) == EXIT_FAILED
        assert "no certificate we trust" in err.getvalue()


def test_a_subscription_that_is_refused_is_not_taken_for_silence() -> None:
    """A broker that lets us in and lets us read nothing is named, and the monitor ends."""
    with socket.create_server((sim.LOOPBACK, 0)) as server:

        def refuse() -> None:  # mosquitto 2.0.11 grants every subscription and then sends nothing
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(bytes([0x20, 3, 0, 0, 0]))  # CONNACK: success (MQTT 5, 3.2)
                packet = connection.recv(4096)
                identifier = packet[2:4]
                connection.sendall(bytes([0x90, 10]) + identifier + bytes([0] + [0x87] * 7))  # not authorised
                connection.recv(4096)

        threading.Thread(target=refuse, daemon=True).start()
        here = Broker(host=sim.LOOPBACK, port=server.getsockname()[1])
        err = io.StringIO()
        asked = Options(brokers=(here,), prefix="gatewayd", timeout_s=10.0)
        assert run(asked, io.StringIO(), err) == EXIT_FAILED
        assert "does not let us read gatewayd/+/…: Not authorized" in err.getvalue()


def test_whoever_closes_the_pipe_has_enough(mosquitto: Mosquitto) -> None:
    """`gatewayd monitor | head -1` ends quietly."""
    mosquitto.publish("status", b'{"id":"s"}', retain=True)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        assert run(options(mosquitto), out, io.StringIO()) == EXIT_FINE


def test_the_live_view_runs_in_a_terminal(mosquitto: Mosquitto) -> None:
    """On a real terminal the alarm is drawn."""
    pytest.importorskip("rich", reason="rich draws the live view; it is optional")
    mosquitto.publish("alarm/a1/state", b'{"id":"s","handling":"raised","cause":"panic"}', retain=True)
    ours, theirs = os.openpty()
    drawn = bytearray()

    def screen() -> None:
        with suppress(OSError):  # the end of a pty
            while data := os.read(ours, 4096):
                drawn.extend(data)

    reader = threading.Thread(target=screen)
    reader.start()
    with os.fdopen(theirs, "w") as out:
        assert run(options(mosquitto, json=False, count=1), out, io.StringIO()) == EXIT_FINE
    reader.join()
    os.close(ours)
    assert b"ALARM panic" in drawn


def test_without_a_player_listening_is_refused(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named."""
    monkeypatch.setenv("PATH", "")
    err = io.StringIO()
    assert run(options(mosquitto, listen=True), io.StringIO(), err) == EXIT_FAILED
    assert "mpv, ffplay, opusdec" in err.getvalue()


def test_the_first_player_there_is_plays() -> None:
    """They are looked for in order."""
    assert find(lambda name: "/usr/bin/x" if name == "opusdec" else None)[0] == "opusdec"
    with pytest.raises(NoPlayerError):
        find(lambda _name: None)


def test_the_player_hears_the_chunks_in_order(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The player's standard input is the stream, its chunks in order."""
    path = tmp_path / "played"
    copy = "import sys,shutil; shutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb'))"
    monkeypatch.setattr(player, "PLAYERS", ((sys.executable, "-c", copy, str(path)),))
    sound = chunks(3)
    monitor = Running(options(mosquitto, count=3, listen=True))
    mosquitto.subscribed()
    for n in (0, 2, 1):
        mosquitto.publish(f"alarm/a1/audio/{n}", sound[n])
    assert monitor.end() == EXIT_FINE
    assert path.read_bytes() == b"".join(sound)


def test_a_player_that_ends_or_hangs_harms_nothing() -> None:
    """Neither a closed pipe nor a full one stops the monitor."""
    ended = Player((sys.executable, "-c", ""))
    hangs = Player((sys.executable, "-c", "import time; time.sleep(60)"))
    for _ in range(700):
        ended.play(bytes(1000))
        hangs.play(bytes(1000))
    ended.close()
    hangs.close()


def test_the_brokers_come_from_the_configuration(tmp_path: Path) -> None:
    """Brokers, prefix, user name and the password's credential are the gateway's own."""
    (tmp_path / "mqtt-password").write_text("right\n")
    path = tmp_path / "gatewayd.conf"
    path.write_text(
        "[gateway]\nid = gw-1\nprefix = care\n"
        "[mqtt]\nbrokers = localhost:1884\nusername = ops\npassword_credential = mqtt-password\n"
    )
    loaded = load(path, credentials=tmp_path, machine_id="0" * 32)
    found = options_from(loaded.config, tmp_path)
    assert found == Options(
        brokers=(Broker(host="localhost", port=1884),), prefix="care", username="ops", password="right"
    )
    assert options_from(replace(loaded.config, mqtt=PLAIN), None).password is None


def test_tls_settings_come_from_the_configuration(tmp_path: Path) -> None:
    """Plain where TLS is off; the broker is checked where it is on."""
    assert tls_context(PLAIN, None) is None
    context = tls_context(replace(PLAIN, tls=True), None)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(OSError, match="No such file"):
        tls_context(replace(PLAIN, tls=True, client_certificate=tmp_path / "none"), tmp_path)
