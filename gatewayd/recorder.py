"""Between the microphone and the alarms: whose sound it is, and the chunks made of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from gatewayd.core import alarm as alarms
from gatewayd.core import payload, sound, topic
from gatewayd.core.model import Draft, Instant, Keep, MessageClass
from gatewayd.core.recording import Chunk, Mark, Recording

logger = logging.getLogger(__name__)

CODEC: Final = "opus"
NO_MICROPHONE: Final = "no microphone is configured"


class Source(Protocol):
    """What sound comes from: `edge.mic.Microphone`."""

    def start(self) -> None:
        """Want sound."""

    def stop(self) -> None:
        """Want no more; `Closed` follows."""


class Recorder:
    """Records for one alarm at a time, with one microphone.

    `on_event` gets what the alarm is told of its sound, `on_chunk` each chunk as a draft with its pages, the
    mark from which another run of the daemon can go on, and what the alarm is told of it.
    """

    def __init__(
        self,
        *,
        now: Callable[[], Instant],
        on_event: Callable[[alarms.Event], None],
        on_chunk: Callable[[Draft, bytes, str, alarms.Chunked], None],
    ) -> None:
        self.source: Source | None = None  # None: no microphone is configured
        self._rate_hz = 0
        self._chunk_s = 0.0
        self._now = now
        self._on_event = on_event
        self._on_chunk = on_chunk
        self._marks: dict[str, Mark] = {}  # of recordings that may go on
        # Whose sound it is: of the first one. A second one waits until the first one's last chunk is made.
        self._queue: deque[str] = deque()
        self._recording: Recording | None = None  # of the first one, from its first event on
        self._wanted: str | None = None

    def configure(self, *, rate_hz: int, chunk_s: float) -> None:
        """Record at this rate, in chunks of this length; a link that has begun is not changed."""
        self._rate_hz, self._chunk_s = rate_hz, chunk_s

    def restore(self, alarm: str, mark: str) -> None:
        """Know where an earlier run of the daemon stopped. Damage costs the link its proper end, no sound."""
        try:
            self._marks[alarm] = Mark.from_json(payload.load(mark))
        except (ValueError, KeyError) as error:
            logger.warning("expected a recording's mark, got damage (%s); a new link begins", error)

    @property
    def marks(self) -> Mapping[str, str]:
        """How far each recording that may go on has come, as it is stored."""
        return {alarm: payload.dump(mark.to_json()) for alarm, mark in self._marks.items()}

    def began(self, alarm: str, at: Instant) -> None:
        """An earlier run recorded from `at` on, and the disk may not know how far it came."""
        nothing = Mark(next_n=0, serial=0, sequence=0, granule=0, end=at, ended=False)
        self._marks.setdefault(alarm, nothing)

    def number_from(self, alarm: str, n: int) -> None:
        """Number an alarm's chunks from `n`: an earlier run, whose disk is lost, made those below."""
        end = self._now()
        self._marks[alarm] = Mark(next_n=n, serial=0, sequence=0, granule=0, end=end, ended=True)

    def start(self, alarm: str) -> None:
        """Record for an alarm; nothing when it is being recorded."""
        if self._wanted == alarm:
            return
        if self._wanted is not None:
            self.stop(self._wanted)
        self._wanted = alarm
        if self.source is None:
            self._on_event(alarms.SoundUnavailable(alarm=alarm, reason=NO_MICROPHONE))
            return
        self._queue.append(alarm)
        self.source.start()

    def stop(self, alarm: str) -> None:
        """End an alarm's recording; its last chunk and `SoundEnded` follow."""
        if self._wanted != alarm:
            return
        self._wanted = None
        if self.source is not None:
            self.source.stop()

    def forget(self, alarm: str) -> None:
        """The alarm is gone for good."""
        self._marks.pop(alarm, None)

    def attach(self, source: Source | None) -> None:
        """Go on with another microphone, or with none, after the configuration changed.

        The one before says nothing more: what it would have closed is closed here. Without one, sound that is
        wanted counts as unavailable; it goes on when there is one again.
        """
        self.source = source
        while len(self._queue) > (self._wanted is not None):
            self.take(sound.Closed(at_s=self._now().mono_s))
        if self._wanted is None:
            return
        if source is None:
            self.finish()
            self._queue.clear()
            self._on_event(alarms.SoundUnavailable(alarm=self._wanted, reason=NO_MICROPHONE))
            return
        if not self._queue:
            self._queue.append(self._wanted)
        source.start()

    def take(self, event: sound.Event) -> None:
        """Place what the microphone tells."""
        if not self._queue:
            return
        alarm = self._queue[0]
        recording = self._recording = self._recording or self._begin(alarm)
        chunks = recording.take(event, self._now())
        match event:
            case sound.Opened():
                head = recording.head_base64 or ""
                self._on_event(alarms.SoundOpened(alarm=alarm, codec=CODEC, head=head))
            case sound.Failed():
                self._on_event(alarms.SoundUnavailable(alarm=alarm, reason=event.reason))
            case _:
                pass
        self._publish(alarm, chunks)
        if isinstance(event, sound.Closed):
            self._queue.popleft()
            self._recording = None
            self._on_event(alarms.SoundEnded(alarm=alarm))

    def finish(self) -> None:
        """Close the link that is being recorded: the daemon stops, or has no microphone any more."""
        recording, self._recording = self._recording, None
        if recording is not None:
            now = self._now()
            alarm = self._queue[0]
            self._publish(alarm, recording.end(now.mono_s, now, wanted=alarm == self._wanted))

    def _begin(self, alarm: str) -> Recording:
        return Recording(alarm, rate_hz=self._rate_hz, chunk_s=self._chunk_s, mark=self._marks.get(alarm))

    def _publish(self, alarm: str, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._marks[alarm] = chunk.mark
            draft = Draft(
                topic=topic.alarm_audio(alarm, chunk.n),
                message_class=MessageClass.AUDIO_LIVE,
                keep=Keep.AT_ONCE,
                at=chunk.at,
                body={"duration_ms": chunk.duration_ms},
            )
            gaps = tuple(gap.body for gap in chunk.gaps)
            told = alarms.Chunked(alarm=alarm, chunks=chunk.n + 1, gaps=gaps)
            self._on_chunk(draft, chunk.pages, payload.dump(chunk.mark.to_json()), told)
