"""`gatewayd outbox stats`, `list` and `export`: what they print, and how they end."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.problem import ConfigurationError
from gatewayd.core import payload
from gatewayd.core.payload import Plain
from gatewayd.edge.audit import append
from gatewayd.edge.clock import Clock, boot_id
from gatewayd.edge.outbox.file import DamagedDatabaseError, NewerDatabaseError
from gatewayd.outbox.contents import listed, listed_lines, stats_lines
from gatewayd.outbox.contents import stats as counted
from gatewayd.outbox.export import Exporter
from gatewayd.outbox.site import OutboxError, Site, find, state_folder, told

FAILED: Final = 1
BAD_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which outbox, and for whom."""

    config: Path | None
    state: Path | None
    database: Path | None
    as_json: bool
    environ: Mapping[str, str]


def stats(options: Options) -> int:
    """Print what waits, by class. Return the exit status, as every function here."""

    def lines(site: Site) -> Iterable[str]:
        clock = Clock(boot=boot_id()).state()
        return [json.dumps(counted(site, clock))] if options.as_json else stats_lines(site, clock)

    return show(options, lines)


def list_all(options: Options) -> int:
    """Print each message that waits."""

    def lines(site: Site) -> Iterable[str]:
        clock = Clock(boot=boot_id()).state()
        return map(json.dumps, listed(site, clock)) if options.as_json else listed_lines(site, clock)

    return show(options, lines)


def export(options: Options, file: Path) -> int:
    """Write all that waits into a ZIP file."""

    def lines(site: Site) -> Iterable[str]:
        clock = Clock(boot=boot_id())
        exporter = Exporter(site, clock.state(), clock.now())
        try:
            exporter.write(file)
        except OSError as error:
            raise OutboxError(f"{file} cannot be written: {error.strerror or error}") from error
        _note(options, file)
        done = {"file": str(file), "messages": exporter.messages, "damaged": exporter.damaged}
        if options.as_json:
            return [json.dumps(done)]
        damaged = f"; {exporter.damaged} are damaged and left out" if exporter.damaged else ""
        return [f"{exporter.messages} messages of {site.path} are in {file}{damaged}"]

    return show(options, lines)


def _note(options: Options, file: Path) -> None:
    """Note an export in the audit log of this gateway; another's card stays as it is."""
    if options.database is not None:
        return
    who = options.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    now = Clock(boot=boot_id()).now()
    body: dict[str, Plain] = {
        "at": payload.at(now, Clock(boot=boot_id()).state()),
        "clock": now.source.value,
        "what": "outbox export",
        "actor": {"id": who},
        "file": str(file),
    }
    try:
        append(options.state or state_folder(options.environ), body)
    except OSError as error:
        print(f"gatewayd outbox: the audit log misses this export: {error}", file=sys.stderr)


def show(options: Options, lines: Callable[[Site], Iterable[str]], *, name: str = "outbox") -> int:
    """Print what is to be said of the outbox; `name`: of the command. Return the exit status."""
    try:
        site = find(
            config=options.config, state=options.state, database=options.database, environ=options.environ
        )
        try:
            for line in lines(site):
                print(line)
        except (NewerDatabaseError, DamagedDatabaseError, sqlite3.Error, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise told(site.path, error) from error
    except ConfigurationError as error:
        print(*error.errors, sep="\n", file=sys.stderr)
        return BAD_CONFIGURATION
    except OutboxError as error:
        print(f"gatewayd {name}: {error}", file=sys.stderr)
        return FAILED
    return 0
