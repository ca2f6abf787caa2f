"""The credentials: whether each one that is named is there, of use, private, and the service's own.

An installed gateway keeps them in a folder, from which systemd gives the service its copies at each start.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.credentials import FOLDER, CredentialError, credential_path
from gatewayd.config.load import Loaded
from gatewayd.config.problem import Entry, Problem
from gatewayd.edge.signing import SigningError, read_keys
from gatewayd.selftest.row import Finding, count, fail, off, ok, warn

SERVICE: Final = Path("/run/credentials/gatewayd.service")  # where systemd keeps what the service was given
_SUFFIX: Final = "_credential"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What is known of the credentials that the configuration names."""

    folder: Path | None
    named: Mapping[str, Entry]  # by name: the line that names it
    problems: tuple[Problem, ...]  # of those that are missing or of no use
    exposed: tuple[Path, ...] = ()  # open to others than its owner
    outdated: tuple[
        str, ...
    ] = ()  # the running service has another or none: it was given its own at its start


def look(loaded: Loaded, folder: Path | None, given: Path | None) -> Credentials:
    """Look for the credentials in `folder`, and compare; blocks shortly.

    `given`: where those lie that the running service was given; None where none runs.
    """
    named = {entry.value: entry for entry in loaded.origins.values() if _names(entry.key, entry.value)}
    problems = tuple(problem for problem in loaded.warnings if _names(problem.key, problem.value))
    return Credentials(
        folder=folder,
        named=named,
        problems=problems,
        exposed=tuple(_exposed(folder, named)),
        outdated=tuple(name for name in named if given and _differs(name, folder, given)),
    )


def _names(key: str | None, value: str | None) -> bool:
    return bool(key and value and key.endswith(_SUFFIX))


def _exposed(folder: Path | None, names: Iterable[str]) -> Iterator[Path]:
    """Yield what others can read; a closed folder keeps all that is in it."""
    if folder is not None and _is_open(folder):
        yield from (folder / name for name in names if _is_open(folder / name))


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _differs(name: str, folder: Path | None, given: Path) -> bool:
    try:
        ours = credential_path(folder, name).read_bytes()
        if not any(given.iterdir()):
            return False  # they lie where only the service sees them
    except (CredentialError, OSError):
        return False
    try:
        return credential_path(given, name).read_bytes() != ours
    except CredentialError:
        return True


def judge(credentials: Credentials) -> list[Finding]:
    """Say how the credentials are."""
    if not credentials.named:
        return [off("the configuration names none")]
    missing = {problem.value for problem in credentials.problems}
    findings = [_missing(problem, credentials.folder) for problem in credentials.problems]
    there = [name for name in credentials.named if name not in missing]
    if there:
        findings.append(ok(f"{count(len(there), 'credential')} in {credentials.folder}: {', '.join(there)}"))
    findings += [
        warn(f"{path} is open to others than its owner", f"chmod -R go= {credentials.folder}")
        for path in credentials.exposed
    ]
    findings += [
        fail(
            f"{name} was changed since the service started, which still has the old one or none",
            "systemctl restart gatewayd",
        )
        for name in credentials.outdated
    ]
    return findings


def signing(state: Path) -> Finding:
    """Say with which key recordings are signed."""
    try:
        keys = read_keys(state)
    except SigningError as error:
        return fail(f"recordings are not signed: {error}", "then `systemctl reload gatewayd`")
    except OSError as error:
        return warn(
            f"the key that signs recordings cannot be read: {error}",
            "run the self-test as root, or look again",
        )
    if not keys:
        return off("no key that signs recordings is there yet: the daemon makes it at its first start")
    return ok(f"recordings are signed with the Ed25519 key {keys[-1]['public']}")


def _missing(problem: Problem, folder: Path | None) -> Finding:
    where = folder or FOLDER
    what = (
        f"[{problem.section}] {problem.key} = {problem.value}: expected {problem.expected}, got {problem.got}"
    )
    if "permission" in problem.got:
        return warn(what, "run the self-test as root: `sudo gatewayd selftest`")
    if problem.section is not None and problem.section.startswith("tag "):
        return warn(
            f"{what}; its presses raise alarms, marked as unproved",
            f"put the tag's key (32 hex digits) into {where / str(problem.value)}, mode 0600, owner root,"
            " then `systemctl restart gatewayd`",
        )
    return fail(
        what, f"put it into {where / str(problem.value)}, mode 0600, owner root, `systemctl restart gatewayd`"
    )
