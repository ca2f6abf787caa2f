"""What is done to a system, and what is counted. Each trial returns figures by name; never is None.

Counted are alarms of 200 bytes unless said otherwise. Times are wall times of one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from bench.figures import percentile
from bench.peers.feed import ALARM, SOUND, disorder
from bench.peers.setting import ALARM_BYTES, Setting
from bench.process import cpu_s, peak_mb, rss_mb, written_bytes
from gatewayd.sim.proxy import Mode

Measures: TypeAlias = dict[str, float | list[float] | None]
Together: TypeAlias = Callable[[], Awaitable[object]]  # returns once all that are measured at once are ready

OUTAGE_RATE: Final = 4.0
BEFORE_S: Final = 5.0
AFTER_S: Final = 10.0
UP_S: Final = 2.0
DOWN_S: Final = 3.0
OFFLINE_S: Final = 2.0  # until a system has noticed that its link is refused
KILL_RATE: Final = 100.0
CHUNK_BYTES: Final = 1_500  # 0.5 s of sound at 24 kbit/s
MBIT_PER_S: Final = 125_000.0  # 1 Mbit/s, in bytes
STEADY_RATE: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything."""

    outage_s: float = 30.0
    settle_s: float = 60.0  # how long after the link heals something may still come
    again_s: float = 40.0  # and after it was cut and is there again; a bridge pauses for up to 30 s
    quiet_s: float = 15.0  # nothing more came for so long: nothing more will
    queued: int = 20_000
    within_s: float = 30.0  # for them to be accepted
    killed: int = 500
    chunks: int = 2_000  # 3 MB: a FIFO takes 24 s at 1 Mbit/s
    steady_s: float = 20.0


QUICK: Final = Scale(
    outage_s=3.0, settle_s=10.0, again_s=8.0, quiet_s=3.0, queued=2_000, killed=100, chunks=100, steady_s=3.0
)


class Fault(StrEnum):
    """What the link does for the outage."""

    SWALLOWED = "swallowed"  # what is sent is acknowledged and vanishes; the connection is dead ever after
    RESET = "reset"  # the same, and what was connected before is reset when the link heals
    HELD = "held"  # nothing passes; what TCP holds is delivered when the link heals
    REFUSED = "refused"  # connections are reset, and refused until the link heals
    FLAPPING = "flapping"  # 3 s refused, 2 s well, again and again


async def outage(place: Setting, scale: Scale, together: Together, fault: Fault) -> Measures:
    """Alarms at 4 a second through an outage; then, for what is still missing, a cut of a moment."""
    feed = await place.ready()
    await together()
    fails, heals, ends = (
        round(moment_s * OUTAGE_RATE)
        for moment_s in (BEFORE_S, BEFORE_S + scale.outage_s, BEFORE_S + scale.outage_s + AFTER_S)
    )
    await feed.paced(ALARM, range(fails), ALARM_BYTES, OUTAGE_RATE)
    began_s = time.time()
    failing = asyncio.create_task(_fail(place, fault))
    await asyncio.sleep(0)  # it begins before the next alarm is put
    await feed.paced(ALARM, range(fails, heals), ALARM_BYTES, OUTAGE_RATE)
    failing.cancel()
    healed_s = time.time()
    if fault is Fault.RESET:
        place.rig.proxy.cut()
    place.rig.proxy.mode = Mode.OPEN
    await feed.paced(ALARM, range(heals, ends), ALARM_BYTES, OUTAGE_RATE)
    return await _aftermath(place, scale, (fails, heals, ends), (began_s, healed_s))


async def _aftermath(
    place: Setting, scale: Scale, numbers: tuple[int, int, int], times: tuple[float, float]
) -> Measures:
    """Wait for what is still to come, cut the link for a moment if anything is missing, and count."""
    (fails, heals, ends), (began_s, healed_s) = numbers, times
    every = {f"{ALARM}{number}" for number in range(ends)}
    during = {f"{ALARM}{number}" for number in range(fails, heals)}
    await place.rig.until(every, scale.settle_s - AFTER_S)
    first_s = _first(place)
    late = during - first_s.keys()
    if every - first_s.keys():
        place.rig.proxy.cut()
        await place.rig.until(every, scale.again_s)
    return {
        "put": float(len(during)),
        "late": float(len(late)),
        "lost": float(len(during - _first(place).keys())),
        "doubled": _doubled(place),
        "disordered": _disordered(place, ALARM),
        "first_s": min((when - healed_s for mark, when in first_s.items() if when >= healed_s), default=None),
        "last_s": None if late else max(0.0, *(first_s[mark] - healed_s for mark in during)),
        "sent": sorted(round(place.ledger.put_s[mark] - began_s, 2) for mark in every),
        "arrived": sorted(round(first_s[mark] - began_s, 2) for mark in every & first_s.keys()),
    }


async def queued(place: Setting, scale: Scale, together: Together) -> Measures:
    """Alarms that wait for a link, as many and as fast as they are accepted, and the drain."""
    feed = await place.ready()
    await together()
    place.rig.refuse()
    await asyncio.sleep(OFFLINE_S)
    pid, warm = place.system.pid, len(place.ledger.accepted_s)
    bytes_before, syncs_before, began_s = written_bytes(pid), place.system.syncs.value, time.time()
    await feed.fast(ALARM, scale.queued, ALARM_BYTES, scale.within_s)
    accepted = place.ledger.accepted(ALARM)
    took_s = max((place.ledger.accepted_s[mark] for mark in accepted), default=began_s) - began_s
    written, syncs = written_bytes(pid) - bytes_before, place.system.syncs.value - syncs_before
    place.rig.proxy.mode = Mode.OPEN
    healed_s = time.time()
    await place.rig.until(accepted, 2 * scale.settle_s, scale.quiet_s)
    first_s = _first(place)
    came = sorted(first_s[mark] for mark in first_s if mark.startswith(ALARM))
    drained_s = came[-1] - came[0] if len(came) > 1 else 0.0
    return {
        "offered": float(scale.queued),
        "accepted": float(len(place.ledger.accepted_s) - warm),
        "accept_per_s": len(accepted) / took_s if took_s else None,
        "lost": float(len(accepted - first_s.keys())),
        "delivered": float(len(came)),
        "doubled": _doubled(place),
        "disordered": _disordered(place, ALARM),
        "first_s": came[0] - healed_s if came else None,
        "last_s": came[-1] - healed_s if came else None,
        "drain_per_s": len(came) / drained_s if drained_s else None,
        "peak_mb": peak_mb(pid),
        "bytes_each": written / len(accepted) if accepted else None,
        "syncs_each": syncs / len(accepted) if accepted else None,
    }


async def killed(place: Setting, scale: Scale, together: Together) -> Measures:
    """Alarms at 100 a second without a link, then SIGKILL, a new start, and a link."""
    feed = await place.ready()
    await together()
    place.rig.refuse()
    await asyncio.sleep(OFFLINE_S)
    await feed.paced(ALARM, range(scale.killed), ALARM_BYTES, KILL_RATE)
    await place.kill()
    accepted = place.ledger.accepted(ALARM)
    await place.start()
    place.rig.proxy.mode = Mode.OPEN
    await place.rig.until(accepted, scale.settle_s)
    return {
        "accepted": float(len(accepted)),
        "lost": float(len(accepted - _first(place).keys())),
        "doubled": _doubled(place),
    }


async def behind_sound(place: Setting, scale: Scale, together: Together) -> Measures:
    """An alarm put after sound that waits, then a link of 1 Mbit/s."""
    feed = await place.ready()
    await together()
    place.rig.refuse()
    await asyncio.sleep(OFFLINE_S)
    await feed.fast(SOUND, scale.chunks, CHUNK_BYTES, scale.within_s)
    chunks = place.ledger.accepted(SOUND)
    await feed.put(f"{ALARM}0", ALARM_BYTES)
    await asyncio.sleep(OFFLINE_S)
    place.rig.recorder.read()
    signs = len(place.rig.recorder.signs)
    place.rig.proxy.rate = MBIT_PER_S
    place.rig.proxy.mode = Mode.OPEN
    healed_s = time.time()
    await place.rig.until({f"{ALARM}0"}, scale.settle_s)
    came = [when for when, mark in place.rig.recorder.arrivals if mark == f"{ALARM}0"]
    session = place.rig.recorder.signs[signs:]
    return {
        "chunks": float(len(chunks)),
        "session_s": session[0] - healed_s if session else None,
        "alarm_s": came[0] - session[0] if came else None,
        "whole_s": came[0] - healed_s if came else None,
        "limit_s": scale.settle_s,
    }


async def steady(place: Setting, scale: Scale, together: Together) -> Measures:
    """Alarms at 20 a second over a link that is well: how late they are, and what they cost."""
    feed = await place.ready()
    await together()
    pid = place.system.pid
    before = cpu_s(pid), written_bytes(pid), place.system.syncs.value, time.monotonic()
    count = round(scale.steady_s * STEADY_RATE)
    await feed.paced(ALARM, range(count), ALARM_BYTES, STEADY_RATE)
    await place.rig.until({f"{ALARM}{number}" for number in range(count)}, scale.quiet_s)
    after = cpu_s(pid), written_bytes(pid), place.system.syncs.value, time.monotonic()
    first_s = _first(place)
    late_ms = [
        (first_s[mark] - put_s) * 1000
        for mark, put_s in place.ledger.put_s.items()
        if mark.startswith(ALARM) and mark in first_s
    ]
    return {
        "lost": float(count - len(late_ms)),
        "p50_ms": percentile(late_ms, 0.5),
        "p99_ms": percentile(late_ms, 0.99),
        "max_ms": percentile(late_ms, 1.0),
        "rss_mb": rss_mb(pid),
        "cpu_pct": 100 * (after[0] - before[0]) / (after[3] - before[3]),
        "bytes_each": (after[1] - before[1]) / count,
        "syncs_each": (after[2] - before[2]) / count,
    }


async def _fail(place: Setting, fault: Fault) -> None:
    match fault:
        case Fault.SWALLOWED | Fault.RESET:
            place.rig.proxy.mode = Mode.BLACK_HOLE
        case Fault.HELD:
            place.rig.proxy.mode = Mode.HOLD
        case Fault.REFUSED:
            place.rig.refuse()
        case Fault.FLAPPING:
            await place.rig.proxy.flap(UP_S, DOWN_S)


def _first(place: Setting) -> dict[str, float]:
    """When each mark came first."""
    place.rig.recorder.read()
    first: dict[str, float] = {}
    for when, mark in place.rig.recorder.arrivals:
        first.setdefault(mark, when)
    return first


def _doubled(place: Setting) -> float:
    """How many arrivals were not the first of their mark."""
    return float(
        sum(count - 1 for count in Counter(mark for _, mark in place.rig.recorder.arrivals).values())
    )


def _disordered(place: Setting, kind: str) -> float:
    return float(disorder(int(mark[1:]) for mark in _first(place) if mark.startswith(kind)))
