"""The journal's fields: one fixed MESSAGE_ID for each change of state, in this one table.

Pure values; `edge/systemd` decides where the lines go. An administrator finds every alarm of a month with
`journalctl MESSAGE_ID=…`, everything about one with `journalctl ALARM_ID=…`; so an id here never changes
(systemd.journal-fields(7)).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class MessageId(StrEnum):
    """What happened; the value is the journal's MESSAGE_ID."""

    ALARM_RAISED = "5765d6cdd4b94e938b46e75ebf18e03a"
    ALARM_ACCEPTED = "eeac4d35e03c408fb4224f1314222b28"
    ALARM_CHANGED = "9a2fd5d92eb44bfb8a205afcd087a8a2"
    ALARM_CLOSED = "7cff8306265f4732acab105a396deaa5"
    COMPONENT_CHANGED = "c941e9ffac92498c896033318cad874b"
    POWER_CHANGED = "ba7c643aaa4a4898bf10861a5b922fb0"
    CONFIGURATION_CHANGED = "08973b4ab06a4e6d90928ec1bdfceb40"
    CONFIGURATION_REFUSED = "988f12496bfd47cb86c05b55fc7fa9d7"
    STARTED = "172b2656cf9c495191292b1fe19a8718"
    STOPPED = "067d3f0369a742fd859c8a406278cebd"


def fields(message_id: MessageId, *, alarm: str | None = None, tag: str | None = None) -> Mapping[str, str]:
    """The `extra=` of a log call: MESSAGE_ID, and ALARM_ID and TAG where they are known.

    `tag` is the tag's configured name, never its address.
    """
    found = {"MESSAGE_ID": message_id.value, "ALARM_ID": alarm, "TAG": tag}
    return {name: value for name, value in found.items() if value is not None}
