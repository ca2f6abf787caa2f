"""The listening of `gatewayd tags scan`: a radio, as the daemon's, until it is enough."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

from gatewayd.config.load import load, read_machine_id
from gatewayd.config.model import Radio as RadioSettings
from gatewayd.config.problem import ConfigurationError
from gatewayd.core.model import Advertisement, State, Tag
from gatewayd.core.recovery import Hearing
from gatewayd.edge.ble import Radio
from gatewayd.scan.heard import Air, Line
from gatewayd.scan.show import JsonView, LiveView, PlainView, View

FINE: Final = 0
FAILED: Final = 1
TICK_S: Final = 0.25  # a press is shown at once, as a person sees it
# Between two ticks no more is told than this: a terminal that is slow loses lines, not the radio its time.
WAITING: Final = 1000
# BlueZ lets the daemon and this scan at once; it refuses while another start is under way or stuck.
_TWO_SCANS: Final = (
    "another program is at the adapter; try again, or `systemctl stop gatewayd` while this runs: then no"
    " press is heard until `systemctl start gatewayd`"
)


async def scan(*, config: Path | None, credentials: Path | None, seconds: float | None, as_json: bool) -> int:
    """Show what is on the air for `seconds` (None: until interrupted); return the exit status.

    0 when time is up or it is interrupted, 1 when this machine cannot listen. Without a configuration, or
    with a bad one, all tags are unassigned ones. `credentials` is `$CREDENTIALS_DIRECTORY`.
    """
    logging.getLogger("bleak").setLevel(logging.ERROR)  # it warns of every connection that we drop ourselves
    settings, tags = _configured(config, credentials, sys.stderr)
    air = Air(tags)
    failure = await listen(settings, air, _view(air, sys.stdout, sys.stderr, as_json=as_json), seconds)
    if failure is not None:
        sys.stderr.write(f"gatewayd tags scan: {failure}\n")
        return FAILED
    return FINE


async def listen(
    settings: RadioSettings,
    air: Air,
    view: View,
    seconds: float | None,
    enough: Callable[[], bool] = lambda: False,
) -> str | None:
    """Let `air` hear what is on the air and `view` show it; return why it could not be done, or None.

    It ends after `seconds` (None: not by itself), when it is interrupted, or once `enough` says so; that is
    asked some times a second.
    """
    return await _Listening(air, view, enough).run(settings, seconds)


def _configured(
    path: Path | None, credentials: Path | None, err: TextIO
) -> tuple[RadioSettings, tuple[Tag, ...]]:
    """The radio's settings and the assigned tags; says what is wrong, and goes on."""
    try:
        loaded = load(path, credentials=credentials, machine_id=read_machine_id())
    except ConfigurationError as error:
        err.write("no tags are assigned, since there is no good configuration:\n")
        err.write("".join(f"  {problem}\n" for problem in error.errors))
        return RadioSettings(enabled=True, adapters=(), canary=None), ()
    err.write("".join(f"warning: {problem}\n" for problem in loaded.warnings))
    return loaded.config.radio, loaded.config.tags


def _view(air: Air, out: TextIO, err: TextIO, *, as_json: bool) -> View:
    if as_json:
        return JsonView(out, err)
    if out.isatty():
        try:
            return LiveView(air, out)
        except ImportError:
            err.write("plain lines, since rich is not installed (pip install 'gatewayd[terminal]')\n")
    return PlainView(air, out, err)


class _Listening:
    """One run. The radio's calls are short: what they bring is shown between two ticks."""

    def __init__(self, air: Air, view: View, enough: Callable[[], bool]) -> None:
        self._air = air
        self._view = view
        self._enough = enough
        self._waiting: deque[Line] = deque(maxlen=WAITING)
        self._stop = asyncio.Event()
        self._scans = False
        self._settled = False
        self._failure: str | None = None

    async def run(self, settings: RadioSettings, seconds: float | None) -> str | None:
        """Listen; return why it could not be done."""
        loop = asyncio.get_running_loop()
        end_s = None if seconds is None else time.monotonic() + seconds
        radio = Radio(settings, on_advertisement=self._hear, report=self._report, alive=lambda: None)
        task = asyncio.create_task(radio.run(), name="radio")
        task.add_done_callback(lambda _: self._stop.set())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not self._stop.is_set() and (end_s is None or time.monotonic() < end_s):
                left_s = TICK_S if end_s is None else min(TICK_S, end_s - time.monotonic())
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._stop.wait()
                self._show()
                if self._enough():
                    break
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._air.end(time.monotonic())
            self._view.close()
        if not task.cancelled():
            task.result()  # the radio goes on for ever, so this raises what ended it
        return self._failure

    def _hear(self, advertisement: Advertisement) -> None:
        self._waiting.extend(self._air.hear(advertisement))

    def _report(self, hearing: Hearing) -> None:
        """A radio that never scanned is an error; one that did tries again by itself."""
        if hearing.state is State.FAILED and not self._scans:
            in_progress = f": {_TWO_SCANS}" if "InProgress" in hearing.detail else ""
            self._failure = f"{hearing.detail}{in_progress}"
            self._stop.set()
            return
        if hearing.state is State.FAILED:
            self._air.end(time.monotonic())
        else:
            self._begin(time.monotonic())
        self._view.say(hearing.detail)

    def _begin(self, now_s: float) -> None:
        """The radio scans: what is always there is to be heard before anybody is to press."""
        self._air.begin(now_s)
        if not self._scans and not self._air.settled(now_s):
            self._view.settle(over=False)
        self._scans = True

    def _show(self) -> None:
        while self._waiting:
            self._view.tell(self._waiting.popleft())
        now_s = time.monotonic()
        if self._scans and not self._settled and self._air.settled(now_s):
            self._settled = True
            self._view.settle(over=True)
        self._view.tick(now_s)
