"""What the probes ask of the machine: files, commands, processes, units; each within a time limit.

Nothing here judges. What may hang in a driver, a file system or a resolver runs in a daemon thread or a child
process, so that the self-test ends in time whatever hangs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

COMMAND_S: Final = 5.0  # systemctl answers in 20 ms; on a Pi that is busy with an SD card in a second or two
_REAP_S: Final = 0.2  # a killed child is gone in milliseconds, or hangs in the kernel

# What is asked of each unit (systemctl(1), show).
_PROPERTIES: Final = (
    "LoadState,ActiveState,SubState,UnitFileState,MainPID,StatusText,NRestarts,Result,ExecMainStatus,"
    "ActiveEnterTimestampMonotonic,NeedDaemonReload,User,SupplementaryGroups,StateDirectory,DropInPaths"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running program."""

    pid: int
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The program's name, without its folder."""
        return Path(self.arguments[0]).name

    def __str__(self) -> str:
        return f"{' '.join(self.arguments)[:60]} (process {self.pid})"


class Machine:
    """The machine below `root` (tests pass a folder)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, absolute: str | Path) -> Path:
        """Return where an absolute path of the machine lies."""
        return self.root / str(absolute).lstrip("/")

    def text(self, absolute: str | Path) -> str:
        """Return a small file's text without what surrounds it; empty when it cannot be read."""
        try:
            return self.path(absolute).read_text("utf-8", errors="replace").strip("\0 \n")
        except OSError:
            return ""

    def processes(self) -> Iterator[Process]:
        """Yield all processes but this one."""
        for folder in self.path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            if pid != os.getpid() and (arguments := self.arguments(pid)):
                yield Process(pid=pid, arguments=arguments)

    def arguments(self, pid: int) -> tuple[str, ...]:
        """Return the command line of a process; empty when it is gone, or the kernel's own."""
        return tuple(self.text(f"/proc/{pid}/cmdline").split("\0"))

    def holders(self, path: Path) -> list[Process]:
        """Return who has a file open, as far as this user may see; blocks shortly."""
        target = os.path.realpath(path)
        return [process for process in self.processes() if target in self._open_files(process)]

    def _open_files(self, process: Process) -> Iterable[str]:
        descriptors = self.path("/proc") / str(process.pid) / "fd"
        with suppress(OSError):
            for descriptor in descriptors.iterdir():
                with suppress(OSError):
                    yield str(descriptor.readlink())

    def group_ids(self, pid: int) -> frozenset[int] | None:
        """Return the groups of a process; None when it is gone."""
        for line in self.text(f"/proc/{pid}/status").splitlines():
            name, _, value = line.partition(":")
            if name == "Groups":
                return frozenset(map(int, value.split()))
        return None

    def is_pi(self) -> bool:
        """Say whether this is a Raspberry Pi."""
        return self.text("/proc/device-tree/model").startswith("Raspberry Pi")


async def command(*words: str, limit_s: float = COMMAND_S) -> str | None:
    """Run a program and return its output; None when it is not there or does not end in time."""
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await child.communicate()
            return output.decode(errors="replace")
    except TimeoutError:
        return None
    finally:
        if child.returncode is None:
            child.kill()
            with suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await child.wait()


async def units(*names: str) -> list[Mapping[str, str]]:
    """Return what systemd says of units, in their order; of each nothing where there is no systemd."""
    output = await command("systemctl", "show", f"--property={_PROPERTIES}", "--", *names) or ""
    blocks: list[Mapping[str, str]] = [dict(_pairs(block)) for block in output.strip().split("\n\n")]
    return blocks if len(blocks) == len(names) else [{} for _ in names]


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            yield name, value


def in_thread(function: Callable[[], T]) -> Awaitable[T]:
    """Run what may block in a daemon thread of its own, which can be left behind."""
    outcome: Future[T] = Future()

    def work() -> None:
        outcome.set_running_or_notify_cancel()
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 it is raised where the outcome is awaited
            outcome.set_exception(error)

    threading.Thread(target=work, name="selftest", daemon=True).start()
    return asyncio.wrap_future(outcome)


async def end(task: asyncio.Task[None]) -> None:
    """End the task of an edge that was listened to; raises what it failed with, if it did."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
