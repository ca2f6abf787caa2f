"""The configuration: what is wrong with it, what is not read, and whether the daemon runs on it.

A bad one is judged here; the other rows then go by the last good one, as the daemon does, or by none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.load import DROP_INS, FOLDER, LAST_GOOD, Loaded, load, read_machine_id
from gatewayd.config.problem import ConfigurationError, Problem
from gatewayd.selftest.row import Finding, count, fail, ok, warn

_SHOWN: Final = 3  # errors, warnings and files that are named; `gatewayd check-config` names them all
_README: Final = "README"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What was read. `loaded`: what the other checks go by, None where there is nothing good."""

    loaded: Loaded | None
    errors: tuple[Problem, ...] = ()
    ignored: tuple[str, ...] = ()  # files among the drop-ins whose name keeps them from being read
    last_good: Loaded | None = None  # what the daemon keeps as the one it runs on

    @property
    def is_bad(self) -> bool:
        """Whether the daemon would refuse it."""
        return bool(self.errors)


def read(path: Path, state: Path, *, credentials: Path | None) -> Configuration:
    """Read the configuration, or the last good one in its place; blocks shortly."""
    last_good = _last_good(state, credentials)
    ignored = tuple(_ignored(path))
    try:
        loaded = load(path, credentials=credentials, machine_id=read_machine_id())
    except ConfigurationError as error:
        return Configuration(loaded=last_good, errors=error.errors, ignored=ignored)
    return Configuration(loaded=loaded, ignored=ignored, last_good=last_good)


def _last_good(state: Path, credentials: Path | None) -> Loaded | None:
    try:
        return load(state / LAST_GOOD, credentials=credentials, machine_id=read_machine_id())
    except ConfigurationError:
        return None


def _ignored(path: Path) -> Iterator[str]:
    try:
        names = sorted(child.name for child in (path / DROP_INS).iterdir())
    except OSError:
        return
    yield from (
        name for name in names if name != _README and (name[0] == "." or Path(name).suffix != ".conf")
    )


def judge(configuration: Configuration, *, daemon_runs: bool) -> list[Finding]:
    """Say how the configuration is. Credentials that are missing are another row's business."""
    loaded = configuration.loaded
    if configuration.is_bad:
        return [_refused(configuration.errors, has_last_good=loaded is not None)]
    if loaded is None:
        raise ValueError("expected a configuration or its errors, got neither")
    findings = [_good(loaded), *_warned(loaded.warnings)]
    if configuration.ignored:
        findings.append(
            warn(
                f"not read, since their names do not end in .conf: {_some(configuration.ignored)}",
                f"rename or remove them in {FOLDER / DROP_INS}",
            )
        )
    running = configuration.last_good
    if daemon_runs and running is not None and running.config != loaded.config:
        findings.append(warn("changed since the running daemon read it", "systemctl reload gatewayd"))
    return findings


def _refused(errors: tuple[Problem, ...], *, has_last_good: bool) -> Finding:
    instead = "the daemon starts on the last good one" if has_last_good else "the daemon cannot start"
    found = f"{count(len(errors), 'error')}, {instead}: {_some(map(str, errors))}"
    return fail(
        found, "correct it until `gatewayd check-config` is content, then `systemctl reload gatewayd`"
    )


def _good(loaded: Loaded) -> Finding:
    files = sorted({entry.place.path for entry in loaded.origins.values()})
    where = _some(files) if files else "nothing is set, all is default"
    tags = loaded.config.tags
    if not tags and loaded.config.radio.enabled and loaded.config.gpio.panic_button is None:
        return warn(
            f"good ({where}), but no tag is assigned: no press can be heard",
            "run `gatewayd tags scan`, press the tag, and put the lines it shows into a file in conf.d",
        )
    return ok(f"good ({where}); {count(len(tags), 'tag')} assigned")


def _warned(warnings: Iterable[Problem]) -> Iterator[Finding]:
    for problem in warnings:
        if problem.key is None or not problem.key.endswith("_credential"):
            yield warn(str(problem), "correct it, then `systemctl reload gatewayd`")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
