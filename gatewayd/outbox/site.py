"""Where the outbox lies that is asked about, and whose it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.load import load_or_last_good, read_machine_id
from gatewayd.config.problem import ConfigurationError
from gatewayd.core import topic
from gatewayd.edge.outbox.file import (
    DamagedDatabaseError,
    NewerDatabaseError,
    check_schema,
    is_damage,
    read_only,
)

SERVICE: Final = Path("/var/lib/gatewayd")  # where the installed service keeps its state


class OutboxError(Exception):
    """The outbox cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An outbox that can be read."""

    path: Path
    version: int
    base: str | None = None  # of its gateway's topics; None: nobody here knows
    gateway: str | None = None  # its id


def find(
    *, config: Path | None, state: Path | None, database: Path | None, environ: Mapping[str, str]
) -> Site:
    """Find the outbox: the file `database`, or as the daemon would.

    OutboxError when it cannot be read, ConfigurationError when the configuration must be known and is bad.
    Of an outbox from elsewhere the gateway is known only where the configuration says it: the id that is
    made from the machine's would be this machine's.
    """
    folder = state or state_folder(environ)
    path, base, gateway = database or folder / "outbox.db", None, None
    try:
        loaded = load_or_last_good(config, folder, credentials=None, machine_id=read_machine_id()).loaded
    except ConfigurationError:
        if database is None:
            raise
    else:
        settings = loaded.config
        if database is None:
            path = settings.outbox.path or path
        if database is None or ("gateway", "id") in loaded.origins:
            gateway = settings.gateway.id
            base = topic.base(settings.gateway.prefix, gateway)
    return Site(path=path, version=_version(path), base=base, gateway=gateway)


def state_folder(environ: Mapping[str, str]) -> Path:
    """Return where the installed service's state lies, else the user's own."""
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    return SERVICE if SERVICE.exists() else Path.home() / ".local/state/gatewayd"


def _version(path: Path) -> int:
    try:
        path.stat()
        with read_only(path) as connection:
            return check_schema(connection)
    except FileNotFoundError as error:
        raise OutboxError(
            f"expected an outbox at {path}, got none: name its folder by --state or its file by --database"
        ) from error
    except NewerDatabaseError as error:
        raise OutboxError(f"{path}: {error}: ask the gatewayd that made it") from error
    except (DamagedDatabaseError, sqlite3.Error, OSError) as error:
        raise told(path, error) from error


def told(path: Path, error: Exception) -> OutboxError:
    """Return the error that says why an outbox cannot be read, and what to do."""
    if isinstance(error, DamagedDatabaseError) or is_damage(error):
        return OutboxError(f"{path} is damaged ({error}): the daemon saves what it can of it when it starts")
    if not os.access(path, os.R_OK):
        return OutboxError(f"{path} may not be read by this user: ask as root")
    return OutboxError(f"{path} cannot be read: {error}")
