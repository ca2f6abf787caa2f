"""The machine with all that is around it, and what every test does with it."""

from __future__ import annotations

import asyncio
import io
import math
import struct
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from end_to_end.ops import Ops, listening
from paho.mqtt.client import Client

from gatewayd.core.topic import Kind
from gatewayd.sim.broker import Broker, make_certificates
from gatewayd.sim.gps import GpsReceiver
from gatewayd.sim.tag import SimulatedTag
from gatewayd.sim.world import GATEWAY, KEY, PREFIX
from system.air import Air, Tag
from system.image import Image
from system.machine import Machine

BROKER: Final = "broker.example"  # by this name the machine knows the one that the tests run on
TONE_HZ: Final = 1_000
NURSE: Final = "nurse-1-tag"
ADDRESS: Final = "C4:11:22:33:44:55"
LIMIT_S: Final = 90.0  # for what takes a second or two on a machine that is not emulated
HOP_LOOK_S: Final = 0.2
PASSERS_BY: Final = 4
PASSERS_BY_EVERY_MS: Final = 1_000
OTHERS: Final = 40  # tags that belong to somebody else, together heard about 100 times a second
OTHERS_EVERY_MS: Final = 400
BLUETOOTHD: Final = "/usr/libexec/bluetooth/bluetoothd"
NO_MONITORS: Final = (
    "/run/systemd/system/bluetooth.service.d/no-monitors.conf"  # read after the package's own
)
CONFIGURATION: Final = """\
[gateway]
id = {gateway}
prefix = {prefix}

[mqtt]
brokers = {broker}:{port}
ca_file = /etc/gatewayd/ca.pem

[gps]
source = serial:/dev/gps

[audio]
device = plughw:CARD=Loopback,DEV=1
duration = 20s

[health]
interval = 5s

[tag {tag}]
format = bthome
address = {address}
key_credential = {tag}
worker = nurse-1
"""


class Rig:
    """One machine in its surroundings; `async with Rig(...).up()`."""

    def __init__(self, image: Image, deb: Path, folder: Path) -> None:
        self.folder = folder
        self.deb = deb
        self.air = Air()
        self.certificates = make_certificates(folder / "certificates", hosts=("localhost", BROKER))
        self.broker = Broker(folder / "broker", certificates=self.certificates, persistence=True)
        self.receiver = GpsReceiver(folder / "receiver")
        self.machine = Machine(
            image, folder / "machine", hci=folder / "hci", receiver=Path(self.receiver.plug())
        )
        self.ops: Ops
        self.nurse: Tag
        self.boot_s = 0.0
        self.last_words = ""  # the journal of a machine that never was well

    # --- power ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Have everything around it there, and the machine switched off."""
        async with AsyncExitStack() as stack:
            self.broker.start()
            stack.callback(self.broker.stop)
            self.ops = await stack.enter_async_context(listening(self.broker.port, self._trust))
            self.ops.limit_s = LIMIT_S
            stack.push_async_callback(_cancel, asyncio.create_task(self.receiver.run()))
            self.nurse = Tag(
                await self.air.transmitter(ADDRESS), SimulatedTag(ADDRESS, key=bytes.fromhex(KEY))
            )
            await stack.enter_async_context(self.air.adapter(self.folder / "hci"))
            await self._let_others_advertise(stack)
            stack.callback(self.machine.remove)
            yield

    async def _let_others_advertise(self, stack: AsyncExitStack) -> None:
        """Let a few that are nobody's be there: a gateway that never heard anything cannot be well."""
        for number in range(PASSERS_BY):
            address = f"C4:00:00:00:00:{number:02X}"
            passer_by = await self.air.transmitter(address)
            await passer_by.advertise(SimulatedTag(address).heartbeat(), PASSERS_BY_EVERY_MS)
            stack.push_async_callback(passer_by.stop)

    async def boot(self, clock: datetime | None = None) -> None:
        """Switch the machine on."""
        self.boot_s = await self.machine.boot(clock)

    def _trust(self, client: Client) -> None:
        client.tls_set(str(self.certificates.ca))

    # --- what a person does ---------------------------------------------------------------------------------

    async def install(self) -> None:
        """Install the package as a person does, and configure it."""
        await self.machine.run(f"apt-get install --yes {await self.bring(self.deb)}")
        await self.configure()

    async def bring(self, deb: Path) -> str:
        """Bring a package into the machine; returns where it lies."""
        path = f"/root/{deb.name}"
        await self.machine.put(await asyncio.to_thread(deb.read_bytes), path)
        return path

    async def configure(self, more: str = "") -> None:
        """Write this gateway's own file and its secrets, and start it with them."""
        text = CONFIGURATION.format(
            gateway=GATEWAY,
            prefix=PREFIX,
            broker=BROKER,
            port=self.broker.port,
            tag=NURSE,
            address=ADDRESS,
        )
        await self.machine.put(self.certificates.ca.read_bytes(), "/etc/gatewayd/ca.pem")
        await self.machine.put(KEY.encode(), f"/etc/gatewayd/credentials/{NURSE}", "600")
        await self.machine.put((text + more).encode(), "/etc/gatewayd/conf.d/rig.conf")
        await self.machine.run("systemctl restart gatewayd")

    async def start_bluetoothd(self, *, monitors: bool) -> None:
        """Start bluetoothd afresh: as the package has it, or without the advertisement monitors."""
        if monitors:
            await self.machine.run(f"rm -f {NO_MONITORS}")
        else:
            await self.machine.put(f"[Service]\nExecStart=\nExecStart={BLUETOOTHD}\n".encode(), NO_MONITORS)
        await self.machine.run("systemctl daemon-reload && systemctl restart bluetooth")

    async def play_tone(self) -> None:
        """Let a tone sound where the microphone hears it, until `silence`."""
        await self.machine.put(tone(TONE_HZ, 60), "/root/tone.wav")
        play = "while aplay -q -D plughw:CARD=Loopback,DEV=0 /root/tone.wav; do :; done"
        await self.machine.run(f"systemd-run -q --unit=tone sh -c '{play}'")

    async def silence(self) -> None:
        """End the tone."""
        await self.machine.run("systemctl stop tone")

    @asynccontextmanager
    async def others(self) -> AsyncIterator[None]:
        """Have many tags of others chatter."""
        transmitters = []
        for number in range(OTHERS):
            address = f"C4:22:00:00:00:{number:02X}"
            transmitter = await self.air.transmitter(address)
            await transmitter.advertise(SimulatedTag(address).heartbeat(), OTHERS_EVERY_MS)
            transmitters.append(transmitter)
            await asyncio.sleep(OTHERS_EVERY_MS / 1000 / OTHERS)  # they do not all speak at once
        try:
            yield
        finally:
            for transmitter in transmitters:
                await transmitter.stop()

    # --- what is seen ---------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until every part of the gateway is as it should be."""
        for name in ("uplink", "radio", "gps", "mic", "outbox"):
            await self.component(name, "ok")

    async def hears(self, limit_s: float = LIMIT_S) -> None:
        """Wait until the daemon that runs now says of its radio that it hears."""

        async def said() -> bool:
            pid = await self.property("MainPID")
            told = await self.machine.run(f"journalctl _PID={pid} --output=cat --no-pager")
            return "scans and hears" in told

        await until("a radio that hears", said, limit_s)

    async def component(self, name: str, *states: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Wait for health to say so of a component."""
        await self.ops.until(
            f"{name} {' or '.join(states)}",
            lambda: self.ops.component(name)["state"] in states,
            limit_s,
        )
        return self.ops.component(name)

    def raised(self, since: int) -> list[dict[str, Any]]:
        """The `raised` events, doubles included, after so many messages that were heard."""
        events = [heard.body for heard in self.ops.heard[since:] if heard.where.kind is Kind.ALARM_EVENT]
        return [body for body in events if body["type"] == "raised"]

    async def raise_alarm(self) -> tuple[str, float]:
        """Press the nurse's tag until its alarm is here; the alarm, and the seconds that took."""
        await self._close_what_was_left()
        known = {event["alarm"] for event in self.ops.events("raised")}

        def new() -> list[str]:
            return [event["alarm"] for event in self.ops.events("raised") if event["alarm"] not in known]

        began_s = time.monotonic()
        try:
            await self.nurse.press()
            await self.ops.until("an alarm", new, LIMIT_S)
            took_s = time.monotonic() - began_s
        finally:
            await self.nurse.release()
        return new()[0], took_s

    async def _close_what_was_left(self) -> None:
        """Close what a test that failed left open: the nurse's next press would only repeat it."""
        states = {heard.where.alarm: heard.body for heard in self.ops.of(Kind.ALARM_STATE)}
        for alarm, state in states.items():
            if state and state["handling"] != "closed" and state.get("tag", {}).get("id") == NURSE:
                await self.ops.command("alarm/close", alarm=alarm, outcome="test")

    async def hop_ms(self, alarm: str, hop: str) -> float:
        """How long after it was heard an alarm reached a hop: told in a state that something else brings."""
        async with asyncio.timeout(LIMIT_S):
            while hop not in (reached := self.ops.state(alarm).get("hops_ms", {})):
                assert (await self.ops.command("alarm/received", alarm=alarm))["ok"]
                await asyncio.sleep(HOP_LOOK_S)
        return float(reached[hop])

    async def close(self, alarm: str) -> None:
        """Close an alarm, so that the next press raises another."""
        reply = await self.ops.command("alarm/close", alarm=alarm, outcome="test")
        assert reply["ok"], reply

    @asynccontextmanager
    async def same_daemon(self) -> AsyncIterator[None]:
        """What happens in the block must neither end the daemon nor be mended by a new start of it."""
        before = await self.property("MainPID,NRestarts")
        yield
        after = await self.property("MainPID,NRestarts")
        assert after == before, f"expected the same process and as many restarts ({before}), got {after}"

    async def property(self, name: str, unit: str = "gatewayd") -> str:
        """What systemd says of a unit."""
        return (await self.machine.run(f"systemctl show --value --property={name} {unit}")).strip()


async def until(
    what: str, happened: Callable[[], Awaitable[object]], limit_s: float = LIMIT_S, every_s: float = 0.5
) -> float:
    """Ask until it is so; returns the seconds that took."""
    began_s = time.monotonic()
    while not await happened():
        if time.monotonic() - began_s > limit_s:
            raise AssertionError(f"expected {what} within {limit_s:.0f} s")
        await asyncio.sleep(every_s)
    return time.monotonic() - began_s


def tone(frequency_hz: float, duration_s: int, rate_hz: int = 16_000) -> bytes:
    """A WAV file with a sine wave."""
    step = 2 * math.pi * frequency_hz / rate_hz
    samples = [int(16_000 * math.sin(step * index)) for index in range(rate_hz)] * duration_s
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate_hz)
        written.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return file.getvalue()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
