"""From layers to the frozen `Config`: what is wrong between settings, then the values.

A setting that is bad by itself was reported where it stands and counts as its default here, so that one fault
is not told twice; a check between settings speaks only of lines that are there.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final
from uuid import UUID

from gatewayd.config import settings
from gatewayd.config.credentials import CredentialError, credential_path
from gatewayd.config.layers import Layers
from gatewayd.config.model import (
    Alarm,
    Audio,
    Broker,
    Config,
    Gateway,
    Gpio,
    Gps,
    Health,
    HomeAssistant,
    Mqtt,
    Outbox,
    OwnTracks,
    Radio,
    Test,
)
from gatewayd.config.problem import Entry, Place, Problem, shown
from gatewayd.config.tags import build_tags, check_tags
from gatewayd.core import visit
from gatewayd.core.model import Subject

MACHINE_ID: Final = Path("/etc/machine-id")
# machine-id(5): never the id itself, but a keyed hash of it with an id of the application's own; this one.
_APPLICATION: Final = UUID("9d6d5e0f-2b0a-4c57-8f0e-5a3f0c2b7e41")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_LOOPBACK: Final = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
TLS_PORT: Final = 8883  # both registered with IANA for MQTT
PLAIN_PORT: Final = 1883


def check(layers: Layers, machine_id: str) -> list[Problem]:
    """Return what is wrong between the settings, each fault once."""
    return [
        *_check_id(layers, machine_id),
        *_check_place(layers),
        *_check_tls(layers),
        *_check_login(layers),
        *_check_pins(layers),
        *check_tags(layers),
    ]


def _check_id(layers: Layers, machine_id: str) -> Iterator[Problem]:
    if not layers.entry(settings.GATEWAY_ID) and not _MACHINE_ID.fullmatch(machine_id):
        yield Problem(
            place=Place(path=str(MACHINE_ID)),
            expected="32 hex digits to derive the gateway's id from, or [gateway] id in the configuration",
            got=shown(machine_id) or "nothing",
        )


def _check_place(layers: Layers) -> Iterator[Problem]:
    latitude, longitude = layers.entry(settings.GATEWAY_LATITUDE), layers.entry(settings.GATEWAY_LONGITUDE)
    kind = layers.entry(settings.GATEWAY_KIND)
    if latitude and not longitude:
        yield Problem.of(latitude, "longitude with it", "none")
    elif longitude and not latitude:
        yield Problem.of(longitude, "latitude with it", "none")
    elif kind and not latitude and layers.value(settings.GATEWAY_KIND) is Subject.HUB:
        yield Problem.of(kind, "latitude and longitude with it", "neither")


def _check_tls(layers: Layers) -> Iterator[Problem]:
    if _tls(layers) or layers.is_bad(settings.MQTT_BROKERS) or layers.is_bad(settings.MQTT_TLS):
        return
    reason = "no" if layers.entry(settings.MQTT_TLS) else "no, as every broker is loopback"
    for setting in (
        settings.MQTT_CA_FILE,
        settings.MQTT_CLIENT_CERTIFICATE,
        settings.MQTT_CLIENT_KEY_CREDENTIAL,
    ):
        if entry := layers.entry(setting):
            yield Problem.of(entry, "tls = yes with it", reason)
    entry = layers.entry(settings.MQTT_TLS)
    far = [host for host, _ in layers.value(settings.MQTT_BROKERS) if not is_loopback(host)]
    if entry and far:
        yield Problem.of(entry, "yes, or only brokers on loopback", f"no with {shown(' '.join(far))}")


def _check_login(layers: Layers) -> Iterator[Problem]:
    certificate = layers.entry(settings.MQTT_CLIENT_CERTIFICATE)
    key = layers.entry(settings.MQTT_CLIENT_KEY_CREDENTIAL)
    password = layers.entry(settings.MQTT_PASSWORD_CREDENTIAL)
    if certificate and not key:
        yield Problem.of(certificate, "client_key_credential with it", "none")
    if key and not certificate:
        yield Problem.of(key, "client_certificate with it", "none")
    if password and not layers.entry(settings.MQTT_USERNAME):
        yield Problem.of(password, "username with it", "none")


def _check_pins(layers: Layers) -> Iterator[Problem]:
    owners: dict[int, Entry] = {}
    for setting in _PINS:
        pin, entry = layers.value(setting), layers.entry(setting)
        if pin is None or entry is None:
            continue
        owner = owners.setdefault(pin, entry)
        if owner is not entry:
            yield Problem.of(entry, "a pin of its own", f"that of {owner.key} ({owner.place})")


_PINS: Final = (
    settings.GPIO_PANIC_BUTTON,
    settings.GPIO_STATUS_LED,
    settings.GPIO_BUZZER,
    settings.GPIO_POWER_SENSE,
)


def is_loopback(host: str) -> bool:
    """Say whether a host, a name or an address, is this machine by definition (RFC 6761, section 6.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith(".localhost")
    return any(address in network for network in _LOOPBACK)


def _tls(layers: Layers) -> bool:
    brokers = layers.value(settings.MQTT_BROKERS)
    written = layers.value(settings.MQTT_TLS)
    return not all(is_loopback(host) for host, _ in brokers) if written is None else written


def derived_id(machine_id: str) -> str:
    """Return the id of a gateway that was given none. `machine_id` is 32 hex digits."""
    digest = hmac.digest(bytes.fromhex(machine_id), _APPLICATION.bytes, "sha256")
    return f"gw-{digest[:4].hex()}"


def build(layers: Layers, credentials: Path | None, machine_id: str) -> tuple[Config, list[Problem]]:
    """Return the values of faultless layers, and warnings: what is missing outside of the configuration."""
    tags, warnings = build_tags(layers, credentials)
    value = layers.value
    config = Config(
        gateway=Gateway(
            id=value(settings.GATEWAY_ID) or derived_id(machine_id),
            prefix=value(settings.GATEWAY_PREFIX),
            kind=value(settings.GATEWAY_KIND),
            latitude=value(settings.GATEWAY_LATITUDE),
            longitude=value(settings.GATEWAY_LONGITUDE),
        ),
        mqtt=_mqtt(layers),
        radio=Radio(
            enabled=value(settings.RADIO_ENABLED),
            adapters=value(settings.RADIO_ADAPTER),
            canary=value(settings.RADIO_CANARY),
        ),
        tags=tags,
        gps=Gps(source=value(settings.GPS_SOURCE), publish=value(settings.GPS_PUBLISH)),
        audio=_audio(layers),
        gpio=_gpio(layers),
        alarm=Alarm(
            escalate_after_s=value(settings.ALARM_ESCALATE_AFTER), tag_lost=value(settings.ALARM_TAG_LOST)
        ),
        visit=visit.Settings(
            reminder_s=value(settings.VISIT_REMINDER),
            grace_s=value(settings.VISIT_GRACE),
            pre_alarm_s=value(settings.VISIT_PRE_ALARM),
        ),
        test=Test(
            daily_at_s=value(settings.TEST_DAILY_AT),
            overdue_after_s=value(settings.TEST_OVERDUE_AFTER),
            microphone=value(settings.TEST_MICROPHONE),
        ),
        outbox=Outbox(path=value(settings.OUTBOX_PATH), budget_bytes=value(settings.OUTBOX_BUDGET)),
        health=Health(interval_s=value(settings.HEALTH_INTERVAL)),
        home_assistant=HomeAssistant(discovery_prefix=value(settings.HOME_ASSISTANT_PREFIX)),
        owntracks=OwnTracks(topic=value(settings.OWNTRACKS_TOPIC)),
    )
    return config, [*warnings, *_check_unused(layers), *_check_files(layers, credentials)]


def _check_unused(layers: Layers) -> Iterator[Problem]:
    """A vehicle's place comes from its receiver alone: a depot's must not be told as its position."""
    latitude = layers.entry(settings.GATEWAY_LATITUDE)
    if latitude and layers.value(settings.GATEWAY_KIND) is not Subject.HUB:
        yield Problem.of(latitude, "kind = hub with it", "a vehicle: not used")


def _mqtt(layers: Layers) -> Mqtt:
    value, tls = layers.value, _tls(layers)
    return Mqtt(
        brokers=tuple(
            Broker(host=host, port=port or (TLS_PORT if tls else PLAIN_PORT))
            for host, port in value(settings.MQTT_BROKERS)
        ),
        tls=tls,
        ca_file=value(settings.MQTT_CA_FILE),
        client_certificate=value(settings.MQTT_CLIENT_CERTIFICATE),
        client_key_credential=value(settings.MQTT_CLIENT_KEY_CREDENTIAL),
        username=value(settings.MQTT_USERNAME),
        password_credential=value(settings.MQTT_PASSWORD_CREDENTIAL),
        keep_alive_s=int(value(settings.MQTT_KEEP_ALIVE)),
    )


def _audio(layers: Layers) -> Audio:
    value = layers.value
    return Audio(
        enabled=value(settings.AUDIO_ENABLED),
        device=value(settings.AUDIO_DEVICE),
        rate_hz=value(settings.AUDIO_RATE),
        bitrate_bps=value(settings.AUDIO_BITRATE),
        chunk_s=value(settings.AUDIO_CHUNK),
        duration_s=value(settings.AUDIO_DURATION),
        pre_roll_s=value(settings.AUDIO_PRE_ROLL),
        listen_basis=value(settings.AUDIO_LISTEN_BASIS),
    )


def _gpio(layers: Layers) -> Gpio:
    value = layers.value
    return Gpio(
        panic_button=value(settings.GPIO_PANIC_BUTTON),
        status_led=value(settings.GPIO_STATUS_LED),
        buzzer=value(settings.GPIO_BUZZER),
        power_sense=value(settings.GPIO_POWER_SENSE),
        silent=value(settings.GPIO_SILENT),
    )


def _check_files(layers: Layers, credentials: Path | None) -> Iterator[Problem]:
    """Find what the session will miss. It is tried all the same, and health says why it fails."""
    for file in (settings.MQTT_CA_FILE, settings.MQTT_CLIENT_CERTIFICATE):
        entry = layers.entry(file)
        if entry and not os.access(entry.value, os.R_OK):
            yield Problem.of(entry, "a file that can be read", "none")
    for credential in (settings.MQTT_CLIENT_KEY_CREDENTIAL, settings.MQTT_PASSWORD_CREDENTIAL):
        if entry := layers.entry(credential):
            yield from _check_credential(entry, credentials)


def _check_credential(entry: Entry, credentials: Path | None) -> Iterator[Problem]:
    try:
        credential_path(credentials, entry.value)
    except CredentialError as error:
        yield Problem.of(entry, error.expected, error.got)
