"""The microphone: keeps a capture process ready, and sound coming while it is wanted.

One child process (`edge/capture`) is started before it is needed and started again whenever it ends, hangs or
talks nonsense. The device is open only between `start` and `stop`; while it is wanted and fails, it is tried
again for ever. What comes is told as `core.sound` events, in order:

    Opened, Packet …, then Closed; and where it fails: Failed, Missing …, Opened, Packet …
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, cast

from gatewayd.config.model import Audio
from gatewayd.core.health import Alive, Report
from gatewayd.core.model import State
from gatewayd.core.sound import Closed, Command, Decoder, Event, Failed, Frame, Missing, Opened, Packet, Ready

# Sound that is not there this long after it was asked for is called missing: `audio_unavailable` is due 2 s
# after the press, and a USB microphone opens in 0.1 to 0.5 s.
PATIENCE_S: Final = 1.5
# A device that is only slow must get there, so opening is given up later, before the child's own 5 s.
_OPEN_LIMIT_S: Final = 4.0
# An open device sends a packet every 20 ms; this is beyond every overrun (640 ms) and stall of ours.
SILENCE_LIMIT_S: Final = 2.0
# An idle child says so every 2 s; twice missed, it is not well.
_IDLE_LIMIT_S: Final = 5.0
# 0.07 s on a PC; an interpreter from a slow, cold SD card may take some fifty times that, and some.
STARTUP_LIMIT_S: Final = 10.0
_CLOSE_LIMIT_S: Final = 1.0  # it ends within one read, 20 ms, unless the device hangs in closing
# Between two attempts, and how often `Missing` is told: the first chunk after the device is back stands for
# at most this much, so that it does not keep the sound behind it waiting.
RETRY_S: Final = 2.0
_READ_BYTES: Final = 65_536  # the pipe's size: all that can be there
_GRACE_S: Final = 0.05  # to read what is there already
# A killed process is gone in milliseconds, or hangs in a driver until that lets go.
_REAP_LIMIT_S: Final = 0.2
STUCK: Final = "capture process cannot be ended: the device's driver hangs"


class _Phase(StrEnum):
    """What the child is doing."""

    STARTING = "starting"  # or there is none
    IDLE = "idle"
    OPENING = "opening"
    SOUNDING = "sounding"
    CLOSING = "closing"


# How long a phase lasts without a word from the child, and what it means when it lasts longer.
_LIMITS: Final = {
    _Phase.STARTING: (STARTUP_LIMIT_S, f"capture process was not ready within {STARTUP_LIMIT_S} s"),
    _Phase.IDLE: (_IDLE_LIMIT_S, f"idle capture process was silent for {_IDLE_LIMIT_S} s"),
    _Phase.OPENING: (_OPEN_LIMIT_S, f"device did not open within {_OPEN_LIMIT_S} s"),
    _Phase.SOUNDING: (SILENCE_LIMIT_S, f"device gave no sound for {SILENCE_LIMIT_S} s"),
    _Phase.CLOSING: (_CLOSE_LIMIT_S, f"device did not close within {_CLOSE_LIMIT_S} s"),
}


class Microphone:
    """Captures sound on demand; survives a device or a child process that hangs, goes away or comes back.

    It makes progress (`alive`) at least every `STARTUP_LIMIT_S` + `RETRY_S`, every 2 s while all is well.
    """

    def __init__(
        self,
        settings: Audio,
        *,
        on_sound: Callable[[Event], None],
        report: Report,
        alive: Alive,
        retry_s: float = RETRY_S,
        kill: Callable[[asyncio.subprocess.Process], None] = asyncio.subprocess.Process.kill,
    ) -> None:
        """`on_sound` is called on the event loop, in order; it must neither block nor raise."""
        self._settings = settings
        self._on_sound = on_sound
        self._report = report
        self._alive = alive
        self._retry_s = retry_s
        self._kill = kill
        self._child: asyncio.subprocess.Process | None = None  # the latest
        self._wanted = False  # sound is
        self._told = False  # that it is missing, since it was wanted or last came
        self._phase = _Phase.STARTING
        self._commands: asyncio.StreamWriter | None = None
        self._until_s = 0.0  # the loop's time until which the child has to say something
        self._limit: asyncio.Timeout | None = None  # of the read that waits for it
        self._timer: asyncio.TimerHandle | None = None  # while sound is wanted and does not come: look again
        self._problem = ""  # why sound could not be had the last time it was wanted
        self._reported: tuple[State, str] | None = None

    def start(self) -> None:
        """Want sound: `Opened` follows, or `Failed` within 1.5 s, and then attempts for ever."""
        if self._wanted:
            return
        self._wanted, self._told = True, False
        self._look_in(PATIENCE_S)
        if self._phase is _Phase.IDLE:
            self._open()

    def stop(self) -> None:
        """Want no more sound: `Closed` follows within 1 s, once for each `start`."""
        if not self._wanted:
            return
        self._wanted = False
        self._look_in(None)
        if self._phase in {_Phase.OPENING, _Phase.SOUNDING}:
            self._command(Command.STOP)
            self._enter(_Phase.CLOSING)
        else:
            self._on_sound(Closed(at_s=time.monotonic()))

    async def run(self) -> None:
        """Keep a capture process until cancelled; it ends with this."""
        try:
            while True:
                began_s = time.monotonic()
                self._ended(await self._session())
                # At once after a long life: an alarm may be recording. One that dies young is not hurried.
                young = time.monotonic() - began_s < STARTUP_LIMIT_S
                await self._gone()
                await asyncio.sleep(self._retry_s if young else 0)
                self._alive()
        finally:
            self._look_in(None)

    # --- the child's life -----------------------------------------------------------------------------------

    async def _session(self) -> str:
        """One child from start to end; returns why it ended."""
        settings = self._settings
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gatewayd.edge.capture"),
                *(settings.device, str(settings.rate_hz), str(settings.bitrate_bps)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # alsa-lib repeats itself there at every attempt
            )
        except OSError as error:
            return f"capture process did not start: {error}"
        self._child = child
        self._commands = cast("asyncio.StreamWriter", child.stdin)  # they are pipes, as asked
        try:
            self._enter(_Phase.STARTING)
            await self._listen(cast("asyncio.StreamReader", child.stdout))
            async with asyncio.timeout(_REAP_LIMIT_S):
                return f"capture process ended, exit status {await child.wait()}"
        except TimeoutError:
            return _LIMITS[self._phase][1]
        except (ValueError, struct.error) as error:
            return f"capture process talked nonsense: {error}"
        finally:
            self._commands.close()
            self._commands = None
            with contextlib.suppress(ProcessLookupError):
                self._kill(child)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_LIMIT_S):
                    await child.wait()

    async def _gone(self) -> None:
        """Wait until there is no child: another one would only hang in the same driver."""
        while self._child is not None and self._child.returncode is None:
            self._ended(STUCK)
            self._alive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retry_s):
                    await self._child.wait()

    async def _listen(self, frames: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while data := await self._read(frames):
            for frame in decoder.feed(data):
                self._take(frame)
            self._alive()

    async def _read(self, frames: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout_at(self._until_s) as self._limit:
                return await frames.read(_READ_BYTES)
        except TimeoutError:
            # If it was this process that stalled, the child's words are waiting: hear them before judging.
            async with asyncio.timeout(_GRACE_S):
                return await frames.read(_READ_BYTES)
        finally:
            self._limit = None

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._until_s = asyncio.get_running_loop().time() + _LIMITS[phase][0]
        if self._limit is not None:
            self._limit.reschedule(self._until_s)

    def _command(self, command: Command) -> None:
        if self._commands is not None:
            self._commands.write(command)

    # --- what the child says --------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        match frame:
            case Ready():
                self._ready(frame.problem)
            case Opened() if self._phase is _Phase.OPENING:
                self._look_in(None)
                self._told, self._problem = False, ""
                self._enter(_Phase.SOUNDING)
                self._say(State.OK, "recording")
                self._on_sound(frame)
            case Opened():
                pass  # stopped meanwhile
            case Packet():
                self._enter(self._phase)
                self._on_sound(frame)
            case Failed() if self._phase is _Phase.CLOSING:
                self._idle(frame.at_s)
            case Failed():
                self._enter(_Phase.IDLE)
                self._failed(frame.reason)
            case Closed():
                self._idle(frame.at_s)

    def _ready(self, problem: str) -> None:
        if self._phase is _Phase.STARTING:
            self._enter(_Phase.IDLE)
            if self._wanted:
                self._open()
        elif self._phase is _Phase.IDLE:
            self._enter(_Phase.IDLE)
        else:
            return  # said before the child heard the latest command
        if self._wanted:
            return
        if problem:
            self._say(State.FAILED, problem)
        elif self._problem:
            self._say(State.DEGRADED, f"not tried again since it failed: {self._problem}")
        else:
            self._say(State.OK, "ready")

    def _idle(self, at_s: float) -> None:
        """The child obeyed a stop."""
        self._enter(_Phase.IDLE)
        self._on_sound(Closed(at_s=at_s))
        if self._wanted:
            self._open()

    def _ended(self, reason: str) -> None:
        """There is no child any more."""
        closing, self._phase = self._phase is _Phase.CLOSING, _Phase.STARTING
        if closing:
            self._on_sound(Closed(at_s=time.monotonic()))
        if self._wanted:
            self._failed(reason)
        else:
            self._say(State.FAILED, reason)

    # --- getting sound --------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._command(Command.START)
        self._enter(_Phase.OPENING)

    def _failed(self, reason: str) -> None:
        """There is no sound though it is wanted."""
        self._problem = reason
        self._say(State.FAILED, reason)
        if not self._told:
            self._told = True
            self._on_sound(Failed(at_s=time.monotonic(), reason=reason))
            self._look_in(self._retry_s)

    def _look(self) -> None:
        """Sound is wanted and did not come yet."""
        if self._told:
            self._on_sound(Missing(at_s=time.monotonic()))
            if self._phase is _Phase.IDLE:
                self._open()
            self._look_in(self._retry_s)
        else:
            waits_for = "device to open" if self._phase is _Phase.OPENING else "capture process"
            self._failed(f"no sound within {PATIENCE_S} s, waiting for the {waits_for}")

    def _look_in(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _say(self, state: State, detail: str) -> None:
        """Report a change."""
        if self._reported == (state, detail):
            return
        self._reported = (state, detail)
        self._report(state, detail)
