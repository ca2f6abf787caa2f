"""The long campaign: every fault once, then random combinations until the time is over.

`scripts/faults [--minutes N] [--seed S]`. Episode n of a campaign has the seed S + n, so that `--seed S+n
--episodes 1` draws the same again; the times at which a busy machine does it differ. What fell is told with
its seed and where its logs are; the logs of what held are deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from shims import compile_shim

from faults.disk import why_not
from faults.episode import SCRIPTS, Outcome, at_random, in_turn, plan, told
from faults.faults import FAULTS
from faults.site import SHIMS, Site

JOBS: Final = 4  # they mostly wait
EPISODE_S: Final = 300.0  # an episode takes 10 to 80 s


async def episode(name: str, folder: Path, shims: Path) -> Outcome:
    """Run one episode: a script by its name, or a random one by its seed."""
    site = Site(folder, shims, disk=why_not() is None)
    if name in SCRIPTS:
        possible = [each for each in SCRIPTS[name] if site.disk is not None or not FAULTS[each].own_disk]
        return await in_turn(site, possible, random.Random(name))
    drawn = told(*plan(random.Random(int(name)), own_disk=site.disk is not None))
    await asyncio.to_thread((folder / "timeline").write_text, drawn)
    return await at_random(site, random.Random(int(name)))


class Campaign:
    """What has been run so far."""

    def __init__(self, shims: Path) -> None:
        self.episodes = 0
        self.accepted = 0
        self._shims = shims
        self._times: Counter[str] = Counter()
        self._checked: Counter[str] = Counter()
        self._fallen: Counter[str] = Counter()

    @property
    def fallen(self) -> int:
        """How many claims fell."""
        return self._fallen.total()

    async def work(self, names: Iterator[str]) -> None:
        """Run one episode after the other."""
        for name in names:
            folder = Path(tempfile.mkdtemp(prefix="gw-"))
            outcome = await self._run(name, folder)
            fallen = [verdict for verdict in outcome["verdicts"] if verdict["against"]]
            if fallen:
                print(f"FALLEN: {name}, logs in {folder}: {', '.join(outcome['faults'])}")
                for verdict in fallen:
                    print(f"    {verdict['claim']}: {'; '.join(verdict['against'])[:600]}", flush=True)
            else:
                await asyncio.to_thread(shutil.rmtree, folder)
            self.episodes += 1
            self.accepted += outcome["accepted"]
            for fault in outcome["faults"]:
                self._times[fault] += 1
                self._checked[fault] += len(outcome["verdicts"])
                self._fallen[fault] += len(fallen)

    async def _run(self, name: str, folder: Path) -> dict[str, Any]:
        """An episode in a process of its own: nothing of one can harm another."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faults", "--one", name, str(folder), str(self._shims)),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(EPISODE_S):
                said, _ = await child.communicate()
            outcome: dict[str, Any] = json.loads(said)
        except (TimeoutError, ValueError) as error:
            if child.returncode is None:
                child.terminate()
                await child.wait()
            hung = {"claim": "the episode ends", "against": [f"{type(error).__name__}: {error}"]}
            return {"faults": SCRIPTS.get(name, ()), "verdicts": [hung], "accepted": 0}
        return outcome

    def table(self) -> str:
        """A row for each fault: how often it was there, claims checked, claims fallen."""
        rows = [f"{'fault':36} {'times':>7} {'checked':>9} {'fallen':>8}"]
        for name in FAULTS:
            if self._times[name]:
                figures = f"{self._times[name]:7} {self._checked[name]:9} {self._fallen[name]:8}"
                rows.append(f"{name:36} {figures}")
        return "\n".join(rows)


def names(seed: int, *, episodes: int | None, minutes: float) -> Iterator[str]:
    """What to run: the scripts, then seeds, until the time is over; or so many seeds."""
    if episodes is not None:
        yield from map(str, range(seed, seed + episodes))
        return
    end_s = time.monotonic() + minutes * 60
    for name in itertools.chain(SCRIPTS, map(str, itertools.count(seed))):
        if time.monotonic() > end_s:
            return
        yield name


async def campaign(seed: int, *, episodes: int | None, minutes: float) -> int:
    """Run it all, tell of it, and return the exit status."""
    without = why_not()
    if without is not None:
        print(f"without a full and a read-only disk: {without}")
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in SHIMS:
            compile_shim(name, Path(folder))
        run = Campaign(Path(folder))
        todo = names(seed, episodes=episodes, minutes=minutes)
        await asyncio.gather(*(run.work(todo) for _ in range(JOBS)))
    print(run.table())
    print(f"{run.episodes} episodes, {run.accepted} alarms accepted, {run.fallen} claims fallen, seed {seed}")
    return 1 if run.fallen else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--episodes", type=int, help="so many random ones and no scripts instead")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of the first episode")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        name, folder, shims = arguments.one
        print(json.dumps(asdict(asyncio.run(episode(name, Path(folder), Path(shims))))))
        return 0
    return asyncio.run(campaign(arguments.seed, episodes=arguments.episodes, minutes=arguments.minutes))


if __name__ == "__main__":
    sys.exit(main())
