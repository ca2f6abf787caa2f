"""How each tag is: seen, weak, lost or unknown, and when ops are told. Pure; one value per assigned tag.

Rules:
- seen: heard within half of the tag's `lost_after`, and loud enough. Weak: silent for longer than that, or
  faint. Lost: silent for longer than `lost_after`, while the radio heard all that time: something else was
  heard after the tag had been silent for half of it.
- Nobody is called lost by a gateway that may be deaf: while the radio is deaf every tag is unknown, and while
  it is unproven each that is silent for too long.
- Hysteresis: what was weak or lost is seen again once it was heard for `STEADY_S` without such a silence;
  what was faint is loud again `MARGIN_DB` above where it became so. What was unknown is seen at once.
- A voltage never stands still: that it moved is no news, that it means another level of the battery is
  (`battery`).
- A tag not heard since the gateway was switched on (the kernel's boot: a vehicle's shift) says so, and is
  lost like any other once it could have been heard for long enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gatewayd.core import topic
from gatewayd.core.battery import Charge, charge
from gatewayd.core.model import Body, Draft, Instant, Json, Keep, MessageClass, State, Tag
from gatewayd.core.tag_record import TagPresence

# Usual receivers decode down to -97 dBm; a body that turns costs 10 dB, so below this a press may not arrive.
FAINT_DBM: Final = -90.0
MARGIN_DB: Final = 6.0  # a single reading differs from the next by as much, on a tag that lies still
SHARE: Final = 0.25  # of a new reading in the average: four readings settle it
STEADY_S: Final = 10.0  # longer than a car takes to pass, one heartbeat of the slowest usual tags (8 s)
WEAK_SHARE: Final = 0.5  # of `lost_after`: seen up to 30 s, lost after 60
REFRESH_S: Final = 300.0  # what changes all the time (level, last heard, voltage) is told no oftener
CHANGE_S: Final = 10.0  # a copied tag could change `auth` with every frame


class TagState(StrEnum):
    """How a tag is."""

    SEEN = "seen"
    WEAK = "weak"
    LOST = "lost"
    UNKNOWN = "unknown"


class Hearing(StrEnum):
    """Whether the radio hears."""

    HEARS = "hears"
    UNPROVEN = "unproven"  # nothing shows that it does, nothing that it does not
    DEAF = "deaf"


UNPROVEN: Final = "unproven"  # how health's detail of a radio begins that cannot prove that it hears


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """How the radio is, since when (CLOCK_MONOTONIC), and why where it does not hear."""

    hearing: Hearing
    since_s: float
    why: str = ""
    heard_s: float = 0.0  # when anything was last heard, likewise


def hearing(state: State, detail: str) -> Hearing:
    """What a report of the radio to health means for hearing. One that is off, or only starting, is deaf."""
    if state is State.DEGRADED and detail.startswith(UNPROVEN):
        return Hearing.UNPROVEN
    return Hearing.HEARS if state in {State.OK, State.DEGRADED} else Hearing.DEAF


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What supervision knows of one tag. Times are CLOCK_MONOTONIC of this boot."""

    state: TagState = TagState.UNKNOWN
    last_s: float | None = None  # None: not heard in this boot
    steady_s: float = 0.0  # since when it is heard without a silence
    level_dbm: float | None = None  # average
    faint: bool = False
    battery: Charge | None = None  # None: not known
    told: Body | None = None
    told_s: float = 0.0


def heard(watch: Watch, tag: Tag, heard_s: float, rssi_dbm: int | None) -> Watch:
    """The watch after an advertisement of its tag."""
    steady_s = heard_s if _silent_s(watch, heard_s) > tag.lost_after_s * WEAK_SHARE else watch.steady_s
    level_dbm = watch.level_dbm if watch.steady_s == steady_s else None
    if rssi_dbm is not None:
        level_dbm = rssi_dbm if level_dbm is None else level_dbm + SHARE * (rssi_dbm - level_dbm)
    limit_dbm = FAINT_DBM + MARGIN_DB if watch.faint else FAINT_DBM
    faint = watch.faint if level_dbm is None else level_dbm < limit_dbm
    return replace(watch, last_s=heard_s, steady_s=steady_s, level_dbm=level_dbm, faint=faint)


def judge(watch: Watch, tag: Tag, ear: Ear, now_s: float) -> Watch:
    """The watch with its tag's state at `now_s`."""
    state = _state(watch, tag, ear, now_s)
    return watch if state is watch.state else replace(watch, state=state)


def powered(watch: Watch, presence: TagPresence) -> Watch:
    """The watch with its tag's battery as it is by what was last heard of it."""
    battery = charge(presence.battery_pct, presence.battery_mv, watch.battery)
    return watch if battery is watch.battery else replace(watch, battery=battery)


def _state(watch: Watch, tag: Tag, ear: Ear, now_s: float) -> TagState:
    if ear.hearing is Hearing.DEAF:
        return TagState.UNKNOWN
    silent_s = _silent_s(watch, now_s)
    if silent_s > tag.lost_after_s:
        proven = ear.hearing is Hearing.HEARS and now_s - ear.since_s > tag.lost_after_s
        began_s = ear.since_s if watch.last_s is None else max(watch.last_s, ear.since_s)
        proven &= ear.heard_s - began_s > tag.lost_after_s * WEAK_SHARE
        return TagState.LOST if proven else TagState.UNKNOWN
    if watch.faint or silent_s > tag.lost_after_s * WEAK_SHARE:
        return TagState.WEAK
    returning = watch.state in {TagState.WEAK, TagState.LOST}
    return TagState.WEAK if returning and now_s - watch.steady_s < STEADY_S else TagState.SEEN


def _silent_s(watch: Watch, now_s: float) -> float:
    return float("inf") if watch.last_s is None else now_s - watch.last_s


def told(watch: Watch, tag: Tag, presence: TagPresence, ear: Ear, now: Instant) -> tuple[Watch, Draft | None]:
    """The message on `tag/{tag}`, where one is due, and the watch that knows it was told.

    A new state is told at once, what else matters within `CHANGE_S`, the rest within `REFRESH_S`.
    """
    body = _body(watch, tag, presence, ear, now)
    if watch.told is not None:
        waited_s = now.mono_s - watch.told_s
        changed = {key for key in {*body, *watch.told} if body.get(key) != watch.told.get(key)}
        fleeting = {"last_seen_at", "rssi_dbm", "battery_mv", "started_at"}
        due_s = CHANGE_S if changed - fleeting else REFRESH_S
        if not changed - {"started_at"} or ("state" not in changed and waited_s < due_s):
            return watch, None
    draft = Draft(
        topic=topic.tag(tag.name),
        message_class=MessageClass.STATE,
        keep=Keep.NEVER,
        at=now,
        body=body,
        retain=True,
        replaces=True,
    )
    return replace(watch, told=body, told_s=now.mono_s), draft


def cleared(name: str, now: Instant) -> Draft:
    """The message that withdraws `tag/{tag}`: the tag is not assigned any more."""
    return Draft(
        topic=topic.tag(name),
        message_class=MessageClass.STATE,
        keep=Keep.NEVER,
        at=now,
        body={},
        retain=True,
        replaces=True,
        clears=True,
    )


def switched_on(now: Instant) -> Instant:
    """When the machine was switched on, by the clock as it stands."""
    return replace(now, mono_s=0.0, wall_s=now.wall_s - now.mono_s)


def _body(watch: Watch, tag: Tag, presence: TagPresence, ear: Ear, now: Instant) -> Body:
    why = ear.why if watch.state is TagState.UNKNOWN and ear.hearing is not Hearing.HEARS else ""
    fields: dict[str, Json] = {
        "state": watch.state.value,
        "why": why or None,
        "heard_since_start": watch.last_s is not None,
        "started_at": switched_on(now),
        "last_seen_at": presence.last_seen,
        "rssi_dbm": presence.rssi_dbm,
        "battery_pct": presence.battery_pct,
        "battery_mv": presence.battery_mv,
        "battery": None if watch.battery is None else watch.battery.value,
        "worker": tag.worker,
        "auth": None if presence.auth is None else presence.auth.value,
        "last_test_at": presence.last_test,
    }
    return {name: value for name, value in fields.items() if value is not None}
