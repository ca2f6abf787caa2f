"""What was shown, each claim with its figure: printed at the end of a run and kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence that the machine has shown to be so."""

    what: str
    figure: str


class Claims:
    """All that was shown so far."""

    def __init__(self) -> None:
        self.shown: list[Claim] = []

    def show(self, what: str, figure: str) -> None:
        """`what` was seen; `figure` says how much, how soon, or how often. The last one of each counts."""
        self.shown = [claim for claim in self.shown if claim.what != what]
        self.shown.append(Claim(what=what, figure=figure))

    def lines(self) -> Iterable[str]:
        """As a table in text."""
        width = max((len(claim.what) for claim in self.shown), default=0)
        return [f"{claim.what:<{width}}  {claim.figure}" for claim in self.shown]

    def write(self, file: Path) -> None:
        """As JSON, one object a claim."""
        file.write_text(json.dumps([asdict(claim) for claim in self.shown], indent=1) + "\n")
