"""The week itself: twenty workers, their visits and emergencies, tests, and what fails; drawn from one seed.

A gateway in a vehicle hears every tag; one in a hub hears those of every third worker, whose visits it
watches. Its people are in `desk`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from shift.site import configured
from shift.tags import SealedBTHome
from simulated import WALL_S, Act, Machine, Timeline

from gatewayd.core.model import ClockSource, Fix, FixMode
from week.desk import Desk
from week.journal import Fix as Known
from week.journal import Journal, Message, Press
from week.site import Broker, Site
from week.view import true_s

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
WORKERS: Final = 20
QUIET_S: Final = 27 * HOUR_S  # after the last day
BEAT_S: Final = 25.0  # between a tag's heartbeats: within the 30 s in which it counts as seen
COPIES_S: Final = (0.0, 0.1, 0.3, 0.7, 1.5, 3.0, 6.0)  # of a press
BURST_S: Final = 8.0  # no heartbeat for so long after a press
FINE_S: Final = 1.0  # between the daemon's ticks,
COARSE_S: Final = 10.0  # while nothing is to be expected,
DOZING_S: Final = 60.0  # and when all that happened is long over
AWAKE_S: Final = 6 * HOUR_S  # after the last day
GRACE_S: Final = 60.0
PRE_ALARM_S: Final = 30.0
REMINDER_S: Final = 300.0
UNANSWERED_S: Final = 130.0  # an alarm that nobody takes is told again within these
ATTENTION_S: Final = 700.0  # after a press: positions are told every 5 s for 10 min

# What a wearer's patterns mean, by BTHome's number of the event: as configured below.
PATTERNS: Final = {"press": 1, "double": 2, "triple": 3, "long": 4, "long_triple": 6}
CANCEL: Final = "triple"
DURESS: Final = "long_triple"
CHECK_OUT: Final = "long"
MEANING: Final = f"cancel_on = {CANCEL}\nduress_on = {DURESS}\ncheckout_on = {CHECK_OUT}\n"
VEHICLE: Final = "gw-1"
HUB: Final = "gw-2"
PLACE: Final = (52.37, 4.88)
HEADS: Final = {
    VEHICLE: "[gateway]\nid = gw-1\n[gps]\nsource = serial:/dev/gps\npublish = visit\n",
    HUB: "[gateway]\nid = gw-2\nkind = hub\nlatitude = 52.3\nlongitude = 4.9\n",
}


@dataclass(slots=True, eq=False)
class Worker:
    """One worker and their tag."""

    name: str
    tag: SealedBTHome
    site: str  # where their visits are watched
    here: bool = False  # the tag is on the air
    turn: int = 0  # raised with each press
    pressed_s: float = float("-inf")


class Week:
    """Arrange what is to happen, then run it once; its journal is what is judged."""

    def __init__(self, seed: int, *, days: int) -> None:
        self.dice = random.Random(seed)
        self.time = Timeline()
        self.days = days
        self.workers = [self._worker(number) for number in range(WORKERS)]
        theirs = {
            VEHICLE: self.workers,
            HUB: [worker for worker in self.workers if worker.site == HUB],
        }
        self.journal = Journal(
            settings={
                name: {
                    "kind": "vehicle" if name == VEHICLE else "hub",
                    "publish": "visit" if name == VEHICLE else "alarm",
                    "tags": {worker.tag.name: worker.name for worker in theirs[name]},
                    "cancel": CANCEL,
                    "duress": DURESS,
                    "check_out": CHECK_OUT,
                }
                for name in HEADS
            }
        )
        broker = Broker(self.journal, self._hear)
        self.sites = {
            name: Site(
                machine=Machine(name, lambda: self.time.now_s),
                config=configured([worker.tag for worker in theirs[name]], head),
                time=self.time,
                journal=self.journal,
                broker=broker,
            )
            for name, head in HEADS.items()
        }
        self.desk = Desk(self)
        self._fine_until_s = 0.0
        self._turn = 0
        self._sky = True
        self._place = PLACE

    def _worker(self, number: int) -> Worker:
        address = "C4:" + self.dice.randbytes(5).hex(":").upper()
        tag = SealedBTHome(f"t-{number:02}", address, self.dice)
        tag.worker = f"w-{number:02}"
        tag.section += MEANING
        return Worker(name=tag.worker, tag=tag, site=HUB if number % 3 == 0 else VEHICLE)

    @property
    def now_s(self) -> float:
        """True time since the week began."""
        return self.time.now_s

    def run(self) -> Journal:
        """From Monday's first second on; after the last day, quiet until what it left must be erased."""
        for site in self.sites.values():
            site.switch_on()
            site.start()
        self._arrange_tick()
        self.attend(120.0)
        for worker in self.workers:
            self.time.after(self.dice.uniform(0, BEAT_S), partial(self._beat, worker))
        self.journal.ended_s = self.days * DAY_S + QUIET_S
        self.time.run(lambda: self.journal.ended_s)
        return self.journal

    def at(self, at_s: float, act: Act) -> None:
        """Let something happen at a time; nothing when that is past."""
        if at_s >= self.now_s:
            self.time.after(at_s - self.now_s, act)

    # --- ticks ----------------------------------------------------------------------------------------------

    def attend(self, for_s: float) -> None:
        """Something is about to happen: the daemons' clocks tick as they do, once a second, for so long."""
        coarse = self.now_s >= self._fine_until_s
        self._fine_until_s = max(self._fine_until_s, self.now_s + for_s)
        if coarse:
            self._turn += 1
            self.time.after(FINE_S, partial(self._tick, self._turn))

    def _watch(self, site: Site, end_s: float) -> None:
        """They tick so when something of a visit is due; also when nobody can hear of its alarm."""
        for after_s in (-REMINDER_S, GRACE_S, GRACE_S + PRE_ALARM_S):
            self.at(end_s + after_s - 2.0, partial(self.attend, 8.0))

        def go_on() -> None:
            if not site.online:
                self.attend(UNANSWERED_S)

        self.at(end_s + GRACE_S + PRE_ALARM_S, go_on)

    def _arrange_tick(self) -> None:
        self._turn += 1
        wait_s = DOZING_S if self.now_s > self.days * DAY_S + AWAKE_S else COARSE_S
        if self.now_s < self._fine_until_s:
            wait_s = FINE_S
        self.time.after(wait_s, partial(self._tick, self._turn))

    def _tick(self, turn: int) -> None:
        if turn != self._turn:
            return
        self._fix()
        for site in self.sites.values():
            site.tick()
        self._arrange_tick()

    def _fix(self) -> None:
        """The vehicle's receiver knows where it is, or not."""
        if not self._sky:
            return
        site, poor = self.sites[VEHICLE], self.dice.random() < 0.1
        error_m = 80.0 if poor else 8.0
        lat, lon = (degrees + self.dice.gauss(0, 2e-5) for degrees in self._place)
        site.take_fix(
            Fix(
                mode=FixMode.FIX_3D,
                received=site.machine.now(),
                lat=lat,
                lon=lon,
                hdop=1.0,
                eph_m=error_m,
                satellites=9,
            )
        )
        if site.gateway is not None:
            self.journal.fixes[VEHICLE].append(Known(at_s=self.now_s, error_m=error_m, lat=lat, lon=lon))

    def drive(self) -> None:
        """The vehicle goes to another street, and perhaps into a garage for a while."""
        self._place = (PLACE[0] + self.dice.uniform(-0.02, 0.02), PLACE[1] + self.dice.uniform(-0.02, 0.02))
        if self.dice.random() < 0.3:
            self._sky = False
            self.time.after(self.dice.uniform(60, 1800), self._see_sky)

    def _see_sky(self) -> None:
        self._sky = True

    # --- tags -----------------------------------------------------------------------------------------------

    def hearing(self, worker: Worker) -> list[Site]:
        """The gateways in whose reach a worker's tag is."""
        return [self.sites[VEHICLE]] + ([self.sites[HUB]] if worker.site == HUB else [])

    def _beat(self, worker: Worker) -> None:
        if worker.here and self.now_s - worker.pressed_s > BURST_S:
            frame = worker.tag.at_rest(0.0)[0]
            for site in self.hearing(worker):
                if site.hear(frame):
                    self.journal.on_air[site.name, worker.tag.name].append(self.now_s)
        self.time.after(BEAT_S, partial(self._beat, worker))

    def press(self, worker: Worker, event: str = "press") -> None:
        """A worker presses; what is sent is heard many times."""
        worker.turn += 1
        worker.pressed_s = self.now_s
        worker.tag.press_as(PATTERNS[event])
        press = Press(
            tag=worker.tag.name, worker=worker.name, event=event, number=worker.turn, at_s=self.now_s
        )
        self.journal.presses.append(press)
        self.attend(ATTENTION_S)
        for wait_s in COPIES_S:
            self.time.after(wait_s, partial(self._copy, worker, press, worker.turn))

    def _copy(self, worker: Worker, press: Press, turn: int) -> None:
        if worker.turn != turn:
            return
        frame = worker.tag.pressed(0.0)[0]
        for site in self.hearing(worker):
            if site.hear(frame):
                press.heard.setdefault(site.name, []).append(self.now_s)
                self.journal.on_air[site.name, worker.tag.name].append(self.now_s)

    def set_battery(self, worker: Worker, pct: int) -> None:
        worker.tag.battery_pct = pct
        self.journal.batteries[worker.tag.name].append((self.now_s, pct))

    # --- what fails -----------------------------------------------------------------------------------------

    def restart(self, site: Site, *, killed: bool, down_s: float) -> None:
        """The daemon ends and comes back."""
        if site.gateway is not None:
            site.stop(killed=killed)
            self.time.after(down_s, partial(self._come_back, site))

    def reboot(self, site: Site, *, down_s: float, untold_s: float) -> None:
        """The machine loses its power; it knows the time again `untold_s` after it is back."""
        if site.gateway is None:
            return
        site.stop(killed=True)
        site.power_off()

        def back() -> None:
            site.switch_on(wrong_s=down_s)
            self._come_back(site)
            self.time.after(untold_s, partial(self._learn, site))

        self.time.after(down_s, back)

    def _come_back(self, site: Site) -> None:
        site.start(reads_s=self.dice.uniform(0.05, 2.0))
        self.attend(90.0 + 130.0)  # what it must alarm without a clock, and who does not answer that

    def _learn(self, site: Site) -> None:
        site.learn_time()
        self.attend(5.0)

    def step_clock(self, site: Site, *, wrong_s: float, source: ClockSource, for_s: float) -> None:
        """The clock is wrong for a while, and told so or not."""
        if site.gateway is not None and site.machine.source is ClockSource.NTP:
            site.set_clock(wrong_s, source)
            self.time.after(for_s, partial(self._learn, site))

    def outage(self, site: Site, *, for_s: float) -> None:
        """The network goes."""
        if not site.network:
            return
        site.network = False
        site.disconnect()

        def back() -> None:
            site.network = True
            self.time.after(1.0, site.connect)

        self.time.after(for_s, back)

    # --- the desk -------------------------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        """What the desk hears it reacts to; the daemons tick when somebody waits for an answer."""
        body = message.body or {}
        if body.get("type") in {"raised", "repeated", "reopened", "declined"}:
            self.attend(ATTENTION_S)
        if message.topic.startswith("visit/") and body:
            self._watch(self.sites[message.site], true_s(body["expected_end_at"]))
        self.desk.hear(message)

    def text(self, at_s: float) -> str:
        """A time as messages have it."""
        return datetime.fromtimestamp(WALL_S + at_s, UTC).isoformat().replace("+00:00", "Z")
