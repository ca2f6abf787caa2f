"""Who wears which tag, as ops have said since: above the configuration, until they say otherwise."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import replace

from gatewayd.config.model import Config
from gatewayd.core.command import Actor
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.model import Tag
from gatewayd.core.upkeep import Assign, Revoke
from gatewayd.records import WEARER, RecordKey, Records, read

logger = logging.getLogger(__name__)

REVOKED = None  # in place of a worker: nobody wears the tag


class Wearers:
    """Orders go in; the configuration as it is meant by now comes out."""

    def __init__(self) -> None:
        self._said: dict[str, str | None] = {}  # by tag

    def applied(self, config: Config) -> Config:
        """Return the configuration with the tags as ops have them: none that is revoked."""
        tags = (self._worn(tag) for tag in config.tags)
        return replace(config, tags=tuple(tag for tag in tags if tag is not None))

    def _worn(self, tag: Tag) -> Tag | None:
        if tag.name not in self._said:
            return tag
        worker = self._said[tag.name]
        return None if worker is REVOKED else replace(tag, worker=worker)

    def obey(self, order: Assign | Revoke, actor: Actor, config: Config, meant: Collection[str]) -> Refusal:
        """Take what ops say of a tag that stands in the configuration. `meant`: tags with an open alarm."""
        found = next((tag for tag in config.tags if tag.name == order.tag), None)
        if found is None:
            return Code.UNKNOWN, f"tag: expected one of this gateway's configuration, got {order.tag}"
        if order.tag in meant:
            return Code.CONFLICT, f"tag: expected one without an open alarm, got {order.tag}"
        worker = REVOKED if isinstance(order, Revoke) else order.worker or found.worker
        if isinstance(order, Assign) and worker is None:
            return Code.INVALID, f"worker: expected whose tag {order.tag} is, the configuration has none"
        self._said[order.tag] = worker
        who = actor.name or actor.id
        logger.warning("tag %s: %s, says %s", order.tag, f"worn by {worker}" if worker else "revoked", who)
        return None

    # --- across restarts ------------------------------------------------------------------------------------

    @property
    def records(self) -> dict[RecordKey, str]:
        """All that was said, as it is stored."""
        return {(WEARER, tag): json.dumps({"worker": worker}) for tag, worker in self._said.items()}

    def restore(self, records: Records) -> None:
        """Take what an earlier run was told; what this one was told is newer."""
        self._said = {**read(WEARER, records, _from_json), **self._said}


def _from_json(text: str) -> str | None:
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(worker := found.get("worker"), str | None):
        raise ValueError(f"expected a tag's worker, got {text[:80]!r}")
    return worker
