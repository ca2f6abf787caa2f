"""A shift as the desk saw it: what a real gateway's messages told, for the judge, by the listener's clock.

A gateway is known not to hear while health says of its radio anything but `ok`, for as long as health's
`last_outage` says, and from the last message of a run that ended until the next run's radio is `ok`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from end_to_end.ops import Heard

from gatewayd.core.model import Component, State
from gatewayd.core.payload import wall
from gatewayd.core.topic import Kind
from shift.site import Absence, Activation

NAME: Final = "the gateway"
EPOCH: Final = "1970-01-01T00:00:00Z"
PRESSED: Final = frozenset({"raised", "repeated"})


@dataclass(slots=True)
class Desk:
    """What was told by the messages taken in so far.

    `tags`: whose presses are looked at. `slow_s`: for so long before and after an announced deaf time a frame
    may have been in it, since what is on the air is heard, and its absence noticed, only a while later.
    """

    tags: Collection[str]
    slow_s: float = 0.0
    name: str = NAME
    activations: list[Activation] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    _presses: dict[str, int] = field(default_factory=dict)  # of each alarm
    _runs: list[str] = field(default_factory=list)  # of the daemon
    _outages: set[str] = field(default_factory=set)
    _clock: list[tuple[float, float]] = field(default_factory=list)  # when it came, and when 1970 was
    _last_s: float = 0.0  # the last message of this run came
    _absent_s: float | None = None  # since when it is known not to hear

    def take(self, heard: Heard) -> None:
        """Take in a message that came after the desk was there."""
        body, kind = heard.body, heard.where.kind
        if not body:
            return
        if kind is Kind.STATUS and body["state"] == "offline":
            if self._runs[-1:] == [body["run"]]:  # else it is of one that was followed already
                self._be_absent(self._last_s)
            return
        if body["run"] not in self._runs:
            if self._runs:
                self._be_absent(self._last_s)
            self._runs.append(body["run"])
        self._last_s = heard.came_s
        self._clock.append((heard.came_s, true_s(heard, EPOCH)))
        if kind is Kind.HEALTH:
            self._look_at_radio(heard, body["components"][Component.RADIO])
        elif (kind is Kind.ALARM_EVENT and body["type"] in PRESSED) or kind is Kind.ALARM_STATE:
            self._look_for_presses(heard)

    def end(self, at_s: float) -> None:
        """The shift is over."""
        if self._absent_s is not None:
            self._note(self._absent_s, at_s)
            self._absent_s = None

    def wall_s(self, at_s: float) -> float:
        """What the gateway's clock showed at `at_s`, seconds since 1970."""
        index = bisect_left(self._clock, (at_s,))
        _, epoch_s = self._clock[min(index, len(self._clock) - 1)]
        return at_s - epoch_s

    def _look_at_radio(self, heard: Heard, radio: Any) -> None:
        since_s = true_s(heard, radio["since"])
        if radio["state"] != State.OK:
            self._be_absent(since_s)
        elif self._absent_s is not None:
            self._note(self._absent_s, since_s)
            self._absent_s = None
        outage = radio.get("last_outage")
        if outage is not None and outage["began_at"] not in self._outages:
            self._outages.add(outage["began_at"])
            began_s = true_s(heard, outage["began_at"])
            self._note(began_s, began_s + outage["lasted_s"])

    def _look_for_presses(self, heard: Heard) -> None:
        """An event tells a press; one that is only counted on an open alarm is in its state."""
        body, event = heard.body, heard.where.kind is Kind.ALARM_EVENT
        alarm, tag = body["alarm"], body.get("tag", {})
        if tag.get("id") not in self.tags:
            return
        pressed_s = true_s(heard, body["at" if event else "pressed_at"])
        before = self._presses.get(alarm, 0)
        count = int(body["presses"])
        for number in range(before, count):
            said = (
                {"press_key": body.get("press_key"), "auth": tag["auth"], "event": tag["event"]}
                if event and number == count - 1
                else {}
            )
            self.activations.append(
                Activation(tag=tag["id"], alarm=alarm, heard_s=pressed_s, raised=number == 0, **said)
            )
        self._presses[alarm] = max(before, count)

    def _be_absent(self, since_s: float) -> None:
        self._absent_s = since_s if self._absent_s is None else min(since_s, self._absent_s)

    def _note(self, began_s: float, ended_s: float) -> None:
        self.absences.append(Absence(began_s=began_s - self.slow_s, ended_s=ended_s + self.slow_s))


def true_s(heard: Heard, text: str) -> float:
    """A time that a message tells, by the clock it came by.

    It is as far from the moment of publishing as the gateway's clock says, whatever that shows; on its way
    the message was a moment.
    """
    body = heard.body
    return float(heard.came_s - body["late_s"] - (wall(body["at"]) - wall(text)))


def deaf_s(absences: Sequence[Absence]) -> float:
    """How long they last together."""
    total_s, until_s = 0.0, float("-inf")
    for absence in sorted(absences, key=lambda each: each.began_s):
        total_s += max(0.0, absence.ended_s - max(absence.began_s, until_s))
        until_s = max(until_s, absence.ended_s)
    return total_s
