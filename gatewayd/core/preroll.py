"""Sound from before an alarm: the last seconds that an open microphone heard, in memory and nowhere else.

Off unless configured. Between the microphone and the recorder: what is not wanted is kept for some seconds
and forgotten; what is wanted passes, and that before it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from gatewayd.core.sound import PACKET_S, Closed, Event, Failed, Opened, Packet

MOST_S: Final = 30.0  # what may be kept at all, for whoever wears the button did not ask for it


class PreRoll:
    """A source of sound that has been listening for a while when it is started."""

    def __init__(self, keep_s: float, on_sound: Callable[[Event], None]) -> None:
        """`keep_s`: how much is kept, at most 30 s."""
        self._on_sound = on_sound
        self._kept: deque[Packet] = deque(maxlen=round(min(keep_s, MOST_S) / PACKET_S))
        self._wanted = False
        self._opened: Opened | None = None
        self._failed: Failed | None = None
        self._heard_s = 0.0  # until when

    def start(self) -> None:
        """Want sound: what was kept comes first."""
        if self._wanted:
            return
        self._wanted = True
        if self._opened is not None:
            began_s = self._kept[0].at_s if self._kept else self._heard_s
            self._on_sound(Opened(at_s=began_s, pre_skip=self._opened.pre_skip))
            while self._kept:
                self._on_sound(self._kept.popleft())
        elif self._failed is not None:
            self._on_sound(self._failed)

    def stop(self) -> None:
        """Want no more sound; nothing of this recording is kept for the next one."""
        if self._wanted:
            self._wanted = False
            self._on_sound(Closed(at_s=self._heard_s))

    def take(self, event: Event) -> None:
        """Take what the microphone tells."""
        self._heard_s = event.at_s
        match event:
            case Opened():
                self._opened, self._failed = event, None
                self._kept.clear()
            case Failed():
                self._opened, self._failed = None, event
                self._kept.clear()
            case Packet():
                self._heard_s = event.at_s + PACKET_S
                if not self._wanted:
                    self._kept.append(event)
            case _:  # Missing, Closed
                pass
        if self._wanted:
            self._on_sound(event)
