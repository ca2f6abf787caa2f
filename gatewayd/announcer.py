"""Tells Home Assistant of the gateway and its tags, where configured, and takes back what is no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gatewayd import __version__
from gatewayd.config.model import Config
from gatewayd.core import discovery, topic
from gatewayd.core.alarm import Alarms
from gatewayd.core.model import Body, Draft, Instant
from gatewayd.records import ANNOUNCED


class Announcer:
    """What is configured goes in, retained messages come out.

    A topic that was announced once is withdrawn at every start until it is announced again: so it goes
    although a revoked tag, or an earlier discovery prefix, stands in no configuration any more.
    """

    def __init__(
        self,
        *,
        now: Callable[[], Instant],
        publish: Callable[[Draft], None],
        store: Callable[[Mapping[tuple[str, str], str]], None],
    ) -> None:
        """`store`: keep these records."""
        self._now = now
        self._publish = publish
        self._store = store
        self._known: set[str] = set()  # topics announced by this run or an earlier one
        self._wanted = False
        self._open: Body | None = None  # what was told last of open alarms

    @property
    def records(self) -> Mapping[tuple[str, str], str]:
        """What the next run must know."""
        return {(ANNOUNCED, name): "" for name in self._known}

    def restore(self, announced: Iterable[str], *, config: Config, alarms: Alarms) -> None:
        """Take what earlier runs announced, and announce what is configured."""
        self._known |= set(announced)
        self.configure(config, alarms)

    def configure(self, config: Config, alarms: Alarms) -> None:
        """Announce what is configured, and withdraw what is not any more."""
        now, prefix = self._now(), config.home_assistant.discovery_prefix
        drafts: dict[str, Draft] = {}
        if prefix is not None:
            base = topic.base(config.gateway.prefix, config.gateway.id)
            drafts |= discovery.devices(
                base=base,
                discovery_prefix=prefix,
                subject=config.gateway.kind,
                tags=config.tags,
                version=__version__,
                now=now,
            )
            drafts[topic.ALARMS] = discovery.open_alarms(alarms, now)
        if new := drafts.keys() - self._known:
            self._known |= new
            self._store({(ANNOUNCED, name): "" for name in new})
        for draft in drafts.values():
            self._publish(draft)
        for name in sorted(self._known - drafts.keys()):
            self._publish(discovery.withdrawn(name, now))
        self._wanted = prefix is not None
        self._open = drafts[topic.ALARMS].body if self._wanted else None

    def tell(self, alarms: Alarms) -> None:
        """Tell of the open alarms what is new about them."""
        if self._wanted:
            draft = discovery.open_alarms(alarms, self._now())
            if draft.body != self._open:
                self._open = draft.body
                self._publish(draft)
