"""What Linux says of a process."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def rss_mb(pid: int) -> float:
    """Resident memory, MB (10^6 bytes)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"expected a running process {pid}, it has ended")
    return int(found[1]) * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """Processor time used so far, all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process started and that are still there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def child_running(pid: int, module: str) -> int | None:
    """The child of a process that runs a Python module; None when it has none."""
    for child in children(pid):
        if module in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
            return child
    return None


@contextmanager
def no_child_left() -> Iterator[None]:
    """Leave no process behind however the block ends; SIGTERM and SIGHUP interrupt it as SIGINT does.

    What the block started ends with it; this is for what it could not end any more.
    """
    handlers = {
        signal.SIGINT: signal.default_int_handler,  # also in the background, where a shell has it ignored
        signal.SIGTERM: _interrupt,
        signal.SIGHUP: _interrupt,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _kill_below(os.getpid())


def _interrupt(_number: int, _frame: object) -> None:
    """Let asyncio cancel what runs, as for SIGINT: an exception from here could be raised anywhere."""
    signal.raise_signal(signal.SIGINT)


def _kill_below(pid: int) -> None:
    """Kill all that a process started, and what those started: the parent stands still meanwhile."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        for child in children(pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
            _kill_below(child)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def peak_mb(pid: int) -> float:
    """The most resident memory there has been, MB (10^6 bytes)."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"expected a running process {pid}, it has ended")
    return int(found[1]) * 1024 / 1e6


def written_bytes(pid: int) -> int:
    """Bytes that went to block devices so far: whole pages, counted when they become dirty."""
    found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"expected write_bytes of process {pid}, this kernel does not count them")
    return int(found[1])
