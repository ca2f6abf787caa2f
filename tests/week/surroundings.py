"""What is told of places, tags, clocks and tests, written from the figures of the field and the contract."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from week.journal import Fact, Fix, Message
from week.view import COARSE_S, LATE_S, NEVER_S, Fall, View, true_s
from week.visits import arranged

DENSE_S: Final = 5.0
SAME_DEGREES: Final = 1e-6  # a tenth of a metre: what is told is rounded
DENSE_FOR_S: Final = 600.0
SPARSE_S: Final = 30.0
OLD_S: Final = 30.0
POOR_M: Final = 50.0
SEEN_S: Final = 30.0
LOST_S: Final = 60.0
LOW_PCT: Final = 20
CRITICAL_PCT: Final = 10
DAY_S: Final = 86_400.0
HOUR_S: Final = 3_600.0


def positions(view: View) -> Iterator[tuple[Message, dict[str, Any]]]:
    """All that are told, wherever."""
    for message in view.journal.messages:
        if message.body is None:
            continue
        if message.topic == "position":
            yield message, message.body
        elif isinstance(message.body.get("position"), dict):
            yield message, message.body["position"]


def trusted(view: View) -> Iterator[Fall]:
    """a fix older than 30 s, or worse than 50 m: still sent, `trusted: false`; never as the worker's."""
    for message, where in positions(view):
        at_s, site = message.happened_s, message.site
        kind = view.journal.settings[site]["kind"]
        if where["subject"] != kind:
            yield Fall(at_s=at_s, site=site, expected=f"subject {kind}", seen=str(where["subject"]))
        if where["method"] == "hub_fixed":
            continue
        old = where.get("age_s", NEVER_S) > OLD_S
        poor = where.get("eph_m", 0.0) > POOR_M
        if where["trusted"] is (old or poor):
            yield Fall(at_s=at_s, site=site, expected=f"trusted {not (old or poor)}", seen=str(where))


def age_is_true(view: View) -> Iterator[Fall]:
    """Is the location sent, and how is it determined? always, with method, age, accuracy.

    The age is that of the newest fix; one that ended since then may know an earlier one only, whose place it
    tells then.
    """
    for site, fixes in view.journal.fixes.items():
        times_s = [fix.at_s for fix in fixes]
        for message, where in positions(view):
            # What an alarm tells first is of the moment of its press, which may be a copy's before.
            if message.site != site or message.topic != "position" or "age_s" not in where:
                continue
            at_s = message.happened_s
            before = bisect_right(times_s, at_s + 0.1)
            if not before or not view.timed_all(site, times_s[before - 1], at_s):
                continue
            newest_s, told_s = times_s[before - 1], at_s - where["age_s"]
            age_s = at_s - newest_s
            stored = not view.up_all(site, newest_s, at_s) and any(
                abs(told_s - fix.at_s) <= LATE_S and _is_there(where, fix) for fix in fixes[:before]
            )
            if abs(where["age_s"] - age_s) > LATE_S and not stored:
                yield Fall(
                    at_s=at_s, site=site, expected=f"a fix {age_s:.0f} s old", seen=f"{where['age_s']:.0f} s"
                )


def _is_there(where: dict[str, Any], fix: Fix) -> bool:
    return bool(max(abs(where["lat"] - fix.lat), abs(where["lon"] - fix.lon)) < SAME_DEGREES)


def position_in_an_alarm(view: View) -> Iterator[Fall]:
    """position during an alarm: every 5 s for 10 min, then every 30 s."""
    for site in view.journal.sites:
        told = [m.happened_s for m in view.journal.messages if m.site == site and m.topic == "position"]
        told.sort()
        for (where, _), events in view.alarms.items():
            if where != site or events[0].type != "raised":
                continue
            called_s = events[0].at_s
            closed_s = next((event.at_s for event in events if event.type == "closed"), view.journal.ended_s)
            for dense, from_s, until_s in (
                (True, called_s, min(called_s + DENSE_FOR_S, closed_s)),
                (False, called_s + DENSE_FOR_S, closed_s),
            ):
                yield from _gaps(view, site, told, from_s, until_s, dense=dense)


def _gaps(
    view: View, site: str, told: list[float], from_s: float, until_s: float, *, dense: bool
) -> Iterator[Fall]:
    every_s = DENSE_S + LATE_S if dense else SPARSE_S + COARSE_S
    first = bisect_right(told, from_s - 0.1)
    last = bisect_right(told, until_s)
    times = [from_s, *told[first:last], until_s]
    for before_s, after_s in pairwise(times):
        whole = view.up_all(site, before_s - LATE_S, after_s + LATE_S)
        online = view.journal.throughout(site, Fact.ONLINE, before_s - LATE_S, after_s + LATE_S)
        known = site not in view.journal.fixes or any(
            fix.at_s < before_s for fix in view.journal.fixes[site][:1]
        )
        if after_s - before_s > every_s and whole and online and known:
            expected = f"a position every {every_s:.0f} s in an alarm"
            yield Fall(
                at_s=before_s, site=site, expected=expected, seen=f"{after_s - before_s:.0f} s without"
            )


def no_track_between_visits(view: View) -> Iterator[Fall]:
    """No track between visits unless configured (`visit`: visit or alarm, `alarm`)."""
    for site in view.journal.sites:
        spans = list(_followed(view, site))
        policy = view.journal.settings[site]["publish"]
        last_s = 0.0
        for message in view.journal.messages:
            if message.site != site or message.topic != "position":
                continue
            at_s = message.happened_s
            if not any(from_s - LATE_S <= at_s <= until_s + LATE_S for from_s, until_s, _ in spans):
                yield Fall(at_s=at_s, site=site, expected=f"no position ({policy})", seen="one")
            calm = not any(
                from_s - LATE_S <= at_s <= until_s + LATE_S for from_s, until_s, alarm in spans if alarm
            )
            if calm and 0.1 < at_s - last_s < SPARSE_S - LATE_S and view.up_all(site, last_s, at_s):
                expected = f"a position every {SPARSE_S:.0f} s on a visit"
                yield Fall(at_s=at_s, site=site, expected=expected, seen=f"one after {at_s - last_s:.0f} s")
            last_s = at_s


def _followed(view: View, site: str) -> Iterator[tuple[float, float, bool]]:
    """When the vehicle's place may be told, and whether it is for an alarm."""
    for (where, _), events in view.alarms.items():
        if where == site:
            is_open: float | None = None
            for event in events:
                if event.type in {"raised", "reopened"} and is_open is None:
                    is_open = event.at_s
                elif event.type == "closed" and is_open is not None:
                    yield is_open, event.at_s, True
                    is_open = None
            if is_open is not None:
                yield is_open, NEVER_S, True
    if view.journal.settings[site]["publish"] != "visit":
        return
    told: set[str] = set()
    for (where, visit), messages in view.visits.items():
        states = [(m.happened_s, m.body["state"]) for m in messages if m.body is not None]
        begun = [at_s for at_s, state in states if state not in {"planned", "closed"}]
        closed = [at_s for at_s, state in states if state == "closed"]
        if where == site and begun:
            told.add(visit)
            yield begun[0], closed[0] if closed else NEVER_S, False
    for each in arranged(view):
        if each.site == site and each.id not in told:  # offline from its beginning to its end
            yield each.starts_s, min(each.over_s, each.ends[-1][1] + DAY_S), False


def tag_states(view: View) -> Iterator[Fall]:
    """tag states: seen ≤ 30 s, lost > 60 s; battery low ≤ 20 %, critical ≤ 10 %."""
    for message in view.journal.messages:
        kind, _, tag = message.topic.partition("/")
        if kind != "tag" or message.body is None:
            continue
        site, at_s, body = message.site, message.happened_s, message.body
        heard = view.journal.on_air[site, tag]
        # A message tells of tenths of a second: what was heard in that one may have come before it, or after.
        silent_s = _silent_s(heard, at_s + 0.1)
        if body["state"] == "seen" and silent_s > SEEN_S + COARSE_S:
            yield Fall(
                at_s=at_s, site=site, expected=f"{tag} not seen", seen=f"seen, silent for {silent_s:.0f} s"
            )
        silent_s = _silent_s(heard, at_s - 0.1)
        if body["state"] == "lost" and silent_s <= LOST_S - 0.1:
            yield Fall(
                at_s=at_s, site=site, expected=f"{tag} not lost", seen=f"lost, silent for {silent_s:.0f} s"
            )
        if "battery_pct" in body:
            pct = body["battery_pct"]
            is_so = "critical" if pct <= CRITICAL_PCT else "low" if pct <= LOW_PCT else "ok"
            if body["battery"] != is_so:
                yield Fall(at_s=at_s, site=site, expected=f"{tag} at {pct} %: {is_so}", seen=body["battery"])


def _silent_s(heard: list[float], at_s: float) -> float:
    index = bisect_right(heard, at_s)
    return at_s - heard[index - 1] if index else NEVER_S


def lost_is_told(view: View) -> Iterator[Fall]:
    """supervision of every tag: one that is silent for more than 60 s is told as lost, and again as seen."""
    told: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for message in view.journal.messages:
        kind, _, tag = message.topic.partition("/")
        if kind == "tag" and message.body is not None:
            told.setdefault((message.site, tag), []).append((message.happened_s, message.body["state"]))
    for (site, tag), heard in view.journal.on_air.items():
        for last_s, next_s in zip(heard, [*heard[1:], view.journal.ended_s], strict=True):
            by_s = last_s + LOST_S + COARSE_S
            if next_s - last_s < LOST_S + 2 * COARSE_S or not _steady(view, site, last_s - 2 * LOST_S, by_s):
                continue
            if not _others_heard(view, site, tag, last_s + LOST_S / 2 + COARSE_S, by_s - COARSE_S):
                continue  # then nothing shows that the radio heard all that time
            states = [state for at_s, state in told.get((site, tag), []) if at_s <= by_s]
            if not states or states[-1] != "lost":
                yield Fall(at_s=by_s, site=site, expected=f"{tag} told as lost", seen=str(states[-1:]))


def _others_heard(view: View, site: str, tag: str, from_s: float, until_s: float) -> bool:
    return any(
        bisect_right(heard, until_s) > bisect_right(heard, from_s)
        for (where, who), heard in view.journal.on_air.items()
        if where == site and who != tag
    )


def _steady(view: View, site: str, from_s: float, until_s: float) -> bool:
    return view.up_all(site, from_s, until_s) and view.journal.throughout(site, Fact.ONLINE, from_s, until_s)


def no_tag_lost_alarm(view: View) -> Iterator[Fall]:
    """`tag_lost` as an alarm: off by default."""
    for event in view.events:
        if event.type == "raised" and event.body["cause"] == "tag_lost":
            yield Fall(at_s=event.at_s, site=event.site, expected="no alarm for a lost tag", seen=str(event))


def daily_test(view: View) -> Iterator[Fall]:
    """daily automatic end-to-end test per gateway (through the broker and back)."""
    for site in view.journal.sites:
        tests = [m.happened_s for m in view.journal.messages if m.site == site and m.topic == "test"]
        for day in range(int(view.journal.ended_s // DAY_S)):
            # Told within an hour from 04:00 on; where it could not be sent, it is tried again.
            from_s, until_s = day * DAY_S + 5.1 * HOUR_S, (day + 1) * DAY_S
            sent = any(day * DAY_S <= at_s <= until_s for at_s in tests)
            could = any(
                _steady(view, site, at_s, at_s + HOUR_S) and view.timed_all(site, at_s, at_s + HOUR_S)
                for at_s in range(int(from_s), int(until_s - HOUR_S), 900)
            )
            if could and not sent:
                yield Fall(at_s=from_s, site=site, expected="a test that day", seen="none")


def tests_are_told(view: View) -> Iterator[Fall]:
    """human press test per tag: at least every 30 days; overdue tests listed.

    A tag's last test counts. Nobody can tell how long ago one was that was pressed while no clock told the
    time: it may be listed.
    """
    for site, settings in view.journal.settings.items():
        tests = [event for event in view.of_type(site, "raised", "repeated") if event.mode != "actual"]
        for message in view.journal.messages:
            if message.site != site or message.topic != "health" or message.body is None:
                continue
            at_s = message.happened_s
            listed = set(message.body.get("tests", {}).get("overdue", []))
            before = [event for event in tests if event.at_s <= at_s]
            tested = {event.tag: event.at_s for event in before}  # the last of each
            surely = {tag for tag, last_s in tested.items() if view.journal.was(site, Fact.RIGHT, last_s)}
            just = any(abs(event.at_s - at_s) < LATE_S for event in tests)
            untested = set(settings["tags"]) - tested.keys()
            if not just and (listed & surely or untested - listed):
                seen = f"listed {sorted(map(str, listed & surely))}, left out {sorted(untested - listed)}"
                yield Fall(at_s=at_s, site=site, expected="the tags that were never tested", seen=seen)


def told_times_are_true(view: View) -> Iterator[Fall]:
    """`at`: when it happened; `late_s`: publish time minus `at`, always; `clock` says what it is worth."""
    for message in view.journal.messages:
        body = message.body
        if body is None or "at" not in body or body.get("clock", {}).get("source") != "ntp":
            continue
        at_s = true_s(body["at"])
        if at_s > message.came_s + 0.1:
            yield Fall(
                at_s=at_s, site=message.site, expected="nothing told before it happened", seen=message.topic
            )
        if abs(at_s - message.happened_s) > LATE_S and message.boot == body["boot"]:
            expected = f"late_s {message.came_s - at_s:.1f} of {message.topic}"
            yield Fall(at_s=at_s, site=message.site, expected=expected, seen=f"{body['late_s']}")
