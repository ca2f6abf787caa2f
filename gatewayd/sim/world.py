"""All of the outside at once: a bus with BlueZ and a tag, a receiver, a microphone, a broker, and a gateway.

What the demo, training and end-to-end tests stand on. The gateway is the real one, in a process of its own,
as installed but for a configuration that names these surroundings.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

from gatewayd.sim.broker import LOOPBACK, Broker
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.gps import GpsReceiver
from gatewayd.sim.microphone import DEVICE, Microphone, Sound, speech

GATEWAY: Final = "gw-demo"
PREFIX: Final = "gatewayd"
TAG: Final = "nurse-1-tag"
ADDRESS: Final = "C4:11:22:33:44:55"
KEY: Final = "231d39c1d7cc1ab1aee224cd096db932"  # of the simulated tag, from a published test vector
_CREDENTIAL: Final = "tag-nurse-1"
_CONFIGURATION: Final = """\
[gateway]
id = {gateway}
prefix = {prefix}

[mqtt]
brokers = {brokers}

[gps]
source = serial:{receiver}

[audio]
device = {microphone}

[tag {tag}]
format = bthome
address = {address}
key_credential = {credential}
worker = nurse-1
{more}
"""
_STOP_S: Final = 10.0


class World:
    """The surroundings in `folder` (a short path: sockets lie in it). Begin with `async with world.up()`."""

    def __init__(self, folder: Path, *, sound: Sound | None = None, configuration: str = "") -> None:
        """`configuration`: further lines for the gateway's file, in sections of their own."""
        self.folder = folder
        self.bus = PrivateBus(folder)
        self.receiver = GpsReceiver(folder / "gps")
        self.broker = Broker(folder / "broker")
        self.brokers: str | None = None  # as the gateway is told of them; None: of the one there is
        self.microphone = Microphone(folder, sound or speech())
        self.state = folder / "state"
        self.log = folder / "gatewayd.log"
        self.configuration = folder / "gatewayd.conf"
        self.more_environment: dict[str, str] = {}  # for the gateway alone
        self.daemon: asyncio.subprocess.Process | None = None
        self._air: asyncio.subprocess.Process | None = None
        self._credentials = folder / "credentials"
        self._more = configuration
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}  # by the order's number

    @property
    def environment(self) -> dict[str, str]:
        """What a gateway in these surroundings runs with; no systemd of the machine's own watches it."""
        inherited = {name: value for name, value in os.environ.items() if name not in _SYSTEMD}
        credentials = {"CREDENTIALS_DIRECTORY": str(self._credentials)}
        # The folder holds a `bluetoothctl`, which bleak asks for its version.
        path = {"PATH": f"{self.folder}:{os.environ.get('PATH', '')}"}
        simulated = self.bus.environment() | self.microphone.environment | credentials | path
        return inherited | simulated | self.more_environment

    @property
    def command(self) -> tuple[str, ...]:
        """What runs the gateway."""
        files = ("--config", str(self.configuration), "--state", str(self.state))
        return (sys.executable, "-m", "gatewayd", "run", *files)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Have the surroundings there, without a gateway."""
        self._write()
        async with AsyncExitStack() as stack:
            stack.callback(self.microphone.close)
            stack.enter_context(self.bus)
            self.broker.start()
            stack.callback(self.broker.stop)
            driving = asyncio.create_task(self.receiver.run(), name="receiver")
            stack.push_async_callback(_cancel, driving)
            self._air = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gatewayd.sim.air"),
                env=self.bus.environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(_end, self._air)
            answers = cast("asyncio.StreamReader", self._air.stdout)  # a pipe, as asked
            if not await answers.readline():  # it is ready
                raise RuntimeError("expected a simulated BlueZ, it ended: see above")
            listening = asyncio.create_task(self._listen(answers), name="air")
            stack.push_async_callback(_cancel, listening)
            stack.push_async_callback(self.stop)
            yield

    async def start(self) -> None:
        """Start the gateway."""
        with self.log.open("ab") as log:
            self.daemon = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def stop(self) -> int | None:
        """Stop the gateway as systemd would; returns its exit status, None when it was not running."""
        daemon, self.daemon = self.daemon, None
        return None if daemon is None else await _end(daemon)

    async def kill(self) -> None:
        """Kill the gateway, as a lost supply would."""
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                daemon.kill()
            await daemon.wait()

    async def order(self, **order: Any) -> dict[str, Any]:
        """Have something happen on the air; see `sim.air` for the orders. Several may be under way."""
        if self._air is None or self._air.stdin is None:
            raise RuntimeError("expected the surroundings to be up, got an order before or after")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._air.stdin.write(json.dumps({**order, "n": number}).encode() + b"\n")
        return await answer

    async def _listen(self, answers: asyncio.StreamReader) -> None:
        """Hand each answer to who gave the order."""
        async for line in answers:
            answer = json.loads(line)
            waiting = self._answers.pop(answer["n"])
            if not waiting.done():
                waiting.set_result(answer)
        self._air = None
        for waiting in self._answers.values():
            waiting.set_exception(RuntimeError("expected an answer from the simulated BlueZ, it ended"))

    async def press(self, for_s: float = 3.0) -> dict[str, Any]:
        """Press the tag once."""
        return await self.order(do="press", address=ADDRESS, key=KEY, for_s=for_s)

    def _write(self) -> None:
        text = _CONFIGURATION.format(
            gateway=GATEWAY,
            prefix=PREFIX,
            brokers=self.brokers or f"{LOOPBACK}:{self.broker.port}",
            receiver=self.folder / "gps",
            microphone=DEVICE,
            tag=TAG,
            address=ADDRESS,
            credential=_CREDENTIAL,
            more=self._more,
        )
        self.configuration.write_text(text)
        self._credentials.mkdir(mode=0o700, exist_ok=True)
        (self._credentials / _CREDENTIAL).write_text(KEY)
        program = self.folder / "bluetoothctl"
        program.write_text("#!/bin/sh\necho 'bluetoothctl: 5.82'\n")
        program.chmod(0o755)


_SYSTEMD: Final = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "STATE_DIRECTORY"}


async def _end(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
