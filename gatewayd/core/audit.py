"""The log of who listened and who exported: entries in a chain, each naming the one before it by its hash.

An entry is a line of JSON; its `before` is the SHA-256 of the line before it. So an entry that was altered,
taken out, added or moved is found. A log that lost its end is not: but ops are told each entry as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from gatewayd.core import topic
from gatewayd.core.command import Command, Incoming, ListenStart, ListenStop, read
from gatewayd.core.model import Body, Draft, Instant, Json, Keep, MessageClass
from gatewayd.core.payload import Plain

ENTRIES_MAX: Final = 1_000  # 200 bytes each; a year of three listenings a day
_SOUND: Final = frozenset({"audio_started", "audio_ended"})
_SHOWN: Final = ("what", "actor", "alarm")
_TOLD: Final = ("alarm", "actor", "recorded_in", "ends_at", "basis")


def told(draft: Draft) -> Body | None:
    """Return what the log says of a message; None: nothing. The microphone was opened, or has been closed."""
    if draft.body.get("type") not in _SOUND:
        return None
    return {"what": draft.body["type"], **{name: draft.body[name] for name in _TOLD if name in draft.body}}


def refused(incoming: Incoming, reply: Draft, now: Instant) -> Body | None:
    """Return what the log says of a command to listen that was not obeyed; None: nothing."""
    error = reply.body.get("error")
    command = read(incoming, now)
    if not isinstance(error, Mapping) or not isinstance(command, Command):
        return None
    if not isinstance(command.order, ListenStart | ListenStop):
        return None
    alarm: dict[str, Json] = {"alarm": command.order.alarm} if isinstance(command.order, ListenStart) else {}
    return {"what": f"{incoming.name} {error['code']}", "actor": command.actor.body, **alarm}


def entry(last: str | None, body: Mapping[str, Plain]) -> str:
    """Return the line that goes behind `last`; None: it is the first."""
    n = 1
    if last is not None:
        known = _read(last)
        n = known["n"] + 1 if known is not None else 1  # damaged: `verify` tells, and the chain goes on
    before = None if last is None else digest(last)
    return json.dumps({"n": n, **body, "before": before}, separators=(",", ":"))


def untold(lines: Sequence[str], told: str | None) -> Sequence[str]:
    """Return the entries behind the one with the digest `told`; all where it is not among them."""
    for index in range(len(lines), 0, -1):
        if digest(lines[index - 1]) == told:
            return lines[index:]
    return lines


def telling(line: str, now: Instant) -> Draft:
    """Return the message that tells ops of an entry: as it stands, for its hash counts; a part for eyes."""
    found = _read(line) or {}
    return Draft(
        topic=topic.AUDIT,
        message_class=MessageClass.TELEMETRY,
        keep=Keep.AT_ONCE,
        at=now,
        body={**{name: found[name] for name in _SHOWN if name in found}, "entry": line},
    )


def verify(lines: Sequence[str]) -> list[str]:
    """Return what is wrong with a log. It may begin with any entry, for the oldest are dropped."""
    problems, last, number = [], None, None
    for line in lines:
        found = _read(line)
        if found is None:
            problems.append(f"expected an entry, got {line[:60]!r}")
        elif last is not None and found["before"] != digest(last):
            problems.append(f"entry {found['n']}: the one before it was altered, added or taken out")
        elif number is not None and found["n"] != number + 1:
            problems.append(f"entry {found['n']}: expected number {number + 1}")
        number = None if found is None else found["n"]
        last = line
    return problems


def digest(line: str) -> str:
    """Return the SHA-256 of an entry, in hex."""
    return sha256(line.encode()).hexdigest()


def _read(line: str) -> Mapping[str, Any] | None:
    try:
        found: Any = json.loads(line)  # Any: whatever lies in the file
    except (ValueError, RecursionError):
        return None
    good = isinstance(found, dict) and isinstance(found.get("n"), int) and "before" in found
    return found if good else None
