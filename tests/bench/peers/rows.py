"""The rows of the table: what is told of each trial, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.peers import hearing
from bench.peers.trials import CHUNK_BYTES, OUTAGE_RATE, STEADY_RATE, Fault, Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one trial. `more`: more is better. `judged`: one of the two is."""

    trial: str
    measure: str
    what: str
    unit: str = ""
    more: bool = False
    judged: bool = True


_LAST: Final = "last of them after the link healed"


def rows(scale: Scale) -> dict[str, tuple[Row, ...]]:
    """Return the rows under their headings."""
    sound_mb = scale.chunks * CHUNK_BYTES / 1e6
    return {
        **_outages(scale),
        f"{scale.queued:,} alarms while there is no link, then a link": (
            Row(trial="queued", measure="accepted", what=f"accepted within {scale.within_s:g} s", more=True),
            Row(trial="queued", measure="accept_per_s", what="accepted", unit="/s", more=True),
            Row(trial="queued", measure="syncs_each", what="fsyncs for each while they wait", judged=False),
            Row(trial="queued", measure="bytes_each", what="bytes written for each while they wait"),
            Row(trial="queued", measure="peak_mb", what="most memory", unit="MB"),
            Row(trial="queued", measure="lost", what="accepted and lost"),
            Row(trial="queued", measure="disordered", what="out of order"),
            Row(trial="queued", measure="first_s", what="first alarm after there is a link", unit="s"),
            Row(trial="queued", measure="last_s", what="last alarm after there is a link", unit="s"),
            Row(trial="queued", measure="drain_per_s", what="drained", unit="/s", more=True),
        ),
        f"Killed after {scale.killed} alarms at 100/s without a link": (
            Row(trial="killed", measure="lost", what="accepted and lost"),
            Row(trial="killed", measure="doubled", what="arrived twice"),
        ),
        f"An alarm behind {sound_mb:g} MB of sound, then a link of 1 Mbit/s": (
            Row(
                trial="behind_sound",
                measure="chunks",
                what=f"chunks accepted, of {scale.chunks:,}",
                more=True,
            ),
            Row(trial="behind_sound", measure="session_s", what="session after there is a link", unit="s"),
            Row(trial="behind_sound", measure="alarm_s", what="alarm after there is a session", unit="s"),
            Row(trial="behind_sound", measure="whole_s", what="alarm after there is a link", unit="s"),
        ),
        f"{STEADY_RATE:g} alarms a second over a link that is well": _steady(scale),
    }


def _outages(scale: Scale) -> dict[str, tuple[Row, ...]]:
    count = f"{scale.outage_s * OUTAGE_RATE:.0f}"
    silence = f"{scale.outage_s:g} s"

    def ends(fault: Fault) -> tuple[Row, ...]:
        return (
            Row(trial=fault, measure="lost", what=f"of {count} lost"),
            Row(trial=fault, measure="doubled", what="arrived twice"),
            Row(trial=fault, measure="disordered", what="out of order"),
            Row(trial=fault, measure="last_s", what=_LAST, unit="s"),
        )

    silent = Fault.SWALLOWED
    return {
        f"{silence} in which what is sent is acknowledged and vanishes; the connection stays, and is dead": (
            Row(trial=silent, measure="late", what=f"of {count} not there {scale.settle_s:g} s later"),
            Row(trial=silent, measure="lost", what=f"of {count} not even after the next reconnection"),
            Row(trial=silent, measure="doubled", what="arrived twice"),
            Row(trial=silent, measure="disordered", what="out of order"),
            Row(trial=silent, measure="first_s", what="first alarm after the link healed", unit="s"),
            Row(trial=silent, measure="last_s", what=_LAST, unit="s"),
        ),
        f"{silence} likewise, then the connection is reset": ends(Fault.RESET),
        f"{silence} in which nothing passes and TCP keeps it": ends(Fault.HELD),
        f"{silence} of refused connections": ends(Fault.REFUSED),
        f"{silence} of flapping: 3 s refused, 2 s well": ends(Fault.FLAPPING),
    }


def _steady(scale: Scale) -> tuple[Row, ...]:
    return (
        Row(trial="steady", measure="lost", what=f"of {scale.steady_s * STEADY_RATE:g} lost"),
        Row(trial="steady", measure="p50_ms", what="in → out, p50", unit="ms"),
        Row(trial="steady", measure="p99_ms", what="in → out, p99", unit="ms"),
        Row(trial="steady", measure="max_ms", what="in → out, slowest", unit="ms"),
        Row(trial="steady", measure="cpu_pct", what="CPU, of one core", unit="%"),
        Row(trial="steady", measure="syncs_each", what="fsyncs for each", judged=False),
        Row(trial="steady", measure="bytes_each", what="bytes written for each"),
        Row(trial="steady", measure="rss_mb", what="memory", unit="MB"),
        Row(trial="daemon", measure="rss_mb", what="memory of the whole daemon, with its radio", unit="MB"),
    )


def hearing_rows(scale: hearing.Scale) -> dict[str, tuple[Row, ...]]:
    """Return the rows of the table of presses heard, under their headings."""
    return {
        f"A button that sends for {length_s:g} s": (
            Row(
                trial=hearing.NAME,
                measure=f"heard_{length_s:g}",
                what=f"of {scale.of_each} presses heard",
                unit="%",
                more=True,
            ),
            Row(trial=hearing.NAME, measure=f"late_{length_s:g}", what="press → broker, median", unit="ms"),
            Row(
                trial=hearing.NAME,
                measure=f"again_{length_s:g}",
                what="told more than once, of the presses",
                unit="%",
            ),
        )
        for length_s in hearing.LENGTHS_S
    }
