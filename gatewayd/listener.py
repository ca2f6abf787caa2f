"""Listens to the assigned tags: what they say goes in; presses come out, each with its tag's record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from gatewayd.core import tags
from gatewayd.core.model import Advertisement, Instant, Mode, Press, Tag, TagReport
from gatewayd.core.presence import observe
from gatewayd.core.roster import Roster
from gatewayd.core.tag_record import TagPresence
from gatewayd.records import TAG, Put, RecordKey, Records
from gatewayd.supervisor import Supervisor

SEEN_S: Final = 30.0  # a tag heard this recently counts as heard, in the STATUS line


class Listener:
    """Knows of each tag what it said last, and so which press is a new one.

    `judge` says what a press is, a test or not; `on_press` gets it with its tag's record, `keep` a record
    that is due without a press.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        now: Callable[[], Instant],
        judge: Callable[[Press], Press],
        on_press: Callable[[Press, Put], None],
        keep: Callable[[Put], None],
    ) -> None:
        self.presences: dict[str, TagPresence] = {}
        self._supervisor = supervisor
        self._now = now
        self._judge = judge
        self._on_press = on_press
        self._keep = keep
        self._saved: dict[str, Instant] = {}

    def configure(self, assigned: Iterable[Tag]) -> None:
        """Listen to these. What is known of those that stay is kept."""
        self.tags = {tag.name: tag for tag in assigned}
        self._roster = Roster(self.tags.values())

    def restore(self, records: Records) -> None:
        """Take what an earlier run left; what is known by now is newer."""
        for name, text in records.get(TAG, {}).items():
            self.presences.setdefault(name, TagPresence.from_json(text))

    @property
    def records(self) -> dict[RecordKey, str]:
        """All that is known, as it is stored."""
        return {(TAG, name): presence.to_json() for name, presence in self.presences.items()}

    @property
    def numbered(self) -> set[str]:
        """The tags that number their presses."""
        return {name for name, presence in self.presences.items() if presence.numbered}

    @property
    def hearing(self) -> int:
        """How many were heard lately."""
        now = self._now()
        seen = (presence.last_seen for presence in self.presences.values())
        return sum(at is not None and at.boot == now.boot and now.mono_s - at.mono_s <= SEEN_S for at in seen)

    def concerns(
        self,
        address: str,
        service_data: Mapping[str, bytes],
        manufacturer_data: Mapping[int, bytes],
        rssi_dbm: int | None,
    ) -> bool:
        """Whether an advertisement with these is of one of our tags. Most are not.

        Without a strength it is none: BlueZ withdraws that as a scan ends, which proves no hearing.
        """
        if rssi_dbm is not None:
            self._supervisor.something()
        return self._roster.sender(address, service_data, manufacturer_data) is not None

    def sender(self, advertisement: Advertisement) -> Tag | None:
        """The tag that an advertisement is of."""
        return self._roster.find(advertisement)

    def hear(self, tag: Tag, advertisement: Advertisement) -> None:
        """Take what a tag advertised."""
        report = tags.decode(advertisement, format=tag.format, key=tag.key)
        if report is not None:
            self.report(tag, report, advertisement.heard_s, advertisement.rssi_dbm)

    def report(self, tag: Tag, report: TagReport, heard_s: float, rssi_dbm: int | None = None) -> None:
        """Take what a tag said; `heard_s`: CLOCK_MONOTONIC; no level: over its connection."""
        now = self._now()
        heard = replace(now, mono_s=heard_s, wall_s=now.wall_s + heard_s - now.mono_s)
        presence, press = observe(self.presences.get(tag.name) or TagPresence(), tag, report, heard, rssi_dbm)
        if press is not None:
            press = self._judge(press)
            if press.mode is not Mode.ACTUAL:
                presence = replace(presence, last_test=heard)
            self._on_press(press, {(TAG, tag.name): presence.to_json()})
            self._saved[tag.name] = heard
        elif presence.due(self._saved.get(tag.name), heard):
            self._keep({(TAG, tag.name): presence.to_json()})
            self._saved[tag.name] = heard
        # Last: had the press failed on its way, its next copy must not count as one.
        self.presences[tag.name] = presence
        self._supervisor.heard(tag, heard_s, rssi_dbm)
