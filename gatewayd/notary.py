"""Signs what is told of a recording: the manifest, whose text `core/evidence` makes and verifies."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from gatewayd import __version__
from gatewayd.config.model import Config
from gatewayd.core import evidence, payload, topic
from gatewayd.core.alarm import Alarms
from gatewayd.core.evidence import Chain
from gatewayd.core.model import Body, ClockState, Draft, Instant, Json, Keep, Message, MessageClass
from gatewayd.recorder import CODEC, RECORDING, Recorder
from gatewayd.uplink import Batch

# In the manifest, the latest; all of them stand in the lists. One takes 130 bytes.
GAPS: Final = 10


class Signer(Protocol):
    """The gateway's key: `edge.signing.Signing`."""

    @property
    def keys(self) -> Sequence[Body]:
        """The public keys, the one in use last, each vouched for by the one before."""

    def sign(self, data: bytes) -> bytes:
        """Sign with the one in use. 0.05 ms on a PC."""


class Notary:
    """Makes manifests, signed as soon as there is a key."""

    def __init__(self, *, now: Callable[[], Instant]) -> None:
        self.ready = False  # the key has been read, or could not be
        self.signer: Signer | None = None
        self._now = now

    def engage(self, signer: Signer | None) -> None:
        """Sign with this key from now on; None: there is none, and manifests say so."""
        self.signer, self.ready = signer, True

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
        offset_s = now.wall_s - now.mono_s
        clock = ClockState(
            boot=now.boot, offset_s=offset_s, source=now.source, uncertainty_ms=now.uncertainty_ms
        )
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
        text = json.dumps(payload.plain(evidence.manifest(chain, facts), clock), separators=(",", ":"))
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
