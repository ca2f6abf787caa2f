"""What was heard of a tag so far, and whether what is heard now is a press. Pure; one value per assigned tag.

One activation of a button is heard many times, and some of it again much later. The rules:

1. A frame is a copy when it says what the last frame *of its kind* said: the same packet id with the same
   buttons, its counter not lower. A copy is never a press, a second or a day later, before or after a
   restart. Anything else with an event is a press. Every frame counts as the last one, heartbeats too, so an
   id that comes round again (u8, 255 → 0) is a press. Without a packet id the counter stands in for it.
2. The kinds are kept apart, so that a forged or recorded frame can never make a genuine press look like a
   copy: plain; proven (authentic, counter above every one seen); replayed (authentic, counter not above);
   unreadable (encrypted, and no key or a wrong one, or broken).
3. `auth`: proven OK; replayed REPLAYED: a recording, or a tag whose counter began anew with its battery. The
   highest counter never comes down, so a recording can never prove itself; a tag with a new battery stays
   REPLAYED until its counter has passed the old one; a press it still repeats then is not raised again. A
   plain or unreadable frame is FAILED where a key is configured, NONE where none is. All of them raise: a
   press is marked, never dropped.
4. An unreadable frame may hide a press, so each new one is one, of event UNKNOWN. (A tag that sends encrypted
   heartbeats, with the wrong key configured, raises at once and goes on: that cannot be overlooked.)
5. A frame with neither packet id nor counter is a press on the rising edge: its event was not heard for
   `EVENT_SILENCE_S`, or a frame with no event, or another event, came between. So is an identity on the air
   (iBeacon, Eddystone), silent for longer than it is there after a press (`Tag.on_air_s`); one that a tag has
   at rest (`Tag.resting`) only shows that the tag is there. What comes once for each press
   (`TagReport.once`: a notification over a connection) is a press, however soon after another.
6. A frame that counts presses (`TagReport.presses`) is a press when its count is another than the last one of
   its kind of press, and either the button is used now or that count was heard `COUNT_SILENCE_S` before at
   most: then the frames of the press itself were lost. What was pressed in a longer or unknown silence is for
   others to tell, whichever of a tag's counts is heard first. One that began anew at 0 is a new battery.
   Its count may come back to the very number that is known: an equal one is a press when the button is used
   now, was last heard in use with it longer than `BURST_S` ago, and the number at all `COUNT_SILENCE_S` ago:
   in less nobody changes a battery. Where no clock can tell, it is a copy.
7. What else cannot be told raises: a tag's first frame ever, a damaged record, an edge's silence across a
   reboot without a clock.

What is saved may be somewhat older than what was heard (`tag_record`), never older than the last press. A
restart then knows the last press, and ids cannot have come round meanwhile: no press is raised twice or
lost, but for rule 6's, all of whose frames were sent while a killed daemon was down (docs/tags.md). A press
that the application does not want (in no `…_on` of its tag) is heard all the same, and is no press.

`press_key` names a press across gateways: by its packet id where it has one, since firmware that repeats a
press seals it anew under another counter, and each gateway may hear another of these. A packet id comes round
after 256 contents (over half an hour with a heartbeat every 8 s): equal keys mean one press only when they
are heard within minutes of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gatewayd.core.model import Auth, Instant, Intent, Mode, Press, Presses, Tag, TagEvent, TagReport
from gatewayd.core.tag_record import BURST_S, Count, Edge, Frame, Kind, TagPresence, elapsed_s
from gatewayd.core.tags import readable

# A burst of copies comes every 0.1 to 1 s: after 10 s of silence it has ended. A press within 10 s of another
# is counted on the same alarm and would change nothing.
EVENT_SILENCE_S: Final = 10.0
# A tag that counts sends every few seconds, pressed or not: heard so lately, it was here when it was pressed.
COUNT_SILENCE_S: Final = 30.0

# Packet ids are u8. A genuine press cannot have the id of one whose counter is less than this below its own.
PACKET_IDS: Final = 256


def observe(
    presence: TagPresence, tag: Tag, report: TagReport, heard: Instant, rssi_dbm: int | None
) -> tuple[TagPresence, Press | None]:
    """What is known of `tag` after `report`, and the press if it is one. Rules: at the top of the module."""
    frame = _content(report)
    kind, auth = _kind(presence, tag, report, frame)
    frames, edge, counts = presence.frames, presence.edge, presence.counts
    if report.presses is not None:
        counts, new = _next_count(presence, report.buttons[0], report.presses, heard)
    elif report.once:
        new = True
    elif frame is None:
        edge, new = _next_edge(edge, tag, report, heard)
    else:
        new = _is_new(frames, kind, frame)
        frames = frames if frames.get(kind) == frame else {**frames, kind: frame}
    battery_pct, battery_mv = report.battery_pct, report.battery_mv
    if battery_pct is None and battery_mv is None:  # else neither may be of a battery or a setting before
        battery_pct, battery_mv = presence.battery_pct, presence.battery_mv
    presence = replace(
        presence,
        last_seen=heard,
        rssi_dbm=presence.rssi_dbm if rssi_dbm is None else rssi_dbm,
        battery_pct=battery_pct,
        battery_mv=battery_mv,
        auth=auth,
        frames=frames,
        edge=edge,
        counts=counts,
    )
    activation = _activation(tag, report) if new else None
    if activation is None:
        return presence, None
    event, intent, mode, button = activation
    if mode is Mode.TEST:
        presence = replace(presence, last_test=heard)
    number, key = _number(report)
    return presence, Press(
        tag=tag.name,
        event=event,
        heard=heard,
        mode=mode,
        intent=intent,
        button=button,
        auth=auth,
        format=tag.format,
        worker=tag.worker,
        counter=number,
        press_key=None if number is None else f"{tag.name}-{key}",
        copy_key=frame.content if frame is not None else key if report.presses is not None else None,
        battery_pct=presence.battery_pct,
        rssi_dbm=rssi_dbm,
        feedback=tag.feedback,
    )


def _kind(presence: TagPresence, tag: Tag, report: TagReport, frame: Frame | None) -> tuple[Kind, Auth]:
    """Rules 2 and 3."""
    if not report.authenticated:
        kind = Kind.UNREADABLE if report.encrypted else Kind.PLAIN
        return kind, Auth.FAILED if tag.key_expected or tag.key is not None else Auth.NONE
    highest = presence.frames.get(Kind.PROVEN)
    if highest is None or highest == frame or _above(report.counter, highest.counter):
        return Kind.PROVEN, Auth.OK
    return Kind.REPLAYED, Auth.REPLAYED


def _content(report: TagReport) -> Frame | None:
    """What tells a copy from another frame; None where only time can tell (rule 5)."""
    if not readable(report):
        return Frame(content=report.raw.hex())
    if report.packet_id is not None:
        number = f"packet {report.packet_id}"
    elif report.counter is not None:
        number = f"counter {report.counter}"
    else:
        return None
    return Frame(content=f"{number} {','.join(report.buttons)}", counter=report.counter)


def _is_new(frames: Mapping[Kind, Frame], kind: Kind, frame: Frame) -> bool:
    """Rule 1, and at the end of rule 3 the passage from replayed to proven: no second press there."""
    if _repeats(frame, frames.get(kind)):
        return False
    replayed = frames.get(Kind.REPLAYED) if kind is Kind.PROVEN else None
    if replayed is None or frame.counter is None or replayed.counter is None:
        return True
    return frame.counter - replayed.counter >= PACKET_IDS or not _repeats(frame, replayed)


def _repeats(frame: Frame, last: Frame | None) -> bool:
    """Rule 1. A counter that came down is a new battery or a recording, though the id may be the same."""
    return last is not None and frame.content == last.content and not _above(last.counter, frame.counter)


def _above(counter: int | None, other: int | None) -> bool:
    return counter is not None and other is not None and counter > other


def _next_count(
    presence: TagPresence, event: TagEvent, presses: Presses, heard: Instant
) -> tuple[Mapping[str, Count], bool]:
    """Rule 6: the counts after `presses` of a kind, and whether it is one."""
    before = presence.counts.get(event)
    again = before is not None and before.count == presses.count
    used = heard if presses.now else before.used if before is not None and again else None
    counts = {**presence.counts, event.value: Count(count=presses.count, heard=heard, used=used)}
    if before is not None and again:
        return counts, presses.now and _came_back(before, heard)
    if presses.now or before is None or presses.count == 0:
        return counts, presses.now
    silent_s = elapsed_s(before.heard, heard)
    return counts, silent_s is not None and silent_s <= COUNT_SILENCE_S


def _came_back(known: Count, heard: Instant) -> bool:
    """Rule 6: whether a count that is known, in use again, can only be that of a new battery."""
    silent_s = elapsed_s(known.heard, heard)
    unused_s = elapsed_s(known.used or known.heard, heard)
    if silent_s is None or unused_s is None:
        return False
    return silent_s > COUNT_SILENCE_S and unused_s > BURST_S


def _number(report: TagReport) -> tuple[int | None, str]:
    """The number that a press is told with, and what tells it from others of the tag, at any gateway."""
    if report.presses is not None:
        return report.presses.count, f"{report.buttons[0]}-{report.presses.count}"
    number = report.packet_id if report.counter is None else report.counter
    return number, str(number if report.packet_id is None else report.packet_id)


def _next_edge(edge: Edge | None, tag: Tag, report: TagReport, heard: Instant) -> tuple[Edge | None, bool]:
    """Rule 5: the edge after `report`, and whether it rises now."""
    if report.identity is not None and report.identity == tag.resting:
        return edge, False
    if report.identity is not None:
        content, silence_s = "identity", tag.on_air_s
    elif not report.buttons:
        return edge, False  # telemetry: it says nothing of the button
    elif report.event is TagEvent.NONE:
        return None, False
    else:
        content, silence_s = ",".join(report.buttons), EVENT_SILENCE_S
    if edge is not None and edge.content == content:
        silent_s = elapsed_s(edge.heard, heard)
        if silent_s is not None and silent_s <= silence_s:
            return replace(edge, heard=heard), False
    return Edge(content=content, since=heard, heard=heard), True


def _activation(tag: Tag, report: TagReport) -> tuple[TagEvent, Intent, Mode, int | None] | None:
    """The event that counts, what it means, and of which button (from 1); None where none does.

    What is an alarm and something else is an alarm; so is what could not be read. Check-out comes last.
    """
    if not readable(report):
        return TagEvent.UNKNOWN, Intent.ALARM, Mode.ACTUAL, None
    events = (TagEvent.PRESS,) if report.identity is not None else report.buttons
    for intent, mode, wanted in (
        (Intent.ALARM, Mode.ACTUAL, tag.alarm_on | {TagEvent.UNKNOWN}),
        (Intent.DURESS, Mode.ACTUAL, tag.duress_on),
        (Intent.CANCEL, Mode.ACTUAL, tag.cancel_on),
        (Intent.ALARM, Mode.TEST, tag.test_on),
        (Intent.CHECK_OUT, Mode.ACTUAL, tag.checkout_on),
    ):
        for button, event in enumerate(events, start=1):
            if event in wanted - {TagEvent.NONE}:
                return event, intent, mode, button if len(events) > 1 else None
    return None
