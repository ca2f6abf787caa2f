"""The people at ops: what they do about alarms, and how they say it. Several of them, not always quick."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from simulated import Act

from week.journal import Command, Json, Message

if TYPE_CHECKING:
    from week.world import Week

PEOPLE: Final = ("anna", "bo", "chris")
AGAIN_S: Final = 5_400.0  # a command that nobody answered is given again after so long
REFUSED_S: Final = 120.0  # one that was refused for the time it came at, sooner
MINUTE_S: Final = 60.0


@dataclass(slots=True)
class Handled:
    """An alarm, as far as the desk has come with it."""

    site: str
    alarm: str
    mode: str
    steps: Iterator[tuple[float, Act]]


@dataclass(slots=True, eq=False)
class Desk:
    """Hears all that gateways tell, and gives commands."""

    week: Week
    alarms: dict[str, Handled] = field(default_factory=dict)
    keeps: set[str] = field(default_factory=set)  # tags whose next alarm is left open for long
    _number: int = 0
    _waiting: dict[str, Act] = field(default_factory=dict)  # what to do when it is refused

    @property
    def _dice(self) -> random.Random:
        return self.week.dice

    # --- what is heard --------------------------------------------------------------------------------------

    def hear(self, message: Message) -> None:
        """Take what a gateway tells."""
        body = message.body
        if body is None:
            return
        if message.topic == "reply":
            self._hear_reply(body)
        elif (
            message.topic.endswith("/event") and body["type"] == "raised" and body["alarm"] not in self.alarms
        ):
            handled = Handled(site=message.site, alarm=body["alarm"], mode=body["mode"], steps=iter(()))
            self.alarms[handled.alarm] = handled
            handled.steps = self._steps(handled, str(body.get("tag", {}).get("id")))
            self._go_on(handled)

    def _hear_reply(self, body: Json) -> None:
        command = self.week.journal.commands.get(str(body.get("id")))
        if command is None:
            return
        if command.reply is None:
            command.reply = body
        retry = self._waiting.pop(command.id, None)
        if retry is not None and not body["ok"] and body["error"]["code"] in {"expired", "invalid"}:
            self.week.time.after(REFUSED_S, retry)

    # --- what is said ---------------------------------------------------------------------------------------

    def say(self, site: str, name: str, actor: str = "anna", **more: Any) -> str:
        """Give a command once, on a poor line now and then twice."""
        retained = bool(more.pop("retained", False))
        self._number += 1
        number = f"c-{self._number}"
        body = {"id": number, "actor": {"id": actor}, **more}
        command = Command(id=number, site=site, name=name, body=body, sent_s=self.week.now_s)
        twice = self._dice.random() < 0.1
        self.week.sites[site].command(command, retained=retained, twice=twice)
        return number

    def insist(self, site: str, name: str, actor: str = "anna", **more: Any) -> None:
        """Give a command until it is answered."""
        again = partial(self.insist, site, name, actor, **more)
        number = self.say(site, name, actor, **more)
        self._waiting[number] = again

        def look() -> None:
            if self._waiting.pop(number, None) is not None:
                again()

        self.week.time.after(AGAIN_S, look)

    # --- what is done about an alarm ------------------------------------------------------------------------

    def _go_on(self, handled: Handled) -> None:
        for wait_s, act in handled.steps:
            self.week.time.after(wait_s, partial(self._do, handled, act))
            return

    def _do(self, handled: Handled, act: Act) -> None:
        act()
        self._go_on(handled)

    def _steps(self, handled: Handled, tag: str) -> Iterator[tuple[float, Act]]:
        """What the desk does one after the other: how long it waits before each, and what it is."""
        dice, keep = self._dice, tag in self.keeps
        self.keeps.discard(tag)

        def say(name: str, actor: str, **more: Any) -> Act:
            return partial(self.insist, handled.site, name, actor, alarm=handled.alarm, **more)

        first, second = dice.sample(PEOPLE, 2)
        if handled.mode == "test":
            yield dice.uniform(2, 20), say("alarm/received", first)
            return
        if dice.random() < 0.8:
            yield dice.uniform(2, 25), say("alarm/received", first)
        if dice.random() < 0.15:
            yield dice.uniform(2, 20), say("alarm/escalate", first)
        yield (
            (dice.uniform(140, 400) if dice.random() < 0.4 else dice.uniform(3, 25)),
            say("alarm/accept", first),
        )
        if dice.random() < 0.3:
            yield dice.uniform(5, 60), say("alarm/decline", first)
            yield dice.choice((5.0, 50.0, 200.0)), say("alarm/accept", second)
        if dice.random() < 0.6:
            yield dice.uniform(5, 60), say("alarm/respond", second, eta_s=dice.randrange(60, 900))
            if dice.random() < 0.5:
                yield dice.uniform(30, 300), say("alarm/on_scene", second)
        if dice.random() < 0.3:
            yield dice.uniform(1, 60), say("alarm/note", first, text="asked to cancel", cancel="refused")
        yield from self._misunderstandings(handled)
        if dice.random() < 0.3:
            yield dice.uniform(1, 60), say("listen/start", first, max_s=900)
        yield (
            dice.uniform(1_300, 1_800) if keep else dice.uniform(60, 1_200),
            say("alarm/close", first, outcome="false"),
        )
        yield from self._afterwards(say, first, second)

    def _afterwards(self, say: Callable[..., Act], first: str, second: str) -> Iterator[tuple[float, Act]]:
        """What is done about an alarm that was closed."""
        dice = self._dice
        if dice.random() < 0.3:
            yield dice.uniform(20, 300), say("listen/start", second, max_s=60)
        if dice.random() < 0.25:
            yield dice.uniform(30, 600), say("alarm/reopen", second)
            yield dice.choice((5.0, 160.0)), say("alarm/accept", second)
            yield dice.uniform(60, 600), say("alarm/close", second, outcome="real")
        if dice.random() < 0.7:
            yield dice.uniform(600, 7_200), say("alarm/review", first)

    def _misunderstandings(self, handled: Handled) -> Iterator[tuple[float, Act]]:
        """Commands that must change nothing."""
        dice, week = self._dice, self.week
        site, alarm = handled.site, handled.alarm
        close = {"alarm": alarm, "outcome": "false"}
        if dice.random() < 0.3:
            yield 1.0, partial(self.say, site, "alarm/close", "eve", retained=True, **close)
        if dice.random() < 0.3:
            long_ago = week.text(week.now_s - 4 * 3_600)
            yield 1.0, partial(self.say, site, "alarm/close", "eve", expires_at=long_ago, **close)
        if dice.random() < 0.3:
            yield 1.0, partial(self.say, site, "alarm/close", "eve", alarm=alarm, outcome="whatever")
