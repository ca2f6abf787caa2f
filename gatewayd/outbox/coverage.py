"""`gatewayd coverage`: what a gateway's disk says of a tag at a moment, also beside a running daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from gatewayd.core import coverage, payload
from gatewayd.core.coverage import Answer, Block, Verdict
from gatewayd.core.model import ClockSource, Instant
from gatewayd.edge.clock import Clock, boot_id
from gatewayd.edge.outbox.reading import read_records
from gatewayd.outbox.command import Options, show
from gatewayd.outbox.site import OutboxError, Site

USAGE: Final = 2
_SAID: Final = {
    Verdict.COVERED: "covered",
    Verdict.WEAK: "weak: faint, or silent for a while",
    Verdict.NOT_HEARD: "not heard, though the gateway heard",
    Verdict.COULD_NOT_HEAR: "the gateway could not hear",
    Verdict.UNKNOWN: "not known",
}


def moment(text: str, now: datetime) -> float:
    """Read a moment: RFC 3339, or a time of the day by this machine's zone, the last one that has passed.

    Returns seconds since 1970. ValueError that says what was expected.
    """
    try:
        time = datetime.fromisoformat(text if "-" in text else f"{now.date()}T{text}")
    except ValueError:
        raise ValueError(f"expected a time like 2026-03-01T10:14:00Z or 10:14, got {text!r}") from None
    time = time.astimezone()
    if "-" not in text and time > now:
        time -= timedelta(days=1)
    if time > now:
        raise ValueError(f"expected a time that has passed, got {text!r}")
    return time.timestamp()


def covered(options: Options, tag: str, at: str | None) -> int:
    """Print the answer; without `at` of the last moment that is recorded. Return the exit status."""
    try:
        at_s = None if at is None else moment(at, datetime.now().astimezone())
    except ValueError as error:
        print(f"gatewayd coverage: --at: {error}", file=sys.stderr)
        return USAGE

    def lines(site: Site) -> Iterable[str]:
        clock = Clock(boot=boot_id())
        blocks = tuple(_blocks(read_records(site.path, coverage.KIND)))
        found = _answer(blocks, tag, at_s, clock.now())
        told = payload.plain(found.body, clock.state())
        return [json.dumps(told)] if options.as_json else _lines(found, told)

    return show(options, lines, name="coverage")


def _lines(found: Answer, told: dict[str, payload.Plain]) -> Iterator[str]:
    yield f"{found.tag} at {told['at']}: {_SAID[found.verdict]}"
    if found.why:
        yield f"  {found.why}"
    if found.since is not None or found.until is not None:
        yield f"  so from {told.get('since', 'before')} to {told.get('until', 'the end of the record')}"
    if found.heard_from is not None:
        yield f"  heard from {told['heard_from_at']} to {told['heard_to_at']}"
    else:
        before, after = told.get("last_heard_at", "never"), told.get("next_heard_at", "not yet")
        yield f"  heard last before: {before}; first after: {after}"
    if found.at.source is ClockSource.NONE:
        yield "  the gateway's clock was not set then: these are times as it believed them"


def _blocks(records: dict[str, str]) -> Iterator[Block]:
    for text in records.values():
        try:
            yield coverage.from_json(text)
        except ValueError:
            continue  # the daemon told of it when it started


def _answer(blocks: tuple[Block, ...], tag: str, at_s: float | None, now: Instant) -> Answer:
    known = sorted({name for block in blocks for name in block.tracks})
    found = None
    if blocks:
        last_s = max(block.end.wall_s for block in blocks)
        found = coverage.answer(blocks, tag, last_s if at_s is None else at_s, now)
    if found is None:
        of = ", ".join(known) or "none yet"
        raise OutboxError(f"expected a tag that this gateway has a record of ({of}), got {tag}")
    return found
