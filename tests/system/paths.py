"""Two ways from the adapter to a program, measured side by side: bleak as the daemon uses it, and the
kernel's management socket. `scripts/test --system --paths` prints one table and writes it as JSON.

Each way hears the same advertisements, sent one by one from outside of the machine with a number in them, so
that it is known of each when it was sent. What is told is a comparison: the machine is emulated, and the
figures of a real one are smaller by far.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from bench.machine import describe
from bumble.hci import Address

from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.tag import Frame
from system import image as images
from system.air import Duplicate, written
from system.listener import OURS
from system.rig import BROKER, LIMIT_S, Rig, until

REPORT: Final = images.PROJECT / ".cache" / "system-paths.json"
LISTENER: Final = Path(__file__).parent / "listener.py"
DEVICES: Final = 30  # that advertise, in turns
CLOCK_LOOKS: Final = 40
SETTLE_S: Final = 2.0  # when for so long nothing more came, nothing more is on its way
WAKING_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, and to what kind of controller."""

    per_s: int
    same: bool = False  # each device says the same for ever; else no two advertisements are alike
    duplicate: Duplicate = Duplicate.NOTHING  # what the controller drops where it is asked to filter

    def __str__(self) -> str:
        said = "all alike" if self.same else "all different"
        drops = "" if self.duplicate is Duplicate.NOTHING else f", chip filters by {self.duplicate}"
        return f"{self.per_s}/s, {said}{drops}"


LOADS: Final = (
    Load(per_s=50),
    Load(per_s=150),
    Load(per_s=100, same=True),
    Load(per_s=100, duplicate=Duplicate.SAME_DATA),
    Load(per_s=100, same=True, duplicate=Duplicate.SAME_DATA),
    Load(per_s=100, duplicate=Duplicate.SAME_ADDRESS),
)
WAYS: Final = {
    "bleak": ("bleak", True),
    "management socket": ("mgmt", True),
    "bleak, no monitors": ("bleak", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one way bore one load. Times are None where nothing numbered was heard."""

    way: str
    load: str
    sent: int
    unscanned: int  # of them, while the adapter was not told to scan
    dropped: int  # of them, by the chip's filter
    heard: int
    median_ms: float | None
    p95_ms: float | None
    most_ms: float | None
    clocks_ms: float  # how far the two clocks may be apart: the latencies are that uncertain
    cpu_ms: dict[str, float]  # for each advertisement that was sent

    def cells(self) -> list[str]:
        """For the table."""
        times = (self.median_ms, self.p95_ms, self.most_ms)
        return [
            self.way,
            self.load,
            f"{self.heard / self.sent:.1%} of {self.sent}",
            f"{self.unscanned} / {self.dropped}",
            "–" if None in times else " / ".join(f"{each:.0f}" for each in times if each is not None),
            *(f"{spent:.2f}" for spent in self.cpu_ms.values()),
        ]


class Listener:
    """The program in the machine, asked line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, question: str) -> Any:
        """One question, one answer."""
        async with asyncio.timeout(LIMIT_S):
            self._writer.write(f"{question}\n".encode())
            return json.loads(await self._reader.readline())

    async def hang_up(self) -> None:
        """Close the connection, which the program may have left open or not."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def clock_s(self) -> tuple[float, float, float]:
        """Our clock, what its clock shows more, and how far that may be wrong: of the quickest answer."""
        looks = []
        for _ in range(CLOCK_LOOKS):
            asked_s = time.monotonic()
            shown_s = await self.ask("clock")
            answered_s = time.monotonic()
            middle_s = (asked_s + answered_s) / 2
            looks.append(((answered_s - asked_s) / 2, middle_s, shown_s - middle_s))
        wrong_s, at_s, ahead_s = min(looks)
        return at_s, ahead_s, wrong_s


@asynccontextmanager
async def listening(rig: Rig, path: str) -> AsyncIterator[Listener]:
    """Have the program listen in the machine, until the block ends; it hears when the block begins."""
    came: asyncio.Future[Listener] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: came.set_result(Listener(reader, writer)), LOOPBACK, limit=2**26
    )
    port = server.sockets[0].getsockname()[1]
    run = f"systemd-run --quiet --unit=listener /usr/bin/python3 /root/listener.py {path} {BROKER} {port}"
    try:
        await rig.machine.run(run)
        async with asyncio.timeout(LIMIT_S):
            listener = await came
        await until("a listener that hears", lambda: _hears(rig, listener))
        yield listener
    except BaseException:
        print(await rig.machine.run("journalctl --unit=listener --no-pager --output=cat"))
        raise
    finally:
        await rig.machine.attempt("systemctl stop listener")
        if came.done():
            await came.result().hang_up()
        server.close()
        await server.wait_closed()


async def _hears(rig: Rig, listener: Listener) -> bool:
    rig.air.say(_address(0), _said(0))
    await asyncio.sleep(WAKING_S)
    return bool(await listener.ask("count"))


async def measured(rig: Rig, listener: Listener, way: str, load: Load, lasts_s: float) -> Row:
    """Send `load` for so long; what was heard of it."""
    rig.air.duplicate = load.duplicate
    before = await listener.clock_s()
    unscanned, dropped = rig.air.unscanned, rig.air.dropped
    assert await listener.ask("begin")
    sent_s = await send(rig, load, lasts_s)
    unscanned, dropped = rig.air.unscanned - unscanned, rig.air.dropped - dropped
    await settled(listener)
    told = await listener.ask("end")
    after = await listener.clock_s()
    rig.air.duplicate = Duplicate.NOTHING
    late_ms = sorted(latencies_ms(told["heard"], sent_s, before, after)) if not load.same else []
    return Row(
        way=way,
        load=str(load),
        sent=len(sent_s),
        unscanned=unscanned,
        dropped=dropped,
        heard=len(told["heard"]) if load.same else len({number for number, _ in told["heard"]}),
        median_ms=statistics.median(late_ms) if late_ms else None,
        p95_ms=late_ms[int(0.95 * len(late_ms))] if late_ms else None,
        most_ms=late_ms[-1] if late_ms else None,
        clocks_ms=1000 * max(before[2], after[2]),
        cpu_ms={who: 1000 * spent_s / len(sent_s) for who, spent_s in told["cpu_s"].items()},
    )


async def settled(listener: Listener) -> None:
    """Wait for what is on its way: late is not lost."""
    count = None
    while (now := await listener.ask("count")) != count:
        count = now
        await asyncio.sleep(SETTLE_S)


async def send(rig: Rig, load: Load, lasts_s: float) -> list[float]:
    """Send it, evenly; when each was sent, by its number."""
    sent_s: list[float] = []
    began_s = time.monotonic()
    for number in range(round(load.per_s * lasts_s)):
        await asyncio.sleep(max(0.0, began_s + number / load.per_s - time.monotonic()))
        sent_s.append(time.monotonic())
        rig.air.say(_address(number % DEVICES), _said(number % DEVICES if load.same else number))
    return sent_s


def latencies_ms(
    heard: Sequence[tuple[int, float]],
    sent_s: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
) -> Iterator[float]:
    """From the air to the program, the first time each was heard; the clocks may drift evenly."""
    drift = (after[1] - before[1]) / (after[0] - before[0])
    known = set()
    for number, shown_s in heard:
        if number not in known:
            known.add(number)
            ahead_s = before[1] + drift * (sent_s[number] - before[0])
            yield 1000 * (shown_s - ahead_s - sent_s[number])


def _address(number: int) -> Address:
    return Address(f"C4:33:00:00:00:{number:02X}")


def _said(number: int) -> bytes:
    return written(Frame(address="", manufacturer_data={OURS: number.to_bytes(4, "little")}))


@contextmanager
def no_scan_responses(rig: Rig) -> Iterator[None]:
    """One report for each advertisement: most buttons have no scan response."""
    rig.air.scan_responses = False
    try:
        yield
    finally:
        rig.air.scan_responses = True


def table(rows: Sequence[Row]) -> str:
    """What people read, in Markdown."""
    spenders = [f"{who}, ms" for who in rows[0].cpu_ms]
    heads = ["way", "sent", "heard", "between scans / dropped", "latency ms: median / 95 % / most", *spenders]
    lines = [heads, ["---"] * len(heads), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


async def measure(rig: Rig, lasts_s: float) -> list[Row]:
    """All ways under all loads; afterwards bluetoothd is as it was and the daemon runs again."""
    rows = []
    await rig.machine.put(LISTENER.read_bytes(), "/root/listener.py")
    await rig.machine.run("systemctl stop gatewayd")
    try:
        with no_scan_responses(rig):
            for way, (path, monitors) in WAYS.items():
                await rig.start_bluetoothd(monitors=monitors)
                async with listening(rig, path) as listener:
                    for load in LOADS:
                        rows.append(await measured(rig, listener, way, load, lasts_s))
                        print(" ".join(rows[-1].cells()), flush=True)
    finally:
        await rig.start_bluetoothd(monitors=True)
        await rig.machine.run("systemctl start gatewayd")
    return rows


@pytest.mark.timeout(3600)
async def test_the_two_paths(rig: Rig, pytestconfig: pytest.Config) -> None:
    """Both paths hear what is sent to them; how they compare is printed and written down."""
    rows = await measure(rig, pytestconfig.getoption("--seconds"))
    assert all(row.heard for row in rows), "expected each way to hear something of each load"
    told = {"on": describe(), "rows": [asdict(row) for row in rows]}
    REPORT.write_text(json.dumps(told, indent=1) + "\n")
    print(f"\n{table(rows)}\n\nalso in {REPORT}")
