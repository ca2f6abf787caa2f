"""What the disk says late: alarms that were open go on, beside what came before it answered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from alarming import ADA, DURATION_S, HEAD, HERE, VISIT, World, recording

from gatewayd.core import topic
from gatewayd.core.alarm import (
    Adopted,
    Alarm,
    AudioState,
    Handling,
    Recalled,
    Save,
    SoundOpened,
    StartAudio,
    Ticked,
    adopt,
)
from gatewayd.core.command import ListenStart
from gatewayd.core.handling import Accept, Close, Outcome


@pytest.fixture
def before() -> World:
    """An earlier run of the daemon."""
    return World()


def restarted(before: World, seconds: float = 10) -> World:
    """The next run, which has begun without the disk."""
    fresh = World()
    fresh.now = replace(before.now, mono_s=before.now.mono_s + seconds, wall_s=before.now.wall_s + seconds)
    return fresh


def at_broker(before: World, alarm: Alarm) -> Alarm:
    """The alarm as the broker's retained state has it."""
    draft = next(draft for draft in reversed(before.drafts) if draft.topic == topic.alarm_state(alarm.id))
    return adopt(json.dumps(before.told(draft)).encode())


def test_what_was_being_recorded_goes_on(before: World) -> None:
    """The microphone is opened for what is left of it."""
    alarm = recording(before)
    fresh = restarted(before)
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert StartAudio(alarm=alarm.id) in fresh.effects
    assert fresh[alarm].audio.state is AudioState.STARTING
    fresh.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    assert fresh.types == ["audio_started"]


def test_it_joins_what_is_being_recorded_by_then(before: World) -> None:
    """And says so; nobody's microphone is opened twice."""
    alarm = recording(before)
    fresh = restarted(before)
    other = recording(fresh, "t-2", "w-2")
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh.types == ["audio_started"]
    assert fresh.events[0].body["recorded_in"] == other.id
    assert not any(isinstance(effect, StartAudio) for effect in fresh.effects)
    assert fresh[alarm].audio.recorded_in == other.id


def test_it_joins_what_is_only_beginning(before: World) -> None:
    """It is told once there is sound."""
    alarm = recording(before)
    fresh = restarted(before)
    other = fresh.press("t-2", "w-2")
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh.types == []
    fresh.do(SoundOpened(alarm=other.id, codec="opus", head=HEAD))
    assert fresh.types == ["audio_started", "audio_started"]


def test_a_recording_that_is_over_is_told_so(before: World) -> None:
    """Beside another's, too, which goes on."""
    alarm = recording(before)
    fresh = restarted(before, DURATION_S + 1)
    other = recording(fresh, "t-2", "w-2")
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh.types == ["audio_ended"]
    assert fresh[other].audio.state is AudioState.RECORDING


def test_an_adopted_alarm_gets_back_what_only_the_disk_has(before: World) -> None:
    """The address, when it was called, its sound; and what was done about it since stays."""
    alarm = before.press(visit=VISIT, position=HERE)
    retained = at_broker(before, alarm)
    before.do(SoundOpened(alarm=alarm.id, codec="opus", head=HEAD))
    fresh = restarted(before)
    fresh.do(Adopted(alarm=retained, lasting=False))
    assert not any(
        isinstance(effect, Save) for effect in fresh.effects
    )  # or the disk's would be written over
    assert "address" not in fresh[alarm].for_people["visit"]  # type: ignore[operator]
    fresh.command(Accept(alarm=alarm.id))
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert (fresh[alarm].visit, fresh[alarm].pressed) == (VISIT, alarm.pressed)
    assert (fresh[alarm].handling, fresh[alarm].owner) == (Handling.ACCEPTED, ADA.body)
    assert StartAudio(alarm=alarm.id) in fresh.effects
    assert Save(alarm=fresh[alarm]) in fresh.effects


@pytest.mark.parametrize("order", [Accept, Close])
def test_the_disk_knows_better_what_the_broker_was_not_told(
    before: World, order: type[Accept | Close]
) -> None:
    """Power went between the disk and the broker: who took it, or that it is closed, is told now."""
    alarm = recording(before)
    retained = at_broker(before, alarm)
    before.command(Accept(alarm=alarm.id) if order is Accept else Close(alarm=alarm.id, outcome=Outcome.REAL))
    fresh = restarted(before, 65)
    fresh.settings = replace(fresh.settings, escalate_after_s=(60.0,))
    fresh.do(Adopted(alarm=retained, lasting=False))
    fresh.do(Ticked())
    assert "escalated" in fresh.types
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh[alarm].handling is before[alarm].handling
    assert (fresh[alarm].owner, fresh[alarm].outcome) == (before[alarm].owner, before[alarm].outcome)
    assert fresh.state(alarm)["handling"] == before[alarm].handling
    assert Save(alarm=fresh[alarm]) in fresh.effects


def test_a_press_meanwhile_is_in_no_closed_alarm(before: World) -> None:
    alarm = before.press()
    retained = at_broker(before, alarm)
    before.command(Close(alarm=alarm.id, outcome=Outcome.REAL))
    fresh = restarted(before, 60)
    fresh.do(Adopted(alarm=retained, lasting=False))
    fresh.press()
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert (fresh[alarm].open, fresh[alarm].presses) == (True, 2)


def test_a_press_meanwhile_counts(before: World) -> None:
    """The alarm knows of it, and of the visit's address again."""
    alarm = before.press(visit=VISIT)
    fresh = restarted(before, 60)
    fresh.do(Adopted(alarm=at_broker(before, alarm), lasting=False))
    called = fresh.press().called
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert (fresh[alarm].presses, fresh[alarm].called) == (2, called)
    assert fresh[alarm].visit is not None
    assert fresh[alarm].visit["address"] == VISIT["address"]  # type: ignore[index]


def test_a_listening_meanwhile_goes_on(before: World) -> None:
    """It is the alarm's own recording."""
    alarm = recording(before)
    fresh = restarted(before)
    fresh.do(Adopted(alarm=at_broker(before, alarm), lasting=False))
    fresh.command(ListenStart(alarm=alarm.id, max_s=60))
    before_it = fresh[alarm].audio
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh[alarm].audio == before_it
    assert not any(isinstance(effect, StartAudio) for effect in fresh.effects)


def test_a_closed_alarm_is_known_again(before: World) -> None:
    """It can be reopened, and is erased in its time."""
    alarm = before.press()
    before.command(Close(alarm=alarm.id, outcome=Outcome.FALSE))
    fresh = restarted(before)
    fresh.do(Recalled(alarms=(before[alarm],)))
    assert fresh[alarm].handling is Handling.CLOSED


def test_what_the_disk_never_knew_is_stored_then(before: World) -> None:
    alarm = before.press()
    fresh = restarted(before)
    fresh.do(Adopted(alarm=at_broker(before, alarm), lasting=False))
    fresh.do(Recalled(alarms=()))
    assert fresh.effects == (Save(alarm=fresh[alarm]),)
