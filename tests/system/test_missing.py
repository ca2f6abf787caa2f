"""The service comes up with the radio, the receiver, the microphone or the broker missing, or all of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from system.claims import Claims
from system.machine import Machine
from system.rig import Rig, until

READY_S: Final = 30.0  # it takes 4 s in a machine that has everything
WATCHED_S: Final = 25.0  # longer than systemd's watchdog waits
_FAILED: Final = re.compile(r"\b(radio|gps|mic|uplink) failed")


def by(away: str, back: str) -> Callable[[Machine], AbstractAsyncContextManager[None]]:
    """Something that one command takes away and another brings back."""

    @asynccontextmanager
    async def gone(machine: Machine) -> AsyncIterator[None]:
        await machine.run(away)
        try:
            yield
        finally:
            await machine.run(back)

    return gone


@asynccontextmanager
async def unplugged(machine: Machine) -> AsyncIterator[None]:
    """The receiver."""
    await machine.unplug_receiver()
    try:
        yield
    finally:
        await machine.plug_receiver()


# By the name that health has for it.
PARTS: Final = {
    "radio": by("systemctl stop radio", "systemctl start radio"),
    "gps": unplugged,
    "mic": by("modprobe --remove snd_aloop", "modprobe snd_aloop"),
    "uplink": by(
        "iptables --append OUTPUT --out-interface uplink --jump DROP",
        "iptables --delete OUTPUT --out-interface uplink --jump DROP",
    ),
}


@pytest.mark.parametrize("missing", [*((part,) for part in PARTS), tuple(PARTS)], ids="-".join)
async def test_it_comes_up_without(rig: Rig, claims: Claims, missing: tuple[str, ...]) -> None:
    """It is READY, says that this failed and nothing else did, goes on, and takes it up when it is there."""
    await rig.machine.run("systemctl stop gatewayd")
    try:
        async with AsyncExitStack() as stack:
            for part in missing:
                await stack.enter_async_context(PARTS[part](rig.machine))
            began_s = time.monotonic()
            await rig.machine.run("systemctl start gatewayd")
            ready_s = time.monotonic() - began_s

            async def said() -> bool:
                status = await rig.property("StatusText")
                return set(_FAILED.findall(status)) == set(missing)

            await until(f"to hear that {missing} failed", said)
            async with rig.same_daemon():
                await asyncio.sleep(WATCHED_S if missing == tuple(PARTS) else 0.0)
            rig.ops.turn_the_page()
            back_s = time.monotonic()
    finally:
        await rig.machine.run("systemctl start gatewayd")
    await rig.ready()
    assert ready_s <= READY_S, f"expected READY within {READY_S:.0f} s, it took {ready_s:.1f} s"
    claims.show(
        f"comes up without {' and '.join(missing)}",
        f"READY after {ready_s:.1f} s, all well {time.monotonic() - back_s:.1f} s after the return",
    )
