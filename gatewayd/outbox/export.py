"""An outbox as a ZIP file for whoever looks into an incident: messages to read, sound to play."""

from __future__ import annotations

import base64
import errno
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from gatewayd.core import alarm as alarms
from gatewayd.core import payload, topic
from gatewayd.core.model import ClockState, Instant, Keep, Message, MessageClass
from gatewayd.core.payload import Plain, render
from gatewayd.edge.outbox.file import ASIDE, audio_directory
from gatewayd.edge.outbox.reading import read_records, read_rows
from gatewayd.edge.outbox.rows import Row, place_of, to_message
from gatewayd.edge.outbox.salvage import read_damaged, read_damaged_records
from gatewayd.edge.outbox.segments import Place, read_sound
from gatewayd.monitor.sound import Sound
from gatewayd.outbox.site import Site

ALARM: Final = "alarm"  # the kind of the alarms' records

ROWS: Final = 200  # read at a time: 0.3 MB of sound
README: Final = """\
What waited in a gateway's outbox.

messages.jsonl  each message, as it would have gone out: one JSON object a line, the payload in "payload".
                A chunk of sound names its number and hash; the sound itself is in sound/.
alarms.jsonl    the alarms the gateway knew, as their states would have been told.
sound/          each alarm's sound, as far as it waited here: Ogg Opus, which VLC and ffplay play. What is
                missing between two chunks is silent there, so that time stays true.

What was delivered before is not here: the broker and the desk have it.
"""


class Exporter:
    """Writes what lies in an outbox into a ZIP file."""

    def __init__(self, site: Site, clock: ClockState, now: Instant) -> None:
        """`clock`: what is known of the time now; times of this boot are told rightly by it."""
        self._site = site
        self._audio = audio_directory(site.path)
        self._clock = clock
        self._now = now
        self.messages = 0
        self.damaged = 0

    def write(self, file: Path) -> None:
        """Write the file, whole or not at all. OSError when it cannot be written, or is there already."""
        if file.exists():
            raise FileExistsError(errno.EEXIST, "it is there already: name another")
        part = file.with_name(file.name + ".part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with (
                os.fdopen(descriptor, "w+b") as raw,
                zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive,
            ):
                archive.writestr("README.txt", README)
                sounding = self._write_messages(archive)
                heads = self._write_alarms(archive)
                for alarm, chunks in sounding.items():
                    archive.writestr(f"sound/{alarm}.opus", self._sound(chunks, heads.get(alarm)))
            part.rename(file)
        finally:
            part.unlink(missing_ok=True)

    def _write_messages(self, archive: zipfile.ZipFile) -> dict[str, dict[int, Place]]:
        """Write every message; return where each alarm's chunks lie, by number."""
        sounding: dict[str, dict[int, Place]] = defaultdict(dict)
        with archive.open("messages.jsonl", "w") as lines:
            for row in self._rows():
                try:
                    message = to_message(row, self._audio)
                except FileNotFoundError:
                    continue  # delivered meanwhile
                except (ValueError, OSError):
                    self.damaged += 1
                    continue
                about, place = topic.parse(message.topic), place_of(row)
                if (
                    place is not None
                    and about is not None
                    and about.alarm is not None
                    and about.n is not None
                ):
                    sounding[about.alarm][about.n] = place
                self.messages += 1
                lines.write(_line(self._described(message)))
        return sounding

    def _rows(self) -> Iterator[Row]:
        if ASIDE in self._site.path.name:
            yield from read_damaged(self._site.path)
            return
        for name in MessageClass:
            for _, row in read_rows(self._site.path, name, ROWS):
                yield row

    def _described(self, message: Message) -> dict[str, Plain]:
        base = self._site.base
        whole = message.topic if base is None else topic.whole(base, message.topic)
        described: dict[str, Plain] = {
            "class": message.message_class.value,
            "topic": message.response_topic or whole,
            "retain": message.retain,
        }
        if message.sound is None:
            return {**described, "payload": self._rendered(message)}
        return {
            **described,
            "id": message.id,
            "at": payload.at(message.at, self._clock),
            "sha256": sha256(message.sound).hexdigest(),
            "bytes": len(message.sound),
        }

    def _rendered(self, message: Message) -> Plain:
        """Return a message as it would go out now; without the gateway where nobody here knows it."""
        gateway = self._site.gateway
        rendered = render(message, gateway=gateway or "", clock=self._clock, published=self._now)
        body: Plain = json.loads(rendered.payload or b"null")  # empty: a topic that is withdrawn
        if gateway is None and isinstance(body, dict):
            del body["gateway"]
        return body

    def _write_alarms(self, archive: zipfile.ZipFile) -> dict[str, bytes]:
        """Write the alarms that the gateway knew; return the heads of their sound."""
        heads: dict[str, bytes] = {}
        with archive.open("alarms.jsonl", "w") as lines:
            for text in self._alarm_records():
                try:
                    alarm = alarms.from_json(text)
                except ValueError:
                    self.damaged += 1
                    continue
                if alarm.audio.head is not None:
                    heads[alarm.id] = base64.b64decode(alarm.audio.head)
                lines.write(_line(self._rendered(_state(alarm))))
        return heads

    def _alarm_records(self) -> Iterable[str]:
        if ASIDE in self._site.path.name:
            return read_damaged_records(self._site.path, ALARM)
        return read_records(self._site.path, ALARM).values()

    def _sound(self, chunks: dict[int, Place], head: bytes | None) -> bytes:
        sound = Sound()
        sound.head = head
        for n, place in chunks.items():
            with suppress(FileNotFoundError):  # delivered meanwhile
                sound.add(n, read_sound(self._audio, place))
        return sound.file()


def _state(alarm: alarms.Alarm) -> Message:
    """Return the state message of an alarm."""
    return Message(
        id=alarm.id,
        run="",
        seq=0,
        topic=topic.alarm_state(alarm.id),
        message_class=MessageClass.ALARM,
        keep=Keep.AT_ONCE,
        at=alarm.updated,
        body=alarm.body,
    )


def _line(value: Plain) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
