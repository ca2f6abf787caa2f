"""The clock: whether the time is known, from what, and what keeps it while the gateway is off."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gatewayd.core.model import ClockSource, ClockState
from gatewayd.edge.clock import RTC
from gatewayd.edge.outbox.reading import read_records
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.row import Finding, fail, ok, warn
from gatewayd.timekeeper import RECORD

NETWORK: Final = (
    "give it a network: `timedatectl` says whether it is synchronised, chrony (`apt install chrony`) finds"
    " the time sooner; or a GPS receiver with a fix"
)


def has_rtc(machine: Machine) -> bool:
    """Say whether there is a real-time clock."""
    return machine.path(RTC).exists()


def rtc_was_right_s(outbox: Path) -> float | None:
    """Return when the real-time clock was right, as the daemon remembers it; None: never, or not readable."""
    try:
        return float(read_records(outbox, RECORD[0])[RECORD[1]])
    except (KeyError, ValueError, sqlite3.Error):
        return None


def judge(state: ClockState, wall_s: float, *, rtc: bool) -> list[Finding]:
    """Say how the clock is. `wall_s`: what it shows, since 1970. `rtc`: a real-time clock is there."""
    shows = f"{datetime.fromtimestamp(wall_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    keeps = (
        "a real-time clock is there"
        if rtc
        else "no real-time clock: after a boot the time is not known at once"
    )
    match state.source:
        case ClockSource.NTP:
            return [ok(f"{shows}, synchronised by the system to {state.uncertainty_ms} ms; {keeps}")]
        case ClockSource.GNSS:
            return [ok(f"{shows}; not synchronised by the system, but the receiver gives the time; {keeps}")]
        case ClockSource.RTC:
            return [warn(f"{shows}, from the real-time clock alone, which drifts by minutes", NETWORK)]
        case ClockSource.NONE:
            battery = "; see that the real-time clock has a battery" if rtc else ""
            return [
                fail(
                    f"{shows}, and nothing says that it is true: no NTP, no GNSS, no real-time clock that was"
                    " right lately; alarms go out, with times that are corrected later",
                    NETWORK + battery,
                )
            ]
