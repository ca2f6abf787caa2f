"""The systemd credentials: files in `$CREDENTIALS_DIRECTORY`, named by the `*_credential` settings.

A file `/etc/gatewayd/credentials/NAME` reaches the service as the credential `gatewayd_NAME`: systemd puts
the id of a folder before the names in it (systemd.exec(5), `LoadCredential=`). One that the unit is given as
NAME itself, say an encrypted one, counts first.

A secret is read when it is needed and never shown; an error names the credential, not what it holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 1 << 20  # systemd's own limit for one credential
FOLDER: Final = Path("/etc/gatewayd/credentials")
FOLDER_ID: Final = "gatewayd"  # in the unit's LoadCredential=
TAG_KEY_BYTES: Final = 16  # AES-128
_TAG_KEY_HEX: Final = re.compile(rb"[0-9A-Fa-f]{32}")


class CredentialError(Exception):
    """A credential that is missing or cannot be used; what depends on it goes without, or must wait."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected: Final = expected
        self.got: Final = got


def credentials_directory(environ: Mapping[str, str], folder: Path = FOLDER) -> Path | None:
    """Return where credentials lie: what systemd gave the service, else `folder`, for root on a command line.

    None where neither is there.
    """
    given = environ.get("CREDENTIALS_DIRECTORY")
    if given:
        return Path(given)
    return folder if folder.is_dir() else None


def credential_path(directory: Path | None, name: str) -> Path:
    """Return the path of a credential that is there, for a library that reads it itself.

    `directory` is what `credentials_directory` returned. Raises `CredentialError`.
    """
    if directory is None:
        raise CredentialError(
            f"the credential {name} in $CREDENTIALS_DIRECTORY",
            "no such directory (systemd gives it to a service)",
        )
    path = directory / name
    if not os.path.lexists(path):
        path = directory / f"{FOLDER_ID}_{name}"
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise CredentialError(f"the credential {name} in {directory}", reason(error)) from error


def read_credential(directory: Path | None, name: str) -> str:
    """Return a credential's text without the line end behind it. Raises `CredentialError`."""
    try:
        return _read(directory, name).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CredentialError(f"UTF-8 text in the credential {name}", "other bytes") from error


def read_tag_key(directory: Path | None, name: str) -> bytes:
    """Return a tag's key, 16 bytes, kept as such or as 32 hex digits. Raises `CredentialError`."""
    data = _read(directory, name)
    if len(data) == TAG_KEY_BYTES:
        return data
    text = data.strip()
    if not _TAG_KEY_HEX.fullmatch(text):
        raise CredentialError(
            f"32 hex digits or 16 bytes in the credential {name}", f"{len(data)} other bytes"
        )
    return bytes.fromhex(text.decode())


def _read(directory: Path | None, name: str) -> bytes:
    with credential_path(directory, name).open("rb") as file:
        return file.read(LIMIT_BYTES)


def reason(error: OSError) -> str:
    """Return why the system refused, in its own words."""
    return (error.strerror or str(error)).lower()
