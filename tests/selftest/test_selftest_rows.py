"""The rows: what they say to a person, and to a program."""

from __future__ import annotations

import json

import pytest

from gatewayd.core.model import Component, State
from gatewayd.selftest.daemon import Word, from_health, from_status, measure, told
from gatewayd.selftest.row import (
    Row,
    Source,
    Subject,
    Verdict,
    amount,
    count,
    fail,
    failed,
    off,
    ok,
    span,
    warn,
)
from gatewayd.selftest.show import table, to_json

ROWS = (
    Row(subject=Subject.RADIO, findings=(ok("hci0 hears"), warn("no canary", "look at its battery"))),
    Row(subject=Subject.GPS, findings=(fail("nothing came", "check the wiring"),)),
    Row(subject=Subject.GPIO, findings=(off("no pin is configured"),)),
)


def test_a_row_is_as_bad_as_its_worst_finding() -> None:
    assert [row.verdict for row in ROWS] == [Verdict.WARN, Verdict.FAIL, Verdict.OFF]
    assert failed(ROWS) == [Subject.GPS]


def test_a_person_reads_what_was_found_and_below_it_what_to_do() -> None:
    """The worst of a subject first."""
    assert table(ROWS) == [
        "warn  radio          no canary",
        "                     → look at its battery",
        "ok                   hci0 hears",
        "FAIL  gps            nothing came",
        "                     → check the wiring",
        "off   gpio           no pin is configured",
        "",
        "gps failed, 1 warning",
    ]


def test_what_the_daemon_told_is_shown_as_told() -> None:
    word = Word(state=State.OK, detail="ready", how="in its status line")
    row = Row(
        subject=Subject.MIC, findings=(told({Component.MIC: word}, Component.MIC, pid=7, do="stop it"),)
    )
    assert table([row])[0] == "ok    mic            the daemon says: ready (in its status line)"


def test_long_sentences_are_folded_to_the_terminal() -> None:
    lines = table([Row(subject=Subject.GPS, findings=(fail("word " * 40, "do " * 40),))], 80)
    assert len(lines) > 6
    assert max(map(len, lines)) <= 80
    assert all(line.startswith(" " * 21) for line in lines[1:-2] if "→" not in line)


def test_nothing_is_claimed_when_nothing_failed() -> None:
    assert table([ROWS[0], ROWS[2]])[-1] == "nothing failed, 1 warning"
    assert table([ROWS[2]])[-1] == "nothing failed"


def test_a_program_reads_each_finding_with_its_source() -> None:
    read = json.loads(to_json(ROWS))
    assert read["ok"] is False
    assert [row["subject"] for row in read["rows"]] == ["radio", "gps", "gpio"]
    assert read["rows"][1] == {
        "subject": "gps",
        "verdict": "fail",
        "findings": [
            {"verdict": "fail", "source": "measured", "found": "nothing came", "do": "check the wiring"}
        ],
    }
    assert json.loads(to_json(ROWS[:1]))["ok"] is True


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (span(40), "40 s"),
        (span(180), "3 min"),
        (span(7_300), "2 h"),
        (span(5 * 86_400), "5 d"),
        (amount(12), "12 B"),
        (amount(12_000), "12 kB"),
        (amount(3.42e9), "3.42 GB"),
        (count(1, "tag"), "1 tag"),
        (count(0, "tag"), "0 tags"),
    ],
)
def test_figures_are_said_as_a_person_says_them(said: str, expected: str) -> None:
    assert said == expected


# --- what the daemon says -----------------------------------------------------------------------------------

HEALTH = json.dumps(
    {
        "at": "2026-03-01T12:00:00.000Z",
        "components": {"gps": {"state": "ok", "detail": "fix from /dev/gps at 9600 baud", "since": "…"}},
    }
).encode()
AT_S = 1_772_366_400.0  # 2026-03-01T12:00:00Z


def test_the_status_line_tells_what_is_not_well_and_so_what_is() -> None:
    """The commas within a reason do not end it."""
    words = from_status(
        "1 open alarm, hearing 0 tags, offline, 3 waiting, radio failed: hci0 is off: `rfkill unblock"
        " bluetooth`, then on, gps degraded: no fix from /dev/gps, 3 satellites"
    )
    assert words[Component.RADIO].state is State.FAILED
    assert words[Component.RADIO].detail == "hci0 is off: `rfkill unblock bluetooth`, then on"
    assert words[Component.GPS].detail == "no fix from /dev/gps, 3 satellites"
    assert words[Component.MIC].state is State.OK


def test_a_daemon_that_has_said_nothing_yet_is_quoted_with_nothing() -> None:
    assert from_status("") == {}


def test_a_fresh_health_message_is_quoted_with_its_age() -> None:
    words = from_health(HEALTH, wall_s=AT_S + 12, up_s=3600, interval_s=30)
    assert words == {
        Component.GPS: Word(
            state=State.OK, detail="fix from /dev/gps at 9600 baud", how="in its health message of 12 s ago"
        )
    }


@pytest.mark.parametrize(
    ("payload", "later_s", "up_s"),
    [
        (HEALTH, 12, 5),  # of the run before
        (HEALTH, 71, 3600),  # the daemon is not online any more
        (HEALTH, -5, 3600),  # the clock was set back
        (b"", 12, 3600),
        (None, 12, 3600),
        (b"[]", 12, 3600),
        (b'{"at": "soon"}', 12, 3600),
        (HEALTH.replace(b'"ok"', b'"splendid"'), 12, 3600),
        (HEALTH.replace(b'"gps"', b'"warp"'), 12, 3600),
        (HEALTH.replace(b'{"gps"', b'["gps"').replace(b"}}}", b"}]}"), 12, 3600),
    ],
)
def test_a_health_message_that_is_old_or_odd_is_not_quoted(
    payload: bytes | None, later_s: float, up_s: float
) -> None:
    assert from_health(payload, wall_s=AT_S + later_s, up_s=up_s, interval_s=30) == {}


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.OK, Verdict.OK),
        (State.OFF, Verdict.OFF),
        (State.DEGRADED, Verdict.WARN),
        (State.FAILED, Verdict.FAIL),
    ],
)
def test_a_word_of_the_daemon_is_a_finding_with_its_source(state: State, verdict: Verdict) -> None:
    word = Word(state=state, detail="so it is", how="in its status line")
    finding = told({Component.GPS: word}, Component.GPS, pid=7, do="stop it")
    assert (finding.verdict, finding.source) == (verdict, Source.DAEMON)
    assert finding.do == ("stop it" if verdict in {Verdict.WARN, Verdict.FAIL} else "")


def test_a_daemon_that_says_nothing_is_no_good_news() -> None:
    """What was neither measured nor told is not claimed to be well."""
    finding = told({}, Component.MIC, pid=7, do=measure("mic", installed=True))
    assert (finding.verdict, finding.source) == (Verdict.WARN, Source.MEASURED)
    assert "process 7" in finding.found
    assert "systemctl stop gatewayd; gatewayd selftest --only mic; systemctl start gatewayd" in finding.do
    assert "systemctl" not in measure("mic", installed=False)
