"""How the air is shown: as JSON, as plain lines, as a live table, and as a section to paste."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from gatewayd.config.problem import shown
from gatewayd.config.tags import tag_section
from gatewayd.core.model import TagEvent
from gatewayd.core.tags import describe, readable
from gatewayd.scan.heard import SETTLE_S, Air, Line

if TYPE_CHECKING:
    from rich.console import RenderableType

# Who is meant and whether it counts comes first: a narrow terminal cuts at the right.
HEADINGS: Final = ("", "dBm", "tag", "address", "event", "format", "proof", "battery", "says")
LIT_S: Final = 10.0  # how long a pressed tag's line stays lit: time to look up from the tag
NAME_CHARACTERS: Final = 24  # more of a name is not shown
OFFERED: Final = 100  # sections; nobody enrols more tags at once, and a flood of them fills no memory
PRESSED: Final = "*"
NEW: Final = "(new)"  # a tag that could be assigned; no tag can be called that
SETTLING: Final = f"listening for {SETTLE_S:g} s to what is always there: press only after that"
SETTLED: Final = "now press"
_BATTERY: Final = {"battery_pct": " %", "battery_mv": " mV"}
# Shown, but not as "says".
_ELSEWHERE: Final = frozenset({"format", "event", "encrypted", "authenticated", "auth", *_BATTERY})


def to_json(line: Line) -> str:
    """A line as one JSON object; `format` and what comes with it is absent where no decoder claims it."""
    found: dict[str, object] = {"address": line.address, "name": line.name, "rssi_dbm": line.rssi_dbm}
    if line.report is not None:
        found |= describe(line.report)
    return json.dumps({**found, "tag": line.tag and line.tag.name, "press": line.press})


def cells(line: Line, *, lit: bool) -> tuple[str, ...]:
    """A line's cells, under `HEADINGS`. Nothing in them can drive a terminal."""
    known = {} if line.report is None else describe(line.report)
    new = NEW if line.named_by is not None else ""
    says = [_short(line.name)] if line.name else []
    says += [f"{name} {value}" for name, value in known.items() if name not in _ELSEWHERE]
    return (
        PRESSED if lit else "",
        "" if line.rssi_dbm is None else str(line.rssi_dbm),
        new if line.tag is None else _short(line.tag.name),
        line.address,
        _event(line, lit=lit),
        str(known.get("format", "")),
        proof(line),
        next((f"{known[name]}{unit}" for name, unit in _BATTERY.items() if name in known), ""),
        ", ".join(says),
    )


def _event(line: Line, *, lit: bool) -> str:
    """A frame's event: of an identity that it appeared, of one that cannot be read that it may be any."""
    report = line.report
    if report is None:
        return ""
    if not readable(report):
        return "press?" if lit else ""
    if report.identity is not None:
        return TagEvent.PRESS.value if lit else ""
    return report.event.value if report.buttons else ""


def proof(line: Line) -> str:
    """Say what proves that a frame is its tag's, or what is missing for it."""
    report = line.report
    if report is None:
        return ""
    if report.authenticated:
        return "ok"
    if not report.encrypted:
        return "none"
    if line.tag is None or not line.tag.key_expected:
        return "needs its key"
    return "key not found" if line.tag.key is None else "wrong key"


def table(lines: Iterable[Line]) -> list[str]:
    """Lines as a plain table with headings; a tag that was pressed is marked."""
    rows = [HEADINGS, *(cells(line, lit=line.pressed_s is not None) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return [_aligned(row, widths) for row in rows]


def section(line: Line) -> list[str]:
    """The section that assigns this tag, to be pasted; nothing where it is assigned or nothing names it."""
    report, named_by = line.report, line.named_by
    if report is None or named_by is None or line.tag is not None:
        return []
    found = tag_section("NAME", tag_format=report.format, named_by=named_by, keyed=report.encrypted)
    if report.encrypted:
        what = "# The file credentials/tag-NAME holds the tag's key, 32 hex digits; its maker's app shows it."
        found.insert(-1, what)
    return found


def pressed(line: Line) -> list[str]:
    """What to do about a tag that was pressed, below the table."""
    if line.tag is not None:
        return ["", f"pressed last: {line.tag.name}, which is assigned already"]
    found = section(line)
    how = "to assign the tag that was pressed, `gatewayd tags add NAME --from-scan`, or in conf.d:"
    return ["", how, *found] if found else []


def _short(name: str) -> str:
    escaped = shown(name)
    return escaped if len(escaped) <= NAME_CHARACTERS else escaped[: NAME_CHARACTERS - 1] + "…"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


class View(Protocol):
    """One way to show the air."""

    def tell(self, line: Line) -> None:
        """Show what is new about a line."""

    def say(self, text: str) -> None:
        """Show what is not from the air."""

    def settle(self, *, over: bool) -> None:
        """Show that it listens to what is always there, or that this is over and one may press."""

    def tick(self, now_s: float) -> None:
        """Draw; called some times a second."""

    def close(self) -> None:
        """Show the end."""


class JsonView:
    """One JSON object for each change; what is not from the air goes to `err`."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def tell(self, line: Line) -> None:
        self._out.write(f"{to_json(line)}\n")

    def say(self, text: str) -> None:
        self._err.write(f"{text}\n")

    def settle(self, *, over: bool) -> None:
        self.say(SETTLED if over else SETTLING)

    def tick(self, now_s: float) -> None:
        del now_s
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class PlainView:
    """A line for each change, and the table at the end: for pipes, and where `rich` is not installed."""

    # Wide enough for most, so that lines stand below each other though nobody knows what is to come.
    WIDTHS: Final = (1, 4, 10, 17, 6, 9, 13, 7, 0)

    def __init__(self, air: Air, out: TextIO, err: TextIO) -> None:
        self._air = air
        self._out = out
        self._err = err
        self._offered: set[str] = set()

    def tell(self, line: Line) -> None:
        self._print([_aligned(cells(line, lit=line.press), self.WIDTHS)])
        text = "\n".join(section(line))
        if line.press and text and text not in self._offered and len(self._offered) < OFFERED:
            self._offered.add(text)
            self._print(["", *section(line), ""])

    def say(self, text: str) -> None:
        self._err.write(f"{text}\n")

    def settle(self, *, over: bool) -> None:
        self.say(SETTLED if over else SETTLING)

    def tick(self, now_s: float) -> None:
        del now_s
        self._out.flush()

    def close(self) -> None:
        if lines := self._air.lines():
            self._print(["", *table(lines)])
        self._out.flush()

    def _print(self, lines: Iterable[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))


class LiveView:
    """The table, redrawn in place with `rich`. ImportError where that is not installed."""

    def __init__(self, air: Air, out: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - optional
        from rich.live import Live  # noqa: PLC0415 - optional

        self._air = air
        self._now_s = 0.0
        self._said = ""
        self._when: list[str] = []  # when to press
        self._pressed: list[str] = []  # what to do about the tag that was pressed last
        self._console = Console(file=out)
        self._live = Live(console=self._console, auto_refresh=False, get_renderable=self.draw)
        self._live.start()

    def tell(self, line: Line) -> None:
        if line.press:
            self._pressed = pressed(line) or self._pressed

    def say(self, text: str) -> None:
        self._said = text

    def settle(self, *, over: bool) -> None:
        self._when = [SETTLED if over else SETTLING]

    def tick(self, now_s: float) -> None:
        self._now_s = now_s
        self._live.refresh()

    def close(self) -> None:
        self._live.refresh()
        self._live.stop()

    def draw(self) -> RenderableType:
        """Return the picture as it is now; as many lines as the terminal has room for."""
        from rich.console import Group  # noqa: PLC0415 - optional
        from rich.table import Column, Table  # noqa: PLC0415 - optional
        from rich.text import Text  # noqa: PLC0415 - optional

        paste = [*self._pressed, *self._when]
        # 80 columns hold all but the last, which gives way.
        columns = (Column(heading, no_wrap=heading != HEADINGS[-1]) for heading in HEADINGS)
        picture = Table(*columns, expand=True, box=None, padding=(0, 1, 0, 0))
        for line in self._air.lines()[: max(1, self._console.height - 6 - len(paste))]:
            lit = line.pressed_s is not None and self._now_s - line.pressed_s < LIT_S
            style = "bold white on red" if lit else "dim" if line.stranger else ""
            picture.add_row(
                *(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells(line, lit=lit)), style=style
            )
        return Group(picture, Text("\n".join(paste), style="bold"), Text(self._said, style="dim"))
