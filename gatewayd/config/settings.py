"""The table of all settings: section, key, kind, default, and a line of help in the field's words.

The example file, `show-config`, the error messages and the manual come from it. A default is the text that
one would write; an empty one means "not set", and what that leads to stands in the help. So a later file can
take back what an earlier one set: `canary =`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gatewayd.config import kinds
from gatewayd.config.kinds import Kind, optional
from gatewayd.core.model import Subject, TagEvent
from gatewayd.core.tags import FORMATS

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_EVENTS: Final = " ".join(event for event in TagEvent if event is not TagEvent.NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T_co]):
    """One setting. `section` is `tag` for the keys of every `[tag NAME]`."""

    section: str
    key: str
    kind: Kind[T_co]
    default: str
    help: str

    def read(self, text: str) -> T_co:
        """Return the value of a text; `ValueError` when it is not of the setting's kind."""
        return self.kind.read(text)

    def accepts(self, text: str) -> bool:
        """Say whether a text is of the setting's kind."""
        try:
            self.read(text)
        except ValueError:
            return False
        return True


# What each section is about, in the order in which they are shown.
SECTIONS: Final[Mapping[str, str]] = {
    "gateway": "Who and where this gateway is.",
    "mqtt": "The brokers that take its alarms.",
    "radio": "The Bluetooth adapter that hears the tags.",
    "tag": "One section for each assigned tag. NAME is its id: 1 to 64 letters, digits, _ and -; unique in"
    " the fleet where several gateways hear one tag.",
    "gps": "Where positions come from, and when they are published.",
    "audio": "The microphone, which listens while an alarm is open; before one only as pre_roll says.",
    "gpio": "What is wired to the pins, by BCM number, 0 to 27. Not set: not wired.",
    "alarm": "What happens to an alarm that nobody takes.",
    "visit": "Workers' visits: when the end is near, and what follows when nobody says that it is over.",
    "test": "Tests of the gateway and of the tags.",
    "outbox": "What waits for the broker, on disk.",
    "health": "What the gateway says of itself.",
    "home_assistant": "Devices that Home Assistant finds by itself.",
    "owntracks": "The position for OwnTracks Recorder, Traccar and others that show vehicles.",
}

_table: list[Setting[object]] = []


def _add(section: str, key: str, kind: Kind[T], default: str, line: str) -> Setting[T]:
    setting = Setting(section=section, key=key, kind=kind, default=default, help=line)
    _table.append(setting)
    return setting


# fmt: off
# One setting a row, two lines each: section, key, kind, default; help.
GATEWAY_ID: Final = _add("gateway", "id", optional(kinds.ID), "",
    "Its id in every topic. Not set: gw- and eight digits derived from the machine id.")
GATEWAY_PREFIX: Final = _add("gateway", "prefix", kinds.PREFIX, "gatewayd",
    "What every topic begins with.")
GATEWAY_KIND: Final = _add("gateway", "kind",
    kinds.one_of("vehicle or hub", {str(kind): kind for kind in Subject}), "vehicle",
    "What the gateway is in: a vehicle, or a hub that stays where it is.")
GATEWAY_LATITUDE: Final = _add("gateway", "latitude", optional(kinds.degrees(90)), "",
    "Where a hub stands, in decimal degrees (WGS 84). A hub needs it.")
GATEWAY_LONGITUDE: Final = _add("gateway", "longitude", optional(kinds.degrees(180)), "",
    "Likewise, east positive.")

MQTT_BROKERS: Final = _add("mqtt", "brokers", kinds.BROKERS, "localhost",
    "host[:port] …, tried in turn; they share one namespace. Port: 8883 with TLS, 1883 without.")
MQTT_TLS: Final = _add("mqtt", "tls", optional(kinds.BOOLEAN), "",
    "Whether the session is encrypted. Not set: yes, but no where every broker is loopback; only there"
    " no is allowed.")
MQTT_CA_FILE: Final = _add("mqtt", "ca_file", optional(kinds.PATH), "",
    "The certificates (PEM) that the broker's must lead to. Not set: the system's.")
MQTT_CLIENT_CERTIFICATE: Final = _add("mqtt", "client_certificate", optional(kinds.PATH), "",
    "The gateway's own certificate (PEM), for brokers that ask for one.")
MQTT_CLIENT_KEY_CREDENTIAL: Final = _add("mqtt", "client_key_credential", optional(kinds.CREDENTIAL), "",
    "The systemd credential that holds the key (PEM) of client_certificate.")
MQTT_USERNAME: Final = _add("mqtt", "username", optional(kinds.TEXT), "",
    "The user name at the broker.")
MQTT_PASSWORD_CREDENTIAL: Final = _add("mqtt", "password_credential", optional(kinds.CREDENTIAL), "",
    "The systemd credential that holds the password of username.")
MQTT_KEEP_ALIVE: Final = _add("mqtt", "keep_alive", kinds.duration("2s", "10min", step="1s"), "6s",
    "A broker tells that a gateway is lost after 1.5 times this and 4 to 11 s; 6s keeps that below 20 s.")

RADIO_ENABLED: Final = _add("radio", "enabled", kinds.BOOLEAN, "yes",
    "Whether tags are listened to.")
RADIO_ADAPTER: Final = _add("radio", "adapter", kinds.ADAPTERS, "",
    "hciN, or better the adapter's address, since hciN is not stable; or several, spaces between. Not set:"
    " every one that is on.")
RADIO_CANARY: Final = _add("radio", "canary", optional(kinds.ADDRESS), "",
    "The address of an owned tag that stays near and always advertises: where it is silent and nobody else is"
    " heard either, the radio is deaf.")

TAG_FORMAT: Final = _add("tag", "format", kinds.choice(*FORMATS), "bthome",
    "How the tag advertises. Only bthome with a key proves itself; the others can be copied by anyone.")
TAG_ADDRESS: Final = _add("tag", "address", optional(kinds.ADDRESS), "",
    "The tag's address; not with ibeacon and *_ibeacon, which are known by an identity. eddystone may have it"
    " beside its own, for the telemetry of the tag (presence, battery): never for a press.")
TAG_UUID: Final = _add("tag", "uuid", optional(kinds.UUID), "",
    "ibeacon and *_ibeacon: the identity that appears when the tag is pressed, of kontakt_ibeacon the one it"
    " has at rest; with major and minor.")
TAG_MAJOR: Final = _add("tag", "major", optional(kinds.whole(0, 65535)), "",
    "Likewise.")
TAG_MINOR: Final = _add("tag", "minor", optional(kinds.whole(0, 65535)), "",
    "Likewise.")
TAG_NAMESPACE: Final = _add("tag", "namespace", optional(kinds.hexadecimal(20)), "",
    "eddystone: the identity that appears when the tag is pressed, 20 hex digits; with instance.")
TAG_INSTANCE: Final = _add("tag", "instance", optional(kinds.hexadecimal(12)), "",
    "eddystone: likewise, 12 hex digits.")
TAG_ON_AIR: Final = _add("tag", "on_air", optional(kinds.duration("1s", "10min")), "",
    "eddystone, ibeacon and *_ibeacon: how long the identity is on the air after a press, as set in the tag."
    " Silent for longer, it appears anew: a press. Not set: 30s, 10s for kontakt_ibeacon.")
TAG_KEY_CREDENTIAL: Final = _add("tag", "key_credential", optional(kinds.CREDENTIAL), "",
    "bthome: the systemd credential that holds the tag's key, 32 hex digits or 16 bytes. Without it the"
    " tag still raises alarms, marked as unproved.")
TAG_WORKER: Final = _add("tag", "worker", optional(kinds.REFERENCE), "",
    "Who wears the tag: a reference that the ops desk knows, never a name.")
TAG_ALARM_ON: Final = _add("tag", "alarm_on", optional(kinds.EVENTS), "",
    f"The events that raise an alarm: {_EVENTS}. Not set: every one but those of the four settings"
    " below. unknown, one that could not be read, always does.")
TAG_TEST_ON: Final = _add("tag", "test_on", kinds.EVENTS, "none",
    "The events that are a test and raise no actual alarm.")
TAG_CANCEL_ON: Final = _add("tag", "cancel_on", kinds.EVENTS, "none",
    "The events that ask to cancel the tag's open alarm. Ops are told and decide; nothing closes by itself.")
TAG_DURESS_ON: Final = _add("tag", "duress_on", kinds.EVENTS, "none",
    "The events that look like cancel_on to whoever stands beside, and call for help with the cause duress.")
TAG_CHECKOUT_ON: Final = _add("tag", "checkout_on", kinds.EVENTS, "none",
    "The events that say that the worker's visit is over, and raise no alarm. A press that fails to prove"
    " itself checks nobody out.")
TAG_LOST_AFTER: Final = _add("tag", "lost_after", kinds.duration("5s", "1d"), "60s",
    "Unheard for this long, the tag counts as lost.")
TAG_BEEP: Final = _add("tag", "beep", kinds.BOOLEAN, "no",
    "itag: whether the tag beeps to tell its wearer that the alarm is stored, received, and help on the way.")

GPS_SOURCE: Final = _add("gps", "source", kinds.SOURCE, "none",
    "serial:/dev/DEVICE[@BAUD] (the rate is found when not given), gpsd://HOST[:PORT] or none.")
GPS_PUBLISH: Final = _add("gps", "publish", kinds.choice("always", "visit", "alarm"), "alarm",
    "When positions leave the gateway: always, during a visit or alarm, or during an alarm only.")

AUDIO_ENABLED: Final = _add("audio", "enabled", kinds.BOOLEAN, "yes",
    "Whether an alarm opens the microphone. What is heard is what makes an alarm count.")
AUDIO_DEVICE: Final = _add("audio", "device", kinds.TEXT, "default",
    "An ALSA PCM name, opened as it stands.")
# Opus takes these and no others: RFC 6716, section 2.1.3.
_RATES: Final = (8000, 12000, 16000, 24000, 48000)
AUDIO_RATE: Final = _add("audio", "rate",
    kinds.one_of(", ".join(map(str, _RATES)), {str(rate): rate for rate in _RATES}), "16000",
    "Samples a second, mono.")
# Opus: RFC 6716, section 2.1.1.
AUDIO_BITRATE: Final = _add("audio", "bitrate", kinds.whole(6000, 510_000, "bit/s"), "24000",
    "Opus, in bit/s.")
# Whole Opus frames of 20 ms; at most 1 s, so that chunk 0 can be at the broker within 2 s of a press.
AUDIO_CHUNK: Final = _add("audio", "chunk", kinds.duration("100ms", "1s", step="20ms"), "500ms",
    "The length of one piece of live sound.")
AUDIO_DURATION: Final = _add("audio", "duration", kinds.duration("1s", "1d"), "10min",
    "How long an alarm listens; a command extends it.")
AUDIO_PRE_ROLL: Final = _add("audio", "pre_roll", kinds.duration("0s", "30s", step="20ms"), "0s",
    "Sound kept from before an alarm, in memory only. More than 0s keeps the microphone open all the time.")
AUDIO_LISTEN_BASIS: Final = _add("audio", "listen_basis", optional(kinds.TEXT), "",
    "The legal basis on which alarms that are closed may be listened to; told with each such listening. Not"
    " set: nobody is listened to without an open alarm.")

# The pins on the 40-pin header.
_PIN: Final = optional(kinds.whole(0, 27))
GPIO_PANIC_BUTTON: Final = _add("gpio", "panic_button", _PIN, "",
    "A wired panic button, to ground.")
GPIO_STATUS_LED: Final = _add("gpio", "status_led", _PIN, "",
    "A light that says how the gateway is.")
GPIO_BUZZER: Final = _add("gpio", "buzzer", _PIN, "",
    "A buzzer.")
GPIO_POWER_SENSE: Final = _add("gpio", "power_sense", _PIN, "",
    "High while the vehicle gives power.")
GPIO_SILENT: Final = _add("gpio", "silent", kinds.BOOLEAN, "yes",
    "Whether light and buzzer keep still on an alarm, so that nobody near learns of it.")

# A minute is long for somebody who called; an hour after, who has not answered to ten levels will not.
ALARM_ESCALATE_AFTER: Final = _add("alarm", "escalate_after", kinds.rising("1s", "1h", 10), "30s 60s 120s",
    "After how long an alarm that nobody took is told again as escalated, each time one level higher."
    " Nothing: never.")
ALARM_TAG_LOST: Final = _add("alarm", "tag_lost", kinds.BOOLEAN, "no",
    "Whether a worker's tag that falls silent raises an alarm, after [visit] pre_alarm: in a hub always, in a"
    " vehicle on a visit of high risk only, for workers leave vehicles.")
VISIT_REMINDER: Final = _add("visit", "reminder", kinds.duration("1min", "1h"), "5min",
    "How long before its end a visit is told to be near it.")
VISIT_GRACE: Final = _add("visit", "grace", kinds.duration("10s", "10min"), "60s",
    "How long after its end a visit is overdue: the pre-alarm begins.")
VISIT_PRE_ALARM: Final = _add("visit", "pre_alarm", kinds.duration("10s", "5min"), "30s",
    "How long the pre-alarm lasts before the alarm; check-out, an extension or closing ends it.")

TEST_DAILY_AT: Final = _add("test", "daily_at", optional(kinds.TIME_OF_DAY), "04:00",
    "When a message goes to the broker and back each day, UTC; up to an hour later, by the gateway's id, so"
    " that a fleet does not do it at once. Nothing: never.")
TEST_OVERDUE_AFTER: Final = _add("test", "overdue_after", kinds.duration("1h", "366d"), "30d",
    "A tag that was not pressed as a test for this long is listed in health.")
TEST_MICROPHONE: Final = _add("test", "microphone", kinds.BOOLEAN, "no",
    "Whether a press that is a test opens the microphone.")

OUTBOX_PATH: Final = _add("outbox", "path", optional(kinds.PATH), "",
    "The database file. Not set: outbox.db in the state directory.")
OUTBOX_BUDGET: Final = _add("outbox", "budget", kinds.size("1M", "1T"), "1G",
    "What it may take of the disk, beside 8 MiB of reserve. When full, the least important goes first, an"
    " alarm never.")

HEALTH_INTERVAL: Final = _add("health", "interval", kinds.duration("1s", "1h"), "30s",
    "How often health is published, besides on every change.")

HOME_ASSISTANT_PREFIX: Final = _add("home_assistant", "discovery_prefix", optional(kinds.PREFIX), "",
    "Where Home Assistant (2024.11 or newer) looks for devices: homeassistant, unless changed there. Not set:"
    " it is told nothing.")

OWNTRACKS_TOPIC: Final = _add("owntracks", "topic", optional(kinds.PREFIX), "",
    "A position that is published is told there, too, with the gateway's id behind it: owntracks/fleet makes"
    " owntracks/fleet/gw-1. Not set: nowhere.")
# fmt: on

SETTINGS: Final = tuple(_table)
_OF: Final = {
    section: tuple(setting for setting in SETTINGS if setting.section == section) for section in SECTIONS
}


def of(section: str) -> tuple[Setting[object], ...]:
    """Return the settings of a known section, `tag front` or `gateway`, in the order of the table."""
    return _OF[section.partition(" ")[0]]
