"""When to connect to a GATT button, to wait, and to leave it alone; and what its wearer is told. Pure.

Connecting costs the others: the controller does not scan while it connects. The rules are the table `DO`:

| it was heard lately | its pause is over | nobody is being connected | do |
|---|---|---|---|
| yes | yes | yes | connect |
| yes | yes | no | wait: one at a time |
| yes | no | – | wait: it just failed, or ended |
| no | yes | yes | look |
| no | yes | no | wait |
| no | no | – | leave it alone: to connect now would be a search |

To look is to ask bluetoothd whether it is connected, by a run of ours that was killed: then it does not
advertise. That costs no air, but is not asked all the time. The pause grows with each failure; a connection
that does not last is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gatewayd.core import topic
from gatewayd.core.model import Draft, Told

# A tag that waits for a connection advertises every 0.1 to 2 s: heard so lately, it is there.
NEAR_S: Final = 5.0
# After so many failures in a row; the last one for ever. The scan rests while an attempt lasts, 5 s at most:
# a tag that takes no connection costs it a quarter of its time.
PAUSE_S: Final = (0.5, 2.0, 5.0, 15.0)
# A connection that lasted so long was a good one: LE links that are not wanted end within seconds.
LASTED_S: Final = 30.0
# Of a thousand devices in range the answer takes the event loop a good part of a second.
LOOK_EVERY_S: Final = 300.0


class Do(StrEnum):
    """What to do about a button that is not connected."""

    CONNECT = "connect"
    LOOK = "look"  # whether bluetoothd has it connected, and connect if so
    WAIT = "wait"
    LEAVE = "leave"


# By: heard lately, its pause is over, nobody is being connected.
DO: Final[Mapping[tuple[bool, bool, bool], Do]] = {
    (True, True, True): Do.CONNECT,
    (True, True, False): Do.WAIT,
    (True, False, True): Do.WAIT,
    (True, False, False): Do.WAIT,
    (False, True, True): Do.LOOK,
    (False, True, False): Do.WAIT,
    (False, False, True): Do.LEAVE,
    (False, False, False): Do.LEAVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """What is known of one button that is not connected, one of each. Times are CLOCK_MONOTONIC, seconds."""

    heard_s: float | None = None  # its last advertisement
    tried_s: float | None = None  # when the last attempt, or connection, ended
    failures: int = 0  # in a row

    def heard(self, at_s: float) -> Tie:
        """It advertised."""
        return replace(self, heard_s=at_s)

    def missed(self, now_s: float) -> Tie:
        """It was looked for and bluetoothd does not have it: no failure, nothing was tried."""
        return replace(self, tried_s=now_s)

    def ended(self, now_s: float, *, lasted_s: float) -> Tie:
        """An attempt failed (`lasted_s` 0), or a connection ended that lasted so long."""
        good = lasted_s >= LASTED_S
        # What was heard before the connection says nothing of where it is now.
        return replace(self, heard_s=None, tried_s=now_s, failures=0 if good else self.failures + 1)

    def do(self, now_s: float, *, free: bool) -> Do:
        """What to do now; `free`: nobody is being connected."""
        near = self.heard_s is not None and now_s - self.heard_s <= NEAR_S
        pause_s = PAUSE_S[min(self.failures, len(PAUSE_S) - 1)] if near else LOOK_EVERY_S
        rested = self.tried_s is None or now_s - self.tried_s >= pause_s
        return DO[near, rested, free]


# What of an alarm's handling its wearer is told. That it is stored is no event: the gateway tells.
TOLD: Final[Mapping[str, Told]] = {"received": Told.RECEIVED, "responding": Told.ON_THE_WAY}


def to_wearer(draft: Draft) -> tuple[str, Told] | None:
    """The alarm, and what its wearer is told, when `draft` is published; None: nothing."""
    where = topic.parse(draft.topic)
    if where is None or where.alarm is None or where.kind is not topic.Kind.ALARM_EVENT:
        return None
    told = TOLD.get(str(draft.body.get("type")))
    return None if told is None else (where.alarm, told)
