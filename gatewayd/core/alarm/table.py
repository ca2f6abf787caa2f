"""What may happen to an alarm when, as data. `docs/alarm.md` has it as a picture; a test compares the two."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


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
    CLOSED = "closed"

    @property
    def type(self) -> str:
        """The event's `type` in the contract."""
        return "repeated" if self is Trigger.RAISED_AGAIN else self.value


OPEN: Final = tuple(handling for handling in Handling if handling is not Handling.CLOSED)


def _unchanged(*handlings: Handling) -> Mapping[Handling, Handling]:
    return MappingProxyType({handling: handling for handling in handlings})


def _to(target: Handling, *handlings: Handling) -> Mapping[Handling, Handling]:
    return MappingProxyType(dict.fromkeys(handlings, target))


# For each trigger: from which handling to which. Where there is no entry it must not happen; a command that
# asks for it gets `conflict`. RAISED begins an alarm, so it comes from nothing.
TABLE: Final[Mapping[Trigger, Mapping[Handling, Handling]]] = MappingProxyType(
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
        Trigger.CLOSED: _to(Handling.CLOSED, *OPEN),
    }
)
