"""What is done about a radio that does not hear: the ladder. Pure; the edge finds and executes.

The rules:

1. Trouble has an age: from the first failure in a row, or from when hearing was last proven. A rung of
   `LADDER` is due when the trouble has reached its age and its step was not taken in this round yet.
2. Below the first rung, and between two: where there is no scan, a new one, again and again; where there is
   one that has only gone silent, listening on.
3. When every rung was climbed in vain the next round comes after `AGAIN_S`, twice as long after each, at most
   `AGAIN_MOST_S`: a remedy that does not help costs hearing too.
4. A step that cannot be taken is left out (`able`): there is no helper, the adapter is not on USB, or another
   adapter hears through the bluetoothd that would be restarted.
5. Silence alone is no failure: on a quiet road there is nothing to hear. Nothing but a fresh scan is tried,
   rarely: one that a dead chip or bluetoothd refuses is a failure, with a ladder of its own.
6. A canary's silence is a failure only where the canary is `trusted`: it was heard, and since then nobody
   else in its place. One with an empty battery would have a good radio switched off and on for ever.
7. An adapter that others scan with is no trouble of whoever finds none left: nothing is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from gatewayd.core.model import State

# How the detail of a radio begins that scans, and of which nothing proves that it hears.
UNPROVEN: Final = "unproven: "

AGAIN_S: Final = 600.0  # a whole ladder takes up to 90 s, and costs some 10 s of hearing: below 2 %
AGAIN_MOST_S: Final = 3600.0  # what a person may have plugged or mended meanwhile is found within the hour
# A scan that ran this long did start, and what failed before is over: a chip that hangs shows it within 2 s,
# after which the kernel gives a command up.
STEADY_S: Final = 4.0


class Finding(StrEnum):
    """What is wrong."""

    SILENT = "silent"  # it scans and hears nothing; there is no canary
    CANARY_SILENT = "canary silent"  # it scans and hears nothing, though a trusted canary should be there
    REFUSED = "refused"  # the scan does not start, or ended by itself
    NO_ANSWER = "no answer"  # bluetoothd hangs
    NOT_RUNNING = "not running"  # there is no bluetoothd, or another one than before
    OFF = "off"  # the adapter is not powered
    GONE = "gone"  # the adapter is not there
    TAKEN = "taken"  # others scan with every adapter there is
    NO_BUS = "no bus"  # there is no D-Bus


class Step(StrEnum):
    """What is done about it, from the cheapest to what disturbs most."""

    LISTEN = "listen on"
    NEW_SCANNER = "new scanner"
    POWER_ON = "adapter power on"
    POWER_CYCLE = "adapter power cycle"
    RESTART_BLUETOOTHD = "bluetoothd restart"
    RESET_USB = "USB reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A step, and the age of the trouble at which it is due."""

    step: Step
    after_s: float


Ladder: TypeAlias = Mapping[Finding, tuple[Rung, ...]]

LADDER: Final[Ladder] = MappingProxyType(
    {
        # Ten minutes: a fresh scan interrupts hearing for a tenth of a second or so.
        Finding.SILENT: (Rung(step=Step.NEW_SCANNER, after_s=600.0),),
        # A canary advertises every second or so. Each rung leaves the one before the time to show.
        Finding.CANARY_SILENT: (
            Rung(step=Step.NEW_SCANNER, after_s=10.0),
            Rung(step=Step.POWER_CYCLE, after_s=30.0),
            Rung(step=Step.RESTART_BLUETOOTHD, after_s=60.0),
            Rung(step=Step.RESET_USB, after_s=90.0),
        ),
        # Four or five scans have been refused by then.
        Finding.REFUSED: (
            Rung(step=Step.POWER_CYCLE, after_s=6.0),
            Rung(step=Step.RESTART_BLUETOOTHD, after_s=20.0),
            Rung(step=Step.RESET_USB, after_s=40.0),
        ),
        # A power cycle is ordered from bluetoothd, which hangs. A call is given up after 4 s: two of them.
        Finding.NO_ANSWER: (
            Rung(step=Step.RESTART_BLUETOOTHD, after_s=8.0),
            Rung(step=Step.RESET_USB, after_s=40.0),
        ),
        # systemd starts it a second after its end, and gives it 15 s.
        Finding.NOT_RUNNING: (Rung(step=Step.RESTART_BLUETOOTHD, after_s=20.0),),
        # Somebody may be switching it off and on. One that rfkill blocks stays off.
        Finding.OFF: (Rung(step=Step.POWER_ON, after_s=30.0),),
        # A chip that crashed may be gone though its USB device is not; or bluetoothd has lost it.
        Finding.GONE: (
            Rung(step=Step.RESET_USB, after_s=15.0),
            Rung(step=Step.RESTART_BLUETOOTHD, after_s=60.0),
        ),
        Finding.TAKEN: (),
        Finding.NO_BUS: (),
    }
)

_SCANNING: Final = frozenset({Finding.SILENT, Finding.CANARY_SILENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """How far the ladder was climbed in this trouble. All times are CLOCK_MONOTONIC."""

    since_s: float  # when the trouble, or this round, began
    taken: frozenset[Step] = frozenset()  # in this round
    last_s: float = 0.0  # when the last step was taken
    rounds: int = 0  # that were climbed in vain


def climb(
    before: Climb, finding: Finding, now_s: float, able: Set[Step], ladder: Ladder = LADDER
) -> tuple[Climb, Step]:
    """The next step about `finding`, and how far the ladder has been climbed then.

    Begin a trouble with `Climb(since_s=…)`. `able`: the steps that can be taken now.
    """
    below = Step.LISTEN if finding in _SCANNING else Step.NEW_SCANNER
    left = [rung for rung in ladder[finding] if rung.step in able and rung.step not in before.taken]
    if not left:
        again_s = min(AGAIN_S * 2**before.rounds, AGAIN_MOST_S)
        if before.taken and now_s - before.last_s >= again_s:
            return Climb(since_s=now_s, rounds=before.rounds + 1), below
        return before, below
    rung = left[0]
    if now_s - before.since_s < rung.after_s:
        return before, below
    return replace(before, taken=before.taken | {rung.step}, last_s=now_s), rung.step


def trusted(
    before: bool, *, heard_s: float | None, canary_s: float | None, began_s: float, within_s: float
) -> bool:
    """Whether a canary's silence shows that the radio is deaf; `before`: whether it did until now.

    `heard_s`: when anything was heard last; `canary_s`: when the canary was; `began_s`: when the scan began.
    All are CLOCK_MONOTONIC. A canary that is well is heard every `within_s` seconds.
    """
    if heard_s is not None and heard_s - (began_s if canary_s is None else canary_s) > within_s:
        return False
    return before or canary_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How the scan of one adapter is, in health's words.

    `until_s`: where it does not hear, or nothing proves it: until when it did, CLOCK_MONOTONIC.
    """

    state: State
    detail: str
    until_s: float | None = field(default=None, compare=False)

    @property
    def proven(self) -> bool:
        """Whether it hears, well or less so."""
        return self.state is not State.FAILED and not self.detail.startswith(UNPROVEN)


def together(each: Iterable[Hearing], *, all_wanted: bool) -> Hearing:
    """How the radio is, given how its adapters are (at least one): as its best one.

    `all_wanted`: every one of them is configured, so one that does not hear is told beside another that does.
    """
    each = tuple(each)
    ranked = sorted(dict.fromkeys(each), key=_rank)
    told = ranked if all_wanted else [hearing for hearing in ranked if _rank(hearing) == _rank(ranked[0])]
    best = ranked[0]
    if best.proven:
        state = State.DEGRADED if any(hearing.state is not State.OK for hearing in told) else State.OK
        return Hearing(state=state, detail="; ".join(hearing.detail for hearing in told))
    lead = "" if best.state is State.FAILED else UNPROVEN
    details = "; ".join(hearing.detail.removeprefix(UNPROVEN) for hearing in told)
    until_s = max((hearing.until_s for hearing in each if hearing.until_s is not None), default=None)
    return Hearing(state=best.state, detail=lead + details, until_s=until_s)


def _rank(hearing: Hearing) -> int:
    """From what hears well to what does not."""
    if hearing.proven:
        return 0 if hearing.state is State.OK else 1
    return 3 if hearing.state is State.FAILED else 2
