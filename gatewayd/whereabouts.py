"""Where the gateway is while it runs, by its receiver or by its configuration, and when that is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from gatewayd.config.model import Config
from gatewayd.core import owntracks, topic
from gatewayd.core.alarm import Alarm
from gatewayd.core.fields import Code, Refusal
from gatewayd.core.model import Body, Draft, Fix, Instant, Keep, MessageClass, Mode, Subject
from gatewayd.core.track import Track
from gatewayd.core.upkeep import Locate
from gatewayd.records import ONLY, PLACE


class Whereabouts:
    """Fixes go in; positions come out."""

    def __init__(self, config: Config, *, now: Callable[[], Instant]) -> None:
        self._now = now
        self._track = Track()
        self._located = Locate(every_s=1, for_s=0)
        self._located_until_s = 0.0  # CLOCK_MONOTONIC
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Work with a configuration from now on."""
        gateway = config.gateway
        self._subject = gateway.kind
        self._publish = config.gps.publish
        self._gateway, self._owntracks = gateway.id, config.owntracks.topic
        self._hub: tuple[float, float] | None = None
        if gateway.kind is Subject.HUB and gateway.latitude is not None and gateway.longitude is not None:
            self._hub = (gateway.latitude, gateway.longitude)

    def take(self, fix: Fix) -> None:
        """Take a fix."""
        self._track.take(fix, self._now(), subject=self._subject)

    def position(self) -> Body | None:
        """Where we are now; None: nobody knows."""
        return self._track.position(self._now(), subject=self._subject, hub=self._hub)

    @property
    def recent(self) -> tuple[Body, ...]:
        """Up to two positions before the newest."""
        return self._track.recent

    def due(self, where: Body, alarms: Collection[Alarm], *, visiting: bool) -> Iterator[Draft]:
        """The message on `position`, and OwnTracks', when they are due; they count as told then."""
        now = self._now()
        located = now.mono_s < self._located_until_s and self._locatable(alarms, visiting)
        located_s = self._located.every_s if located else None
        if not self._track.due(now, alarms=alarms, followed=self._followed(visiting), located_s=located_s):
            return
        yield Draft(
            topic=topic.POSITION,
            message_class=MessageClass.POSITION,
            keep=Keep.WHEN_WAITING,
            at=now,
            body=where,
        )
        told = owntracks.location(where, self._owntracks, self._gateway, now)
        if told is not None:
            yield told

    def _followed(self, visiting: bool) -> bool:
        return self._publish == "always" or (self._publish == "visit" and visiting)

    def _locatable(self, alarms: Iterable[Alarm], visiting: bool) -> bool:
        """Whether positions may leave as often as ops ask: in an alarm that is no test, or where followed."""
        alarmed = any(alarm.open and alarm.mode is not Mode.TEST for alarm in alarms)
        return alarmed or self._followed(visiting)

    def locate(self, order: Locate, alarms: Iterable[Alarm], *, visiting: bool) -> Refusal:
        """Tell positions as often as ops ask, while they may leave at all."""
        if order.for_s and not self._locatable(alarms, visiting):
            return (
                Code.REFUSED,
                "expected an open alarm that is no test: "
                f"positions leave as [gps] publish = {self._publish} says",
            )
        self._located, self._located_until_s = order, self._now().mono_s + order.for_s
        return None

    # --- across restarts ------------------------------------------------------------------------------------

    def record(self, *, anew: bool = False) -> Mapping[tuple[str, str], str]:
        """The record of where we are, to go with what is stored anyway; none when the disk knows.

        `anew`: it knows nothing.
        """
        record = self._track.record(anew=anew)
        return {} if record is None else {(PLACE, ONLY): record}

    def restore(self, record: str | None) -> None:
        """Take what an earlier run stored."""
        self._track.restore(record)
