"""Every command of the contract as a row of a table: what it is about, and which fields it may have.

Imports nothing that costs: the parser of every command has it. Whether a value is right is the gateway's to
say, which may be newer than this; here only what could not be written as JSON at all is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_IN_MINUTES: Final = re.compile(r"\+(\d{1,4})(?:min)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of some commands: how its text is read, and a line of help."""

    help: str
    read: Callable[[str], object] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A command: its line of help, the field its argument is, and its other fields."""

    help: str
    about: str | None = None
    required: bool = True  # whether it needs its argument
    fields: tuple[str, ...] = ()


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


def _police(text: str) -> bool | str:
    return {"yes": True, "no": False}.get(text, text)


def _tags(text: str) -> list[str]:
    return text.split(",")


def _time(text: str) -> str:
    """Return an RFC 3339 time as it stands; `+45min` as the time in 45 minutes, by this machine's clock."""
    if found := _IN_MINUTES.fullmatch(text):
        return (datetime.now().astimezone() + timedelta(minutes=int(found[1]))).isoformat(timespec="seconds")
    return text


FIELDS: Final[Mapping[str, Field]] = {
    "alarm": Field(help="the alarm's id"),
    "eta_s": Field(help="how soon the responder is there, seconds", read=_whole),
    "text": Field(help="what to note"),
    "cancel": Field(help="refused: the worker's wish to cancel is"),
    "outcome": Field(help="real, false, test, technical or duplicate"),
    "police": Field(help="yes, no, or their reference", read=_police),
    "lesson": Field(help="what is to be learnt"),
    "tag": Field(help="the tag's id"),
    "worker": Field(help="a reference, never a name"),
    "cause": Field(help="manual or duress"),
    "note": Field(help="a remark that goes with it"),
    "max_s": Field(help="for how long, seconds", read=_whole),
    "every_s": Field(help="how often, seconds", read=_whole),
    "for_s": Field(help="for how long, seconds", read=_whole),
    "visit": Field(help="the visit's id"),
    "risk": Field(help="how dangerous the visit is"),
    "expected_end": Field(help="an RFC 3339 time, or +45min", read=_time),
    "expected_start": Field(help="likewise; not given: now", read=_time),
    "code_word_ref": Field(help="where the code word is found; never the word itself"),
    "street": Field(help="of the visit's address"),
    "number": Field(help="likewise, of the house"),
    "addition": Field(help="likewise, to the number"),
    "floor": Field(help="likewise"),
    "postcode": Field(help="likewise"),
    "city": Field(help="likewise"),
    "tags": Field(help="the tags' ids, commas between", read=_tags),
    "mode": Field(help="test, or exercise"),
    "at": Field(help="an RFC 3339 time", read=_time),
}
# What a visit's address consists of: an object of its own in the payload.
ADDRESS: Final = ("street", "number", "addition", "floor", "postcode", "city")

COMMANDS: Final[Mapping[str, Row]] = {
    "alarm/received": Row(help="a person saw the alarm", about="alarm"),
    "alarm/accept": Row(help="you take the alarm", about="alarm"),
    "alarm/decline": Row(help="you do not, or not any more", about="alarm"),
    "alarm/respond": Row(help="you are on your way", about="alarm", fields=("eta_s",)),
    "alarm/on_scene": Row(help="you are there", about="alarm"),
    "alarm/escalate": Row(help="others are needed", about="alarm"),
    "alarm/note": Row(help="add a remark", about="alarm", fields=("text", "cancel")),
    "alarm/close": Row(help="it is over", about="alarm", fields=("outcome", "police", "lesson")),
    "alarm/reopen": Row(help="it is not over", about="alarm"),
    "alarm/review": Row(help="a closed alarm has been evaluated", about="alarm"),
    "alarm/raise": Row(
        help="raise one for a tag or a worker",
        about="tag",
        required=False,
        fields=("worker", "cause", "note"),
    ),
    "listen/start": Row(help="record for an open alarm", about="alarm", fields=("max_s",)),
    "listen/stop": Row(help="end the recording"),
    "locate": Row(help="tell positions oftener for a while", fields=("every_s", "for_s")),
    "visit/open": Row(
        help="a visit begins, or is planned",
        about="visit",
        fields=("worker", "expected_start", "expected_end", "risk", "note", "code_word_ref", *ADDRESS),
    ),
    "visit/extend": Row(help="it takes longer", about="visit", fields=("expected_end",)),
    "visit/close": Row(help="it is over, the worker is out", about="visit"),
    "test/run": Row(help="test the way through the broker and back"),
    "test/press_window": Row(
        help="presses of these tags are tests for a while", about="tags", fields=("for_s", "mode")
    ),
    "tag/assign": Row(help="a worker wears the tag from now on", about="tag", fields=("worker",)),
    "tag/revoke": Row(help="nobody does any more", about="tag"),
    "coverage/get": Row(help="whether the tag was heard, and if not, why", about="tag", fields=("at",)),
}
# `close` for `alarm/close`, `accept` for `alarm/accept`, …: what a person types most often.
SHORT: Final = {name.removeprefix("alarm/"): name for name in COMMANDS if name.startswith("alarm/")}


def fields(name: str, about: str | None, given: Mapping[str, str]) -> dict[str, object]:
    """Return the payload's own fields of a command, of what was typed. ValueError that says what is wrong."""
    row = COMMANDS[name]
    texts = dict(given)
    if about is not None:
        if row.about is None:
            raise ValueError(f"{name}: expected no argument, got {about!r}")
        texts[row.about] = about
    elif row.about is not None and row.required:
        raise ValueError(f"{name}: expected {FIELDS[row.about].help} after it, got nothing")
    if strange := sorted(texts.keys() - {row.about, *row.fields}):
        of = ", ".join(map(option, row.fields)) or "none"
        raise ValueError(
            f"{name}: expected only its own fields ({of}), got {', '.join(map(option, strange))}"
        )
    values = {key: _value(key, text) for key, text in texts.items()}
    found = {key: value for key, value in values.items() if key not in ADDRESS}
    address = {key: value for key, value in values.items() if key in ADDRESS}
    return {**found, **({"address": address} if address else {})}


def _value(key: str, text: str) -> object:
    try:
        return FIELDS[key].read(text)
    except ValueError as error:
        raise ValueError(f"{option(key)}: {error}") from None


def option(key: str) -> str:
    """Return a field's option: `--eta-s` of `eta_s`."""
    return f"--{key.replace('_', '-')}"
