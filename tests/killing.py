"""Kill the sending side thousands of times, and see whether anything accepted was lost.

A program: `killing.py DIRECTORY LIVES SEED [--accepted] [--careless]`. Each life is a fork with the daemon's
own path from an advertisement to the broker: the gateway with its tags and alarms, outbox, uplink, and a real
mosquitto or, half of the time, none. Radio, receiver and sound are left out; they would take most of a life.
It continues where the last one died, closes its alarms or not, hears a copy of a press of it or not, hears
new ones of its other tags, and dies: by a signal, or where the power-cut shim is preloaded by a power cut.

It dies at a random moment (with the shim: at a random step), or with `--accepted` in the very callback in
which the wearer is told that disk or broker has the alarm, most often the first time in its life. The last
life lives until everything is confirmed. Prints one JSON object.

Now and then a day passes between two lives, so that what is done with is forgotten as in the field.

`--careless` turns SQLite's `synchronous` off: what the shim must be seen to catch.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from sending import GATEWAY, Reports, clock, now, settings

from gatewayd.config.layers import Layers
from gatewayd.config.load import assemble
from gatewayd.config.model import Config
from gatewayd.core.alarm import HopKind
from gatewayd.core.command import Incoming
from gatewayd.core.model import Advertisement, ClockState, Instant, Message
from gatewayd.edge.outbox import Outbox
from gatewayd.gateway import Gateway
from gatewayd.records import ALARM, RECORDS
from gatewayd.sim.broker import LOOPBACK, Broker, free_port
from gatewayd.sim.tag import SimulatedTag
from gatewayd.uplink import Uplink

LIFE_S = 0.3  # what a life has at most: a start, a session, its presses and some idling
CPU_S = 0.1  # what a life computes; it dies at any moment of it, however busy the machine is
TOLD_S = 2.0  # likewise, where it dies of being told: it takes a tenth of it on a busy machine
TAGS = 4  # each is pressed once in a life
POWER_CUT = 137  # what the shim ends the process with
STEPS = 160  # the power goes before one of these; a transaction takes about 20, and the first may escalate
NEVER = (1 << 31) - 1  # more steps than a life has; a C int
APART_S = 20.0  # from one life to the next: a press's copies go on for so long
DAY_S = 90_000.0  # after so many lives more than a day has passed,
DAY = 50  # and nothing of the last one is on the air any more
CLOSED = 0.8  # how often ops has closed the last life's alarms
COPIED = 0.7  # how often the last life's press of a tag is heard again instead of a new one
KEY = bytes(range(16))


class Careless(sqlite3.Connection):
    """A connection that does not sync."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return super().execute(statement.replace("synchronous = FULL", "synchronous = OFF"), *values)


class LifeClock:
    """The clock of a life, by its number."""

    def __init__(self, number: int) -> None:
        self._ahead_s = number * APART_S + number // DAY * DAY_S

    def now(self) -> Instant:
        at = now()
        return replace(at, mono_s=at.mono_s + self._ahead_s, wall_s=at.wall_s + self._ahead_s)

    def state(self) -> ClockState:
        return clock()  # the offset between the two is the same in every life


class Life:
    """The daemon without its edges: what is heard comes in, what is told as accepted is reported."""

    def __init__(self, state: Path, port: int, report: int, number: int) -> None:
        self._report = report
        self._number = number
        self._told = False
        self._tells = 0  # how often it is told as accepted before it dies of it; 0: it does not
        self._end: Callable[[], None] = lambda: None
        clock = LifeClock(number)
        self._now = clock.now
        config = configured()
        self.gateway = Gateway(config, run=str(uuid.uuid4()), now=clock.now, accepted=self._accepted)
        self.outbox = Outbox(
            state / "outbox.db", budget_bytes=1 << 30, now=clock.now, report=Reports(), alive=lambda: None
        )
        self.uplink = Uplink(
            mqtt=settings(port),
            gateway=config.gateway,
            version="0",
            outbox=self.outbox,
            stamp=self.gateway.stamp,
            now=clock.now,
            clock=clock.state,
            credentials=None,
            report=Reports(),
            alive=lambda: None,
            on_hop=self._hop,
            on_command=self.gateway.on_command,
            on_retained_state=self.gateway.on_retained_alarm,
        )
        self.gateway.sender = self.uplink

    def die_when_told(self, times: int, end: Callable[[], None]) -> None:
        """Die as soon as the wearer was told so often that an alarm is safe."""
        self._tells, self._end = times, end

    async def remember(self) -> None:
        """Read what the lives before left."""
        self.gateway.restore({kind: await self.outbox.records(kind) for kind in RECORDS})
        self.gateway.on_tick()

    async def close_all(self) -> None:
        """Ops closes what the disk says is open."""
        for alarm, record in (await self.outbox.records(ALARM)).items():
            if json.loads(record)["handling"] != "closed":
                order = {"id": f"{self._number} {alarm}", "actor": {"id": "desk"}, "alarm": alarm}
                body = json.dumps({**order, "outcome": "test"}).encode()
                self.gateway.on_command(Incoming(name="alarm/close", payload=body))

    def hear(self, tag: int, number: int) -> None:
        """Press `number` of a tag, or a copy of it."""
        frame = SimulatedTag(address(tag), packet_id=number % 256, counter=number, key=KEY).press()
        heard = Advertisement(
            address=frame.address,
            heard_s=self._now().mono_s,
            rssi_dbm=frame.rssi_dbm,
            service_data=frame.service_data,
        )
        self.gateway.on_advertisement(heard)

    def _accepted(self, _by: str) -> None:
        self._told = True

    def _hop(self, message: Message, kind: HopKind, at: Instant) -> None:
        """Report a press as accepted when the gateway tells the wearer so."""
        self._told = False
        self.gateway.on_hop(message, kind, at)
        if not self._told:
            return
        os.write(self._report, f"{press_of(message.body)} {message.body['alarm']}\n".encode())
        self._tells -= 1
        if self._tells == 0:
            self._end()


def press_of(body: Any) -> str:
    """The press that a message tells of: by its counter, for there are more lives than packet ids."""
    return f"{body['tag']['id']}-{body['tag']['counter']}"


def address(tag: int) -> str:
    return f"C4:11:22:33:44:{tag:02X}"


@functools.cache
def configured() -> Config:
    """The configuration of all lives, without what needs a device."""
    tags = "".join(f"[tag t{n}]\naddress = {address(n)}\nworker = w{n}\n" for n in range(TAGS))
    layers = Layers()
    layers.add(f"[gateway]\nid = {GATEWAY.id}\n[audio]\nenabled = no\n{tags}".encode(), "gatewayd.conf")
    config = assemble(layers, credentials=None, machine_id="0" * 32).config
    tagged = tuple(replace(tag, key=KEY, key_expected=True) for tag in config.tags)
    return replace(config, tags=tagged)


async def live(life: Life, number: int, dice: random.Random, *, for_s: float | None) -> None:
    """One life: for so long after its presses, or until all is confirmed."""
    tasks = [asyncio.create_task(life.outbox.run()), asyncio.create_task(life.uplink.run())]
    await life.remember()
    if dice.random() < CLOSED:
        await life.close_all()
    copied = dice.randrange(TAGS)
    for tag in range(TAGS):
        copy = number % DAY and tag == copied and dice.random() < COPIED
        life.hear(tag, number - 1 if copy else number)
        await asyncio.sleep(dice.choice((0.0, 0.0005, 0.003)))
    if for_s is not None:
        await asyncio.sleep(for_s)
        for task in tasks:
            if task.done():
                task.result()  # a bug in it: let it be seen
        return
    async with asyncio.timeout(60):
        while (facts := await life.uplink.facts()) is None or facts.depth:  # noqa: ASYNC110 - it is asked of the disk
            await asyncio.sleep(0.05)
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])


def die_at_random(state: Path, dice: random.Random, shim: ctypes.CDLL | None) -> None:
    """In the child: arrange its death."""
    if shim is not None:
        shim.power_cut_arm(f"{state}/".encode(), dice.randint(1, STEPS))
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it kills
    signal.setitimer(signal.ITIMER_PROF, dice.uniform(0.001, CPU_S))


def one_life(
    directory: Path, port: int, number: int, dice: random.Random, shim: ctypes.CDLL | None, *, accepted: bool
) -> bool:
    """Fork, live, die. False when it ended in any other way than it was meant to."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, -signal.SIGPROF, POWER_CUT)
    try:
        state = directory / "state"
        report = os.open(directory / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        life = Life(state, port, report, number)
        if accepted:
            if shim is not None:
                shim.power_cut_arm(f"{state}/".encode(), NEVER)
            life.die_when_told(dice.choice((1, 1, 1, 2, 3)), functools.partial(die, shim))
        else:
            die_at_random(state, dice, shim)
        asyncio.run(live(life, number, dice, for_s=TOLD_S if accepted else LIFE_S))
        die(shim)
    except Exception:  # noqa: BLE001 - told whatever it is; the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(1)


def die(shim: ctypes.CDLL | None) -> None:
    if shim is not None:
        shim.power_cut_now()
    os.kill(os.getpid(), signal.SIGKILL)


def judge(directory: Path) -> dict[str, int]:
    """Compare what was reported as accepted with what ops received."""
    calls: set[tuple[str, str]] = set()  # press and alarm, of what calls for help
    alarms: dict[str, set[str]] = defaultdict(set)  # of a press that raised
    presses: dict[str, set[str]] = defaultdict(set)  # that raised an alarm
    for line in (directory / "received").read_text().splitlines():
        event = json.loads(line)
        if "cause" in event:
            calls.add((press_of(event), event["alarm"]))
        if event["type"] == "raised":
            alarms[press_of(event)].add(event["alarm"])
            presses[event["alarm"]].add(press_of(event))
    lines = (directory / "accepted").read_text().splitlines()
    accepted = {(press, alarm) for press, alarm in map(str.split, lines)}
    return {
        "accepted": len(accepted),
        "received": len(calls),
        "lost": len(accepted - calls),
        "two_ids": sum(len(several) > 1 for several in alarms.values()),
        "two_presses": sum(len(several) > 1 for several in presses.values()),
    }


def tidy(port: int) -> None:
    """Take from the broker what ops is done with, as somebody who reviews: a program of its own."""

    def on_message(client: Client, _user: object, message: MQTTMessage) -> None:
        if message.payload and json.loads(message.payload)["handling"] == "closed":
            client.publish(message.topic, b"", qos=1, retain=True)

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.connect(LOOPBACK, port)
    client.subscribe(f"{GATEWAY.prefix}/{GATEWAY.id}/alarm/+/state", 1)
    client.loop_forever()


def campaign(directory: Path, lives: int, seed: int, *, accepted: bool) -> dict[str, int]:
    """Live and die `lives` times, then once to the end."""
    preloaded = os.environ.pop("LD_PRELOAD", None)  # what we start is not to have it
    shim = ctypes.CDLL(preloaded) if preloaded else None
    dice = random.Random(seed)
    broker = Broker(directory / "broker", settings=("max_queued_messages 0", "max_inflight_messages 0"))
    broker.start()
    nobody = free_port()
    events = f"{GATEWAY.prefix}/{GATEWAY.id}/alarm/+/event"
    with (directory / "received").open("wb") as received:
        ops = subprocess.Popen(
            ["mosquitto_sub", "-h", LOOPBACK, "-p", str(broker.port), "-q", "1", "-t", events],
            stdout=received,
        )
    reviewer = subprocess.Popen([sys.executable, __file__, "--tidy", str(broker.port)])
    time.sleep(0.3)
    try:
        crashed = 0
        for number in range(lives):
            port = dice.choice((broker.port, nobody))
            child = random.Random(dice.random())
            crashed += not one_life(directory, port, number, child, shim, accepted=accepted)
        report = os.open(directory / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        last = Life(directory / "state", broker.port, report, lives)
        asyncio.run(live(last, lives, dice, for_s=None))
        time.sleep(0.5)
    finally:
        for helper in (ops, reviewer):
            helper.terminate()
            helper.wait()
        broker.kill()
    return {"lives": lives, "crashed": crashed, **judge(directory)}


def main() -> int:
    if sys.argv[1:2] == ["--tidy"]:
        tidy(int(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("lives", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--accepted", action="store_true")
    parser.add_argument("--careless", action="store_true")
    arguments = parser.parse_args()
    if arguments.careless:
        connect = functools.partial(sqlite3.connect, factory=Careless)
        sqlite3.connect = connect  # type: ignore[assignment]  # the same function, of another class
    logging.disable()
    result = campaign(arguments.directory, arguments.lives, arguments.seed, accepted=arguments.accepted)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
