"""What comes in: commands, our own status and test, and, once a run, the alarms the broker knows of us."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from gatewayd.core import command, topic
from gatewayd.core.model import Instant
from gatewayd.edge.mqtt import Incoming, LinkError
from gatewayd.uplink.wire import Link

logger = logging.getLogger(__name__)

# Retained alarms follow a subscription at once; a broker without them must not hold us up.
ADOPT_S: Final = 5.0

OnCommand: TypeAlias = Callable[[command.Incoming], None]
OnRetainedState: TypeAlias = Callable[[str, bytes], None]  # an alarm's id and its state as the broker has it


class Inbox:
    """Subscribes, and tells whom it concerns. `announce` says once more that we are online."""

    def __init__(
        self,
        *,
        below: Callable[[str], str],
        on_command: OnCommand,
        on_retained_state: OnRetainedState,
        on_adopted: Callable[[], None],
        on_test: Callable[[bytes], None],
        on_twin: Callable[[], None],
        announce: Callable[[Link], None],
    ) -> None:
        self._below = below
        self._on_command = on_command
        self._on_retained_state = on_retained_state
        self._on_adopted = on_adopted
        self._on_test = on_test
        self._on_twin = on_twin
        self._announce = announce
        self._adopted = False
        self._subscribed: Link | None = None  # the session that what comes in was asked for on
        self._run = self._born_at = ""  # of our own birth, when it first came back

    def subscribe(self, link: Link) -> None:
        """Subscribe to what concerns us. LinkError when the session has ended.

        Where a broker takes no wildcards, to each command by its name; its alarms cannot be asked for then.
        """
        self._subscribed = link
        if link.session is not None and not link.session.terms.wildcards:
            link.subscribe([*map(topic.command, command.NAMES), topic.STATUS, topic.TEST])
        else:
            adopting = [] if self._adopted else [topic.ALARM_STATES]
            link.subscribe([topic.COMMANDS, topic.STATUS, topic.TEST, *adopting])

    def take(self, link: Link, incoming: Incoming) -> None:
        """A message came in: a command, our own status or test, or an alarm the broker knows of us."""
        below = self._below(incoming.topic)
        parsed = topic.parse(below)
        if below.startswith("cmd/"):
            self._on_command(
                command.Incoming(
                    name=below.removeprefix("cmd/"),
                    payload=incoming.payload,
                    retained=incoming.retained,
                    response_topic=incoming.response_topic,
                    correlation=incoming.correlation,
                )
            )
        elif below == topic.TEST:
            self._on_test(incoming.payload)
        elif below == topic.STATUS:
            self._own_status(link, _object(incoming.payload))
        elif parsed is not None and parsed.kind is topic.Kind.ALARM_STATE and incoming.retained:
            self._known_alarm(parsed.alarm, incoming.payload)

    def tick(self, link: Link, now: Instant) -> None:
        """Wait for the broker's alarms no longer than they can take."""
        if now.mono_s - link.began_s > ADOPT_S:
            self._adopt(link)

    def _known_alarm(self, alarm: str | None, state: bytes) -> None:
        """The broker knows an alarm of ours; an empty state is one that was withdrawn."""
        if alarm is not None and state and not self._adopted:
            self._on_retained_state(alarm, state)

    def _own_status(self, link: Link, status: Mapping[str, Any] | None) -> None:
        """Our birth came back, so every retained alarm did before it; or our will did, and is not true.

        Or there is another gateway's birth, since ours: brokers need not say who took a session over. What
        comes by a subscription of the session before, of a run that was killed, comes before we ask: our will
        then is answered by the birth that follows our subscriptions anyway, for a birth before them would say
        nothing of retained alarms.
        """
        if status is None:
            return
        run, at = str(status.get("run")), str(status.get("at"))
        if status.get("state") == "online" and status.get("session") == link.number:
            self._run, self._born_at = run, self._born_at or at
            self._adopt(link)
        elif status.get("state") == "online" and self._born_at and run != self._run and at > self._born_at:
            self._on_twin()
        elif (
            status.get("state") == "offline"
            and "reason" not in status  # a goodbye is of an earlier session
            and link is self._subscribed
        ):
            logger.info("our own will came back from the broker; saying that we are online")
            try:
                self._announce(link)
            except LinkError as error:
                link.give_up(str(error))

    def _adopt(self, link: Link) -> None:
        if not self._adopted:
            self._adopted = True
            link.unsubscribe(topic.ALARM_STATES)
            self._on_adopted()


def _object(payload: bytes) -> Mapping[str, Any] | None:
    """Return a payload's JSON object; None when it is none (a cleared topic, or not ours)."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
