"""paho alone: publish everything at QoS 1, as fast as the PUBACKs come.

`python -m bench.bare_drain PORT BYTES COUNT WINDOW [CONTENT_TYPE]`; prints how many a second, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import LOOPBACK


def main(port: int, size: int, count: int, window: int, content_type: str | None = None) -> None:
    """One thread: paho's own loop. Each PUBACK makes room for the next message, so its queue stays empty."""
    payload = bytes(size)
    sent = answered = 0
    began_s = 0.0

    def publish() -> None:
        nonlocal sent
        properties: Any = None
        if content_type is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
            properties.ContentType = content_type
        client.publish("bare", payload, qos=1, properties=properties)
        sent += 1

    def on_connect(
        client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        nonlocal began_s
        began_s = time.monotonic()
        while sent < min(window, count):
            publish()

    def on_publish(client: Client, _user: object, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        nonlocal answered
        answered += 1
        if sent < count:
            publish()
        elif answered == count:
            client.disconnect()

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(window)
    client.on_connect = on_connect
    client.on_publish = on_publish
    client.connect(LOOPBACK, port)
    client.loop_forever()
    print(json.dumps(count / (time.monotonic() - began_s)))


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:5]]
    main(numbers[0], numbers[1], numbers[2], numbers[3], *sys.argv[5:])
