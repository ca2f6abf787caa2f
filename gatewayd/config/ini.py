"""The INI reader: bytes in, entries and problems out, each with its file and line.

Our own, because configparser stops at the first fault, forgets where a value stood, interpolates, and lets a
key be written in several ways. The rules:

- UTF-8 without a byte order mark; lines end with LF or CR LF; white space around anything does not count.
- A line is empty, a comment (`#` or `;` first), `[section]`, or `key = value`. Nothing continues a line and
  nothing follows a value: a `#` further on belongs to it.
- A section may be opened more than once in a file; a key may not stand twice in it.
- An unknown section is one problem; nothing else is said about what it holds.

Any bytes give entries and problems, never an exception, in time and memory bounded by the file's size.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Final, Protocol

from gatewayd.config.problem import Entry, Place, Problem, shown

# A thousand tags of ten lines are 0.3 MB; anything larger is no configuration.
LIMIT_BYTES: Final = 1 << 20
# More faults in one file than anyone mends one by one: it is some other file.
LIMIT_PROBLEMS: Final = 1000
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK: Final = b" \t\r\n"


class Judge(Protocol):
    """Knows the settings."""

    def section(self, name: str) -> str | None:
        """Say what was expected instead of a section's name; None when it is known."""

    def entry(self, entry: Entry) -> Problem | None:
        """Say what is wrong with an entry of a known section; None when nothing is."""


@dataclass(slots=True, kw_only=True)
class Document:
    """What one file holds. `sections`: each known one and where it is first opened, in order."""

    sections: dict[str, Place] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(data: bytes, path: str, judge: Judge) -> Document:
    """Read one file's bytes. Entries are kept though they have a problem."""
    reader = _Reader(path, judge)
    whole = Place(path=path)
    if len(data) > LIMIT_BYTES:
        reader.document.problems.append(
            Problem(place=whole, expected="at most 1 MiB of settings", got="a larger file")
        )
    elif not data.strip(_BLANK):
        # What a power cut leaves of a file that was being written. A file of comments is fine.
        reader.document.problems.append(
            Problem(place=whole, expected="settings or comments", got="an empty file")
        )
    else:
        reader.read(data)
    return reader.document


class _Reader:
    """Reads one file. `_section` is None before the first header, `_judged` False in an unknown section."""

    def __init__(self, path: str, judge: Judge) -> None:
        self.document: Final = Document()
        self._path = path
        self._judge = judge
        self._section: str | None = None
        self._judged = True
        self._unknown: set[str] = set()
        self._lines: dict[tuple[str, str], int] = {}  # where each key stands first

    def read(self, data: bytes) -> None:
        for number, raw in enumerate(data.split(b"\n"), start=1):
            place = Place(path=self._path, line=number)
            if len(self.document.problems) >= LIMIT_PROBLEMS:
                self._fault(
                    place, f"fewer than {LIMIT_PROBLEMS} faults in a file", "more; the rest was not read"
                )
                return
            text = self._text(raw, place)
            if text is None or not text or text[0] in "#;":
                continue
            if text[0] == "[":
                self._open(text, place)
            elif self._judged:
                self._entry(text, place)

    def _fault(self, place: Place, expected: str, got: str) -> None:
        self.document.problems.append(Problem(place=place, expected=expected, got=got))

    def _text(self, raw: bytes, place: Place) -> str | None:
        """Return a line's text without white space around it; None when it is none."""
        if place.line == 1 and raw.startswith(codecs.BOM_UTF8):
            self._fault(place, "UTF-8 without a byte order mark", "a byte order mark")
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            self._fault(place, "UTF-8 text", f"the byte 0x{raw[error.start]:02x}")
            return None
        if control := _CONTROL.search(text):
            self._fault(place, "text", f"the control character 0x{ord(control[0]):02x}")
            return None
        return text.strip()

    def _open(self, text: str, place: Place) -> None:
        self._judged = False
        if not text.endswith("]"):
            self._fault(place, "[section]", shown(text))
            return
        name = " ".join(text[1:-1].split())
        expected = self._judge.section(name)
        if expected is None:
            self._section, self._judged = name, True
            self.document.sections.setdefault(name, place)
        elif name not in self._unknown:
            self._unknown.add(name)
            self.document.problems.append(
                Problem(place=place, section=name, expected=expected, got=f"[{shown(name)}]")
            )

    def _entry(self, text: str, place: Place) -> None:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            # What stands there is not shown: it may be a secret on a line of its own.
            self._fault(place, "key = value", "no key" if equals else "a line without =")
            return
        if self._section is None:
            self._fault(place, f"a [section] before the first key, {shown(key)}", "none")
            return
        entry = Entry(section=self._section, key=key, value=value, place=place)
        first = self._lines.setdefault((self._section, key), place.line)
        if first != place.line:
            self.document.problems.append(
                Problem.of(entry, f"{shown(key)} once in a file", f"it again (it stands at line {first})")
            )
        if problem := self._judge.entry(entry):
            self.document.problems.append(problem)
        self.document.entries.append(entry)
