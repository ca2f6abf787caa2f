"""What an earlier run left on disk, read: what is damaged is told and left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")


def read_records(
    kind: str, records: Mapping[str, Mapping[str, str]], from_json: Callable[[str], _Value]
) -> dict[str, _Value]:
    """Read the records of a kind. A damaged one is told and left out: the others still count."""
    found: dict[str, _Value] = {}
    for name, text in records.get(kind, {}).items():
        try:
            found[name] = from_json(text)
        except ValueError as error:
            logger.error("the record %s %s is damaged and left out: %s", kind, name, error)
    return found
