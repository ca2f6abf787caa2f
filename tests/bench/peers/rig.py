"""The far end that all systems have alike: a proxy that plays the link, a broker, a recorder."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias

from bench.peers.feed import MARK
from gatewayd.sim.broker import LOOPBACK, Broker
from gatewayd.sim.proxy import Mode, Proxy

POLL_S: Final = 0.1
LISTENS_S: Final = 0.5  # a subscriber on loopback has its SUBACK after milliseconds


Read: TypeAlias = Callable[[bytes], Iterable[str]]  # the marks in what a system sent


def marks_in(payload: bytes) -> list[str]:
    """The feed's marks, however they are wrapped."""
    return [mark.decode() for mark in MARK.findall(payload)]


class Recorder:
    """A `mosquitto_sub` at the broker that writes down all that arrives, with the time.

    `arrivals`: time and mark, in the order they came, each as often as it came; `seen`: the marks among them.
    `signs`: when anything came, also what carries no mark, such as a birth.
    """

    def __init__(self, port: int, file: Path, read: Read) -> None:
        self._marks_in = read
        self.arrivals: list[tuple[float, str]] = []
        self.seen: set[str] = set()
        self.signs: list[float] = []
        self._rest = b""
        with file.open("wb") as out:
            everything = ("-t", "#", "-t", "$SYS/broker/connection/#")
            command = (
                "mosquitto_sub",
                "-h",
                LOOPBACK,
                "-p",
                str(port),
                "-q",
                "1",
                "-F",
                "%U %p",
                *everything,
            )
            self._process = subprocess.Popen(command, stdout=out)
        self._file = file.open("rb")

    def read(self) -> None:
        """Take in what came since."""
        lines = (self._rest + self._file.read()).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            when, _, payload = line.partition(b" ")
            marks = [*self._marks_in(payload)]
            self.signs.append(float(when))
            self.seen.update(marks)
            self.arrivals += [(float(when), mark) for mark in marks]

    def close(self) -> None:
        """Write no more."""
        self._process.terminate()
        self._process.wait()
        self._file.close()


class Rig:
    """A proxy, the broker behind it and the recorder at that. An async context manager."""

    def __init__(self, folder: Path, read: Read = marks_in) -> None:
        folder.mkdir(parents=True)
        self.broker = Broker(folder / "broker", settings=("max_queued_messages 0",))
        self.proxy = Proxy(self.broker.port)
        self._folder = folder
        self._read = read
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> Rig:
        async with AsyncExitStack() as ends:  # what was started ends too when the rest is not
            ends.callback(self.broker.kill)
            self.broker.start()
            self.recorder = Recorder(self.broker.port, self._folder / "recorded", self._read)
            ends.callback(self.recorder.close)
            await asyncio.sleep(LISTENS_S)
            await ends.enter_async_context(self.proxy)
            self._ends = ends.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._ends.aclose()

    def refuse(self) -> None:
        """Let the link fail so that everybody notices."""
        self.proxy.mode = Mode.REFUSE
        self.proxy.cut()

    async def until(self, marks: set[str], limit_s: float, quiet_s: float | None = None) -> float:
        """Wait until all marks have arrived, or the time is up; return when it was, seconds since 1970.

        `quiet_s`: also end when something has come since, and then nothing for so long.
        """
        began_s = time.time()
        while (now_s := time.time()) < began_s + limit_s:
            self.recorder.read()
            if marks <= self.recorder.seen:
                break
            last_s = self.recorder.arrivals[-1][0] if self.recorder.arrivals else 0.0
            if quiet_s is not None and began_s < last_s < now_s - quiet_s:
                break
            await asyncio.sleep(POLL_S)
        return now_s
