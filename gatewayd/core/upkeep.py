"""What ops may ask that no alarm hears of: tests, where the gateway is, who wears a tag. And its readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from gatewayd.core import fields, topic
from gatewayd.core.fields import Fields
from gatewayd.core.model import Mode

LONGEST_WINDOW_S: Final = 3_600  # while one is open a press calls nobody: a team tests within an hour
WINDOW_TAGS: Final = 1_000  # more than any gateway has
LONGEST_LOCATE_S: Final = 3_600  # who forgot about it follows a vehicle for an hour
LOCATE_EVERY_S: Final = 5  # where nothing else is asked for: as in an alarm,
LOCATE_S: Final = 600  # and for as long


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """`test/run`: try the way to the broker and back now; health tells how it went."""

    __test__ = False  # to pytest, which takes what is called Test for one


@dataclass(frozen=True, slots=True, kw_only=True)
class PressWindow:
    """`test/press_window`: presses of these tags are tests for so long from now; 0: no more."""

    tags: tuple[str, ...]
    for_s: int
    mode: Mode = Mode.TEST  # or an exercise, which is done like an alarm that is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Locate:
    """`locate`: tell the position every so many seconds, for so long from now; 0: no more."""

    every_s: int
    for_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """`tag/assign`: this worker wears the tag from now on; None: who stands in the configuration."""

    tag: str
    worker: str | None = None  # a reference, never a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """`tag/revoke`: nobody wears the tag any more; it calls nobody until it is assigned again."""

    tag: str


UpkeepOrder: TypeAlias = TestRun | PressWindow | Locate | Assign | Revoke


def _press_window(body: Fields) -> PressWindow:
    tags, for_s = body.get("tags"), fields.optional_seconds(body, "for_s", 0, LONGEST_WINDOW_S)
    if not isinstance(tags, list) or not 1 <= len(tags) <= WINDOW_TAGS:
        raise fields.wrong("tags", f"a list of 1 to {WINDOW_TAGS} tags' ids", tags)
    names = [tag for tag in tags if isinstance(tag, str) and topic.is_id(tag)]
    if len(names) != len(tags):
        raise fields.wrong("tags", "tags' ids", tags)
    if for_s is None:
        raise fields.wrong("for_s", f"a whole number of seconds from 0 to {LONGEST_WINDOW_S}", None)
    mode = body.get("mode")
    if mode not in (None, Mode.TEST, Mode.EXERCISE):
        raise fields.wrong("mode", f"{Mode.TEST} or {Mode.EXERCISE}", mode)
    return PressWindow(tags=tuple(names), for_s=for_s, mode=Mode(mode or Mode.TEST))


def _locate(body: Fields) -> Locate:
    every_s = fields.optional_seconds(body, "every_s", 1, LONGEST_LOCATE_S)
    for_s = fields.optional_seconds(body, "for_s", 0, LONGEST_LOCATE_S)
    return Locate(
        every_s=LOCATE_EVERY_S if every_s is None else every_s, for_s=LOCATE_S if for_s is None else for_s
    )


def _assign(body: Fields) -> Assign:
    worker = None if body.get("worker") is None else fields.reference(body, "worker")
    return Assign(tag=fields.topic_id(body, "tag", "a tag"), worker=worker)


READERS: Final[Mapping[str, Callable[[Fields], UpkeepOrder]]] = MappingProxyType(
    {
        "test/run": lambda _body: TestRun(),
        "test/press_window": _press_window,
        "locate": _locate,
        "tag/assign": _assign,
        "tag/revoke": lambda body: Revoke(tag=fields.topic_id(body, "tag", "a tag")),
    }
)
