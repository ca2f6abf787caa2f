"""Runs the simulations of a campaign side by side, each from a seed of its own, and prints what fell."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from shift.judge import Verdict

Work: TypeAlias = Callable[[int, int], Verdict]  # of a seed and a size


def campaign(work: Work, tasks: Iterable[tuple[int, int]], jobs: int | None, told: str) -> int:
    """Do all tasks, `jobs` at a time; `told`: what they were. Return 1 when anything is against them."""
    counts: Counter[str] = Counter()
    fallen = 0
    with multiprocessing.Pool(jobs) as pool:
        for seed, verdict in pool.imap_unordered(partial(_silent, work), tasks):
            counts += verdict.counts
            fallen += len(verdict.against)
            for line in verdict.against:
                print(f"FALLEN: seed {seed}, {line}", flush=True)
    print("".join(f"{name:32} {count:9}\n" for name, count in sorted(counts.items())), end="")
    print(f"{told}; {fallen} claims fallen")
    return 1 if fallen else 0


def _silent(work: Work, task: tuple[int, int]) -> tuple[int, Verdict]:
    logging.disable()  # an alarm is no news here
    return task[0], work(*task)
