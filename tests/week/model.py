"""The model of the rules: what the field binds a week to, judged by what was seen of it from outside.

Written from the figures of the field and the contract, not from the code: it imports nothing of the deciding
part but the contract's reader of times. Each rule is a function that carries its sentence; a claim that fell
says when, where, what was expected and what was seen.

Every figure that binds, and where it is judged:

| figure | judged |
|---|---|
| heard → PUBACK p50 ≤ 10 ms, p99 ≤ 100 ms; ≤ 1 s on a slow card | scripts/bench (accept) |
| the first alarm message waits for nothing | here, without a fix (`pressed`); a slow disk: test_uplink |
| known ≤ 1 s after the session is up, whatever is queued | scripts/bench (first, flood) |
| alarms lost to kill, power cut, full disk, silent link: 0 | here (`pressed`); disks: scripts/kills, faults |
| audio starts ≤ 0.5 s | here, that the daemon asks for it (`listened`); chunk, lag: scripts/bench |
| audio length 10 min, extendable | here (`listened`) |
| loss of the gateway known ≤ 20 s | tests/system/test_network |
| position in an alarm every 5 s for 10 min, then every 30 s | here (`position_in_an_alarm`) |
| older than 30 s or worse than 50 m: `trusted: false` | here (`trusted`, `age_is_true`) |
| tags: seen ≤ 30 s, lost > 60 s; battery low ≤ 20 %, critical ≤ 10 % | here (`tag_states`, `lost_is_told`) |
| panic: cancel delay 0 s | here (`pressed`) |
| derived alarms: pre-alarm 30 s | here (`overdue`) |
| pressed again: 10 s counted, later repeated, 10 min anew; TEST, exercise | here (`pressed`, `tests_end`) |
| two workers within 2 min: corroborated | here (`corroborated`) |
| automatic closing of an actual alarm: never | here (`never_closed_by_time`) |
| `tag_lost` as an alarm: off by default | here (`no_tag_lost_alarm`) |
| a test opens the microphone only if configured | here (`listened`) |
| check-in 5 to 1,440 min, reminder, +15 min, grace 60 s | here (`reminded`, `timer_is_bounded`, `overdue`) |
| press test at least every 30 days | here that untested ones are listed; the 30 days: test_drill |
| retention ≤ 24 h after confirmed delivery, then erased | here, of records (`erased`); pages: test_erased |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from shift.judge import Verdict

from week import handling, presses, surroundings, visits
from week.journal import Journal
from week.presses import Replay
from week.view import Fall, View

_RULES: Final[tuple[Callable[[View], Iterator[Fall]], ...]] = (
    presses.pressed,
    presses.corroborated,
    presses.one_key,
    handling.told_by_whom,
    handling.never_closed_by_time,
    handling.tests_end,
    handling.mode_is_for_life,
    handling.escalated,
    handling.human_states_are_of_humans,
    handling.refused,
    handling.answered,
    handling.listened,
    handling.wearer_is_told_the_truth,
    visits.overdue,
    visits.reminded,
    visits.begins_as_planned,
    visits.timer_is_bounded,
    visits.warned_before,
    visits.address_travels_in_alarms_only,
    visits.erased,
    visits.retained_for_a_day,
    surroundings.trusted,
    surroundings.age_is_true,
    surroundings.position_in_an_alarm,
    surroundings.no_track_between_visits,
    surroundings.tag_states,
    surroundings.lost_is_told,
    surroundings.no_tag_lost_alarm,
    surroundings.daily_test,
    surroundings.tests_are_told,
    surroundings.told_times_are_true,
)
RULES: Final = {rule.__name__: rule for rule in _RULES}


def judge(journal: Journal) -> Verdict:
    """Judge a week that is over."""
    view = View(journal)
    verdict = Verdict()
    falls = [(name, fall) for name, rule in RULES.items() for fall in rule(view)]
    for site in journal.sites:
        verdict.counts += Replay(view, site).run().counts
    verdict.counts["messages"] = len(journal.messages)
    verdict.counts["presses"] = len(journal.presses)
    verdict.counts["visits"] = len(visits.arranged(view))
    for event in view.events:
        if event.type == "raised":
            verdict.counts[f"alarms: {event.mode} {event.body['cause']}"] += 1
        verdict.counts[f"events: {event.type}"] += 1
    verdict.against += [f"{name}: {fall}" for name, fall in sorted(falls, key=lambda each: each[1].at_s)]
    return verdict
