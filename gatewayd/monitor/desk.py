"""The ops desk: gateways, open alarms with their sound, the latest lines; plain, as JSON, or drawn live."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

from gatewayd.core.topic import Kind
from gatewayd.monitor import news as reading
from gatewayd.monitor.meter import bar
from gatewayd.monitor.news import News

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES: Final = 12  # of what came last
ALARMS: Final = 5  # shown; the newest
_GATEWAYS: Final = 50  # remembered; a flood of made-up names does not fill the memory


@dataclass(slots=True, kw_only=True)
class AlarmView:
    """One alarm as the desk shows it."""

    id: str
    gateway: str
    raised: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON from the network
    state: Mapping[str, Any] = field(default_factory=dict)
    position: Mapping[str, Any] | None = None
    visit: Mapping[str, Any] | None = None  # as an event told it: the state has no address
    level_dbfs: float | None = None
    sound_ms: int = 0
    chunks: int = 0

    @property
    def body(self) -> Mapping[str, Any]:
        """All that is known of it. The state is newer than `raised`: a duress press changes the cause."""
        placed = {"position": self.position, "visit": self.visit}
        return {**self.raised, **self.state, **{name: each for name, each in placed.items() if each}}


class Desk:
    """What is known from all that was heard so far."""

    def __init__(self) -> None:
        self.gateways: dict[str, dict[str, str]] = {}  # status, health and position, each a line
        self.alarms: dict[str, AlarmView] = {}
        self.lines: deque[str] = deque(maxlen=LINES)

    def take(self, news: News, level_dbfs: float | None) -> None:
        """Take one message into the picture."""
        if news.kind is not Kind.ALARM_AUDIO:
            self.lines.extend(reading.lines(news))
        if news.gateway is None or news.error is not None:
            return
        if news.kind in (Kind.ALARM_EVIDENCE, Kind.ALARM_EVIDENCE_LIST):
            return  # of an alarm that may be long over
        if news.alarm is not None:
            self._alarm(news, news.alarm, news.gateway, level_dbfs)
        elif news.body is not None and news.kind in (Kind.STATUS, Kind.HEALTH, Kind.POSITION):
            told = self.gateways.setdefault(news.gateway, {})
            shown = {Kind.STATUS: _status, Kind.HEALTH: reading.health, Kind.POSITION: reading.position}
            told[news.kind.value] = shown[news.kind](news.body)
            _forget(self.gateways, _GATEWAYS)

    def _alarm(self, news: News, alarm: str, gateway: str, level_dbfs: float | None) -> None:
        if news.kind is Kind.ALARM_STATE and (news.cleared or _closed(news.body)):
            self.alarms.pop(alarm, None)
            return
        if news.sound is not None and alarm not in self.alarms:
            return  # the last sound of one that is closed
        view = self.alarms.setdefault(alarm, AlarmView(id=alarm, gateway=gateway))
        _forget(self.alarms, ALARMS)
        if news.sound is not None:
            view.chunks += 1
            view.sound_ms += reading.duration_ms(news)
            view.level_dbfs = level_dbfs
        elif news.body is not None:
            if news.kind is Kind.ALARM_STATE:
                view.state = news.body
            elif news.body.get("type") == "raised":
                view.raised = news.body
            where, door = news.body.get("position"), news.body.get("visit")
            view.position = where if isinstance(where, dict) else view.position
            if isinstance(door, dict) and news.kind is Kind.ALARM_EVENT:
                view.visit = door


def _closed(body: Mapping[str, Any] | None) -> bool:
    return body is not None and body.get("handling") == "closed"


def _status(body: Mapping[str, Any]) -> str:
    return reading.text(body, "state") or "not known"


def _forget(known: dict[str, Any], limit: int) -> None:
    while len(known) > limit:
        known.pop(next(iter(known)))


def alarm_lines(view: AlarmView) -> list[str]:
    """An alarm as lines: who and how, where, how fast, how loud."""
    found = [
        f"{reading.text(view.state, 'handling') or 'raised'}, {reading.clean(view.id)}",
        *reading.about(view.body),
    ]
    if view.chunks:
        loud = (
            "no level" if view.level_dbfs is None else f"{bar(view.level_dbfs)} {view.level_dbfs:5.1f} dBFS"
        )
        found.append(f"sound {loud}  {view.sound_ms / 1000:.1f} s in {view.chunks} chunks")
    return found


class LiveView:
    """The desk, redrawn in place with `rich`. ImportError where that is not installed."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - optional
        from rich.live import Live  # noqa: PLC0415 - optional

        self.desk = Desk()
        self._live = Live(console=Console(file=out), auto_refresh=False, get_renderable=self.draw)
        self._live.start()

    def show(self, news: News, level_dbfs: float | None) -> None:
        """Take a message into the picture; it is drawn with the next `tick`."""
        self.desk.take(news, level_dbfs)

    def say(self, line: str) -> None:
        """Show a line that is not from the broker."""
        self.desk.lines.append(line)

    def tick(self) -> None:
        """Draw."""
        self._live.refresh()

    def close(self) -> None:
        """Draw once more and leave the picture standing."""
        self._live.refresh()
        self._live.stop()

    def draw(self) -> RenderableType:
        """Return the picture as it is now."""
        from rich.console import Group  # noqa: PLC0415 - optional
        from rich.panel import Panel  # noqa: PLC0415 - optional
        from rich.table import Table  # noqa: PLC0415 - optional
        from rich.text import Text  # noqa: PLC0415 - optional

        table = Table("gateway", "status", "health", "position", expand=True)
        for name, told in self.desk.gateways.items():
            table.add_row(
                Text(name), *(Text(told.get(kind, "")) for kind in ("status", "health", "position"))
            )
        panels = [
            Panel(Text("\n".join(alarm_lines(view))), title=Text(_title(view)), style="bold red")
            for view in reversed(self.desk.alarms.values())
        ]
        return Group(table, *panels, Text("\n".join(self.desk.lines), style="dim"))


class PlainView:
    """A line for each thing that happens: for pipes, logs and terminals without `rich`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, news: News, level_dbfs: float | None) -> None:
        """Print a message."""
        found = reading.lines(news)
        if level_dbfs is not None:
            found[-1] += f"  {bar(level_dbfs)} {level_dbfs:5.1f} dBFS"
        self._print(found)

    def say(self, line: str) -> None:
        """Print a line that is not from the broker."""
        self._print([line])

    def tick(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to leave."""

    def _print(self, lines: Iterable[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()


class JsonView:
    """One JSON object a message; what is not from the broker goes to `err`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def show(self, news: News, level_dbfs: float | None) -> None:
        """Print a message; the level is for eyes only."""
        del level_dbfs
        self._out.write(f"{reading.to_json(news)}\n")
        self._out.flush()

    def say(self, line: str) -> None:
        """Say it beside the messages."""
        self._err.write(f"{line}\n")
        self._err.flush()

    def tick(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to leave."""


def _title(view: AlarmView) -> str:
    body = view.body
    cause = reading.text(body, "cause")
    return f"{reading.marked(body)}ALARM {cause}, {reading.worker(body)}, {reading.clean(view.gateway)}"
