"""Brokers of all kinds: what they lay down, refuse, forget and never do, and links that are slow or dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import End, Published, Scripted
from sending import Daemon, Heard, Maker, begin, bodies, ops, running, settings, text, until

from gatewayd.core import command
from gatewayd.core.model import Keep, MessageClass, State
from gatewayd.core.payload import Rendered
from gatewayd.edge.mqtt import RefusedError
from gatewayd.sim.broker import Broker
from gatewayd.sim.proxy import Mode, Proxy

AUDIO_LIVE, POSITION, STATE = MessageClass.AUDIO_LIVE, MessageClass.POSITION, MessageClass.STATE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.kill()


def health(daemon: Daemon) -> tuple[State, str]:
    """What it says of itself."""
    return daemon.reports.said[-1] if daemon.reports.said else (State.OFF, "")


# --- what a broker lays down --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 20])
async def test_no_more_is_in_flight_than_the_broker_takes(path: Path, most: int) -> None:
    """Its Receive Maximum binds everything, the birth and alarms too."""
    terms = {"ReceiveMaximum": most}
    async with Scripted(terms=terms, puback_s=0.01) as odd, running(path, settings(odd.port)) as daemon:
        alarms = [daemon.send(body={"n": n}) for n in range(15)]
        for n in range(15):
            daemon.send(POSITION, "position", keep=Keep.WHEN_WAITING, body={"n": n})
        await until(lambda: daemon.confirmed(*alarms) and len(odd.published) >= 31)
        assert odd.most_in_flight <= most
        assert odd.connections == 1


async def test_what_a_broker_calls_too_large_is_kept_and_said_and_the_rest_goes(path: Path) -> None:
    """The packet is not sent, for that would end the session; everything else is."""
    async with (
        Scripted(terms={"MaximumPacketSize": 1_500}) as odd,
        running(path, settings(odd.port)) as daemon,
    ):
        await until(lambda: daemon.uplink.connected)
        daemon.send(AUDIO_LIVE, "alarm/a/audio/0", sound=b"OggS" * 400)
        small = daemon.send(AUDIO_LIVE, "alarm/a/audio/1", sound=b"OggS" * 100)
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm) and f"gatewayd/gw1/{small.topic}" in odd.topics())
        assert max(each.size for each in odd.published) <= 1_500
        assert odd.connections == 1
        assert daemon.uplink.counters["refused_0x95"] >= 1
        assert health(daemon)[0] is State.DEGRADED
        assert "Packet too large" in health(daemon)[1]


@pytest.mark.parametrize(
    ("rendered", "correlation"),
    [
        (text(b""), None),
        (text(b"x" * 130), b"\0\1"),
        (Rendered(payload=b"s" * 20_000, content_type="audio/ogg", expires_s=7), None),
        (Rendered(payload=b"x" * 100, content_type=None, user_properties=(("at", "né"),) * 9), b""),
    ],
)
async def test_a_packet_is_as_long_as_we_think(rendered: Rendered, correlation: bytes | None) -> None:
    """To the byte: a broker's limit is exact, and what stands before an alarm is counted in bytes."""
    async with Scripted() as odd:
        session = await begin(odd.port, Heard())
        _, size = session.publish("t/é", rendered, retain=False, correlation=correlation)
        await until(lambda: odd.published)
        assert odd.published[0].size == size
        session.close()
    async with Scripted(terms={"MaximumPacketSize": size}) as odd:
        session = await begin(odd.port, Heard())
        session.publish("t/é", rendered, retain=False, correlation=correlation)
        more = replace(rendered, payload=rendered.payload + b"x")
        with pytest.raises(RefusedError, match=f"expected at most {size} bytes"):
            session.publish("t/é", more, retain=False, correlation=correlation)
        session.close()


async def test_a_broker_without_acknowledgements_is_none(broker: Broker, path: Path) -> None:
    """With QoS 0 alone nobody would know whether an alarm arrived: it is said, and the next one dialled."""
    async with (
        Scripted(terms={"MaximumQoS": 0}) as odd,
        running(path, settings(odd.port, broker.port)) as daemon,
    ):
        await until(lambda: daemon.reports.state is State.OK)
        assert "acknowledges nothing" in daemon.reports.said[0][1]
        assert odd.published == []


async def test_a_broker_that_retains_nothing_still_gets_alarms(tmp_path: Path, path: Path) -> None:
    """It refuses a session with a retained will; then the will is not, and what is lost by that is said."""
    broker = Broker(tmp_path / "broker", settings=("retain_available false",))
    broker.start()
    try:
        async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
            alarm = daemon.send(topic="alarm/a/state", retain=True)
            await until(lambda: daemon.confirmed(alarm))
            await until(lambda: bodies(heard, "alarm/a/state") and bodies(heard, "status"))
            await until(lambda: "it retains nothing" in health(daemon)[1])
            assert health(daemon)[0] is State.DEGRADED
    finally:
        broker.kill()


async def test_a_broker_without_wildcards_is_asked_for_each_command(path: Path) -> None:
    """A subscription with a wildcard would end the session."""
    async with (
        Scripted(terms={"WildcardSubscriptionAvailable": 0}) as odd,
        running(path, settings(odd.port)) as daemon,
    ):
        await until(lambda: odd.subscribed)
        assert not [topic for topic in odd.subscribed if set(topic) & set("+#")]
        assert {f"gatewayd/gw1/cmd/{name}" for name in command.NAMES} <= set(odd.subscribed)
        await until(lambda: daemon.reports.state is State.OK)


async def test_a_broker_that_keeps_no_session_is_said_to(path: Path) -> None:
    """Commands given while the link was down are lost; that it forgets us says nothing of its memory."""
    terms = {"SessionExpiryInterval": 0}
    async with Scripted(terms=terms) as odd, running(path, settings(odd.port)) as daemon:
        told: list[bool] = []
        daemon.on_forgotten = lambda: told.append(True)
        await until(lambda: "it keeps no session" in health(daemon)[1])
        first = len(told)
        odd.cut()
        await until(lambda: odd.connects == 2)
        await until(lambda: daemon.uplink.connected)
        assert len(told) == first


@pytest.mark.parametrize(("ours_s", "theirs_s"), [(60, 1), (1, 600)])
async def test_the_shorter_keep_alive_holds(ours_s: int, theirs_s: int) -> None:
    """The broker's, or it would end the session; ours, or a dead link would be found out late."""
    async with Scripted(terms={"ServerKeepAlive": theirs_s}) as odd:
        session = await begin(odd.port, Heard(), keep_alive_s=ours_s)
        await until(lambda: odd.pings, 5)
        session.close()


async def test_a_refused_subscription_is_said(path: Path) -> None:
    """Nobody could give a command, and the gateway would seem well."""
    async with Scripted(suback=0x87) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: "refuses the subscription" in health(daemon)[1])
        assert health(daemon)[0] is State.DEGRADED
        assert "Not authorized (0x87)" in health(daemon)[1]


# --- what a broker refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [0x80, 0x87, 0x91, 0x97, 0x99])
async def test_a_refused_alarm_is_tried_again_and_told(path: Path, reason: int) -> None:
    """Whatever the reason: 2 s later once more, on the same session, the next ones not held up."""
    seen: list[str] = []

    def once(each: Published) -> int:
        seen.append(each.topic)
        return reason if each.topic.endswith("no/event") and seen.count(each.topic) == 1 else 0

    async with Scripted(answer=once) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        refused, passed = daemon.send(topic="alarm/no/event"), daemon.send(topic="alarm/ok/event")
        await until(lambda: daemon.confirmed(passed))
        assert not daemon.confirmed(refused)
        assert health(daemon)[0] is State.DEGRADED
        assert f"0x{reason:02x}" in health(daemon)[1]
        await until(lambda: daemon.confirmed(refused))
        assert daemon.uplink.counters == {f"refused_0x{reason:02x}": 1}
        assert odd.connections == 1


@pytest.mark.parametrize("reason", [0x84, 0x86, 0x88, 0x89, 0x8A, 0x97, 0x9B, 0x9C, 0x9D, 0x9F])
async def test_a_refused_session_is_said_and_the_next_broker_dialled(
    broker: Broker, path: Path, reason: int
) -> None:
    """Busy, banned, over its quota or moved: the reason is told, the alarm goes elsewhere at once."""
    async with (
        Scripted(connack=lambda _: reason) as odd,
        running(path, settings(odd.port, broker.port)) as daemon,
    ):
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm), 3)
        assert "refused: " in daemon.reports.said[0][1]
        assert odd.connections == 1


async def test_a_message_that_ends_sessions_holds_up_nobody(path: Path) -> None:
    """A broker that does not say what it takes, and ends the session over it: the rest goes with the next."""
    poison = "gatewayd/gw1/alarm/poison/event"

    def answer(each: Published) -> int | End:
        return End(0x95) if each.topic == poison else 0

    async with Scripted(answer=answer) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        daemon.send(topic="alarm/poison/event")
        await until(lambda: not daemon.uplink.connected)
        others = [daemon.send(topic=f"alarm/{n}/event") for n in range(20)]
        await until(lambda: daemon.confirmed(*others), 15)
        assert odd.topics().count(poison) <= odd.connections
        assert odd.connections <= 3
        assert daemon.uplink.counters["refused_0x95"] >= 1


async def test_a_broker_that_sends_us_elsewhere_is_dialled_last(broker: Broker, path: Path) -> None:
    """`Use another server`, in the middle of a session."""

    def answer(each: Published) -> int | End:
        return End(0x9C) if each.topic.endswith("event") else 0

    async with (
        Scripted(answer=answer) as odd,
        running(path, settings(odd.port, broker.port)) as daemon,
    ):
        await until(lambda: daemon.uplink.connected)
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm), 6)
        assert odd.connections == 1
        assert any("Use another server" in detail for _, detail in daemon.reports.said)


async def test_two_gateways_with_one_id_do_not_fight_and_both_alarms_arrive(
    broker: Broker, tmp_path: Path
) -> None:
    """They take turns with 10 s and more between, an alarm at once; both say in plain words what is wrong."""
    async with (
        Proxy(broker.port) as proxy,
        ops(broker.port) as heard,
        running(tmp_path / "one" / "outbox.db", settings(proxy.port)) as one,
        running(tmp_path / "two" / "outbox.db", settings(proxy.port), make=Maker(run="2")) as two,
    ):
        await until(lambda: {one.uplink.connected, two.uplink.connected} == {True, False})
        await asyncio.sleep(7.0)
        assert proxy.accepted <= 4  # each takes it once more, and knows then
        alarms = one.send(topic="alarm/1/event"), two.send(topic="alarm/2/event")
        await until(lambda: one.confirmed(alarms[0]) and two.confirmed(alarms[1]))
        await until(lambda: bodies(heard, "alarm/1/event") and bodies(heard, "alarm/2/event"))
        said = " ".join(detail for daemon in (one, two) for _, detail in daemon.reports.said)
        assert "another gateway goes by our id gw1: is [gateway] id given twice?" in said
        connected = one if one.uplink.connected else two
        await until(lambda: connected.reports.state is State.DEGRADED, 3)


# --- what a broker never does -------------------------------------------------------------------------------


async def test_an_alarm_leaves_a_broker_that_acknowledges_nothing(broker: Broker, path: Path) -> None:
    """TCP, CONNACK and PINGRESP are well, PUBACKs never come: within 5 s another broker has the alarm."""
    async with (
        Scripted(answer=lambda _: None) as odd,
        running(path, settings(odd.port, broker.port)) as daemon,
    ):
        await until(lambda: daemon.uplink.connected)
        began_s = asyncio.get_running_loop().time()
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm))
        assert asyncio.get_running_loop().time() - began_s < 5.0
        await until(lambda: health(daemon) == (State.OK, f"connected to 127.0.0.1:{broker.port}"))
        assert odd.connects == 1


async def test_a_broker_that_acknowledges_nothing_is_not_called_well(path: Path) -> None:
    """Connected, and no more is claimed; where there is no other it is not dialled in a storm."""
    async with Scripted(answer=lambda _: None) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: "acknowledged nothing" in health(daemon)[1])
        daemon.send()
        await until(lambda: "suspect" in health(daemon)[1])
        assert State.OK not in {state for state, _ in daemon.reports.said}
        await asyncio.sleep(6.0)
        assert odd.connections <= 2


async def test_a_slow_broker_is_not_called_ill_while_it_may_still_answer(path: Path) -> None:
    """The first thing said of a session is that it is well, though the first PUBACK takes a second."""
    async with Scripted(puback_s=1.2) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: daemon.reports.said)
        assert health(daemon) == (State.OK, f"connected to 127.0.0.1:{odd.port}")


async def test_sound_does_not_wait_for_ever_for_a_broker_that_acknowledges_nothing(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an alarm it takes longer, and another broker is dialled all the same."""
    monkeypatch.setattr("gatewayd.core.link.STALLED_S", 0.5)
    async with (
        Scripted(answer=lambda _: None) as odd,
        running(path, settings(odd.port, broker.port)) as daemon,
        ops(broker.port) as heard,
    ):
        daemon.send(AUDIO_LIVE, "alarm/a/audio/0", sound=b"OggS")
        await until(lambda: heard.payloads("gatewayd/gw1/alarm/a/audio/0"))
        assert odd.connections == 1


# --- links that are slow, and links that are dead -----------------------------------------------------------


async def test_a_slow_link_is_not_given_up_for_a_dial_that_fails(path: Path) -> None:
    """The second dial is refused: the PUBACK still comes on the first session."""
    async with Scripted(puback_s=3.5) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        odd.server.close()  # nobody listens any more; what is connected stays
        alarm = daemon.send()
        await until(lambda: "suspect" in health(daemon)[1])
        await until(lambda: daemon.confirmed(alarm))
        assert odd.connections == 1
        assert odd.topics().count("gatewayd/gw1/alarm/a/event") == 1
        assert State.FAILED not in {state for state, _ in daemon.reports.said}


async def test_a_slow_link_is_left_in_peace_once_the_alarm_has_arrived(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the second dial was under way: there is no CONNECT, which would end the session."""
    async with Scripted(puback_s=3.0) as odd, running(path, settings(odd.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        connect = daemon.uplink._wire.connect

        async def late(*arguments: object) -> object:
            await asyncio.sleep(1.5)
            return await connect(*arguments)  # type: ignore[arg-type]  # as they are

        monkeypatch.setattr(daemon.uplink._wire, "connect", late)
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm))
        await until(lambda: odd.connections == 2)
        await asyncio.sleep(0.5)
        assert odd.connects == 1
        assert daemon.uplink.connected


@pytest.mark.parametrize("young", [True, False])
async def test_a_link_that_dies_at_the_press_has_its_successor_within_five_seconds(
    broker: Broker, path: Path, young: bool
) -> None:
    """A new path to the same broker, however young the session was; the alarm has its one id."""
    async with (
        ops(broker.port) as heard,
        Proxy(broker.port) as proxy,
        running(path, settings(proxy.port, keep_alive_s=60)) as daemon,
    ):
        await until(lambda: daemon.reports.state is State.OK)
        if not young:
            daemon.uplink._link.began_s -= 60  # type: ignore[union-attr]
        proxy.strand()
        began_s = asyncio.get_running_loop().time()
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm))
        assert asyncio.get_running_loop().time() - began_s < 5.0
        await until(lambda: bodies(heard, "alarm/a/event"))
        assert {event["id"] for event in bodies(heard, "alarm/a/event")} == {alarm.id}
        assert State.FAILED not in {state for state, _ in daemon.reports.said}


async def test_a_second_broker_has_the_alarm_when_the_first_link_dies(broker: Broker, path: Path) -> None:
    """The first swallows everything, new connections too."""
    async with Proxy(broker.port) as proxy, running(path, settings(proxy.port, broker.port)) as daemon:
        await until(lambda: daemon.reports.state is State.OK)
        proxy.mode = Mode.BLACK_HOLE
        began_s = asyncio.get_running_loop().time()
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm))
        assert asyncio.get_running_loop().time() - began_s < 5.0
        assert health(daemon)[1].startswith(f"connected to 127.0.0.1:{broker.port}")


@pytest.mark.timeout(120)
async def test_an_alarm_is_heard_of_on_a_link_that_has_become_slow(tmp_path: Path, path: Path) -> None:
    """10 Mbit/s and full of sound, then 64 kbit/s: what is under way is not waited for to its end."""
    broker = Broker(tmp_path / "broker", settings=("max_inflight_messages 1000",))
    broker.start()
    async with Proxy(broker.port, rate=1_250_000.0) as proxy, running(path, settings(proxy.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        for n in range(3_000):
            daemon.send(AUDIO_LIVE, f"alarm/a/audio/{n}", sound=b"x" * 1_500)
        await until(lambda: daemon.uplink.sent_today_bytes > 1_500_000, 30)
        proxy.rate = 8_000.0
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm), 30)
        assert proxy.accepted == 2
    broker.kill()


async def test_an_alarm_is_soon_there_where_a_round_trip_takes_600_ms(broker: Broker, path: Path) -> None:
    """64 kbit/s by satellite, sound running: no second dial, and the alarm needs little more than the way."""
    async with Proxy(broker.port, rate=8_000.0) as proxy, running(path, settings(proxy.port)) as daemon:
        proxy.delay_s = 0.3
        await until(lambda: daemon.uplink.connected)
        for n in range(40):
            daemon.send(AUDIO_LIVE, f"alarm/a/audio/{n}", sound=b"x" * 1_500)
        await asyncio.sleep(2.0)
        began_s = asyncio.get_running_loop().time()
        alarm = daemon.send()
        await until(lambda: daemon.confirmed(alarm), 10)
        assert asyncio.get_running_loop().time() - began_s < 4.0
        assert proxy.accepted == 1


# --- what a broker forgets ----------------------------------------------------------------------------------


@asynccontextmanager
async def told(path: Path, broker: Broker) -> AsyncIterator[Daemon]:
    """A daemon whose open alarm and health the broker has; `on_forgotten` tells the alarm's state again."""
    async with running(path, settings(broker.port)) as daemon:

        def tell() -> None:
            daemon.send(STATE, "alarm/a/state", retain=True, replaces=True)

        daemon.on_forgotten = tell
        daemon.send(STATE, "health", keep=Keep.NEVER, retain=True, replaces=True, body={"n": 1})
        await until(lambda: daemon.reports.state is State.OK)
        yield daemon


async def test_a_broker_that_lost_its_memory_is_told_again(broker: Broker, path: Path) -> None:
    """Status, health and open alarms are there for whoever joins then."""
    async with told(path, broker) as daemon:
        broker.kill()
        await until(lambda: not daemon.uplink.connected)
        broker.start()
        await until(lambda: daemon.uplink.connected)
        async with ops(broker.port) as heard:
            await until(lambda: bodies(heard, "status") and bodies(heard, "health"))
            await until(lambda: bodies(heard, "alarm/a/state"))


async def test_a_broker_that_remembers_is_not_told_all_again_at_once(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that flaps has no room for it; once it is steady it is told, for nobody knows what was kept."""
    monkeypatch.setattr("gatewayd.uplink.uplink.RETELL_S", 4.0)
    async with (
        ops(broker.port) as heard,
        Proxy(broker.port) as proxy,
        running(path, settings(proxy.port)) as daemon,
    ):
        daemon.send(STATE, "health", keep=Keep.NEVER, retain=True, replaces=True)
        await until(lambda: bodies(heard, "health"))
        proxy.cut()
        await until(lambda: not daemon.uplink.connected)
        await until(lambda: daemon.uplink.connected)
        await until(lambda: len(bodies(heard, "status")) == 2)
        assert len(bodies(heard, "health")) == 1
        await until(lambda: len(bodies(heard, "health")) == 2)
