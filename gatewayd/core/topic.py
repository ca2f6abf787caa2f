"""The topics of the contract, built and parsed in one place.

A topic is `{prefix}/{gateway}/` and what stands below it. Everything inside the daemon knows only the part
below the base; the uplink puts the base before it, and takes it off what comes in.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

STATUS: Final = "status"
HEALTH: Final = "health"
POSITION: Final = "position"
REPLY: Final = "reply"
ALARMS: Final = "alarms"
AUDIT: Final = "audit"
TEST: Final = "test"  # goes to the broker, and comes back to the gateway itself

# What the daemon subscribes to, below its base: commands, its own retained alarms (to adopt those that its
# disk does not know) and its own status (to repeat the birth when the will came after it).
COMMANDS: Final = "cmd/#"
ALARM_STATES: Final = "alarm/+/state"

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COMMAND: Final = re.compile(r"[a-z_]{1,32}(/[a-z_]{1,32}){0,3}")
_CHUNK: Final = re.compile(r"0|[1-9][0-9]{0,8}")  # 10^9 chunks of 0.5 s are 15 years


class Kind(StrEnum):
    """What a topic carries."""

    STATUS = "status"
    HEALTH = "health"
    POSITION = "position"
    REPLY = "reply"
    ALARMS = "alarms"
    AUDIT = "audit"
    TEST = "test"
    TAG = "tag"
    ALARM_EVENT = "alarm/event"
    ALARM_STATE = "alarm/state"
    ALARM_AUDIO = "alarm/audio"
    VISIT = "visit"
    ALARM_EVIDENCE = "alarm/evidence"
    ALARM_EVIDENCE_LIST = "alarm/evidence/list"
    COMMAND = "cmd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A parsed topic. `alarm` is set for the alarm kinds, the others for those they belong to."""

    kind: Kind
    alarm: str | None = None
    n: int | None = None  # the chunk's number, from 0; of a list: of its first chunk
    tag: str | None = None
    visit: str | None = None
    command: str | None = None  # e.g. "alarm/accept"


def is_id(text: str) -> bool:
    """Say whether `text` may stand as an id in a topic: 1 to 64 letters, digits, `_` and `-`."""
    return _ID.fullmatch(text) is not None


def base(prefix: str, gateway: str) -> str:
    """Return the base of a gateway's topics, without a slash at its end."""
    return f"{prefix}/{gateway}"


def alarm_event(alarm: str) -> str:
    """Return the topic of an alarm's events."""
    return f"alarm/{alarm}/event"


def alarm_state(alarm: str) -> str:
    """Return the topic of an alarm's retained state."""
    return f"alarm/{alarm}/state"


def alarm_audio(alarm: str, n: int) -> str:
    """Return the topic of an alarm's chunk `n`, counted from 0."""
    return f"alarm/{alarm}/audio/{n}"


def alarm_evidence(alarm: str) -> str:
    """Return the topic of the retained manifest of an alarm's recording."""
    return f"alarm/{alarm}/evidence"


def alarm_evidence_list(alarm: str, n: int) -> str:
    """Return the topic of the list of hashes that begins with chunk `n`."""
    return f"alarm/{alarm}/evidence/{n}"


def tag(name: str) -> str:
    """Return the topic of a tag's retained state."""
    return f"tag/{name}"


def visit(name: str) -> str:
    """Return the topic of a visit's state."""
    return f"visit/{name}"


def command(name: str) -> str:
    """Return the topic of a command, e.g. of `alarm/accept`."""
    return f"cmd/{name}"


def elsewhere(whole: str) -> str:
    """Return how the daemon calls a whole topic that is not below its base: it begins with a slash.

    What goes there is of somebody else's contract: its body is published as it stands, without our envelope.
    """
    return f"/{whole}"


def is_elsewhere(name: str) -> bool:
    """Say whether `name` is one that `elsewhere` made."""
    return name.startswith("/")


def whole(base: str, name: str) -> str:
    """Return the whole topic of one below the base, or of one elsewhere."""
    return name[1:] if is_elsewhere(name) else f"{base}/{name}"


def below(prefix: str, topic: str) -> tuple[str, str] | None:
    """Split a full topic into the gateway's id and what stands below its base.

    None when it is not below `prefix`, or names no valid gateway.
    """
    if not topic.startswith(f"{prefix}/"):
        return None
    gateway, slash, rest = topic[len(prefix) + 1 :].partition("/")
    return (gateway, rest) if slash and is_id(gateway) else None


def parse(topic: str) -> Topic | None:
    """Parse a topic below the base. None when the contract has no such topic, or none this version knows."""
    match topic.split("/"):
        case ["status" | "health" | "position" | "reply" | "alarms" | "audit" | "test" as name]:
            return Topic(kind=Kind(name))
        case ["tag", tag] if is_id(tag):
            return Topic(kind=Kind.TAG, tag=tag)
        case ["visit", visit] if is_id(visit):
            return Topic(kind=Kind.VISIT, visit=visit)
        case ["alarm", alarm, "event" | "state" | "evidence" as part] if is_id(alarm):
            return Topic(kind=Kind(f"alarm/{part}"), alarm=alarm)
        case ["alarm", alarm, "evidence", n] if is_id(alarm) and _CHUNK.fullmatch(n):
            return Topic(kind=Kind.ALARM_EVIDENCE_LIST, alarm=alarm, n=int(n))
        case ["alarm", alarm, "audio", n] if is_id(alarm) and _CHUNK.fullmatch(n):
            return Topic(kind=Kind.ALARM_AUDIO, alarm=alarm, n=int(n))
        case ["cmd", *rest] if _COMMAND.fullmatch(path := "/".join(rest)):
            return Topic(kind=Kind.COMMAND, command=path)
        case _:
            return None
