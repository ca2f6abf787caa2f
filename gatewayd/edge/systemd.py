"""The service manager and its journal. Everything here does nothing harmful where there is no systemd.

sd_notify(3) for READY, STATUS, WATCHDOG, RELOADING and STOPPING; log lines go to the journal with their
fields when standard error is the journal, and to standard error as plain lines otherwise.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final, TextIO

from systemd import daemon, journal

logger = logging.getLogger(__name__)

# Fields a log call may carry in `extra=` (core/journal.fields), shown behind a plain line.
_SHOWN: Final = ("ALARM_ID", "TAG")
_PLAIN: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Systemd:
    """What the daemon tells the service manager. Every call is cheap and raises nothing."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        notify: Callable[[str], object] = daemon.notify,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notify = notify
        self._mono = mono
        self._failing = False
        self._status: str | None = None
        self.watchdog_s = _watchdog_s(environ)
        """Seconds within which systemd wants WATCHDOG=1; None: it does not watch. Feed it at half of that."""

    def ready(self) -> None:
        """Say that start-up, or a reload, is over."""
        self._send("READY=1")

    def status(self, line: str) -> None:
        """Say in one line how it goes. The same line again is not sent."""
        line = " ".join(line.split())  # a newline would begin another assignment
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def watchdog(self) -> None:
        """Feed the watchdog. Call it only when every loop that must run made progress."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it (Type=notify-reload asks for the time, sd_notify(3))."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._mono() * 1_000_000)}")

    def stopping(self) -> None:
        """Say that the daemon stops of its own accord."""
        self._send("STOPPING=1")

    def _send(self, assignments: str) -> None:
        try:
            self._notify(assignments)
        except OSError as error:
            if not self._failing:
                logger.warning("sd_notify: %s; systemd does not hear from us", error)
            self._failing = True
        else:
            self._failing = False


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Read sd_watchdog_enabled(3)'s variables; those meant for another process do not count."""
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if process is not None and process != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() and int(microseconds) else None


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` goes to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def log_handler(
    stream: TextIO | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    send: Callable[..., object] = journal.send,
) -> logging.Handler:
    """Return the root logger's handler: the journal where `stream` (standard error) is it, else plain."""
    stream = sys.stderr if stream is None else stream
    if is_journal(stream, environ):
        handler: logging.Handler = journal.JournalHandler(sender_function=send, SYSLOG_IDENTIFIER="gatewayd")
        handler.setFormatter(
            logging.Formatter()
        )  # the message alone: the journal has level and name in fields
        return handler
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Plain(_PLAIN))
    return handler


class _Plain(logging.Formatter):
    """A line for people, with the journal's fields behind it."""

    def format(self, record: logging.LogRecord) -> str:
        shown = [f"{name}={getattr(record, name)}" for name in _SHOWN if hasattr(record, name)]
        line = super().format(record)
        return f"{line} [{' '.join(shown)}]" if shown else line
