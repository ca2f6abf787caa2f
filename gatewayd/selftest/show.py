"""How the rows are shown: a table for a person, one JSON object for a program. Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Final

from gatewayd.selftest.row import Row, Source, Subject, Verdict, count, failed

_WORDS: Final = {Verdict.OK: "ok", Verdict.OFF: "off", Verdict.WARN: "warn", Verdict.FAIL: "FAIL"}
_WORD_WIDTH: Final = max(map(len, _WORDS.values()))
_SUBJECT_WIDTH: Final = max(map(len, Subject))
_INDENT: Final = _WORD_WIDTH + _SUBJECT_WIDTH + 4
_LEAST_WIDTH: Final = 40  # of a sentence; a narrower terminal breaks the lines itself


def table(rows: Sequence[Row], width: int | None = None) -> list[str]:
    """Return the rows as lines; below each finding that is no good, what to do.

    `width`: of the terminal; None: lines are as long as they are.
    """
    lines = []
    for row in rows:
        subject: str = row.subject
        for finding in row.worst_first:
            told = "the daemon says: " if finding.source is Source.DAEMON else ""
            head = f"{_WORDS[finding.verdict]:{_WORD_WIDTH}}  {subject:{_SUBJECT_WIDTH}}  "
            lines += _folded(head, told + finding.found, width)
            if finding.do:
                lines += _folded(" " * _INDENT + "→ ", finding.do, width)
            subject = ""
    bad = failed(rows)
    warned = sum(row.verdict is Verdict.WARN for row in rows)
    verdict = f"{', '.join(bad)} failed" if bad else "nothing failed"
    return [*lines, "", verdict + (f", {count(warned, 'warning')}" if warned else "")]


def _folded(head: str, text: str, width: int | None) -> list[str]:
    """Return a sentence behind its head, in lines that fit."""
    if width is None:
        return [head + text]
    fits = max(width, _INDENT + _LEAST_WIDTH)
    return textwrap.wrap(
        text, fits, initial_indent=head, subsequent_indent=" " * _INDENT, break_on_hyphens=False
    )


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as one JSON object."""
    return json.dumps({"ok": not failed(rows), "rows": [row.to_json() for row in rows]})
