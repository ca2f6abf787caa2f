"""A real Home Assistant finds the gateway and its tag, shows them, and its buttons do what they say.

`GATEWAYD_HOME_ASSISTANT` names a Python that has it (2024.11 or newer, and paho-mqtt).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from end_to_end.ops import Ops
from gatewayd.core.topic import Kind
from gatewayd.sim.broker import free_port
from gatewayd.sim.world import GATEWAY, PREFIX, TAG, World

PYTHON = os.environ.get("GATEWAYD_HOME_ASSISTANT")
DRIVER = Path(__file__).parent.parent / "home_assistant.py"
BASE = f"{PREFIX}/{GATEWAY}"
LIMIT_S = 40.0  # it imports for seconds, and more on a busy machine

pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="GATEWAYD_HOME_ASSISTANT names no Python with Home Assistant"),
    pytest.mark.timeout(180),
]


class Home:
    """What its entities show, by their unique ids."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.shown: dict[str, dict[str, Any]] = {}
        self._process = process

    async def until(self, what: str, happened: Callable[[], object]) -> None:
        """Wait for what it shows to make something true."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(LIMIT_S):
                while not happened():
                    line = await self._process.stdout.readline()
                    assert line, "Home Assistant ended"
                    self.shown = json.loads(line)
        except TimeoutError:
            raise AssertionError(f"expected {what}, got {self.shown}") from None

    def state(self, name: str) -> str | None:
        """The state of an entity of ours."""
        return self.shown.get(f"{BASE}/{name}", {}).get("state")

    def attributes(self, name: str) -> dict[str, Any]:
        """Its attributes."""
        return dict(self.shown.get(f"{BASE}/{name}", {}).get("attributes", {}))

    async def press(self, name: str) -> None:
        """Press a button of ours."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{BASE}/{name}\n".encode())
        await self._process.stdin.drain()


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[World]:
    """The surroundings of a gateway that tells Home Assistant of itself, and its position always."""
    world = World(folder, configuration="[home_assistant]\ndiscovery_prefix = homeassistant\n")
    async with world.up():
        yield world


@pytest.fixture
async def home(gateway: World, folder: Path) -> AsyncIterator[Home]:
    """A Home Assistant that has found the gateway."""
    process = await asyncio.create_subprocess_exec(
        *(str(PYTHON), str(DRIVER), str(folder / "home"), str(gateway.broker.port), str(free_port())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    home = Home(process)
    try:
        await home.until("the tag's alarm", lambda: home.state(f"{TAG}/alarm") == "off")
        yield home
    finally:
        process.kill()
        await process.wait()


async def test_an_alarm_is_shown_and_accepted_there(gateway: World, ops: Ops, home: Home) -> None:
    """At the gateway and at the tag; the button is there while somebody has to take it, and takes it."""
    assert home.state("alarm") == "off"
    assert home.state(f"{TAG}/accept") == "unavailable"
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await home.until("the alarm", lambda: home.state("alarm") == home.state(f"{TAG}/alarm") == "on")
    await home.until("the button", lambda: home.attributes(f"{TAG}/accept").get("alarm") == alarm)
    await home.press(f"{TAG}/accept")
    await ops.told(alarm, "accepted")
    assert ops.events("accepted")[0]["actor"]["id"] == "home-assistant"
    await home.until("no button", lambda: home.state(f"{TAG}/accept") == "unavailable")
    assert (await ops.command("alarm/close", alarm=alarm, outcome="false"))["ok"]
    await home.until("no alarm", lambda: home.state("alarm") == home.state(f"{TAG}/alarm") == "off")


async def test_an_alarm_that_is_meant_is_accepted_there_before_a_test(
    gateway: World, ops: Ops, home: Home
) -> None:
    assert (await ops.command("test/press_window", tags=[TAG], for_s=600))["ok"]
    await gateway.press(for_s=0)
    test = await ops.raised()
    await home.until("the test", lambda: home.attributes("accept").get("alarm") == test)
    assert (await ops.command("alarm/raise", worker="nurse-9", cause="manual"))["ok"]
    await home.until("the alarm", lambda: home.attributes("accept").get("alarm") not in {None, test})


async def test_health_tag_and_position_are_shown(gateway: World, ops: Ops, home: Home) -> None:
    """The tag as it is, its battery, the gateway's health, and where the vehicle is in an alarm."""
    assert home.state("health") in {"ok", "degraded", "failed"}
    await ops.until("a fix", lambda: ops.component("gps")["state"] == "ok")
    await gateway.press(for_s=0)
    await home.until("the tag", lambda: home.state(f"{TAG}/state") == "seen")
    await home.until("a place", lambda: "latitude" in home.attributes("position"))
    assert home.attributes("position")["trusted"] is True
    battery = str(ops.of(Kind.TAG)[-1].body.get("battery_pct", "unknown"))
    await home.until("the battery", lambda: home.state(f"{TAG}/battery") == battery)


async def test_what_is_not_configured_any_more_is_gone(gateway: World, ops: Ops, home: Home) -> None:
    """The device of a gateway that tells it nothing from now on."""
    await gateway.stop()
    text = gateway.configuration.read_text()
    gateway.configuration.write_text(text.replace("discovery_prefix = homeassistant", ""))
    await gateway.start()
    await home.until("no entities", lambda: not home.shown)
