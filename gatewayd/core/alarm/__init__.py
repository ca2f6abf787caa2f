"""The alarm: what happens, what people do about it, and what is told of both.

The rules, with the figures they bind to:
- A press raises an alarm at once; nothing is waited for. A tag has one open alarm at a time of each mode: a
  test is never taken for an emergency, nor an emergency for part of a test.
- Pressed again within 10 s of what was last said, a press is counted; later it is `repeated`. So a flood of
  presses says something every 10 s and the alarm does not grow.
- More than 10 min after the last press it is a new emergency under the same id: `repeated` carries all that
  `raised` does, sound starts again and handling goes back to raised, so that somebody has to take it again.
- A press that an alarm read back from the broker tells of is not told again, for as long as its copies may be
  on the air: whoever lost the disk does not know that it was heard.
- After a reboot only wall clocks tell how long ago something was. Where they cannot (one was not known, or
  went back), it was long ago: a press then calls for help, and is never just counted.
- What is derived (`Raised`: a visit that is overdue) is an alarm of its own. It never counts presses, nor
  verifies anybody's: a press while it is open raises another, and so may ops.
- No alarm that is meant is ever closed by the gateway. A test ends with its window, or 10 min after its last
  press where none was announced.
- Each responder has a part of their own, and none is forgotten: the one of those at it who came first is the
  owner, and handling is as far as the furthest of them. It goes back only when one of them declines, when the
  alarm is reopened, or when it is raised again; then they have to answer anew.
- While nobody has it, it is escalated by time, here, so also offline and after a restart (`escalation`).
- A cancelling press is a request: told, answered by ops (closing, or a refusal), and never more. A duress
  press looks like one to whoever stands beside its wearer, and calls for help (`calling`).
- Presses of two workers within 2 min verify each other. Two tags of one worker do not; nor does a press that
  failed to prove itself, nor the wired button's, which anybody may have pressed. A tag without a worker
  counts as somebody of its own.
- There is one microphone. A recording belongs to the alarm that began it; an alarm raised meanwhile extends
  it and says where to listen (`recorded_in`). It ends when no open alarm wants it any more. A test opens it
  only if configured. A closed alarm is listened to only where the configuration records a legal basis, which
  is told.
- Every transition is told as an event and in the retained state; both go before anything else. Deliveries
  and chunks are noted in the state and wait for its next telling. Where a visit is, and what ops wrote, must
  not lie at the broker: events tell it, the address those by which people come to the alarm.

`step` is the whole of it: what is known, what happened, now → what is known, what to do. `table` says which
event may happen when; `model` is the alarm as a value, as it is told; `reading` has it on the disk and back;
`calling` is about what calls for help, `orders` about commands; `sound` shares out the microphone.
"""

from gatewayd.core.alarm.events import (
    Adopted,
    Chunked,
    Commanded,
    Effect,
    Event,
    Forget,
    Hop,
    HopKind,
    Positioned,
    Pressed,
    Publish,
    Raised,
    Recalled,
    Resumed,
    Save,
    Settings,
    SoundEnded,
    SoundOpened,
    SoundUnavailable,
    Spent,
    StartAudio,
    StopAudio,
    Ticked,
)
from gatewayd.core.alarm.model import Alarm, Alarms, Audio, AudioState, Cause
from gatewayd.core.alarm.reading import adopt, from_json, to_json
from gatewayd.core.alarm.step import retell, step
from gatewayd.core.alarm.table import TABLE, Handling, Trigger

__all__ = [
    "TABLE",
    "Adopted",
    "Alarm",
    "Alarms",
    "Audio",
    "AudioState",
    "Cause",
    "Chunked",
    "Commanded",
    "Effect",
    "Event",
    "Forget",
    "Handling",
    "Hop",
    "HopKind",
    "Positioned",
    "Pressed",
    "Publish",
    "Raised",
    "Recalled",
    "Resumed",
    "Save",
    "Settings",
    "SoundEnded",
    "SoundOpened",
    "SoundUnavailable",
    "Spent",
    "StartAudio",
    "StopAudio",
    "Ticked",
    "Trigger",
    "adopt",
    "from_json",
    "retell",
    "step",
    "to_json",
]
