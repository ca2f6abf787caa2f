"""Store and send, whole: a real outbox, a real mosquitto, and everything that can happen between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sending import BASE, Heard, Wall, begin, bodies, now, ops, running, settings, text, until

from gatewayd.core import command, payload
from gatewayd.core.alarm import HopKind
from gatewayd.core.drain import Backlog
from gatewayd.core.model import ClockSource, Keep, MessageClass, State
from gatewayd.edge.outbox import Batch, Outbox
from gatewayd.sim.broker import Broker, free_port, make_certificates
from gatewayd.sim.proxy import Mode, Proxy

ALARM, AUDIO = MessageClass.ALARM, MessageClass.AUDIO


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", settings=("max_queued_messages 0",))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


async def rows(outbox: Outbox) -> Mapping[MessageClass, int]:
    """How many rows of each class lie on disk."""
    while (stored := await outbox.stored()) is None:  # noqa: ASYNC110 - it is counted soon after the start
        await asyncio.sleep(0.005)
    return stored.rows


async def empty(outbox: Outbox) -> None:
    """Wait until nothing is left on disk; generous, since the machine may be busy or emulated."""
    async with asyncio.timeout(50):
        while await rows(outbox) != {}:  # noqa: ASYNC110 - it is asked of the disk
            await asyncio.sleep(0.02)


async def test_what_is_sent_is_stored_published_and_deleted(broker: Broker, path: Path) -> None:
    """Each step is told; the row goes with its PUBACK."""
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        message = daemon.send(body={"alarm": "a", "type": "raised"})
        await until(lambda: {(message.id, kind) for kind in HopKind} == set(daemon.hops), 5)
        await until(lambda: bodies(heard, "alarm/a/event"))
        (event,) = bodies(heard, "alarm/a/event")
        assert event["type"] == "raised"
        assert event["gateway"] == "gw1"
        await empty(daemon.outbox)
        assert daemon.uplink.puback_s is not None
        assert daemon.uplink.sent_today_bytes > 300
        facts = await daemon.uplink.facts()
        assert facts is not None
        assert facts.depth == 0


async def test_every_alarm_message_of_a_batch_is_told(broker: Broker, path: Path) -> None:
    """Events and states alike, each with every step; other classes are not."""
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        messages = [daemon.make(topic=f"alarm/{n}/event") for n in range(3)]
        daemon.uplink.send(Batch(messages=(*messages, daemon.make(MessageClass.POSITION, "position"))))
        await until(lambda: len(daemon.hops) == 3 * len(HopKind))
        assert set(daemon.hops) == {(each.id, kind) for each in messages for kind in HopKind}


async def test_birth_will_and_stop_tell_how_the_gateway_is(broker: Broker, path: Path) -> None:
    """Birth and will have one session number; a clean stop says so and the will stays away."""
    async with ops(broker.port) as heard:
        async with running(path, settings(broker.port)):
            await until(lambda: bodies(heard, "status"))
        await until(lambda: len(bodies(heard, "status")) == 2)
        birth, stop = bodies(heard, "status")
        assert (birth["state"], birth["version"]) == ("online", "0.1.0")
        assert birth["since"]
        assert (stop["state"], stop["reason"], stop["session"]) == ("offline", "stopped", birth["session"])


async def test_a_dead_gateway_is_announced_by_its_will(broker: Broker, path: Path) -> None:
    """Three seconds after the link broke, with the session's number and no `at`."""
    async with (
        ops(broker.port) as heard,
        Proxy(broker.port) as proxy,
        running(path, settings(proxy.port)) as daemon,
    ):
        await until(lambda: bodies(heard, "status"))
        proxy.mode = Mode.REFUSE
        proxy.cut()
        await until(lambda: len(bodies(heard, "status")) == 2)
        birth, will = bodies(heard, "status")
        assert will["state"] == "offline"
        assert will["session"] == birth["session"]
        assert "at" not in will
        assert "reason" not in will
        assert daemon.reports.state is State.FAILED


async def test_the_birth_is_repeated_when_our_own_will_is_seen(broker: Broker, path: Path) -> None:
    """A will that came late must not stand; a goodbye is our own, of a session before this one."""
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.adopted)
        other = await begin(broker.port, Heard(), client_id="late")
        other.publish(f"{BASE}/status", text(b'{"state": "offline", "session": 1}'), retain=True)
        await until(lambda: len(bodies(heard, "status")) == 3)
        assert [status["state"] for status in bodies(heard, "status")] == ["online", "offline", "online"]
        goodbye = b'{"state": "offline", "session": 1, "reason": "stopped"}'
        other.publish(f"{BASE}/status", text(goodbye), retain=True)
        await until(lambda: len(bodies(heard, "status")) == 4)
        await asyncio.sleep(0.2)
        assert bodies(heard, "status")[-1]["state"] == "offline"
        other.close()


async def test_commands_come_in_with_what_an_answer_needs(broker: Broker, path: Path) -> None:
    """Name, payload, correlation data; and a reply goes to the topic that was asked for."""
    async with ops(broker.port, "ops/answers") as heard, running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.adopted)
        desk = await begin(broker.port, Heard(), client_id="desk")
        desk.publish(f"{BASE}/cmd/alarm/accept", text(b"{}"), retain=False, correlation=b"77")
        await until(lambda: daemon.commands)
        assert daemon.commands == [command.Incoming(name="alarm/accept", payload=b"{}", correlation=b"77")]
        reply = replace(daemon.make(topic="reply"), response_topic="ops/answers", correlation=b"77")
        daemon.uplink.send(Batch(messages=(reply,)))
        await until(lambda: heard.incoming)
        assert (heard.incoming[0].topic, heard.incoming[0].correlation) == ("ops/answers", b"77")
        desk.close()


async def test_a_reply_to_no_topic_goes_where_replies_go(broker: Broker, path: Path) -> None:
    """A response topic with a wildcard cannot be published to; the reply is not lost."""
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        reply = replace(daemon.make(MessageClass.STATE, "reply"), response_topic="ops/#")
        daemon.uplink.send(Batch(messages=(reply,)))
        await until(lambda: bodies(heard, "reply"))
        await empty(daemon.outbox)


async def test_a_command_sent_in_a_gap_arrives(broker: Broker, path: Path) -> None:
    """The session outlives the link for an hour."""
    async with Proxy(broker.port) as proxy, running(path, settings(proxy.port)) as daemon:
        await until(lambda: daemon.adopted)
        proxy.mode = Mode.REFUSE
        proxy.cut()
        await until(lambda: not daemon.uplink.connected)
        desk_heard = Heard()
        desk = await begin(broker.port, desk_heard, client_id="desk")
        desk.publish(f"{BASE}/cmd/locate", text(b"{}"), retain=False)
        await until(lambda: desk_heard.pubacks)
        desk.close()
        proxy.mode = Mode.OPEN
        await until(lambda: daemon.commands)
        assert daemon.commands[0].name == "locate"


async def test_open_alarms_the_broker_knows_are_adopted(broker: Broker, path: Path) -> None:
    """Retained alarm states are handed in before adoption is declared, as they are; later ones are not."""
    desk_heard = Heard()
    desk = await begin(broker.port, desk_heard, client_id="desk")
    desk.publish(f"{BASE}/alarm/x1/state", text(b'{"alarm": "x1", "handling": "raised"}'), retain=True)
    desk.publish(f"{BASE}/alarm/x2/state", text(b"not json"), retain=True)
    await until(lambda: len(desk_heard.pubacks) == 2)
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.adopted)
        assert daemon.states == {"x1": b'{"alarm": "x1", "handling": "raised"}', "x2": b"not json"}
        desk.publish(f"{BASE}/alarm/x3/state", text(b'{"alarm": "x3"}'), retain=True)
        await until(lambda: len(desk_heard.pubacks) == 3)
        assert len(daemon.adopted) == 1
    desk.close()


async def test_an_earlier_session_s_subscription_does_not_end_adoption(broker: Broker, path: Path) -> None:
    """The broker still has it when a gateway was killed, and tells of our will before we ask for anything."""
    killed = await begin(broker.port, Heard(), client_id="gatewayd-gw1")
    killed.subscribe([f"{BASE}/status"])
    desk_heard = Heard()
    desk = await begin(broker.port, desk_heard, client_id="desk")
    desk.publish(f"{BASE}/alarm/x1/state", text(b"{}"), retain=True)
    await until(lambda: desk_heard.pubacks)
    killed.close()
    desk.publish(f"{BASE}/status", text(b'{"state": "offline", "session": 1}'), retain=True)
    await until(lambda: len(desk_heard.pubacks) == 2)
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.adopted)
        assert daemon.states == {"x1": b"{}"}
    desk.close()


async def test_an_outage_loses_nothing_and_alarms_come_first_in_order(broker: Broker, path: Path) -> None:
    """Broker killed, 1,500 messages sent, broker back: alarms first, each class in order, nothing twice."""
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        broker.kill()
        await until(lambda: not daemon.uplink.connected)
        for n in range(1_000):
            daemon.send(MessageClass.TELEMETRY, f"telemetry/{n}", body={"n": n})
            if n % 2:
                daemon.send(body={"alarm": "a", "n": n})
        await daemon.outbox.store(Batch())
        broker.start()
        async with ops(broker.port) as heard:
            await empty(daemon.outbox)
            await until(lambda: bodies(heard, "telemetry/999"))
        order = [json.loads(each.payload)["n"] for each in heard.incoming if "alarm" in each.topic]
        assert order == sorted(set(order))
        kinds = [each.topic.split("/")[2] for each in heard.incoming if not each.topic.endswith("status")]
        last_alarm = len(kinds) - 1 - kinds[::-1].index("alarm") if "alarm" in kinds else 0
        assert kinds[:last_alarm].count("telemetry") <= 100  # nothing but what was under way


async def test_a_restart_with_the_broker_down_sends_everything_afterwards(broker: Broker, path: Path) -> None:
    """What one run stored, the next one publishes, with its own ids, and tells how far each has come."""
    broker.kill()
    async with running(path, settings(broker.port)) as daemon:
        messages = [daemon.send(body={"alarm": "a", "n": n}) for n in range(700)]
        daemon.send(MessageClass.AUDIO_LIVE, "alarm/a/audio/0", sound=b"OggS" * 100)
        await daemon.written()
    broker.start()
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        await empty(daemon.outbox)
        await until(lambda: len(bodies(heard, "alarm/a/event")) >= 700)
        await until(lambda: daemon.confirmed(*messages))
    assert [event["n"] for event in bodies(heard, "alarm/a/event")] == list(range(700))
    assert heard.payloads(f"{BASE}/alarm/a/audio/0") == [b"OggS" * 100]


async def test_a_black_hole_is_found_by_an_alarm_and_left(broker: Broker, path: Path) -> None:
    """An alarm without PUBACK makes the link suspect; the next session delivers it, once per id."""
    async with (
        ops(broker.port) as heard,
        Proxy(broker.port) as proxy,
        running(path, settings(proxy.port, keep_alive_s=60)) as daemon,
    ):
        await until(lambda: daemon.uplink.connected)
        daemon.uplink._link.began_s -= 60  # type: ignore[union-attr]  # an old session: it may be doubted
        proxy.mode = Mode.BLACK_HOLE
        message = daemon.send()
        await asyncio.sleep(0.5)
        proxy.mode = Mode.OPEN  # for new connections; what this one swallowed is gone
        await until(lambda: daemon.confirmed(message), 15)
        assert any("suspect" in detail for _, detail in daemon.reports.said)
        await until(lambda: bodies(heard, "alarm/a/event"))


async def test_the_second_broker_is_tried_at_once(broker: Broker, path: Path) -> None:
    """A broker that refuses costs no wait when there is another."""
    async with running(path, settings(free_port(), broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected, 2)
        await until(lambda: daemon.reports.state is State.OK)
        assert daemon.reports.said[0][0] is State.FAILED
        assert daemon.reports.said[-1] == (State.OK, f"connected to 127.0.0.1:{broker.port}")


async def test_an_alarm_is_dialled_for_past_a_broker_that_swallows(broker: Broker, path: Path) -> None:
    """While an alarm waits the next broker is dialled a second later; the first to answer is taken."""
    async with Proxy(broker.port) as proxy:
        proxy.mode = Mode.BLACK_HOLE
        async with running(path, settings(proxy.port, broker.port)) as daemon:
            message = daemon.send()
            await until(lambda: daemon.confirmed(message), 4)
            assert daemon.reports.said[-1] == (State.OK, f"connected to 127.0.0.1:{broker.port}")


async def test_a_new_alarm_is_dialled_for_within_a_second(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes right after a dial that failed, when nothing hurried."""
    monkeypatch.setattr("gatewayd.uplink.keeper.backoff_s", lambda *_, **__: 30.0)
    broker.kill()
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.reports.state is State.FAILED)
        broker.start()
        message = daemon.send()
        await until(lambda: daemon.confirmed(message), 4)


async def test_a_stop_beside_an_alarm_is_a_stop(path: Path) -> None:
    """A cancellation in the same turn of the loop as what cuts the wait short is not swallowed."""
    async with running(path, settings(free_port())) as daemon:
        await until(lambda: daemon.reports.state is State.FAILED)
        await asyncio.sleep(0.05)
        daemon.uplink._keeper.hurry()
        await asyncio.sleep(0)
        await asyncio.wait_for(daemon.stop(), 3)


async def test_what_waits_outlives_an_uplink(broker: Broker, path: Path) -> None:
    """New settings: what the old uplink had and the disk has not yet goes with the new one."""
    backlog = Backlog()
    path.parent.write_bytes(b"a file where the directory should be")
    async with running(path, settings(free_port()), backlog=backlog) as daemon:
        message = daemon.send()
    async with running(path, settings(broker.port), backlog=backlog) as daemon:
        await until(lambda: daemon.confirmed(message), 4)


async def test_adoption_is_waited_for_from_when_the_session_began(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first session that comes late still hears what the broker knows."""
    monkeypatch.setattr("gatewayd.uplink.inbox.ADOPT_S", 0.8)
    desk = await begin(broker.port, Heard(), client_id="desk")
    desk.publish(f"{BASE}/alarm/x1/state", text(b"{}"), retain=True)
    async with Proxy(broker.port) as proxy, running(path, settings(proxy.port)) as daemon:
        proxy.mode = Mode.REFUSE
        await asyncio.sleep(1.0)
        proxy.mode = Mode.OPEN
        daemon.send()
        await until(lambda: daemon.uplink.connected)
        daemon.uplink._tick(now())
        assert not daemon.adopted or daemon.states
        await until(lambda: daemon.adopted)
        assert daemon.states == {"x1": b"{}"}
    desk.close()


async def test_a_refused_message_blocks_nobody_and_is_counted(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in a PUBACK is reported as long as it waits, the class behind it goes on, the row stays."""
    rules = tmp_path / "acl"
    rules.write_text(f"topic readwrite {BASE}/status\ntopic readwrite {BASE}/alarm/ok/event\n")
    broker = Broker(tmp_path / "broker", settings=(f"acl_file {rules}",))
    broker.start()
    try:
        async with running(path, settings(broker.port)) as daemon:
            await until(lambda: daemon.uplink.connected)
            refused = daemon.send(topic="alarm/no/event")
            passed = daemon.send(topic="alarm/ok/event")
            lost = replace(daemon.make(MessageClass.STATE, "reply"), response_topic="not/ours")
            daemon.uplink.send(Batch(messages=(lost,)))
            await until(lambda: daemon.confirmed(passed), 5)
            await until(lambda: daemon.uplink.counters == {"refused_0x87": 2})
            assert not daemon.confirmed(refused)
            monkeypatch.setattr("gatewayd.uplink.condition.REFUSAL_SHOWN_S", 0.0)
            daemon.uplink._tick(now())
            assert daemon.reports.state is State.DEGRADED
            await daemon.outbox.store(Batch())
            found = await daemon.outbox.page(ALARM, (), 10)
            assert found is not None
            assert [each.topic for each in found.messages] == ["alarm/no/event"]
            assert await rows(daemon.outbox) == {ALARM: 1}
    finally:
        broker.kill()


async def test_a_position_reaches_the_disk_only_when_it_has_waited(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the link is up it never does; otherwise after a while, or when the power goes."""
    monkeypatch.setattr("gatewayd.uplink.store.WAITED_S", 0.3)
    broker.kill()
    async with running(path, settings(broker.port)) as daemon:
        daemon.send(MessageClass.POSITION, "position", keep=Keep.WHEN_WAITING)
        await asyncio.sleep(0.05)
        assert await rows(daemon.outbox) == {}
        async with asyncio.timeout(5):
            while await rows(daemon.outbox) == {}:  # noqa: ASYNC110 - it is asked of the disk
                await asyncio.sleep(0.02)
        assert await rows(daemon.outbox) == {MessageClass.POSITION: 1}
        daemon.send(MessageClass.POSITION, "position", keep=Keep.WHEN_WAITING)
        daemon.uplink.save()
        await daemon.outbox.store(Batch())
        assert await rows(daemon.outbox) == {MessageClass.POSITION: 2}
        broker.start()
        await empty(daemon.outbox)


async def test_what_was_queued_with_a_wrong_clock_goes_out_with_the_right_time(
    broker: Broker, path: Path
) -> None:
    """Twenty years behind when it happened, known since: every class, from memory and from the disk."""
    broker.kill()
    happened_s = time.time()
    wrong = replace(now(), wall_s=happened_s - 20 * 31_557_600, source=ClockSource.NONE, uncertainty_ms=0)
    topics = {ALARM: "alarm/a/event", MessageClass.STATE: "health", MessageClass.POSITION: "position"}
    for _ in range(2):  # the second time from the disk
        async with running(path, settings(broker.port)) as daemon:
            for name, below in topics.items():
                daemon.send(name, below, at=wrong)
            daemon.send(MessageClass.AUDIO_LIVE, "alarm/a/audio/0", sound=b"OggS", at=wrong)
            await daemon.written()
    broker.start()
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        await empty(daemon.outbox)
        await until(lambda: all(len(bodies(heard, below)) == 2 for below in topics.values()))
        await until(lambda: len(heard.payloads(f"{BASE}/alarm/a/audio/0")) == 2)
    for below in topics.values():
        for body in bodies(heard, below):
            assert abs(payload.wall(body["at"]) - happened_s) < 1.0
            assert body["clock"]["source"] == "ntp"
            assert body["late_s"] >= 0.0


async def test_health_is_published_on_each_session_and_never_stored(broker: Broker, path: Path) -> None:
    """The latest per topic, in memory only."""
    async with running(path, settings(broker.port)) as daemon:
        daemon.send(MessageClass.STATE, "health", keep=Keep.NEVER, retain=True, replaces=True, body={"n": 1})
        daemon.send(MessageClass.STATE, "health", keep=Keep.NEVER, retain=True, replaces=True, body={"n": 2})
        await until(lambda: daemon.uplink.connected)
        async with ops(broker.port) as heard:
            await until(lambda: bodies(heard, "health"))
        broker.kill()
        await until(lambda: not daemon.uplink.connected)
        broker.start()  # without its memory
        async with ops(broker.port) as heard:
            await until(lambda: bodies(heard, "health"))
            assert bodies(heard, "health")[0]["n"] == 2


async def test_tls_dates_are_judged_once_the_time_is_known(tmp_path: Path, path: Path) -> None:
    """Without the time the session is kept and said to be so; with it, it is renewed."""
    made = make_certificates(tmp_path / "pki")
    broker = Broker(tmp_path / "broker", certificates=made, client_certificates=True)
    broker.start()
    mqtt = settings(
        broker.port,
        tls=True,
        ca_file=made.ca,
        client_certificate=made.client,
        client_key_credential="client.key",
    )
    wall = Wall(ClockSource.NONE)
    try:
        async with running(path, mqtt, wall=wall, credentials=tmp_path / "pki") as daemon:
            await until(lambda: daemon.reports.state is State.DEGRADED)
            assert "dates are not judged" in daemon.reports.said[-1][1]
            wall.source = ClockSource.GNSS
            message = daemon.send()
            await until(lambda: daemon.reports.state is State.OK)
            await until(lambda: daemon.confirmed(message), 5)
    finally:
        broker.kill()


async def test_an_alarm_leaves_by_a_broker_whose_dates_seem_wrong_until_the_time_is_known(
    tmp_path: Path, path: Path
) -> None:
    """Three years back every certificate is not yet valid: the alarm goes all the same. One whose dates are
    wrong in truth is found out when the time is known, and the session does not go on.
    """
    made = make_certificates(tmp_path / "pki", begins=datetime.now(UTC) + timedelta(days=3))
    broker = Broker(tmp_path / "broker", certificates=made)
    broker.start()
    wall = Wall(ClockSource.NONE)
    try:
        async with running(path, settings(broker.port, tls=True, ca_file=made.ca), wall=wall) as daemon:
            message = daemon.send()
            await until(lambda: daemon.confirmed(message))
            assert daemon.reports.state is State.DEGRADED
            wall.source = ClockSource.NTP
            await until(lambda: daemon.reports.state is State.FAILED, 5)
            await until(lambda: "not yet valid" in daemon.reports.said[-1][1], 5)
            assert not daemon.uplink.connected
    finally:
        broker.kill()


async def test_a_paused_broker_delays_and_loses_nothing(broker: Broker, path: Path) -> None:
    """What was in flight is confirmed when it goes on."""
    async with running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        broker.pause()
        messages = [daemon.send() for _ in range(50)]
        await asyncio.sleep(0.1)
        assert not any(daemon.confirmed(message) for message in messages)
        broker.resume()
        await until(lambda: daemon.confirmed(*messages))


async def test_an_alarm_waits_for_no_audio_on_a_slow_link(broker: Broker, path: Path) -> None:
    """At 64 kbit/s with a minute of sound waiting an alarm is confirmed within two seconds."""
    async with Proxy(broker.port, rate=8_000) as proxy, running(path, settings(proxy.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        for n in range(120):
            daemon.send(MessageClass.AUDIO_LIVE, f"alarm/a/audio/{n}", sound=b"x" * 1_500)
        await asyncio.sleep(1.0)
        began_s = asyncio.get_running_loop().time()
        message = daemon.send()
        await until(lambda: daemon.confirmed(message), 5)
        assert asyncio.get_running_loop().time() - began_s < 2.0


async def test_a_new_database_gets_what_memory_holds(broker: Broker, path: Path) -> None:
    """After damage the messages in memory are stored again."""
    broker.kill()
    async with running(path, settings(broker.port)) as daemon:
        daemon.send()
        await daemon.written()
        daemon.outbox.on_replaced()
        await daemon.outbox.store(Batch())
        found = await daemon.outbox.page(ALARM, (), 10)
        assert found is not None
        assert len(found.messages) == 1


async def test_sound_goes_without_a_disk_that_hangs(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored first, but not waited for longer than a moment."""
    monkeypatch.setattr("gatewayd.uplink.store.HELD_S", 0.2)
    async with ops(broker.port) as heard, running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        with monkeypatch.context() as patched:
            patched.setattr(daemon.outbox, "store", lambda _: asyncio.get_running_loop().create_future())
            daemon.send(MessageClass.AUDIO_LIVE, "alarm/a/audio/0", sound=b"x")
        await asyncio.sleep(0.1)
        assert not heard.payloads(f"{BASE}/alarm/a/audio/0")
        await until(lambda: heard.payloads(f"{BASE}/alarm/a/audio/0"))


async def test_sound_keeps_its_order_when_the_disk_fails(
    broker: Broker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for the disk goes before what need not wait any more."""
    async with ops(broker.port) as desk, running(path, settings(broker.port)) as daemon:
        await until(lambda: daemon.uplink.connected)
        monkeypatch.setattr(daemon.outbox, "store", lambda _: asyncio.get_running_loop().create_future())
        daemon.send(MessageClass.AUDIO_LIVE, "alarm/a/audio/0", sound=b"first")
        monkeypatch.setattr(Outbox, "usable", False)
        daemon.send(MessageClass.AUDIO_LIVE, "alarm/a/audio/1", sound=b"second")
        await until(lambda: len(desk.incoming) >= 3)  # the birth, and these
        assert [incoming.payload for incoming in desk.incoming[1:]] == [b"first", b"second"]
