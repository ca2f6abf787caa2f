"""What Linux says of a process."""

from __future__ import annotations

import os
import re
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


def child_running(pid: int, module: str) -> int | None:
    """The child of a process that runs a Python module; None when it has none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if module in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                return int(child)
    return None


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
