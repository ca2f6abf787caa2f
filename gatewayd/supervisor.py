"""Supervises the tags while the daemon runs: tells ops of each, and keeps the record of coverage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from gatewayd.core import coverage, supervision
from gatewayd.core.battery import Charge
from gatewayd.core.coverage.record import Changes
from gatewayd.core.health import STARTING
from gatewayd.core.model import Draft, Instant, State, Tag
from gatewayd.core.supervision import Ear, Hearing, TagState, Watch
from gatewayd.core.tag_record import TagPresence

logger = logging.getLogger(__name__)


class Supervisor:
    """What is heard, and what the radio says of itself, goes in; messages and the record come out."""

    def __init__(
        self, tags: Iterable[Tag], *, now: Callable[[], Instant], publish: Callable[[Draft], None]
    ) -> None:
        self._now = now
        self._publish = publish
        began = now()
        self._tags = {tag.name: tag for tag in tags}
        self._watches: dict[str, Watch] = {}
        self._ear = Ear(hearing=Hearing.DEAF, since_s=began.mono_s, why=STARTING)
        self._anything = False  # heard since the last tick
        self._clock = began.source
        self.record = coverage.Record(self._tags.values(), self._ear, began)

    def configure(self, tags: Iterable[Tag]) -> None:
        """Supervise these tags from now on; the states of those that are gone are withdrawn."""
        now, before = self._now(), self._tags
        self._tags = {tag.name: tag for tag in tags}
        self.record.assign(self._tags.values(), now)
        for name in before.keys() - self._tags.keys():
            self._watches.pop(name, None)
            self._publish(supervision.cleared(name, now))

    def restore(self, presences: Mapping[str, TagPresence], blocks: Mapping[str, str]) -> None:
        """Take what earlier runs knew. A block that is damaged is left out: the others still count."""
        now = self._now()
        for name, presence in presences.items():
            seen = presence.last_seen
            if name not in self._tags:
                self._publish(supervision.cleared(name, now))  # revoked while nobody ran
            elif seen is not None and seen.boot == now.boot:
                self._watches.setdefault(name, Watch(last_s=seen.mono_s))
        self.record.restore(_readable(blocks))

    def radio(self, state: State, detail: str) -> None:
        """The radio said how it is."""
        hearing = supervision.hearing(state, detail)
        why = "" if hearing is Hearing.HEARS else detail
        now_s = self._now().mono_s
        if (hearing, why) == (self._ear.hearing, self._ear.why):
            return
        since_s = self._ear.since_s if hearing is self._ear.hearing else now_s
        self._ear = replace(self._ear, hearing=hearing, since_s=since_s, why=why)
        self.record.radio(replace(self._ear, since_s=now_s))

    def something(self) -> None:
        """Somebody was heard. Called for all that is on the air, so nothing is done before the next tick."""
        self._anything = True

    def heard(self, tag: Tag, heard_s: float, rssi_dbm: int | None) -> None:
        """An assigned tag was heard."""
        watch = supervision.heard(self._watches.get(tag.name, Watch()), tag, heard_s, rssi_dbm)
        self._watches[tag.name] = watch
        self.record.heard(tag.name, heard_s, faint=watch.faint)

    def tick(self, presences: Mapping[str, TagPresence]) -> None:
        """Time passed: judge every tag, and tell what is due."""
        now = self._now()
        if self._anything:
            self._anything = False
            self._ear = replace(self._ear, heard_s=now.mono_s)
            self.record.known(now.mono_s)
        if now.source is not self._clock:  # what was told with another clock is told anew
            self._clock = now.source
            self.retell()
        for name, tag in self._tags.items():
            presence = presences.get(name) or TagPresence()
            watch = supervision.powered(self._watches.get(name, Watch()), presence)
            watch = supervision.judge(watch, tag, self._ear, now.mono_s)
            self._watches[name], draft = supervision.told(watch, tag, presence, self._ear, now)
            if draft is not None:
                self._publish(draft)

    @property
    def states(self) -> dict[str, TagState]:
        """How each tag was at the last tick."""
        return {name: watch.state for name, watch in self._watches.items()}

    def batteries(self, presences: Mapping[str, TagPresence]) -> dict[str, Charge | None]:
        """How full each tag's battery is; None where that is not known."""
        return {
            name: supervision.powered(self._watches.get(name, Watch()), presence).battery
            for name, presence in presences.items()
        }

    def retell(self) -> None:
        """Tell every tag's state again, at the next tick."""
        self._watches = {name: replace(watch, told=None) for name, watch in self._watches.items()}

    def changes(self, *, alone: bool) -> Changes | None:
        """What of the record is to be stored now; None: nothing yet. `alone`: for its own sake."""
        now = self._now()
        return self.record.save(now) if self.record.due(now, alone=alone) else None


def _readable(blocks: Mapping[str, str]) -> Iterable[coverage.Block]:
    for key, text in blocks.items():
        try:
            yield coverage.from_json(text)
        except ValueError as error:
            logger.error("the record coverage %s is damaged and left out: %s", key, error)
