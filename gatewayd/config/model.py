"""The configuration as frozen values; `settings.py` holds the table they are made from.

Durations are seconds, sizes bytes. Secrets are not here: a `*_credential` is a name, looked up in
`$CREDENTIALS_DIRECTORY` when it is needed (tags' keys are read when the configuration is loaded).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatewayd.core import visit
from gatewayd.core.model import Subject, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    id: str
    prefix: str
    kind: Subject
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    brokers: tuple[Broker, ...]
    tls: bool
    ca_file: Path | None
    client_certificate: Path | None
    client_key_credential: str | None
    username: str | None
    password_credential: str | None
    keep_alive_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Radio:
    enabled: bool
    adapters: tuple[str, ...]  # hciN or addresses; none: every one that is on
    canary: str | None  # address of an owned tag that always advertises


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSource:
    device: str
    baud: int | None  # None: found by probing


@dataclass(frozen=True, slots=True, kw_only=True)
class GpsdSource:
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gps:
    source: SerialSource | GpsdSource | None
    publish: str  # always, visit, alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    enabled: bool
    device: str  # an ALSA PCM name, opened as it stands
    rate_hz: int
    bitrate_bps: int
    chunk_s: float
    duration_s: float
    pre_roll_s: float
    listen_basis: str | None = None  # why closed alarms may be listened to; None: they may not


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpio:
    panic_button: int | None  # BCM numbers
    status_led: int | None
    buzzer: int | None
    power_sense: int | None
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    escalate_after_s: tuple[float, ...]  # rising; none: never
    tag_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    __test__ = False  # to pytest, which takes what is called Test for one

    daily_at_s: float | None  # after midnight UTC; None: no daily test
    overdue_after_s: float
    microphone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    path: Path | None  # None: outbox.db in the state directory
    budget_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeAssistant:
    discovery_prefix: str | None  # None: it is told nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTracks:
    topic: str | None  # what the gateway's id is put below; None: nothing is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be configured."""

    gateway: Gateway
    mqtt: Mqtt
    radio: Radio
    tags: tuple[Tag, ...]
    gps: Gps
    audio: Audio
    gpio: Gpio
    alarm: Alarm
    visit: visit.Settings
    test: Test
    outbox: Outbox
    health: Health
    home_assistant: HomeAssistant
    owntracks: OwnTracks
