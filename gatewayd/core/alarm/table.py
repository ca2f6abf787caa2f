"""What may happen to an alarm when, as data. `docs/alarm.md` has it as a picture; a test compares the two."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias


class Handling(StrEnum):
    """What people have done about an alarm so far."""

    RAISED = "raised"
    RECEIVED = "received"  # a console showed it
    ACCEPTED = "accepted"  # a person took it
    RESPONDING = "responding"
    ON_SCENE = "on_scene"
    CLOSED = "closed"


class Trigger(StrEnum):
    """What happens to an alarm. Each is told as the event of its name; `RAISED_AGAIN` as `repeated`."""

    RAISED = "raised"
    REPEATED = "repeated"
    RAISED_AGAIN = "raised_again"  # a press more than 10 min after the last one
    POSITION = "position"
    CORROBORATED = "corroborated"
    AUDIO_STARTED = "audio_started"
    AUDIO_ENDED = "audio_ended"
    AUDIO_UNAVAILABLE = "audio_unavailable"
    RECEIVED = "received"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    RESPONDING = "responding"
    ON_SCENE = "on_scene"
    ESCALATED = "escalated"
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_REFUSED = "cancel_refused"
    NOTE = "note"
    CLOSED = "closed"
    REOPENED = "reopened"
    REVIEWED = "reviewed"

    @property
    def type(self) -> str:
        """The event's `type` in the contract."""
        return "repeated" if self is Trigger.RAISED_AGAIN else self.value


OPEN: Final = tuple(handling for handling in Handling if handling is not Handling.CLOSED)


_Row: TypeAlias = Mapping[Handling, tuple[Handling, ...]]


def _unchanged(*handlings: Handling) -> _Row:
    return MappingProxyType({handling: (handling,) for handling in handlings})


def _to(target: Handling, *handlings: Handling) -> _Row:
    return MappingProxyType(dict.fromkeys(handlings, (target,)))


# Who leaves may have been the one who had come furthest, or the only one: down to what the others do.
_DOWN: Final = (Handling.RECEIVED, Handling.ACCEPTED, Handling.RESPONDING, Handling.ON_SCENE)

# For each trigger: from which handling to which; where there are several, what the responders do decides.
# Where there is no entry it must not happen; a command that asks for it gets `conflict`. RAISED begins an
# alarm, so it comes from nothing.
TABLE: Final[Mapping[Trigger, _Row]] = MappingProxyType(
    {
        Trigger.RAISED: MappingProxyType({}),
        Trigger.REPEATED: _unchanged(*OPEN),
        Trigger.RAISED_AGAIN: _to(Handling.RAISED, *OPEN),
        Trigger.POSITION: _unchanged(*OPEN),
        Trigger.CORROBORATED: _unchanged(*OPEN),
        # A recording outlives the alarm that began it while another alarm extends it.
        Trigger.AUDIO_STARTED: _unchanged(*Handling),
        Trigger.AUDIO_ENDED: _unchanged(*Handling),
        Trigger.AUDIO_UNAVAILABLE: _unchanged(*Handling),
        # Several consoles show an alarm, some after somebody took it: each is noted, none sets it back.
        Trigger.RECEIVED: MappingProxyType(
            {**_unchanged(*OPEN), **_to(Handling.RECEIVED, Handling.RAISED)},
        ),
        # One person takes it, whether or not a console said first that it showed it.
        Trigger.ACCEPTED: _to(Handling.ACCEPTED, Handling.RAISED, Handling.RECEIVED),
        Trigger.DECLINED: MappingProxyType(
            {
                **_unchanged(Handling.RAISED),
                **{_DOWN[n]: _DOWN[: n + 1] for n in range(len(_DOWN))},
            }
        ),
        # Who sets out without a word before has taken it. A second one adds to the first.
        Trigger.RESPONDING: MappingProxyType(
            {**_to(Handling.RESPONDING, *OPEN), **_unchanged(Handling.ON_SCENE)},
        ),
        Trigger.ON_SCENE: _to(Handling.ON_SCENE, *OPEN),
        Trigger.ESCALATED: _unchanged(*OPEN),
        Trigger.CANCEL_REQUESTED: _unchanged(*OPEN),
        Trigger.CANCEL_REFUSED: _unchanged(*OPEN),
        Trigger.NOTE: _unchanged(*Handling),
        Trigger.CLOSED: _to(Handling.CLOSED, *OPEN),
        # A person has seen it again; nobody has it yet.
        Trigger.REOPENED: _to(Handling.RECEIVED, Handling.CLOSED),
        Trigger.REVIEWED: _unchanged(Handling.CLOSED),
    }
)
