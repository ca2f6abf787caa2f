"""Has the tests done while the daemon runs: windows for presses, the daily way to the broker and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from gatewayd.config.model import Config
from gatewayd.core import drill
from gatewayd.core.alarm.model import WIRED
from gatewayd.core.command import Actor
from gatewayd.core.drill import Drills
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.model import Body, Draft, Instant, Intent, Mode, Press
from gatewayd.core.tag_record import TagPresence
from gatewayd.core.upkeep import PressWindow, TestRun

logger = logging.getLogger(__name__)


class Driller:
    """Commands and presses go in; what is published, stored and told in health comes out.

    `store` is given the record whenever it changed; `changed` is called when health has news.
    """

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], Instant],
        new_id: Callable[[], str],
        publish: Callable[[Draft], None],
        store: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._now = now
        self._new_id = new_id
        self._publish = publish
        self._store = store
        self._changed = changed
        self._drills = Drills()
        self._started = now()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Work with a configuration from now on."""
        self._test = config.test
        self._gateway = config.gateway.id
        self._tags = {tag.name for tag in config.tags}
        self._calling = {tag.name for tag in config.tags if tag.calls}

    def restore(self, text: str | None) -> None:
        """Take what an earlier run knew. What this one has begun already is newer."""
        if text is None or self._drills != Drills():
            return
        try:
            self._drills = drill.from_json(text)
        except ValueError as error:
            logger.error("the record of tests is damaged and left out: %s", error)

    @property
    def record(self) -> str:
        """What is stored."""
        return drill.to_json(self._drills)

    # --- presses --------------------------------------------------------------------------------------------

    def judge(self, press: Press, meant: Collection[str]) -> Press:
        """Return the press as what it is: a test, when it was announced. `meant`: tags with an open alarm."""
        mode = self._drills.mode(press.tag, press.heard)
        if press.tag in meant or mode is Mode.ACTUAL:
            return press
        # Whatever it says else, a test proves the way, and takes nothing back.
        intent = Intent.ALARM if mode is Mode.TEST else press.intent
        return replace(press, mode=mode, intent=intent)

    def left_s(self, press: Press) -> float | None:
        """How much is left of the window that makes a press a test; None: no window does."""
        return (self._drills.left_s(press.tag, press.heard) or None) if press.mode is Mode.TEST else None

    # --- what ops say ---------------------------------------------------------------------------------------

    def obey(self, order: TestRun | PressWindow, actor: Actor, meant: Collection[str]) -> Refusal:
        """Carry out an order."""
        if isinstance(order, PressWindow):
            return self._window(order, actor, meant)
        if self._drills.trip is None or not self._drills.trip.running:
            self._send()
        return None

    def _window(self, order: PressWindow, actor: Actor, meant: Collection[str]) -> Refusal:
        strangers = [tag for tag in order.tags if tag not in self._tags and tag != WIRED]
        if strangers:
            return Code.UNKNOWN, f"tags: expected tags of this gateway, got {', '.join(strangers)[:200]}"
        if order.for_s and (alarmed := [tag for tag in order.tags if tag in meant]):
            return Code.CONFLICT, f"tags: expected none with an open alarm, got {', '.join(alarmed)[:200]}"
        self._take(self._drills.open(order.tags, order.for_s, self._now(), order.mode))
        _log(order, actor)
        return None

    # --- the way to the broker and back ---------------------------------------------------------------------

    def _send(self) -> None:
        self._drills, draft = self._drills.send(self._new_id(), self._now())
        self._publish(draft)

    def on_back(self, payload: bytes) -> None:
        """A test message came from the broker."""
        try:
            found = json.loads(payload)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            self._take(self._drills.back(str(found.get("id")), self._now()))

    def tick(self) -> None:
        """Time passed."""
        now = self._now()
        self._take(self._drills.settle(now))
        at_s = self._test.daily_at_s
        started = now.mono_s - self._started.mono_s >= drill.START_S
        if at_s is not None and started and self._drills.due(now, at_s, self._gateway):
            self._send()

    def _take(self, drills: Drills) -> None:
        if drills is not self._drills:
            self._drills = drills
            self._store(self.record)
            self._changed()

    def body(self, presences: Mapping[str, TagPresence]) -> Body:
        """What health tells."""
        tests = {tag: presences[tag].last_test if tag in presences else None for tag in self._calling}
        return self._drills.body(tests, self._now(), self._test.overdue_after_s)


def _log(order: PressWindow, actor: Actor) -> None:
    """Tell the journal whose presses call nobody for how long, and who wanted it so."""
    tags = ", ".join(order.tags)[:200]
    logger.info("presses of %s: %s for %d s, says %s", tags, order.mode, order.for_s, actor.name or actor.id)
