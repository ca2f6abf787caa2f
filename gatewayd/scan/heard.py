"""What is on the air: a line for each slot of each tag and for each other advertiser. Pure; bounded.

A tag with several slots has a line for each: an identity that appears when it is pressed must be found among
those that it always sends. What counts as a press is what the gateway itself would take for one, but for an
identity that is there when the scan begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from gatewayd.core.model import Advertisement, ClockSource, Instant, Tag, TagReport
from gatewayd.core.presence import observe
from gatewayd.core.roster import Roster
from gatewayd.core.tag_record import TagPresence
from gatewayd.core.tags import FAMILIES, decode, describe, readable

# A car park full of telephones; more than anybody reads.
DEVICES: Final = 500
# Dropped together, so that a flood of addresses does not have all of them sorted for each.
DROPPED: Final = 50
# The formats, telemetry and some identities: more than any tag on the market has slots.
SLOTS: Final = 8
# Unheard for this long, a device makes room before one that is weaker and still there.
STALE_S: Final = 60.0
# What changes without a press (temperatures, counts of advertisements) is told this often at most.
TELL_EVERY_S: Final = 1.0
# Other people's devices change their addresses all the time; so many new lines a second can still be read.
STRANGERS_PER_S: Final = 5
# An identity heard so soon after the radio began may have been on the air all the time: beacons advertise
# every second or two. It counts from the radio, not from the first advertisement: that may be the press.
SETTLE_S: Final = 5.0
UNHEARD_DBM: Final = -128  # below what a radio can report


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One slot of a tag, or an advertiser that no decoder knows, as last heard."""

    address: str
    name: str | None = None
    rssi_dbm: int | None = None
    heard_s: float = 0.0  # CLOCK_MONOTONIC
    report: TagReport | None = None  # None: no decoder claims what it sends
    frame: Advertisement | None = None  # what it was heard in
    tag: Tag | None = None  # the assigned tag it is of
    presence: TagPresence = field(default_factory=TagPresence)
    press: bool = False  # what was heard last is a press
    pressed_s: float | None = None  # when the last press was heard
    told: Mapping[str, object] | None = None  # what was told of it last
    told_s: float = 0.0

    @property
    def stranger(self) -> bool:
        """Whether nothing speaks for its being a tag."""
        return self.report is None and self.tag is None

    @property
    def named_by(self) -> Mapping[str, str | int] | None:
        """The settings that tell this tag from all others.

        None for what names no tag, and for what has no button, and so can call no help.
        """
        if self.report is None:
            return None
        if self.report.identity is not None:
            return self.report.identity
        by_address = FAMILIES[self.report.format].identified_by == ("address",)
        pressable = bool(self.report.buttons) or not readable(self.report)
        return {"address": self.address} if by_address and pressable else None

    @property
    def strength_dbm(self) -> int:
        """Its signal strength, for comparing."""
        return UNHEARD_DBM if self.rssi_dbm is None else self.rssi_dbm


class Air:
    """What was heard so far."""

    def __init__(self, tags: Iterable[Tag]) -> None:
        """`tags`: those assigned to this gateway, which are called by name and read with their keys."""
        self._roster = Roster(tags)
        self._devices: dict[str, dict[str, Line]] = {}  # by address and slot
        self._began_s: float | None = None  # since when the radio scans, or did until it was settled
        self._strangers_since_s = 0.0
        self._strangers_told = 0

    def begin(self, now_s: float) -> None:
        """The radio scans, `now_s` on CLOCK_MONOTONIC: the settling time counts from the first such call."""
        if self._began_s is None:
            self._began_s = now_s

    def end(self, now_s: float) -> None:
        """The radio scans no more: what is not settled yet is to be listened to anew."""
        if not self.settled(now_s):
            self._began_s = None

    def settled(self, now_s: float) -> bool:
        """Whether what is always there was heard by now, so that an identity that appears is a press."""
        return self._began_s is not None and now_s - self._began_s >= SETTLE_S

    def hear(self, advertisement: Advertisement) -> list[Line]:
        """Take in an advertisement; return the lines worth telling now: new ones, changed ones, presses."""
        if not _was_sent(advertisement):
            return []
        tag = self._roster.find(advertisement)
        reports = _decoded(advertisement, tag)
        slots = self._devices.setdefault(advertisement.address, {})
        if reports:
            slots.pop("", None)
        elif any(slots):
            return []  # another frame of a tag whose lines are here
        told = [self._take(slots, advertisement, tag, report) for report in reports or (None,)]
        while len(slots) > SLOTS:
            del slots[min(slots, key=lambda slot: slots[slot].heard_s)]
        if len(self._devices) > DEVICES:
            self._drop(advertisement.heard_s)
        return [line for line in told if line is not None]

    def lines(self) -> list[Line]:
        """All lines: what was pressed last, then tags, then strangers, and of these the strongest first."""
        found = [line for slots in self._devices.values() for line in slots.values()]
        return sorted(found, key=_rank)

    def _take(
        self, slots: dict[str, Line], advertisement: Advertisement, tag: Tag | None, report: TagReport | None
    ) -> Line | None:
        """Take in a frame of a slot; return the slot's line when it is worth telling."""
        slot, now_s = _slot(report), advertisement.heard_s
        line = slots.get(slot) or Line(address=advertisement.address)
        presence, press = line.presence, False
        if report is not None:
            presence, press = self._judge(presence, advertisement, tag, report)
        line = replace(
            line,
            name=advertisement.name or line.name,
            rssi_dbm=line.rssi_dbm if advertisement.rssi_dbm is None else advertisement.rssi_dbm,
            heard_s=now_s,
            report=report,
            frame=advertisement,
            tag=tag,
            presence=presence,
            press=press,
            pressed_s=now_s if press else line.pressed_s,
        )
        says = {"name": line.name, **({} if report is None else describe(report))}
        tell = press or (says != line.told and self._may_tell(line))
        slots[slot] = replace(line, told=says, told_s=now_s) if tell else line
        return line if tell else None

    def _judge(
        self, presence: TagPresence, advertisement: Advertisement, tag: Tag | None, report: TagReport
    ) -> tuple[TagPresence, bool]:
        """What is known of a slot after a frame of it, and whether that is a press."""
        now_s = advertisement.heard_s
        known_as = tag or Tag(name=advertisement.address, format=report.format)
        presence, press = observe(presence, known_as, report, _instant(now_s), advertisement.rssi_dbm)
        was_there = report.identity is not None and not self.settled(now_s)
        return presence, press is not None and not was_there

    def _may_tell(self, line: Line) -> bool:
        """Whether a change may be told now; one that may not is told with a later frame."""
        if not line.stranger:
            return line.told is None or line.heard_s - line.told_s >= TELL_EVERY_S
        if line.heard_s - self._strangers_since_s >= 1.0:
            self._strangers_since_s, self._strangers_told = line.heard_s, 0
        self._strangers_told += 1
        return self._strangers_told <= STRANGERS_PER_S

    def _drop(self, now_s: float) -> None:
        """Make room: strangers before tags, what was not heard lately before what was, the weakest first."""

        def worth(address: str) -> tuple[bool, bool, int]:
            lines = self._devices[address].values()
            return (
                any(not line.stranger for line in lines),
                any(now_s - line.heard_s < STALE_S for line in lines),
                max(line.strength_dbm for line in lines),
            )

        for address in sorted(self._devices, key=worth)[:DROPPED]:
            del self._devices[address]


def _rank(line: Line) -> tuple[float, bool, int, str]:
    """Where a line stands: the newest press first."""
    pressed = inf if line.pressed_s is None else -line.pressed_s
    return pressed, line.stranger, -line.strength_dbm, line.address


def _was_sent(advertisement: Advertisement) -> bool:
    """Whether the device sent something, and bluetoothd did not merely tell that it hears it no more."""
    has_data = advertisement.service_data or advertisement.manufacturer_data
    return advertisement.rssi_dbm is not None or bool(has_data)


def _decoded(advertisement: Advertisement, tag: Tag | None) -> list[TagReport]:
    """All that an advertisement says: one may carry an identity and telemetry."""
    key = None if tag is None else tag.key
    reports = (decode(advertisement, format=name, key=key) for name in FAMILIES)
    return [report for report in reports if report is not None]


def _slot(report: TagReport | None) -> str:
    """What tells the slots of a device apart; empty for a stranger's only one."""
    if report is None:
        return ""
    return " ".join([report.format, *(str(value) for value in (report.identity or {}).values())])


def _instant(mono_s: float) -> Instant:
    """A moment of this run; wall time does not matter here."""
    return Instant(boot="", mono_s=mono_s, wall_s=0.0, source=ClockSource.NONE, uncertainty_ms=0)
