"""The long campaign: shifts of 2,000 presses, an hour each and a night, until there were enough presses.

`scripts/shift [--presses N] [--seed S] [--jobs N]`. Shift n of a campaign has the seed S + n, so that `--seed
S+n --presses 2000` draws the same again.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import secrets
import sys
from collections import Counter
from typing import Final

from shift.judge import Verdict, judge
from shift.world import FAULTS_S, Shift

EACH: Final = 2_000


def work(seed: int, presses: int = EACH, faults_s: float = FAULTS_S) -> Verdict:
    """One shift, judged."""
    logging.disable()  # an alarm is no news here
    shift = Shift(seed, presses, faults_s)
    shift.run()
    return judge(shift)


def _work(task: tuple[int, int]) -> tuple[int, Verdict]:
    return task[0], work(*task)


def main() -> int:
    """Exit 1 when anything is against it."""
    parser = argparse.ArgumentParser(prog="scripts/shift", description=__doc__)
    parser.add_argument("--presses", type=int, default=EACH, help=f"how many ({EACH})")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of the first shift")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="shifts at a time")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    starts = range(0, arguments.presses, EACH)
    tasks = [
        (arguments.seed + number, min(EACH, arguments.presses - start)) for number, start in enumerate(starts)
    ]
    counts: Counter[str] = Counter()
    fallen = 0
    with multiprocessing.Pool(arguments.jobs) as pool:
        for seed, verdict in pool.imap_unordered(_work, tasks):
            counts += verdict.counts
            fallen += len(verdict.against)
            for line in verdict.against:
                print(f"FALLEN: seed {seed}, {line}", flush=True)
    print("".join(f"{name:16} {count:9}\n" for name, count in sorted(counts.items())), end="")
    print(f"{arguments.presses} presses, each judged at two gateways; {fallen} claims fallen")
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
