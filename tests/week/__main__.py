"""The long form: weeks, one after the other or several at a time, each of another seed.

`scripts/week [--weeks N] [--seed S] [--days D] [--jobs N]`. Week n of a campaign has the seed S + n, so that
`--seed S+n` draws the same again.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys

from campaign import campaign
from shift.judge import Verdict

from week.days import ALARMS, DAYS, VISITS, live
from week.model import judge


def work(seed: int, days: int = DAYS) -> Verdict:
    """One week, or a part of one, judged."""
    visits, alarms = VISITS * days // DAYS, max(ALARMS * days // DAYS, ALARMS // 3)
    return judge(live(seed, days=days, visits=visits, alarms=alarms))


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
    return campaign(work, tasks, arguments.jobs, f"{arguments.weeks} weeks of {arguments.days} days")


if __name__ == "__main__":
    sys.exit(main())
