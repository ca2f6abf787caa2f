"""What the self-test says: a row for each subject, made of findings, each with its verdict and its source.

Pure. A finding that is no good says what to do; one that was not measured but told by the daemon says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Subject(StrEnum):
    """What is looked at, in the order of the rows: first what the others stand on."""

    CONFIGURATION = "configuration"
    CREDENTIALS = "credentials"
    SERVICE = "service"
    INSTALLATION = "installation"
    RADIO = "radio"
    GPS = "gps"
    MIC = "mic"
    BROKER = "broker"
    DISK = "disk"
    CLOCK = "clock"
    POWER = "power"
    GPIO = "gpio"


class Verdict(StrEnum):
    """How it is, from nothing to say to worst. OFF: not configured, or not looked at, for the reason told."""

    OFF = "off"
    OK = "ok"
    WARN = "warn"  # alarms get through; something is worse than it should be
    FAIL = "fail"  # something that was configured does not work


class Source(StrEnum):
    """Where a finding comes from."""

    MEASURED = "measured"  # by this self-test, now
    DAEMON = "daemon"  # the running daemon says so


_RANK: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found. `do`: what to do about it, for a person at the gateway; empty when fine."""

    verdict: Verdict
    found: str
    do: str = ""
    source: Source = Source.MEASURED

    def to_json(self) -> Mapping[str, str | None]:
        """Return the finding for a program to read."""
        return {"verdict": self.verdict, "source": self.source, "found": self.found, "do": self.do or None}


def ok(found: str) -> Finding:
    """Return what is as it should be."""
    return Finding(verdict=Verdict.OK, found=found)


def off(found: str) -> Finding:
    """Return what is not there because it is not configured, or was not looked at."""
    return Finding(verdict=Verdict.OFF, found=found)


def warn(found: str, do: str) -> Finding:
    """Return what is worse than it should be, and what to do."""
    return Finding(verdict=Verdict.WARN, found=found, do=do)


def fail(found: str, do: str) -> Finding:
    """Return what does not work, and what to do."""
    return Finding(verdict=Verdict.FAIL, found=found, do=do)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All that was found about a subject: at least one finding."""

    subject: Subject
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of its findings'."""
        return self.worst_first[0].verdict

    @property
    def worst_first(self) -> list[Finding]:
        """Its findings, the worst first."""
        return sorted(self.findings, key=lambda finding: -_RANK[finding.verdict])

    def to_json(self) -> Mapping[str, object]:
        """Return the row for a program to read."""
        return {
            "subject": self.subject,
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.worst_first],
        }


def failed(rows: Iterable[Row]) -> list[Subject]:
    """Return what failed, in the order of the rows."""
    return [row.subject for row in rows if row.verdict is Verdict.FAIL]


# --- words --------------------------------------------------------------------------------------------------

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """Return a length of time as a person says it: `40 s`, `3 min`, `2 h`, `5 d`."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def amount(size_bytes: float) -> str:
    """Return a number of bytes as a person says it: `12 kB`, `3.4 GB`."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= size:
            return f"{size_bytes / size:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def count(number: int, what: str) -> str:
    """Return a number with what it counts: `1 tag`, `3 tags`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
