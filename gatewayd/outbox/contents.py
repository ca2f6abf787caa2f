"""What lies in an outbox: counted, or message by message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gatewayd.core import payload
from gatewayd.core.model import ClockState, MessageClass
from gatewayd.edge.outbox.ballast import BALLAST_BYTES, Ballast
from gatewayd.edge.outbox.file import asides
from gatewayd.edge.outbox.reading import read_rows, read_stored
from gatewayd.edge.outbox.rows import ID, TOPIC, happened, size_bytes
from gatewayd.outbox.site import Site
from gatewayd.selftest.row import amount

ROWS: Final = 500  # read at a time


def stats(site: Site, clock: ClockState) -> dict[str, Any]:
    """Count what waits; say what was dropped, and what was set aside."""
    stored = read_stored(site.path)
    return {
        "path": str(site.path),
        "version": site.version,
        "classes": {
            name.value: {"messages": stored.rows[name], "bytes": stored.sizes_bytes[name]}
            for name in MessageClass
            if name in stored.rows
        },
        "oldest_at": None if stored.oldest is None else payload.at(stored.oldest, clock),
        "lost": {
            name.value: {
                "count": loss.count,
                "from_at": payload.at(loss.first, clock),
                "to_at": payload.at(loss.last, clock),
            }
            for name, loss in stored.lost.items()
        },
        "ballast_bytes": Ballast(site.path).size_bytes,
        "set_aside": [str(path) for path in asides(site.path)],
    }


def stats_lines(site: Site, clock: ClockState) -> Iterator[str]:
    """Yield the same for a person."""
    found = stats(site, clock)
    yield f"{found['path']}, version {found['version']}"
    yield from (
        f"{name:<10} {counted['messages']:>9} messages {amount(counted['bytes']):>9}"
        for name, counted in found["classes"].items()
    )
    yield "nothing waits" if found["oldest_at"] is None else f"the oldest is of {found['oldest_at']}"
    for name, loss in found["lost"].items():
        yield f"dropped: {loss['count']} of {name}, of {loss['from_at']} to {loss['to_at']}"
    if found["ballast_bytes"] < BALLAST_BYTES:
        yield "the ballast is given up: the disk is or was full, or the daemon has not run yet"
    yield from (f"damaged, set aside: {path}" for path in found["set_aside"])


def listed(site: Site, clock: ClockState) -> Iterator[dict[str, payload.Plain]]:
    """Yield what is known of each message, in the order of classes, oldest first."""
    for name in MessageClass:
        for n, row in read_rows(site.path, name, ROWS):
            at = happened(row)
            yield {
                "n": n,
                "id": row[ID],
                "class": name.value,
                "topic": row[TOPIC],
                "at": payload.at(at, clock),
                "clock": at.source.value,
                "bytes": size_bytes(row),
            }


def listed_lines(site: Site, clock: ClockState) -> Iterator[str]:
    """Yield the same for a person, a line for each."""
    for each in listed(site, clock):
        yield f"{each['at']}  {each['class']:<9}  {each['bytes']:>7}  {each['topic']}"
