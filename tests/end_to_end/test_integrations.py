"""The guide's rule does what the guide says, and a position reaches the topic where OwnTracks looks."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from end_to_end.conftest import until
from end_to_end.ops import Ops
from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.world import GATEWAY, World

GUIDE = Path(__file__).parent.parent.parent / "docs" / "integrations.md"
RULE = re.findall(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
async def test_the_guides_rule_tells_a_pager_once_and_the_gateway_that_it_did(
    gateway: World, ops: Ops, folder: Path
) -> None:
    """An alarm that was raised before the script began is told, too."""
    pages, pager = folder / "pages", folder / "pager"
    pager.write_text(f'#!/bin/sh\necho "$1" >> {pages}\n')
    pager.chmod(0o755)
    assert len(RULE) == 1
    assert len(RULE[0].splitlines()) <= 10
    await gateway.press(for_s=0)
    alarm = await ops.raised()
    await ops.told(alarm, "audio_started")
    rule = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", RULE[0]),
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "broker": f"{LOOPBACK}:{gateway.broker.port}",
            "pager": str(pager),
        },
        start_new_session=True,
    )
    try:
        await ops.told(alarm, "received")
        await until("a page", pages.exists)
    finally:
        os.killpg(rule.pid, signal.SIGTERM)
        await rule.wait()
    assert ops.events("received")[0]["actor"]["id"] == "pager"
    assert pages.read_text() == f"alarm {alarm} of nurse-1 at {GATEWAY}\n"


class TestOwnTracks:
    """At a gateway that is told to."""

    @pytest.fixture
    async def world(self, folder: Path) -> AsyncIterator[World]:
        world = World(folder, configuration="[owntracks]\ntopic = owntracks/fleet\n")
        async with world.up():
            yield world

    async def test_an_alarms_positions_are_on_the_map(self, gateway: World, ops: Ops) -> None:
        """As a bare OwnTracks location, with the receiver's place and time."""
        listening = await asyncio.create_subprocess_exec(
            *(
                "mosquitto_sub",
                "-h",
                LOOPBACK,
                "-p",
                str(gateway.broker.port),
                "-t",
                "owntracks/#",
                "-C",
                "1",
            ),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            await ops.until("a fix", lambda: ops.component("gps")["state"] == "ok")
            await ops.until("the time", lambda: ops.component("clock")["state"] == "ok")
            await gateway.press(for_s=0)
            async with asyncio.timeout(ops.limit_s):
                said, _ = await listening.communicate()
        finally:
            if listening.returncode is None:
                listening.kill()
                await listening.wait()
        told = json.loads(said)
        assert told["_type"] == "location"
        assert {"tst", "lat", "lon"} <= told.keys()
        assert not {"v", "id", "batt"} & told.keys()
