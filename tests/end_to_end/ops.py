"""The ops side of a test: hears all that is published, holds it to the contract, and gives commands."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import contract
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.core import topic as topics
from gatewayd.core.topic import Kind, Topic
from gatewayd.sim.broker import LOOPBACK
from gatewayd.sim.world import GATEWAY, PREFIX

LIMIT_S: Final = 15.0  # for anything that is waited for; it takes a second or two
SESSION_S: Final = 600  # longer than any test has no broker
ACTOR: Final = {"id": "desk-1", "name": "Ada"}
BASE: Final = topics.base(PREFIX, GATEWAY)
REPLIES: Final = "desk/replies"
_HEADER_TYPE: Final = 5  # where it lies in an Ogg page
_END_OF_STREAM: Final = 0x04


def order(**fields: Any) -> bytes:
    """A command's payload, under an id of its own."""
    return json.dumps({"id": str(uuid.uuid4()), "actor": ACTOR, **fields}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message of the gateway."""

    where: Topic
    payload: bytes
    body: dict[str, Any]  # empty: sound, or a withdrawn state
    retained: bool  # it was there before we were
    came_s: float  # CLOCK_MONOTONIC, here
    properties: dict[str, str] = field(default_factory=dict)
    correlation: bytes | None = None  # of a reply to a topic of our own
    expires_s: int | None = None  # what is left of its MQTT message expiry


class Ops:
    """Everything heard so far, in order; what violates the contract is kept in `faults`."""

    def __init__(self, client: Client) -> None:
        self.heard: list[Heard] = []
        self.answers: list[Heard] = []  # to our own response topic
        self.faults: list[str] = []
        self.subscribed = asyncio.Event()  # at the broker; whoever takes the broker away clears it
        self.limit_s = LIMIT_S  # for anything that is waited for without a limit of its own
        self._client = client
        self._news = asyncio.Event()
        self._later = 0
        self._known: dict[tuple[str, object], object] = {}  # identities

    async def until(self, what: str, happened: Callable[[], object], limit_s: float | None = None) -> None:
        """Wait for what arrives to make something true."""
        limit_s = limit_s or self.limit_s
        try:
            async with asyncio.timeout(limit_s):
                while not happened():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = [f"{heard.where.kind} {heard.body.get('type', '')}" for heard in self.heard]
            raise AssertionError(f"expected {what} within {limit_s} s, got {seen[-40:]}") from None

    # --- what was heard -------------------------------------------------------------------------------------

    def of(self, kind: Kind, alarm: str | None = None) -> list[Heard]:
        """Messages of a kind, and of an alarm."""
        return [
            heard for heard in self.heard if heard.where.kind is kind and alarm in (None, heard.where.alarm)
        ]

    def events(self, *types: str, alarm: str | None = None) -> list[dict[str, Any]]:
        """Alarm events of these types, or all."""
        found = [heard.body for heard in self.of(Kind.ALARM_EVENT, alarm)]
        return [body for body in found if not types or body["type"] in types]

    def state(self, alarm: str) -> dict[str, Any]:
        """An alarm's newest state."""
        return next((heard.body for heard in reversed(self.of(Kind.ALARM_STATE, alarm))), {})

    def component(self, name: str) -> dict[str, Any]:
        """How a component is, by the newest health."""
        components: dict[str, dict[str, Any]] = self.health().get("components", {})
        return components.get(name, {"state": "", "detail": ""})

    def health(self) -> dict[str, Any]:
        """The newest health."""
        return self._newest(Kind.HEALTH)

    def status(self) -> dict[str, Any]:
        """The newest status."""
        return self._newest(Kind.STATUS)

    def _newest(self, kind: Kind) -> dict[str, Any]:
        later = reversed(self.heard[self._later :])
        return next((heard.body for heard in later if heard.where.kind is kind), {})

    def chunks(self, alarm: str) -> dict[int, Heard]:
        """An alarm's sound by number, the first copy of each."""
        found: dict[int, Heard] = {}
        for heard in self.of(Kind.ALARM_AUDIO, alarm):
            found.setdefault(heard.where.n or 0, heard)
        return found

    def sound(self, alarm: str) -> bytes:
        """An alarm's sound, in order."""
        return b"".join(heard.payload for _, heard in sorted(self.chunks(alarm).items()))

    def sound_ms(self, alarm: str) -> int:
        """How much there is of an alarm's sound."""
        return sum(int(heard.properties["duration-ms"]) for heard in self.chunks(alarm).values())

    def sound_ended(self, alarm: str) -> bool:
        """Whether an alarm's sound ends as a stream should (RFC 3533, section 6), with nothing missing."""
        chunks = self.chunks(alarm)
        if not chunks or sorted(chunks) != list(range(len(chunks))):
            return False
        last = chunks[len(chunks) - 1].payload
        return bool(last[last.rfind(b"OggS") + _HEADER_TYPE] & _END_OF_STREAM)

    def turn_the_page(self) -> None:
        """From now on only later messages tell how the gateway is."""
        self._later = len(self.heard)

    # --- what happens usually -------------------------------------------------------------------------------

    async def ready(self, *, fix: bool = True) -> None:
        """Wait until the gateway is online and hears, and has a fix."""
        await self.until("a gateway that is online", lambda: self.status().get("state") == "online")
        await self.until("a radio that scans", lambda: "scans" in self.component("radio")["detail"])
        if fix:
            await self.until("a fix", lambda: self.component("gps")["state"] == "ok")

    async def raised(self, tag: str | None = None) -> str:
        """Wait for an alarm (of that tag) to be raised; returns its id."""

        def found() -> list[dict[str, Any]]:
            return [body for body in self.events("raised") if tag in (None, body["tag"]["id"])]

        await self.until("an alarm", found)
        return str(found()[-1]["alarm"])

    async def told(self, alarm: str, *types: str) -> dict[str, Any]:
        """Wait for an event of one of these types; returns the first."""
        await self.until(f"{types} of {alarm}", lambda: self.events(*types, alarm=alarm))
        return self.events(*types, alarm=alarm)[0]

    # --- commands -------------------------------------------------------------------------------------------

    def give(
        self,
        name: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation: bytes | None = None,
        expires_s: int | None = None,
    ) -> None:
        """Publish any bytes as a command; with `correlation` the reply goes to our own topic."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
        if correlation is not None:
            properties.ResponseTopic = REPLIES
            properties.CorrelationData = correlation
        if expires_s is not None:
            properties.MessageExpiryInterval = expires_s
        self._client.publish(f"{BASE}/cmd/{name}", payload, qos=1, retain=retain, properties=properties)

    async def command(self, name: str, **fields: Any) -> dict[str, Any]:
        """Give a command and return the reply to it."""
        return await self.ask(name, order(**fields))

    async def ask(self, name: str, payload: bytes, *, retain: bool = False) -> dict[str, Any]:
        """Give any bytes as a command and return the reply that carries our correlation data."""
        correlation = uuid.uuid4().bytes
        self.give(name, payload, retain=retain, correlation=correlation)
        return await self.answer(correlation)

    async def answer(self, correlation: bytes) -> dict[str, Any]:
        """Wait for the reply that carries this correlation data."""

        def found() -> list[Heard]:
            return [answer for answer in self.answers if answer.correlation == correlation]

        await self.until("a reply", found)
        return found()[0].body

    # --- what arrives ---------------------------------------------------------------------------------------

    def take(self, whole: str, payload: bytes, properties: Properties | None, *, retained: bool) -> None:
        """A message came; on the event loop."""
        try:
            self._take(whole, payload, properties, retained=retained)
        except Exception as error:  # noqa: BLE001 - the contract's checks raise many kinds, told at the end
            self.faults.append(f"{whole} {payload[:400]!r}: {type(error).__name__}: {error}")
        self._news.set()

    def _take(self, whole: str, payload: bytes, properties: Properties | None, *, retained: bool) -> None:
        if whole.startswith(f"{BASE}/cmd/"):
            return
        pairs = tuple(getattr(properties, "UserProperty", ()))
        ours = whole == REPLIES
        where = topics.parse("reply" if ours else whole.removeprefix(f"{BASE}/"))
        assert where is not None, "the contract has no such topic"
        sound = where.kind is Kind.ALARM_AUDIO
        heard = Heard(
            where=where,
            payload=payload,
            body=json.loads(payload) if payload and not sound else {},
            retained=retained,
            came_s=time.monotonic(),
            properties=dict(pairs),
            correlation=getattr(properties, "CorrelationData", None),
            expires_s=getattr(properties, "MessageExpiryInterval", None),
        )
        (self.answers if ours else self.heard).append(heard)
        contract.validate(f"{BASE}/reply" if ours else whole, payload, pairs)
        if heard.body:
            self._check_identity(heard)

    def _check_identity(self, heard: Heard) -> None:
        """An id stands for one message, and so does (run, seq), however often it comes.

        A run that died before its disk had a message leaves it to the next, under the same id.
        """
        body, known = heard.body, self._known
        if heard.where.kind is not Kind.REPLY:  # a reply's id is its command's
            said = (heard.where, body.get("type"))
            assert known.setdefault(("id", body["id"]), said) == said, "another message has this id"
            of_run = (body["id"], body["run"])
            assert known.setdefault(of_run, body["seq"]) == body["seq"], "another of this run has this id"
        named = (body["id"], heard.where)
        assert known.setdefault((body["run"], body["seq"]), named) == named, "another has this run and seq"
        if heard.where.kind is Kind.ALARM_EVENT and not heard.retained:
            assert body["late_s"] >= 0


@asynccontextmanager
async def listening(port: int, prepare: Callable[[Client], object] = lambda _: None) -> AsyncIterator[Ops]:
    """An ops side at the broker on loopback; at the end nothing it heard may have violated the contract.

    `prepare`: gives the client what the broker asks for.
    """
    loop = asyncio.get_running_loop()
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=f"desk-{uuid.uuid4()}", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    prepare(client)
    ops = Ops(client)

    def on_connect(
        client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        client.subscribe([(f"{PREFIX}/#", 1), (REPLIES, 1)])

    def on_subscribe(_client: Client, *_: object) -> None:
        loop.call_soon_threadsafe(ops.subscribed.set)

    def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        loop.call_soon_threadsafe(
            lambda: ops.take(message.topic, payload, message.properties, retained=message.retain)
        )

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    # What is published while we are away, or before we are back after the broker was, is kept for us.
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
    session.SessionExpiryInterval = SESSION_S
    client.connect(LOOPBACK, port, properties=session)
    client.loop_start()
    try:
        async with asyncio.timeout(LIMIT_S):
            await ops.subscribed.wait()
        yield ops
    finally:
        client.disconnect()
        client.loop_stop()
    assert not ops.faults, "\n".join(ops.faults)
