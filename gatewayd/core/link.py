"""What a link can bear, learned from its PUBACKs; and how long to wait before it is dialled again.

Rules: what is unacknowledged, wherever it lies (in paho, in the kernel, in the modem), is bounded in bytes so
that it leaves in a quarter of a second, whatever the link, for an alarm stands behind it; the bound grows
with the rate that was measured and shrinks with it. Alarms have a bound of their own: nothing else takes
their room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What may stand before an alarm on a slow link: at 64 kbit/s (8 kB/s) 6 kB are 0.75 s, and fewer bytes
# would leave gaps between two round trips.
LEAST_BYTES: Final = 6_000
MOST_BYTES: Final = 1 << 20  # beyond it nothing is faster, and paho holds all of it in memory
# The queue a window may build up at the link's narrowest point: enough that it never idles, and less to wait
# out when the link becomes a hundred times slower.
QUEUE_S: Final = 0.25
MOST_MESSAGES: Final = 1_000  # 0.2 kB messages in MOST_BYTES would be 5,000; throughput is flat beyond 100
ALARM_RESERVE: Final = 4  # of the broker's Receive Maximum, kept for alarms

SUSPECT_S: Final = 2.0  # an alarm's PUBACK takes 0.1 to 0.8 s on the links we know
SUSPECT_PUBACKS: Final = 4.0  # and on slower ones four of their own round trips,
SUSPECT_MOST_S: Final = 5.0  # but no longer: it may be what stood before them that made those long
# Nothing acknowledged for so long, whatever is in flight: the broker does not do its work. The largest chunk
# (a second at 510 kbit/s) takes 8 s at 64 kbit/s; a broker that is gone is found out by its keep-alive.
STALLED_S: Final = 30.0
SMOOTHING: Final = 1 / 8  # RFC 6298, section 2: the weight of a new round trip

BACKOFF_LEAST_S: Final = 1.0
BACKOFF_MOST_S: Final = 30.0
BACKOFF_GROWTH: Final = 3.0  # each span begins where the one before it ended
BACKOFF_ALARM: Final = 0  # while an alarm waits: the first span, 1 to 3 s
WIDEST: Final = 3  # so many failures have the widest span, 10 to 30 s
REFUSED_MOST_S: Final = 300.0  # a message the broker keeps refusing (an ACL, a quota) is tried again so often


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    size: int
    alarm: bool
    sent_s: float
    delivered: int  # bytes confirmed on this link when it was sent
    full: bool  # the window was the limit: what comes back tells what the link can do


class Window:
    """What is in flight on one session, and how much may be. Times are monotonic seconds."""

    def __init__(self, receive_maximum: int) -> None:
        """`receive_maximum`: the broker's, from its CONNACK."""
        self._receive_maximum = receive_maximum
        self._most_messages = max(1, min(MOST_MESSAGES, receive_maximum - ALARM_RESERVE))
        self._sent: dict[str, _Sent] = {}
        self._bytes = 0
        self._alarm_bytes = 0
        self._heard_s = 0.0  # the last PUBACK, or what was published first since
        self._delivered = 0
        self._rate = 0.0  # bytes/s
        self._round_trip_s = float("inf")  # the shortest seen: without a queue
        self.limit_bytes = LEAST_BYTES

    @property
    def has_room(self) -> bool:
        """Whether anything may be published."""
        return self._bytes < self.limit_bytes and len(self._sent) < self._most_messages

    @property
    def has_room_for_alarm(self) -> bool:
        """Whether an alarm may be: other alarms alone stand before it, and what the broker can take (MQTT 5,
        section 4.9).
        """
        return self._alarm_bytes < self.limit_bytes and len(self._sent) < self._receive_maximum

    def stalled(self, now_s: float) -> bool:
        """Whether something is in flight and nothing has been acknowledged for long."""
        return bool(self._sent) and now_s - self._heard_s > STALLED_S

    def sent(self, message_id: str, size: int, now_s: float, *, alarm: bool = False) -> None:
        """A message of `size` bytes was published."""
        if not self._sent:
            self._heard_s = now_s
        self._bytes += size
        self._alarm_bytes += size * alarm
        full = not self.has_room or self._bytes + size > self.limit_bytes
        self._sent[message_id] = _Sent(
            size=size, alarm=alarm, sent_s=now_s, delivered=self._delivered, full=full
        )

    def answered(self, message_id: str, now_s: float) -> float | None:
        """Its PUBACK came: return how long it took, seconds; None when it was not in flight."""
        sent = self._sent.pop(message_id, None)
        if sent is None:
            return None
        self._heard_s = now_s
        self._bytes -= sent.size
        self._alarm_bytes -= sent.size * sent.alarm
        self._delivered += sent.size
        took_s = max(now_s - sent.sent_s, 1e-6)  # a clock that did not move between the two
        self._round_trip_s = min(self._round_trip_s, took_s)
        rate = (self._delivered - sent.delivered) / took_s
        if rate > self._rate:
            self._rate += (rate - self._rate) / 2
        elif sent.full:
            self._rate += (rate - self._rate) * SMOOTHING
        limit = int(self._rate * (QUEUE_S + self._round_trip_s))
        self.limit_bytes = min(max(limit, LEAST_BYTES), MOST_BYTES)
        return took_s


def smoothed(before_s: float | None, took_s: float) -> float:
    """Return the smoothed PUBACK time after one more, seconds; `before_s` None: the first."""
    return took_s if before_s is None else before_s + (took_s - before_s) * SMOOTHING


def suspect_after_s(smoothed_s: float | None) -> float:
    """Return how long an alarm may be without PUBACK before its link is suspect, seconds."""
    return min(max(SUSPECT_S, SUSPECT_PUBACKS * (smoothed_s or 0.0)), SUSPECT_MOST_S)


def backoff_s(failures: int, jitter: float, *, alarm_waits: bool) -> float:
    """Return the wait before the next dial after `failures` in a row, seconds.

    From a span that is three times as long each time: 1 to 3 s, 3 to 9, 9 to 27, then 10 to 30 s; the first
    one while an alarm waits. `jitter` in 0…1 picks from it, so a fleet that lost the same broker does not
    come back in step; and as a span begins where the one before it ended, a broker that is back within 13 s
    has at most three dials of each gateway.
    """
    spans = BACKOFF_ALARM if alarm_waits else min(failures, WIDEST)
    most_s = min(BACKOFF_MOST_S, BACKOFF_LEAST_S * BACKOFF_GROWTH ** (spans + 1))
    return most_s / BACKOFF_GROWTH * (1 + (BACKOFF_GROWTH - 1) * jitter)


def refused_s(failures: int) -> float:
    """Return the wait before a message the broker refused `failures` times is published again, seconds."""
    return float(min(REFUSED_MOST_S, 2.0 ** min(failures, 9)))
