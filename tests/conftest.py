"""What several tests stand on: the outside world, simulated on its real interfaces."""

from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import settings

from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import SYSTEM_BUS, PrivateBus

# How long an example takes says nothing on a busy machine; a test as a whole has its limit.
settings.register_profile("gatewayd", deadline=None)
settings.load_profile("gatewayd")

SYSTEM: Final = Path(__file__).parent / "system"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--system", action="store_true", help="the booted machine, and nothing else")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The booted machine takes minutes and what it needs is not everywhere: only when asked for."""
    return True if collection_path == SYSTEM and not config.getoption("--system") else None


def pytest_configure(config: pytest.Config) -> None:
    """dbus-fast before 3 (Debian 13 has 2.44) leaves the sockets of its connections to the collector."""
    if int(version("dbus-fast").partition(".")[0]) < 3:
        config.addinivalue_line(
            "filterwarnings", "ignore:unclosed <socket.socket .*family=1,:ResourceWarning"
        )


@pytest.fixture
def system_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    """A D-Bus daemon of the test's own, which every library takes for the system bus."""
    # Not below tmp_path: the name of a test in the path would exceed the length of a socket's address.
    with TemporaryDirectory() as folder, PrivateBus(Path(folder)) as bus:
        monkeypatch.setenv(SYSTEM_BUS, bus.address)
        yield bus


@pytest.fixture
async def bluez(system_bus: PrivateBus) -> AsyncIterator[BlueZ]:
    """A bluetoothd on the private bus, with one adapter that is on and monitors available."""
    async with BlueZ(system_bus.address) as stand_in:
        yield stand_in
