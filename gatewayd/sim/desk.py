"""An ops desk: gives commands over MQTT as a console would, and waits for the replies."""

from __future__ import annotations

import asyncio
import json
import queue
import uuid
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.core import topic
from gatewayd.sim.broker import LOOPBACK

REPLY_S: Final = 5.0  # a gateway that is online answers within milliseconds


class Desk:
    """The desk of one gateway's broker on loopback."""

    def __init__(self, port: int, prefix: str, gateway: str) -> None:
        self._port = port
        self._base = topic.base(prefix, gateway)

    async def command(self, name: str, **fields: Any) -> dict[str, Any]:
        """Give a command, e.g. `alarm/accept`, and return the reply. TimeoutError when none comes."""
        return await asyncio.to_thread(
            self.send, name, json.dumps({"id": str(uuid.uuid4()), **fields}).encode()
        )

    def send(self, name: str, payload: bytes, *, retain: bool = False) -> dict[str, Any]:
        """Publish any bytes as a command and return the reply. TimeoutError when none comes."""
        answers: queue.Queue[bytes] = queue.Queue()
        reply_to = f"desk/{uuid.uuid4()}"

        def on_connect(
            client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
        ) -> None:
            client.subscribe(reply_to, qos=1)

        def on_subscribe(client: Client, *_: object) -> None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
            properties.ResponseTopic = reply_to
            properties.CorrelationData = reply_to.encode()
            whole = f"{self._base}/{topic.command(name)}"
            client.publish(whole, payload, qos=1, retain=retain, properties=properties)

        def on_message(_client: Client, _user: object, message: MQTTMessage) -> None:
            answers.put(bytes(message.payload))

        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        client.connect(LOOPBACK, self._port)
        client.loop_start()
        try:
            reply: dict[str, Any] = json.loads(answers.get(timeout=REPLY_S))
        except queue.Empty:
            raise TimeoutError(f"expected a reply to {name} within {REPLY_S:.0f} s, got none") from None
        finally:
            client.disconnect()
            client.loop_stop()
        return reply
