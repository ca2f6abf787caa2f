"""The installation: versions, what the service's user may touch, and how bluetoothd is started."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gatewayd.config.model import Config, SerialSource
from gatewayd.selftest.row import Finding, fail, ok, warn

_SHOWN_VERSIONS: Final = ("gatewayd", "os", "machine", "kernel", "python", "bleak")
_EXPERIMENTAL: Final = frozenset({"-E", "--experimental"})
_DROP_IN: Final = "/usr/lib/systemd/system/bluetooth.service.d/gatewayd.conf"
MAIN_CONF: Final = "/etc/bluetooth/main.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is known of it. What does not apply (no service, no bluetoothd) is None."""

    versions: Mapping[str, str]
    bluez: str | None  # its version, empty where it does not say; None: not installed
    root: bool  # whether the self-test may see everything
    user: str | None  # of the service
    groups: frozenset[str]  # of that user in the service, by name
    needs: Mapping[str, str]  # the group that is needed -> what for
    experimental: bool | None  # whether bluetoothd was started so; None: it does not run, or is not needed


def needed_groups(config: Config | None) -> Mapping[str, str]:
    """Return the groups that a configuration takes, each with what for."""
    if config is None:
        return {}
    pins = (config.gpio.panic_button, config.gpio.status_led, config.gpio.buzzer, config.gpio.power_sense)
    needs = {
        "bluetooth": ("the radio", config.radio.enabled),
        "dialout": ("the receiver's port", isinstance(config.gps.source, SerialSource)),
        "audio": ("the microphone", config.audio.enabled),
        "gpio": ("the pins", any(pin is not None for pin in pins)),
    }
    return {group: what for group, (what, needed) in needs.items() if needed}


def service_groups(user: str, supplementary: str) -> frozenset[int]:
    """Return the groups that systemd gives a service of this user, by number.

    `supplementary`: SupplementaryGroups of the unit. A user or group that does not exist has none.
    """
    found: set[int] = set()
    try:
        found |= set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    except KeyError:
        return frozenset()
    for name in supplementary.split():
        try:
            found.add(grp.getgrnam(name).gr_gid)
        except KeyError:
            continue
    return frozenset(found)


def group_names(numbers: frozenset[int]) -> frozenset[str]:
    """Return groups by name; a number without one has none."""
    names = set()
    for number in numbers:
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(names)


def is_experimental(arguments: tuple[str, ...], main_conf: str) -> bool:
    """Say whether a bluetoothd with these arguments and this main.conf offers what is experimental."""
    return bool(_EXPERIMENTAL & set(arguments)) or any(
        line.replace(" ", "").lower() == "experimental=true" for line in main_conf.splitlines()
    )


def judge(installation: Installation) -> list[Finding]:
    """Say how the installation is."""
    versions = {
        name: installation.versions[name] for name in _SHOWN_VERSIONS if name in installation.versions
    }
    if installation.bluez:
        versions["bluez"] = installation.bluez
    findings = [ok(", ".join(f"{name} {version}" for name, version in versions.items()))]
    if not installation.root and installation.user is not None:
        findings.append(
            warn(
                "not run as root: credentials, the outbox and who holds a device could not be seen",
                "sudo gatewayd selftest",
            )
        )
    if installation.user is not None:
        findings += _groups(installation, installation.user)
    if "bluetooth" in installation.needs and installation.bluez is None:
        findings.append(fail("bluez is not installed", "apt install bluez"))
    if installation.experimental is False:
        findings.append(
            warn(
                "bluetoothd runs without its experimental part: repeated presses may be missed",
                f"restore {_DROP_IN} (a file of that name below /etc/systemd/system would mask it), or set"
                f" Experimental = true in {MAIN_CONF}; then `systemctl daemon-reload; systemctl restart"
                " bluetooth`",
            )
        )
    return findings


def _groups(installation: Installation, user: str) -> list[Finding]:
    return [
        fail(
            f"the service's user {user} is not in the group {group}, which it needs for {what}",
            f"usermod -aG {group} {user}; systemctl restart gatewayd",
        )
        for group, what in installation.needs.items()
        if group not in installation.groups
    ]
