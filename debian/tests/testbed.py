"""What the tests of the installed package stand on: its service, settings of ours, a broker, an ops side.

Nothing here comes from the source tree: `gatewayd` is what the package installed.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.core.journal import MessageId
from gatewayd.sim.broker import LOOPBACK, Broker

T = TypeVar("T")

SERVICE: Final = "gatewayd.service"
DROP_IN: Final = Path("/etc/gatewayd/conf.d/zz-autopkgtest.conf")  # the last one that is read
GATEWAY: Final = "gw-autopkgtest"
LIMIT_S: Final = 120.0  # for what takes a second or two: a testbed may be an emulator
SESSION_S: Final = 3600  # longer than a test takes
# No device of the machine's is needed, and what its administrator configured does not count.
SETTINGS: Final = """\
[gateway]
id = {gateway}

[mqtt]
brokers = {host}:{port}
tls = no
ca_file =
client_certificate =
client_key_credential =
username =
password_credential =

[gps]
source = none

[audio]
enabled = no
"""


def run(*command: str) -> str:
    """Run a command; returns what it printed. Raises CalledProcessError when it fails."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def until(what: str, find: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """Ask until there is something; returns it. Raises AssertionError when there is nothing in time."""
    deadline_s = time.monotonic() + limit_s
    while not (found := find()):
        assert time.monotonic() < deadline_s, f"expected {what} within {limit_s:.0f} s"
        time.sleep(0.2)
    return found


# --- the service --------------------------------------------------------------------------------------------


def told(name: str) -> str:
    """What systemd says of the service."""
    return run("systemctl", "show", "--value", f"--property={name}", SERVICE).strip()


def entries(message_id: MessageId) -> list[dict[str, Any]]:
    """What the process that runs now said of such a change, oldest first."""
    match = (f"_PID={told('MainPID')}", f"MESSAGE_ID={message_id}")
    return [json.loads(line) for line in run("journalctl", "--boot", "--output=json", *match).splitlines()]


def says(text: str) -> Callable[[], bool]:
    """Whether the process that runs now said so."""
    return lambda: text in run("journalctl", "--boot", "--output=cat", f"_PID={told('MainPID')}")


def settings(port: int, more: str = "") -> dict[Path, str]:
    """The gateway's settings with a broker at `port` of this machine, as a file for `files`."""
    return {DROP_IN: SETTINGS.format(gateway=GATEWAY, host=LOOPBACK, port=port) + more}


@contextmanager
def files(contents: Mapping[Path, str]) -> Iterator[None]:
    """Have these files there, which the service reads when told to; afterwards it starts without them."""
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run("systemctl", "daemon-reload")
        yield
    finally:
        for path in contents:
            path.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", SERVICE)


# --- the broker and who listens there -----------------------------------------------------------------------


@contextmanager
def broker() -> Iterator[Broker]:
    """A broker that keeps what it has when it is stopped."""
    with TemporaryDirectory() as folder:
        made = Broker(Path(folder), persistence=True)
        made.start()
        try:
            yield made
        finally:
            made.stop()


class Ops:
    """Hears all that the gateway publishes at a broker, with a session that outlives the broker."""

    def __init__(self, port: int) -> None:
        self._heard: list[tuple[str, dict[str, Any]]] = []
        self._port = port
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="ops", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_connect = self._connected
        self._client.on_message = self._message

    def _connected(
        self, client: Client, _data: object, _flags: ConnectFlags, _code: ReasonCode, _properties: object
    ) -> None:
        client.subscribe(f"gatewayd/{GATEWAY}/#", qos=1)

    def _message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        base = f"gatewayd/{GATEWAY}/"
        if message.payload and not message.topic.rpartition("/")[0].endswith("/audio"):
            self._heard.append((message.topic.removeprefix(base), json.loads(message.payload)))

    def on(self, topic: str) -> list[dict[str, Any]]:
        """The messages on a topic below the gateway's base, oldest first."""
        return [body for heard, body in list(self._heard) if heard == topic]

    def last(self, topic: str, field: str, value: object) -> dict[str, Any] | None:
        """The latest message on a topic, if it says so."""
        bodies = self.on(topic)
        return bodies[-1] if bodies and bodies[-1].get(field) == value else None

    def refused(self, error: str) -> bool:
        """Whether health says that the configuration is refused for this."""
        bodies = self.on("health")
        return bool(bodies) and error in bodies[-1].get("configuration", {}).get("errors", ())

    def __enter__(self) -> Ops:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        properties.SessionExpiryInterval = SESSION_S
        self._client.connect(LOOPBACK, self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
