"""The gateway's position as OwnTracks tells one, for its Recorder, for Traccar and others that show vehicles.

https://owntracks.org/booklet/tech/json/, `_type: location`. It cannot say that a position is not to be
trusted, so what a simulator made is not told, nor an old position again: only what is known now.
"""

from __future__ import annotations

from typing import Final

from gatewayd.core import topic
from gatewayd.core.model import Body, ClockSource, Draft, Instant, Json, Keep, MessageClass, Method

_KMH: Final = 3.6  # km/h in a metre a second


def location(where: Body, below: str | None, gateway: str, now: Instant) -> Draft | None:
    """Return the message of a position on `{below}/{gateway}`; None when it is not to be told.

    While nobody knows the time it cannot be told either: positions are ordered by `tst`, a time of day.
    """
    known = where.get("method") != Method.LAST_KNOWN.value and not where.get("simulated")
    if below is None or not known or now.source is ClockSource.NONE:
        return None
    fix_at = where.get("fix_at")
    then = fix_at if isinstance(fix_at, Instant) else now  # a hub's is true at any time
    body: dict[str, Json] = {
        "_type": "location",
        "topic": f"{below}/{gateway}",  # by this Traccar tells whose it is, when it is passed on to it
        "tid": gateway[-2:],  # what a map shows beside the mark
        "tst": int(then.wall_s),
        "created_at": int(now.wall_s),
        "lat": where["lat"],
        "lon": where["lon"],
    }
    figures = {
        "acc": ("eph_m", 1.0),
        "alt": ("alt_m", 1.0),
        "vel": ("speed_mps", _KMH),
        "cog": ("course_deg", 1.0),
    }
    for name, (field, factor) in figures.items():
        value = where.get(field)
        if isinstance(value, int | float):
            body[name] = round(value * factor)
    return Draft(
        topic=topic.elsewhere(f"{below}/{gateway}"),
        message_class=MessageClass.POSITION,
        keep=Keep.WHEN_WAITING,
        at=now,
        body=body,
    )
