"""The radio: adapter, switches, bluetoothd, and what is really heard.

It listens as the daemon does, beside it when it runs: bluetoothd lets several programs scan.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gatewayd.config.model import Config, Radio
from gatewayd.core.model import Advertisement, Auth, State, Tag
from gatewayd.core.recovery import Hearing
from gatewayd.core.roster import Roster
from gatewayd.core.tags import decode
from gatewayd.edge import ble
from gatewayd.edge.ble.bluez import Adapter, UnavailableError, connect
from gatewayd.selftest.machine import Machine, end
from gatewayd.selftest.row import Finding, count, fail, off, ok, warn

_BUS_S: Final = 5.0  # bluetoothd answers within milliseconds; right after it was killed it may take 25 s
# A scan that hears all assigned tags goes on at least so long: until it is known whether a monitor is active.
_LEAST_S: Final = 2.0
_LOOK_S: Final = 0.1
_ADAPTER: Final = re.compile(r"hci[0-9]+")


@dataclass(slots=True, kw_only=True)
class Heard:
    """What came in while it listened."""

    listened_s: float = 0.0
    advertisements: int = 0
    addresses: set[str] = field(default_factory=set)
    tags: dict[str, int | None] = field(default_factory=dict)  # by name: the strongest, dBm
    proved: dict[str, bool] = field(default_factory=dict)  # by name, of tags with a key: whether it fits
    canary: bool = False
    said: tuple[State, str] | None = None  # by the radio, last


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found about the radio."""

    settings: Radio
    tags: tuple[Tag, ...]
    kernel: tuple[str, ...]  # the adapters that the kernel has
    blocked: Mapping[str, str]  # adapter -> "soft" or "hard", by rfkill
    service: Mapping[str, str]  # what systemd says of bluetooth.service
    pi: bool
    adapters: tuple[Adapter, ...] | None  # that bluetoothd has; None: it does not answer
    no_answer: str = ""  # why
    no_monitor: str | None = None  # why an advertisement monitor cannot be had; None: it can
    heard: Heard = field(default_factory=Heard)


async def look(config: Config, machine: Machine, service: Mapping[str, str], listen_s: float) -> Findings:
    """Look at the radio and listen for at most `listen_s` seconds.

    `service`: what systemd says of bluetooth.service.
    """
    adapters, no_answer, no_monitor = None, "", None
    heard = Heard()
    if config.radio.enabled:
        try:
            async with connect(_BUS_S) as bluetoothd:
                adapters = await bluetoothd.adapters()
                usable = [each for each in _wanted(config.radio, adapters) if each.powered]
                if usable:
                    no_monitor = await bluetoothd.register_monitor(usable[0].path)
        except UnavailableError as error:
            no_answer = str(error)
        else:
            if usable:
                heard = await _listen(config, listen_s)
    return Findings(
        settings=config.radio,
        tags=config.tags,
        kernel=kernel_adapters(machine),
        blocked=_blocked(machine),
        service=service,
        pi=machine.is_pi(),
        adapters=adapters,
        no_answer=no_answer,
        no_monitor=no_monitor,
        heard=heard,
    )


def kernel_adapters(machine: Machine) -> tuple[str, ...]:
    """Return the adapters that the kernel has, also those that bluetoothd has not."""
    folder = machine.path("/sys/class/bluetooth")
    return tuple(sorted(entry.name for entry in folder.glob("hci*") if _ADAPTER.fullmatch(entry.name)))


def _blocked(machine: Machine) -> Mapping[str, str]:
    found = {}
    for switch in machine.path("/sys/class/rfkill").glob("rfkill*"):
        base = f"/sys/class/rfkill/{switch.name}"
        if machine.text(f"{base}/type") == "bluetooth":
            name = machine.text(f"{base}/name")
            if machine.text(f"{base}/hard") == "1":
                found[name] = "hard"
            elif machine.text(f"{base}/soft") == "1":
                found[name] = "soft"
    return found


def _wanted(settings: Radio, adapters: tuple[Adapter, ...]) -> list[Adapter]:
    """Return the adapters that the configuration allows."""
    wanted = {each.upper() for each in settings.adapters}
    return [each for each in adapters if not wanted or wanted & {each.name.upper(), each.address}]


async def _listen(config: Config, listen_s: float) -> Heard:
    heard, roster = Heard(), Roster(config.tags)
    canary = config.radio.canary.upper() if config.radio.canary else None

    def hear(advertisement: Advertisement) -> None:
        heard.advertisements += 1
        heard.addresses.add(advertisement.address)
        heard.canary = heard.canary or advertisement.address == canary
        tag = roster.find(advertisement)
        if tag is not None:
            _take(heard, tag, advertisement)

    def report(hearing: Hearing) -> None:
        heard.said = (hearing.state, hearing.detail)

    loop = asyncio.get_running_loop()
    radio = ble.Radio(config.radio, on_advertisement=hear, report=report, alive=lambda: None)
    began_s = loop.time()
    task = asyncio.create_task(radio.run(), name="selftest radio")
    wanted = {tag.name for tag in config.tags}
    try:
        while heard.listened_s < listen_s:
            await asyncio.sleep(_LOOK_S)
            heard.listened_s = loop.time() - began_s
            everything = bool(wanted) and wanted <= set(heard.tags) and (heard.canary or canary is None)
            if everything and heard.listened_s >= _LEAST_S:
                break
    finally:
        await end(task)
    return heard


def _take(heard: Heard, tag: Tag, advertisement: Advertisement) -> None:
    levels = [level for level in (heard.tags.get(tag.name), advertisement.rssi_dbm) if level is not None]
    heard.tags[tag.name] = max(levels, default=None)
    report = decode(advertisement, format=tag.format, key=tag.key)
    if tag.key is not None and report is not None:
        heard.proved[tag.name] = heard.proved.get(tag.name, False) or report.auth is Auth.OK


# --- the verdict --------------------------------------------------------------------------------------------


def judge(found: Findings) -> list[Finding]:
    """Say how the radio is."""
    if not found.settings.enabled:
        return [off("[radio] enabled = no")]
    trouble = _missing(found) or _switched_off(found)
    if trouble is not None:
        return [trouble]
    return _hearing(found)


def _missing(found: Findings) -> Finding | None:
    """Say what is not there: hardware before bluetoothd, for it is what the rest stands on."""
    if not found.kernel and not found.adapters:
        pi = "; the Pi's own: no dtoverlay=disable-bt in /boot/firmware/config.txt" if found.pi else ""
        return fail(
            "no Bluetooth adapter",
            f"plug in a USB Bluetooth dongle; `dmesg | grep -i bluetooth` tells of missing firmware{pi}",
        )
    if found.adapters is None:
        if found.service.get("LoadState") == "not-found":
            return fail(found.no_answer, "apt install bluez")
        return fail(found.no_answer, "systemctl restart bluetooth; `journalctl -u bluetooth -n 50` says more")
    if not found.adapters:
        return fail(
            f"the kernel has {', '.join(found.kernel)}, but bluetoothd has no adapter",
            "systemctl restart bluetooth; if that does not help, unplug the dongle and plug it in again;"
            " `dmesg | grep -i bluetooth` tells of missing firmware",
        )
    return None


def _switched_off(found: Findings) -> Finding | None:
    candidates = _wanted(found.settings, found.adapters or ())
    if not candidates:
        there = ", ".join(f"{adapter.name} {adapter.address}" for adapter in found.adapters or ())
        return fail(
            f"expected the adapter {' '.join(found.settings.adapters)}, got only {there}",
            "plug it in, or correct [radio] adapter (an address is better than hciN, which changes)",
        )
    if any(adapter.powered for adapter in candidates):
        return None
    name = candidates[0].name
    match found.blocked.get(name):
        case "hard":
            return fail(f"{name} is blocked by a hardware switch (rfkill)", "find the switch and turn it on")
        case "soft":
            return fail(
                f"{name} is blocked (rfkill)", "rfkill unblock bluetooth; on a Pi also set the Wi-Fi country"
            )
        case _:
            return fail(f"{name} is off", "bluetoothctl power on")


def _hearing(found: Findings) -> list[Finding]:
    heard = found.heard
    adapter = next(each for each in _wanted(found.settings, found.adapters or ()) if each.powered)
    state, detail = heard.said or (State.FAILED, "the scan did not start")
    which = f"{adapter.name} {adapter.address}"
    if state is State.FAILED:
        return [fail(f"{which}: {detail}", "systemctl restart bluetooth; if it stays, replug the adapter")]
    in_s = f"in {heard.listened_s:.0f} s"
    if not heard.advertisements:
        return [
            warn(
                f"{which} scans, and heard nothing at all {in_s}",
                "press a tag beside the gateway and run this again; if it is still not heard: another place"
                " for the adapter (a USB extension), or `systemctl restart bluetooth`",
            )
        ]
    what = count(heard.advertisements, "advertisement") + " of " + count(len(heard.addresses), "device")
    return [ok(f"{which} heard {what} {in_s}{_tags(found)}"), *_shortcomings(found, in_s)]


def _shortcomings(found: Findings, in_s: str) -> Iterator[Finding]:
    heard = found.heard
    if found.no_monitor is not None:
        yield warn(
            f"no advertisement monitor ({found.no_monitor}): repeated presses may be missed",
            "bluetoothd needs its experimental part: see the row installation, or set Experimental = true in"
            " /etc/bluetooth/main.conf; then `systemctl restart bluetooth`",
        )
    for wanted in found.settings.adapters:
        there = [each for each in found.adapters or () if wanted.upper() in {each.name.upper(), each.address}]
        if not any(each.powered for each in there):
            yield warn(
                f"the adapter {wanted} is {'off' if there else 'not there'}; another one hears",
                "bluetoothctl power on" if there else "plug it in, or correct [radio] adapter",
            )
    for name in sorted(name for name, proved in heard.proved.items() if not proved):
        yield warn(
            f"the key of {name} does not open what it sends: its alarms are marked auth failed",
            f"read the tag's key anew in its app, and correct the key_credential of [tag {name}]",
        )
    if found.settings.canary and not heard.canary:
        yield warn(
            f"the canary {found.settings.canary} was not heard {in_s}",
            "look at its battery, and that it lies near the gateway",
        )


def _tags(found: Findings) -> str:
    """Say which assigned tags were heard. One that was not may be far away, or speak only when pressed."""
    tags = found.heard.tags
    levels = [name if level is None else f"{name} ({level} dBm)" for name, level in sorted(tags.items())]
    silent = sorted(tag.name for tag in found.tags if tag.name not in tags)
    said = f"; assigned tags heard: {', '.join(levels)}" if levels else ""
    return said + (f"; not heard: {', '.join(silent)} (press them meanwhile)" if silent else "")
