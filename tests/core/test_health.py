"""How the gateway is: told after a second of outage, at once on recovery, and every interval anyway."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.health import Facts, Health, HostFacts, OutboxFacts, power
from gatewayd.core.journal import MessageId, fields
from gatewayd.core.loss import Loss
from gatewayd.core.model import ClockSource, Component, Draft, Instant, Keep, MessageClass, State

INTERVAL_S = 30.0
FACTS = Facts(host=HostFacts())


def at(mono_s: float) -> Instant:
    return Instant(boot="b", mono_s=mono_s, wall_s=1.8e9 + mono_s, source=ClockSource.NTP, uncertainty_ms=5)


def told(health: Health, mono_s: float) -> tuple[Health, Mapping[str, Any]]:
    after, draft = health.publish(FACTS, at(mono_s))
    return after, draft.body["components"]  # type: ignore[return-value]  # Json is wider


def healthy() -> Health:
    """Everything that is configured works, and ops knows."""
    health = Health.begin(at(0))
    for component in Component:
        health = health.report(component, State.OK, "fine", at(0))
    return health.publish(FACTS, at(0))[0]


def test_at_first_nothing_is_called_well() -> None:
    """A component that never reported is degraded, starting; the first message is due at once."""
    health = Health.begin(at(5))
    assert health.message_due(at(5), INTERVAL_S)
    assert health.overall is State.DEGRADED
    _, components = told(health, 5)
    assert set(components) == set(Component)
    assert components[Component.RADIO] == {"state": "degraded", "detail": "starting", "since": at(5)}


def test_starting_is_no_outage() -> None:
    """A component that comes up long after the start was not out."""
    health = told(Health.begin(at(0)), 0)[0]
    health = health.report(Component.RADIO, State.OK, "hears", at(20))
    _, components = told(health, 20)
    assert "last_outage" not in components[Component.RADIO]


def test_it_is_told_every_interval() -> None:
    """With nothing new, the message is due after the interval and not before."""
    health = healthy()
    assert not health.message_due(at(29.9), INTERVAL_S)
    assert health.due_in_s(at(10), INTERVAL_S) == 20
    assert health.message_due(at(30), INTERVAL_S)


def test_an_outage_is_told_after_a_second() -> None:
    """A change to worse is due once it has lasted a second."""
    health = healthy().report(Component.GPS, State.FAILED, "no /dev/ttyACM0", at(10))
    assert not health.message_due(at(10.9), INTERVAL_S)
    assert health.due_in_s(at(10.25), INTERVAL_S) == pytest.approx(0.75)
    assert health.message_due(at(11), INTERVAL_S)
    health, components = told(health, 11)
    assert components[Component.GPS] == {"state": "failed", "detail": "no /dev/ttyACM0", "since": at(10)}
    assert health.due_in_s(at(11), INTERVAL_S) == INTERVAL_S


def test_a_recovery_is_told_at_once() -> None:
    """A change to better is due immediately, with the outage that ended."""
    health = healthy().report(Component.GPS, State.FAILED, "gone", at(10))
    health, _ = told(health, 11)
    health = health.report(Component.GPS, State.OK, "3d fix", at(15))
    assert health.message_due(at(15), INTERVAL_S)
    _, components = told(health, 15)
    assert components[Component.GPS] == {
        "state": "ok",
        "detail": "3d fix",
        "since": at(15),
        "last_outage": {"state": "failed", "detail": "gone", "began_at": at(10), "lasted_s": 5.0},
    }


def test_a_flicker_is_never_told() -> None:
    """What was worse for less than a second does not appear, nor hastens a message."""
    health = healthy().report(Component.MIC, State.DEGRADED, "overrun", at(10))
    _, components = told(health, 10.5)  # the interval's message falls into the flicker
    assert components[Component.MIC]["state"] == "ok"
    health = health.report(Component.MIC, State.OK, "fine", at(10.7))
    assert not health.message_due(at(10.7), INTERVAL_S)
    _, components = told(health, 30)
    assert components[Component.MIC]["state"] == "ok"
    assert "last_outage" not in components[Component.MIC]


def test_no_time_in_which_a_press_may_have_been_missed_is_too_brief_to_tell() -> None:
    """Each outage of the radio is told once it is over, and once only."""
    health = healthy()
    for began_s in (10.0, 10.5):
        health = health.report(Component.RADIO, State.FAILED, "switched off", at(began_s))
        assert not health.message_due(at(began_s + 0.25), INTERVAL_S)
        health = health.report(Component.RADIO, State.OK, "hears", at(began_s + 0.25))
        assert health.message_due(at(began_s + 0.25), INTERVAL_S)
        health, components = told(health, began_s + 0.25)
        outage = {"state": "failed", "detail": "switched off", "began_at": at(began_s), "lasted_s": 0.25}
        assert components[Component.RADIO]["last_outage"] == outage
        assert health.due_in_s(at(began_s + 0.25), INTERVAL_S) == INTERVAL_S
    health = health.report(Component.RADIO, State.DEGRADED, "one adapter of two", at(11.0))
    health = health.report(Component.RADIO, State.OK, "hears", at(11.25))
    assert not health.message_due(at(11.25), INTERVAL_S)  # it went on hearing


def test_what_is_found_out_late_is_told_from_when_it_began() -> None:
    """A radio that does not answer was no better while it was waited for; it is told at once."""
    health = healthy().report(Component.RADIO, State.OK, "hears well", at(5))
    health = health.report(Component.RADIO, State.FAILED, "no answer within 4 s", at(14), 10.0)
    assert health.message_due(at(14), INTERVAL_S)
    health, components = told(health, 14)
    assert components[Component.RADIO]["since"] == at(10)
    health, components = told(health.report(Component.RADIO, State.OK, "hears", at(20)), 20)
    assert components[Component.RADIO]["last_outage"]["began_at"] == at(10)
    assert components[Component.RADIO]["last_outage"]["lasted_s"] == 10.0
    health = health.report(Component.RADIO, State.FAILED, "no answer within 4 s", at(22), 1.0)
    _, components = told(health, 22)
    assert components[Component.RADIO]["since"] == at(20)  # it heard then


def test_an_interval_message_inside_an_outages_first_second_does_not_use_it_up() -> None:
    """An outage that was young at the interval's message is still told when it is a second old."""
    health = healthy().report(Component.MIC, State.FAILED, "unplugged", at(29.5))
    health, _ = told(health, 30)
    assert health.due_in_s(at(30), INTERVAL_S) == pytest.approx(0.5)
    _, components = told(health, 30.5)
    assert components[Component.MIC]["state"] == "failed"


def test_an_outage_that_ended_before_anyone_asked_is_told() -> None:
    """A second of outage is reported even when the loop was too busy to report it meanwhile."""
    health = healthy().report(Component.UPLINK, State.FAILED, "no route", at(10))
    health = health.report(Component.UPLINK, State.OK, "online", at(11.25))
    assert health.message_due(at(11.25), INTERVAL_S)
    health, components = told(health, 11.25)
    assert components[Component.UPLINK]["last_outage"]["lasted_s"] == 1.25
    assert not health.message_due(at(12), INTERVAL_S)


def test_an_outage_that_changes_its_kind_counts_from_its_beginning() -> None:
    """Flapping between failed and degraded does not hide an outage."""
    health = healthy()
    for step in range(4):
        state = State.FAILED if step % 2 else State.DEGRADED
        health = health.report(Component.RADIO, state, "flapping", at(10 + step * 0.3))
    assert health.message_due(at(11), INTERVAL_S)


def test_since_moves_only_with_the_state() -> None:
    """A new detail keeps the time since which the state holds."""
    health = healthy().report(Component.GPS, State.DEGRADED, "no fix", at(10))
    health = health.report(Component.GPS, State.DEGRADED, "no fix, 3 satellites", at(12))
    assert health.conditions[Component.GPS].since == at(10)


def test_a_new_detail_is_told_within_five_seconds() -> None:
    """A new detail is told soon, but not more often than every four seconds."""
    health = healthy().report(Component.POWER, State.DEGRADED, "undervoltage", at(10))
    health, _ = told(health, 11)
    health = health.report(Component.POWER, State.DEGRADED, "external power lost", at(11.5))
    assert health.due_in_s(at(11.5), INTERVAL_S) == pytest.approx(3.5)


def test_the_same_report_changes_nothing() -> None:
    """Reporting what is known already returns the same health."""
    health = healthy()
    assert health.report(Component.GPS, State.OK, "fine", at(3)) is health


@pytest.mark.parametrize(
    ("component", "state", "overall"),
    [
        (Component.RADIO, State.FAILED, State.FAILED),
        (Component.UPLINK, State.FAILED, State.FAILED),
        (Component.MIC, State.FAILED, State.DEGRADED),
        (Component.RADIO, State.DEGRADED, State.DEGRADED),
        (Component.GPS, State.OFF, State.OK),
    ],
)
def test_overall_is_failed_only_when_presses_do_not_reach_ops(
    component: Component, state: State, overall: State
) -> None:
    """Radio and uplink are the path of a press; anything else degrades."""
    health = healthy().report(component, state, "x", at(1))
    assert health.overall is overall
    assert health.publish(FACTS, at(5))[1].body["overall"] is overall


def test_a_loop_without_progress_within_its_bound_is_named() -> None:
    """Until it goes on, or need not run any more; the watchdog goes hungry while there is one."""
    health = healthy().must_run("radio", 15, at(0)).must_run("uplink", 5, at(0))
    health = health.alive("uplink", at(10)).alive("radio", at(10))
    assert health.stalled(at(15)) == ()
    assert health.stalled(at(15.1)) == ("uplink",)
    assert health.alive("uplink", at(16)).stalled(at(16)) == ()
    assert health.need_not_run("uplink").stalled(at(16)) == ()


def test_a_loop_that_was_never_named_is_a_mistake() -> None:
    """Progress of an unknown loop is an error of the wiring, not ignored."""
    with pytest.raises(KeyError):
        healthy().alive("rdaio", at(0))


def test_the_message_is_the_contracts() -> None:
    """The draft is retained, the newest replaces, is never stored; its body has the contract's fields."""
    health = healthy()
    lost = {MessageClass.AUDIO: Loss(count=7, first=at(1), last=at(2))}
    facts = Facts(
        host=HostFacts(
            undervoltage=False,
            temperature_c=51.2,
            uptime_s=321.0,
            written_bytes=4096,
            versions={"gatewayd": "0.1.0"},
        ),
        outbox=OutboxFacts(depth=2, size_bytes=900, oldest_s=1.5, lost=lost),
        external_power=True,
        puback_ms=3.14159,
        sent_today_bytes=12345,
        counters={"advertisements_refused": 3},
    )
    _, draft = health.publish(facts, at(5))
    assert isinstance(draft, Draft)
    assert (draft.topic, draft.message_class, draft.keep) == ("health", MessageClass.STATE, Keep.NEVER)
    assert draft.retain
    assert draft.replaces
    body = dict(draft.body)
    body.pop("components")
    assert body == {
        "overall": "ok",
        "outbox": {
            "depth": 2,
            "bytes": 900,
            "oldest_s": 1.5,
            "evicted": {"audio": 7},
            "lost": {"audio": {"count": 7, "from_at": at(1), "to_at": at(2)}},
        },
        "puback_ms": 3.1,
        "sent_today_bytes": 12345,
        "written_bytes": 4096,
        "supply": {"undervoltage": False, "external": True},
        "temperature_c": 51.2,
        "uptime_s": 321.0,
        "versions": {"gatewayd": "0.1.0"},
        "counters": {"advertisements_refused": 3},
        "configuration": {"state": "ok"},
    }


def test_what_is_not_known_is_absent() -> None:
    """A machine that tells nothing leaves only the states."""
    _, draft = healthy().publish(FACTS, at(5))
    assert set(draft.body) == {"overall", "components", "configuration"}


@pytest.mark.parametrize(("radio", "overall"), [(State.OK, State.DEGRADED), (State.FAILED, State.FAILED)])
def test_a_refused_configuration_degrades_and_is_told(radio: State, overall: State) -> None:
    """The gateway runs on the last good one; ops sees what is wrong with the new one, at most 20 lines."""
    facts = replace(FACTS, refused=tuple(map(str, range(50))), warnings=("no key for tag-1",))
    _, draft = healthy().report(Component.RADIO, radio, "x", at(1)).publish(facts, at(5))
    assert draft.body["overall"] is overall
    assert draft.body["configuration"] == {
        "state": "refused",
        "errors": [str(number) for number in range(20)],
        "warnings": ["no key for tag-1"],
    }


def test_the_status_line_says_what_a_person_wants_to_know() -> None:
    """Open alarms first, then whether tags are heard, whether ops is reached, what waits, what is wrong."""
    health = healthy()
    assert (
        health.status_line(hearing=3, online=True, waiting=0, alarms=0) == "hearing 3 tags, online, 0 waiting"
    )
    health = health.report(Component.MIC, State.FAILED, "no such device", at(1))
    assert health.status_line(hearing=1, online=False, waiting=9, alarms=1) == (
        "1 open alarm, hearing 1 tag, offline, 9 waiting, mic failed: no such device"
    )
    health = health.report(Component.RADIO, State.OFF, "not configured", at(1))
    assert "hearing" not in health.status_line(hearing=0, online=True, waiting=0, alarms=2)


@pytest.mark.parametrize(
    ("external", "undervoltage", "expected"),
    [
        (None, None, (State.OFF, "not sensed")),
        (None, False, (State.OK, "no undervoltage")),
        (True, None, (State.OK, "external power")),
        (True, True, (State.DEGRADED, "undervoltage: the supply or its cable is too weak")),
        (False, True, (State.DEGRADED, "external power lost, on battery")),
    ],
)
def test_power_combines_the_pin_and_the_pi(
    external: bool | None, undervoltage: bool | None, expected: tuple[State, str]
) -> None:
    """Lost external power says more than undervoltage; nothing sensed is off."""
    assert power(external, undervoltage) == expected


steps = st.lists(st.tuples(st.sampled_from(list(State)), st.floats(0.01, 3.0)), min_size=1, max_size=40)


@given(steps)
def test_whoever_asks_when_due_hears_every_outage_and_no_flicker(path: list[tuple[State, float]]) -> None:
    """Publishing exactly when due tells each outage of a second or more, and none that was shorter."""
    health, now_s = healthy(), 0.0
    bad_s: float | None = None
    longest_s, heard = 0.0, False
    for state, pause_s in path:
        health = health.report(Component.GPS, state, state, at(now_s))
        if state in (State.OK, State.OFF):
            bad_s = None
        elif bad_s is None:
            bad_s = now_s
        end_s = now_s + pause_s
        while (wait_s := health.due_in_s(at(now_s), INTERVAL_S)) <= end_s - now_s:
            now_s += wait_s + 1e-9  # a sum of floats may fall short of the second by its last bit
            health, components = told(health, now_s)
            heard |= components[Component.GPS]["state"] in ("degraded", "failed")
        now_s = max(now_s, end_s)
        if bad_s is not None:
            longest_s = max(longest_s, now_s - bad_s)
    if longest_s > 1.001:
        assert heard
    if longest_s < 0.999:
        assert not heard


def test_each_message_id_is_a_journal_id_of_its_own() -> None:
    """MESSAGE_IDs are 128 bits in hexadecimal, each once (systemd.journal-fields(7))."""
    values = [message_id.value for message_id in MessageId]
    assert len(set(values)) == len(values)
    assert all(len(value) == 32 and int(value, 16) for value in values)


def test_journal_fields_name_the_alarm_and_the_tag_where_known() -> None:
    """A field that is not known is absent."""
    assert fields(MessageId.STARTED) == {"MESSAGE_ID": MessageId.STARTED.value}
    assert fields(MessageId.ALARM_RAISED, alarm="a1", tag="nurse-1") == {
        "MESSAGE_ID": MessageId.ALARM_RAISED.value,
        "ALARM_ID": "a1",
        "TAG": "nurse-1",
    }
