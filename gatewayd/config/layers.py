"""The layers of a configuration: what several files hold, laid over each other, each value with its place.

Every line of every file is judged against the table of settings, also one that a later file overrides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, TypeVar

from gatewayd.config import ini
from gatewayd.config.problem import Entry, Place, Problem, shown
from gatewayd.config.settings import SECTIONS, SETTINGS, Setting, of
from gatewayd.core.alarm.model import WIRED
from gatewayd.core.topic import is_id

T = TypeVar("T")

# A longer word resembles no setting, and comparing it would only cost time.
_COMPARED_CHARACTERS: Final = 64
# difflib's ratio from which two words resemble each other: `password` finds `password_credential` (0.59).
_RESEMBLANCE: Final = 0.55
_TAG: Final = "tag "


class _Table:
    """Judges what a file holds by the table of settings."""

    def section(self, name: str) -> str | None:
        tag = name.removeprefix(_TAG)
        if tag != name:
            if tag == WIRED:
                return f"another tag's name, since {WIRED} is the wired button's"
            return None if is_id(tag) else "[tag NAME] with a NAME of 1 to 64 letters, digits, _ and -"
        if name in SECTIONS and name != "tag":
            return None
        like = _resembling(name, [section for section in SECTIONS if section != "tag"])
        if name.startswith("tag"):
            like = "tag NAME"
        return f"a known section (did you mean [{like}]?)" if like else f"one of {_all_sections()}"

    def entry(self, entry: Entry) -> Problem | None:
        known = {setting.key: setting for setting in of(entry.section)}
        setting = known.get(entry.key)
        if setting is None:
            return Problem.of(entry, _meant(entry, list(known)), shown(entry.key))
        return None if setting.accepts(entry.value) else Problem.of(entry, setting.kind.expected)


def _all_sections() -> str:
    return " ".join(f"[{section} NAME]" if section == "tag" else f"[{section}]" for section in SECTIONS)


def _resembling(word: str, words: list[str]) -> str | None:
    if len(word) > _COMPARED_CHARACTERS:
        return None
    return next(iter(get_close_matches(word.lower(), words, n=1, cutoff=_RESEMBLANCE)), None)


def _meant(entry: Entry, keys: list[str]) -> str:
    """Say what was expected instead of an unknown key."""
    if like := _resembling(entry.key, keys):
        return f"a key of [{entry.section}] (did you mean {like}?)"
    elsewhere = [setting.section for setting in SETTINGS if setting.key == entry.key]
    if elsewhere:
        section = "tag NAME" if elsewhere[0] == "tag" else elsewhere[0]
        return f"a key of [{entry.section}] (did you mean {entry.key} of [{section}]?)"
    return f"one of {' '.join(keys)}"


@dataclass(slots=True, kw_only=True)
class Layers:
    """What the files hold, later ones over earlier ones. `sections`: where each is first opened."""

    sections: dict[str, Place] = field(default_factory=dict)
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, data: bytes, path: str) -> None:
        """Lay a file's bytes over what is there."""
        document = ini.read(data, path, _Table())
        for section, place in document.sections.items():
            self.sections.setdefault(section, place)
        self.entries |= {(entry.section, entry.key): entry for entry in document.entries}
        self.problems += document.problems

    def tags(self) -> dict[str, Place]:
        """Return the sections of the assigned tags, in order, each with its place."""
        return {section: place for section, place in self.sections.items() if section.startswith(_TAG)}

    def in_order(self) -> dict[tuple[str, str], Entry]:
        """Return the entries by section, in the order in which the sections were first opened."""
        rank = {section: index for index, section in enumerate(self.sections)}
        return dict(sorted(self.entries.items(), key=lambda item: rank[item[0][0]]))

    def entry(self, setting: Setting[object], section: str | None = None) -> Entry | None:
        """Return the line that sets a setting; None when none does, or when it takes the setting back."""
        entry = self.entries.get((section or setting.section, setting.key))
        return entry if entry and (entry.value or setting.default) else None

    def value(self, setting: Setting[T], section: str | None = None) -> T:
        """Return the value of a setting; that of a bad line, which is a problem already, is the default's."""
        entry = self.entries.get((section or setting.section, setting.key))
        try:
            return setting.read(setting.default if entry is None else entry.value)
        except ValueError:
            return setting.read(setting.default)

    def is_bad(self, setting: Setting[object], section: str | None = None) -> bool:
        """Say whether a setting's line is bad by itself, so that nothing more can be said of it."""
        entry = self.entry(setting, section)
        return entry is not None and not setting.accepts(entry.value)
