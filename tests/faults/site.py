"""One gateway among surroundings that can fail, and what is known of it from outside.

The gateway is the real daemon in a process of its own; its radio, receiver and microphone are simulated on
their real interfaces, its broker is a mosquitto behind a proxy. Whatever fails, fails below it: in the
broker, the proxy, the file system, or in what is preloaded between it and the C library.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from end_to_end.ops import Ops, listening, order

from faults.disk import Disk
from gatewayd.sim.broker import Broker
from gatewayd.sim.proxy import Proxy
from gatewayd.sim.world import TAG, World

SHIMS: Final = ("slow_sync", "power_cut", "clock", "resolver")
SYNC_MS: Final = 2_000  # of a slow disk
LIMIT_S: Final = 60.0  # for what takes a second on an idle machine
READY_S: Final = 30.0
LOOK_S: Final = 0.1
TAGS: Final = 12
BURST_S: Final = 2.0  # for so long a pressed tag sends
POWER_CUT: Final = 137  # what the shim ends the process with
_PLAN: Final = struct.Struct("<iiii16s")  # struct plan of tests/shim/power_cut.c
_WALL: Final = struct.Struct("<qq")  # struct wall of tests/shim/clock.c

_TAG: Final = """
[tag nurse-{number}-tag]
format = bthome
address = {address}
worker = nurse-{number}
"""
_MORE: Final = """
[health]
interval = 2s
"""


def _most_kb(status: Path) -> int:
    """The most memory a process has had, from its /proc/…/status."""
    found = re.search(r"^VmHWM:\s+(\d+)", status.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _address(number: int) -> str:
    return f"C4:11:22:33:44:{0x55 + number:02X}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """One activation of a tag, as the worker knows it."""

    tag: str
    counter: int
    at_s: float  # wall time, by a clock that is right
    life: int  # of the daemon, from 1


class Site(World):
    """A gateway in `folder` (a short path), its shims compiled in `shims`. `async with stand()` begins."""

    ops: Ops

    def __init__(self, folder: Path, shims: Path, *, disk: bool) -> None:
        """`disk`: its state lies on a file system of its own."""
        tags = "".join(_TAG.format(number=n, address=_address(n)) for n in range(2, TAGS + 1))
        super().__init__(folder, configuration=tags + _MORE)
        keeps = ("autosave_interval 1", "autosave_on_changes true")  # a broker that was killed remembers
        bounds = ("max_inflight_messages 0", "max_queued_messages 0")  # what it has is ours at once
        self.broker = Broker(folder / "broker", persistence=True, settings=(*keeps, *bounds))
        self.proxy = Proxy(self.broker.port)
        self.brokers = f"localhost:{self.proxy.port}"
        self.disk = Disk(self.state) if disk else None
        self.presses: list[Press] = []
        self.life = 0  # how often the daemon was started
        self.flapping: asyncio.Task[None] | None = None
        self.crashes: list[str] = []
        self.harmed: set[str] = set()  # alarms that lay on a disk that was then destroyed
        self.vanished: set[str] = set()  # alarms whose disk was deleted while no daemon was there to see it
        self.emptied: set[str] = set()  # alarms whose broker then forgot everything
        self.seen: dict[str, int] = {}  # faults, and the life of the daemon in which each began
        self.witnessed: set[str] = set()  # faults that one life of the daemon saw from beginning to end
        self.memory_kb = 0  # the most that any life has taken
        self.slow = folder / "slow"  # while it is there the disk is
        self.nameless = folder / "nameless"  # while it is there no name resolves
        self._plan = folder / "plan"
        self._wall = folder / "wall"
        self._watching: asyncio.Task[None] | None = None
        self._doomed: set[int] = set()  # lives that may end any moment, as we want them to
        self._tags = [0] * TAGS  # how often each was pressed
        self.unsettled = 0  # presses since all was closed
        libraries = " ".join(str(shims / f"{name}.so") for name in SHIMS)
        self.more_environment = {
            "LD_PRELOAD": libraries,
            "SLOW_SYNC_MS": str(SYNC_MS),
            "SLOW_SYNC_WHILE": str(self.slow),
            "POWER_CUT_PLAN": str(self._plan),
            "POWER_CUT_DIRECTORY": f"{self.state}/",
            "WALL_CLOCK": str(self._wall),
            "RESOLVER_FAILS": str(self.nameless),
        }

    @asynccontextmanager
    async def stand(self) -> AsyncIterator[None]:
        """Have it all there, and a gateway that hears."""
        self._plan.write_bytes(bytes(_PLAN.size))
        self.set_clock(0, synchronised=True)
        if self.disk is not None:
            self.disk.mount()
        try:
            async with self.up(), self.proxy, listening(self.broker.port) as self.ops:
                await self.start()
                yield
                self._doomed.add(self.life)
                await self.stop()
        finally:
            if self.disk is not None:
                self.disk.unmount()

    # --- the gateway ----------------------------------------------------------------------------------------

    async def start(self, *, hearing: bool = True) -> None:
        """Start the gateway, and wait until it hears where it is to come so far."""
        told = len(self.journal())
        self.life += 1
        if not hearing:
            self._doomed.add(self.life)
        await super().start()
        assert self.daemon is not None
        self._watching = asyncio.create_task(self._watch(self.daemon, self.life))
        if hearing:
            await self.until("a gateway that hears", lambda: "scans" in self.journal()[told:], READY_S)

    async def kill(self) -> None:
        """Kill the gateway at whatever it does."""
        self._doomed.add(self.life)
        await super().kill()

    def terminate(self) -> None:
        """Ask the gateway to stop, and do not wait."""
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.terminate()

    async def revive(self) -> None:
        """Start the gateway where it is dead."""
        if not self.alive:
            await self.start()

    @property
    def alive(self) -> bool:
        """Whether there is a gateway."""
        return self.daemon is not None and self.daemon.returncode is None

    @property
    def slain(self) -> bool:
        """Whether the gateway came to the step at which it was to die."""
        return self.daemon is not None and self.daemon.returncode in (-signal.SIGKILL, POWER_CUT)

    def doom(self, step: str, *, after: bool, discard: bool, times: int = 1) -> None:
        """Have it die before or after a step of its path (tests/shim/power_cut.c), when it comes there."""
        self._doomed.add(self.life)
        self._put(self._plan, _PLAN.pack(1, after, discard, times, step.encode()))

    def spare(self) -> None:
        """Let it live."""
        self._put(self._plan, bytes(_PLAN.size))
        if self.alive:
            self._doomed.discard(self.life)

    def set_clock(self, ahead_s: int, *, synchronised: bool) -> None:
        """Step the gateway's wall clock to so much before the right time."""
        self._put(self._wall, _WALL.pack(ahead_s, synchronised))

    def _put(self, file: Path, data: bytes) -> None:
        """Change a file in place: it is mapped."""
        with file.open("r+b" if file.exists() else "wb") as there:
            there.write(data)

    async def _watch(self, daemon: asyncio.subprocess.Process, life: int) -> None:
        """Note what it takes of memory, and whether it dies of its own."""
        status = Path(f"/proc/{daemon.pid}/status")
        while daemon.returncode is None:
            with suppress(OSError):
                self.memory_kb = max(self.memory_kb, _most_kb(status))
            await asyncio.sleep(LOOK_S)
        if life not in self._doomed:
            self.crashes.append(f"life {life} ended with {daemon.returncode}")

    def journal(self) -> str:
        """What the gateway has logged so far."""
        return self.log.read_text() if self.log.exists() else ""

    def accepted(self) -> dict[str, str]:
        """The alarms that the wearer was told are safe, each with who was said to have it."""
        told = re.findall(r"alarm (\S+): accepted, the (disk|broker) has it", self.journal())
        return dict(reversed(told))

    async def until(self, what: str, happened: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        """Wait for something that nobody is told of."""
        try:
            async with asyncio.timeout(limit_s):
                while not happened():  # noqa: ASYNC110 - see above
                    await asyncio.sleep(LOOK_S / 2)
        except TimeoutError:
            raise AssertionError(f"expected {what} within {limit_s:.0f} s") from None

    # --- the worker -----------------------------------------------------------------------------------------

    def _is_open(self, alarm: str) -> bool:
        return self.ops.state(alarm).get("handling") != "closed"

    async def call(self, number: int | None = None, for_s: float = BURST_S) -> Press:
        """Press a tag: one that was pressed the least, or this one (from 0)."""
        if number is None:
            number = self._tags.index(min(self._tags))
        life = self.life
        if number == 0:
            await self.press(for_s)
        else:
            await self.order(do="press", address=_address(number + 1), for_s=for_s)
        self._tags[number] += 1
        self.unsettled += 1
        name = TAG if number == 0 else f"nurse-{number + 1}-tag"
        press = Press(tag=name, counter=self._tags[number], at_s=time.time(), life=life)
        self.presses.append(press)
        return press

    # --- the desk -------------------------------------------------------------------------------------------

    def known(self) -> set[str]:
        """The alarms that were told as raised."""
        return {str(body["alarm"]) for body in self.ops.events("raised")}

    def unfinished(self) -> list[str]:
        """What is not yet as it must be in the end, as far as it can be seen from outside."""
        raised = {(body["tag"]["id"], body["tag"].get("counter")) for body in self.ops.events("raised")}
        accepted = self.accepted()
        missing = [f"{alarm} is not there" for alarm in accepted.keys() - self.known() - self.harmed]
        missing += [
            f"{press.tag} {press.counter} is not there"
            for press in self.presses
            if press.life == self.life and (press.tag, press.counter) not in raised
        ]
        chunks: list[str] = []
        for alarm in self.known():
            state = self.ops.state(alarm)
            if not state and (alarm in self.harmed or alarm not in accepted):
                continue  # it died between the event and the state, or lost its disk: nobody can close it
            if self.life > 1 and alarm in self.harmed & self.emptied:
                continue  # it arrived; then disk, broker and process were lost: nobody knows it to close it
            if state.get("handling") != "closed":
                missing.append(f"{alarm} is {state.get('handling')}")
            elif state["audio"]["state"] not in {"ended", "off", "unavailable"}:
                missing.append(f"sound of {alarm} is {state['audio']['state']}")
            elif alarm in self.harmed:
                continue  # what the broker was told last is all that is known of its sound
            elif absent := self.absent(alarm):
                chunks.append(f"{absent} chunks of {alarm} are not there")
        dropped = self.ops.health().get("outbox", {}).get("evicted", {}).get("audio", 0)
        return missing if sum(map(self.absent, self.known() - self.harmed)) <= dropped else missing + chunks

    def absent(self, alarm: str) -> int:
        """How many chunks of an alarm's sound have not come, without the numbers that were left out."""
        audio, come = self.ops.state(alarm).get("audio", {}), self.ops.chunks(alarm)
        skipped = sum(gap.get("skipped", 0) for gap in audio.get("gaps", []))
        return int(max(audio.get("chunks", 0), *come, 0) - skipped - len(come))

    def keep(self) -> None:
        """Write down what ops heard, beside the gateway's log."""
        lines = []
        for heard in self.ops.heard:
            parts = (heard.where.kind, heard.where.alarm, heard.where.n, heard.properties or heard.body)
            lines.append(json.dumps(parts))
        (self.folder / "heard").write_text("\n".join(lines))

    async def close(self) -> None:
        """Have ops close every alarm that is open."""
        for alarm in self.known():
            if self._is_open(alarm):
                self.ops.give("alarm/close", order(alarm=alarm, outcome="test"))

    async def settle(self, limit_s: float = LIMIT_S) -> list[str]:
        """Close every alarm and wait until all has arrived; return what has not."""
        self.unsettled = 0
        end_s = time.monotonic() + limit_s
        while (missing := self.unfinished()) and time.monotonic() < end_s:
            await self.close()
            with suppress(AssertionError):
                await self.until("all of it", lambda: not self.unfinished(), 4.0)
        return missing
