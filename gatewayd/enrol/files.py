"""The files of one tag: `conf.d/tag-NAME.conf`, and the key of one that encrypts, `credentials/tag-NAME`.

Everything is judged together with the configuration that is there before anything is written. The key is
written first, and the section taken away first: no section is ever without its key. Each file is whole or not
there, also after a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.credentials import FOLDER as CREDENTIALS
from gatewayd.config.credentials import CredentialError, read_tag_key
from gatewayd.config.load import FOLDER, Loaded, drop_ins, load, read_machine_id
from gatewayd.config.problem import ConfigurationError, Entry, Problem, shown
from gatewayd.config.tags import credential_name, tag_section

# As the package's own: the daemon, which is not root, reads the settings; root alone enters the credentials.
SETTINGS_MODE: Final = 0o644
KEY_MODE: Final = 0o600
SETTINGS_FOLDER_MODE: Final = 0o755
KEYS_FOLDER_MODE: Final = 0o700
_WRITTEN_BY: Final = "# Written by `gatewayd tags add`; `gatewayd tags remove {name}` takes it back."


class RefusedError(Exception):
    """What was asked for cannot be done; says what was expected instead. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTag:
    """A tag as it is to be assigned; `named_by`: the settings that tell it from all others."""

    name: str
    format: str
    named_by: Mapping[str, str | int]
    key: bytes | None = None
    keyed: bool = False  # whether a key belongs to it, though it may not be known yet
    worker: str | None = None

    def section(self) -> list[str]:
        """The lines that assign it."""
        return tag_section(
            self.name, tag_format=self.format, named_by=self.named_by, keyed=self.keyed, worker=self.worker
        )

    def data(self) -> bytes:
        """The file that assigns it."""
        return "\n".join([_WRITTEN_BY.format(name=self.name), *self.section(), ""]).encode()


class Site:
    """Where the files of a gateway lie."""

    def __init__(self, config: Path | None) -> None:
        """`config`: a folder in place of `/etc/gatewayd`. Raises RefusedError where it is none."""
        self._folder = config or FOLDER
        if not self._folder.is_dir():
            raise RefusedError(
                f"expected a folder such as {FOLDER} for the configuration, got {self._folder}"
            )
        self.settings: Final = drop_ins(self._folder)
        self.credentials: Final = self._folder / CREDENTIALS.name

    def section_file(self, tag: str) -> Path:
        """The file of a tag's section."""
        return self.settings / f"tag-{tag}.conf"

    def key_file(self, tag: str) -> Path:
        """The file of a tag's key."""
        return self.credentials / credential_name(tag)

    def load(self, added: tuple[Path, bytes] | None = None) -> Loaded:
        """The configuration, with one more file or without. Raises ConfigurationError."""
        return load(self._folder, credentials=None, machine_id=read_machine_id(), added=added)

    def expect_writable(self) -> None:
        """Find out that nothing can be written before somebody has done half of it. Raises RefusedError."""
        for folder in (self.settings, self.credentials):
            there = folder if folder.exists() else folder.parent
            if not os.access(there, os.W_OK | os.X_OK):
                raise RefusedError(f"expected the right to write in {there}, got none: use sudo")

    def expect_free(self, name: str) -> None:
        """Find out that a name cannot be had.

        Raises RefusedError, and ConfigurationError where the configuration is bad already.
        """
        taken = _entries(self.load(), f"tag {name}")
        if taken:
            raise RefusedError(f"expected a name that no tag has yet, got {name} ({taken[0].place})")
        path = self.section_file(name)
        if os.path.lexists(path):
            raise RefusedError(f"expected no file {path} yet, got one: remove it, or choose another name")

    def judge(self, tag: NewTag) -> None:
        """Judge what would be written with all that is there.

        Raises what `expect_free` raises, and RefusedError for an address that another tag has, for what is
        missing, and for a key that is there and another.
        """
        self.expect_free(tag.name)
        path = self.section_file(tag.name)
        try:
            self.load(added=(path, tag.data()))
        except ConfigurationError as error:
            raise RefusedError("\n".join(map(_without_place, error.errors))) from error
        if tag.keyed:
            self._judge_key(tag)

    def write(self, tag: NewTag) -> list[Path]:
        """Write a tag's files; return those that are new. Raises what `judge` raises, and OSError.

        After an error none is there that was not there before.
        """
        self.judge(tag)
        written: list[Path] = []
        try:
            if tag.key is not None and not self.key_file(tag.name).exists():
                _make_folder(self.credentials, KEYS_FOLDER_MODE)
                _create(self.key_file(tag.name), f"{tag.key.hex()}\n".encode(), KEY_MODE)
                written.append(self.key_file(tag.name))
            _make_folder(self.settings, SETTINGS_FOLDER_MODE)
            _create(self.section_file(tag.name), tag.data(), SETTINGS_MODE)
        except OSError:
            for path in written:
                _delete(path)
            raise
        return [*written, self.section_file(tag.name)]

    def remove(self, name: str) -> list[Path]:
        """Delete the files that `write` wrote of a tag; return them.

        Raises ConfigurationError where the configuration is bad, RefusedError for a tag that is not there or
        that stands elsewhere, and OSError.
        """
        loaded = self.load()
        path, section = self.section_file(name), f"tag {name}"
        entries = _entries(loaded, section)
        if not entries:
            known = " ".join(tag.name for tag in loaded.config.tags) or "no tag at all"
            raise RefusedError(f"expected the name of a tag ({known}), got {shown(name)}")
        elsewhere = [entry for entry in entries if Path(entry.place.path) != path]
        others = [
            entry
            for entry in loaded.origins.values()
            if Path(entry.place.path) == path and entry.section != section
        ]
        if elsewhere or others:
            place = (elsewhere or others)[0].place
            raise RefusedError(f"expected all of [{section}] alone in {path}, got {place}: remove it by hand")
        gone = [path]
        key = credential_name(name)
        named = {
            entry.value
            for entry in loaded.origins.values()
            if entry.section != section and entry.key.endswith("_credential")
        }
        if self.key_file(name).exists() and key not in named:
            gone.append(self.key_file(name))
        for each in gone:
            _delete(each)
        return gone

    def _judge_key(self, tag: NewTag) -> None:
        """A key that is there already may only be the same: after a power cut, or put there by hand."""
        name, path = credential_name(tag.name), self.key_file(tag.name)
        if not os.path.lexists(path):
            return
        try:
            same = tag.key is None or read_tag_key(self.credentials, name) == tag.key
        except CredentialError as error:
            raise RefusedError(str(error)) from error
        if not same:
            raise RefusedError(f"expected no other key in {path}, got one: remove it, or choose another name")


def _entries(loaded: Loaded, section: str) -> list[Entry]:
    return [entry for entry in loaded.origins.values() if entry.section == section]


def _without_place(problem: Problem) -> str:
    """A problem of a file that is not there yet."""
    return str(problem).removeprefix(f"{problem.place}: ")


def _make_folder(path: Path, mode: int) -> None:
    if not path.exists():
        path.mkdir(mode=mode)
        path.chmod(mode)  # whatever the umask is
        _give(path, path.parent)
        _sync(path.parent)


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet, with its mode, and its folder's owner where that is possible.

    The name it has before it is whole is hidden: neither gatewayd nor systemd take it for one of theirs.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(fresh, flags, KEY_MODE), "wb") as file:
            file.write(data)
            file.flush()
            _give(fresh, path.parent)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.link(fresh, path)  # fails where something is; a rename would replace it
    finally:
        fresh.unlink(missing_ok=True)
        _sync(path.parent)


def _give(path: Path, folder: Path) -> None:
    """Root's are the files of whoever owns the folder; anybody else's are their own."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _delete(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make what happened to a folder's names outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
