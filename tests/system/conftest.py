"""The machine that all tests of a run share, and what is told of it at the end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from system import image as images
from system.claims import Claims
from system.rig import Rig

RIG = pytest.StashKey[Rig]()
CLAIMS = pytest.StashKey[Claims]()
REPORT = images.PROJECT / ".cache" / "system-report.json"
JOURNAL_LINES = 60
LOGS = images.PROJECT / ".cache" / "system-logs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cuts", type=int, default=5, help="how often the power is cut")
    parser.addoption(
        "--repeat", type=int, default=2, help="how often the radio goes and comes back, each way"
    )
    parser.addoption("--seed", type=int, help="of all that is drawn; another in each run if not given")
    parser.addoption("--presses", type=int, default=40, help="of a shift; more than 100 make a long one")
    parser.addoption("--seconds", type=float, default=30.0, help="for how long each load of paths.py lasts")
    parser.addoption("--deb", type=Path, help="the package to install; made first when not given")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CLAIMS] = Claims()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all: the air and the ops side live in it."""
    for item in items:
        if isinstance(item, pytest.Function) and "system" in item.path.parts:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    claims = config.stash[CLAIMS]
    if claims.shown:
        terminalreporter.section("what the machine has shown")
        for line in claims.lines():
            terminalreporter.write_line(line)
        claims.write(REPORT)
        terminalreporter.write_line(f"also in {REPORT}")


@pytest.fixture(scope="session")
def claims(pytestconfig: pytest.Config) -> Claims:
    return pytestconfig.stash[CLAIMS]


@pytest.fixture(scope="session")
def deb(pytestconfig: pytest.Config) -> Path:
    """The package, made from this very tree."""
    given: Path | None = pytestconfig.getoption("--deb")
    if given is not None:
        return given.resolve()
    built = subprocess.run(
        [images.PROJECT / "scripts" / "build-deb"], stdout=subprocess.PIPE, text=True, check=True
    )
    return images.PROJECT / built.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def image(deb: Path) -> images.Image:
    return images.build(deb)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Not below pytest's own: the path would exceed the length of a socket's address."""
    with TemporaryDirectory(prefix="gw-") as made:
        yield Path(made)


def pytest_sessionstart() -> None:
    shutil.rmtree(LOGS, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a claim fell: what the machine's journal says of it, and where all of it is kept."""
    report = yield
    rig = item.config.stash.get(RIG, None)
    if report.failed and rig is not None:
        kept = LOGS / f"{item.name}-{report.when}"
        kept.mkdir(parents=True, exist_ok=True)
        journal = rig.last_words or rig.machine.journal()
        (kept / "journal.log").write_text(journal)
        (kept / "ops.log").write_text("\n".join(f"{each.where} {each.body}" for each in rig.ops.heard))
        (kept / "failure.log").write_text(report.longreprtext)  # at once: a run goes on for many minutes
        for log in rig.folder.rglob("*.log"):
            shutil.copy(log, kept)
        sentence = (item.function.__doc__ or "").strip() if isinstance(item, pytest.Function) else ""
        last = "\n".join(journal.splitlines()[-JOURNAL_LINES:])
        report.sections.append(("the claim that fell", sentence))
        report.sections.append((f"the end of the journal; all logs are in {kept}", last))
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig(
    pytestconfig: pytest.Config, image: images.Image, deb: Path, folder: Path, claims: Claims
) -> AsyncIterator[Rig]:
    """The machine, booted, with the package installed and configured, and everything well."""
    rig = Rig(image, deb, folder)
    async with rig.up():
        await rig.boot()
        pytestconfig.stash[RIG] = rig
        try:
            await rig.install()
            await rig.ready()
        except Exception:
            rig.last_words = rig.machine.journal()
            raise
        claims.show("a machine boots, the package installs, every part is well", f"boot {rig.boot_s:.0f} s")
        yield rig
        if rig.machine.panics:
            claims.show(
                "the kernel panicked in its boot, the emulator's fault", f"{rig.machine.panics} times"
            )
