"""The table of settings: every kind of value, every default, and the example file that is made from it."""

import runpy
from pathlib import Path

import pytest
from configuring import MACHINE_ID, errors, loaded

from gatewayd.config import example as example_module
from gatewayd.config import settings
from gatewayd.config.example import example
from gatewayd.config.load import load
from gatewayd.config.model import Broker, GpsdSource, SerialSource
from gatewayd.config.settings import SECTIONS, SETTINGS, Setting
from gatewayd.config.tags import IDENTIFIED_BY
from gatewayd.core.model import Tag, TagEvent
from gatewayd.core.tags import FORMATS

ETC = Path(__file__).parents[2] / "etc" / "gatewayd"


def reads(setting: Setting[object], text: str) -> object:
    """Return what a setting makes of a text; `ValueError` itself where it refuses."""
    try:
        return setting.read(text)
    except ValueError:
        return ValueError


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: f"{setting.section}-{setting.key}")
def test_every_default_is_of_its_kind(setting: Setting[object]) -> None:
    assert setting.accepts(setting.default)
    assert setting.section in SECTIONS
    assert setting.help.endswith(".")


def test_no_setting_stands_twice_in_the_table() -> None:
    assert len({(setting.section, setting.key) for setting in SETTINGS}) == len(SETTINGS)


def test_the_example_file_is_what_the_table_says() -> None:
    """After a change of the table: python -m gatewayd.config.example > etc/gatewayd/gatewayd.conf"""
    assert (ETC / "gatewayd.conf").read_text() == example()


def test_the_example_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(example_module.__file__, run_name="__main__")
    assert capsys.readouterr().out == example()


def test_the_example_changes_nothing() -> None:
    """The folder as it is shipped, and the example with every default uncommented, are the defaults."""
    shipped = load(ETC, credentials=None, machine_id=MACHINE_ID)
    defaults = loaded("# nothing")
    assert shipped.config == defaults.config
    head, tags = example().split("#[tag NAME]")
    rest = tags[tags.index("\n[") :]
    uncommented = "\n".join(
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line
        for line in (head + rest).splitlines()
    )
    assert loaded(uncommented).config == defaults.config


def test_the_defaults_are_those_of_the_contract() -> None:
    config = loaded("# nothing").config
    assert (config.gateway.prefix, config.gateway.kind, config.gateway.latitude) == (
        "gatewayd",
        "vehicle",
        None,
    )
    assert (config.mqtt.brokers, config.mqtt.tls) == ((Broker(host="localhost", port=1883),), False)
    assert config.mqtt.keep_alive_s == 6
    assert (config.radio.enabled, config.radio.adapters, config.radio.canary) == (True, (), None)
    assert (config.gps.source, config.gps.publish) == (None, "alarm")
    assert (config.audio.enabled, config.audio.device, config.audio.rate_hz) == (True, "default", 16000)
    assert (config.audio.bitrate_bps, config.audio.chunk_s) == (24000, 0.5)
    assert (config.audio.duration_s, config.audio.pre_roll_s) == (600, 0)
    assert (config.gpio.panic_button, config.gpio.power_sense, config.gpio.silent) == (None, None, True)
    assert (config.outbox.path, config.outbox.budget_bytes, config.health.interval_s) == (None, 2**30, 30)
    assert config.tags == ()


def test_the_defaults_of_a_tag_are_those_of_its_value() -> None:
    address = "C4:11:22:33:44:55"
    tag = loaded(f"[tag front]\naddress = {address.lower()}").config.tags[0]
    assert tag == Tag(name="front", format="bthome", address=address)


def test_every_format_of_tags_can_be_configured() -> None:
    assert set(IDENTIFIED_BY) == set(FORMATS)


@pytest.mark.parametrize("text", ["yes", "true", "on", "1", "YES", "True"])
def test_words_for_yes(text: str) -> None:
    assert reads(settings.GPIO_SILENT, text) is True


@pytest.mark.parametrize("text", ["no", "false", "off", "0", "No"])
def test_words_for_no(text: str) -> None:
    assert reads(settings.GPIO_SILENT, text) is False


@pytest.mark.parametrize("text", ["", "y", "2", "ja", "yes yes"])
def test_no_other_word_is_a_boolean(text: str) -> None:
    assert reads(settings.GPIO_SILENT, text) is ValueError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5000ms", 5), ("30s", 30), ("5min", 300), ("1h", 3600), ("1d", 86400)]
    + [(outside, ValueError) for outside in ("500ms", "4s", "2d", "9999999999s")]
    + [(bad, ValueError) for bad in ("", "30", "30 s", "1.5h", "-5s", "5S", "5m", "٣s", "1h30min")],
)
def test_durations(text: str, seconds: object) -> None:
    """A whole number with a unit, within the setting's bounds; a minute is min, since m could be either."""
    assert reads(settings.TAG_LOST_AFTER, text) == seconds


def test_a_chunk_is_of_whole_opus_frames() -> None:
    assert reads(settings.AUDIO_CHUNK, "480ms") == 0.48
    assert reads(settings.AUDIO_CHUNK, "490ms") is ValueError


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 << 20), ("1G", 1 << 30), ("1024K", 1 << 20), ("1T", 1 << 40), ("2T", ValueError)]
    + [(bad, ValueError) for bad in ("", "64", "64MB", "64m", "1.5G", "0M", "-1G")],
)
def test_sizes(text: str, size: object) -> None:
    assert reads(settings.OUTBOX_BUDGET, text) == size


@pytest.mark.parametrize(
    ("text", "brokers"),
    [
        ("localhost", (("localhost", None),)),
        ("a.example:8883  b_c.example", (("a.example", 8883), ("b_c.example", None))),
        ("[::1]:1883 [2001:db8::1]", (("::1", 1883), ("2001:db8::1", None))),
        ("192.0.2.1:1", (("192.0.2.1", 1),)),
        ("example.", (("example.", None),)),
    ]
    + [
        (bad, ValueError)
        for bad in (
            "", "::1", "[::1", "[::g]", "[]", "a:0", "a:65536", "a:", ":1", "a,b", "a-", "-a", "a..b", "mqtt://a",
            "192.0.2.256", "1883", "a.1", "a a", " ".join("abcdefghi"), "a" * 64,
            ".".join(["a" * 63] * 4), "é.example", "a:1:2",
        )
    ],
)  # fmt: skip
def test_brokers(text: str, brokers: object) -> None:
    assert reads(settings.MQTT_BROKERS, text) == brokers


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("none", None),
        ("serial:/dev/ttyUSB0", SerialSource(device="/dev/ttyUSB0", baud=None)),
        ("serial:/dev/serial/by-id/u-blox@9600", SerialSource(device="/dev/serial/by-id/u-blox", baud=9600)),
        ("gpsd://localhost", GpsdSource(host="localhost", port=2947)),
        ("gpsd://[::1]:3000", GpsdSource(host="::1", port=3000)),
    ]
    + [
        (bad, ValueError)
        for bad in (
            "", "/dev/ttyUSB0", "serial:ttyUSB0", "serial:/dev/a@9601", "serial:/dev/a@x",
            "serial:/dev/\u200b", "gpsd:localhost", "gpsd://", "gpsd://a/b", "http://a", "None",
        )
    ],
)  # fmt: skip
def test_gps_sources(text: str, source: object) -> None:
    assert reads(settings.GPS_SOURCE, text) == source


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("none", frozenset()),
        ("press long", {TagEvent.PRESS, TagEvent.LONG}),
        ("unknown", {TagEvent.UNKNOWN}),
    ]
    + [(bad, ValueError) for bad in ("press none", "press,long", "press press", "single")],
)
def test_tag_events(text: str, events: object) -> None:
    assert reads(settings.TAG_ALARM_ON, text) == events


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (settings.GATEWAY_ID, "Car_7-a", "Car_7-a"),
        (settings.GATEWAY_ID, "x" * 65, ValueError),
        (settings.GATEWAY_ID, "a/b", ValueError),
        (settings.GATEWAY_PREFIX, "care/north", "care/north"),
        (settings.GATEWAY_PREFIX, "care/+", ValueError),
        (settings.GATEWAY_PREFIX, "care/#", ValueError),
        (settings.GATEWAY_PREFIX, "/care", ValueError),
        (settings.GATEWAY_PREFIX, "care/", ValueError),
        (settings.GATEWAY_PREFIX, "a b", ValueError),
        (settings.GATEWAY_PREFIX, "$SYS", ValueError),
        (settings.GATEWAY_PREFIX, "x" * 65, ValueError),
        (settings.GATEWAY_PREFIX, "", ValueError),
        (settings.GATEWAY_KIND, "hub", "hub"),
        (settings.GATEWAY_KIND, "bike", ValueError),
        (settings.GATEWAY_LATITUDE, "-52.0907", -52.0907),
        (settings.GATEWAY_LATITUDE, "90", 90.0),
        (settings.GATEWAY_LATITUDE, "90.1", ValueError),
        (settings.GATEWAY_LATITUDE, "52,1", ValueError),
        (settings.GATEWAY_LATITUDE, "nan", ValueError),
        (settings.GATEWAY_LATITUDE, "1e1", ValueError),
        (settings.GATEWAY_LONGITUDE, "180", 180.0),
        (settings.MQTT_KEEP_ALIVE, "1500ms", ValueError),
        (settings.MQTT_KEEP_ALIVE, "2500ms", ValueError),
        (settings.MQTT_CA_FILE, "/etc/ca.pem", Path("/etc/ca.pem")),
        (settings.MQTT_CA_FILE, "ca.pem", ValueError),
        (settings.MQTT_CA_FILE, "/" * 4096, ValueError),
        (settings.MQTT_CA_FILE, "", None),
        (settings.MQTT_USERNAME, "x" * 129, ValueError),
        (settings.MQTT_PASSWORD_CREDENTIAL, "mqtt.password", "mqtt.password"),
        (settings.MQTT_PASSWORD_CREDENTIAL, "../shadow", ValueError),
        (settings.MQTT_PASSWORD_CREDENTIAL, "..", ValueError),
        (settings.TAG_KEY_CREDENTIAL, "00112233445566778899aabbccddeeff", ValueError),
        (settings.RADIO_ADAPTER, "", ()),
        (settings.RADIO_ADAPTER, "hci0", ("hci0",)),
        (settings.RADIO_ADAPTER, "f0:f1:f2:f3:f4:f5 hci1", ("F0:F1:F2:F3:F4:F5", "hci1")),
        (settings.RADIO_ADAPTER, "wlan0", ValueError),
        (settings.RADIO_ADAPTER, "hci0 hci0", ValueError),
        (settings.RADIO_ADAPTER, "hci0 hci1 hci2 hci3 hci4", ValueError),
        (settings.RADIO_CANARY, "C4-11-22-33-44-55", ValueError),
        (settings.TAG_UUID, "F7826DA6-4FA2-4E98-8024-BC5B71E0893E", "f7826da6-4fa2-4e98-8024-bc5b71e0893e"),
        (settings.TAG_UUID, "f7826da64fa24e988024bc5b71e0893e", ValueError),
        (settings.TAG_MAJOR, "65535", 65535),
        (settings.TAG_MAJOR, "65536", ValueError),
        (settings.TAG_MAJOR, "٣", ValueError),
        (settings.TAG_NAMESPACE, "EDD1EBEAC04E5DEFA017", "edd1ebeac04e5defa017"),
        (settings.TAG_INSTANCE, "0bdb87539b6", ValueError),
        (settings.TAG_WORKER, "w-17@north", "w-17@north"),
        (settings.TAG_WORKER, "Jane Doe", ValueError),
        (settings.AUDIO_RATE, "44100", ValueError),
        (settings.AUDIO_BITRATE, "5999", ValueError),
        (settings.AUDIO_DEVICE, "plug:'dsnoop:0'", "plug:'dsnoop:0'"),
        (settings.AUDIO_DEVICE, "", ValueError),
        (settings.GPIO_BUZZER, "27", 27),
        (settings.GPIO_BUZZER, "28", ValueError),
        (settings.GPIO_BUZZER, "GPIO17", ValueError),
        (settings.GPIO_BUZZER, "", None),
    ],
)
def test_values(setting: Setting[object], text: str, value: object) -> None:
    """What each setting takes, and what it refuses."""
    assert reads(setting, text) == value


def test_pre_roll_keeps_30_seconds_at_most() -> None:
    assert reads(settings.AUDIO_PRE_ROLL, "30s") == 30
    assert errors("[audio]\npre_roll = 31s") == [
        "1.conf:2: [audio] pre_roll = 31s:"
        " expected a duration from 0s to 30s in steps of 20ms (ms, s, min, h or d), got 31s"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mqtt]\nbroker = a", "a key of [mqtt] (did you mean brokers?)"),
        ("[mqtt]\nBrokers = a", "a key of [mqtt] (did you mean brokers?)"),
        ("[gateway]\nbrokers = a", "a key of [gateway] (did you mean brokers of [mqtt]?)"),
        ("[gateway]\nworker = a", "a key of [gateway] (did you mean worker of [tag NAME]?)"),
        ("[gps]\nzzzz = a", "one of source publish"),
        (f"[gps]\n{'z' * 100} = a", "one of source publish"),
        ("[alarm]\nescalate = 30s", "a key of [alarm] (did you mean escalate_after?)"),
        ("[visit]\nzzzz = a", "one of reminder grace pre_alarm"),
        ("[Gateway]\nx = y", "a known section (did you mean [gateway]?)"),
        ("[tag]\nx = y", "a known section (did you mean [tag NAME]?)"),
        ("[tags]\nx = y", "a known section (did you mean [tag NAME]?)"),
        ("[tag a b]\nx = y", "[tag NAME] with a NAME of 1 to 64 letters, digits, _ and -"),
        ("[tag wired]\nx = y", "another tag's name, since wired is the wired button's"),
        (
            "[zzzz]\nx = y",
            "one of [gateway] [mqtt] [radio] [tag NAME] [gps] [audio] [gpio] [alarm] [visit] [test] [outbox]"
            " [health] [home_assistant] [owntracks]",
        ),
    ],
)
def test_an_unknown_word_is_told_with_the_one_that_may_be_meant(text: str, expected: str) -> None:
    (error,) = errors(text)
    assert f": expected {expected}, got " in error
