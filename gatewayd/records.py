"""The kinds of record that the gateway keeps in the outbox: how they are read, and what changes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

from gatewayd.core import alarm, coverage, desk, drill, visit
from gatewayd.core.next_ids import Seeds

logger = logging.getLogger(__name__)

TAG: Final = "tag"
NEXT: Final = "next_alarm"
ALARM: Final = "alarm"
RECORDING: Final = "recording"
REPLY: Final = "reply"
COVERAGE: Final = coverage.KIND
VISIT: Final = "visit"
DRILL: Final = drill.KIND
PLACE: Final = "place"  # the position known last
ANNOUNCED: Final = "announced"  # each topic that Home Assistant was ever told
WEARER: Final = "wearer"  # who wears a tag, as ops say
AUDIT: Final = "audit"  # the last entry of the audit log that ops were told, by its hash
RECORDS: Final = (TAG, NEXT, ALARM, RECORDING, REPLY, COVERAGE, VISIT, DRILL, PLACE, ANNOUNCED, WEARER, AUDIT)
ONLY: Final = "last"  # the key of a kind that has one record

RecordKey: TypeAlias = tuple[str, str]
Put: TypeAlias = Mapping[RecordKey, str]  # records to be stored
Records: TypeAlias = Mapping[str, Mapping[str, str]]  # as the disk has them: by kind, then by key

_Value = TypeVar("_Value")


def seeds_put(seeds: Seeds) -> dict[RecordKey, str]:
    """Return the records of what alarm ids are made from."""
    return {(NEXT, tag): seed for tag, seed in seeds.items()}


def read(kind: str, records: Records, from_json: Callable[[str], _Value]) -> dict[str, _Value]:
    """Read the records of a kind. A damaged one is told and left out: the others still count."""
    found: dict[str, _Value] = {}
    for name, text in records.get(kind, {}).items():
        try:
            found[name] = from_json(text)
        except ValueError as error:
            logger.error("the record %s %s is damaged and left out: %s", kind, name, error)
    return found


def changes(effects: Iterable[desk.Wanted]) -> tuple[dict[RecordKey, str], list[RecordKey]]:
    """Return what the core asks to be stored, and to be erased."""
    put: dict[RecordKey, str] = {}
    forget: list[RecordKey] = []
    for effect in effects:
        match effect:
            case alarm.Save():
                put[ALARM, effect.alarm.id] = alarm.to_json(effect.alarm)
            case alarm.Forget():
                forget += [(ALARM, effect.alarm), (RECORDING, effect.alarm)]
            case visit.Save():
                put[VISIT, effect.visit.id] = visit.to_json(effect.visit)
            case visit.Forget():
                forget.append((VISIT, effect.visit))
            case desk.SaveReply():
                put[REPLY, str(effect.reply.id)] = desk.to_json(effect.reply)
            case desk.ForgetReply():
                forget.append((REPLY, effect.command))
            case _:
                pass
    return put, forget
