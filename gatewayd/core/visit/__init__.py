"""The visit: a worker behind a door until a time, and an alarm when nobody says that it is over. Pure.

Rules:
- A visit is opened by a command, for now or (`expected_start`) for later; its timer runs 5 to 1,440 min. It
  is extended until a time, or by 15 min from its end, or from now where that is past.
- A worker is on one visit at a time: a planned one begins when its start has come and the one before is
  over: closed, or so long past its end that its alarm was raised. Every end is watched: a planned one begins
  at its own end at the latest, also while the one before goes on. So a check-out that was forgotten leaves
  nobody unwatched and costs no alarm; who is said to stay longer is found at that door.
- One whose alarm was raised is closed by the next that is on (`by: next_visit`), unless a better clock may
  yet take that back. Alarms tell the visit that began last, and which one nobody had ended then (`before`).
- Before its end ops are reminded. So long after it (grace) it is overdue: a pre-alarm begins, which the
  worker's tag tells too where it can. When that has passed, an alarm is raised. Closing, a press of check-out
  or an extension ends it at any moment before; after it they change the visit, never the alarm, which only
  people close. Each end that passes raises one alarm, however often it is looked at.
- A press that failed to prove itself checks nobody out: whoever recorded one must not end the watch. Nor does
  one end a planned visit that began only since no clock could tell: it may be of the visit before. As may
  one within `AGAIN_S` of the worker's last check-out, pressed again to be sure, or of the visit's beginning
  by itself: it ends nothing either. Each is told (`check_out_refused`), with the reason.
- Within a boot, deadlines are monotonic: a clock that is set moves none. They are read anew only by a better
  source than the one they were read by, and in another boot.
- Where no clock can tell, the gateway errs towards alarming and says so (`clock_assumed`): one opened then
  ends after 5 min; one that a reboot interrupted has reached its end, and one that was overdue is alarmed at
  once; a planned one begins where its worker is on no other. A clock that is known then takes it back: the
  visit is open again, or planned, and watched to its end, also where an alarm was raised meanwhile.
- Before a visit begins, what is wrong with the worker's tag is told: none, lost, not known, battery critical.
- The address, the note and the code word's reference are told in alarms' events only. They are erased when
  the visit is closed, and what is left of it `FORGET_S` later. One that was alarmed and never closed is
  closed and erased `FORGET_S` after its end: the alarm has what there is to know.

`step` is the whole of it: what is known, what happened, now → what is known, what to do. `table` says what
may happen when; `model` is the visit as a value, stored and told; `orders` is what ops may do about one.
"""

from gatewayd.core.visit.events import (
    CheckedOut,
    Doubts,
    Effect,
    Event,
    Forget,
    Overdue,
    Save,
    Settings,
    Ticked,
    TimeUp,
)
from gatewayd.core.visit.model import Doubt, NoCheckOut, Visit, Visits, from_json, to_json, told_in_alarms
from gatewayd.core.visit.orders import obey
from gatewayd.core.visit.readiness import doubts
from gatewayd.core.visit.step import retell, step
from gatewayd.core.visit.table import TABLE, Trigger, VisitState

__all__ = [
    "TABLE",
    "CheckedOut",
    "Doubt",
    "Doubts",
    "Effect",
    "Event",
    "Forget",
    "NoCheckOut",
    "Overdue",
    "Save",
    "Settings",
    "Ticked",
    "TimeUp",
    "Trigger",
    "Visit",
    "VisitState",
    "Visits",
    "doubts",
    "from_json",
    "obey",
    "retell",
    "step",
    "to_json",
    "told_in_alarms",
]
