"""What the tests of the self-test share: configurations, machines in a folder, a systemd on PATH."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from gatewayd.config.layers import Layers
from gatewayd.config.load import Loaded, assemble
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.row import Finding, Row, Subject, Verdict

MACHINE_ID = "0123456789abcdef0123456789abcdef"
ADDRESS = "C4:11:22:33:44:55"
KEY = "231d39c1d7cc1ab1aee224cd096db932"
RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "MainPID": "4711",
    "StatusText": "hearing 1 tag, online, 0 waiting",
    "NRestarts": "0",
    "Result": "success",
    "ExecMainStatus": "0",
    "ActiveEnterTimestampMonotonic": "1000000",
    "NeedDaemonReload": "no",
    "User": "root",
    "SupplementaryGroups": "",
    "StateDirectory": "gatewayd",
    "DropInPaths": "",
}


class OnDisk(Machine):
    """A machine whose folders lie on a disk, though the tests' own may lie in memory."""

    def text(self, absolute: str | Path) -> str:
        mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw"
        return mounts if str(absolute) == "/proc/self/mountinfo" else super().text(absolute)


def loaded(text: str, *, credentials: Path | None = None) -> Loaded:
    """A configuration as if it stood in `1.conf`."""
    layers = Layers()
    layers.add(text.encode(), "1.conf")
    return assemble(layers, credentials=credentials, machine_id=MACHINE_ID)


def machine(root: Path, files: Mapping[str, str] = {}) -> Machine:
    """A machine in a folder, with these files by absolute path."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root)


def program(folder: Path, name: str, script: str) -> None:
    """A program for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def systemd(folder: Path, units: Mapping[str, Mapping[str, str]]) -> str:
    """A `systemctl show` that knows these units, and no others; returns the PATH with it."""
    arms = []
    for name, properties in units.items():
        (folder / name).write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        arms.append(f"{name}) cat '{folder / name}' ;;")
    unknown = "*) printf 'LoadState=not-found\\nActiveState=inactive\\nMainPID=0\\n' ;;"
    program(
        folder,
        "systemctl",
        'while [ "$1" != -- ]; do shift; done; shift\n'
        f'for unit in "$@"; do\ncase $unit in\n{chr(10).join(arms)}\n{unknown}\nesac\necho\ndone',
    )
    return f"{folder}:{os.environ['PATH']}"


def said(findings: Iterable[Finding]) -> Row:
    """The findings as a row, after what holds for all: what is no good says what to do, and only that."""
    row = Row(subject=Subject.SERVICE, findings=tuple(findings))
    for finding in row.findings:
        assert bool(finding.do) == (finding.verdict in {Verdict.WARN, Verdict.FAIL}), finding
        assert finding.found
        assert not set("{}") & set(finding.do), f"an unfilled {finding.do}"
    return row


def worst(findings: Iterable[Finding]) -> tuple[Verdict, str, str]:
    """The worst finding: its verdict, what was found, what to do."""
    finding = said(findings).worst_first[0]
    return finding.verdict, finding.found, finding.do
