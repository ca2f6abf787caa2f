"""Does each trial with each system as often as asked and writes the page after each; goes on where it ended.

Trials that wait more than they compute are done with all systems at the same time, each with a link, a broker
and a recorder of its own; the one whose speed counts is done with one system after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

from shims import compile_shim

from bench.machine import describe
from bench.peers import hearers, hearing, report, trials
from bench.peers.hearers import HEARERS, HEARS_ALREADY
from bench.peers.install import CACHE, THEENGS, THINGSBOARD, THINGSBOARD_BLE, installed
from bench.peers.results import Results
from bench.peers.rows import hearing_rows, rows
from bench.peers.setting import Setting, setting
from bench.peers.systems import GATEWAYD, HERE_ALREADY, SYSTEMS, THEENGS_GATEWAY, Make
from bench.peers.trials import Fault, Measures, Scale, Together
from bench.process import child_running, no_child_left, rss_mb
from bench.surroundings import running

RUNS: Final = 5
DOCS: Final = Path(__file__).parents[3] / "docs"
FILE: Final = CACHE / "results.jsonl"
CAPTURE: Final = "gatewayd.edge.capture"
DAEMON: Final = "daemon"
ACCEPTING: Final = {"killed", "behind_sound", "queued"}  # trials of what was accepted

Trial: TypeAlias = Callable[[Setting, Scale, Together], Awaitable[Measures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Trials of a run. `at_once`: all of them with all systems at the same time."""

    name: str
    trials: Mapping[str, Trial]
    at_once: bool = True

    def tests(self, systems: Iterable[str]) -> list[tuple[str, str]]:
        """Each trial with each system it applies to: what says that it has a message, and keeps it."""
        return [
            (trial, system)
            for trial in self.trials
            for system in systems
            if system != THEENGS_GATEWAY or trial not in ACCEPTING
        ]


PARTS: Final = (
    Part(
        name="outages",
        trials={
            **{str(fault): partial(trials.outage, fault=fault) for fault in Fault},
            "killed": trials.killed,
        },
    ),
    Part(name="sound", trials={"behind_sound": trials.behind_sound}),
    Part(name="steady", trials={"steady": trials.steady}),
    Part(name="queued", trials={"queued": trials.queued}, at_once=False),
)


def main(arguments: list[str]) -> int:
    """`scripts/bench --peers`: exit 0 however the figures turn out."""
    parser = argparse.ArgumentParser(prog="scripts/bench --peers", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how often in all, {RUNS} unless said")
    names = [*(part.name for part in PARTS), hearing.NAME]
    parser.add_argument("--part", choices=names, help="only these trials")
    parser.add_argument("--afresh", action="store_true", help="forget what was measured before")
    parser.add_argument(
        "--quick", action="store_true", help="only see that it runs, with what is not from PyPI"
    )
    options = parser.parse_args(arguments)
    with no_child_left():
        if options.quick:
            _quick()
        else:
            _whole(options.runs, options.part, afresh=options.afresh)
    return 0


def _whole(runs: int, only: str | None, *, afresh: bool) -> None:
    """Do what is missing of all runs, and write the page after each part."""
    if afresh:
        FILE.unlink(missing_ok=True)
    for requirement in ((THINGSBOARD, THINGSBOARD_BLE), (THEENGS,)):
        installed(*requirement)
    results = Results(FILE)
    for number in range(runs):
        for name, done, measuring in _steps(results, number):
            if done > number or only not in (None, name):
                continue
            print(f"run {number + 1} of {runs}: {name} …", file=sys.stderr, flush=True)
            asyncio.run(measuring())
            report.write(DOCS, results, list(SYSTEMS), describe(), Scale())
    print(report.table(results, list(SYSTEMS), rows(Scale())), end="\n\n")
    print(report.table(results, list(HEARERS), hearing_rows(hearing.WHOLE)))


def _steps(
    results: Results, number: int
) -> Iterator[tuple[str, int, Callable[[], Coroutine[object, object, None]]]]:
    """The parts of a run: the name of each, how often it was done, and how it is done."""
    for part in PARTS:
        done = min(len(results.of(*test)) for test in part.tests(SYSTEMS))
        yield part.name, done, partial(measure, part, SYSTEMS, results, Scale())
    done = min(len(results.of(hearing.NAME, system)) for system in HEARERS)
    yield hearing.NAME, done, partial(hear, HEARERS, results, hearing.WHOLE, seed=number)


def _quick() -> None:
    """Every trial once and small, noted nowhere."""
    with TemporaryDirectory() as folder:
        results = Results(Path(folder) / "results")
        for part in PARTS:
            asyncio.run(measure(part, HERE_ALREADY, results, trials.QUICK))
        asyncio.run(hear(HEARS_ALREADY, results, hearing.QUICK, seed=0))
        print(report.table(results, list(HERE_ALREADY), rows(trials.QUICK)), end="\n\n")
        print(report.table(results, list(HEARS_ALREADY), hearing_rows(hearing.QUICK)))


async def hear(
    those: Mapping[str, hearers.Make], results: Results, scale: hearing.Scale, *, seed: int
) -> None:
    """Let all hear presses once, and note what they heard."""
    for system, measures in (await hearing.measure(those, scale, seed)).items():
        results.add(hearing.NAME, system, measures)


async def measure(part: Part, systems: Mapping[str, Make], results: Results, scale: Scale) -> None:
    """Do the trials of a part once with each system, and note what they gave."""
    with TemporaryDirectory(prefix="peers-", dir=CACHE.parent if CACHE.parent.exists() else None) as name:
        folder = Path(name)
        shim = compile_shim("count_syncs", folder)
        tests = part.tests(systems)
        barrier = asyncio.Barrier(len(tests) if part.at_once else 1)

        async def one(trial: str, system: str) -> Measures:
            own = folder / str(tests.index((trial, system)))
            async with setting(systems[system], own, shim) as place:
                return await part.trials[trial](place, scale, barrier.wait)

        if part.at_once:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(*test)) for test in tests]
            found = [task.result() for task in tasks]
        else:
            found = [await one(*test) for test in tests]
    for (trial, system), measures in zip(tests, found, strict=True):
        results.add(trial, system, measures)
    if "steady" in part.trials:
        results.add(DAEMON, GATEWAYD, await whole_daemon())


async def whole_daemon() -> Measures:
    """The memory of the daemon as it is installed, radio, receiver, microphone and all."""
    async with running() as (world, _):
        capture = child_running(world.pid, CAPTURE)
        return {"rss_mb": rss_mb(world.pid) + (0.0 if capture is None else rss_mb(capture))}
