"""What people do about an alarm, written from the figures of the field and the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from week.journal import Command, Fact
from week.view import COARSE_S, LATE_S, NEVER_S, SAME_S, Event, Fall, View, true_s

ESCALATE_S: Final = (30.0, 60.0, 120.0)
EMERGENCY_S: Final = 600.0
LISTEN_S: Final = 600.0  # audio length: 10 min by default
STARTS_S: Final = 0.5  # recording starts
SHOWN: Final = {"received": "received", "on the way": "responding"}  # to a wearer, and what for
# What each command is told as.
TOLD: Final = {
    "alarm/received": {"received"},
    "alarm/accept": {"accepted"},
    "alarm/decline": {"declined"},
    "alarm/respond": {"responding"},
    "alarm/on_scene": {"on_scene"},
    "alarm/escalate": {"escalated"},
    "alarm/note": {"note", "cancel_refused"},
    "alarm/close": {"closed"},
    "alarm/reopen": {"reopened"},
    "alarm/review": {"reviewed"},
    "alarm/raise": {"raised"},
}
AGAIN: Final = {
    "alarm/received",
    "alarm/accept",
    "alarm/respond",
    "alarm/on_scene",
}  # said twice, it is simply so
TAKES: Final = {"accepted", "responding", "on_scene"}
FIRST: Final = ("raised", "received", "accepted", "responding", "on_scene", "closed")


def told_by_whom(view: View) -> Iterator[Fall]:
    """Who received it, who responds, what steps were taken: the timeline, visible to all.

    Each command that was done is one event of its actor, and each event of an actor is of such a command.
    """
    for site in view.journal.sites:
        commands = view.done(site, *TOLD)
        claimed: set[int] = set()
        for came_s, command in commands:
            found = [event for event in view.near(site, came_s) if _tells(event, command)]
            untold = not found and not _again(view, command, came_s)
            if len(found) > 1 or (untold and view.known(site, came_s)):
                expected = f"{command.name} of {command.body['actor']['id']} told once"
                yield Fall(
                    at_s=came_s, site=site, expected=expected, seen=", ".join(map(str, found)) or "nothing"
                )
            claimed |= {id(event) for event in found}
        for event in view.events:
            if event.site == site and event.actor and id(event) not in claimed and event.sure:
                if event.type.startswith("audio"):
                    continue
                expected = f"a command of {event.actor}"
                yield Fall(at_s=event.at_s, site=site, expected=expected, seen=str(event))


def _again(view: View, command: Command, came_s: float) -> bool:
    """Whether its actor has said so already, and it still holds: then there is nothing new to tell."""
    said = False
    for event in view.story(command.site, str(command.body.get("alarm"))):
        if event.at_s > came_s + SAME_S:
            break
        anew = event.type in {"closed", "reopened"} or (event.type == "repeated" and "cause" in event.body)
        if anew or (event.type == "declined" and event.actor == command.body["actor"]["id"]):
            said = False
        said |= command.name in AGAIN and _tells(event, command)
    return said


def _tells(event: Event, command: Command) -> bool:
    return (
        event.type in TOLD[command.name]
        and event.actor == command.body["actor"]["id"]
        and event.alarm == command.body.get("alarm", event.alarm)
    )


def never_closed_by_time(view: View) -> Iterator[Fall]:
    """automatic closing of an actual alarm: never. A TEST ends with its window."""
    for event in view.events:
        if event.type == "closed" and event.mode != "test" and event.actor is None:
            yield Fall(
                at_s=event.at_s, site=event.site, expected="closed by a person", seen=f"{event} by nobody"
            )


def tests_end(view: View) -> Iterator[Fall]:
    """A TEST ends with its window and never absorbs a press outside it."""
    for (site, alarm), events in view.alarms.items():
        first = events[0]
        if first.type != "raised" or first.mode != "test":
            continue
        windows = [
            came_s + command.body["for_s"]
            for came_s, command in view.done(site, "test/press_window")
            if first.tag in command.body["tags"]
            and came_s <= first.at_s <= came_s + command.body["for_s"] + 1
        ]
        ends_s = view.up_s(site, max(windows, default=first.at_s))
        closed_s = next((event.at_s for event in events if event.type == "closed"), NEVER_S)
        late = closed_s > ends_s + COARSE_S and view.known(site, ends_s)
        if late or (
            closed_s < min(windows, default=0.0) - LATE_S and view.timed_all(site, first.at_s, closed_s)
        ):
            yield Fall(
                at_s=ends_s, site=site, expected=f"test {alarm[-6:]} over", seen=f"closed at {closed_s:.0f} s"
            )


def mode_is_for_life(view: View) -> Iterator[Fall]:
    """TEST is fixed at birth and visible everywhere."""
    for key, events in view.alarms.items():
        told = {event.mode for event in events}
        told |= {str(message.body["mode"]) for message in view.states[key] if message.body is not None}
        if len(told) > 1:
            yield Fall(
                at_s=events[0].at_s, site=key[0], expected="one mode", seen=f"{key[1][-6:]}: {sorted(told)}"
            )


def escalated(view: View) -> Iterator[Fall]:
    """escalation by time when nobody takes it (30, 60, 120 s), each step an event; stops when taken."""
    for (site, _), events in view.alarms.items():
        if events[0].type == "raised":
            yield from _escalated(view, site, [event for event in events if _matters(event)])


def _matters(event: Event) -> bool:
    """Whether it changes who has the alarm, or how far it was told."""
    anew = event.type in {"raised", "reopened", "closed"} or (
        event.type == "repeated" and "cause" in event.body
    )
    return anew or event.type in TAKES | {"declined", "escalated"}


def _escalated(view: View, site: str, events: list[Event]) -> Iterator[Fall]:
    since_s: float | None = None
    level = 0
    at_it: set[str] = set()
    told = [event for event in events if event.type == "escalated" and event.body.get("reason") == "time"]
    expected: list[tuple[float, float, float, int]] = []  # from, due, until, level
    for event, until_s in zip(events, [*(each.at_s for each in events[1:]), NEVER_S], strict=True):
        before = since_s
        if event.type in {"raised", "reopened"} or (event.type == "repeated" and "cause" in event.body):
            at_it.clear()
            since_s, level = event.at_s, 0
        elif event.type in TAKES:
            at_it.add(str(event.actor))
            since_s = None
        elif event.type == "declined":
            at_it.discard(str(event.actor))
            if not at_it and before is None:
                since_s, level = event.at_s, 0
        elif event.type == "closed":
            since_s = None
        elif event.type == "escalated":
            level = int(event.body["level"])
        if since_s is not None and event.mode != "test" and level < len(ESCALATE_S):
            expected.append((since_s, since_s + ESCALATE_S[level], until_s, level + 1))
    yield from _compared(view, site, told, expected)


def _compared(
    view: View, site: str, told: list[Event], expected: list[tuple[float, float, float, int]]
) -> Iterator[Fall]:
    for _, due_s, until_s, level in expected:
        acts_s = view.up_s(site, due_s)
        if until_s > acts_s + LATE_S and view.known(site, acts_s):
            yield Fall(
                at_s=due_s,
                site=site,
                expected=f"escalated to level {level}, since nobody took it",
                seen="nothing",
            )
    for event in told:
        fits = [
            (from_s, due_s)
            for from_s, due_s, until_s, level in expected
            if level == event.body["level"] and abs(until_s - event.at_s) < SAME_S
        ]
        early = fits and all(
            event.at_s < due_s - SAME_S and view.timed_all(site, from_s, event.at_s) for from_s, due_s in fits
        )
        if not fits or early:
            yield Fall(at_s=event.at_s, site=site, expected="no such escalation, or later", seen=str(event))


def human_states_are_of_humans(view: View) -> Iterator[Fall]:
    """Three meanings of received: the broker has it; a console showed it; a person took it."""
    for (site, alarm), states in view.states.items():
        events = view.story(site, alarm)
        raised_s = next((event.came_s for event in events if event.type == "raised"), None)
        for message in states:
            body = message.body
            assert body is not None
            at_s = true_s(body["at"]) if body["clock"]["source"] == "ntp" else message.happened_s
            may = _handlings(events, at_s)
            if body["handling"] not in may:
                yield Fall(at_s=at_s, site=site, expected=f"handling {'/'.join(may)}", seen=body["handling"])
            confirmed = body["delivery"].get("confirmed_at")
            if (
                confirmed is None
                or raised_s is None
                or not view.journal.was(site, Fact.RIGHT, message.came_s)
            ):
                continue
            # Of an earlier boot that did not know the time nobody can tell it rightly.
            timed = view.journal.was(site, Fact.RIGHT, raised_s) or view.up_all(
                site, raised_s, message.came_s
            )
            if timed and true_s(confirmed) < raised_s - SAME_S:
                yield Fall(at_s=at_s, site=site, expected="confirmed once the broker has it", seen=confirmed)


def _handlings(events: list[Event], at_s: float) -> list[str]:
    """How far the alarm may be: as people have done by then, and at that very moment."""
    may: list[str] = []
    handling = "raised"
    by: dict[str, str] = {}
    for event in events:
        if event.at_s > at_s + SAME_S:
            break
        if event.at_s > at_s - SAME_S:
            may.append(handling)
        if event.type in TAKES:
            by[str(event.actor)] = event.type
        elif event.type == "declined":
            by.pop(str(event.actor), None)
        elif event.type in {"closed", "reopened"} or (event.type == "repeated" and "cause" in event.body):
            by.clear()
        handling = _next(handling, event, by)
    return [*may, handling]


def _next(handling: str, event: Event, by: dict[str, str]) -> str:
    if event.type == "raised" or (event.type == "repeated" and "cause" in event.body):
        return "raised"
    if event.type in {"closed", "reopened"}:
        return "closed" if event.type == "closed" else "received"
    if event.type == "received" and handling == "raised":
        return "received"
    if event.type in TAKES or event.type == "declined":
        furthest = max(by.values(), key=FIRST.index, default=None)
        return furthest or ("raised" if handling == "raised" else "received")
    return handling


def refused(view: View) -> Iterator[Fall]:
    """every malformed, expired or retained command is refused with its code, and changes nothing."""
    for command in view.journal.commands.values():
        if command.body["actor"]["id"] != "eve" or command.came_s is None or command.reply is None:
            continue
        timed = view.journal.was(command.site, Fact.RIGHT, command.came_s)
        by_time = {"expires_at", "expected_end"} & set(command.body)
        if command.done and (timed or not by_time):
            yield Fall(
                at_s=command.came_s, site=command.site, expected="refused", seen=f"{command.body} done"
            )


def answered(view: View) -> Iterator[Fall]:
    """every command is idempotent, and gets its reply: `{id, ok, error{code, message}}`."""
    for command in view.journal.commands.values():
        came_s = command.came_s
        if came_s is None or command.reply is not None or not view.known(command.site, came_s):
            continue
        if view.up_all(command.site, came_s, came_s + COARSE_S):
            yield Fall(at_s=came_s, site=command.site, expected=f"a reply to {command.name}", seen="none")


def listened(view: View) -> Iterator[Fall]:
    """Listening without an open alarm is refused. The microphone is open in an alarm only, 10 min by default.

    "No pre-alarm audio (off by default)"; "a test opens the microphone only if configured"; extendable.
    """
    for site in view.journal.sites:
        wanted = list(_wanted(view, site))
        for began_s, ended_s in view.journal.spans(site, Fact.MICROPHONE):
            at_s = began_s
            while at_s < ended_s - COARSE_S:
                until_s = max(
                    (end_s for from_s, end_s in wanted if from_s - SAME_S <= at_s <= end_s), default=at_s
                )
                if until_s <= at_s + STARTS_S:
                    seen = f"open from {began_s:.0f} to {ended_s:.0f} s"
                    if view.timed_all(site, at_s - EMERGENCY_S, at_s):
                        yield Fall(at_s=at_s, site=site, expected="a closed microphone", seen=seen)
                    break
                at_s = until_s + LATE_S
        for event in view.of_type(site, "raised"):
            open_by = event.mode != "test" and view.up_all(site, event.at_s - 1, event.at_s + STARTS_S)
            if open_by and not view.journal.was(site, Fact.MICROPHONE, event.at_s + STARTS_S):
                yield Fall(at_s=event.at_s, site=site, expected="the microphone open", seen="closed")
        for came_s, command in view.done(site, "listen/start"):
            if not _may_listen(view, site, str(command.body["alarm"]), came_s):
                yield Fall(at_s=came_s, site=site, expected="refused: no open alarm", seen="done")


def _wanted(view: View, site: str) -> Iterator[tuple[float, float]]:
    """From when until when somebody may be heard."""
    for event in view.events:
        anew = event.type in {"raised", "reopened"} or (event.type == "repeated" and "cause" in event.body)
        if event.site == site and anew and event.mode != "test":
            yield event.at_s, event.at_s + LISTEN_S
    for came_s, command in view.done(site, "listen/start"):
        yield came_s, came_s + max(float(command.body["max_s"]), LISTEN_S)


def _may_listen(view: View, site: str, alarm: str, at_s: float) -> bool:
    state = False
    for event in view.story(site, alarm):
        if event.at_s > at_s - SAME_S:
            return state or event.at_s < at_s + SAME_S
        state = {"raised": True, "reopened": True, "closed": False}.get(event.type, state)
    return state


def wearer_is_told_the_truth(view: View) -> Iterator[Fall]:
    """stored, received, on the way: told when it is so.

    "duress looks the same to whoever stands beside the worker": after a cancelling or a duress press nothing
    is told of the alarm any more.
    """
    patterns = {
        settings[name] for settings in view.journal.settings.values() for name in ("cancel", "duress")
    }
    for shown in view.journal.shown:
        if shown.what not in SHOWN:
            continue
        so = [
            event
            for event in view.near(shown.site, shown.at_s, LATE_S)
            if event.type == SHOWN[shown.what] and view.alarms[shown.site, event.alarm][0].tag == shown.where
        ]
        if not so and shown.where != "room":
            yield Fall(
                at_s=shown.at_s, site=shown.site, expected=f"{shown.where} told nothing", seen=shown.what
            )
        for event in so:
            since_s = max(
                each.at_s for each in view.story(shown.site, event.alarm) if _calls(each, shown.at_s)
            )
            if any(
                press.event in patterns and since_s - SAME_S <= press.at_s <= shown.at_s
                for press in view.journal.presses
                if press.tag == shown.where and shown.site in press.heard
            ):
                expected = f"{shown.where} told nothing after it was made to press"
                yield Fall(at_s=shown.at_s, site=shown.site, expected=expected, seen=shown.what)


def _calls(event: Event, until_s: float) -> bool:
    anew = event.type == "raised" or (event.type == "repeated" and "cause" in event.body)
    return anew and event.at_s <= until_s
