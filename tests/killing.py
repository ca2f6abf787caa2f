"""Kill the sending side at random, thousands of times, and see whether anything accepted was lost.

A program: `killing.py DIRECTORY LIVES SEED [--careless]`. Each life is a fork with the real outbox, the real
uplink and a real mosquitto (or, half of the time, none). It continues where the last one died, hears a copy
of a press of the last life or not, hears new ones of its other tags, reports each as accepted once it is told
that disk or broker has it, and dies: by SIGKILL, or where the power-cut shim is preloaded by a power cut at a
random step. The last life lives until everything is confirmed. Prints one JSON object.

A tag raises one alarm in a life: what it presses soon after belongs to the same alarm, so no two alarms of
one tag are ever on their way to the disk together.

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
from pathlib import Path
from typing import Any

from sending import GATEWAY, Reports, clock, now, settings

from gatewayd.core import topic
from gatewayd.core.alarm import HopKind
from gatewayd.core.model import Draft, Instant, Keep, Message, MessageClass, Press, TagEvent
from gatewayd.core.next_ids import NextIds
from gatewayd.core.payload import Stamper
from gatewayd.core.uuid7 import derive, uuid7
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.sim.broker import LOOPBACK, Broker, free_port
from gatewayd.uplink import Uplink

LIFE_S = 0.06  # what a life has at most: a start, a session, four presses and some idling
PRESSES = 4  # a life, each of another tag: press n is of tag n modulo PRESSES
POWER_CUT = 137  # what the shim ends the process with
STEPS = 120  # the power goes before one of these; a transaction takes about 20


def alarm_id(seed: str, tag: str, press: int) -> str:
    """As the daemon makes it, of what was stored and of what the press's copies have in common."""
    ids = NextIds(lambda: seed)
    ids.provide([tag])
    return ids.give(Press(tag=tag, event=TagEvent.PRESS, heard=now(), copy_key=f"packet {press}"))


class Careless(sqlite3.Connection):
    """A connection that does not sync."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return super().execute(statement.replace("synchronous = FULL", "synchronous = OFF"), *values)


class Gateway:
    """The daemon's sending side and what it must remember of a tag: its last press, its next alarm id."""

    def __init__(self, state: Path, port: int, report: int, dice: random.Random) -> None:
        self._report = report
        self._dice = dice
        self._stamper = Stamper(str(uuid.UUID(int=dice.getrandbits(128), version=4)))
        self.outbox = Outbox(
            state / "outbox.db", budget_bytes=1 << 30, now=now, report=Reports(), alive=lambda: None
        )
        self.uplink = Uplink(
            mqtt=settings(port),
            gateway=GATEWAY,
            version="0",
            outbox=self.outbox,
            stamp=self._stamp,
            now=now,
            clock=clock,
            credentials=None,
            report=Reports(),
            alive=lambda: None,
            on_hop=self._accepted,
            on_command=lambda *_: None,
            on_retained_state=lambda *_: None,
        )
        self._tags: dict[str, tuple[str, int]] = {}  # tag -> what its next alarm id is made from, last press

    def _stamp(self, draft: Draft) -> Message:
        return self._stamper.stamp(draft, self._dice.randbytes(10))

    def _fresh_alarm(self) -> str:
        return uuid7(int(time.time() * 1000), self._dice.randbytes(10))

    async def remember(self) -> None:
        """Read what the lives before left; each tag's next alarm id is on disk before it is needed."""
        for tag, record in (await self.outbox.records("tag")).items():
            alarm, press = json.loads(record)
            self._tags[tag] = (alarm, press)
        if not self._tags:
            self._tags = {str(n): (self._fresh_alarm(), -1) for n in range(PRESSES)}
            await self.outbox.store(Batch(records=dict(map(self._record, self._tags))))

    def _record(self, tag: str) -> tuple[tuple[str, str], str]:
        return ("tag", tag), json.dumps(self._tags[tag])

    def hear(self, press: int) -> None:
        """A press, or a copy of one that was heard before."""
        tag = str(press % PRESSES)
        alarm, last_press = self._tags[tag]
        if press <= last_press:
            return
        self._tags[tag] = (self._fresh_alarm(), press)
        alarm = alarm_id(alarm, tag, press)
        event = self._message(topic.alarm_event(alarm), press, derive(alarm, "raised"))
        # one topic for each tag's states, so that ops does not keep thousands of them
        state = self._message(topic.alarm_state(tag), press, None)
        batch = Batch(messages=(event, state), records=dict([self._record(tag)]))
        self.uplink.send(batch)

    def _message(self, below: str, press: int, message_id: str | None) -> Message:
        return self._stamp(
            Draft(
                topic=below,
                message_class=MessageClass.ALARM,
                keep=Keep.AT_ONCE,
                at=now(),
                body={"press": press},
                id=message_id,
                retain=message_id is None,
                replaces=message_id is None,
            )
        )

    def _accepted(self, message: Message, kind: HopKind, _at: Instant) -> None:
        """Report a press as accepted once the disk or the broker has its event."""
        if kind is not HopKind.PUBLISHED and not message.retain:
            os.write(self._report, f"{message.body['press']} {message.id}\n".encode())


async def live(gateway: Gateway, first: int, dice: random.Random, *, until_empty: bool) -> None:
    """One life."""
    tasks = [asyncio.create_task(gateway.outbox.run()), asyncio.create_task(gateway.uplink.run())]
    await gateway.remember()
    presses = list(range(first, first + PRESSES))
    copied = dice.randrange(PRESSES)
    if first and dice.random() < 0.7:
        presses[copied] -= PRESSES
    for press in presses:
        gateway.hear(press)
        await asyncio.sleep(dice.choice((0.0, 0.0005, 0.003)))
    if not until_empty:
        await asyncio.sleep(LIFE_S)
        for task in tasks:
            if task.done():
                task.result()  # a bug in it: let it be seen
        return
    async with asyncio.timeout(60):
        while (facts := await gateway.uplink.facts()) is None or facts.depth:  # noqa: ASYNC110 - it is asked of the disk
            await asyncio.sleep(0.05)
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])


def die_at_random(state: Path, dice: random.Random, shim: ctypes.CDLL | None) -> None:
    """In the child: arrange its death."""
    if shim is not None:
        shim.power_cut_arm(f"{state}/".encode(), dice.randint(1, STEPS))
        return
    after_s = dice.uniform(0.001, LIFE_S)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, after_s)


def one_life(directory: Path, port: int, first: int, dice: random.Random, shim: ctypes.CDLL | None) -> bool:
    """Fork, live, die. False when it ended in any other way than it was meant to."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, POWER_CUT)
    try:
        state = directory / "state"
        report = os.open(directory / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        die_at_random(state, dice, shim)
        asyncio.run(live(Gateway(state, port, report, dice), first, dice, until_empty=False))
        if shim is not None:
            shim.power_cut_now()
        os.kill(os.getpid(), signal.SIGKILL)
    except Exception:  # noqa: BLE001 - told whatever it is; the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(1)


def judge(directory: Path) -> dict[str, int]:
    """Compare what was reported as accepted with what ops received."""
    received: dict[int, set[str]] = defaultdict(set)
    for line in (directory / "received").read_text().splitlines():
        event = json.loads(line)
        received[event["press"]].add(event["id"])
    everything = set().union(*received.values())
    accepted = {tuple(line.split()) for line in (directory / "accepted").read_text().splitlines()}
    return {
        "accepted": len(accepted),
        "received": len(everything),
        "lost": sum(message_id not in everything for _, message_id in accepted),
        "two_ids": sum(len(ids) > 1 for ids in received.values()),
        "shared_ids": sum(map(len, received.values())) - len(everything),
    }


def campaign(directory: Path, lives: int, seed: int) -> dict[str, int]:
    """Live and die `lives` times, then once to the end."""
    preloaded = os.environ.pop("LD_PRELOAD", None)  # what we start is not to have it
    shim = ctypes.CDLL(preloaded) if preloaded else None
    dice = random.Random(seed)
    broker = Broker(directory / "broker", settings=("max_queued_messages 0",))
    broker.start()
    nobody = free_port()
    events = f"{GATEWAY.prefix}/{GATEWAY.id}/alarm/+/event"
    with (directory / "received").open("wb") as received:
        ops = subprocess.Popen(
            ["mosquitto_sub", "-h", LOOPBACK, "-p", str(broker.port), "-q", "1", "-t", events],
            stdout=received,
        )
    time.sleep(0.3)
    try:
        crashed = 0
        for life in range(lives):
            port = dice.choice((broker.port, nobody))
            as_meant = one_life(directory, port, life * PRESSES, random.Random(dice.random()), shim)
            crashed += not as_meant
        report = os.open(directory / "accepted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        last = Gateway(directory / "state", broker.port, report, dice)
        asyncio.run(live(last, lives * PRESSES, dice, until_empty=True))
        time.sleep(0.5)
    finally:
        ops.terminate()
        ops.wait()
        broker.kill()
    return {"lives": lives, "crashed": crashed, **judge(directory)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("lives", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--careless", action="store_true")
    arguments = parser.parse_args()
    if arguments.careless:
        connect = functools.partial(sqlite3.connect, factory=Careless)
        sqlite3.connect = connect  # type: ignore[assignment]  # the same function, of another class
    logging.disable()
    print(json.dumps(campaign(arguments.directory, arguments.lives, arguments.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
