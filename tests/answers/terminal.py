"""A terminal beside a gateway among simulated surroundings: what is typed there is what a person types."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.world import World

LIMIT_S: Final = 60.0  # for one command; it takes a second
# What an installed gateway and its desk have in /etc/gatewayd and /var/lib/gatewayd stands in a folder here.
_PROGRAM: Final = """\
#!/bin/sh
case "$1" in
    ops) exec {python} -m gatewayd "$@" --as Ada --broker {broker} ;;
    monitor) exec {python} -m gatewayd "$@" --broker {broker} ;;
    show-config | check-config) exec {python} -m gatewayd "$@" --config {config} ;;
    coverage | outbox) exec {python} -m gatewayd "$@" --config {config} --state {state} ;;
    audit) exec {python} -m gatewayd "$@" --state {state} ;;
    evidence) [ "$2" = verify ] || set -- "$@" --state {state}; exec {python} -m gatewayd "$@" ;;
esac
exec {python} -m gatewayd "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command as it was typed, and what came of it on either stream."""

    line: str
    printed: str
    status: int


class Terminal:
    """Types commands in a folder of its own; what was typed is kept, by the question it answers."""

    def __init__(self, world: World, folder: Path) -> None:
        self._folder = folder
        self._world = world
        self.typed: dict[str, list[Typed]] = {}
        program = folder / "bin" / "gatewayd"
        program.parent.mkdir(parents=True)
        program.write_text(
            _PROGRAM.format(
                python=sys.executable,
                broker=f"{LOOPBACK}:{world.broker.port}",
                config=world.configuration,
                state=world.state,
            )
        )
        program.chmod(0o755)
        (folder / "desk").mkdir()

    async def begin(self, line: str) -> asyncio.subprocess.Process:
        """Type a command that goes on."""
        environment = self._world.environment
        path = f"{self._folder / 'bin'}:{environment['PATH']}"
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", line),
            cwd=self._folder / "desk",
            env={**environment, "PATH": path, "COLUMNS": "110"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def type(self, question: str, line: str) -> Typed:
        """Type a command and keep what it printed as an answer to a question."""
        return await self.keep(question, line, await self.begin(line))

    async def keep(self, question: str, line: str, process: asyncio.subprocess.Process) -> Typed:
        """Wait for a command's end and keep what it printed."""
        async with asyncio.timeout(LIMIT_S):
            printed, _ = await process.communicate()
        text = printed.decode().replace(str(self._folder / "desk"), "/home/ada")
        typed = Typed(line=line, printed=text, status=process.returncode or 0)
        self.typed.setdefault(question, []).append(typed)
        return typed
