"""What the tests of the installation guide stand on: its blocks, an office that followed it, and its people.

A block of the guide is found by the remark before it: `<!-- run: NAME -->` for commands,
`<!-- file: PATH -->` for what a file holds, `<!-- config: NAME -->` for settings that belong to none of them.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import Final

from end_to_end.ops import LIMIT_S
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import Broker
from gatewayd.sim.world import GATEWAY

PROJECT: Final = Path(__file__).parent.parent
GUIDE: Final = PROJECT / "docs" / "installation.md"
_FENCE: Final = re.compile(
    r"(?:<!-- ([^\n]*) -->\n(?:[^`\n][^\n]*\n)?)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
# Commands for root, without root: nothing a test does needs another's rights.
_SUDO: Final = """\
#!/bin/sh
[ "$1" != -u ] || shift 2
command=$1
shift
case $command in
apt | chown) ;;
systemctl) if [ "$1" = reload ] && [ -e "$PID_FILE" ]; then kill -HUP "$(cat "$PID_FILE")"; fi ;;
install) shift 4 && exec install "$@" ;; # -o mosquitto -g mosquitto
*) exec "$command" "$@" ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code, and the remark before it."""

    remark: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All of the guide's blocks, in order."""
    found = _FENCE.findall(GUIDE.read_text("utf-8"))
    return [Block(remark=remark, language=language, text=text) for remark, language, text in found]


def block(remark: str) -> str:
    """The one block with this remark."""
    (text,) = [each.text for each in blocks() if each.remark == remark]
    return text


class Guided(Broker):
    """mosquitto with the guide's own files, below the main file that Debian has."""

    def __init__(self, etc: Path) -> None:
        super().__init__(etc)
        self._configuration.write_text(
            f"user {getuser()}\npid_file {etc}/pid\npersistence true\npersistence_location {etc}/\n"
            f"include_dir {etc}/conf.d\n"
        )


class Office:
    """A folder in which the guide's sections 2 and 3 were done, with `root` for the root of the broker."""

    def __init__(self, root: Path) -> None:
        self.etc = root / "etc/mosquitto"
        self.folder = root / "gateways"
        for folder in (self.etc / "conf.d", self.etc / "certs", root / "bin", root / "home"):
            folder.mkdir(parents=True)
        sudo = root / "bin/sudo"
        sudo.write_text(_SUDO)
        sudo.chmod(0o755)
        self.broker = Guided(self.etc)
        self._root = root

    def here(self, text: str) -> str:
        """The guide's words, with the places and names of the test."""
        port = self.broker.port
        for words, ours in {
            "broker.example.org -p 8883": f"localhost -p {port}",
            "brokers = broker.example.org": f"brokers = localhost:{port}",
            "broker.example.org": "localhost",
            "listener 8883": f"listener {port}",
            "/etc/mosquitto": str(self.etc),
            "gw-0001": GATEWAY,
        }.items():
            text = text.replace(words, ours)
        return text

    def run(self, commands: str, *, where: Path | None = None, **more: str) -> str:
        """Run a block's commands and return what they print."""
        commands = self.here(commands)
        for word, ours in more.items():
            commands = commands.replace(word, ours)
        environment = os.environ | {
            "PATH": f"{self._root}/bin:{os.environ['PATH']}:/usr/sbin",
            "PID_FILE": str(self.etc / "pid"),
            "PYTHONPATH": str(PROJECT),
        }
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=where or self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{commands}\n{run.stdout}{run.stderr}"
        return run.stdout

    def write(self, remark: str, path: Path) -> Path:
        """Write a file of the guide's."""
        path.write_text(self.here(block(f"file: {remark}")))
        return path

    def password(self, user: str) -> str:
        """The password that the guide's commands gave to somebody."""
        if user in ("ops", "monitor"):
            return (self.folder / f"{user}-password").read_text()
        unpacked = self.run(f"tar -xOf fleet/{user}.tar credentials/broker-password")
        assert re.fullmatch("[0-9a-f]{48}", unpacked)
        return unpacked

    def trust(self) -> ssl.SSLContext:
        """What somebody needs to know the broker by."""
        return ssl.create_default_context(cafile=self.folder / "ca.pem")


@dataclass
class Peer:
    """Somebody at the broker: what it hears, and how the broker answers what it publishes."""

    client: Client
    heard: list[str] = field(default_factory=list)  # payloads
    answers: dict[int, int] = field(default_factory=dict)  # reason code by message id
    ended: threading.Event = field(default_factory=threading.Event)
    news: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, topic: str, payload: str = "{}") -> int:
        """Publish, and return the reason code of the broker's answer."""
        mid = self.client.publish(topic, payload, qos=1).mid
        with self.news:
            assert self.news.wait_for(lambda: mid in self.answers, LIMIT_S), f"no answer for {topic}"
        return self.answers[mid]

    def hears(self, payload: str) -> list[str]:
        """Wait until this is heard, and return all that was heard up to then."""
        with self.news:
            assert self.news.wait_for(lambda: payload in self.heard, LIMIT_S), f"{payload} in {self.heard}"
        return self.heard


@contextmanager
def peer(
    office: Office, user: str, password: str | None = None, context: ssl.SSLContext | None = None
) -> Iterator[Peer]:
    """Connect as somebody, and listen to everything that this one may hear. ConnectionError when refused."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context or office.trust())
    if context is None:
        client.username_pw_set(user, office.password(user) if password is None else password)
    here, listening, refused = Peer(client=client), threading.Event(), []

    def on_connect(
        _client: Client, _user: object, _flags: ConnectFlags, reason: ReasonCode, _: object
    ) -> None:
        if reason.is_failure:
            refused.append(str(reason))
            listening.set()
        else:
            client.subscribe("#", qos=1)

    def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
        with here.news:
            here.heard.append(message.payload.decode())
            here.news.notify_all()

    def on_publish(
        _client: Client, _user: object, mid: int, reason: ReasonCode, _: Properties | None
    ) -> None:
        with here.news:
            here.answers[mid] = reason.value
            here.news.notify_all()

    def on_disconnect(*_: object) -> None:
        if not listening.is_set():
            refused.append("the session ended before it began")
            listening.set()
        here.ended.set()

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: listening.set()
    client.on_message = on_message
    client.on_publish = on_publish
    client.on_disconnect = on_disconnect
    client.connect("localhost", office.broker.port, clean_start=True)
    client.loop_start()
    try:
        assert listening.wait(LIMIT_S)
        if refused:
            raise ConnectionError(refused[0])
        yield here
    finally:
        client.disconnect()
        client.loop_stop()
        # What refers to itself in a circle leaves its sockets to the collector, which warns of them.
        client.on_connect = client.on_message = client.on_publish = client.on_disconnect = None
