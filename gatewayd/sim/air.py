"""What is on the air: bursts, floods, and a process that plays BlueZ and takes orders.

`python -m gatewayd.sim.air` takes the bus from DBUS_SYSTEM_BUS_ADDRESS and one JSON object a line on stdin,
each `{"do": ORDER, …}`, and answers each with one on stdout when it is done, with its `n` if it has one, so
that several may be under way; it ends when stdin does. Orders:

    press      address, key (hex), event (1), for_s (3): answered with `at_s`, when its first copy went out
    heartbeat  address, key (hex)
    button     address: a tag that must be connected is there from now on, and advertises until it is
    push       address: it is pressed; answered with `told`, whether anybody heard it, and `beeps` so far
    flood      rate (a second), addresses, for_s: answered when it is over, with `sent`
    power      on
    unplug     adapter;  plug  adapter, address
    restart    bluetoothd restarts
    misbehave  errors {member: D-Bus error}, hangs [members], silent: replaces what was
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from gatewayd.sim.bluez import ADDRESS, BlueZ
from gatewayd.sim.dbus import SYSTEM_BUS
from gatewayd.sim.gatt import GattTag
from gatewayd.sim.tag import Frame, SimulatedTag

COPY_EVERY_S: Final = 0.1  # a pressed tag's advertising interval, as the common ones have it
_FLOOD_SLOT_S: Final = 0.01  # floods go out in small groups: a timer each would not reach thousands a second
_COMPANY: Final = 0xFFFF  # company id reserved for tests


async def burst(bluez: BlueZ, frame: Frame, for_s: float) -> None:
    """Advertise a frame again and again for `for_s` seconds, as a pressed tag does; at least once."""
    until_s = time.monotonic() + for_s
    while True:
        bluez.advertise(frame)
        await asyncio.sleep(COPY_EVERY_S)
        if time.monotonic() >= until_s:
            return


async def wait_for_connections(bluez: BlueZ, tag: GattTag) -> None:
    """Advertise whenever it is not connected, as a tag does that tells its presses over a connection."""
    while True:
        if not tag.connected:
            bluez.advertise(Frame(address=tag.address, name="iTAG"))
        await asyncio.sleep(COPY_EVERY_S)


async def flood(bluez: BlueZ, rate: int, addresses: int, for_s: float) -> int:
    """Other people's devices: `rate` advertisements a second; returns how many were sent."""
    began_s = time.monotonic()
    sent = 0
    while (elapsed_s := time.monotonic() - began_s) < for_s:
        while sent < elapsed_s * rate:
            bluez.advertise(_stranger(sent, addresses))
            sent += 1
        await asyncio.sleep(_FLOOD_SLOT_S)
    return sent


def _stranger(number: int, addresses: int) -> Frame:
    """Advertisement `number` of a flood: each device's data change with every round."""
    device, turn = number % addresses, number // addresses
    return Frame(
        address="E0:00:" + device.to_bytes(4, "big").hex(":").upper(),
        manufacturer_data={_COMPANY: turn.to_bytes(4, "big") + bytes(16)},
        rssi_dbm=-90 + device % 30,
    )


class Air:
    """Carries out orders on a BlueZ stand-in."""

    def __init__(self, bluez: BlueZ) -> None:
        self._bluez = bluez
        self._tags: dict[str, SimulatedTag] = {}
        self._buttons: dict[str, GattTag] = {}
        self._bursts: set[asyncio.Task[None]] = set()

    async def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one order; returns its answer. Raises KeyError or ValueError for one it cannot read."""
        bluez = self._bluez
        match order["do"]:
            case "press":
                frame = self._tag(order).press(int(order.get("event", 1)))
                at_s = time.monotonic()
                task = asyncio.create_task(burst(bluez, frame, float(order.get("for_s", 3))), name="burst")
                self._keep(task)
                return {"at_s": at_s}
            case "heartbeat":
                bluez.advertise(self._tag(order).heartbeat())
            case "button":
                tag = self._buttons[order["address"]] = bluez.gatt.add(GattTag(address=str(order["address"])))
                self._keep(asyncio.create_task(wait_for_connections(bluez, tag), name="button"))
            case "push":
                tag = self._buttons[order["address"]]
                return {"told": bluez.gatt.press(tag), "beeps": tag.beeps}
            case "flood":
                sent = await flood(bluez, int(order["rate"]), int(order["addresses"]), float(order["for_s"]))
                return {"sent": sent}
            case "power":
                bluez.power(bool(order["on"]))
            case "unplug":
                bluez.unplug(order.get("adapter", "hci0"))
            case "plug":
                bluez.plug(order.get("adapter", "hci0"), order.get("address", ADDRESS))
            case "restart":
                await bluez.restart()
            case "misbehave":
                bluez.errors = dict(order.get("errors", {}))
                bluez.hangs = set(order.get("hangs", ()))
                bluez.silent = bool(order.get("silent", False))
            case other:
                raise ValueError(f"expected a known order, got {other!r}")
        return {}

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._bursts.add(task)
        task.add_done_callback(self._bursts.discard)

    def _tag(self, order: Mapping[str, Any]) -> SimulatedTag:
        address = str(order["address"])
        if address not in self._tags:
            key = order.get("key")
            self._tags[address] = SimulatedTag(address, key=bytes.fromhex(key) if key else None)
        return self._tags[address]


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with BlueZ(os.environ[SYSTEM_BUS]) as bluez, asyncio.TaskGroup() as group:
        air = Air(bluez)
        _say({"ready": True})
        async for line in orders:
            group.create_task(_carry_out(air, line))


async def _carry_out(air: Air, line: bytes) -> None:
    number: dict[str, Any] = {}
    try:
        order = json.loads(line)
        number = {"n": order["n"]} if "n" in order else {}
        _say({"did": order["do"], **number, **await air.obey(order)})
    except (KeyError, TypeError, ValueError) as error:
        _say({"error": f"{type(error).__name__}: {error}", **number})


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve())
