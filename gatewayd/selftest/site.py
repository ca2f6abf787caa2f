"""What all checks go by: the configuration, the service, and the daemon that may be running."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gatewayd.config import credentials
from gatewayd.config.layers import Layers
from gatewayd.config.load import FOLDER, assemble
from gatewayd.config.model import Config
from gatewayd.core.model import Component, State
from gatewayd.edge.clock import Clock, boot_id
from gatewayd.selftest import broker, configuration, installation, service
from gatewayd.selftest.daemon import Words, from_health, from_status, measure, told
from gatewayd.selftest.dialogue import Talk
from gatewayd.selftest.machine import Machine, in_thread, units
from gatewayd.selftest.row import Finding, Subject

_STATE_ROOT: Final = Path("/var/lib")  # where systemd keeps a service's StateDirectory
_ANY_MACHINE: Final = "0" * 32  # stands for a machine id where a configuration of defaults is made
_LOOK: Final = "`journalctl -u gatewayd -n 50` says more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to look at. `config`, `state`: in place of the installed gateway's."""

    config: Path | None = None
    state: Path | None = None
    own_state: Path  # where state lies if nothing else says so
    credentials: Path | None = None  # $CREDENTIALS_DIRECTORY
    only: frozenset[Subject] = frozenset(Subject)
    listen_s: float


class Site:
    """The gateway that is looked at. Begin with `await Site.find(…)`."""

    def __init__(
        self, options: Options, machine: Machine, unit: Mapping[str, str], bluetooth: Mapping[str, str]
    ) -> None:
        """`unit`, `bluetooth`: what systemd says of gatewayd.service and bluetooth.service."""
        self.options = options
        self.machine = machine
        self.unit = unit
        self.bluetooth = bluetooth
        self.clock = Clock(boot=boot_id())
        self.elsewhere = options.config is not None or options.state is not None
        self.installed = not self.elsewhere and service.is_installed(unit)
        self.state = options.state or options.own_state
        self.credentials = options.credentials
        if self.installed:
            folders = unit.get("StateDirectory", "").split() or ["gatewayd"]
            self.state = machine.path(_STATE_ROOT / folders[0])
            self.credentials = options.credentials or machine.path(credentials.FOLDER)
        self.configuration: configuration.Configuration
        self.config: Config  # the defaults where there is no good one
        self.daemon: int | None = None  # its process; None: it does not run
        self.listened = asyncio.Event()  # to the receiver, as far as that is done at all
        if Subject.GPS not in options.only:
            self.listened.set()
        self._talking: asyncio.Task[list[Talk]] | None = None

    @classmethod
    async def find(cls, options: Options, machine: Machine) -> Site:
        """Learn what there is; takes up to some seconds where systemd or the disk is slow."""
        site = cls(options, machine, *await units(service.NAME, service.BLUETOOTH))
        site.configuration = await in_thread(
            partial(
                configuration.read,
                options.config or machine.path(FOLDER),
                site.state,
                credentials=site.credentials,
            )
        )
        loaded = site.configuration.loaded
        if loaded is None:
            loaded = assemble(Layers(), credentials=None, machine_id=_ANY_MACHINE)
        site.config = loaded.config
        site.daemon = service.main_pid(site.unit) if site.installed else await site._who_has_the_outbox()
        return site

    @property
    def known(self) -> bool:
        """Whether there is a good configuration, if only the last one."""
        return self.configuration.loaded is not None

    @property
    def outbox(self) -> Path:
        """The outbox' database."""
        return self.config.outbox.path or self.state / "outbox.db"

    @property
    def user(self) -> str | None:
        """The service's user; None where there is no service."""
        return self.unit.get("User") or "root" if self.installed else None

    @property
    def user_id(self) -> int | None:
        """The service's user by number; None where there is none."""
        try:
            return None if self.user is None else pwd.getpwnam(self.user).pw_uid
        except KeyError:
            return None

    def groups(self) -> frozenset[int] | None:
        """Return the service's groups, those it runs with or would; None where there is no service."""
        if self.user is None:
            return None
        running = None if self.daemon is None else self.machine.group_ids(self.daemon)
        return running or installation.service_groups(self.user, self.unit.get("SupplementaryGroups", ""))

    async def _who_has_the_outbox(self) -> int | None:
        path = self.outbox
        holders = await in_thread(lambda: self.machine.holders(path) if path.exists() else [])
        return holders[0].pid if holders else None

    # --- what the broker and the daemon say ---------------------------------------------------------------

    async def talks(self) -> list[Talk]:
        """Talk with the brokers, once for all who ask."""
        if self._talking is None:
            looking = broker.look(self.config, self.credentials, self.clock.state())
            self._talking = asyncio.create_task(looking, name="selftest talks")
        return await asyncio.shield(self._talking)

    async def words(self) -> Words:
        """Return what the running daemon says of itself."""
        words = from_status(self.unit.get("StatusText", "")) if self.installed else {}
        if words and Subject.BROKER not in self.options.only:
            return words
        up_s = service.up_s(self.unit, time.monotonic()) if self.installed else float("inf")
        for each in await self.talks():
            health = from_health(
                each.health, wall_s=time.time(), up_s=up_s, interval_s=self.config.health.interval_s
            )
            if health:
                return health
        return words

    async def told(self, component: Component, subject: Subject, daemon: int) -> Finding:
        """Return what the daemon says of what only it can use now."""
        do = measure(subject, installed=self.installed)
        return told(await self.words(), component, pid=daemon, do=do)

    async def unwell(self, component: Component) -> list[Finding]:
        """Return what the daemon says of what was measured too, if it is not content with it."""
        if self.daemon is None:
            return []
        word = (await self.words()).get(component)
        if word is None or word.state in {State.OK, State.OFF}:
            return []
        return [told({component: word}, component, pid=self.daemon, do=_LOOK)]


def is_root() -> bool:
    """Say whether the self-test may see everything."""
    return os.geteuid() == 0
