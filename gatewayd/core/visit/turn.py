"""One step's work: the visits as they change, and what is to be done about it.

The only place where a visit's state changes and is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gatewayd.core import topic
from gatewayd.core.alarm.events import Publish
from gatewayd.core.alarm.model import elapsed_s
from gatewayd.core.model import Body, Draft, Instant, Keep, MessageClass
from gatewayd.core.visit.events import Effect, Forget, Save
from gatewayd.core.visit.model import Visit, Visits
from gatewayd.core.visit.table import TABLE, Trigger, VisitState

EXPIRY_S: Final = 24 * 3600  # a visit's state leaves the broker so long after its end


class Turn:
    """Collects the changes and effects of one step."""

    def __init__(self, visits: Visits, now: Instant) -> None:
        self.now = now
        self.effects: list[Effect] = []
        self._visits = dict(visits)

    @property
    def visits(self) -> Visits:
        """The visits as they are by now."""
        return self._visits

    def note(self, visit: Visit) -> Visit:
        """Take a change that is saved and not told."""
        self._visits[visit.id] = visit
        self.effects.append(Save(visit=visit))
        return visit

    def begin(self, visit: Visit, trigger: Trigger, body: Body) -> Visit:
        """Take a new visit, and tell it."""
        self._publish(visit, {"event": trigger.value, **body})
        return self.note(visit)

    def tell(self, visit: Visit, trigger: Trigger, body: Body | None = None) -> Visit:
        """Change the visit as the table says and tell it. KeyError where the table forbids it: a mistake."""
        return self.begin(replace(visit, state=TABLE[trigger][visit.state]), trigger, body or {})

    def close(self, visit: Visit, body: Body) -> Visit:
        """End a visit. What only an alarm needed is erased with it."""
        bare = replace(visit, address=None, note=None, code_word_ref=None, closed=self.now)
        return self.tell(bare, Trigger.CLOSED, body)

    def forget(self, visit: str) -> None:
        """Drop a visit, and what this step wanted stored of it."""
        del self._visits[visit]
        self.effects = [
            effect for effect in self.effects if not (isinstance(effect, Save) and effect.visit.id == visit)
        ]
        self.effects.append(Forget(visit=visit))

    def state(self, visit: Visit) -> None:
        """Tell the state, with no event."""
        self._publish(visit, {})

    def retell(self, visit: Visit) -> None:
        """Tell the state once more, behind all that is new; what is over, behind everything."""
        over = visit.state is VisitState.CLOSED
        behind = MessageClass.TELEMETRY if over else MessageClass.STATE
        self._publish(visit, {}, behind, Keep.WHEN_WAITING)

    def _publish(
        self, visit: Visit, body: Body, name: MessageClass = MessageClass.STATE, keep: Keep = Keep.AT_ONCE
    ) -> None:
        self.effects.append(
            Publish(
                draft=Draft(
                    topic=topic.visit(visit.id),
                    message_class=name,
                    keep=keep,
                    at=self.now,
                    body={**visit.body, **body},
                    retain=True,
                    replaces=True,
                    expires_s=self._expires_s(visit),
                )
            )
        )

    def _expires_s(self, visit: Visit) -> int:
        """When the state is to leave the broker, should nobody tell another: a day after the visit's end."""
        if visit.state is VisitState.CLOSED and visit.closed is not None:
            passed_s = max(elapsed_s(visit.closed, self.now), visit.passed_s(visit.end_s, self.now))
        else:
            passed_s = min(visit.passed_s(visit.end_s, self.now), 0.0)  # past its end it is still open
        return int(max(EXPIRY_S - min(passed_s, EXPIRY_S), 1))
