"""systemd's side of sd_notify(3): a datagram socket that hears what the daemon says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from pathlib import Path
from types import TracebackType

from end_to_end.ops import LIMIT_S


class ServiceManager:
    """Listens at a socket in `folder`. Give `environment` to the daemon."""

    def __init__(self, folder: Path, *, watchdog_s: float | None = None) -> None:
        self.said: list[str] = []  # assignments, in order
        self._path = folder / "notify"
        self._watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.setblocking(False)

    @property
    def environment(self) -> dict[str, str]:
        """What systemd sets for a service of Type=notify."""
        watched = {} if self._watchdog_s is None else {"WATCHDOG_USEC": str(int(self._watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": str(self._path)} | watched

    async def until(self, assignment: str, times: int = 1) -> None:
        """Wait until an assignment that matches was heard so many times."""
        async with asyncio.timeout(LIMIT_S):
            while sum(bool(re.match(assignment, said)) for said in self.said) < times:
                await self._hear()

    async def hear(self, *, for_s: float) -> None:
        """Hear whatever comes for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                while True:
                    await self._hear()

    async def _hear(self) -> None:
        said = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
        self.said += said.decode().splitlines()

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
