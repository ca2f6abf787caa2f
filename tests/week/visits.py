"""What is asked of visits, written from the figures of the field: check-in, its timer, and its privacy."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from week.journal import Fact
from week.view import COARSE_S, LATE_S, NEVER_S, SAME_S, Event, Fall, View, true_s

REMINDER_S: Final = 300.0  # as configured: "reminder before the end"
GRACE_S: Final = 60.0
PRE_ALARM_S: Final = 30.0
EXTENSION_S: Final = 900.0
AGAIN_S: Final = 60.0  # who presses check-out again to be sure ends no visit that follows
SHORTEST_S: Final = 5 * 60.0
ON_ITS_WAY_S: Final = 30.0  # so late may a visit that begins at once be heard of: people said 5 min
DAY_S: Final = 24 * 3600.0
EARLY_S: Final = 2 * 3600.0  # so much before that a gateway may erase, to be in time
CRITICAL_PCT: Final = 10
LOST_S: Final = 60.0


@dataclass(slots=True)
class Visit:
    """One, as people arranged it."""

    site: str
    id: str
    opened: dict[str, Any]
    opened_s: float
    starts_s: float
    ends: list[tuple[float, float]]  # since when it is to end when
    closed_s: float = NEVER_S
    followed_s: float = NEVER_S  # when the next one, of a worker for whom help was called, closed it
    unsure: bool = False  # its worker checked out while no clock told which visit it was of

    @property
    def worker(self) -> str:
        return str(self.opened["worker"])

    @property
    def over_s(self) -> float:
        return min(self.closed_s, self.followed_s)


def arranged(view: View) -> list[Visit]:
    """The visits that were opened, with all that people did about them."""
    visits: dict[tuple[str, str], Visit] = {}
    for site in view.journal.sites:
        for came_s, command in view.done(site, "visit/open", "visit/extend", "visit/close"):
            key = site, str(command.body["visit"])
            if command.name == "visit/open":
                body = command.body
                starts_s = true_s(body["expected_start"]) if "expected_start" in body else came_s
                visits[key] = Visit(
                    site=site,
                    id=key[1],
                    opened=body,
                    opened_s=came_s,
                    starts_s=max(starts_s, came_s),
                    ends=[(came_s, true_s(body["expected_end"]))],
                )
            elif command.name == "visit/extend":
                visit = visits[key]
                visit.ends.append((came_s, max(visit.ends[-1][1], came_s) + EXTENSION_S))
            else:
                visits[key].closed_s = min(came_s, visits[key].closed_s)
    found = list(visits.values())
    _follow(view, found)
    _check_out(view, found)
    return found


def _follow(view: View, visits: list[Visit]) -> None:
    """Where help was called for a visit, the worker's next one closes it as it begins, once a clock tells."""
    for later in visits:
        began_s = _begins_s(view, later, later.starts_s)
        for visit in visits if began_s < later.closed_s else ():
            same = (visit.site, visit.worker) == (later.site, later.worker) and visit is not later
            ends = [end_s for since_s, end_s in visit.ends if since_s <= began_s]
            called_s = max(ends, default=NEVER_S) + GRACE_S + PRE_ALARM_S
            if same and visit.starts_s < later.starts_s and called_s < began_s + SAME_S:
                timed_s = view.journal.first_s(visit.site, Fact.TIMED, began_s)
                visit.followed_s = min(visit.followed_s, timed_s)


def _check_out(view: View, visits: list[Visit]) -> None:
    """A press of check-out ends the visit its worker is on, but for one that is pressed again to be sure."""
    outs: dict[tuple[str, str], float] = {}
    for press in view.journal.presses:
        for visit in visits:
            if press.event != view.journal.settings[visit.site]["check_out"] or press.worker != visit.worker:
                continue
            heard_s = next((view.up_s(visit.site, at_s) for at_s in press.heard.get(visit.site, [])), NEVER_S)
            began_s = _begins_s(view, visit, visit.starts_s)
            if heard_s - press.at_s < COARSE_S and began_s <= heard_s < visit.over_s:
                timed = view.journal.was(visit.site, Fact.TIMED, heard_s)
                visit.unsure |= "expected_start" in visit.opened and not timed
                moments = [outs.get((visit.site, visit.worker), -NEVER_S)]
                moments += [began_s] if "expected_start" in visit.opened else []
                visit.unsure |= abs(heard_s - max(moments) - AGAIN_S) < COARSE_S
                if heard_s < visit.ends[-1][1] + DAY_S and heard_s - max(moments) >= AGAIN_S:
                    visit.closed_s = outs[visit.site, visit.worker] = heard_s


def _timed(view: View, visit: Visit, until_s: float) -> bool:
    """Whether the time was known to the gateway from the visit's opening on."""
    site = visit.site
    return view.journal.was(site, Fact.RIGHT, visit.opened_s) and view.timed_all(
        site, visit.opened_s, until_s
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Something that a visit's end brings about unless people act first."""

    at_s: float  # when it is due
    until_s: float  # when people changed the end or closed it


def _dues(visit: Visit, after_s: float) -> Iterator[Due]:
    """One for each end, `after_s` it (negative: before)."""
    for (since_s, end_s), until_s in zip(
        visit.ends, [*(since_s for since_s, _ in visit.ends[1:]), NEVER_S], strict=True
    ):
        yield Due(at_s=max(end_s + after_s, since_s, visit.starts_s), until_s=min(until_s, visit.closed_s))


def overdue(view: View) -> Iterator[Fall]:
    """Check-in and check-out: a visit with an expected end; overdue becomes an alarm, also when offline.

    "Derived alarms (overdue, …): pre-alarm 30 s", "grace 60 s"; whatever restarts, or sets the clock.
    """
    raised: dict[tuple[str, str], list[Event]] = {}
    for event in view.events:
        if event.type == "raised" and event.body["cause"] == "overdue":
            raised.setdefault((event.site, str(event.body["visit"]["id"])), []).append(event)
    visits = arranged(view)
    for visit in visits:
        alarms = raised.pop((visit.site, visit.id), [])
        if not visit.unsure:
            yield from _alarmed(view, visit, alarms)
    for (site, name), alarms in raised.items():
        yield Fall(
            at_s=alarms[0].at_s,
            site=site,
            expected=f"no alarm of {name}, which is no visit",
            seen=str(alarms[0]),
        )


def _alarmed(view: View, visit: Visit, alarms: list[Event]) -> Iterator[Fall]:
    site = visit.site
    fitting: set[str] = set()
    for due in _dues(visit, GRACE_S + PRE_ALARM_S):
        acts_s = view.up_s(site, due.at_s)  # also of one that waited for the visit before
        if not _timed(view, visit, acts_s):
            acts_s += GRACE_S + PRE_ALARM_S  # nobody knows: it errs towards alarming
        if due.until_s > acts_s + LATE_S and view.known(site, acts_s):
            mine = [event for event in alarms if due.at_s - SAME_S <= event.at_s <= acts_s + LATE_S]
            if not mine and not _early(view, visit, alarms):
                expected = f"an alarm: {visit.id} is overdue"
                seen = ", ".join(map(str, alarms)) or f"nothing, closed at {visit.closed_s:.0f} s"
                yield Fall(at_s=due.at_s, site=site, expected=expected, seen=seen)
        fitting |= {
            event.alarm for event in alarms if due.at_s - SAME_S <= event.at_s <= due.until_s + SAME_S
        }
    for event in alarms:
        if event.alarm not in fitting and _timed(view, visit, event.at_s) and event.sure:
            yield Fall(at_s=event.at_s, site=site, expected=f"no alarm of {visit.id} then", seen=str(event))
        address = event.body["visit"].get("address")
        if address != visit.opened.get("address"):
            yield Fall(at_s=event.at_s, site=site, expected=f"the address of {visit.id}", seen=str(address))


def _early(view: View, visit: Visit, alarms: list[Event]) -> bool:
    """Whether it was alarmed before, while no clock told that it was too early."""
    return any(not _timed(view, visit, event.at_s) for event in alarms)


def _begins_s(view: View, visit: Visit, at_s: float, *, as_: Collection[str] = ("open",)) -> float:
    """When it began, if it was told to begin only after that: its worker was still on another visit."""
    told = [
        message.happened_s
        for message in view.visits[visit.site, visit.id]
        if message.body is not None and message.body["state"] in as_
    ]
    return told[0] if told and told[0] > at_s else at_s


def reminded(view: View) -> Iterator[Fall]:
    """reminder before the end; +15 min extension; grace 60 s: told on the visit's topic when each is due."""
    for visit in arranged(view):
        for state, after_s in (("reminded", -REMINDER_S), ("overdue", GRACE_S)):
            for due in () if visit.unsure else _dues(visit, after_s):
                yield from _told(view, visit, state, due)


def _told(view: View, visit: Visit, state: str, due: Due) -> Iterator[Fall]:
    site = visit.site
    told = [
        message.happened_s
        for message in view.visits[site, visit.id]
        if message.body is not None and message.body["state"] == state
    ]
    whole = view.up_all(site, due.at_s - 1, due.at_s + LATE_S)
    online = view.journal.throughout(site, Fact.ONLINE, due.at_s - 1, due.at_s + LATE_S)
    timed = _timed(view, visit, due.at_s)
    # One that begins less than a reminder before its end is told as reminded at once.
    late_start = state == "reminded" and _begins_s(view, visit, due.at_s, as_=("open", state)) > due.at_s
    wanted = due.until_s > due.at_s + LATE_S and whole and online and timed and not late_start
    if wanted and not any(abs(at_s - due.at_s) <= LATE_S for at_s in told):
        seen = ", ".join(f"{at_s - due.at_s:+.0f} s" for at_s in told) or "nothing"
        yield Fall(at_s=due.at_s, site=site, expected=f"{visit.id} {state}", seen=seen)


def begins_as_planned(view: View) -> Iterator[Fall]:
    """A visit has the time that people planned it for: where a clock tells, it does not begin before."""
    for visit in arranged(view):
        messages = [message for message in view.visits[visit.site, visit.id] if message.body is not None]
        for message, until_s in zip(
            messages, [*(each.came_s for each in messages[1:]), visit.starts_s], strict=True
        ):
            assert message.body is not None
            at_s = message.came_s + COARSE_S
            known = view.journal.throughout(visit.site, Fact.RIGHT, message.came_s, at_s)
            lasts = at_s < min(until_s, visit.starts_s - LATE_S)
            steady = view.up_all(visit.site, message.came_s, at_s)
            if lasts and known and steady and message.body["state"] not in {"planned", "closed"}:
                seen = f"{message.body['state']} {visit.starts_s - message.came_s:.0f} s before"
                yield Fall(at_s=message.came_s, site=visit.site, expected=f"{visit.id} planned", seen=seen)


def timer_is_bounded(view: View) -> Iterator[Fall]:
    """check-in timer 5 to 1,440 min."""
    for site in view.journal.sites:
        for came_s, command in view.done(site, "visit/open"):
            body = command.body
            starts_s = true_s(body["expected_start"]) if "expected_start" in body else came_s
            length_s = true_s(body["expected_end"]) - max(starts_s, came_s)
            right = view.journal.was(site, Fact.RIGHT, came_s)
            shortest_s = SHORTEST_S - (0.0 if "expected_start" in body else ON_ITS_WAY_S)
            if right and not shortest_s - 1 <= length_s <= 1_440 * 60.0 + 1:
                yield Fall(
                    at_s=came_s, site=site, expected="5 to 1440 min", seen=f"{length_s / 60:.1f} min taken"
                )


def warned_before(view: View) -> Iterator[Fall]:
    """Is the button charged and worn? supervision of every tag: told before the visit.

    A visit that begins while its worker's tag has been unheard for long, or whose battery is critical, warns;
    one whose tag is well does not.
    """
    for visit in arranged(view):
        site = visit.site
        tags = [tag for tag, worker in view.journal.settings[site]["tags"].items() if worker == visit.worker]
        at_s = view.up_s(site, visit.starts_s)
        told = [
            message
            for message in view.visits[site, visit.id]
            if message.body is not None and message.happened_s <= at_s + LATE_S
        ]
        online = view.journal.throughout(site, Fact.ONLINE, at_s - 1.0, at_s + LATE_S)
        steady = online and view.up_all(site, at_s - 2 * LOST_S, at_s + LATE_S)
        if not tags or not told or not steady or visit.closed_s < at_s + LATE_S:
            continue
        assert told[-1].body is not None
        warnings = set(told[-1].body.get("warnings", []))
        for warning, is_so in _doubts(view, site, tags[0], at_s).items():
            if is_so is not None and is_so is not (warning in warnings):
                yield Fall(
                    at_s=at_s,
                    site=site,
                    expected=f"{visit.id} {warning}: {is_so}",
                    seen=str(sorted(warnings)),
                )


def _doubts(view: View, site: str, tag: str, at_s: float) -> dict[str, bool | None]:
    """What is wrong with a tag; None: it is just becoming so."""
    heard = [heard_s for heard_s in view.journal.on_air[site, tag] if heard_s <= at_s]
    silent_s = at_s - heard[-1] if heard else NEVER_S
    batteries = [
        (since_s, pct) for since_s, pct in view.journal.batteries[tag] if since_s <= (heard or [0.0])[-1]
    ]
    critical = bool(batteries) and batteries[-1][1] <= CRITICAL_PCT
    lost = None if LOST_S - COARSE_S < silent_s < LOST_S + COARSE_S else silent_s > LOST_S
    return {"tag_lost": lost, "battery_critical": critical}


def address_travels_in_alarms_only(view: View) -> Iterator[Fall]:
    """The exact address behind the door: sent ahead and attached to the alarm; never in a retained topic."""
    for message in view.journal.messages:
        if message.retain and message.body is not None and not message.topic.startswith(("tag", "health")):
            text = json.dumps(message.body)
            for secret in ("Street-", "Note-"):
                if secret in text:
                    at_s, site = message.came_s, message.site
                    yield Fall(
                        at_s=at_s, site=site, expected=f"no {secret} in {message.topic}", seen=text[:200]
                    )
    visits = arranged(view)
    for event in view.events:
        if event.type != "raised" or event.mode == "test":
            continue
        worker = event.body.get("tag", event.body).get("worker")
        mine = [
            visit
            for visit in visits
            if visit.site == event.site
            and visit.worker == worker
            and _begins_s(view, visit, visit.starts_s) + SAME_S < event.at_s < visit.over_s - SAME_S
            and event.at_s < visit.ends[-1][1] + DAY_S - EARLY_S
        ]
        sent = [visit.id for visit in mine]
        told = event.body.get("visit", {}).get("id")
        for visit in visits:
            stale = event.at_s > visit.ends[-1][1] + DAY_S + LATE_S
            if stale and event.sure and (visit.site, visit.id) == (event.site, told):
                yield Fall(at_s=event.at_s, site=event.site, expected=f"{told} erased", seen=str(event))
        due = event.body["cause"] == "overdue"  # it tells the visit that is, see above
        if mine and told not in sent and event.sure and not due:
            yield Fall(
                at_s=event.at_s, site=event.site, expected=f"{event} with visit {sent}", seen=str(told)
            )


def erased(view: View) -> Iterator[Fall]:
    """retention on the gateway after confirmed delivery: ≤ 24 h, then erased."""
    visits = {
        str(visit.opened["address"]["street"]): visit for visit in arranged(view) if "address" in visit.opened
    }
    alarmed: dict[str, float] = {}
    for event in view.events:
        name = event.body.get("visit", {}).get("id")
        if name is not None:
            ended = [each.at_s for each in view.story(event.site, event.alarm) if each.type == "closed"]
            alarmed[name] = max(alarmed.get(name, 0.0), max(ended, default=NEVER_S))
    for look in view.journal.looks:
        visit = visits.get(look.secret)
        if visit is None or not look.found:
            continue
        over_s = max(min(visit.over_s, visit.ends[-1][1] + DAY_S), alarmed.get(visit.id, 0.0))
        acted = view.up_s(look.site, over_s + DAY_S) + COARSE_S
        if look.at_s > acted and view.journal.first_s(look.site, Fact.ONLINE, over_s) < look.at_s - DAY_S:
            yield Fall(
                at_s=look.at_s, site=look.site, expected=f"{look.secret} erased", seen="still on the disk"
            )


def retained_for_a_day(view: View) -> Iterator[Fall]:
    """visit/{visit}: retained while open, message expiry 24 h after its end."""
    for visit in arranged(view):
        messages = [message for message in view.visits[visit.site, visit.id] if message.retain]
        if not messages:
            continue
        last = messages[-1]
        planned_s = visit.ends[-1][1]
        assert last.body is not None
        if visit.closed_s < NEVER_S:
            due_s = visit.closed_s + DAY_S
        elif last.body["state"] == "closed":
            due_s = planned_s + DAY_S
        else:  # as long as nobody says otherwise
            due_s = max(planned_s, last.came_s) + DAY_S
        gone_s = last.came_s + (last.expires_s if last.expires_s is not None else NEVER_S)
        if gone_s > max(due_s, last.came_s) + COARSE_S:
            yield Fall(
                at_s=last.came_s, site=visit.site, expected=f"{visit.id} to expire", seen=str(last.expires_s)
            )
