"""`gatewayd evidence verify`, `key` and `rotate`, and `gatewayd audit`: what they print, and how they end."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gatewayd.core.audit import verify as audited
from gatewayd.core.evidence import PUBLIC_BYTES, Findings, Saved
from gatewayd.core.evidence import verify as verified
from gatewayd.edge.audit import read as read_log
from gatewayd.edge.signing import SigningError, pem
from gatewayd.edge.signing import rotate as rotated
from gatewayd.monitor.folder import read
from gatewayd.monitor.keep import folder_beside
from gatewayd.monitor.sound import Sound

FAILED: Final = 1
USAGE: Final = 2


def verify(path: Path, key: Path | None, *, as_json: bool) -> int:
    """Print what is wrong with a saved recording, and what it is. Return the exit status, as all here do."""
    try:
        public = None if key is None else _public(key)
    except ValueError as error:
        print(f"gatewayd evidence verify: --key: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"gatewayd evidence verify: {key}: {error.strerror}", file=sys.stderr)
        return FAILED
    folder = path if path.is_dir() else folder_beside(path)
    if not folder.is_dir():
        print(f"gatewayd evidence verify: expected a saved recording at {folder}, got none", file=sys.stderr)
        return FAILED
    try:
        saved = read(folder)
        sound = None if path is folder else path.read_bytes()
    except OSError as error:
        print(f"gatewayd evidence verify: {error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED
    found = verified(saved, public)
    problems = [*found.problems]
    if sound is not None and sound != _made_of(saved):
        problems.append(f"{path.name} altered: it is not what its chunks make")
    _print(found, problems, as_json=as_json)
    return FAILED if problems else 0


def _made_of(saved: Saved) -> bytes:
    sound = Sound()
    for n, pages in saved.chunks.items():
        sound.add(n, pages)
    return sound.file()


def _print(found: Findings, problems: list[str], *, as_json: bool) -> None:
    if as_json:
        told = [{name: value for name, value in body.items() if name != "keys"} for body in found.told]
        print(
            json.dumps(
                {
                    "ok": not problems,
                    "problems": problems,
                    "chunks_proved": found.vouched,
                    "lost": list(found.lost),
                    "manifests": told,
                }
            )
        )
        return
    for problem in problems:
        print(problem, file=sys.stderr)
    for body in found.told:
        clock = body.get("clock")
        source = clock.get("source") if isinstance(clock, dict) else None
        print(f"alarm {body.get('alarm')} of gateway {body.get('gateway')}, signed {body.get('at')}")
        print(
            f"  began {body.get('began_at')}, clock {source}, {body.get('codec')} from {body.get('device')}"
        )
        if body.get("began_anew"):
            print(f"  the chain begins anew with chunk {body.get('first')}: what was before it is not in it")
    for gap in found.lost:
        print(f"  {gap}")
    verdict = "is NOT as the gateway made it" if problems else "is as the gateway made it"
    print(f"{found.vouched} chunks are proved; the recording {verdict}")


def key(state: Path) -> int:
    """Print the public key in use as openssl reads it."""
    try:
        print(pem(state), end="")
    except (SigningError, OSError) as error:
        print(f"gatewayd evidence key: {error}", file=sys.stderr)
        return FAILED
    return 0


def audit(state: Path, *, as_json: bool) -> int:
    """Print the audit log, and what is wrong with it."""
    try:
        lines = read_log(state)
    except OSError as error:
        print(f"gatewayd audit: {error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED
    problems = audited(lines)
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems, "entries": lines}))
        return FAILED if problems else 0
    print(*lines, sep="\n")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(lines)} entries, {'NOT as they were written' if problems else 'as they were written'}")
    return FAILED if problems else 0


def rotate(state: Path, credentials: Path | None) -> int:
    """Put a new key in the place of the one in use, which vouches for it."""
    try:
        signing = rotated(state, credentials)
    except (SigningError, OSError) as error:
        print(f"gatewayd evidence rotate: {error}", file=sys.stderr)
        return FAILED
    print(f"the key is {signing.public} from the next `systemctl reload gatewayd` on")
    return 0


def _public(file: Path) -> bytes:
    """Read a public key: PEM, or a line of base64 as health tells it. ValueError when it is none."""
    text = file.read_bytes()
    try:
        if text.startswith(b"-----"):
            found = load_pem_public_key(text)
            raw = found.public_bytes_raw() if isinstance(found, Ed25519PublicKey) else b""
        else:
            raw = base64.b64decode(text.strip(), validate=True)
    except (ValueError, UnsupportedAlgorithm):
        raw = b""
    if len(raw) != PUBLIC_BYTES:
        raise ValueError(f"expected an Ed25519 public key in PEM or base64, got {file}")
    return raw
