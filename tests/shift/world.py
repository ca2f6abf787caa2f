"""The shift itself: who presses when, what is on the air, and what fails, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from simulated import Machine, Timeline

from shift.site import Activation, Site, configured
from shift.tags import MODELS, BTHome, Frame, Tag, other

OTHERS: Final = 100  # advertisers nearby, at 1 Hz each
EACH: Final = 2  # tags of each model: 2,000 presses an hour together
LOST: Final = 0.25  # of all frames, in the air
PAUSE_S: Final = 20.0  # between presses of a tag, beyond what its family needs
SPACE_S: Final = 0.02  # between two advertisements of a device: Core 5.4, vol 6, part B, 4.4.2.2.1
QUICKLY: Final = 0.15  # share of presses that follow within two seconds, before the last burst is over
FAULTS_S: Final = 240.0  # between failures of the radio, and of the daemon, of one gateway
END_S: Final = 120.0  # after the last press
NIGHT_S: Final = 4 * 3600.0
BEFORE_NIGHT_S: Final = 100.0  # nobody presses any more: no burst lasts into it


@dataclass(slots=True, kw_only=True, eq=False)
class Press:
    """One use of a button, or a recording that somebody sends of one."""

    tag: Tag
    stream: str
    began_s: float
    until_s: float = float("inf")  # the last moment at which something on the air tells of it
    burst_s: float = 0.0  # the end of what is sent because of it
    forged: bool = False
    reached: dict[str, list[float]] = field(default_factory=dict)  # by gateway: frames not lost in the air
    untellable: set[str] = field(default_factory=set)  # gateways to which its frame said nothing new
    doubted: set[str] = field(
        default_factory=set
    )  # gateways that lost the time, which alone tells its copies


@dataclass(slots=True, kw_only=True)
class Worn:
    """A tag in use."""

    tag: Tag
    turn: int = 0  # raised whenever something else begins to be sent
    press: Press | None = None
    heard_s: float = 0.0  # when a gateway heard its last frame
    renewed: bool = False  # it has had a new battery
    open: dict[str, Press] = field(default_factory=dict)  # by stream: still told of


class Shift:
    """Run it once; then `presses` and the gateways' own records are what is judged."""

    def __init__(self, seed: int, presses: int, faults_s: float = FAULTS_S) -> None:
        self.time = Timeline()
        self.dice = random.Random(seed)
        self.presses: list[Press] = []
        self._night_over = False
        self._left = presses
        self._faults_s = faults_s
        self._last_s = float("inf")  # when it ends
        self._night_at_s = presses / 2000 * 3600 / 2
        self._worn = [
            Worn(tag=model(f"{model.__name__.lower()}-{each}", self._address(), self.dice))
            for model in MODELS
            for each in range(EACH)
        ]
        config = configured([worn.tag for worn in self._worn])
        self.sites = [Site(Machine(name, lambda: self.now_s), config) for name in ("gw-1", "gw-2")]
        self._seen = {site.name: 0 for site in self.sites}  # activations whose closing is arranged
        self._heard: dict[tuple[str, str, str], tuple[str, Press | None]] = {}
        self._told: dict[tuple[str, str, str], tuple[str, float]] = {}
        # Of a sealed tag, what counts highest of all that was heard, and of the presses.
        self._counted: dict[tuple[str, str], int] = {}
        self._proved: dict[tuple[str, str], tuple[Frame | None, Press | None, float]] = {}
        self._recordings: list[tuple[Worn, Frame]] = []
        self._others = [other(number, self._address, self.dice) for number in range(OTHERS)]

    def run(self) -> None:
        """From the first press to two minutes after the last."""
        for site in self.sites:
            site.machine.boot()
            site.start()
            site.restore()
            site.scan()
            self._after(self.dice.expovariate(1 / self._faults_s), partial(self._radio_fault, site))
            self._after(self.dice.expovariate(1 / self._faults_s), partial(self._daemon_fault, site))
        for worn in self._worn:
            self._rest(worn, worn.turn)
            self._after(self.dice.uniform(2, 2 * PAUSE_S), partial(self._press, worn))
        self._after(1.0, self._second)
        self._after(self._night_at_s, self._night)
        self.time.run(lambda: self._last_s)
        for site in self.sites:
            site.end()

    def renewed(self, tag: Tag) -> bool:
        return any(worn.renewed for worn in self._worn if worn.tag is tag)

    @property
    def now_s(self) -> float:
        """True time."""
        return self.time.now_s

    def _after(self, wait_s: float, act: Callable[[], None]) -> None:
        self.time.after(wait_s, act)

    def _address(self) -> str:
        return "C4:" + self.dice.randbytes(5).hex(":").upper()

    # --- tags -------------------------------------------------------------------------------------------

    def _press(self, worn: Worn) -> None:
        if self._left <= 0:
            return
        if self.now_s < worn.heard_s + SPACE_S:
            self._after(SPACE_S, lambda: self._press(worn))
            return
        until_night_s = self._night_at_s - self.now_s
        if not self._night_over and 0 < until_night_s < BEFORE_NIGHT_S:
            self._after(until_night_s + self.dice.uniform(1, 90), lambda: self._press(worn))
            return
        self._left -= 1
        tag = worn.tag
        tag.press(self.dice)
        press = Press(tag=tag, stream=tag.stream, began_s=self.now_s)
        self._settle(worn, tag.stream)
        worn.press = worn.open[tag.stream] = press
        self.presses.append(press)
        burst_s = self.dice.choice(tag.bursts_s)
        press.burst_s = self.now_s + burst_s
        worn.turn += 1
        self._burst(worn, worn.turn, press)
        self._plan(worn, burst_s)
        if self._left <= 0:
            self._last_s = self.now_s + END_S

    def _plan(self, worn: Worn, burst_s: float) -> None:
        """What this wearer does next."""
        tag, chance = worn.tag, self.dice.random()
        if tag.numbered and chance < QUICKLY:
            self._after(self.dice.uniform(0.3, 2.0), lambda: self._press(worn))
            return
        wait_s = burst_s + tag.deaf_s + self.dice.expovariate(1 / PAUSE_S)
        turn = worn.turn
        if chance < 0.17:
            self._after(burst_s + 1.0, lambda: self._go_away(worn, turn))
            wait_s += 1.0 + 150.0
        elif chance < 0.19:
            self._after(burst_s + 1.0, lambda: self._change_battery(worn, turn))
            wait_s += 1.0 + 150.0
        elif chance < 0.25 and tag.numbered and tag.rest_s is None:
            self._after(burst_s + self.dice.uniform(25, 40), lambda: self._repeat(worn, turn))
            wait_s += 45.0
        elif chance < 0.35 and tag.sealed and self._recordings:
            self._after(burst_s + self.dice.uniform(0, 60), self._replay)
        self._after(wait_s, lambda: self._press(worn))

    def _burst(self, worn: Worn, turn: int, press: Press) -> None:
        """One copy, and the next; at least one reaches every gateway unless another press cuts it short."""
        if worn.turn != turn:
            return
        last = self.now_s + worn.tag.copy_s > press.burst_s
        for frame in worn.tag.pressed(self.now_s - press.began_s):
            for site in self.sites:
                spare = last and frame.own and not press.reached.get(site.name)
                if self.dice.random() >= LOST or spare:
                    if frame.own:
                        press.reached.setdefault(site.name, []).append(self.now_s)
                    self._deliver(site, frame, worn, press if frame.own else None)
        if not last:
            self._after(worn.tag.copy_s, lambda: self._burst(worn, turn, press))
            return
        if worn.tag.sealed:
            self._record(worn, press)
        if not worn.tag.numbered:
            press.until_s = self.now_s
        worn.turn += 1
        if worn.tag.rest_s is not None:
            turn = worn.turn
            self._after(self.dice.uniform(0.1, worn.tag.rest_s), lambda: self._rest(worn, turn))

    def _rest(self, worn: Worn, turn: int) -> None:
        tag = worn.tag
        if worn.turn != turn or tag.rest_s is None:
            return
        frames = tag.at_rest(self.now_s - (worn.press.began_s if worn.press else 0.0))
        if not tag.goes_on:
            self._settle(worn, "")
        for frame in frames:
            for site in self.sites:
                if self.dice.random() >= LOST:
                    self._deliver(site, frame, worn, worn.open.get(frame.stream))
        self._after(tag.rest_s, lambda: self._rest(worn, turn))

    def _deliver(self, site: Site, frame: Frame, worn: Worn, press: Press | None) -> None:
        """Hear a frame; note where it says what the gateway heard last though it is of another press."""
        key = (site.name, worn.tag.name, frame.stream)
        worn.heard_s = self.now_s
        if not site.hear(frame):
            return
        said, of = self._heard.get(key, ("", None))
        remembered, told_s = self._told.get(key, ("", 0.0))
        stale = told_s < site.restarted_s and remembered == frame.says
        said_before = worn.tag.numbered and of is not press and (said == frame.says or stale)
        recorded = self._is_recorded(site, frame, worn.tag, press)
        if press is not None and (said_before or recorded):
            press.untellable.add(site.name)
        self._heard[key] = frame.says, press
        if press is not None:
            self._told[key] = frame.says, self.now_s

    def _is_recorded(self, site: Site, frame: Frame, tag: Tag, press: Press | None) -> bool:
        """Whether it is, byte for byte, the newest press of an older battery: a recording of that is, too."""
        if frame.counter is None:
            return False
        key = (site.name, tag.name)
        highest = self._counted.get(key, 0)
        self._counted[key] = max(highest, frame.counter)
        proved, of, heard_s = self._proved.get(key, (None, None, 0.0))
        if press is not None and (proved is None or of is press or frame.counter > highest):
            self._proved[key] = frame, press, self.now_s
        # What a gateway heard after a press it may have forgotten when it started anew.
        newest = frame.counter == highest or heard_s < site.restarted_s
        return frame == proved and of is not press and newest

    def _settle(self, worn: Worn, stream: str) -> None:
        """From now on the last press of this stream is told of by nothing any more."""
        press = worn.open.pop(stream, None)
        if press is not None and press.until_s > self.now_s:
            press.until_s = self.now_s

    def _go_away(self, worn: Worn, turn: int) -> None:
        """Out of reach for a while, where a press is others'; heard again when at rest."""
        if worn.turn != turn + 1:
            return
        worn.turn += 1
        if worn.tag.goes_on and not worn.tag.sealed:
            worn.tag.press(self.dice)
            self._settle(worn, worn.tag.stream)
        back = worn.turn
        self._after(self.dice.uniform(35, 140), lambda: self._rest(worn, back))

    def _change_battery(self, worn: Worn, turn: int) -> None:
        if worn.turn == turn + 1:
            worn.renewed = True
            worn.tag.new_battery()
            for stream in list(worn.open):
                self._settle(worn, stream)
            self._go_away(worn, turn)

    def _repeat(self, worn: Worn, turn: int) -> None:
        """The press once more, under its old id, if the tag still knows it."""
        press = worn.press
        if worn.turn == turn + 1 and press is not None and press in worn.open.values():
            for frame in worn.tag.pressed(0.0):
                for site in self.sites:
                    press.reached.setdefault(site.name, []).append(self.now_s)
                    self._deliver(site, frame, worn, press)

    def _record(self, worn: Worn, press: Press) -> None:
        """Somebody records a press that every gateway has heard."""
        heard = all(self._heard.get((s.name, worn.tag.name, ""), ("", None))[1] is press for s in self.sites)
        if heard and not press.untellable:
            self._recordings.append((worn, worn.tag.pressed(0.0)[0]))

    def _replay(self, chosen: tuple[Worn, Frame] | None = None) -> None:
        worn, frame = chosen or self.dice.choice(self._recordings)
        if worn.renewed:
            return
        if self.now_s < worn.heard_s + SPACE_S:  # nobody could tell of which of the two a moment is
            self._after(SPACE_S, lambda: self._replay((worn, frame)))
            return
        worn.heard_s = self.now_s
        press = Press(tag=worn.tag, stream="", began_s=self.now_s, until_s=self.now_s, forged=True)
        self.presses.append(press)
        for _ in range(3):
            for site in self.sites:
                site.hear(frame)

    # --- what fails -------------------------------------------------------------------------------------

    def _radio_fault(self, site: Site) -> None:
        """The adapter or bluetoothd goes, and is noticed: a scan that dies silently, within a second."""
        shortest_s, longest_s, notice_s = self.dice.choice(
            ((0.1, 5.0, 0.05), (0.1, 10.0, 0.05), (5.0, 30.0, 0.05), (3.0, 12.0, 1.0))
        )
        lasts_s = self.dice.uniform(shortest_s, longest_s)
        site.hears = False

        def notice() -> None:
            if not site.hears and site.scanning:
                site.report("the adapter was switched off")
                self._after(1.0, site.tell)

        def recover() -> None:
            site.hears = True
            if site.scanning:
                site.report()
            self._after(self.dice.expovariate(1 / self._faults_s), lambda: self._radio_fault(site))

        self._after(self.dice.uniform(0, notice_s), notice)
        self._after(lasts_s, recover)

    def _daemon_fault(self, site: Site) -> None:
        """The daemon is restarted, or the whole machine, without the time at first."""
        site.die()
        reboots = self.dice.random() < 0.3
        down_s = self.dice.uniform(35, 90) if reboots else self.dice.uniform(0.2, 8.0)
        died_s = self.now_s

        def come_back() -> None:
            if reboots:
                site.machine.boot(wrong_s=self.now_s - died_s)
                self._doubt(site)
                self._after(self.dice.uniform(5, 60), site.machine.learn_time)
            site.start()
            self._after(self.dice.uniform(0.05, 0.5), site.scan)
            self._after(self.dice.uniform(0.1, 3.0), site.restore)
            self._after(5 + self.dice.expovariate(1 / self._faults_s), lambda: self._daemon_fault(site))

        self._after(down_s, come_back)

    def _doubt(self, site: Site) -> None:
        """What is still on the air without a number may as well have been pressed anew meanwhile."""
        for worn in self._worn:
            if worn.press is not None and not worn.tag.numbered and worn.press.until_s > self.now_s:
                worn.press.doubted.add(site.name)

    def _night(self) -> None:
        """Hours in which nothing is on the air; then some tags repeat what they said before."""
        self._night_over = True
        self.time.skip(NIGHT_S)
        for worn in self._worn:
            if isinstance(worn.tag, BTHome) and worn.tag.rest_s is None:
                self._repeat(worn, worn.turn - 1)

    # --- everything else --------------------------------------------------------------------------------

    def _second(self) -> None:
        for site in self.sites:
            for frame in self._others:
                site.hear(frame)
            site.tick()
            for activation in site.activations[self._seen[site.name] :]:
                if activation.raised:
                    self._after(self.dice.uniform(0.3, 40), partial(self._close, site, activation))
            self._seen[site.name] = len(site.activations)
        self._after(1.0, self._second)

    def _close(self, site: Site, activation: Activation) -> None:
        if not site.close(activation.alarm):
            self._after(5.0, lambda: self._close(site, activation))
