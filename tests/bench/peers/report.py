"""The page people read: tables of all that was measured, and where a peer is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from bench.peers import hearing
from bench.peers.hearers import HEARERS
from bench.peers.plot import draw
from bench.peers.results import Results, Spread
from bench.peers.rows import Row, hearing_rows, rows
from bench.peers.systems import GATEWAYD
from bench.peers.trials import Fault, Scale

PLOT: Final = "peers.svg"
_FEW: Final = 10.0  # below it two digits after the point say something
_TEXT: Final = Path(__file__).parent / "page.md"

Rows: TypeAlias = Mapping[str, tuple[Row, ...]]  # under their headings


def write(
    docs: Path, results: Results, systems: Sequence[str], machine: Mapping[str, str], scale: Scale
) -> None:
    """Write the page and its picture into `docs`."""
    arrived = {}
    sent: Sequence[float] = ()
    for system in systems:
        typical = results.typical(Fault.SWALLOWED, system)
        if typical is not None:
            arrived[system], sent = _times(typical["arrived"]), _times(typical["sent"])
    if arrived:
        ends_s = scale.outage_s + scale.settle_s
        (docs / PLOT).write_text(draw(sent, arrived, outage_s=scale.outage_s, ends_s=ends_s))
    told = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    sending, heard = rows(scale), hearing_rows(hearing.WHOLE)
    lines = [*better(results, systems, sending), *better(results, list(HEARERS), heard)]
    parts = {
        "machine": told,
        "runs": _runs(results, systems, sending),
        "table": table(results, systems, sending),
        "hearing_runs": _runs(results, list(HEARERS), heard),
        "hearing": table(results, list(HEARERS), heard),
        "better": "\n".join(lines) or "Nowhere.",
    }
    page = _TEXT.read_text()
    for name, part in parts.items():
        page = page.replace(f"{{{name}}}", part)
    (docs / "peers.md").write_text(page)


def table(results: Results, systems: Sequence[str], groups: Rows) -> str:
    """Return the table: median of the runs, the worst in brackets where it differs, the best median bold."""
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    for heading, group in groups.items():
        lines.append(f"| **{heading}** |{' |' * len(systems)}")
        for row in group:
            found = _found(results, systems, row)
            best = _best(row, found)
            cells = (_cell(found.get(system), row, best=system in best) for system in systems)
            lines.append(f"| {row.what}{f', {row.unit}' if row.unit else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def better(results: Results, systems: Sequence[str], groups: Rows) -> list[str]:
    """Return one line for each figure in which gatewayd is not among the best."""
    lines = []
    for heading, group in groups.items():
        for row in group:
            found = _found(results, systems, row)
            best = _best(row, found)
            if GATEWAYD in found and best and GATEWAYD not in best:
                ours, theirs = _number(found[GATEWAYD].median), _number(found[best[0]].median)
                unit = f" {row.unit}" if row.unit else ""
                lines.append(
                    f"- {heading}; {row.what}: {theirs}{unit} ({', '.join(best)}), gatewayd {ours}{unit}"
                )
    return lines


def _found(results: Results, systems: Sequence[str], row: Row) -> dict[str, Spread]:
    every = {system: results.spread(row.trial, system, row.measure, more=row.more) for system in systems}
    return {system: spread for system, spread in every.items() if spread is not None}


def _best(row: Row, found: Mapping[str, Spread]) -> list[str]:
    """Who has the best median as it is printed; nobody when there is nothing to compare."""
    if len(found) < 2 or not row.judged:
        return []
    best = (max if row.more else min)(spread.median for spread in found.values())
    return [system for system, spread in found.items() if _number(spread.median) == _number(best)]


def _cell(spread: Spread | None, row: Row, *, best: bool) -> str:
    if spread is None:
        return "–"
    median, worst = _number(spread.median), _number(spread.worst)
    text = f"**{median}**" if best else median
    return text if worst == median else f"{text} ({worst})"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    digits = 0 if value.is_integer() or value >= 100 else 1 if value >= _FEW else 2
    return f"{value:,.{digits}f}"


def _runs(results: Results, systems: Sequence[str], groups: Rows) -> str:
    """How often each trial was done, with each system it was done with at all."""
    trials = {row.trial for group in groups.values() for row in group}
    counts = {len(results.of(trial, system)) for trial in trials for system in systems} - {0}
    least, most = min(counts, default=0), max(counts, default=0)
    if least < most:
        return f"{least} to {most} runs of each trial"
    return "1 run" if most == 1 else f"{most} runs"


def _times(value: object) -> list[float]:
    return value if isinstance(value, list) else []
