"""The long form: weeks, one after the other or several at a time, each of another seed.

`scripts/week [--weeks N] [--seed S] [--days D] [--jobs N]`. Week n of a campaign has the seed S + n, so that
`--seed S+n` draws the same again.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import secrets
import sys
from collections import Counter

from shift.judge import Verdict

from week.days import ALARMS, DAYS, VISITS, live
from week.model import judge


def work(seed: int, days: int = DAYS) -> Verdict:
    """One week, or a part of one, judged."""
    logging.disable()  # an alarm is no news here
    visits, alarms = VISITS * days // DAYS, max(ALARMS * days // DAYS, ALARMS // 3)
    return judge(live(seed, days=days, visits=visits, alarms=alarms))


def _work(task: tuple[int, int]) -> tuple[int, Verdict]:
    return task[0], work(*task)


def main() -> int:
    """Exit 1 when anything is against it."""
    parser = argparse.ArgumentParser(prog="scripts/week", description=__doc__)
    parser.add_argument("--weeks", type=int, default=1, help="how many (1)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of the first week")
    parser.add_argument("--days", type=int, default=DAYS, help=f"of each week ({DAYS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="weeks at a time")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    tasks = [(arguments.seed + number, arguments.days) for number in range(arguments.weeks)]
    counts: Counter[str] = Counter()
    fallen = 0
    with multiprocessing.Pool(arguments.jobs) as pool:
        for seed, verdict in pool.imap_unordered(_work, tasks):
            counts += verdict.counts
            fallen += len(verdict.against)
            for line in verdict.against:
                print(f"FALLEN: seed {seed}, {line}", flush=True)
    print("".join(f"{name:32} {count:9}\n" for name, count in sorted(counts.items())), end="")
    print(f"{arguments.weeks} weeks of {arguments.days} days; {fallen} claims fallen")
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
