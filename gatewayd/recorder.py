"""Between the microphone and the alarms: whose sound it is, and the chunks made of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from gatewayd.core import alarm as alarms
from gatewayd.core import evidence, payload, sound, topic
from gatewayd.core.evidence import Chain
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
    mark from which another run of the daemon can go on, what the alarm is told of it, and the list of the
    chunks' hashes when that is full.
    """

    def __init__(
        self,
        *,
        now: Callable[[], Instant],
        on_event: Callable[[alarms.Event], None],
        on_chunk: Callable[[Draft, bytes, str, alarms.Chunked, Sequence[Draft]], None],
    ) -> None:
        self.source: Source | None = None  # None: no microphone is configured
        self._rate_hz = 0
        self._chunk_s = 0.0
        self._now = now
        self._on_event = on_event
        self._on_chunk = on_chunk
        self._marks: dict[str, Mark] = {}  # of recordings that may go on
        self._chains: dict[str, Chain] = {}  # of their chunks
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
            body = payload.load(mark)
            self._marks[alarm] = Mark.from_json(body)
            if isinstance(chain := body.get("chain"), Mapping):
                self._chains[alarm] = Chain.from_json(alarm, chain)
        except (ValueError, KeyError) as error:
            logger.warning("expected a recording's mark, got damage (%s); a new link begins", error)

    @property
    def marks(self) -> Mapping[str, str]:
        """How far each recording that may go on has come, as it is stored."""
        return {alarm: self.mark(alarm) for alarm in self._marks}

    def mark(self, alarm: str) -> str:
        """How far a recording that may go on has come, as it is stored."""
        chain = self._chains.get(alarm)
        told = {} if chain is None else {"chain": chain.to_json()}
        return payload.dump({**self._marks[alarm].to_json(), **told})

    def unsealed(self, *, stopping: bool) -> tuple[str, ...]:
        """The alarms of which no manifest tells all: those whose recording is over, or all that there are."""
        chains = self._chains.items()
        return tuple(
            name for name, chain in chains if not chain.sealed and (stopping or name not in self._queue)
        )

    @property
    def unproved(self) -> frozenset[str]:
        """The alarms of which sound is still being taken, or no manifest tells all."""
        return frozenset((*self._queue, *self.unsealed(stopping=True)))

    def seal(self, alarm: str) -> tuple[Chain, tuple[Draft, ...]]:
        """Close an alarm's chain, for a manifest tells of it; return it, and the list that ends it."""
        chain = self._chains[alarm]
        lists = self._closing(chain)
        self._chains[alarm] = chain = replace(chain.close(), sealed=True)
        return chain, lists

    def _closing(self, chain: Chain) -> tuple[Draft, ...]:
        if not chain.text:
            return ()
        return (
            Draft(
                topic=topic.alarm_evidence_list(chain.alarm, evidence.first_of(chain.text)),
                message_class=MessageClass.POSITION,  # before old sound: it says what that sound is
                keep=Keep.AT_ONCE,
                at=self._now(),
                body={"alarm": chain.alarm, "list": chain.text},
            ),
        )

    def began(self, alarm: str, at: Instant) -> None:
        """An earlier run recorded from `at` on, and the disk may not know how far it came."""
        nothing = Mark(next_n=0, serial=0, sequence=0, granule=0, end=at, ended=False)
        self._marks.setdefault(alarm, nothing)

    def number_from(self, alarm: str, n: int) -> None:
        """Number an alarm's chunks from `n`: an earlier run, whose disk is lost, made those below."""
        end = self._now()
        self._marks[alarm] = Mark(next_n=n, serial=0, sequence=0, granule=0, end=end, ended=True)
        self._chains.pop(alarm, None)

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
        self._chains.pop(alarm, None)

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
            lists = self._chain(alarm, chunk)
            self._on_chunk(draft, chunk.pages, self.mark(alarm), told, lists)

    def _chain(self, alarm: str, chunk: Chunk) -> tuple[Draft, ...]:
        """Add a chunk to its alarm's chain; return the list that it fills."""
        gaps = [evidence.gap_line(gap.cause, gap.duration_ms, gap.skipped) for gap in chunk.gaps]
        chain = self._chains.get(alarm) or Chain(alarm=alarm)
        chain = chain.add(chunk.n, chunk.pages, chunk.at, gaps)
        lists = self._closing(chain) if chain.full else ()
        self._chains[alarm] = chain.close() if chain.full else chain
        return lists
