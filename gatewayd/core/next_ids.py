"""The id that each tag's next alarm gets: one press has one id whatever dies, and no two presses share one.

A kill may come after the broker has an alarm and before the disk does. The press's copies, heard after the
restart, must raise under the same id again; another press must not, for consumers would drop it as a double.
So what an id is made from is stored before it is needed: a seed for each tag, which the transaction that
stores the alarm replaces. Rules:

1. A press that its copies can be told by (`Press.copy_key`) has an id of the seed and that key.
2. Where only time tells copies, it has an id of the seed and the kernel's boot. A seed that an earlier run
   left is replaced once its copies are over, so within a boot two such presses share an id only when they are
   minutes apart and the first was neither stored nor read back from the broker.
3. What the broker hands back as our own alarm has used its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

from gatewayd.core.model import Press
from gatewayd.core.tag_record import BURST_S
from gatewayd.core.uuid7 import derive, is_uuid

Seeds: TypeAlias = Mapping[str, str]  # by tag; what is returned as such is to be stored


class NextIds:
    """The seeds of a gateway. `fresh` draws a UUIDv7."""

    def __init__(self, fresh: Callable[[], str]) -> None:
        self._fresh = fresh
        self._seeds: dict[str, str] = {}
        self._given: dict[str, str] = {}  # to each tag's last press, should it raise
        self._inherited: dict[str, str] = {}  # from an earlier run, which may have used them
        self._restored_s = 0.0

    @property
    def seeds(self) -> Seeds:
        """All of them."""
        return dict(self._seeds)

    def restore(self, seeds: Seeds, now_s: float) -> None:
        """Take what an earlier run left; what is damaged counts as not there. `now_s`: monotonic."""
        self._seeds = {tag: seed for tag, seed in seeds.items() if is_uuid(seed)}
        self._inherited = dict(self._seeds)
        self._restored_s = now_s

    def provide(self, tags: Iterable[str]) -> Seeds:
        """Have a seed for each of these tags; return the new ones."""
        return self._renew(tag for tag in tags if tag not in self._seeds)

    def give(self, press: Press) -> str:
        """Return the id of the alarm that a press raises, if it does."""
        seed = self._seeds.get(press.tag) or self._fresh()
        self._given[press.tag] = derive(seed, press.copy_key or press.heard.boot)
        return self._given[press.tag]

    def spent(self, alarm: str, boot: str) -> Seeds:
        """An alarm has this id: replace the seed it was made from, and return the new one."""
        return self._renew(
            tag for tag, seed in self._seeds.items() if alarm in {self._given.get(tag), derive(seed, boot)}
        )

    def renew(self, now_s: float, numbered: Collection[str]) -> Seeds:
        """Replace what an earlier run left once copies are over; not of tags that number their presses."""
        if not self._inherited or now_s - self._restored_s <= BURST_S:
            return {}
        inherited, self._inherited = self._inherited, {}
        return self._renew(
            tag for tag, seed in inherited.items() if self._seeds[tag] == seed and tag not in numbered
        )

    def _renew(self, tags: Iterable[str]) -> Seeds:
        fresh = {tag: self._fresh() for tag in tags}
        self._seeds.update(fresh)
        return fresh
