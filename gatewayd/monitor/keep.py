"""What is done with the sound that comes: one alarm's is kept, one alarm's is played."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gatewayd.core.topic import Kind
from gatewayd.monitor.folder import Folder
from gatewayd.monitor.news import News
from gatewayd.monitor.player import Player
from gatewayd.monitor.sound import Order, Sound, Stitcher

_SAVE_EVERY_S: Final = 2.0  # the whole file is written anew: ten minutes of sound are 1.8 MB
_HEADS: Final = 50  # remembered; a flood of made-up alarms does not fill the memory


class _OneAlarm:
    """Follows the first alarm that has sound, and knows its head."""

    def __init__(self) -> None:
        self.alarm: str | None = None
        self._heads: OrderedDict[str, bytes] = OrderedDict()

    def chunk(self, news: News) -> tuple[int, bytes] | None:
        """The chunk in a message, if it is one of this alarm's."""
        if news.alarm is not None and (head := head_of(news)) is not None:
            self._heads[news.alarm] = head
            if len(self._heads) > _HEADS:
                self._heads.popitem(last=False)
        if news.sound is None or news.n is None:
            return None
        if self.alarm is None:
            self.alarm = news.alarm
        return (news.n, news.sound) if news.alarm == self.alarm else None

    @property
    def head(self) -> bytes | None:
        """The header pages of this alarm's state, once that came."""
        return self._heads.get(self.alarm or "")


def folder_beside(file: Path) -> Path:
    """Return the folder beside a sound file that keeps what it was made of."""
    return file.with_name(f"{file.name}.evidence")


class Recorder:
    """Keeps one alarm's sound in a file, which is whole whenever it is looked at; beside it, what came.

    In a folder the file gets the alarm's name.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self._path = path
        self._folder = Folder()
        self._say = say
        self._one = _OneAlarm()
        self._sound = Sound()
        self._unsaved = False
        self._saved_s = 0.0
        self._failing = False

    def take(self, news: News) -> None:
        """Keep what belongs to the alarm."""
        before = self._one.alarm
        chunk = self._one.chunk(news)
        if self._path is None:
            return
        if before is None and self._one.alarm is not None:
            if self._path.is_dir():
                self._path /= f"{self._one.alarm}.opus"
            self._say(f"keeping the sound of alarm {self._one.alarm} in {self._path}")
        try:
            if before is None and self._one.alarm is not None:
                self._folder.begin(folder_beside(self._path), self._one.alarm)
            self._folder.take(news)
        except OSError as error:
            self._fails(error)
        if chunk is not None:
            self._unsaved = self._sound.add(*chunk) or self._unsaved

    def tick(self, now_s: float) -> None:
        """Save now and then."""
        if self._unsaved and now_s - self._saved_s >= _SAVE_EVERY_S:
            self._saved_s = now_s
            self.save()

    def save(self) -> None:
        """Write the file, if there is anything new. What cannot be written is said, once, and kept."""
        if self._path is None or not self._unsaved:
            return
        self._sound.head = self._one.head
        beside = self._path.with_name(f"{self._path.name}.part")
        try:
            beside.write_bytes(self._sound.file())
            beside.replace(self._path)
        except OSError as error:
            self._fails(error)
        else:
            self._unsaved = self._failing = False

    def _fails(self, error: OSError) -> None:
        if not self._failing:
            self._say(f"the sound cannot be kept: {error}")
        self._failing = True


class Listener:
    """Plays one alarm's sound in order; what comes after its turn is left out."""

    def __init__(self, player: Player | None) -> None:
        self._player = player
        self._one = _OneAlarm()
        self._order = Order()
        self._stitcher: Stitcher | None = None

    def take(self, news: News, now_s: float) -> None:
        """Play what belongs to the alarm."""
        chunk = self._one.chunk(news)
        if self._player is not None and chunk is not None:
            self._play(self._player, self._order.push(*chunk, now_s))

    def tick(self, now_s: float) -> None:
        """Go on without a chunk that does not come."""
        if self._player is not None:
            self._play(self._player, self._order.due(now_s))

    def close(self) -> None:
        """End the player."""
        if self._player is not None:
            self._player.close()

    def _play(self, player: Player, chunks: list[bytes]) -> None:
        if not chunks:
            return
        stitcher = self._stitcher = self._stitcher or Stitcher(self._one.head)
        for chunk in chunks:
            try:
                player.play(stitcher.chunk(chunk))
            except ValueError:  # noise instead of Ogg: as if it had not come
                continue


def head_of(news: News) -> bytes | None:
    """The header pages an alarm state carries, for whoever joins in the middle."""
    if news.kind is not Kind.ALARM_STATE or news.body is None:
        return None
    audio = news.body.get("audio")
    head = audio.get("head") if isinstance(audio, dict) else None
    try:
        return base64.b64decode(head, validate=True) if isinstance(head, str) else None
    except ValueError:
        return None
