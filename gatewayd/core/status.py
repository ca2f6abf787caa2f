"""The `status` topic: birth, will, and a clean stop.

Birth and will of one MQTT session carry the same number, so that a consumer who sees "offline" after a newer
"online" knows it for the will of a session that is over.
"""

from gatewayd.core import topic
from gatewayd.core.model import Body, Draft, Instant, Keep, MessageClass


def birth(session: int, version: str, since: Instant) -> Draft:
    """Return the first message of a session: online since then."""
    return _status(since, {"state": "online", "session": session, "since": since, "version": version})


def will(session: int, version: str, now: Instant) -> Draft:
    """Return what the broker says when the session breaks. `payload.render_will` renders it: no times."""
    return _status(now, {"state": "offline", "session": session, "version": version})


def stopped(session: int, version: str, now: Instant) -> Draft:
    """Return the last message of a session that ends as it should."""
    body: Body = {"state": "offline", "session": session, "since": now, "version": version}
    return _status(now, {**body, "reason": "stopped"})


def _status(at: Instant, body: Body) -> Draft:
    return Draft(
        topic=topic.STATUS,
        message_class=MessageClass.STATE,
        keep=Keep.NEVER,
        at=at,
        body=body,
        retain=True,
        replaces=True,
    )
