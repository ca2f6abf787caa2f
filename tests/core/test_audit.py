"""The log of who listened: what goes into it, and that no entry can be changed unseen."""

from __future__ import annotations

import json

import pytest

from gatewayd.core import audit
from gatewayd.core.command import Actor, Incoming, Reply
from gatewayd.core.fields import Code
from gatewayd.core.model import Body, ClockSource, Draft, Instant, Keep, MessageClass

NOW = Instant(boot="b", mono_s=1.0, wall_s=1_000_000.0, source=ClockSource.NTP, uncertainty_ms=1)
ALARM = "0190b6f0-0000-7000-8000-000000000001"
ANNA = Actor(id="anna").body


def event(body: Body) -> Draft:
    return Draft(
        topic=f"alarm/{ALARM}/event",
        message_class=MessageClass.ALARM,
        keep=Keep.AT_ONCE,
        at=NOW,
        body={"alarm": ALARM, "mode": "actual", **body},
    )


def log(count: int) -> list[str]:
    lines: list[str] = []
    for n in range(count):
        lines.append(audit.entry(lines[-1] if lines else None, {"what": "audio_started", "alarm": str(n)}))
    return lines


def test_an_opened_microphone_is_noted_with_whose_word_it_was() -> None:
    """And until when, and on what basis; what is no listening is not."""
    started = event({"type": "audio_started", "actor": ANNA, "basis": "why", "codec": "opus"})
    assert audit.told(started) == {"what": "audio_started", "alarm": ALARM, "actor": ANNA, "basis": "why"}
    assert audit.told(event({"type": "audio_ended"})) == {"what": "audio_ended", "alarm": ALARM}
    assert audit.told(event({"type": "accepted", "actor": ANNA})) is None


def asked(name: str, code: Code | None = None, **fields: str) -> Body | None:
    data = json.dumps({"id": "1", "actor": ANNA, **fields}).encode()
    reply = Reply(id="1", at=NOW, code=code, message="no" if code else "").draft()
    return audit.refused(Incoming(name=name, payload=data), reply, NOW)


def test_a_refused_listening_is_noted() -> None:
    """Not what was obeyed, which its event tells, nor what was no command to listen, or none at all."""
    assert asked("listen/start", Code.REFUSED, alarm=ALARM) == {
        "what": "listen/start refused",
        "actor": ANNA,
        "alarm": ALARM,
    }
    assert asked("listen/stop", Code.CONFLICT) == {"what": "listen/stop conflict", "actor": ANNA}
    assert asked("listen/start", alarm=ALARM) is None
    assert asked("listen/start", Code.INVALID) is None
    assert asked("alarm/accept", Code.CONFLICT, alarm=ALARM) is None


def test_a_log_that_nobody_touched_is_whole() -> None:
    """Also without its oldest entries, which are dropped."""
    lines = log(5)
    assert audit.verify(lines) == []
    assert audit.verify(lines[2:]) == []
    assert audit.verify([]) == []
    assert [json.loads(line)["n"] for line in lines] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([log(3)[0].replace('"0"', '"9"'), *log(3)[1:]], "entry 2: the one before it was altered"),
        ([log(3)[0], log(3)[2]], "entry 3: the one before it was altered, added or taken out"),
        ([log(2)[0], "torn", log(2)[1]], "expected an entry, got 'torn'"),
        ([log(1)[0], "[]"], "expected an entry, got '[]'"),
    ],
)
def test_an_entry_that_was_altered_taken_out_or_torn_is_found(lines: list[str], problem: str) -> None:
    assert problem in audit.verify(lines)[0]


def test_a_number_that_does_not_follow_is_found() -> None:
    """Though its hash was made to fit."""
    (first,) = log(1)
    second = json.dumps({"n": 7, "before": audit.digest(first)})
    assert audit.verify([first, second]) == ["entry 7: expected number 2"]


def test_behind_a_torn_entry_the_log_goes_on() -> None:
    """The power went while it was written: that is found, and nothing after it."""
    lines = [*log(1), "torn"]
    lines.append(audit.entry(lines[-1], {"what": "audio_started"}))
    lines.append(audit.entry(lines[-1], {"what": "audio_ended"}))
    assert audit.verify(lines) == ["expected an entry, got 'torn'"]


def test_ops_are_told_each_entry_once_and_as_it_stands() -> None:
    """What comes behind the one they were told last; all, where that is not in the log any more."""
    lines = log(4)
    assert audit.untold(lines, None) == lines
    assert audit.untold(lines, audit.digest(lines[1])) == lines[2:]
    assert audit.untold(lines, audit.digest(lines[-1])) == []
    assert audit.untold(lines[2:], audit.digest(lines[0])) == lines[2:]
    assert audit.untold([], None) == []
    told = audit.telling(lines[0], NOW)
    assert (told.topic, told.retain) == ("audit", False)
    assert told.body == {"what": "audio_started", "alarm": "0", "entry": lines[0]}
    assert audit.telling("not JSON", NOW).body == {"entry": "not JSON"}
