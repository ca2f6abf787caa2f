"""The steps of recovery beyond a fresh scan. What needs privileges is asked of a helper, not done here.

An adapter is switched off and on through bluetoothd. To restart bluetoothd, or to reset a USB device, a
request is written into a file that `gatewayd-recover.path` watches: systemd then runs, as root and in a
sandbox of its own, a script that can do these two things and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.core.recovery import Step
from gatewayd.edge.ble.bluez import UnavailableError, connect

logger = logging.getLogger(__name__)

REQUEST: Final = "recover"  # the file's name in the runtime directory: gatewayd-recover.path has it too
_SYSFS: Final = Path("/sys")


def runtime_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that systemd made for us in memory; None when we are not a service of its."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What may be done about an adapter that does not hear."""

    runtime: Path | None = None  # the service's runtime directory; None: not a service, so there is no helper
    sysfs: Path = _SYSFS

    def able(self, path: str | None, usb: str | None, *, alone: bool) -> Set[Step]:
        """The steps that can be taken for an adapter, beside a fresh scan.

        `path`: its object path, if it was ever there; `usb`: as `usb_device` returned; `alone`: a restart of
        bluetoothd costs no other adapter's hearing, and is nobody else's to ask for.
        """
        steps = {Step.NEW_SCANNER}
        if path is not None:
            steps |= {Step.POWER_ON, Step.POWER_CYCLE}
        if self.runtime is not None:
            steps |= {Step.RESTART_BLUETOOTHD} if alone else set()
            steps |= {Step.RESET_USB} if usb is not None else set()
        return steps

    async def take(self, step: Step, path: str | None, usb: str | None, limit_s: float) -> None:
        """Take a step. Raises UnavailableError when bluetoothd refuses, OSError when there is no file."""
        match step:
            case Step.POWER_ON | Step.POWER_CYCLE if path is not None:
                async with connect(limit_s) as bluetoothd:
                    if step is Step.POWER_CYCLE:
                        with suppress(UnavailableError):  # what matters is that it is on afterwards
                            await bluetoothd.power(path, False)
                    await bluetoothd.power(path, True)
            case Step.RESTART_BLUETOOTHD:
                self._ask("bluetoothd")
            case Step.RESET_USB:
                self._ask(f"usb {usb}")
            case _:
                pass

    def usb_device(self, name: str) -> str | None:
        """The USB device that the adapter hciN is, such as 1-1.4; None when it is on another bus."""
        interface = (self.sysfs / "class/bluetooth" / name / "device").resolve()
        device = interface.parent
        return device.name if (device / "authorized").exists() else None

    def _ask(self, request: str) -> None:
        if self.runtime is not None:
            unfinished = self.runtime / f"{REQUEST}.new"  # what is watched for is there as a whole
            unfinished.write_text(request + "\n", "ascii")
            unfinished.replace(self.runtime / REQUEST)
