"""Watches over visits, and over tags that fall silent on them, while the daemon runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from gatewayd.config.model import Config
from gatewayd.core import alarm, silence, visit
from gatewayd.core.battery import Charge
from gatewayd.core.model import Body, Instant, Press, Subject
from gatewayd.core.supervision import TagState
from gatewayd.core.visiting import Risk
from gatewayd.records import VISIT, RecordKey, Records, read


class VisitWatch:
    """Time and presses go in; what `visit.step` asks for comes out."""

    def __init__(self, *, now: Callable[[], Instant]) -> None:
        self._now = now
        self._config: Config
        self._silence = silence.Silence()
        self.known: visit.Visits = {}

    def configure(self, config: Config) -> None:
        """Watch with these settings and tags from now on."""
        self._config = config

    def restore(self, records: Records) -> None:
        """Take what an earlier run left; what is known by now is newer."""
        self.known = {**read(VISIT, records, visit.from_json), **self.known}

    @property
    def records(self) -> dict[RecordKey, str]:
        """All of them, as they are stored."""
        return {(VISIT, name): visit.to_json(each) for name, each in self.known.items()}

    @property
    def any_begun(self) -> bool:
        """Whether a worker is on a visit."""
        return any(each.begun for each in self.known.values())

    def in_alarm(self, worker: str | None) -> Body | None:
        """What an alarm tells of the visit its worker is on."""
        return visit.told_in_alarms(self.known, worker)

    def wearing(self, worker: str) -> tuple[str, ...]:
        """The tags that a worker wears."""
        return tuple(tag.name for tag in self._config.tags if tag.worker == worker)

    def tick(
        self, states: Mapping[str, TagState], batteries: Mapping[str, Charge | None]
    ) -> tuple[visit.Effect, ...]:
        """Time passed: about once a second."""
        if not self.known:
            return ()
        return self._step(visit.Ticked(doubts=visit.doubts(self._config.tags, states, batteries)))

    def check_out(self, press: Press) -> tuple[visit.Effect, ...]:
        """Take a press that says that its worker's visit is over; on no visit it says nothing."""
        if press.worker is None:
            return ()
        return self._step(visit.CheckedOut(worker=press.worker, auth=press.auth))

    def raised(
        self, overdue: visit.Overdue, *, position: Body | None, recent: tuple[Body, ...]
    ) -> alarm.Raised:
        """What raises the alarm of a visit that is overdue."""
        return alarm.Raised(
            alarm=overdue.alarm,
            cause=alarm.Cause.OVERDUE,
            at=self._now(),
            worker=overdue.visit.worker,
            visit=overdue.visit.in_alarm,
            position=position,
            recent=recent,
        )

    def lost(
        self,
        states: Mapping[str, TagState],
        alarms: Iterable[alarm.Alarm],
        new_id: Callable[[], str],
        *,
        position: Body | None,
        recent: tuple[Body, ...],
    ) -> Iterator[alarm.Raised]:
        """What raises the alarms of workers whose tags have fallen silent, where that is one."""
        now, tags = self._now(), self._config.tags
        workers: set[str] = set()
        if self._config.alarm.tag_lost and self._config.gateway.kind is Subject.HUB:
            workers = {tag.worker for tag in tags if tag.worker is not None}
        elif self._config.alarm.tag_lost:
            workers = {each.worker for each in self.known.values() if each.begun and each.risk is Risk.HIGH}
        concerned = silence.of_workers(tags, states, workers)
        pre_alarm_s = self._config.visit.pre_alarm_s
        alarmed = {each.worker for each in alarms if each.open and each.cause is alarm.Cause.TAG_LOST}
        self._silence, due = silence.step(self._silence, concerned, alarmed, now.mono_s, pre_alarm_s)
        for worker in due:
            yield alarm.Raised(
                alarm=new_id(),
                cause=alarm.Cause.TAG_LOST,
                at=now,
                worker=worker,
                visit=self.in_alarm(worker),
                position=position,
                recent=recent,
            )

    def retell(self) -> tuple[visit.Effect, ...]:
        """Tell every visit's state again: the broker may have lost what it retained."""
        return visit.retell(self.known, self._now())

    def _step(self, event: visit.Event) -> tuple[visit.Effect, ...]:
        self.known, effects = visit.step(self.known, event, self._now(), self._config.visit)
        return effects
