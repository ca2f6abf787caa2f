"""`gatewayd ops` at brokers that refuse it, and at gateways that say nothing, or something else."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gatewayd.cli import main
from gatewayd.core.uuid7 import is_uuid
from gatewayd.sim.broker import LOOPBACK, Broker

pytestmark = pytest.mark.skipif(
    shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None,
    reason="mosquitto is not installed",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def gateway(broker: Broker, *replies: dict[str, object]) -> Iterator[list[bytes]]:
    """Answers each command with these replies; gives the commands."""
    heard: list[bytes] = []
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

    def answer(_client: Client, _user: object, message: MQTTMessage) -> None:
        heard.append(bytes(message.payload))
        for reply in replies:
            client.publish("gatewayd/gw-1/reply", json.dumps(reply), 1)

    client.on_message = answer
    client.on_subscribe = lambda *_: ready.set()
    client.connect(LOOPBACK, broker.port)
    client.subscribe("gatewayd/gw-1/cmd/#", 1)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def ops(broker: Broker, *words: str) -> int:
    return main(["ops", *words, "--broker", f"{LOOPBACK}:{broker.port}"])


def test_somebody_elses_reply_is_not_ours(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """Two desks may ask at once; each waits for its own."""
    with gateway(
        broker, {"id": "theirs", "ok": True}, {"id": "ours", "ok": False, "error": {"code": "conflict"}}
    ):
        assert ops(broker, "gw-1", "accept", "a", "--id", "ours") == 1
    assert "alarm/accept: conflict" in capsys.readouterr().out


def test_a_gateway_that_is_silent_is_no_success(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """It has the command; what became of it nobody knows, and nobody claims."""
    with gateway(broker) as heard:
        assert ops(broker, "gw-1", "locate", "--every-s", "5", "--timeout", "1", "--as", "Ada") == 1
        (command,) = map(json.loads, heard)
    assert command["every_s"] == 5
    assert command["actor"] == {"id": "Ada", "name": "Ada"}
    error = capsys.readouterr().err
    assert "whether it was done is not known" in error
    assert command["id"] in error
    assert is_uuid(command["id"])


def test_a_reply_that_is_no_json_is_passed_over(broker: Broker) -> None:
    with gateway(broker, {"id": ["x"]}, {"id": "ours", "ok": True}):
        assert ops(broker, "gw-1", "test/run", "--id", "ours") == 0


@pytest.mark.parametrize(
    ("settings", "login", "expected"),
    [
        (("topic read gatewayd/#",), None, "does not let us publish gatewayd/gw-1/cmd/test/run"),
        (None, ("ops", "secret"), "the broker refused us"),
    ],
)
def test_a_broker_that_does_not_let_us_is_told_as_such(
    settings: tuple[str, ...] | None,
    login: tuple[str, str] | None,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By its rights or its door: what is wrong is at the broker, not at the gateway."""
    rights = tmp_path / "acl"
    rights.write_text("\n".join([*(settings or ()), ""]))
    broker = Broker(tmp_path / "b", login=login, settings=(f"acl_file {rights}",) if settings else ())
    broker.start()
    try:
        assert ops(broker, "gw-1", "test/run", "--timeout", "3") == 1
    finally:
        broker.stop()
    assert expected in capsys.readouterr().err
