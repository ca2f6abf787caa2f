"""Listening along: chunks in order into a program that plays Ogg Opus from its standard input."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Final

# What people have, best first: mpv and ffplay begin at once, opusdec is part of opus-tools.
PLAYERS: Final[tuple[tuple[str, ...], ...]] = (
    ("mpv", "--no-terminal", "--no-video", "--cache=no", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet", "-fflags", "nobuffer", "-i", "-"),
    ("opusdec", "--quiet", "-"),
)
# Five minutes of half-second chunks: a player that lags more than that has stopped.
_WAITING: Final = 600
_ENDS_S: Final = 2.0


class NoPlayerError(Exception):
    """Nothing on this machine plays Ogg Opus from standard input: stop, something is to be installed."""


def find(which: Callable[[str], str | None] = shutil.which) -> Sequence[str]:
    """Return the command line of the first player there is. NoPlayerError when there is none."""
    for command in PLAYERS:
        if which(command[0]) is not None:
            return command
    names = ", ".join(command[0] for command in PLAYERS)
    raise NoPlayerError(f"expected one of {names} on PATH to play the sound, got none: install one of them")


class Player:
    """A player that runs. What it does not take in time is dropped; when it ends, nothing more is played."""

    def __init__(self, command: Sequence[str]) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # A player takes sound as fast as it plays it; the MQTT session must not wait for that.
        self._thread = threading.Thread(target=self._feed, name="player", daemon=True)
        self._thread.start()

    def play(self, data: bytes) -> None:
        """Hand over the next bytes of the stream."""
        try:
            self._chunks.put_nowait(data)
        except queue.Full:
            return

    def close(self) -> None:
        """End it: what it was given is still played for a moment, then it is ended."""
        try:
            self._chunks.put_nowait(None)
            self._process.wait(_ENDS_S)
        except (queue.Full, subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait()
        self._thread.join(_ENDS_S)

    def _feed(self) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        with pipe:
            try:
                while (data := self._chunks.get()) is not None:
                    pipe.write(data)
            except BrokenPipeError:  # the player ended
                return
