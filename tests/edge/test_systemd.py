"""The service manager hears what the daemon is at; log lines reach the journal with their fields."""

import io
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from systemd import journal

from gatewayd.core.journal import MessageId, fields
from gatewayd.edge.systemd import Systemd, is_journal, log_handler


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of NOTIFY_SOCKET."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listener


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_the_manager_hears_each_state(manager: socket.socket) -> None:
    """READY, WATCHDOG, RELOADING with its time, and STOPPING arrive as systemd reads them."""
    systemd = Systemd(mono=lambda: 12.5)
    systemd.ready()
    assert heard(manager) == "READY=1"
    systemd.watchdog()
    assert heard(manager) == "WATCHDOG=1"
    systemd.reloading()
    assert heard(manager) == "RELOADING=1\nMONOTONIC_USEC=12500000"
    systemd.stopping()
    assert heard(manager) == "STOPPING=1"


def test_the_status_is_one_line(manager: socket.socket) -> None:
    """A newline in a detail cannot begin another assignment."""
    Systemd().status("mic failed: no such\nWATCHDOG=trigger")
    assert heard(manager) == "STATUS=mic failed: no such WATCHDOG=trigger"


def test_an_unchanged_status_is_not_sent_again() -> None:
    """Only a new line is told."""
    sent: list[str] = []
    systemd = Systemd(notify=sent.append)
    for line in ("online", "online", "offline"):
        systemd.status(line)
    assert sent == ["STATUS=online", "STATUS=offline"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no NOTIFY_SOCKET every call is silent."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd = Systemd(environ={})
    systemd.ready()
    systemd.status("online")
    assert systemd.watchdog_s is None


def test_a_dead_manager_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket nobody listens on raises nothing and is logged once."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd = Systemd()
    systemd.watchdog()
    systemd.watchdog()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval_is_systemds(environ: dict[str, str], expected: float | None) -> None:
    """WATCHDOG_USEC counts when it is meant for this process."""
    assert Systemd(environ=environ).watchdog_s == expected


def logged(handler: logging.Handler) -> None:
    """One warning about an alarm, through `handler`."""
    log = logging.Logger("gatewayd.test")  # noqa: LOG001 - one that no other test sees
    log.addHandler(handler)
    log.warning("alarm %s", "raised", extra=fields(MessageId.ALARM_RAISED, alarm="a1", tag="nurse-1"))


def test_the_journal_gets_the_fields() -> None:
    """Where standard error is the journal, a line carries MESSAGE_ID, ALARM_ID and TAG."""
    sent: list[tuple[str, dict[str, Any]]] = []
    with tempfile.TemporaryFile("w") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}

        def send(text: str, /, **extra: Any) -> None:  # Any: a journal field is whatever was logged
            sent.append((text, extra))

        handler = log_handler(stream, environ=environ, send=send)
        assert isinstance(handler, journal.JournalHandler)
        assert handler.formatter is not None, (
            "logging.basicConfig would put level and name before the message"
        )
        logged(handler)
    [(message, extra)] = sent
    assert message == "alarm raised"
    assert extra["MESSAGE_ID"] == MessageId.ALARM_RAISED.value
    assert (extra["ALARM_ID"], extra["TAG"]) == ("a1", "nurse-1")
    assert (extra["PRIORITY"], extra["SYSLOG_IDENTIFIER"]) == ("4", "gatewayd")


def test_elsewhere_a_plain_line_shows_the_alarm_and_the_tag() -> None:
    """Without a journal the same call is a line on standard error."""
    stream = io.StringIO()
    handler = log_handler(stream, environ={"JOURNAL_STREAM": "1:2"})
    logged(handler)
    assert stream.getvalue().endswith("WARNING gatewayd.test: alarm raised [ALARM_ID=a1 TAG=nurse-1]\n")


def test_a_line_without_fields_stays_as_it_is() -> None:
    """Nothing is put behind an ordinary line."""
    stream = io.StringIO()
    log = logging.Logger("gatewayd.test")  # noqa: LOG001 - one that no other test sees
    log.addHandler(log_handler(stream, environ={}))
    log.info("started")
    assert stream.getvalue().endswith("INFO gatewayd.test: started\n")


def test_another_journal_stream_is_not_ours() -> None:
    """JOURNAL_STREAM inherited from a parent whose stream was redirected does not count."""
    with tempfile.TemporaryFile("w") as stream:
        assert not is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not is_journal(stream, {})
