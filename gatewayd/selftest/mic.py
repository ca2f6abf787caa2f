"""The microphone: a second of its sound, and how loud that is.

While a daemon has a capture process for the device nothing is opened, for an alarm may need it at any moment.
"""

from __future__ import annotations

import asyncio
import math
import re
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import opuslib

from gatewayd.config.model import Audio
from gatewayd.core.model import State
from gatewayd.core.ogg import PACKET_MS
from gatewayd.core.sound import Event, Failed, Opened, Packet
from gatewayd.edge.mic import PATIENCE_S, STARTUP_LIMIT_S, Microphone
from gatewayd.selftest.machine import Machine, Process, end
from gatewayd.selftest.row import Finding, fail, off, ok, warn

CAPTURE: Final = "gatewayd.edge.capture"  # the module that a capture process runs
LISTEN_S: Final = 1.0
_SETTLE_PACKETS: Final = 10  # 0.2 s: a device's and the encoder's first sound is no measure
_PACKETS: Final = _SETTLE_PACKETS + round(LISTEN_S * 1000 / PACKET_MS)
# The daemon calls sound missing after 1.5 s; one that comes within another 1.5 s is slow and no more.
_GRACE_S: Final = 1.5
_FULL_SCALE: Final = 32_768
# Nothing but zeros comes out of the codec at −112 dBFS, a last bit that toggles now and then at −99
# (measured); that of any real converter toggles all the time: −90.
SILENT_DBFS: Final = -96.0
# A quiet room through a microphone that works is between −65 and −45; far below that nobody is understood.
QUIET_DBFS: Final = -75.0
# A voice at arm's length is at −30; a room that is louder than this is overdriven.
LOUD_DBFS: Final = -6.0


@dataclass(slots=True, kw_only=True)
class Heard:
    """What came of an attempt to record."""

    level_dbfs: float | None = None  # None: no sound came
    said: tuple[State, str] | None = None  # by the microphone's edge, last
    reason: str = ""  # why no sound came


def capture_process(machine: Machine, device: str) -> Process | None:
    """Return a daemon's capture process for this device; blocks shortly."""
    for process in machine.processes():
        if CAPTURE in process.arguments and device in process.arguments:
            return process
    return None


def capture_cards(machine: Machine) -> list[str]:
    """Return the ALSA names of what can capture here."""
    listing = machine.text("/proc/asound/cards")
    ids: dict[str, str] = dict(re.findall(r"^\s*(\d+) \[(\S+)\s*\]", listing, re.MULTILINE))
    cards = re.findall(r"^0*(\d+)-\d+:.*\bcapture\b", machine.text("/proc/asound/pcm"), re.MULTILINE)
    return [f"plughw:CARD={ids[number]}" for number in dict.fromkeys(cards) if number in ids]


class _Ear:
    """What the microphone's edge tells, and until when it is waited for more."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.packets: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._end_s = 0.0

    @property
    def enough(self) -> bool:
        """Whether there is enough sound, or no hope of more."""
        return len(self.packets) >= _PACKETS or self._loop.time() >= self._end_s

    def expect(self, within_s: float) -> None:
        """Wait no longer than this from now on."""
        self._end_s = self._loop.time() + within_s

    def on_sound(self, event: Event) -> None:
        match event:
            case Packet():
                self.packets.append(event.opus)
            case Opened():
                self.expect(2 * LISTEN_S)
            case Failed():
                self.heard.reason = event.reason
                self.expect(_GRACE_S)
        self._changed.set()

    def report(self, state: State, detail: str) -> None:
        self.heard.said = (state, detail)
        self._changed.set()

    async def change(self) -> None:
        """Wait until something is told, or it is not waited for any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._end_s):
                await self._changed.wait()
        self._changed.clear()


async def listen(settings: Audio) -> Heard:
    """Record for a second; takes up to some ten seconds where the device does not come."""
    ear = _Ear()
    microphone = Microphone(settings, on_sound=ear.on_sound, report=ear.report, alive=lambda: None)
    task = asyncio.create_task(microphone.run(), name="selftest mic")
    try:
        ear.expect(STARTUP_LIMIT_S)
        await ear.change()  # ready, or there is no such card
        ear.expect(PATIENCE_S + _GRACE_S)
        microphone.start()
        while not ear.enough:
            await ear.change()
    finally:
        await end(task)
    if len(ear.packets) > _SETTLE_PACKETS:
        ear.heard.level_dbfs = level_dbfs(ear.packets, settings.rate_hz)
    return ear.heard


def level_dbfs(packets: list[bytes], rate_hz: int) -> float:
    """Return the root mean square of Opus packets against full scale, without their beginning."""
    decoder = opuslib.Decoder(rate_hz, 1)
    samples = array("h")
    for index, packet in enumerate(packets):
        sound = decoder.decode(packet, rate_hz * PACKET_MS // 1000)
        if index >= _SETTLE_PACKETS:
            samples.frombytes(sound)
    power = sum(sample * sample for sample in samples) / len(samples)
    return 20 * math.log10(math.sqrt(power) / _FULL_SCALE) if power else -math.inf


# --- the verdict --------------------------------------------------------------------------------------------


def judge(settings: Audio, heard: Heard, cards: list[str]) -> list[Finding]:
    """Say how a microphone that was listened to is. `cards`: what can capture here."""
    if not settings.enabled:
        return [off("[audio] enabled = no")]
    device = settings.device
    other = [card for card in cards if card.partition("CARD=")[2] not in device]
    there = f" that can capture: {', '.join(cards)}" if cards else ": none that can capture"
    if heard.level_dbfs is None:
        state, detail = heard.said or (State.FAILED, "the capture process did not start")
        reason = heard.reason or (detail if state is State.FAILED else "no sound came")
        choose = (
            f"set [audio] device to one{there}" if cards else "plug the microphone in; `arecord -l` lists it"
        )
        return [fail(f"{device}: {reason} (sound cards{there})", choose)]
    if heard.level_dbfs < SILENT_DBFS:
        instead = f", or set [audio] device to another ({', '.join(other)})" if other else ""
        return [
            fail(
                f"{device} gives silence that no microphone gives (every sample is zero)",
                f"it is muted or the wrong device: `alsamixer`, F6 for the card, F4 for capture{instead}",
            )
        ]
    level = f"{device}: {heard.level_dbfs:.0f} dBFS in a second of sound"
    if heard.level_dbfs < QUIET_DBFS:
        return [
            warn(
                f"{level}: very quiet",
                "speak and run it again; if it stays so, raise the capture level: `alsamixer`, F4",
            )
        ]
    if heard.level_dbfs > LOUD_DBFS:
        return [
            warn(
                f"{level}: overdriven, or very loud here",
                "lower the capture level: `alsamixer`, F4, and run again",
            )
        ]
    return [ok(level)]
