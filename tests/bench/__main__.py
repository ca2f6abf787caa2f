"""Measure, tell people, and write it down for machines."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import bench.peers.run as peers
from bench import (
    accept,
    decode,
    drain,
    failover,
    first,
    fleet,
    flood,
    memory,
    million,
    presses,
    recovery,
    thin,
    wear,
)
from bench.figures import MISSED, Figure, table
from bench.machine import describe

PARTS: Final[dict[str, Callable[[bool], Awaitable[list[Figure]]]]] = {
    "presses": lambda quick: presses.measure(presses.QUICK if quick else presses.PRESSES),
    "memory": lambda quick: memory.measure(memory.QUICK_S if quick else memory.SETTLE_S),
    "advertisements": lambda quick: flood.measure(flood.RATES, flood.QUICK_S if quick else flood.FOR_S),
    "flood": lambda quick: flood.shapes(*(flood.SHAPE_QUICK if quick else flood.SHAPE_WHOLE)),
    "decode": lambda quick: decode.measure(decode.QUICK if quick else decode.WHOLE),
    "first": lambda quick: first.measure(1 if quick else first.RUNS),
    "thin": lambda quick: thin.measure(thin.QUICK if quick else thin.WHOLE),
    "failover": lambda quick: failover.measure(*(failover.QUICK if quick else failover.WHOLE)),
    "drain": lambda quick: drain.measure(*(drain.QUICK if quick else drain.WHOLE)),
    "accept": lambda quick: accept.measure(*(accept.QUICK if quick else accept.WHOLE)),
    "million": lambda quick: million.measure(*(million.QUICK if quick else million.WHOLE)),
    "wear": lambda quick: wear.measure(*(wear.QUICK if quick else wear.WHOLE)),
    "recovery": lambda quick: recovery.measure(recovery.QUICK if quick else recovery.TIMES),
    "fleet": lambda quick: fleet.measure(*(fleet.QUICK if quick else fleet.WHOLE)),
}


def main() -> int:
    """Exit 0 also when a figure is missed: it is a report."""
    if "--peers" in sys.argv:
        return peers.main([each for each in sys.argv[1:] if each != "--peers"])
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help="may be repeated: " + ", ".join(PARTS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, as JSON")
    parser.add_argument("--peers", action="store_true", help="what people would use instead, side by side")
    parser.add_argument(
        "--repeat", type=int, default=recovery.TIMES, metavar="N", help="how often recovery is measured"
    )
    parser.add_argument("--quick", action="store_true", help="only see that it runs, in less than a minute")
    arguments = parser.parse_args()
    logging.disable()  # a link that is cut on purpose is no news
    machine = describe()
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n", flush=True)
    if not arguments.quick:
        PARTS["recovery"] = lambda _: recovery.measure(arguments.repeat)
    figures = asyncio.run(_measure(arguments.only or [*PARTS], quick=arguments.quick))
    print(table(figures))
    missed = [figure.what.strip() for figure in figures if figure.met is False]
    print("\n" + (f"{MISSED}: " + "; ".join(missed) if missed else "Every target is met."))
    if arguments.quick:
        print("This was a quick run: too short to judge by.")
    if arguments.json is not None:
        report = {"machine": machine, "quick": arguments.quick, "figures": [f.as_json() for f in figures]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


async def _measure(names: Sequence[str], *, quick: bool) -> list[Figure]:
    figures = []
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures += await PARTS[name](quick)
    return figures


if __name__ == "__main__":
    sys.exit(main())
