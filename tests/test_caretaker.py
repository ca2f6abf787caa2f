"""What the caretaker tells systemd, ops and the LED, and when it stops feeding the watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewayd.caretaker import Caretaker
from gatewayd.core.health import Facts, HostFacts
from gatewayd.core.model import ClockSource, Component, Draft, Instant, State
from gatewayd.edge.systemd import Systemd

WATCHDOG_S = 10.0
INTERVAL_S = 30.0


@dataclass
class Watched:
    """A caretaker with a clock of its own, and all it told."""

    now_s: float = 0.0
    notified: list[str] = field(default_factory=list)
    published: list[Draft] = field(default_factory=list)
    shown: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        systemd = Systemd(
            environ={"WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))},
            notify=self.notified.append,
            mono=lambda: self.now_s,
        )
        self.caretaker = Caretaker(
            systemd=systemd,
            now=self.now,
            publish=self.published.append,
            facts=lambda: Facts(host=HostFacts()),
            status=lambda health: f"overall {health.overall}",
            show=self.shown.append,
        )

    def now(self) -> Instant:
        return Instant(
            boot="b", mono_s=self.now_s, wall_s=self.now_s, source=ClockSource.NTP, uncertainty_ms=1
        )

    @property
    def fed(self) -> int:
        return self.notified.count("WATCHDOG=1")

    def component(self, name: Component) -> Any:
        """As in the last health message."""
        components: Any = self.published[-1].body["components"]
        return components[name]


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def lives(watched: Watched, seconds: float, each: Callable[[], object] = lambda: None) -> None:
    """Let it run for a second of its own clock at a time, `each` once in every one."""
    for _ in range(round(seconds)):
        watched.now_s += 1
        each()
        running = asyncio.create_task(watched.caretaker.run(lambda: INTERVAL_S))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_the_watchdog_is_fed_while_every_loop_makes_progress(watched: Watched) -> None:
    """Several times within its interval."""
    alive = watched.caretaker.must_run("radio", 5)
    await lives(watched, 30, alive)
    assert watched.fed >= 30 / WATCHDOG_S * 2


async def test_the_watchdog_is_not_fed_when_a_loop_is_stuck(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, by name; the other loops' progress does not help; its own does."""
    stuck = watched.caretaker.must_run("radio", 5)
    alive = watched.caretaker.must_run("outbox", 5)
    await lives(watched, 6, alive)
    fed = watched.fed
    await lives(watched, 20, alive)
    assert watched.fed == fed
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "no progress in radio: the systemd watchdog is not fed"
    ]

    def both() -> None:
        stuck()
        alive()

    await lives(watched, 5, both)
    assert watched.fed > fed


async def test_a_loop_that_has_ended_as_it_should_is_not_waited_for(watched: Watched) -> None:
    """A reload switched its component off; what it still says of itself counts for nothing."""
    alive = watched.caretaker.must_run("gps", 5)
    watched.caretaker.need_not_run("gps")
    alive()
    await lives(watched, 20)
    assert watched.fed >= 4


async def test_a_change_is_published_shown_and_told_to_systemd(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Once; the same report again says nothing new."""
    caplog.set_level("INFO")
    for component in Component:
        watched.caretaker.report(component)(State.OK, "well")
    watched.caretaker.tell()
    report = watched.caretaker.report(Component.GPS)
    for _ in range(3):
        report(State.FAILED, "unplugged")
    await lives(watched, 3)
    assert watched.component(Component.GPS)["state"] == "failed"
    assert watched.shown == [State.OK, State.DEGRADED]
    assert [said for said in watched.notified if said.startswith("STATUS")] == [
        "STATUS=overall ok",
        "STATUS=overall degraded",
    ]
    assert sum("unplugged" in record.getMessage() for record in caplog.records) == 1


async def test_health_is_published_at_its_interval_though_nothing_changes(watched: Watched) -> None:
    watched.caretaker.tell()
    await lives(watched, 2 * INTERVAL_S + 1)
    assert len(watched.published) == 3
