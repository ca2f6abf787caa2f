"""Who gets the microphone: one recording at a time, shared by every open alarm that wants it.

The recording belongs to the alarm that began it, its recorder; the others are recorded in it. Each says until
when it wants sound; the recording ends when none does, though its recorder may have been closed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from typing import TypeAlias

from gatewayd.core.alarm.events import StartAudio, StopAudio
from gatewayd.core.alarm.model import GAPS, Alarm, Audio, AudioState, elapsed_s, known, later
from gatewayd.core.alarm.table import Trigger
from gatewayd.core.alarm.turn import Told, Turn
from gatewayd.core.command import LONGEST_LISTEN_S
from gatewayd.core.model import Body

_Change: TypeAlias = Callable[[Audio], Audio]


def listen(turn: Turn, alarm: Alarm, for_s: float, actor: Body | None = None) -> Alarm:
    """Have the alarm recorded for at least `for_s` seconds from now: begin, join or extend the recording."""
    recorder = current_recorder(turn)
    ends = later(turn.now, for_s)
    audio = alarm.audio
    if audio.wanted:
        if audio.ends is not None and elapsed_s(ends, audio.ends) > 0:
            ends = audio.ends
        alarm = turn.save(replace(alarm, audio=replace(audio, ends=ends, actor=actor)))
        if actor is not None and audio.state is AudioState.RECORDING:
            alarm = _tell(turn, alarm)
    elif recorder is None:
        begun = replace(
            audio, state=AudioState.STARTING, recorded_in=None, ends=ends, actor=actor, reason=None
        )
        alarm = turn.save(replace(alarm, audio=begun))
        turn.effects.append(StartAudio(alarm=alarm.id))
    else:
        joined = replace(
            audio,
            state=recorder.audio.state,
            recorded_in=recorder.id,
            ends=ends,
            actor=actor,
            reason=recorder.audio.reason,
        )
        alarm = turn.save(replace(alarm, audio=joined))
        if joined.state is not AudioState.STARTING:
            alarm = _tell(turn, alarm)
    return alarm


def opened(turn: Turn, alarm: str, codec: str, head: str) -> None:
    """The microphone delivers."""

    def change(audio: Audio) -> Audio:
        return replace(audio, state=AudioState.RECORDING, reason=None)

    recorder = turn.alarms.get(alarm)
    if recorder is not None and recorder.audio.wanted and recorder.audio.recorded_in is None:
        turn.note(replace(recorder, audio=replace(recorder.audio, codec=codec, head=head)))
    _change(turn, alarm, change)


def unavailable(turn: Turn, alarm: str, reason: str) -> None:
    """The microphone does not deliver."""
    _change(turn, alarm, lambda audio: replace(audio, state=AudioState.UNAVAILABLE, reason=reason))


def ended(turn: Turn, alarm: str) -> None:
    """The recording is complete, and with it everyone's part; the state tells how many chunks it has.

    Not when the next one is only starting: then it is the one before that has come to its end.
    """
    recorder = turn.alarms.get(alarm)
    if recorder is not None and recorder.audio.state is not AudioState.STARTING:
        _change(turn, alarm, lambda audio: replace(audio, state=AudioState.ENDED))
        turn.state(turn.alarms[alarm])


def chunked(turn: Turn, alarm: Alarm, chunks: int, gaps: tuple[Body, ...]) -> None:
    """Note how many chunks there are, and keep what sound is missing in the newest."""
    told = (*alarm.audio.gaps, *gaps)[-GAPS:]
    heard = replace(alarm, audio=replace(alarm.audio, chunks=chunks, gaps=told))
    if gaps:
        turn.save(heard)  # what another run of the daemon must not forget
    else:
        turn.note(heard)


def resume(turn: Turn, names: Sequence[str], beside: Alarm | None = None) -> None:
    """Go on recording what was being recorded when the daemon stopped, for as long as was left.

    `beside`: the recorder of a recording that has begun since, which the others join.
    """
    for alarm in (turn.alarms[name] for name in names):
        if not alarm.audio.wanted or (beside is not None and beside.id == alarm.id):
            continue
        audio = _resumed(turn, alarm)
        if beside is not None:
            audio = replace(audio, state=beside.audio.state, recorded_in=beside.id)
        turn.note(replace(alarm, audio=audio))
        if beside is not None and audio.state is not AudioState.STARTING and _left_s(turn, audio) > 0:
            _tell(turn, turn.alarms[alarm.id])
    settle(turn)
    begun = current_recorder(turn)
    if begun is not None and beside is None:
        turn.effects.append(StartAudio(alarm=begun.id))


def stop(turn: Turn, actor: Body) -> bool:
    """End the recording now, whoever wants it. False when there is none."""
    wanting = [alarm for alarm in turn.alarms.values() if alarm.audio.wanted]
    for alarm in wanting:
        turn.note(replace(alarm, audio=replace(alarm.audio, ends=turn.now, actor=actor)))
    settle(turn)
    return bool(wanting)


def settle(turn: Turn) -> None:
    """End the parts that are over, and the recording when nobody wants it any more."""
    wanting = [alarm for alarm in turn.alarms.values() if alarm.audio.wanted]
    if not wanting:
        return
    recorder = current_recorder(turn)
    basis = turn.settings.listen_basis is not None
    current = {alarm.id for alarm in wanting if (alarm.open or basis) and _left_s(turn, alarm.audio) > 0}
    if recorder is None:  # what was stored of it is damaged: nothing is being recorded
        current = set()
    for alarm in wanting:
        if alarm.id not in current and not (current and alarm is recorder):
            _tell(turn, turn.note(replace(alarm, audio=replace(alarm.audio, state=AudioState.ENDED))))
    if recorder is not None and not current:
        turn.effects.append(StopAudio(alarm=recorder.id))


def current_recorder(turn: Turn) -> Alarm | None:
    """Return the alarm whose recording it is; None: nothing is being recorded."""
    return next(
        (alarm for alarm in turn.alarms.values() if alarm.audio.wanted and alarm.audio.recorded_in is None),
        None,
    )


def _left_s(turn: Turn, audio: Audio) -> float:
    return 0.0 if audio.ends is None else -elapsed_s(audio.ends, turn.now)


def _resumed(turn: Turn, alarm: Alarm) -> Audio:
    """Return the part as it goes on in this boot: what is left of it, all of it where nobody can tell.

    More than can have been asked for is left only by a clock that lies behind: nobody can tell then. Whoever
    called for no help is not listened to on a doubt: of a closed alarm nothing is left then.
    """
    audio, duration_s, left_s = alarm.audio, turn.settings.duration_s, 0.0
    untold_s = duration_s if alarm.open else 0.0
    if turn.settings.audio and audio.ends is not None:
        longest_s = duration_s if audio.actor is None else max(duration_s, LONGEST_LISTEN_S)
        gone_s = elapsed_s(later(audio.ends, -longest_s), turn.now)
        left_s = longest_s - gone_s if isfinite(gone_s) else untold_s
    state = AudioState.STARTING if left_s > 0 else audio.state
    return replace(audio, state=state, ends=later(turn.now, left_s))


def _change(turn: Turn, recorder: str, change: _Change) -> None:
    """Change the part of everyone in the recorder's recording, and tell it where the state is another.

    What comes late, of a recording of its own, says nothing of the one it is recorded in by now.
    """
    named = turn.alarms.get(recorder)
    if named is not None and named.audio.recorded_in is not None:
        return
    for alarm in list(turn.alarms.values()):
        if alarm.audio.wanted and recorder in (alarm.id, alarm.audio.recorded_in):
            audio = change(alarm.audio)
            changed = turn.note(replace(alarm, audio=audio))
            if audio.state is not alarm.audio.state:
                _tell(turn, changed)


def _tell(turn: Turn, alarm: Alarm) -> Alarm:
    """Tell how the alarm's part in the recording is now."""
    audio = alarm.audio
    trigger = {
        AudioState.RECORDING: Trigger.AUDIO_STARTED,
        AudioState.UNAVAILABLE: Trigger.AUDIO_UNAVAILABLE,
        AudioState.ENDED: Trigger.AUDIO_ENDED,
    }[audio.state]
    body = known({"recorded_in": audio.recorded_in})
    if trigger is Trigger.AUDIO_STARTED:
        body |= known({"codec": audio.codec if audio.recorded_in is None else None, "ends_at": audio.ends})
        body |= known({"basis": None if alarm.open else turn.settings.listen_basis})
    elif trigger is Trigger.AUDIO_UNAVAILABLE:
        body |= {"reason": audio.reason}
    return turn.tell(alarm, trigger, body, Told(actor=audio.actor))
