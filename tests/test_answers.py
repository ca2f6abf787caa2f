"""The guide to the buyers' questions: every question has its answer, and what it shows can be typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

from answers.__main__ import GUIDE, written
from answers.questions import (
    ADDRESS,
    CHARGED,
    CHECK_IN,
    CODE_WORD,
    DISCREET,
    EVALUATED,
    EVIDENCE,
    FAST,
    LISTEN,
    LOCATION,
    QUESTIONS,
    RECEIVES,
    STEPS,
)
from answers.story import tell
from answers.terminal import Typed

from gatewayd.cli import make_parser


def test_every_question_is_answered_in_the_guide() -> None:
    """In words, and by what was typed."""
    sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]
    assert [section.split("\n")[0] for section in sections] == list(QUESTIONS)
    assert all("```console\n$ " in section for section in sections)


def test_what_the_guide_shows_is_a_command() -> None:
    """So that a renamed option is noticed here too."""
    lines = re.findall(r"^\$ (gatewayd .*)$", GUIDE.read_text(), flags=re.MULTILINE)
    assert len(lines) > len(QUESTIONS)
    for line in lines:
        words = shlex.split(re.split(r" [|>;] ?", line)[0].replace("*", "x"))
        make_parser().parse_args(words[1:])


def test_what_was_typed_is_written_below_its_question() -> None:
    typed = {question: [Typed(line="true", printed="", status=0)] for question in QUESTIONS}
    assert written(GUIDE.read_text(), typed).count("```console\n$ true\n\n```") == len(QUESTIONS)


async def test_each_question_is_answered_by_what_can_be_typed() -> None:
    """The story once more, without the visit that nobody ends: each command says what it is there for."""
    with TemporaryDirectory(prefix="gw-") as name:
        typed = await tell(Path(name), overdue=False)
    said = {question: "".join(each.printed for each in lines) for question, lines in typed.items()}
    assert "nurse-1" in said[RECEIVES]
    assert "done" in said[RECEIVES]
    assert json.loads(said[FAST])["delivery"].keys() >= {"stored_at", "confirmed_at"}
    assert json.loads(said[LOCATION]).keys() >= {
        "lat",
        "lon",
        "method",
        "age_s",
        "hdop",
        "trusted",
        "subject",
    }
    assert "refused" in said[LISTEN]
    assert next(line.split("\t")[1] for line in said[STEPS].splitlines() if "\t" in line) == "raised"
    assert said[ADDRESS].startswith("visit/open: done\n")
    assert "Lindengracht" in said[ADDRESS]
    assert "v-1204" in said[CHECK_IN]
    assert json.loads(said[CODE_WORD])["code_word_ref"] == "card 7"
    whole, altered = [each for each in typed[EVIDENCE] if "verify" in each.line]
    assert (whole.status, altered.status) == (0, 1)
    assert "seen" in said[CHARGED]
    assert "silent" in said[DISCREET]
    assert {"events.jsonl", "state.json", "audio"} <= set(said[EVALUATED].split())
    failed = {each.line: each.printed for lines in typed.values() for each in lines if each.status}
    expected = {altered.line, *(each.line for each in typed[LISTEN] if "listen/start" in each.line)}
    assert failed.keys() == expected, failed
