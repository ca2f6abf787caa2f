"""Waiting for the press of the tag that is to be assigned.

A press counts as in the gateway. Of an encrypted frame whose key is not known nobody can tell whether it is
one, so such a tag is offered too; the key that opens its frame proves then that it is the one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic
from typing import Final

from gatewayd.config.model import Radio as RadioSettings
from gatewayd.core.model import Tag
from gatewayd.enrol.files import RefusedError
from gatewayd.scan.heard import Air, Line
from gatewayd.scan.run import listen
from gatewayd.scan.show import SETTLING, proof

# Somebody else's tag may be pressed in the same moment: as long as a person takes to press, and a burst to be
# heard.
MORE_S: Final = 1.5


class _Pressed:
    """A view that says `prompt`, and keeps what was pressed, but for what is `not_meant`: addresses."""

    def __init__(
        self, say: Callable[[str], None], prompt: str, seconds: float, not_meant: Collection[str]
    ) -> None:
        self.lines: dict[str, Line] = {}  # by address
        self._say = say
        self._prompt = prompt
        self._seconds = seconds
        self._prompted_s: float | None = None
        self._not_meant = not_meant
        self._known: set[str] = set()
        self._began_s: float | None = None

    def tell(self, line: Line) -> None:
        if not line.press:
            return
        if line.tag is not None:
            if line.tag.name not in self._known:
                self._say(f"{line.tag.name} was pressed, which is assigned already")
            self._known.add(line.tag.name)
        elif line.named_by is not None and line.address not in self._not_meant:
            # Of two slots of a tag the one whose presses can be counted: two of an identity are one.
            if line.address not in self.lines or not _is_identity(line):
                self.lines[line.address] = line
            self._began_s = self._began_s or monotonic()

    def say(self, text: str) -> None:
        """What the radio says is for those who look for a fault."""

    def settle(self, *, over: bool) -> None:
        self._say(self._prompt if over else SETTLING)
        if over:
            self._prompted_s = monotonic()

    def tick(self, now_s: float) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to close."""

    def enough(self) -> bool:
        """Whether somebody pressed, or had the time to."""
        if self._began_s is not None:
            return monotonic() - self._began_s >= MORE_S
        return self._prompted_s is not None and monotonic() - self._prompted_s >= self._seconds


async def find(
    settings: RadioSettings,
    tags: tuple[Tag, ...],
    seconds: float,
    *,
    say: Callable[[str], None],
    prompt: str,
    is_meant: Callable[[Line], bool],
) -> Line:
    """Return the tag that was pressed and `is_meant`; the radio listens up to `seconds` for each press.

    They count from the `prompt`, which is said once a press of any kind would be told. `say` tells a person
    what happens. Of several tags that are pressed at once none is taken: each must be pressed alone.
    Raises RefusedError where no press comes, and KeyboardInterrupt.
    """
    air = Air(tags)  # one for all rounds: the rest of a burst is no second press
    not_meant: set[str] = set()
    while True:
        pressed = _Pressed(say, prompt, seconds, not_meant)
        failure = await listen(settings, air, pressed, None, pressed.enough)
        if failure is not None:
            raise RefusedError(failure)
        if not pressed.enough():
            raise KeyboardInterrupt
        lines = list(pressed.lines.values())
        if not lines:
            raise RefusedError(
                f"expected a press of a tag that is not assigned yet, got none within {seconds:g} s: see"
                " `gatewayd tags scan`, and the tag's battery"
            )
        if len(lines) > 1:
            say("several tags were pressed; press yours alone:")
            for line in lines:
                say(f"  {described(line)}")
        elif is_meant(lines[0]):
            return lines[0]
        else:
            not_meant.add(lines[0].address)


def _is_identity(line: Line) -> bool:
    return line.report is not None and line.report.identity is not None


def described(line: Line) -> str:
    """A tag as a person tells it from others."""
    named = ", ".join(f"{key} {value}" for key, value in (line.named_by or {}).items())
    strength = "" if line.rssi_dbm is None else f", {line.rssi_dbm} dBm"
    kind = "" if line.report is None else f"{line.report.format}, "
    return f"{named} ({kind}proof: {proof(line)}{strength})"
