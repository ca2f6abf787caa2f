"""Measure, tell people, and write it down for machines."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import first, flood, memory, presses
from bench.figures import MISSED, Figure, table
from bench.machine import describe


def main() -> int:
    """Exit 0 also when a figure is missed: it is a report."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    parser.add_argument("--quick", action="store_true", help="only see that it runs, in less than a minute")
    arguments = parser.parse_args()
    machine = describe()
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n", flush=True)
    figures = asyncio.run(_measure(quick=arguments.quick))
    print(table(figures))
    missed = [figure.what.strip() for figure in figures if figure.met is False]
    print("\n" + (f"{MISSED}: " + "; ".join(missed) if missed else "Every target is met."))
    if arguments.quick:
        print("This was a quick run: too short to judge by.")
    if arguments.json is not None:
        report = {"machine": machine, "quick": arguments.quick, "figures": [f.as_json() for f in figures]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


async def _measure(*, quick: bool) -> list[Figure]:
    parts: list[tuple[str, Callable[[], Awaitable[list[Figure]]]]] = [
        ("presses", lambda: presses.measure(presses.QUICK if quick else presses.PRESSES)),
        ("memory", lambda: memory.measure(memory.QUICK_S if quick else memory.SETTLE_S)),
        ("advertisements", lambda: flood.measure(flood.RATES, flood.QUICK_S if quick else flood.FOR_S)),
        ("the first alarm", lambda: first.measure(1 if quick else first.RUNS)),
    ]
    figures = []
    for name, part in parts:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures += await part()
    return figures


if __name__ == "__main__":
    sys.exit(main())
