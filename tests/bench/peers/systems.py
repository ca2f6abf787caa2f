"""The systems under test: how each is configured, started, fed and killed.

"As shipped" is what installing it and naming the broker gives; "tuned" is the best we could make of its own
settings for what gatewayd is for: nothing lost, and a dead link noticed soon. Who knows better settings is
asked to put them here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, TypeAlias

from bench.counter import Counter
from bench.peers.feed import Feed, Ledger
from bench.peers.install import THEENGS, THINGSBOARD, installed, site_packages
from bench.peers.session_limits import SessionLimits
from bench.surroundings import HERE
from gatewayd.sim.broker import LOOPBACK, Broker, held_port
from gatewayd.sim.dbus import SYSTEM_BUS, PrivateBus

STARTS_S: Final = 120.0  # a Python gateway among a dozen others on two cores
STOPS_S: Final = 5.0
LINE_BYTES: Final = 1 << 16
LOG_CHARACTERS: Final = 500  # of a log, to tell why something ended

# The bridge's two configurations. As shipped: Debian's mosquitto.conf has persistence on, nothing else.
BRIDGE: Final = ("connection bench", "address {host}:{port}", "topic # out 1")
BRIDGE_TUNED: Final = (
    "max_queued_messages 0",
    "max_inflight_messages 100",
    # The database is written again after each message: the only setting under which a kill loses none.
    "autosave_interval 1",
    "autosave_on_changes true",
    *BRIDGE,
    "keepalive_interval 5",  # the least it takes
    "restart_timeout 1 3",
)
# ThingsBoard's second one: on disk, without what needs its server, and a dead link noticed as soon as it can.
THINGSBOARD_TUNED: Final[Mapping[str, Any]] = {
    "thingsboard": {
        "keep_alive": 5,
        "minPackSendDelayMS": 10,
        "statistics": {"enable": False},
        "handleDeviceRenaming": False,
    },
    "storage": {"type": "sqlite", "data_file_path": "./data/", "max_read_records_count": 1_000},
}


class System(Protocol):
    """One system under test; it survives its own death."""

    pid: int
    syncs: Counter  # its fsync and fdatasync calls

    async def start(self, ledger: Ledger, proxy_port: int, broker_port: int) -> Feed:
        """Start, and return what it is fed with. `broker_port`: for what is no part of the system."""

    async def kill(self) -> None:
        """Kill it: nothing is said or written any more."""

    async def stop(self) -> None:
        """End it as a service manager would."""


Make: TypeAlias = Callable[[Path, Path], System]  # of its folder and the library that counts syncs


def _counted(folder: Path, shim: Path) -> tuple[Counter, dict[str, str]]:
    """A counter of syncs, and the environment in which a process counts its own there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "syncs"
    return Counter(file), {"LD_PRELOAD": str(shim), "COUNT_SYNCS": str(file)}


class Process:
    """A process with a folder of its own, which has its log."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.pid = 0
        self._environment = dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, *command: str, more: Mapping[str, str], piped: bool) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.folder,
                env={**os.environ, **self._environment, **more},
                stdin=pipe,
                stdout=pipe if piped else log,
                stderr=log,
                limit=LINE_BYTES,
            )
        self.pid = self._process.pid
        return self._process

    def must_run(self) -> None:
        """RuntimeError, with the end of its log, when it has ended."""
        if self._process is None or self._process.returncode is not None:
            log = (self.folder / "log").read_text(errors="replace")[-LOG_CHARACTERS:]
            raise RuntimeError(f"expected a system that runs in {self.folder}, it ended: {log}")

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOPS_S)
        finally:  # also when whoever waits for its end is cancelled
            if process.returncode is None:
                process.kill()
                await process.wait()


class _Counted(Process):
    """A process that counts its syncs."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.syncs, environment = _counted(folder, shim)
        super().__init__(folder, environment)


class Gatewayd(_Counted):
    """Our own outbox and uplink, in a process of their own."""

    async def start(self, ledger: Ledger, proxy_port: int, broker_port: int) -> Feed:
        """See `System`."""
        del broker_port
        arguments = (str(proxy_port), str(self.folder))
        return await _helper(self, ledger, "bench.peers.gatewayd_process", *arguments)


class Bridge:
    """mosquitto with a bridge; a local client publishes into it."""

    def __init__(self, folder: Path, shim: Path, *, settings: tuple[str, ...]) -> None:
        self._client = _Counted(folder / "client", shim)
        self._folder = folder
        self._settings = settings
        self._broker: Broker | None = None
        self.syncs, self._environment = _counted(folder, shim)
        self.pid = 0

    async def start(self, ledger: Ledger, proxy_port: int, broker_port: int) -> Feed:
        """See `System`."""
        del broker_port
        if self._broker is None:
            settings = tuple(line.format(host=LOOPBACK, port=proxy_port) for line in self._settings)
            self._broker = Broker(
                self._folder / "mosquitto",
                persistence=True,
                settings=settings,
                environment=self._environment,
            )
        await asyncio.to_thread(self._broker.start)
        self.pid = self._broker.pid or 0
        return await _helper(self._client, ledger, "bench.peers.publisher", str(self._broker.port))

    async def kill(self) -> None:
        """See `System`. The client dies with it: it is to bring nothing again."""
        if self._broker is not None:
            self._broker.kill()
        await self._client.kill()

    async def stop(self) -> None:
        """See `System`."""
        await self._client.kill()
        if self._broker is not None:
            await asyncio.to_thread(self._broker.stop)


class ThingsBoard(_Counted):
    """ThingsBoard IoT Gateway, with a connector of ours."""

    def __init__(self, folder: Path, shim: Path, *, tuned: bool) -> None:
        super().__init__(folder, shim)
        self._venv = installed(THINGSBOARD)
        self._tuned = tuned
        self._port = held_port(self)
        self._limits: SessionLimits | None = None

    async def start(self, ledger: Ledger, proxy_port: int, broker_port: int) -> Feed:
        """See `System`."""
        if self._limits is None:
            self._limits = SessionLimits(broker_port)
            self._configure(proxy_port)
        await run_thingsboard(self, self._venv)
        deadline_s = time.monotonic() + STARTS_S
        while True:
            try:
                return Feed(ledger, *await asyncio.open_connection(LOOPBACK, self._port))
            except OSError:
                if (
                    time.monotonic() > deadline_s
                    or self._process is None
                    or self._process.returncode is not None
                ):
                    raise
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """See `System`."""
        await super().stop()
        if self._limits is not None:
            self._limits.close()

    def _configure(self, port: int) -> None:
        package = site_packages(self._venv) / "thingsboard_gateway"
        extension = package / "extensions" / "bench"  # where it looks for connectors that are not its own
        extension.mkdir(exist_ok=True)
        # Moved into place whole: another one that starts now would read half a connector, and never be ready.
        copy = extension / f"connector.{self._port}"
        shutil.copy(Path(__file__).parent / "connector.py", copy)
        copy.replace(extension / "connector.py")
        connector = {"name": "bench", "type": "bench", "class": "BenchConnector"}
        tuned = THINGSBOARD_TUNED if self._tuned else {}
        configure_thingsboard(self, self._venv, port, connector, {"port": self._port}, tuned=tuned)


def configure_thingsboard(
    process: Process,
    venv: Path,
    port: int,
    connector: Mapping[str, str],
    configuration: Mapping[str, Any],
    *,
    tuned: Mapping[str, Any],
) -> None:
    """Write its configuration: as shipped but for the broker at `port`, a connector and what is `tuned`."""
    shipped, own = site_packages(venv) / "thingsboard_gateway" / "config", process.folder / "config"
    for folder in (own, process.folder / "logs", process.folder / "data"):
        folder.mkdir(exist_ok=True)
    shutil.copy(shipped / "logs.json", own)
    settings = json.loads((shipped / "tb_gateway.json").read_text())
    # Without ThingsBoard's server the broker echoes what it tells of itself as if it were configured from
    # afar, and it sends nothing more.
    settings["thingsboard"] |= {"host": LOOPBACK, "port": port, "remoteConfiguration": False}
    settings["thingsboard"]["security"] = {"type": "accessToken", "accessToken": "bench"}
    settings["thingsboard"] |= tuned.get("thingsboard", {})
    settings["storage"] = tuned.get("storage", settings["storage"])
    settings["connectors"] = [{**connector, "configuration": "connector.json"}]
    (own / "tb_gateway.json").write_text(json.dumps(settings))
    (own / "connector.json").write_text(json.dumps(configuration))


async def run_thingsboard(process: Process, venv: Path, more: Mapping[str, str] | None = None) -> None:
    """Start it, as it was configured."""
    program = (str(venv / "bin" / "python"), str(venv / "bin" / "thingsboard-gateway"))
    own = {"TB_GW_CONFIG_DIR": str(process.folder / "config")}
    await process.run(*program, more={**own, **(more or {})}, piped=False)


async def run_theengs(process: Process, venv: Path, port: int, bus: str) -> None:
    """Start it as shipped, with a broker at `port` and a BlueZ on `bus`."""
    program = (str(venv / "bin" / "python"), str(venv / "bin" / "TheengsGateway"))
    arguments = ("-H", LOOPBACK, "-P", str(port), "-c", str(process.folder / "theengs.conf"))
    await process.run(*program, *arguments, more=with_bluez(process.folder, bus), piped=False)


def with_bluez(folder: Path, bus: str) -> dict[str, str]:
    """What a program needs to take the stand-in on `bus` for the machine's BlueZ."""
    bluetoothctl = folder / "bluetoothctl"  # which bleak asks for its version
    bluetoothctl.write_text("#!/bin/sh\necho 'bluetoothctl: 5.82'\n")
    bluetoothctl.chmod(0o755)
    return {SYSTEM_BUS: bus, "PATH": f"{folder}:{os.environ.get('PATH', '')}"}


class Theengs:
    """Theengs Gateway, which hears the feed over the air."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._venv = installed(THEENGS)
        self._gateway = _Counted(folder, shim)
        self._air = _Counted(folder / "air", shim)
        self._socket = TemporaryDirectory(prefix="gw-")  # its path must be short
        self._bus = PrivateBus(Path(self._socket.name))
        self.pid = 0
        self.syncs = self._gateway.syncs

    async def start(self, ledger: Ledger, proxy_port: int, broker_port: int) -> Feed:
        """See `System`."""
        del broker_port
        self._bus.start()
        on_bus = {SYSTEM_BUS: self._bus.address}
        feed = await _helper(self._air, ledger, "bench.peers.radio_feed", more=on_bus)
        await run_theengs(self._gateway, self._venv, proxy_port, self._bus.address)
        self.pid = self._gateway.pid
        return feed

    async def kill(self) -> None:
        """See `System`."""
        await self._gateway.kill()

    async def stop(self) -> None:
        """See `System`."""
        await self._gateway.stop()
        await self._air.kill()
        self._bus.stop()
        self._socket.cleanup()


async def _helper(
    process: Process, ledger: Ledger, module: str, *arguments: str, more: Mapping[str, str] | None = None
) -> Feed:
    """Run a module of ours and feed it through its pipes."""
    path = os.pathsep.join((str(HERE), str(HERE.parent)))
    started = await process.run(
        sys.executable, "-m", module, *arguments, more={"PYTHONPATH": path, **(more or {})}, piped=True
    )
    assert started.stdin is not None
    assert started.stdout is not None
    return Feed(ledger, started.stdout, started.stdin)


GATEWAYD: Final = "gatewayd"
THEENGS_GATEWAY: Final = "Theengs Gateway"
HERE_ALREADY: Final[Mapping[str, Make]] = {  # nothing is to be installed for them
    GATEWAYD: Gatewayd,
    "mosquitto bridge, as shipped": partial(Bridge, settings=BRIDGE),
    "mosquitto bridge, tuned": partial(Bridge, settings=BRIDGE_TUNED),
}
SYSTEMS: Final[Mapping[str, Make]] = {
    **HERE_ALREADY,
    "ThingsBoard gateway, as shipped": partial(ThingsBoard, tuned=False),
    "ThingsBoard gateway, tuned": partial(ThingsBoard, tuned=True),
    THEENGS_GATEWAY: Theengs,
}
