"""The long campaign: shifts of 2,000 presses, an hour each and a night, until there were enough presses.

`scripts/shift [--presses N] [--seed S] [--jobs N]`. Shift n of a campaign has the seed S + n, so that `--seed
S+n --presses 2000` draws the same again.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from typing import Final

from campaign import campaign

from shift.judge import Verdict, judge
from shift.world import FAULTS_S, Shift

EACH: Final = 2_000


def work(seed: int, presses: int = EACH, faults_s: float = FAULTS_S) -> Verdict:
    """One shift, judged."""
    shift = Shift(seed, presses, faults_s)
    shift.run()
    return judge(shift)


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
    told = f"{arguments.presses} presses, each judged at two gateways"
    return campaign(work, tasks, arguments.jobs, told)


if __name__ == "__main__":
    sys.exit(main())
