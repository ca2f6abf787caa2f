"""From files to a configuration: which files, in what order, and what to start on when they are bad.

Built-in defaults, then `/etc/gatewayd/gatewayd.conf`, then `/etc/gatewayd/conf.d/*.conf` by file name; a
later value wins. A folder given instead of `/etc/gatewayd` is read like it; one that has neither gives all
its `*.conf` by name. A file given instead is read alone. A start with no file at all is an error: a gateway
whose settings are gone must not pass for one that has no tags.

A gateway whose new configuration is bad starts on the last good one, kept in its state directory as one file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from gatewayd.config import ini
from gatewayd.config.build import MACHINE_ID, build, check
from gatewayd.config.credentials import reason
from gatewayd.config.layers import Layers
from gatewayd.config.model import Config
from gatewayd.config.problem import ConfigurationError, Entry, Place, Problem, in_order
from gatewayd.core.model import Tag

FOLDER: Final = Path("/etc/gatewayd")
MAIN: Final = "gatewayd.conf"
DROP_INS: Final = "conf.d"
LAST_GOOD: Final = "last_good.conf"
NOT_LISTENED_TO: Final = "the tag is not listened to until gatewayd is restarted"
_KEPT: Final = """\
# The last configuration that was good: gatewayd starts on it when the one in its files is bad.
# Written by gatewayd; changes are lost.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    origins: Mapping[tuple[str, str], Entry]  # by section and key: the line that set it; none: the default
    warnings: tuple[
        Problem, ...
    ]  # what is missing outside of it (credentials, files); none stops the gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a gateway starts on. `errors`: why it is the last good configuration; none: it is the new one."""

    loaded: Loaded
    errors: tuple[Problem, ...]


def read_machine_id(path: Path = MACHINE_ID) -> str:
    """Return the machine's id, or what stands there instead of one; nothing when it cannot be read."""
    try:
        return _read(path).decode("ascii", "replace").strip()
    except OSError:
        return ""


def load(
    path: Path | None, *, credentials: Path | None, machine_id: str, added: tuple[Path, bytes] | None = None
) -> Loaded:
    """Load the configuration of a file or folder; None: of `/etc/gatewayd`.

    `credentials` is `$CREDENTIALS_DIRECTORY`, `machine_id` what `read_machine_id` returned. `added` is one
    more file, the last one, judged as if it were there. Raises `ConfigurationError` with all errors at once.
    """
    layers = Layers()
    problems: list[Problem] = []
    for file in _files(path or FOLDER, problems):
        try:
            layers.add(_read(file), str(file))
        except OSError as error:
            problems.append(_problem(file, "a file that can be read", error))
    if added is not None:
        layers.add(added[1], str(added[0]))
    return assemble(layers, problems, credentials=credentials, machine_id=machine_id)


def assemble(
    layers: Layers, problems: Iterable[Problem] = (), *, credentials: Path | None, machine_id: str
) -> Loaded:
    """Make the configuration of layers. Raises `ConfigurationError` with `problems` and all that is wrong."""
    errors = [*problems, *layers.problems, *check(layers, machine_id)]
    if errors:
        raise ConfigurationError(errors)
    config, warnings = build(layers, credentials, machine_id)
    return Loaded(config=config, origins=layers.in_order(), warnings=in_order(warnings))


def without_keyless(loaded: Loaded, heard: Iterable[Tag]) -> Loaded:
    """Leave out the tags that a reload brings without their key; `heard`: those that are listened to.

    Credentials are read at a service's start, and each frame of such a tag would raise as unreadable. A tag
    whose device was listened to stays: no press of a tag in use is dropped.
    """
    known = {tag.address for tag in heard}
    out = [t for t in loaded.config.tags if t.key_expected and t.key is None and t.address not in known]
    sections = {f"tag {tag.name}" for tag in out}
    warnings = (
        replace(each, got=f"{each.got}: {NOT_LISTENED_TO}") if each.section in sections else each
        for each in loaded.warnings
    )
    config = replace(loaded.config, tags=tuple(tag for tag in loaded.config.tags if tag not in out))
    return replace(loaded, config=config, warnings=tuple(warnings))


def load_or_last_good(
    path: Path | None, state: Path, *, credentials: Path | None, machine_id: str
) -> Started:
    """Load the configuration, or when it is bad the last good one that `keep` left in the folder `state`.

    Raises `ConfigurationError` where there is none, or where that is bad too.
    """
    try:
        loaded = load(path, credentials=credentials, machine_id=machine_id)
    except ConfigurationError as error:
        if not os.access(state / LAST_GOOD, os.F_OK):
            raise
        try:
            last_good = load(state / LAST_GOOD, credentials=credentials, machine_id=machine_id)
        except ConfigurationError as worse:
            raise ConfigurationError([*error.errors, *worse.errors]) from error
        return Started(loaded=last_good, errors=error.errors)
    return Started(loaded=loaded, errors=())


def keep(loaded: Loaded, state: Path) -> Problem | None:
    """Keep a configuration as the last good one, once the gateway runs on it; a warning when that fails.

    Only what was set is kept, not the defaults, so that a newer version's defaults count. It is synced twice
    and so may wait for a slow disk for seconds: not to be called from the event loop. An unchanged one is not
    written again.
    """
    path = state / LAST_GOOD
    data = (_KEPT + merged(loaded)).encode()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            _write(path, data)
    except OSError as error:
        return _problem(path, "a place to keep the last good configuration", error)
    return None


def drop_ins(folder: Path) -> Path:
    """Return where a file must be put to be read with the configuration of a folder."""
    has_main = (folder / MAIN).exists() or (folder / DROP_INS).exists()
    return folder / DROP_INS if has_main else folder


def merged(loaded: Loaded) -> str:
    """Return all that was set, as one file."""
    lines: list[str] = []
    for section, entries in groupby(loaded.origins.values(), key=lambda entry: entry.section):
        lines += ["", f"[{section}]", *(f"{entry.key} = {entry.value}".rstrip() for entry in entries)]
    return "\n".join(lines) + "\n"


def _files(path: Path, problems: list[Problem]) -> list[Path]:
    """Return the files that make up the configuration at `path`, the ones that win last."""
    if not _is_folder(path):
        return [path]
    inside = _children(path, problems)
    names = {child.name for child in inside}
    if not names & {MAIN, DROP_INS}:
        files = _configurations(inside)
    else:
        drop_ins = _children(path / DROP_INS, problems) if DROP_INS in names else []
        files = [path / MAIN] * (MAIN in names) + _configurations(drop_ins)
    if not files and not problems:
        expected = f"{MAIN}, {DROP_INS}/*.conf or *.conf in it"
        problems.append(Problem(place=Place(path=str(path)), expected=expected, got="none"))
    return files


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False  # why not, is said when it is read


def _children(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        problems.append(_problem(folder, "a folder that can be read", error))
        return []


def _configurations(children: list[Path]) -> list[Path]:
    # Editors leave hidden files beside those they have open.
    return [child for child in children if child.suffix == ".conf" and not child.name.startswith(".")]


def _read(path: Path) -> bytes:
    """Return a file's bytes, at most one more than is allowed; never blocks, on a pipe or a device."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(ini.LIMIT_BYTES + 1)


def _write(path: Path, data: bytes) -> None:
    """Replace a file so that after a power cut it is the old one or the new one, whole."""
    fresh = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _problem(path: Path, expected: str, error: OSError) -> Problem:
    return Problem(place=Place(path=str(path)), expected=expected, got=reason(error))
