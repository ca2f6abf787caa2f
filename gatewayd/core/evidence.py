"""Evidence: what shows that a recording is as the gateway made it. `docs/evidence.md` tells it to others.

The rules:
- Every chunk is named with its SHA-256 in a list, in the order in which it was made; a list names the one
  before it by its SHA-256, so the newest one stands for them all. The manifest names that one, and is signed.
- Lists and manifest are texts, hashed and signed byte for byte as they travel: sha256sum and openssl suffice.
- A list is short, and the manifest has one length however long a recording is: an alarm may stand behind it.
- What was lost is said: gaps and left out numbers stand in the lists. A chain whose beginning another run of
  the daemon did not leave behind begins anew, and says so by the number of its first chunk.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gatewayd.core.model import Body, Instant, Json

VERSION: Final = 1
NONE: Final = "none"  # stands for the list before the first one
# A list is stored anew with each of its chunks, and an alarm may stand behind it when it is published: 32
# lines of 75 bytes are 2.4 kB, in one page of the database, and less than half of what may be in flight.
LIST_CHUNKS: Final = 32
EXPIRY_S: Final = 30 * 24 * 3600  # the contract's, of the manifest at the broker
PUBLIC_BYTES: Final = 32  # of an Ed25519 key (RFC 8032, section 5.1)
_HEAD: Final = re.compile(r"# gatewayd evidence 1 alarm (\S+) from (\d+) before ([0-9a-f]{64}|none)")
_LINE: Final = re.compile(r"([0-9a-f]{64})  audio/(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What is known of a recording's chain after its newest chunk."""

    alarm: str
    start: int | None = None  # the first chunk's number; None: there is none
    last: int = 0  # the newest one's
    count: int = 0  # of chunks
    text: str = ""  # the list that is open
    lines: int = 0  # chunks in it
    before: str = NONE  # the SHA-256 of the list before it
    began: Instant | None = None  # the first chunk's
    sealed: bool = True  # a manifest tells of all of it

    def add(self, n: int, pages: bytes, at: Instant, gaps: Sequence[str] = ()) -> Chain:
        """Return the chain with a chunk, and what was lost before or in it, as `gap_line` says it."""
        text = self.text or f"# gatewayd evidence 1 alarm {self.alarm} from {n} before {self.before}\n"
        text += "".join(f"{gap}\n" for gap in gaps) + f"{sha256(pages).hexdigest()}  audio/{n}\n"
        return replace(
            self,
            start=n if self.start is None else self.start,
            last=n,
            count=self.count + 1,
            text=text,
            lines=self.lines + 1,
            began=self.began or at,
            sealed=False,
        )

    @property
    def full(self) -> bool:
        """Whether the open list is to be closed."""
        return self.lines >= LIST_CHUNKS

    def close(self) -> Chain:
        """Return the chain with its open list closed; the next chunk begins another."""
        return self if not self.text else replace(self, text="", lines=0, before=digest(self.text))

    def to_json(self) -> Body:
        """Return the chain as it is stored."""
        return {
            "start": self.start,
            "last": self.last,
            "count": self.count,
            "text": self.text,
            "lines": self.lines,
            "before": self.before,
            "began": self.began,
            "sealed": self.sealed,
        }

    @classmethod
    def from_json(cls, alarm: str, body: Body) -> Chain:
        """Return the chain that `to_json` gave `body` of. KeyError when it is damaged."""
        return cls(
            alarm=alarm,
            start=cast("int | None", body["start"]),
            last=cast("int", body["last"]),
            count=cast("int", body["count"]),
            text=cast("str", body["text"]),
            lines=cast("int", body["lines"]),
            before=cast("str", body["before"]),
            began=cast("Instant | None", body["began"]),
            sealed=cast("bool", body["sealed"]),
        )


def digest(text: str) -> str:
    """Return the SHA-256 of a list, in hex: its name in the list after it."""
    return sha256(text.encode()).hexdigest()


def first_of(text: str) -> int:
    """Return the number a list begins with. ValueError when it is none."""
    head = _HEAD.match(text)
    if head is None:
        raise ValueError(f"expected a list of chunks, got {text[:60]!r}")
    return int(head[2])


def gap_line(cause: str, duration_ms: int | None, skipped: int) -> str:
    """Return a gap as a list tells it, before the chunk that stands for it."""
    lasted = "unknown" if duration_ms is None else f"{duration_ms} ms"
    return f"# gap {cause} {lasted}, {skipped} numbers left out"


def manifest(chain: Chain, facts: Mapping[str, Json]) -> dict[str, Json]:
    """Return what is to be signed of a chain whose list is closed; `facts`: what else is known."""
    return {
        "evidence": VERSION,
        "alarm": chain.alarm,
        "first": chain.start,
        "last": chain.last,
        "chunks": chain.count,
        "head": chain.before,
        "began_anew": chain.start != 0,
        "began_at": chain.began,
        **facts,
    }


def endorsement(public: str) -> bytes:
    """Return what an old key signs of the new one (`public`: base64) that takes its place."""
    return f"gatewayd key {public}".encode()


# --- verifying ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A manifest as it was signed, and the signature; empty: the gateway had no key."""

    name: str  # of its file
    text: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A recording as somebody kept it. Lists and chunks by the number in their names."""

    manifests: Sequence[Signed]
    lists: Mapping[int, bytes]
    chunks: Mapping[int, bytes]
    strange: Sequence[str] = ()  # files that are none of these


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What verifying found: nothing wrong when there is no problem."""

    problems: tuple[str, ...]
    vouched: int  # chunks that are proved to be as they were made
    told: tuple[Mapping[str, Any], ...]  # the manifests that could be trusted; Any: JSON
    lost: tuple[str, ...] = ()  # the gaps their lists tell of

    @property
    def good(self) -> bool:
        """Whether the recording is as the gateway made it."""
        return not self.problems


def verify(saved: Saved, public: bytes | None) -> Findings:
    """Say what is wrong with a saved recording. `public`: the gateway's key, raw; None: nobody knows it."""
    problems = [f"{name}: expected no such file in a recording" for name in saved.strange]
    told: list[Mapping[str, Any]] = []
    listed: dict[int, str] = {}
    lost: list[str] = []
    reached: set[int] = set()
    if not saved.manifests:
        problems.append("manifest missing: nothing says what the recording was")
    for signed in saved.manifests:
        found = _trusted(signed, public)
        if isinstance(found, str):
            problems.append(f"{signed.name}: {found}")
            continue
        told.append(found)
        problems += _walk(found, saved.lists, reached, listed, lost)
    if told:
        unreached = sorted(saved.lists.keys() - reached)
        problems += [f"list {n} altered: it is not the one that was made" for n in unreached]
        problems += _compare(listed, saved.chunks)
    hashes = {n: sha256(pages).hexdigest() for n, pages in saved.chunks.items()}
    vouched = sum(hashes[n] == listed.get(n) for n in hashes)
    return Findings(problems=tuple(problems), vouched=vouched, told=tuple(told), lost=tuple(lost))


def _trusted(signed: Signed, public: bytes | None) -> Mapping[str, Any] | str:
    """Return what a manifest says, if it can be trusted, else why it cannot."""
    if not signed.signature:
        return "no signature: the gateway had no key when it made this, so nothing is proved"
    if public is None:
        return "no key: name the gateway's public key by --key, else nothing is proved"
    try:
        body = json.loads(signed.text)
    except (ValueError, RecursionError):
        body = None
    keys = _keys(body) if isinstance(body, dict) else []
    if _fits(public, signed.signature, signed.text):
        return body if isinstance(body, dict) else "manifest altered: expected a JSON object"
    for key in _heirs(public, keys):
        if isinstance(body, dict) and _fits(key, signed.signature, signed.text):
            return body
    own = _raw(keys[-1].get("public")) if keys else None
    if own is not None and own != public and _fits(own, signed.signature, signed.text):
        expected = f"expected {_base64(public)} or one that it vouches for"
        return f"wrong key: it was signed with {_base64(own)}, {expected}"
    return "manifest altered: its signature does not fit it, or it is another key's"


def _keys(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    keys = body.get("keys")
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _heirs(public: bytes, keys: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the keys that took the place of `public`, each vouched for by the one before."""
    trusted: bytes | None = None
    for key in keys:
        raw, signature = _raw(key.get("public")), _raw(key.get("signature"))
        if raw is None:
            return
        if trusted is not None:
            if signature is None or not _fits(trusted, signature, endorsement(_base64(raw))):
                return
            trusted = raw
            yield raw
        elif raw == public:
            trusted = raw


def _raw(text: object) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fits(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _walk(
    body: Mapping[str, Any],
    lists: Mapping[int, bytes],
    reached: set[int],
    listed: dict[int, str],
    lost: list[str],
) -> list[str]:
    """Follow the chain from its newest list to its first one; note what it lists."""
    by_digest = {sha256(text).hexdigest(): n for n, text in lists.items()}
    name, after = body.get("head"), "the manifest"
    gaps: list[str] = []
    while name != NONE:
        n = by_digest.get(str(name))
        if n is None:
            what = f"list missing or altered: the one that {after} names"
            return [f"{what}; nothing proves what it lists, nor the lists before it"]
        reached.add(n)
        lines = lists[n].decode().splitlines()
        head = _HEAD.fullmatch(lines[0])
        if head is None or head[1] != body.get("alarm"):
            return [f"list {n}: expected one of alarm {body.get('alarm')}, got {lines[0]!r}"]
        listed |= {int(line[2]): line[1] for line in map(_LINE.fullmatch, lines) if line is not None}
        gaps[:0] = [line.removeprefix("# ") for line in lines[1:] if line.startswith("# gap ")]
        name, after = head[3], f"list {n}"
    lost += gaps
    return []


def _compare(listed: Mapping[int, str], chunks: Mapping[int, bytes]) -> list[str]:
    """Return what is wrong with the chunks, in the order of their numbers."""
    where = {name: n for n, name in listed.items()}
    problems = []
    for n in sorted(listed.keys() | chunks.keys()):
        if n not in chunks:
            problems.append(f"chunk {n} missing")
        elif n not in listed:
            problems.append(f"chunk {n} not listed: added, or made after the manifest, or lost to a kill")
        elif (found := sha256(chunks[n]).hexdigest()) != listed[n]:
            other = where.get(found)
            is_other = "altered" if other is None else f"reordered: it is what chunk {other} was"
            problems.append(f"chunk {n} {is_other}")
    return problems
