"""Watches over the components: what they report becomes health messages, the STATUS line, the LED's pattern.

It feeds the systemd watchdog, and only while every loop that must run makes progress.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from gatewayd.core.health import Alive, Facts, Health, Report
from gatewayd.core.journal import MessageId, fields
from gatewayd.core.model import Component, Draft, Instant, State
from gatewayd.edge.systemd import Systemd

logger = logging.getLogger(__name__)

# A change is told at most this much later than it is due; the watchdog's interval is many times that.
LOOK_S: Final = 0.5
_CHANGED: Final = fields(MessageId.COMPONENT_CHANGED)


class Caretaker:
    """Everything about how the gateway is. Reports come in on the event loop."""

    def __init__(
        self,
        *,
        systemd: Systemd,
        now: Callable[[], Instant],
        publish: Callable[[Draft], None],
        facts: Callable[[], Facts],
        status: Callable[[Health], str],
        show: Callable[[State], None],
    ) -> None:
        """`facts` and `status` are asked whenever health is told; `show` gets each new overall."""
        self._systemd = systemd
        self._now = now
        self._publish = publish
        self._facts = facts
        self._status = status
        self._show = show
        self._shown: State | None = None
        self._stalled: tuple[str, ...] = ()
        self._fed_s = 0.0
        self.health = Health.begin(now())

    def report(self, component: Component) -> Report:
        """Return what `component` reports its state through."""
        return partial(self.take, component)

    def take(self, component: Component, state: State, detail: str, until_s: float | None = None) -> None:
        """Take how a component is; `until_s`: until when it was better, CLOCK_MONOTONIC, if not until now."""
        before = self.health.conditions[component]
        if (before.state, before.detail) == (state, detail):
            return
        self.health = self.health.report(component, state, detail, self._now(), until_s)
        level = logging.INFO if state in {State.OK, State.OFF} else logging.WARNING
        logger.log(level, "%s %s: %s", component, state, detail, extra=_CHANGED)

    def must_run(self, name: str, bound_s: float) -> Alive:
        """Name a loop that must run and return what it shows its progress with."""
        self.health = self.health.must_run(name, bound_s, self._now())

        def alive() -> None:
            if name in self.health.loops:
                self.health = self.health.alive(name, self._now())

        return alive

    def need_not_run(self, name: str) -> None:
        """A loop has ended as it should."""
        self.health = self.health.need_not_run(name)

    async def run(self, interval_s: Callable[[], float]) -> None:
        """Tell systemd, ops and the LED, until cancelled. `interval_s`: `[health] interval`, as it stands."""
        while True:
            now = self._now()
            self._feed(now)
            if self.health.message_due(now, interval_s()):
                self.tell()
            await asyncio.sleep(LOOK_S)

    def tell(self) -> None:
        """Publish how the gateway is, now."""
        now = self._now()
        self.health, draft = self.health.publish(self._facts(), now)
        self._publish(draft)
        self._systemd.status(self._status(self.health))
        if self.health.overall is not self._shown:
            self._shown = self.health.overall
            self._show(self._shown)

    def _feed(self, now: Instant) -> None:
        stalled = self.health.stalled(now)
        if stalled != self._stalled:
            self._stalled = stalled
            if stalled:
                logger.error("no progress in %s: the systemd watchdog is not fed", ", ".join(stalled))
        interval_s = self._systemd.watchdog_s
        if interval_s is not None and not stalled and now.mono_s - self._fed_s >= interval_s / 4:
            self._fed_s = now.mono_s
            self._systemd.watchdog()
