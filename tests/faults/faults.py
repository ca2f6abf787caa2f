"""The faults: how each begins, and how it heals. All of an area exclude each other; areas do not."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from faults.site import LIMIT_S, Site
from gatewayd.sim.broker import free_port
from gatewayd.sim.proxy import Mode

Act: TypeAlias = Callable[[Site, random.Random], Awaitable[object]]

THIN_BYTES_S: Final = 64_000 / 8
DELAY_S: Final = 0.6  # each way
FLAP_S: Final = (2.0, 3.0)  # up, down
HOUR_S: Final = 3_600
YEAR_S: Final = 365 * 86_400
STOP_AFTER_S: Final = 0.5  # a press that came just before is stored by then
FLIPS: Final = 40  # bits; some of them in pages that matter

# Where a life may end: every step of tests/shim/power_cut.c, before and after it.
STEPS: Final = (
    "database",
    "publish",
    "puback",
    "wal",
    "commit",
    "checkpoint",
    "accepted",
    "sound",
    "sound_sync",
    "erase",
)


class Area(StrEnum):
    """What fails."""

    BROKER = "broker"
    LINK = "link"
    DISK = "disk"
    DATABASE = "database"
    CLOCK = "clock"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail. `dice` are of the episode."""

    name: str
    area: Area
    begin: Act
    heal: Act
    hold_s: float = 1.5  # how long the short form keeps it
    said: str = ""  # what the journal must say of it, a regular expression
    harms: bool = False  # what lay on disk may be gone
    own_disk: bool = False  # it needs a file system of the site's own


async def _nothing(_site: Site, _dice: random.Random) -> None:
    return


# --- the broker ---------------------------------------------------------------------------------------------


async def _kill_broker(site: Site, _dice: random.Random) -> None:
    site.ops.subscribed.clear()
    site.proxy.target = free_port()
    site.broker.kill()


async def _start_broker(site: Site, _dice: random.Random) -> None:
    """The gateway meets it when ops is there again: what it told a broker without ops would reach nobody."""
    site.broker.start()
    async with asyncio.timeout(LIMIT_S):
        await site.ops.subscribed.wait()
    site.proxy.target = site.broker.port


async def _empty_broker(site: Site, dice: random.Random) -> None:
    await _kill_broker(site, dice)
    site.emptied |= site.known()
    (site.folder / "broker" / "mosquitto.db").unlink(missing_ok=True)


async def _pause_broker(site: Site, _dice: random.Random) -> None:
    site.broker.pause()


async def _resume_broker(site: Site, _dice: random.Random) -> None:
    site.broker.resume()


# --- the link -----------------------------------------------------------------------------------------------


def _link(mode: Mode = Mode.OPEN, *, rate: float | None = None, delay_s: float = 0.0) -> Act:
    async def change(site: Site, _dice: random.Random) -> None:
        site.proxy.mode, site.proxy.rate, site.proxy.delay_s = mode, rate, delay_s
        if mode is Mode.REFUSE:
            site.proxy.cut()

    return change


async def _flap(site: Site, _dice: random.Random) -> None:
    site.flapping = asyncio.create_task(site.proxy.flap(*FLAP_S))


async def _flap_no_more(site: Site, dice: random.Random) -> None:
    if site.flapping is not None:
        site.flapping.cancel()
    await _link()(site, dice)


async def _strand(site: Site, _dice: random.Random) -> None:
    site.proxy.strand()


async def _forget_names(site: Site, _dice: random.Random) -> None:
    site.nameless.touch()
    site.proxy.cut()


async def _know_names(site: Site, _dice: random.Random) -> None:
    site.nameless.unlink()


# --- disk and database --------------------------------------------------------------------------------------


async def _slow_down(site: Site, _dice: random.Random) -> None:
    site.slow.touch()


async def _speed_up(site: Site, _dice: random.Random) -> None:
    site.slow.unlink()


def _disk(name: str) -> Act:
    async def change(site: Site, _dice: random.Random) -> None:
        await asyncio.to_thread(getattr(site.disk, name))

    return change


async def _truncate(site: Site, dice: random.Random) -> None:
    with suppress(OSError):  # it may not be there, or its disk be read-only
        database = site.state / "outbox.db"
        os.truncate(database, int(database.stat().st_size * dice.uniform(0.1, 0.9)))


async def _flip(site: Site, dice: random.Random) -> None:
    for name in ("outbox.db", "outbox.db-wal"):
        with suppress(OSError), (site.state / name).open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            for _ in range(FLIPS if size else 0):
                offset = dice.randrange(size)
                (byte,) = os.pread(file.fileno(), 1, offset)
                os.pwrite(file.fileno(), bytes([byte ^ 1 << dice.randrange(8)]), offset)


async def _delete(site: Site, _dice: random.Random) -> None:
    if not site.alive:
        site.vanished |= site.accepted().keys()
    for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
        with suppress(OSError):
            (site.state / name).unlink(missing_ok=True)


# --- clock and process --------------------------------------------------------------------------------------


def _step(ahead_s: int) -> Act:
    """Nobody vouches for a clock that is wrong; right again, it is synchronised."""

    async def step(site: Site, _dice: random.Random) -> None:
        site.set_clock(ahead_s, synchronised=ahead_s == 0)

    return step


async def _kill(site: Site, _dice: random.Random) -> None:
    await site.kill()


def _doom(step: str, *, after: bool, discard: bool) -> Act:
    async def doom(site: Site, dice: random.Random) -> None:
        if step == "database":  # one is made where there is none
            await site.kill()
            await _delete(site, dice)
        site.doom(step, after=after, discard=discard)
        if step == "database":
            await site.start(hearing=False)
        elif step == "checkpoint":  # the log is copied when it is long, or at a stop
            asyncio.get_running_loop().call_later(STOP_AFTER_S, site.terminate)

    return doom


async def _revive(site: Site, _dice: random.Random) -> None:
    """Start it anew; where it has not come to its step it goes on."""
    site.spare()
    await site.revive()


def _deaths() -> list[Fault]:
    return [
        Fault(
            name=f"{'power cut' if discard else 'killed'} {'after' if after else 'before'} {step}",
            area=Area.PROCESS,
            begin=_doom(step, after=after, discard=discard),
            heal=_revive,
            harms=step == "database",
        )
        for discard in (False, True)
        for step in STEPS
        for after in (False, True)
        if after or step != "puback"  # before it comes nothing has happened
    ]


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault(name="broker killed", area=Area.BROKER, begin=_kill_broker, heal=_start_broker),
        Fault(name="broker stopped", area=Area.BROKER, begin=_pause_broker, heal=_resume_broker, hold_s=3.0),
        Fault(name="broker emptied", area=Area.BROKER, begin=_empty_broker, heal=_start_broker),
        Fault(name="link refused", area=Area.LINK, begin=_link(Mode.REFUSE), heal=_link()),
        Fault(
            name="link black-holed", area=Area.LINK, begin=_link(Mode.BLACK_HOLE), heal=_link(), hold_s=3.0
        ),
        Fault(name="link half-open", area=Area.LINK, begin=_strand, heal=_nothing),
        Fault(name="link flapping", area=Area.LINK, begin=_flap, heal=_flap_no_more, hold_s=6.0),
        Fault(name="link at 64 kbit/s", area=Area.LINK, begin=_link(rate=THIN_BYTES_S), heal=_link()),
        Fault(
            name="link 600 ms late", area=Area.LINK, begin=_link(delay_s=DELAY_S), heal=_link(), hold_s=3.0
        ),
        Fault(name="DNS failing", area=Area.LINK, begin=_forget_names, heal=_know_names, hold_s=3.0),
        Fault(name="disk slow", area=Area.DISK, begin=_slow_down, heal=_speed_up, hold_s=4.0),
        Fault(name="disk full", area=Area.DISK, begin=_disk("fill"), heal=_disk("clear"), own_disk=True),
        Fault(
            name="disk read-only",
            area=Area.DISK,
            begin=_disk("fail"),
            heal=_disk("mend"),
            said="outbox failed",
            own_disk=True,
        ),
        Fault(name="database truncated", area=Area.DATABASE, begin=_truncate, heal=_nothing, harms=True),
        Fault(name="database flipped", area=Area.DATABASE, begin=_flip, heal=_nothing, harms=True),
        Fault(name="database deleted", area=Area.DATABASE, begin=_delete, heal=_nothing, harms=True),
        Fault(name="clock 3 h ahead", area=Area.CLOCK, begin=_step(3 * HOUR_S), heal=_step(0)),
        Fault(name="clock 3 h behind", area=Area.CLOCK, begin=_step(-3 * HOUR_S), heal=_step(0)),
        Fault(name="clock 20 years ahead", area=Area.CLOCK, begin=_step(20 * YEAR_S), heal=_step(0)),
        Fault(name="clock 20 years behind", area=Area.CLOCK, begin=_step(-20 * YEAR_S), heal=_step(0)),
        Fault(name="killed", area=Area.PROCESS, begin=_kill, heal=_revive),
        *_deaths(),
    )
}
