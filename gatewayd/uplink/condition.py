"""How the uplink is, in words: for health, and for the journal when it changes. It claims what was shown."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from gatewayd.core.drain import Backlog
from gatewayd.core.health import Report
from gatewayd.core.model import Instant, State
from gatewayd.edge.mqtt import reason_text
from gatewayd.uplink.wire import Link

logger = logging.getLogger(__name__)

ANSWER_S: Final = 2.0  # a broker that has not acknowledged the birth by then is not claimed to be well
TWIN_SHOWN_S: Final = 300.0  # the other one comes again within the longest backoff, many times
REFUSAL_SHOWN_S: Final = 60.0  # after the last refusal, if nothing refused waits, all is well again


class Condition:
    """Says how the uplink is."""

    def __init__(self, *, report: Report, backlog: Backlog, now: Callable[[], Instant], gateway: str) -> None:
        self._report = report
        self._backlog = backlog
        self._now = now
        self._twin = f"another gateway goes by our id {gateway}: is [gateway] id given twice?"
        self._twin_s = float("-inf")
        self._said: tuple[State, str] | None = None
        self._link: Link | None = None  # of which it was said
        self._refused: Counter[str] = Counter()
        self._refused_s = float("-inf")
        self._refusal = "the broker refuses messages"  # and the last one's reason

    @property
    def refused(self) -> Mapping[str, int]:
        """How many messages brokers refused, by reason."""
        return dict(self._refused)

    def on_twin(self) -> None:
        """Another gateway goes by our id: the broker ends its session for ours, and ours for its."""
        self._twin_s = self._now().mono_s

    def has_twin(self) -> bool:
        """Whether another gateway has gone by our id lately."""
        return self._now().mono_s - self._twin_s < TWIN_SHOWN_S

    def on_refusal(self, reason: int) -> None:
        """A message was refused."""
        self._refused[f"refused_0x{reason:02x}"] += 1
        self._refused_s = self._now().mono_s
        self._refusal = f"the broker refuses messages: {reason_text(reason)}"

    def failed(self, why: str) -> None:
        """There is no session."""
        self._say(State.FAILED, f"not connected: {self._twin if self.has_twin() else why}")

    def on_answer(self, link: Link) -> None:
        """The broker answered; the first time is worth saying at once."""
        if self._link is not link:
            self.connected(link)

    def connected(self, link: Link) -> None:
        """There is a session: say how it is once the broker has acknowledged something, or should have."""
        now = self._now()
        if not link.answered and now.mono_s - link.began_s < ANSWER_S:
            return
        self._link = link
        wrong = self._wrong(link, now)
        if wrong is None:
            self._say(State.OK, f"connected to {link.name}")
        else:
            self._say(State.DEGRADED, f"connected to {link.name}; {wrong}")

    def _wrong(self, link: Link, now: Instant) -> str | None:
        """What is not as it should be with a session, the worst first."""
        if self._backlog.suspect(now):
            return "an alarm waits for its PUBACK: the link is suspect"
        if not link.answered:
            return "it has acknowledged nothing yet"
        if not link.judged:
            return "certificate dates are not judged: neither NTP nor GNSS tells the time"
        if self._backlog.refuses or now.mono_s - self._refused_s < REFUSAL_SHOWN_S:
            return self._refusal
        if not link.retains:
            return "it retains nothing: who joins late sees neither status nor open alarms"
        if self.has_twin():
            return self._twin
        if link.denied is None and link.session is not None and not link.session.terms.keeps:
            return "it keeps no session: commands given while there is no link are lost"
        return link.denied

    def _say(self, state: State, detail: str) -> None:
        if (state, detail) != self._said:
            self._said = (state, detail)
            logger.log(logging.INFO if state is State.OK else logging.WARNING, "uplink: %s", detail)
            self._report(state, detail)
