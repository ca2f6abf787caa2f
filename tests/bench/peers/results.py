"""What was measured so far, a line for each system and trial: a run that was cut off leaves it whole."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.trials import Measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over all runs; infinite where it never came."""

    median: float
    worst: float
    runs: int


class Results:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._records: list[dict[str, Any]] = [json.loads(line) for line in lines]  # as this class wrote them

    def add(self, trial: str, system: str, measures: Measures) -> None:
        """Note what a trial gave."""
        record = {"trial": trial, "system": system, "measures": measures}
        self._records.append(record)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def of(self, trial: str, system: str) -> list[Measures]:
        """Every run of a trial with a system."""
        return [
            record["measures"]
            for record in self._records
            if record["trial"] == trial and record["system"] == system
        ]

    def spread(self, trial: str, system: str, measure: str, *, more: bool) -> Spread | None:
        """Return median and worst of a figure; `more`: more is better. None when nothing was measured."""
        never = 0.0 if more else math.inf
        found = [each[measure] for each in self.of(trial, system) if measure in each]
        values = [float(each) if isinstance(each, int | float) else never for each in found]
        if not values:
            return None
        worst = min(values) if more else max(values)
        return Spread(median=statistics.median(values), worst=worst, runs=len(values))

    def typical(self, trial: str, system: str) -> Measures | None:
        """Return the run in the middle, by how much was late and when the last came."""

        def badness(measures: Measures) -> tuple[float, float]:
            late, last = measures["late"], measures["last_s"]
            numbers = [each if isinstance(each, float) else math.inf for each in (late, last)]
            return numbers[0], numbers[1]

        every = sorted(self.of(trial, system), key=badness)
        return every[(len(every) - 1) // 2] if every else None
