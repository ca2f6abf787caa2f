"""A system bus of our own: a real dbus-daemon on a socket in a folder, started by whoever runs this."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final
from xml.sax.saxutils import escape

# Where D-Bus libraries, bleak's among them, look for the system bus.
SYSTEM_BUS: Final = "DBUS_SYSTEM_BUS_ADDRESS"

# Anyone of this user may own any name and hear everything: there is only the simulated world on this bus.
# `session` keeps the daemon from changing its user and from looking for the system's own policies.
_CONFIG: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
_STOP_LIMIT_S: Final = 2.0  # a dbus-daemon ends within milliseconds of SIGTERM; then it is killed


class PrivateBus:
    """A dbus-daemon for as long as the `with` block lasts.

    `folder` takes its configuration and its socket; the path must stay below the 108 bytes of a Unix
    socket's address. Raises FileNotFoundError where dbus-daemon is not installed, RuntimeError where it
    does not start.
    """

    def __init__(self, folder: Path) -> None:
        self._config = folder / "bus.conf"
        self._socket = folder / "bus"
        self._log = folder / "bus.log"  # what the daemon complains of, e.g. limits it may not raise
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients connect to, for `DBUS_SYSTEM_BUS_ADDRESS`."""
        return f"unix:path={self._socket}"

    def environment(self) -> dict[str, str]:
        """This process's environment with the private bus as the system bus, for child processes."""
        return {**os.environ, SYSTEM_BUS: self.address}

    def __enter__(self) -> PrivateBus:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon; returns once it takes connections."""
        self._config.write_text(_CONFIG.format(socket=escape(str(self._socket))))
        self._socket.unlink(missing_ok=True)  # a killed daemon leaves its socket behind
        address, prints_to = os.pipe()
        command = ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile"]
        command.append(f"--print-address={prints_to}")
        try:
            with self._log.open("wb") as log:
                self._daemon = subprocess.Popen(command, pass_fds=[prints_to], stderr=log)
        finally:
            os.close(prints_to)
            with open(address) as output:  # noqa: PTH123 -- a descriptor, not a path
                listens = bool(output.readline())  # the address is printed once the socket listens
        if not listens:
            self.stop()
            raise RuntimeError(
                f"expected a dbus-daemon listening at {self._socket}, got: {self._log.read_text()}"
            )

    def stop(self) -> None:
        """End the daemon; every client loses its connection."""
        if self._daemon is None:
            return
        self._daemon.terminate()
        try:
            self._daemon.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None
