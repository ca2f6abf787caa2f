"""A folder with one alarm as it came: what `gatewayd evidence verify` reads, and sha256sum and openssl too.

audio/N            chunk N, byte for byte
lists/N            the list of hashes that begins with chunk N
manifest-N.json    what was signed of the chain that begins with chunk N, the newest
manifest-N.sig     the signature, 64 bytes
state.json, events.jsonl    the alarm as it was told, which nobody signed
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gatewayd.core.evidence import Saved, Signed
from gatewayd.core.topic import Kind
from gatewayd.monitor.news import News

EARLY: Final = 1_000  # messages remembered until it is known whose sound comes: a day of alarms on a bad day
_UNSIGNED: Final = frozenset({"state.json", "events.jsonl"})


class Folder:
    """Writes what belongs to one alarm."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._alarm: str | None = None
        self._early: list[News] = []

    def begin(self, path: Path, alarm: str) -> None:
        """Keep this alarm here, with what was told of it before. OSError: it cannot be written."""
        self._path, self._alarm = path, alarm
        for folder in (path, path / "audio", path / "lists"):
            folder.mkdir(exist_ok=True)
        early, self._early = self._early, []
        for news in early:
            self.take(news)

    def take(self, news: News) -> None:
        """Keep what belongs to the alarm. OSError: it cannot be written."""
        if self._path is None:
            if news.alarm is not None and news.sound is None:
                self._early = [*self._early, news][-EARLY:]
        elif news.alarm == self._alarm:
            self._write(self._path, news)

    def _write(self, path: Path, news: News) -> None:
        body = news.body or {}
        match news.kind, body:
            case Kind.ALARM_AUDIO, _ if news.sound is not None:
                (path / "audio" / str(news.n)).write_bytes(news.sound)
            case Kind.ALARM_EVIDENCE_LIST, {"list": str(text)}:
                (path / "lists" / str(news.n)).write_text(text)
            case Kind.ALARM_EVIDENCE, {"signed": str(text)}:
                name = f"manifest-{_first(text)}"
                signature = body.get("signature")
                (path / f"{name}.json").write_text(text)
                (path / f"{name}.sig").write_bytes(
                    base64.b64decode(signature) if isinstance(signature, str) else b""
                )
            case Kind.ALARM_EVENT, {"type": _}:
                with (path / "events.jsonl").open("a") as events:
                    events.write(f"{json.dumps(body)}\n")
            case Kind.ALARM_STATE, {"alarm": _}:
                (path / "state.json").write_text(f"{json.dumps(body)}\n")
            case _:
                pass


def _first(text: str) -> int:
    """Return the first chunk's number of a manifest; 0 where it tells none."""
    try:
        first: Any = json.loads(text)["first"]  # Any: JSON from the network
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return first if isinstance(first, int) and first >= 0 else 0


def read(path: Path) -> Saved:
    """Read a folder back. OSError: it cannot be read."""
    found: dict[str, dict[int, bytes]] = {"audio": {}, "lists": {}}
    strange: list[str] = []
    manifests: list[Signed] = []
    for file in sorted(_files(path)):
        name = str(file.relative_to(path))
        kind, _, number = name.partition("/")
        if kind in found and number.isdecimal() and str(int(number)) == number:
            found[kind][int(number)] = file.read_bytes()
        elif name.startswith("manifest-") and name.endswith(".json"):
            beside = file.with_suffix(".sig")
            signature = beside.read_bytes() if beside.exists() else b""
            manifests.append(Signed(name=name, text=file.read_bytes(), signature=signature))
        elif name not in _UNSIGNED and not name.endswith(".sig"):
            strange.append(name)
    return Saved(manifests=manifests, lists=found["lists"], chunks=found["audio"], strange=strange)


def _files(path: Path) -> Iterator[Path]:
    return (file for file in path.rglob("*") if file.is_file())
