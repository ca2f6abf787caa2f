"""A figure, what it is held against, and how people read a table of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MISSED = "MISSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured. At most one of the limits is set; with none it only informs."""

    name: str  # for machines
    what: str  # for people
    value: float
    unit: str
    beside: float | None = None  # the same of the bare library, in the same unit
    beside_what: str = ""
    most: float | None = None  # what the value may be
    most_ratio: float | None = None  # what value / beside may be
    least: float | None = None  # what the value must be
    least_ratio: float | None = None  # what value / beside must be

    @property
    def ratio(self) -> float | None:
        """How many times what it is beside; None when that is nothing."""
        return self.value / self.beside if self.beside else None

    @property
    def met(self) -> bool | None:
        """Whether it is within its limit; None when it has none."""
        if self.most is not None:
            return self.value <= self.most
        if self.least is not None:
            return self.value >= self.least
        if self.most_ratio is not None:
            return self.ratio is not None and self.ratio <= self.most_ratio
        if self.least_ratio is not None:
            return self.ratio is not None and self.ratio >= self.least_ratio
        return None

    @property
    def target(self) -> str:
        """The limit in words."""
        limits = (("≤", self.most, self.unit), ("≥", self.least, self.unit))
        ratios = (("≤", self.most_ratio, "×"), ("≥", self.least_ratio, "×"))
        words = (
            f"{sign} {limit:.4g} {unit}".rstrip()
            for sign, limit, unit in limits + ratios
            if limit is not None
        )
        return next(words, "")

    def cells(self) -> tuple[str, ...]:
        """The row people read."""
        beside = "" if self.beside is None else f"{_number(self.beside, self.unit)} {self.beside_what}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} ×"
        met = {None: "", True: "yes", False: MISSED}[self.met]
        return self.what, _number(self.value, self.unit), beside, ratio, self.target, met

    def as_json(self) -> dict[str, Any]:
        """The object machines read; what never came is null."""
        return {
            "name": self.name,
            "what": self.what,
            "value": _finite(self.value),
            "unit": self.unit,
            "beside": _finite(self.beside),
            "beside_what": self.beside_what or None,
            "ratio": _finite(self.ratio),
            "target": self.target or None,
            "met": self.met,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:,.{0 if float(value).is_integer() else 2 if value < 10 else 1}f} {unit}".rstrip()


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def table(figures: Iterable[Figure]) -> str:
    """The figures as lines under a heading."""
    rows: list[Sequence[str]] = [("what", "measured", "beside", "ratio", "target", "met")]
    rows += [figure.cells() for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
