"""After an outage operators hear what is now; what was missed follows behind it, and the file is whole."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from contract import validate
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from sending import BASE, Daemon, now, running, settings, until

from gatewayd.core.model import MessageClass
from gatewayd.core.recording import Recording, moment
from gatewayd.core.sound import PACKET_S, Opened, Packet
from gatewayd.monitor.sound import Sound
from gatewayd.sim.broker import LOOPBACK, Broker
from gatewayd.sim.proxy import Mode, Proxy

LINK = 8_000.0  # bytes a second: 64 kbit/s
CHUNK_S = 0.5
PACKET_BYTES = 60  # 20 ms at 24 kbit/s
OUTAGE_S = 60.0 if os.environ.get("GATEWAYD_LONG") else 12.0
AFTER_S = 3.0  # and so much for each second of the outage: half of the link is live sound's
TOPIC = f"{BASE}/alarm/a/audio"


@dataclass(frozen=True)
class Arrived:
    """A chunk at the broker."""

    n: int
    pages: bytes
    properties: dict[str, str]
    at_s: float  # monotonic


@contextmanager
def listening(port: int) -> Iterator[list[Arrived]]:
    """An ops side with a good link to the broker."""
    arrived: list[Arrived] = []

    def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", ())
        validate(message.topic, bytes(message.payload), pairs)
        n = int(message.topic.rpartition("/")[2])
        arrived.append(Arrived(n, bytes(message.payload), dict(pairs), time.monotonic()))

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = on_message
    client.connect(LOOPBACK, port)
    client.subscribe(f"{TOPIC}/+", qos=1)
    client.loop_start()
    try:
        yield arrived
    finally:
        client.disconnect()
        client.loop_stop()


class Microphone:
    """A recording whose sound began in the past."""

    def __init__(self, daemon: Daemon, began_s: float) -> None:
        self.made: dict[int, float] = {}  # chunk -> when its sound ended, monotonic
        self._daemon = daemon
        self._chance = random.Random(1)
        self._recording = Recording("a", rate_hz=16_000, chunk_s=CHUNK_S)
        self._at_s = began_s
        self._recording.take(Opened(at_s=began_s, pre_skip=312), moment(began_s, now()))

    def record(self, until_s: float) -> None:
        """Sound up to a moment, as chunks."""
        while self._at_s + PACKET_S <= until_s:
            packet = Packet(at_s=self._at_s, opus=b"\x48" + self._chance.randbytes(PACKET_BYTES - 1))
            self._at_s += PACKET_S
            for chunk in self._recording.take(packet, moment(self._at_s, now())):
                self.made[chunk.n] = self._at_s
                self._daemon.send(
                    MessageClass.AUDIO_LIVE,
                    f"alarm/a/audio/{chunk.n}",
                    sound=chunk.pages,
                    body={"duration_ms": chunk.duration_ms},
                    at=chunk.at,
                )


@pytest.mark.timeout(300)
async def test_after_an_outage_the_newest_sound_leads_and_the_gap_fills(tmp_path: Path) -> None:
    """64 kbit/s, sound of 24: what is now comes as it is made, though the outage's is on its way as well."""
    broker = Broker(tmp_path / "broker", settings=("max_queued_messages 0",))
    broker.start()
    try:
        async with (
            Proxy(broker.port, rate=LINK) as proxy,
            running(tmp_path / "state" / "outbox.db", settings(proxy.port)) as daemon,
        ):
            with listening(broker.port) as arrived:
                await until(lambda: daemon.uplink.connected)
                proxy.mode = Mode.REFUSE
                proxy.cut()
                await until(lambda: not daemon.uplink.connected)
                microphone = Microphone(daemon, time.monotonic() - OUTAGE_S)
                microphone.record(time.monotonic())
                await daemon.written()
                proxy.mode = Mode.OPEN
                daemon.uplink._keeper.hurry()
                began_s = time.monotonic()
                while time.monotonic() < began_s + OUTAGE_S * AFTER_S:
                    microphone.record(time.monotonic())
                    await asyncio.sleep(0.1)
                    if len(arrived) > 10 and len({each.n for each in arrived}) == len(microphone.made):
                        break  # everything has come
                await until(lambda: {each.n for each in arrived} == set(microphone.made))
    finally:
        broker.kill()
    outage = {n for n, ended_s in microphone.made.items() if ended_s < began_s}
    live = [each for each in arrived if each.n not in outage]
    lags_s = sorted(each.at_s - microphone.made[each.n] for each in live)
    assert len(live) > 10
    assert arrived[0].at_s - microphone.made[arrived[0].n] < 3.0, "what came first was not now"
    assert lags_s[len(lags_s) * 95 // 100] < 3.0
    assert {each.properties["live"] for each in live} == {"true"}
    late = [each for each in arrived if float(each.properties["late-s"]) >= 10.0]
    assert {each.n for each in late} >= {n for n in outage if microphone.made[n] < began_s - 10.0}
    assert {each.properties["live"] for each in late} == {"false"}
    assert [each.n for each in late] == sorted(each.n for each in late), "the gap fills from its beginning"
    whole = Sound()
    for each in arrived:
        whole.add(each.n, each.pages)
    pages = {each.n: each.pages for each in arrived}
    assert whole.file().startswith(b"".join(pages[n] for n in sorted(pages)))
