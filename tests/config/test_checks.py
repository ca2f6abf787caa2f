"""What must hold between settings, and that one fault is told once."""

import re
from pathlib import Path

import pytest
from configuring import errors, loaded

from gatewayd.config.build import derived_id, is_loopback
from gatewayd.config.model import Broker
from gatewayd.config.tags import tag_section
from gatewayd.core.model import Subject, TagEvent

TAG = "[tag front]\naddress = C4:11:22:33:44:55\n"
IBEACON = "[tag b]\nformat = ibeacon\nuuid = f7826da6-4fa2-4e98-8024-bc5b71e0893e\nmajor = 1\nminor = 2\n"
EDDYSTONE = "[tag e]\nformat = eddystone\nnamespace = edd1ebeac04e5defa017\ninstance = 0bdb87539b67\n"


def error(*texts: str) -> str:
    """Return the one error of texts."""
    (line,) = errors(*texts)
    return line


def test_the_id_is_derived_from_the_machine_id_and_does_not_tell_it() -> None:
    """gw- and eight hex digits, always the same on one machine, and none of the machine id's own."""
    machine_id = "0123456789abcdef0123456789abcdef"
    gateway_id = loaded("# nothing").config.gateway.id
    assert gateway_id == derived_id(machine_id) == "gw-3528908c"
    assert derived_id("1" * 32) != gateway_id


@pytest.mark.parametrize("machine_id", ["", "uninitialized", "0" * 31])
def test_without_a_machine_id_the_id_must_be_set(machine_id: str) -> None:
    """Two gateways must not share an id because neither machine had one yet."""
    assert errors("[gateway]\nprefix = a", machine_id=machine_id) == [
        "/etc/machine-id: expected 32 hex digits to derive the gateway's id from,"
        f" or [gateway] id in the configuration, got {machine_id or 'nothing'}"
    ]
    assert errors("[gateway]\nid = a", machine_id=machine_id) == []


def test_a_vehicle_says_nothing_of_where_it_stands() -> None:
    """A depot's coordinates left in its file are not used, and that is said."""
    warnings = loaded("[gateway]\nlatitude = 52.1\nlongitude = 5.1").warnings
    assert [str(warning) for warning in warnings] == [
        "1.conf:2: [gateway] latitude = 52.1: expected kind = hub with it, got a vehicle: not used"
    ]


def test_a_hub_says_where_it_stands() -> None:
    assert error("[gateway]\nkind = hub") == (
        "1.conf:2: [gateway] kind = hub: expected latitude and longitude with it, got neither"
    )
    gateway = loaded("[gateway]\nkind = hub\nlatitude = 52.1\nlongitude = 5.1").config.gateway
    assert (gateway.kind, gateway.latitude, gateway.longitude) == (Subject.HUB, 52.1, 5.1)


@pytest.mark.parametrize(("one", "other"), [("latitude", "longitude"), ("longitude", "latitude")])
def test_a_place_has_both_coordinates(one: str, other: str) -> None:
    assert error(f"[gateway]\nkind = hub\n{one} = 5") == (
        f"1.conf:3: [gateway] {one} = 5: expected {other} with it, got none"
    )


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example", "localhost.example", "10.0.0.1", "::ffff:127.0.0.1", "::"])
def test_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "tls", "ports"),
    [
        ("brokers = localhost", False, [1883]),
        ("brokers = localhost [::1]:99", False, [1883, 99]),
        ("brokers = localhost broker.example", True, [8883, 8883]),
        ("tls = yes", True, [8883]),
        ("tls = no", False, [1883]),
        ("brokers = broker.example\ntls =", True, [8883]),
    ],
)
def test_tls_is_off_only_where_every_broker_is_loopback(text: str, tls: bool, ports: list[int]) -> None:
    """It is the default elsewhere, and decides the port where none is given."""
    mqtt = loaded(f"[mqtt]\n{text}").config.mqtt
    assert (mqtt.tls, [broker.port for broker in mqtt.brokers]) == (tls, ports)


def test_a_far_broker_without_tls_is_an_error() -> None:
    assert error("[mqtt]\ntls = no\nbrokers = localhost 10.0.0.1 a.example") == (
        "1.conf:2: [mqtt] tls = no: expected yes, or only brokers on loopback, got no with 10.0.0.1 a.example"
    )


def test_what_belongs_to_tls_is_an_error_without_it() -> None:
    """Else a broker on loopback would silently be spoken to in the clear."""
    assert error("[mqtt]\nca_file = /etc/ca.pem") == (
        "1.conf:2: [mqtt] ca_file = /etc/ca.pem:"
        " expected tls = yes with it, got no, as every broker is loopback"
    )
    assert error("[mqtt]\nca_file = /etc/ca.pem\ntls = off").endswith("expected tls = yes with it, got no")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client_certificate = /a.pem", "client_key_credential"),
        ("client_key_credential = a", "client_certificate"),
        ("password_credential = a", "username"),
    ],
)
def test_what_goes_together_is_given_together(text: str, expected: str) -> None:
    assert error(f"[mqtt]\nbrokers = a.example\n{text}").endswith(f"expected {expected} with it, got none")


def test_a_bad_broker_is_told_once() -> None:
    """What it would have meant for TLS is not guessed."""
    assert len(errors("[mqtt]\nbrokers = a,b\nca_file = /etc/ca.pem\ntls = no")) == 1
    assert len(errors("[mqtt]\ntls = maybe\nca_file = /etc/ca.pem")) == 1


def test_an_ipv6_broker_is_an_address_without_brackets() -> None:
    assert loaded("[mqtt]\nbrokers = [::1]:1884").config.mqtt.brokers == (Broker(host="::1", port=1884),)


def test_a_pin_has_one_use() -> None:
    assert error("[gpio]\nbuzzer = 4\npanic_button = 3\nstatus_led = 3\npower_sense = 5") == (
        "1.conf:4: [gpio] status_led = 3: expected a pin of its own, got that of panic_button (1.conf:3)"
    )


def test_tags_come_in_the_order_of_their_sections() -> None:
    tags = loaded(IBEACON, EDDYSTONE + TAG + "[tag b]\nworker = w").config.tags
    assert [(tag.name, tag.worker) for tag in tags] == [("b", "w"), ("e", None), ("front", None)]


def test_an_identity_is_what_the_frame_carries() -> None:
    beacon, eddystone = loaded(IBEACON + EDDYSTONE).config.tags
    assert beacon.identity == {"uuid": "f7826da6-4fa2-4e98-8024-bc5b71e0893e", "major": 1, "minor": 2}
    assert eddystone.identity == {"namespace": "edd1ebeac04e5defa017", "instance": "0bdb87539b67"}
    assert (beacon.address, eddystone.address) == (None, None)


def test_a_tag_without_what_tells_it_from_others_is_an_error() -> None:
    assert (
        error("[tag front]")
        == "1.conf:1: [tag front]: expected address for the format bthome, got no address"
    )
    assert error("[tag b]\nformat = ibeacon\nmajor = 1") == (
        "1.conf:1: [tag b]:"
        " expected uuid and major and minor for the format ibeacon, got no uuid and no minor"
    )


def test_an_identity_of_another_format_is_an_error() -> None:
    assert error(TAG + "uuid = f7826da6-4fa2-4e98-8024-bc5b71e0893e").endswith(
        "format = ibeacon or kontakt_ibeacon or kkm_ibeacon or minew_ibeacon or feasycom_ibeacon with it,"
        " got bthome"
    )
    assert error(IBEACON + "address = C4:11:22:33:44:55").endswith(
        "format = bthome or eddystone or ela or itag or kontakt or minew or moko with it, got ibeacon"
    )
    assert errors(IBEACON + "address = C4:11:22:33:44:55", "[tag b]\naddress =") == []


def test_eddystone_may_have_an_address_beside_its_identity() -> None:
    """For its telemetry, which has no identity; alone it is not enough, and it is nobody else's."""
    (tag,) = loaded(EDDYSTONE + "address = C4:11:22:33:44:55").config.tags
    assert (tag.address, tag.identity) == (
        "C4:11:22:33:44:55",
        {"namespace": "edd1ebeac04e5defa017", "instance": "0bdb87539b67"},
    )
    assert error("[tag e]\nformat = eddystone\naddress = C4:11:22:33:44:55").endswith(
        "expected namespace and instance for the format eddystone, got no namespace and no instance"
    )
    assert error(TAG + EDDYSTONE + "address = C4:11:22:33:44:55") == (
        "1.conf:7: [tag e] address = C4:11:22:33:44:55:"
        " expected an address of its own, got that of [tag front] (1.conf:2)"
    )
    assert error(EDDYSTONE + "address = C4:11:22:33:44:55\n" + TAG).endswith("got that of [tag e] (1.conf:5)")


def test_a_tag_that_counts_is_known_by_its_address() -> None:
    (tag,) = loaded("[tag a]\nformat = moko\naddress = C4:11:22:33:44:55").config.tags
    assert (tag.format, tag.address, tag.identity) == ("moko", "C4:11:22:33:44:55", None)


def test_the_section_that_is_made_for_a_tag_assigns_it() -> None:
    """With its key among the credentials and its worker, or without."""
    identity = {"namespace": "11" * 10, "instance": "22" * 6}
    plain = tag_section("anna", tag_format="eddystone", named_by=identity, keyed=False)
    address = {"address": "C4:11:22:33:44:55"}
    keyed = tag_section("bert", tag_format="bthome", named_by=address, keyed=True, worker="w-7")
    anna, bert = loaded("\n".join([*plain, *keyed])).config.tags
    assert (anna.identity, anna.key_expected, anna.worker) == (identity, False, None)
    assert (bert.address, bert.key_expected, bert.worker) == ("C4:11:22:33:44:55", True, "w-7")
    assert "key_credential = tag-bert" in keyed


def test_an_empty_value_takes_back_what_an_earlier_file_set() -> None:
    assert loaded("[radio]\ncanary = C4:11:22:33:44:55", "[radio]\ncanary =").config.radio.canary is None


def test_a_line_that_a_later_file_overrides_is_judged_too() -> None:
    assert len(errors("[gateway]\nid = a b", "[gateway]\nid = a")) == 1


def test_two_tags_with_one_address_are_an_error_that_names_both() -> None:
    assert error(TAG, "[tag rear]\naddress = c4:11:22:33:44:55") == (
        "2.conf:2: [tag rear] address = c4:11:22:33:44:55:"
        " expected an address of its own, got that of [tag front] (1.conf:2)"
    )
    assert error(EDDYSTONE, EDDYSTONE.replace("[tag e]", "[tag f]")).endswith(
        "expected an identity of its own, got that of [tag e] (1.conf:3)"
    )


KONTAKT = IBEACON.replace("[tag b]", "[tag k]").replace("= ibeacon", "= kontakt_ibeacon")


@pytest.mark.parametrize(
    ("digit", "kind"),
    [("e", "ibeacon"), ("f", "kkm_ibeacon"), ("d", "kontakt_ibeacon"), ("f", "kontakt_ibeacon")],
    ids=["at rest", "pressed", "pressed it is what another is at rest", "and the other way round"],
)
def test_two_formats_do_not_share_an_identity(digit: str, kind: str) -> None:
    """Neither that of a press nor that at rest, whichever section comes first."""
    other = IBEACON.replace("0893e", f"0893{digit}").replace("= ibeacon", f"= {kind}")
    assert error(KONTAKT, other).endswith("expected an identity of its own, got that of [tag k] (1.conf:3)")
    assert error(other, KONTAKT).endswith("expected an identity of its own, got that of [tag b] (1.conf:3)")


def test_the_identity_at_rest_is_the_only_one_that_kontakt_shows() -> None:
    """A third UUID is free, and so is the same with another minor."""
    assert errors(KONTAKT, IBEACON.replace("0893e", "08930")) == []
    assert errors(KONTAKT, IBEACON.replace("minor = 2", "minor = 3")) == []
    card = loaded(KONTAKT).config.tags[0]
    named = {"uuid": "f7826da6-4fa2-4e98-8024-bc5b71e0893e", "major": 1, "minor": 2}
    assert (card.resting, card.identity) == (named, {**named, "uuid": f"{named['uuid']}"[:-1] + "f"})
    assert (card.format, card.on_air_s) == ("kontakt_ibeacon", 10.0)


def test_the_sections_to_paste_are_a_good_configuration() -> None:
    """Those of docs/tags.md, all together; the slot at rest calls nobody."""
    text = (Path(__file__).parents[2] / "docs" / "tags.md").read_text(encoding="utf-8")
    (sections,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    calls = {tag.name: tag.calls for tag in loaded(sections).config.tags}
    assert [name for name, does in calls.items() if not does] == ["nurse-6-rest", "nurse-7-rest"]
    assert len(calls) > 5


def test_how_long_an_identity_is_on_the_air() -> None:
    """As its format has it, unless it is set; nobody else's is asked for."""
    assert [tag.on_air_s for tag in loaded(IBEACON, EDDYSTONE).config.tags] == [30.0, 30.0]
    assert loaded(KONTAKT + "on_air = 2min").config.tags[0].on_air_s == 120.0
    assert loaded(KONTAKT + "on_air =").config.tags[0].on_air_s == 10.0
    assert error(IBEACON + "on_air = 999ms").endswith(
        "expected a duration from 1s to 10min (ms, s, min, h or d), or nothing, got 999ms"
    )
    assert error(TAG + "on_air = 30s").endswith(
        "expected format = eddystone or ibeacon or kontakt_ibeacon or kkm_ibeacon or minew_ibeacon or"
        " feasycom_ibeacon with it, which are known by an identity, got bthome"
    )


def test_a_bad_setting_of_a_tag_is_told_once() -> None:
    assert len(errors("[tag a]\nformat = pager\nkey_credential = k")) == 1
    assert len(errors("[tag a]\naddress = x", "[tag b]\naddress = y")) == 2
    assert len(errors(IBEACON.replace("major = 1", "major = x"))) == 1


def test_a_key_belongs_to_bthome() -> None:
    assert error(IBEACON + "key_credential = k").endswith(
        "expected format = bthome with it, the only one that takes a key, got ibeacon"
    )


def test_a_check_out_is_no_alarm() -> None:
    """What says that a visit is over is taken out of what raises one."""
    tag = loaded(TAG + "test_on = hold\ncheckout_on = long double").config.tags[0]
    assert tag.checkout_on == {TagEvent.LONG, TagEvent.DOUBLE}
    assert not tag.alarm_on & {TagEvent.LONG, TagEvent.DOUBLE, TagEvent.HOLD}
    assert TagEvent.PRESS in tag.alarm_on
    assert loaded(TAG).config.tags[0].checkout_on == frozenset()


@pytest.mark.parametrize("other", ["alarm_on", "test_on", "cancel_on", "duress_on"])
def test_a_check_out_is_nothing_else(other: str) -> None:
    assert error(f"{TAG}{other} = long\ncheckout_on = long hold").endswith(
        f"checkout_on = long hold: expected events that {other} has not, got long in both"
    )


def test_a_check_out_can_be_read() -> None:
    """What could not be read may be a call for help."""
    assert error(TAG + "checkout_on = unknown").endswith("expected events that could be read, got unknown")


def test_only_what_is_connected_can_beep() -> None:
    assert error(IBEACON + "beep = yes").endswith(
        "expected format = itag with it, the only one that can be told, got ibeacon"
    )
    assert not loaded(IBEACON + "beep = no").config.tags[0].beep
    tag = loaded("[tag a]\nformat = itag\naddress = C4:11:22:33:44:55\nbeep = yes").config.tags[0]
    assert (tag.beep, tag.feedback) == (True, "beep")


def test_what_is_a_test_raises_no_alarm() -> None:
    """Where alarm_on is not set, it is every event but none and those of test_on."""
    tag = loaded(TAG + "test_on = long hold").config.tags[0]
    assert tag.test_on == {TagEvent.LONG, TagEvent.HOLD}
    assert tag.alarm_on == set(TagEvent) - {TagEvent.NONE, TagEvent.LONG, TagEvent.HOLD}


def test_a_tag_may_raise_no_alarm() -> None:
    assert loaded(TAG + "alarm_on = none\ntest_on = press").config.tags[0].alarm_on == frozenset()


def test_an_event_is_an_alarm_or_a_test() -> None:
    assert error(TAG + "alarm_on = press long\ntest_on = long hold").endswith(
        "test_on = long hold: expected events that alarm_on has not, got long in both"
    )


def test_what_could_not_be_read_is_never_a_test() -> None:
    """It may be a press that calls for help."""
    assert error(TAG + "test_on = unknown").endswith("expected events that could be read, got unknown")


def test_a_press_may_ask_to_cancel_or_tell_of_duress() -> None:
    """Where alarm_on is not set, those are no alarm either."""
    tag = loaded(TAG + "cancel_on = long\nduress_on = hold triple\ntest_on = double").config.tags[0]
    assert tag.cancel_on == {TagEvent.LONG}
    assert tag.duress_on == {TagEvent.HOLD, TagEvent.TRIPLE}
    assert tag.alarm_on == {
        TagEvent.PRESS, TagEvent.LONG_DOUBLE, TagEvent.LONG_TRIPLE, TagEvent.UNKNOWN
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alarm_on = long\ncancel_on = long", "cancel_on = long: expected events that alarm_on has not"),
        ("test_on = long\ncancel_on = long", "cancel_on = long: expected events that test_on has not"),
        ("cancel_on = long\nduress_on = long", "duress_on = long: expected events that cancel_on has not"),
        ("duress_on = unknown", "duress_on = unknown: expected events that could be read"),
    ],
)
def test_an_event_means_one_thing(text: str, expected: str) -> None:
    assert expected in error(TAG + text)


def test_an_alarm_that_nobody_takes_is_escalated_as_configured() -> None:
    """After 30, 60 and 120 s; an empty list is never."""
    assert loaded("[alarm]").config.alarm.escalate_after_s == (30, 60, 120)
    assert loaded("[alarm]\nescalate_after = 10s 5min").config.alarm.escalate_after_s == (10, 300)
    assert loaded("[alarm]\nescalate_after =").config.alarm.escalate_after_s == ()


@pytest.mark.parametrize(
    "text", ["60s 30s", "30s 30s", "soon", "0s", " ".join(f"{n}s" for n in range(1, 12))]
)
def test_levels_that_do_not_rise_are_an_error(text: str) -> None:
    assert "nothing, or up to 10 durations from 1s to 1h, each longer than the last" in error(
        f"[alarm]\nescalate_after = {text}"
    )
