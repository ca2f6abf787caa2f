"""A world to measure in, and an ops side that notes what arrives."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.core import topic
from gatewayd.core.topic import Kind
from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.world import GATEWAY, KEY, PREFIX, World

READY_S: Final = 20.0
MEMORY: Final = "/dev/shm"
ACTOR: Final = {"id": "bench"}
_TAG: Final = """
[tag {name}]
format = bthome
address = {address}
key_credential = tag-nurse-1
worker = nurse-1
"""
HERE: Final = Path(__file__).parent.parent  # where the package `bench` lies


def name_of(number: int) -> str:
    """The id of measured tag `number`."""
    return f"bench-{number}"


def address_of(number: int) -> str:
    """The address of measured tag `number`."""
    return "C4:22:00:00:" + number.to_bytes(2, "big").hex(":").upper()


class MeasuredWorld(World):
    """A world with `tags` more tags, all of one worker: a second one's presses would corroborate, and cost.

    `program`: the module that runs as the daemon. `more`: environment for the daemon alone. `state`: where
    it keeps its state, if not in `folder`. `configuration`: further lines for the gateway's file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tags: int = 0,
        program: str = "gatewayd",
        more: Mapping[str, str] | None = None,
        state: Path | None = None,
        configuration: str = "",
    ) -> None:
        sections = (_TAG.format(name=name_of(each), address=address_of(each)) for each in range(tags))
        super().__init__(folder, configuration=configuration + "".join(sections))
        self.state = state or self.state
        self._program = program
        self._environment = more or {}

    @property
    def environment(self) -> dict[str, str]:
        """What the daemon runs with."""
        return super().environment | {"PYTHONPATH": str(HERE)} | dict(self._environment)

    @property
    def command(self) -> tuple[str, ...]:
        """What runs the daemon."""
        return (sys.executable, "-m", self._program, *super().command[3:])

    @property
    def pid(self) -> int:
        """The daemon's."""
        if self.daemon is None or self.daemon.returncode is not None:
            raise RuntimeError(f"expected the gateway to run, it ended: {self.log.read_text()}")
        return self.daemon.pid

    async def press_tag(self, number: int) -> None:
        """Press a measured tag; a single copy goes out."""
        await self.order(do="press", address=address_of(number), key=KEY, for_s=0)


@dataclass(slots=True, kw_only=True)
class SeenAlarm:
    """What arrived of one alarm."""

    tag: str
    raised_bytes: int  # of the payload
    state: Mapping[str, Any] = field(default_factory=dict)  # the newest
    chunks: int = 0
    sound_bytes: int = 0

    @property
    def hops_ms(self) -> Mapping[str, float]:
        hops: Mapping[str, float] = self.state.get("hops_ms", {})
        return hops

    @property
    def closed(self) -> bool:
        return self.state.get("handling") == "closed"


class Ops:
    """Everything that arrives at the broker. Within `async with connected(port)`."""

    def __init__(self, client: Client) -> None:
        self.alarms: dict[str, SeenAlarm] = {}
        self.online = False
        self.on_raised: Callable[[str], object] = lambda _: None
        self._scans = False
        self._client = client
        self._news = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the gateway is online and its radio scans."""
        return self.online and self._scans

    @property
    def sound_bytes(self) -> int:
        """How much sound has come, of all alarms."""
        return sum(seen.sound_bytes for seen in self.alarms.values())

    def of_tag(self, tag: str) -> list[str]:
        """The alarms a tag raised."""
        return [alarm for alarm, seen in self.alarms.items() if seen.tag == tag]

    def close(self, alarm: str) -> None:
        """Order an alarm closed."""
        fields = {"id": str(uuid.uuid4()), "actor": ACTOR, "alarm": alarm, "outcome": "test"}
        whole = f"{topic.base(PREFIX, GATEWAY)}/{topic.command('alarm/close')}"
        self._client.publish(whole, json.dumps(fields).encode(), qos=1)

    async def until(self, happened: Callable[[], bool], limit_s: float) -> bool:
        """Wait for what arrives to make something true; whether it did within the limit."""
        try:
            async with asyncio.timeout(limit_s):
                while not happened():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def take(self, whole: str, content: bytes) -> None:
        """A message came; on the event loop."""
        split = topic.below(PREFIX, whole)
        where = split and topic.parse(split[1])
        if where is None:
            return
        match where.kind:
            case Kind.STATUS:
                self.online = json.loads(content)["state"] == "online"
            case Kind.HEALTH:
                self._scans = "scans" in json.loads(content)["components"]["radio"]["detail"]
            case Kind.ALARM_EVENT:
                self._event(where.alarm or "", content)
            case Kind.ALARM_STATE if where.alarm in self.alarms:
                self.alarms[where.alarm].state = json.loads(content)
            case Kind.ALARM_AUDIO if where.alarm in self.alarms:
                self.alarms[where.alarm].chunks += 1
                self.alarms[where.alarm].sound_bytes += len(content)
            case _:
                return
        self._news.set()

    def _event(self, alarm: str, content: bytes) -> None:
        body = json.loads(content)
        if body["type"] == "raised" and alarm not in self.alarms:
            self.alarms[alarm] = SeenAlarm(tag=body["tag"]["id"], raised_bytes=len(content))
            self.on_raised(alarm)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Ops]:
    """An ops side at the broker on loopback."""
    loop = asyncio.get_running_loop()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    ops = Ops(client)

    def on_connect(
        client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        client.subscribe("#", qos=1)  # the bare publisher's messages too: the broker does as much for both

    def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
        loop.call_soon_threadsafe(ops.take, message.topic, bytes(message.payload))

    client.on_connect = on_connect
    client.on_message = on_message
    client.connect(LOOPBACK, port)
    client.loop_start()
    try:
        yield ops
    finally:
        client.disconnect()
        client.loop_stop()


@asynccontextmanager
async def running(
    *,
    tags: int = 0,
    program: str = "gatewayd",
    more: Mapping[str, str] | None = None,
    state: Path | None = None,
    configuration: str = "",
    hindered: bool = False,
) -> AsyncIterator[tuple[MeasuredWorld, Ops]]:
    """A gateway that is online and scans. `hindered`: no receiver, and a microphone that hangs in open.

    `state`: on the disk that is looked at; the world's own files, and the daemon's log, then lie in memory.
    """
    with TemporaryDirectory(prefix="gw-", dir=MEMORY if state else None) as folder:
        world = MeasuredWorld(
            Path(folder), tags=tags, program=program, more=more, state=state, configuration=configuration
        )
        async with world.up(), connected(world.broker.port) as ops:
            if hindered:
                world.receiver.unplug()
                world.microphone.hang()
            await world.start()
            if not await ops.until(lambda: ops.ready, READY_S):
                raise TimeoutError(f"expected a gateway that scans, got: {world.log.read_text()}")
            yield world, ops


@asynccontextmanager
async def helper(module: str, *arguments: str, environment: Mapping[str, str]) -> AsyncIterator[Helper]:
    """Run a module of this package; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env={**environment, "PYTHONPATH": str(HERE)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Helper(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Helper:
    """A process beside the daemon that writes one JSON value a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def answer(self) -> Any:
        """What it says next. RuntimeError when it ended instead."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("expected an answer from a helper process, it ended: see above")
        return json.loads(line)


def plain_environment() -> dict[str, str]:
    """This process's own environment."""
    return dict(os.environ)
