"""The alarm as text for the disk, and back from there and from its retained state.

Whatever was damaged on the way is refused with what was expected; nothing is guessed.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from gatewayd.core import payload
from gatewayd.core.alarm.model import (
    TIMELINE,
    UNKNOWN_BOOT,
    Alarm,
    Audio,
    AudioState,
    Cause,
    Part,
    Responder,
    known,
)
from gatewayd.core.alarm.table import Handling
from gatewayd.core.command import LARGEST_BYTES
from gatewayd.core.handling import Outcome
from gatewayd.core.model import Body, ClockSource, Instant, Json, Mode
from gatewayd.core.reader import Reader
from gatewayd.core.uuid7 import derive

NESTING: Final = 8  # levels below a state message's top; its own deepest, a gap in `audio.gaps`, is the third


def to_json(alarm: Alarm) -> str:
    """Return the alarm as it is stored."""
    local = known(
        {
            "spoken": alarm.spoken,
            "called": alarm.called,
            "call_id": alarm.call_id,
            "stated": alarm.stated,
            "decided": alarm.decided,
            "published": alarm.published,
            "positioned": alarm.positioned,
            **alarm.for_people,
            **alarm.written,
            "closing_id": alarm.closing_id,
            "settled": alarm.settled,
            "reviewed": alarm.reviewed,
            "test_s": alarm.test_s,
        }
    )
    return payload.dump({**alarm.body, "local": local})


def from_json(text: str) -> Alarm:
    """Return the alarm `to_json` stored. ValueError that says what was expected when it is damaged."""
    return _read(payload.load(text))


def adopt(data: bytes) -> Alarm:
    """Return the alarm of a retained state message, as far as it tells.

    Its times become instants of an unknown boot. Its sound is over: where its chunks ended nobody here
    knows. ValueError that says what was expected when it is not a state message.
    """
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"expected an alarm state of at most {LARGEST_BYTES} bytes, got {len(data)}")
    try:
        return _adopt(json.loads(data))
    except RecursionError as error:
        raise ValueError("expected an alarm state, got nesting without end") from error


def _adopt(found: object) -> Alarm:
    if not isinstance(found, dict):
        raise ValueError(f"expected an alarm state, got {type(found).__name__}")
    clock = Reader(Reader(found).object("clock"))
    then = Instant(
        boot=UNKNOWN_BOOT,
        mono_s=0.0,
        wall_s=0.0,
        source=clock.choice("source", ClockSource),
        uncertainty_ms=clock.number("uncertainty_ms"),
    )
    body = {key: _with_instants(key, value, then, NESTING) for key, value in found.items()}
    alarm = _read({**body, "local": {}})
    state = AudioState.ENDED if alarm.audio.wanted else alarm.audio.state
    return replace(alarm, audio=replace(alarm.audio, state=state))


def _with_instants(key: str, value: payload.Plain, then: Instant, levels: int) -> Json:
    """Return the value with its times as instants: `at`, and what is called `…_at`."""
    # Whoever stores or tells it later shall not run out of stack.
    if isinstance(value, dict | list) and not levels:
        raise ValueError(f"expected an alarm state of at most {NESTING} levels, got more")
    if isinstance(value, dict):
        return {name: _with_instants(name, item, then, levels - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_instants("", item, then, levels - 1) for item in value]
    if isinstance(value, str) and (key == "at" or key.endswith("_at")):
        return replace(then, wall_s=payload.wall(value))
    return value


def _read(body: Body) -> Alarm:
    state, local = Reader(body), Reader(Reader(body).object("local"))
    delivery, cancel = Reader(state.object("delivery")), Reader(state.object("cancel"))
    escalation = Reader(state.object("escalation"))
    alarm = state.uuid("alarm")
    opened, updated = state.instant("opened_at"), state.instant("updated_at")
    police = state.object("local").get("police")
    return Alarm(
        id=alarm,
        mode=state.choice("mode", Mode),
        cause=state.choice("cause", Cause),
        handling=state.choice("handling", Handling),
        tag=_tag(state),
        press_key=state.optional_text("press_key"),
        presses=state.number("presses"),
        opened=opened,
        pressed=state.instant("pressed_at"),
        spoken=local.optional_instant("spoken") or state.instant("pressed_at"),
        called=local.optional_instant("called") or opened,
        call_id=local.optional_text("call_id") or derive(alarm, "raised"),
        updated=updated,
        stated=local.optional_instant("stated") or updated,
        decided=local.optional_instant("decided"),
        published=local.optional_instant("published"),
        stored=delivery.optional_instant("stored_at"),
        confirmed=delivery.optional_instant("confirmed_at"),
        worker=state.optional_text("worker"),
        visit=local.object("visit") or state.object("visit") or None,
        note=local.optional_text("note"),
        responders=tuple(_responder(Reader(each)) for each in state.objects("responders")),
        waiting=escalation.optional_instant("waiting_at"),
        level=escalation.optional_number("level") or 0,
        cancelled=cancel.optional_instant("requested_at"),
        cancel_refused=cancel.optional_instant("refused_at"),
        audio=_audio(Reader(state.object("audio"))),
        position=state.object("position") or None,
        positioned=local.optional_instant("positioned"),
        corroborated_by=state.texts("corroborated_by"),
        outcome=state.choice("outcome", Outcome) if "outcome" in body else None,
        police=police if isinstance(police, bool) else local.optional_text("police"),
        lesson=local.optional_text("lesson"),
        closed=state.optional_instant("closed_at"),
        closing_id=local.optional_text("closing_id"),
        settled=local.optional_instant("settled"),
        reviewed=local.optional_instant("reviewed"),
        test_s=local.optional_number("test_s"),
        timeline=state.objects("timeline")[-TIMELINE:],
    )


def _tag(state: Reader) -> Body | None:
    tag = state.object("tag")
    if not tag:
        return None
    Reader(tag).text("id")
    return tag


def _responder(responder: Reader) -> Responder:
    return Responder(
        actor=responder.actor("actor"),
        part=responder.choice("state", Part),
        since=responder.instant("since_at"),
        eta=responder.optional_instant("eta_at"),
    )


def _audio(audio: Reader) -> Audio:
    return Audio(
        state=audio.choice("state", AudioState),
        recorded_in=audio.optional_text("recorded_in"),
        ends=audio.optional_instant("ends_at"),
        actor=audio.optional_actor("actor"),
        codec=audio.optional_text("codec"),
        head=audio.optional_text("head"),
        chunks=audio.number("chunks"),
        reason=audio.optional_text("reason"),
        gaps=audio.objects("gaps"),
    )
