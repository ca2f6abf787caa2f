"""Tells the journal what happens to alarms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from gatewayd.core import topic
from gatewayd.core.journal import MessageId, fields
from gatewayd.core.model import Draft

logger = logging.getLogger(__name__)

_MESSAGE_IDS: Final = {"raised": MessageId.ALARM_RAISED, "closed": MessageId.ALARM_CLOSED}


def log_event(draft: Draft) -> None:
    """Tell the journal of an alarm's event; positions are left out."""
    where = topic.parse(draft.topic)
    if where is None or where.kind is not topic.Kind.ALARM_EVENT or draft.body["type"] == "position":
        return
    kind = str(draft.body["type"])
    tag = draft.body.get("tag")
    name = str(tag["id"]) if isinstance(tag, Mapping) else None
    message_id = _MESSAGE_IDS.get(kind, MessageId.ALARM_CHANGED)
    level = logging.WARNING if kind in {"raised", "repeated", "escalated"} else logging.INFO
    extra = fields(message_id, alarm=where.alarm, tag=name)
    logger.log(level, "alarm %s: %s (%s)", where.alarm, kind, draft.body["mode"], extra=extra)


def log_accepted(alarm: str, by: str) -> None:
    """Tell the journal that an alarm is safe from now on: `by` has it."""
    extra = fields(MessageId.ALARM_ACCEPTED, alarm=alarm)
    logger.info("alarm %s: accepted, the %s has it", alarm, by, extra=extra)
