"""What may happen to a visit when, as data. `docs/visit.md` has it as a picture; a test compares the two."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class VisitState(StrEnum):
    """How far a visit is."""

    PLANNED = "planned"  # it begins later
    OPEN = "open"
    REMINDED = "reminded"  # its end is near
    OVERDUE = "overdue"  # its end and the grace have passed: pre-alarm, then alarm
    CLOSED = "closed"


class Trigger(StrEnum):
    """What happens to a visit. Each is told as the `event` of its name."""

    PLANNED = "planned"
    OPENED = "opened"
    READINESS = "readiness"  # what is wrong with the worker's tag, or that nothing is any more
    REMINDED = "reminded"
    OVERDUE = "overdue"  # the pre-alarm begins
    ALARMED = "alarmed"  # the alarm is raised
    EXTENDED = "extended"
    CORRECTED = "corrected"  # a clock that is known now says that its end is not so near
    CHECK_OUT_REFUSED = "check_out_refused"  # the press ended nothing, for a reason that is told
    CLOSED = "closed"


_S: Final = VisitState
_BEGUN: Final = (_S.OPEN, _S.REMINDED, _S.OVERDUE)


def _unchanged(*states: VisitState) -> Mapping[VisitState, VisitState]:
    return MappingProxyType({state: state for state in states})


def _to(target: VisitState, *states: VisitState) -> Mapping[VisitState, VisitState]:
    return MappingProxyType(dict.fromkeys(states, target))


# For each trigger: from which state to which. Where there is no entry it must not happen; a command that asks
# for it gets `conflict`. PLANNED and OPENED also begin a visit: they come from nothing, too.
TABLE: Final[Mapping[Trigger, Mapping[VisitState, VisitState]]] = MappingProxyType(
    {
        # It began where no clock could tell, and one that is known now says that it begins later.
        Trigger.PLANNED: _to(_S.PLANNED, *_BEGUN),
        Trigger.OPENED: _to(_S.OPEN, _S.PLANNED),
        Trigger.READINESS: _unchanged(_S.PLANNED, _S.OPEN),
        Trigger.REMINDED: _to(_S.REMINDED, _S.OPEN),
        Trigger.OVERDUE: _to(_S.OVERDUE, _S.REMINDED),
        Trigger.ALARMED: _unchanged(_S.OVERDUE),
        Trigger.EXTENDED: MappingProxyType({**_unchanged(_S.PLANNED), **_to(_S.OPEN, *_BEGUN)}),
        Trigger.CORRECTED: _to(_S.OPEN, _S.REMINDED, _S.OVERDUE),
        Trigger.CHECK_OUT_REFUSED: _unchanged(*_BEGUN),
        Trigger.CLOSED: _to(_S.CLOSED, _S.PLANNED, *_BEGUN),
    }
)
