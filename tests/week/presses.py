"""What a press must bring about, written from the figures of the field: replayed at each gateway by itself.

The replay knows the presses that a gateway was up to hear, the windows that were announced to it, and when
its alarms were closed; from these it says what each press is, and looks for that among the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from week.journal import Fact, Press
from week.view import COARSE_S, NEVER_S, SAME_S, Event, Fall, View

COUNTED_S: Final = 10.0
EMERGENCY_S: Final = 600.0
CORROBORATION_S: Final = 120.0
APART_S: Final = 120.0  # a packet id comes round: keys are compared within minutes only
EDGE_S: Final = 2.0  # nobody is asked what a press is that comes so near to a figure
AT_ONCE_S: Final = 1.0
PANIC: Final = "panic"


@dataclass(slots=True)
class Open:
    """An alarm that is open, as the replay has it."""

    alarm: str
    mode: str
    tag: str | None
    worker: str | None
    cause: str
    last_s: float  # when its tag was pressed last; when it was raised, where it was not pressed
    presses: int = 0
    pressed_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was announced."""

    tags: tuple[str, ...]
    began_s: float
    ends_s: float
    mode: str


class Replay:
    """One gateway's week of presses."""

    def __init__(self, view: View, site: str) -> None:
        self.view = view
        self.site = site
        self.falls: list[Fall] = []
        self.counts: Counter[str] = Counter()
        self.open: dict[str, Open] = {}
        self.all: dict[str, Open] = {}
        self.explained: set[str] = set()  # alarms that something raised
        self.windows = [
            Window(
                tags=tuple(command.body["tags"]),
                began_s=came_s,
                ends_s=came_s + command.body["for_s"],
                mode=command.body.get("mode", "test"),
            )
            for came_s, command in view.done(site, "test/press_window")
        ]
        self.settings = view.journal.settings[site]

    def run(self) -> Replay:
        """Replay all of it in its order: an alarm is closed or raised by others before a press comes."""
        steps: list[tuple[float, int, Press | Event]] = [
            (event.at_s, 0, event)
            for event in self.view.of_type(self.site, "closed", "reopened", "raised")
            if event.type != "raised" or event.body["cause"] in {"overdue", "manual"} or event.actor
        ]
        for press in self.view.journal.presses:
            heard_s = self._heard_s(press)
            if heard_s < NEVER_S:
                steps.append((heard_s, 1, press))
        for at_s, _, step in sorted(steps, key=lambda each: each[:2]):
            if isinstance(step, Press):
                self._press(step, at_s)
            else:
                self._note(step)
        self._check_totals()
        return self

    def _heard_s(self, press: Press) -> float:
        """When it was first heard by a daemon that had read its disk; infinity: then it told nothing."""
        for at_s in press.heard.get(self.site, []):
            up_s = self.view.up_s(self.site, at_s)
            if up_s - at_s < COARSE_S:  # what is heard while it reads its disk it tells once that is read
                return up_s
        return NEVER_S

    def _note(self, event: Event) -> None:
        if event.type == "closed":
            self.open.pop(event.alarm, None)
        elif event.type == "reopened":
            if event.alarm in self.all:
                self.open[event.alarm] = self.all[event.alarm]
        else:
            self.explained.add(event.alarm)
            if event.body["cause"] != "overdue":
                self._begin(event, event.at_s)

    def _begin(self, event: Event, at_s: float) -> Open:
        begun = Open(
            alarm=event.alarm,
            mode=event.mode,
            tag=event.tag,
            worker=event.body.get("tag", {}).get("worker"),
            cause=str(event.body["cause"]),
            last_s=at_s,
        )
        self.open[event.alarm] = self.all[event.alarm] = begun
        return begun

    # --- one press ------------------------------------------------------------------------------------------

    def _press(self, press: Press, at_s: float) -> None:
        if press.event in {self.settings["check_out"]}:
            return
        mine = [each for each in self.open.values() if each.tag == press.tag]
        meant = next((each for each in mine if each.mode == "actual"), None)
        modes = self._modes(press, at_s) if meant is None else {"actual"}
        if press.event == self.settings["cancel"]:
            self._cancel(press, at_s, [each for each in mine if each.mode in modes])
            return
        known = next((each for each in mine if each.mode in modes), None)
        if known is None:
            self._raised(press, at_s, modes)
        else:
            self._again(press, at_s, known)

    def _modes(self, press: Press, at_s: float) -> set[str]:
        """a press within a test window of named tags is TEST, of others real; TEST is fixed at birth.

        "A TEST ends with its window and never absorbs a press outside it; an exercise absorbs only its own
        tags." A machine that was switched on without the time cannot know what is left of a window.
        """
        modes = {"actual"}
        for window in self.windows:
            if press.tag not in window.tags or not window.began_s - 1 <= at_s <= window.ends_s + 1:
                continue
            inside = window.began_s + 1 < at_s < window.ends_s - 1
            timed = self.view.timed_all(self.site, window.began_s, at_s)
            modes = {window.mode} if inside and timed else {*modes, window.mode}
        return modes

    def _raised(self, press: Press, at_s: float, modes: set[str]) -> None:
        """panic press: cancel delay 0 s; alarms lost to kill, power cut, silent link: 0; one a press."""
        cause = "duress" if press.event == self.settings["duress"] else PANIC
        found = [
            event
            for event in self.view.near(self.site, at_s)
            if event.type == "raised" and event.tag == press.tag and event.alarm not in self.explained
        ]
        what = f"{press.tag} ({press.event}) pressed"
        if len(found) != 1 or found[0].mode not in modes or found[0].body["cause"] != cause:
            if found or self.view.known(self.site, at_s):
                seen = ", ".join(f"{event} {event.mode} {event.body['cause']}" for event in found)
                self._fall(at_s, f"{what}: one alarm {'/'.join(modes)} {cause}", seen or "none")
            self.explained |= {event.alarm for event in found}
            if not found:
                return
        self.counts[f"pressed: {found[0].mode}"] += 1
        self.explained.add(found[0].alarm)
        self._take(self._begin(found[0], at_s), at_s)
        self._check_first(found[0], what, press)

    def _check_first(self, event: Event, what: str, press: Press) -> None:
        """the first alarm message waits for nothing: not GPS, not audio, not a slow disk."""
        online = self.view.journal.throughout(self.site, Fact.ONLINE, event.at_s - 1, event.at_s + AT_ONCE_S)
        if online and event.came_s - event.at_s > AT_ONCE_S:
            self._fall(
                event.at_s,
                f"{what}: at the broker within {AT_ONCE_S} s",
                f"{event.came_s - event.at_s:.1f} s",
            )
        auth = event.body["tag"]["auth"]
        if auth != "ok":
            self._fall(event.at_s, f"{what}, with a proof: auth ok", auth)
        if event.body["tag"]["worker"] != press.worker:
            self._fall(event.at_s, f"{what}: worker {press.worker}", str(event.body["tag"]["worker"]))

    def _again(self, press: Press, at_s: float, known: Open) -> None:
        """same tag pressed again within 10 s: the same alarm, counted; later: `repeated`; never a second one.

        "more than 10 min after the last press it is treated as a new emergency under the same id".
        """
        gap_s = at_s - known.last_s
        events = [event for event in self.view.near(self.site, at_s) if event.alarm == known.alarm]
        turned = [
            event for event in events if event.type == "escalated" and event.body.get("reason") == "duress"
        ]
        repeated = [event for event in events if event.type == "repeated"] or turned
        what = f"{press.tag} pressed {gap_s:.0f} s after the last time"
        second = [
            event
            for event in self.view.near(self.site, at_s)
            if event.type == "raised" and event.tag == press.tag
        ]
        if second:
            self._fall(at_s, f"{what}: no second alarm", str(second[0]))
            self.explained.add(second[0].alarm)
        timed = self.view.timed_all(self.site, known.last_s, at_s)
        self._take(known, at_s)
        if not self.view.known(self.site, at_s):
            return
        if press.event == self.settings["duress"]:
            self._turned(at_s, what, known, repeated)
        if gap_s < COUNTED_S - EDGE_S and timed and repeated:
            self._fall(at_s, f"{what}: only counted", str(repeated[0]))
        elif gap_s > COUNTED_S + EDGE_S and not repeated:
            self._fall(at_s, f"{what}: repeated", "nothing")
        elif repeated and timed and abs(gap_s - EMERGENCY_S) > EDGE_S:
            anew = "cause" in repeated[0].body
            self.counts["pressed again: anew" if anew else "pressed again"] += 1
            if anew is not (gap_s > EMERGENCY_S):
                self._fall(at_s, f"{what}: a new emergency {gap_s > EMERGENCY_S}", str(anew))

    def _turned(self, at_s: float, what: str, known: Open, told: list[Event]) -> None:
        """duress looks the same to whoever stands beside the worker, and calls for help at ops."""
        calls = any("duress" in {event.body.get("reason"), event.body.get("cause")} for event in told)
        if not calls and known.cause != "duress":
            self._fall(at_s, f"{what}, under duress: escalated", "nothing")
        known.cause = "duress"

    def _cancel(self, press: Press, at_s: float, mine: list[Open]) -> None:
        """cancel asked by the worker never closes by itself; without an open alarm it does nothing."""
        events = [
            event
            for event in self.view.near(self.site, at_s)
            if event.type in {"cancel_requested", "raised", "closed"} and event.tag in {press.tag, None}
        ]
        asked = [event for event in events if event.type == "cancel_requested"]
        if mine and not asked and self.view.known(self.site, at_s):
            self._fall(at_s, f"{press.tag} asked to cancel: cancel_requested", "nothing")
        if mine:
            self.counts["asked to cancel"] += 1
        for event in events:
            if event.tag == press.tag and event.type == "raised":
                self._fall(at_s, f"{press.tag} asked to cancel: no alarm", str(event))
                self.explained.add(event.alarm)

    def _take(self, known: Open, at_s: float) -> None:
        known.last_s = at_s
        known.presses += 1
        known.pressed_s.append(at_s)

    # --- in the end -----------------------------------------------------------------------------------------

    def _check_totals(self) -> None:
        """Every press is counted, and every alarm is of a press: there is no false one."""
        for event in self.view.of_type(self.site, "raised"):
            if event.alarm not in self.explained:
                self._fall(event.at_s, "no alarm that nobody raised", f"{event} of {event.tag}")
        for known in self.all.values():
            told = [
                message.body["presses"]
                for message in self.view.states[self.site, known.alarm]
                if message.body is not None and "presses" in message.body
            ]
            if told and max(told) != known.presses:
                self._fall(known.last_s, f"{known.presses} presses of {known.tag}", str(max(told)))

    def _fall(self, at_s: float, expected: str, seen: str) -> None:
        self.falls.append(Fall(at_s=at_s, site=self.site, expected=expected, seen=seen))


def pressed(view: View) -> Iterator[Fall]:
    """What each press must bring about: the sentences are at `Replay`'s steps."""
    for site in view.journal.sites:
        yield from Replay(view, site).run().falls


def corroborated(view: View) -> Iterator[Fall]:
    """presses of two workers within 2 min: both alarms marked `corroborated`."""
    for site in view.journal.sites:
        yield from _corroborated(view, Replay(view, site).run())


def _corroborated(view: View, replay: Replay) -> Iterator[Fall]:
    site = replay.site
    marked = {event.alarm for event in view.of_type(site, "corroborated")}
    for known in replay.all.values():
        if known.mode == "test":
            continue
        gaps = [
            (abs(mine_s - theirs_s), max(mine_s, theirs_s))
            for other in replay.all.values()
            if other.mode == known.mode and other.worker != known.worker
            for mine_s in known.pressed_s
            for theirs_s in other.pressed_s
            if _open(view, site, known, max(mine_s, theirs_s))
            and _open(view, site, other, max(mine_s, theirs_s))
        ]
        nearest_s, at_s = min(gaps, default=(NEVER_S, known.last_s))
        timed = view.timed_all(site, at_s - CORROBORATION_S, at_s)
        if (
            nearest_s < CORROBORATION_S - EDGE_S
            and timed
            and known.alarm not in marked
            and view.known(site, at_s)
        ):
            seen = "not marked"
            yield Fall(
                at_s=at_s,
                site=site,
                expected=f"{known.tag}, {nearest_s:.0f} s apart: corroborated",
                seen=seen,
            )
        if nearest_s > CORROBORATION_S + EDGE_S and known.alarm in marked:
            expected = f"{known.tag}, {nearest_s:.0f} s apart: not corroborated"
            yield Fall(at_s=known.last_s, site=site, expected=expected, seen="corroborated")


def _open(view: View, site: str, known: Open, at_s: float) -> bool:
    """Whether an alarm was open then."""
    is_open = False
    for event in view.story(site, known.alarm):
        if event.at_s > at_s + SAME_S:
            break
        is_open = {"raised": True, "reopened": True, "closed": False}.get(event.type, is_open)
    return is_open


def one_key(view: View) -> Iterator[Fall]:
    """one press heard by two gateways has one key; presses of a tag within minutes have different ones."""
    keys: dict[tuple[str, int], set[str]] = {}
    at_s: dict[tuple[str, int], float] = {}
    for press in view.journal.presses:
        for site, heard in press.heard.items():
            for event in view.near(site, heard[0]):
                if (
                    event.type in {"raised", "repeated"}
                    and event.tag == press.tag
                    and "press_key" in event.body
                ):
                    keys.setdefault((press.tag, press.number), set()).add(event.body["press_key"])
                    at_s[press.tag, press.number] = press.at_s
    used: dict[str, tuple[str, int]] = {}
    for whose, mine in keys.items():
        if len(mine) > 1:
            yield Fall(at_s=0.0, site="both", expected=f"one key of {whose}", seen=str(sorted(mine)))
        for key in mine:
            before = used.get(key, whose)
            used[key] = whose
            if before != whose and at_s[whose] - at_s[before] <= APART_S:
                yield Fall(
                    at_s=0.0, site="both", expected=f"a key for {whose} alone", seen=f"{key} of {before}"
                )
