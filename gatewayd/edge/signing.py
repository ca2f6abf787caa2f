"""The key that signs recordings: made at the first start, kept in the state, or given as a credential.

`evidence/key.pem` in the state directory (PKCS #8, mode 0600) is the key in use, unless there is a credential
`evidence_key`; `evidence/keys.json` lists the public keys, oldest first, each signed by the one before it.
Everything here waits for the disk: not to be called from the event loop.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gatewayd.config.credentials import FOLDER_ID, CredentialError, read_credential
from gatewayd.core.evidence import endorsement
from gatewayd.core.model import Body

FOLDER: Final = "evidence"
CREDENTIAL: Final = "evidence_key"
_GIVEN: Final = (CREDENTIAL, f"{FOLDER_ID}_{CREDENTIAL}")
KEYS_MAX: Final = 8  # listed; with one rotation a year older than any recording that is kept


class SigningError(Exception):
    """There is no key to sign with; the text says what was expected."""


class Signing:
    """The key in use, and the public keys it is the heir of."""

    def __init__(self, private: Ed25519PrivateKey, keys: Sequence[Body]) -> None:
        self._private = private
        self.keys = keys

    @property
    def public(self) -> str:
        """The public key, base64 of its 32 bytes."""
        return _public(self._private)

    def sign(self, data: bytes) -> bytes:
        """Sign with the key in use."""
        return self._private.sign(data)


def load(state: Path, credentials: Path | None) -> Signing:
    """Return the gateway's key; one is made where there is none yet. SigningError, OSError: there is none."""
    folder = state / FOLDER
    try:
        text = read_credential(credentials, CREDENTIAL).encode()
    except CredentialError:
        text = b""
    path = folder / "key.pem"
    make_folder(state)
    if not text:
        if not path.exists():
            _write(path, _pem(Ed25519PrivateKey.generate()))
        text = path.read_bytes()
    private = _read(text)
    keys = read_keys(state)
    if not keys or keys[-1]["public"] != _public(private):  # its file was replaced: nobody vouches for it
        keys = [*keys, {"public": _public(private)}][-KEYS_MAX:]
        _write(folder / "keys.json", json.dumps(keys).encode())
    return Signing(private, keys)


def make_folder(state: Path) -> Path:
    """Make the folder for what proves recordings, the daemon's own though root makes it. Return it."""
    folder = state / FOLDER
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        owner = state.stat()
        if os.geteuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


def pem(state: Path) -> str:
    """Return the public key in use as openssl reads it. SigningError, OSError: there is none."""
    keys = read_keys(state)
    if not keys:
        raise SigningError(
            f"expected a key in {state / FOLDER}, got none: the daemon makes it when it starts"
        )
    found = Ed25519PublicKey.from_public_bytes(base64.b64decode(keys[-1]["public"]))
    return found.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def read_keys(state: Path) -> list[dict[str, Any]]:
    """Return the public keys there are, oldest first; none where no daemon has run. OSError, SigningError."""
    path = state / FOLDER / "keys.json"
    try:
        keys = json.loads(path.read_bytes())
        if all(isinstance(key["public"], str) for key in keys) and isinstance(keys, list):
            return keys
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        pass
    raise SigningError(f"{path}: expected a list of public keys, got damage: move it away")


def rotate(state: Path, credentials: Path | None) -> Signing:
    """Put a new key in the place of the one in the state, which vouches for it and is no more.

    SigningError, OSError: it cannot be.
    """
    if credentials is not None and any((credentials / name).exists() for name in _GIVEN):
        raise SigningError(f"the key is the credential {CREDENTIAL}: replace that file, and restart")
    old = load(state, None)
    new = Ed25519PrivateKey.generate()
    public = _public(new)
    signature = base64.b64encode(old.sign(endorsement(public))).decode()
    keys = [*old.keys, {"public": public, "signature": signature}][-KEYS_MAX:]
    folder = state / FOLDER
    # In this order: after a power cut between the two the old key is appended once more, and nobody vouches
    # for it; the other way round nobody would vouch for the new one.
    _write(folder / "keys.json", json.dumps(keys).encode())
    _write(folder / "key.pem", _pem(new))
    return Signing(new, keys)


def _read(text: bytes) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(f"expected an Ed25519 key in PEM without a password, got {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningError("expected an Ed25519 key, got another kind: `openssl genpkey -algorithm ed25519`")
    return private


def _public(private: Ed25519PrivateKey) -> str:
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, readable by its owner, whose folder's owner that is."""
    beside = path.with_name(f"{path.name}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
        if os.geteuid() == 0:  # the daemon, another user, must still read what root rotated
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)
    beside.replace(path)
