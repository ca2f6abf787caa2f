"""The check of each subject: what is looked at, and what is left alone while the daemon runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

from gatewayd.config.model import GpsdSource
from gatewayd.core import topic
from gatewayd.core.model import Component, State
from gatewayd.edge.host import Host
from gatewayd.selftest import (
    broker,
    clock,
    configuration,
    credentials,
    disk,
    gpio,
    gps,
    installation,
    mic,
    power,
    radio,
    service,
)
from gatewayd.selftest.daemon import measure
from gatewayd.selftest.machine import command, in_thread, units
from gatewayd.selftest.row import Finding, Subject, off
from gatewayd.selftest.site import Site, is_root

Check: TypeAlias = Callable[[Site], Coroutine[Any, Any, list[Finding]]]

_UNKNOWN: Final = "not looked at: the configuration that says which is bad"


async def _configuration(site: Site) -> list[Finding]:
    return configuration.judge(site.configuration, daemon_runs=site.daemon is not None)


async def _credentials(site: Site) -> list[Finding]:
    loaded = site.configuration.loaded
    if loaded is None:
        return [off(_UNKNOWN)]
    running = site.installed and site.daemon is not None
    given = site.machine.path(credentials.SERVICE) if running else None
    findings = credentials.judge(await in_thread(lambda: credentials.look(loaded, site.credentials, given)))
    return [*findings, await in_thread(lambda: credentials.signing(site.state))]


async def _service(site: Site) -> list[Finding]:
    return service.judge(site.unit, time.monotonic(), elsewhere=site.elsewhere)


async def _installation(site: Site) -> list[Finding]:
    versions = await in_thread(lambda: Host(site.machine.root).facts().versions)
    bluez = None
    if shutil.which("bluetoothctl") is not None:
        bluez = (await command("bluetoothctl", "--version") or "").strip().rpartition(" ")[2]
    groups = await in_thread(site.groups) or frozenset()
    bluetoothd = service.main_pid(site.bluetooth)
    experimental = None
    if bluetoothd is not None and site.config.radio.enabled:
        arguments = await in_thread(lambda: site.machine.arguments(bluetoothd))
        experimental = installation.is_experimental(arguments, site.machine.text(installation.MAIN_CONF))
    return installation.judge(
        installation.Installation(
            versions=versions,
            bluez=bluez,
            root=is_root(),
            user=site.user,
            groups=installation.group_names(groups),
            needs=installation.needed_groups(site.config if site.known else None),
            experimental=experimental,
        )
    )


async def _radio(site: Site) -> list[Finding]:
    found = await radio.look(site.config, site.machine, site.bluetooth, site.options.listen_s)
    return [*radio.judge(found), *await site.unwell(Component.RADIO)]


async def _gps(site: Site) -> list[Finding]:
    try:
        return await _receiver(site)
    finally:
        site.listened.set()


async def _receiver(site: Site) -> list[Finding]:
    source = site.config.gps.source
    if not site.known:
        return [off(_UNKNOWN)]
    if source is None:
        return gps.judge(site.config.gps, gps.Heard())
    findings: list[Finding] = []
    if not isinstance(source, GpsdSource):  # gpsd shares its receiver; a port has one reader
        (getty,) = await units(f"serial-getty@{gps.tty_name(site.machine.path(source.device))}.service")
        active = getty.get("ActiveState") == "active"
        groups = await in_thread(site.groups)
        port = await in_thread(
            lambda: gps.look_at_port(source.device, site.machine, getty=active, groups=groups)
        )
        findings = gps.judge_port(source, port, daemon=site.daemon, pi=site.machine.is_pi())
        if site.daemon is not None:
            return [*findings, await site.told(Component.GPS, Subject.GPS, site.daemon)]
        if not port.exists or port.holders:
            return findings
    heard = await gps.listen(
        site.config.gps, now=site.clock.now, learn=site.clock.learn, listen_s=site.options.listen_s
    )
    return [*findings, *gps.judge(site.config.gps, heard)]


async def _mic(site: Site) -> list[Finding]:
    settings = site.config.audio
    if not settings.enabled:
        return mic.judge(settings, mic.Heard(), [])
    capture = await in_thread(lambda: mic.capture_process(site.machine, settings.device))
    daemon = site.daemon or (None if capture is None else capture.pid)
    if daemon is not None:
        how = measure(Subject.MIC, installed=site.installed)
        return [
            await site.told(Component.MIC, Subject.MIC, daemon),
            off(f"how loud it hears is not measured while the daemon runs; {how}"),
        ]
    cards = await in_thread(lambda: mic.capture_cards(site.machine))
    return mic.judge(settings, await mic.listen(settings), cards)


async def _broker(site: Site) -> list[Finding]:
    if not site.known:
        return [off(_UNKNOWN)]
    gateway = site.config.gateway
    base = topic.base(gateway.prefix, gateway.id)
    findings = broker.judge(await site.talks(), site.config.mqtt, base, time.time())
    return [*findings, *await site.unwell(Component.UPLINK)]


async def _disk(site: Site) -> list[Finding]:
    found = await in_thread(
        lambda: disk.look(site.state, site.outbox, site.config.outbox.budget_bytes, site.machine)
    )
    return [*disk.judge(found, user_id=site.user_id), *await site.unwell(Component.OUTBOX)]


async def _clock(site: Site) -> list[Finding]:
    await site.listened.wait()  # the clock has learnt the time from what the receiver said
    right_s = await in_thread(lambda: clock.rtc_was_right_s(site.outbox))
    if right_s is not None:
        site.clock.trust_rtc(right_s)
    state = site.clock.state()
    if not state.source.vouched and site.daemon is not None:
        word = (await site.words()).get(Component.CLOCK)
        if word is not None and word.state is State.OK:  # it takes the time from its receiver
            return [await site.told(Component.CLOCK, Subject.CLOCK, site.daemon)]
    return clock.judge(state, time.time(), rtc=clock.has_rtc(site.machine))


async def _power(site: Site) -> list[Finding]:
    facts = await in_thread(lambda: Host(site.machine.root).facts())
    findings = power.judge(await power.look(facts))
    if site.config.gpio.power_sense is not None and site.daemon is not None:
        findings.append(await site.told(Component.POWER, Subject.POWER, site.daemon))
    return findings


async def _gpio(site: Site) -> list[Finding]:
    settings = site.config.gpio
    findings = gpio.judge_hardware(settings, gpio.libraries(), gpio.chips(site.machine))
    if not gpio.pins(settings):
        return findings
    if site.daemon is not None:
        return [*findings, await site.told(Component.GPIO, Subject.GPIO, site.daemon)]
    return [*findings, *gpio.judge_inputs(settings, await gpio.try_inputs(settings, site.clock))]


CHECKS: Final[Mapping[Subject, Check]] = {
    Subject.CONFIGURATION: _configuration,
    Subject.CREDENTIALS: _credentials,
    Subject.SERVICE: _service,
    Subject.INSTALLATION: _installation,
    Subject.RADIO: _radio,
    Subject.GPS: _gps,
    Subject.MIC: _mic,
    Subject.BROKER: _broker,
    Subject.DISK: _disk,
    Subject.CLOCK: _clock,
    Subject.POWER: _power,
    Subject.GPIO: _gpio,
}
