"""Signs what is told of a recording (`core/evidence`), notes who listened, and tells ops (`core/audit`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from gatewayd import __version__
from gatewayd.config.model import Config
from gatewayd.core import audit, evidence, payload, topic
from gatewayd.core.alarm import Alarms, Publish
from gatewayd.core.command import Incoming
from gatewayd.core.evidence import Chain
from gatewayd.core.model import Body, ClockState, Draft, Instant, Json, Keep, Message, MessageClass
from gatewayd.edge.audit import append, read, version
from gatewayd.edge.signing import SigningError, load
from gatewayd.recorder import CODEC, Recorder
from gatewayd.records import AUDIT, ONLY, RECORDING, RecordKey, Records
from gatewayd.uplink import Batch

logger = logging.getLogger(__name__)

# In the manifest, the latest; all of them stand in the lists. One takes 130 bytes.
GAPS: Final = 10
WAITING_MAX: Final = 1_000  # entries of the audit log, while the disk hangs: 0.5 MB
LOOK_S: Final = 5.0  # between looks at the audit log, which exports write, too


class Signer(Protocol):
    """The gateway's key: `edge.signing.Signing`."""

    @property
    def keys(self) -> Sequence[Body]:
        """The public keys, the one in use last, each vouched for by the one before."""

    def sign(self, data: bytes) -> bytes:
        """Sign with the one in use: 0.04 ms on a PC, as good as nothing for the loop."""


class Notary:
    """Makes manifests, signed as soon as there is a key."""

    def __init__(self, *, now: Callable[[], Instant]) -> None:
        self.ready = False  # the key has been read, or could not be
        self.signer: Signer | None = None
        self._now = now
        self._state: Path | None = None
        self._work: queue.Queue[Callable[[], None]] = queue.Queue(WAITING_MAX)  # for the disk
        self._told: str | None = None  # the digest of the last entry of the audit log that ops were told
        self._entries: Sequence[str] = ()  # the log, where somebody has written it
        self._seen: object = None  # what it looked like then
        self._loop: asyncio.AbstractEventLoop

    def begin(self, state: Path, credentials: Path | None) -> None:
        """Read the key in the state, or make it, and sign with it; keep the audit log there, too."""
        if self._state is None:
            threading.Thread(target=self._work_forever, name="notary", daemon=True).start()
        self._state, self._loop = state, asyncio.get_running_loop()

        def take() -> None:
            signing = None
            try:
                signing = load(state, credentials)
            except (SigningError, OSError) as error:
                logger.error("recordings are not signed: %s", error)
            self._tell(partial(self.engage, signing))

        self._soon(take, "the key is not read again")

    def _soon(self, work: Callable[[], None], lost: str) -> None:
        """Have the disk do something; where too much waits for it already, say what is `lost`."""
        try:
            self._work.put_nowait(work)
        except queue.Full:
            logger.error("the disk hangs: %s", lost)

    def _work_forever(self) -> None:
        """Do what waits for the disk, in order: one that hangs holds up nothing else, not even our end."""
        while True:
            try:
                self._work.get(timeout=LOOK_S)()
            except queue.Empty:
                self._look()

    def _look(self) -> None:
        """Read the audit log when somebody has written it: we, or an export."""
        if self._state is None:
            return
        try:
            if (seen := version(self._state)) != self._seen:
                self._seen = seen
                self._tell(partial(self._find, read(self._state)))
        except OSError as error:
            logger.error("the audit log cannot be read: %s", error)

    def _tell(self, news: Callable[[], None]) -> None:
        """Have the event loop take what the disk said."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: we stop
            self._loop.call_soon_threadsafe(news)

    def _find(self, entries: Sequence[str]) -> None:
        self._entries = entries

    def engage(self, signer: Signer | None) -> None:
        """Sign with this key from now on; None: there is none, and manifests say so."""
        self.signer, self.ready = signer, True

    def note(self, draft: Draft) -> None:
        """Note in the audit log what a message tells of listening."""
        self._note(audit.told(draft))

    def asked(self, incoming: Incoming, effects: Sequence[object]) -> None:
        """Note in the audit log that somebody asked to listen and was not obeyed."""
        for effect in effects if incoming.name.startswith("listen/") else ():
            if isinstance(effect, Publish) and effect.draft.topic == topic.REPLY:
                self._note(audit.refused(incoming, effect.draft, self._now()))

    def _note(self, body: Body | None) -> None:
        state = self._state
        if body is None or state is None:
            return
        now = self._now()
        entry = payload.plain({"at": now, "clock": now.source.value, **body}, _clock(now))

        def write() -> None:
            try:
                append(state, entry)
            except OSError as error:
                logger.error("the audit log cannot be written: %s; it misses: %s", error, entry)

        self._soon(write, f"the audit log misses {entry}")

    def restore(self, records: Records) -> None:
        """Take which entry ops were told last; what is known by now is newer."""
        if self._told is None:
            self._told = records.get(AUDIT, {}).get(ONLY)

    @property
    def records(self) -> dict[RecordKey, str]:
        """What the next run must know."""
        return {} if self._told is None else {(AUDIT, ONLY): self._told}

    def told(self, stamp: Callable[[Draft], Message]) -> Iterator[Batch]:
        """Yield what tells ops of entries of the audit log, whoever made them, the daemon running or not."""
        entries, self._entries = audit.untold(self._entries, self._told), ()
        if entries:
            self._told = audit.digest(entries[-1])
            messages = tuple(stamp(audit.telling(line, self._now())) for line in entries)
            yield Batch(messages=messages, records=self.records)

    @property
    def body(self) -> Body:
        """What health says of the keys: the one in use last. Empty while none is known."""
        return {} if self.signer is None else {"keys": list(self.signer.keys)}

    def seal(
        self,
        recorder: Recorder,
        alarms: Alarms,
        config: Config,
        stamp: Callable[[Draft], Message],
        *,
        stopping: bool,
    ) -> Iterator[Batch]:
        """Yield what tells of each recording that has stopped, once the key is known, or known not to be.

        `stopping`: the daemon is, and with it every recording.
        """
        for alarm in recorder.unsealed(stopping=stopping) if self.ready else ():
            chain, lists = recorder.seal(alarm)
            gaps = alarms[alarm].audio.gaps if alarm in alarms else ()
            drafts = (*lists, self._manifest(chain, gaps, config))
            yield Batch(
                messages=tuple(stamp(draft) for draft in drafts),
                records={(RECORDING, alarm): recorder.mark(alarm)},
            )

    def _manifest(self, chain: Chain, gaps: Sequence[Body], config: Config) -> Draft:
        now = self._now()
        facts: dict[str, Json] = {
            "at": now,
            "clock": {"source": now.source.value, "uncertainty_ms": now.uncertainty_ms},
            "gateway": config.gateway.id,
            "version": __version__,
            "codec": CODEC,
            "device": config.audio.device,
            "rate_hz": config.audio.rate_hz,
            "gaps": list(gaps[-GAPS:]),
            "keys": [] if self.signer is None else list(self.signer.keys),
        }
        text = json.dumps(payload.plain(evidence.manifest(chain, facts), _clock(now)), separators=(",", ":"))
        body: dict[str, Json] = {"alarm": chain.alarm, "signed": text}
        if self.signer is not None:
            body["signature"] = base64.b64encode(self.signer.sign(text.encode())).decode()
        return Draft(
            topic=topic.alarm_evidence(chain.alarm),
            message_class=MessageClass.POSITION,  # behind what hurries, before old sound
            keep=Keep.AT_ONCE,
            at=now,
            body=body,
            retain=True,
            replaces=True,
            expires_s=evidence.EXPIRY_S,
        )


def _clock(now: Instant) -> ClockState:
    return ClockState(
        boot=now.boot,
        offset_s=now.wall_s - now.mono_s,
        source=now.source,
        uncertainty_ms=now.uncertainty_ms,
    )
