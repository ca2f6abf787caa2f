"""paho alone: publish everything at QoS 1, as fast as the PUBACKs come.

`python -m bench.bare_drain PORT BYTES COUNT WINDOW`; prints how many a second, as JSON.
"""

from __future__ import annotations

import json
import sys
import time

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import LOOPBACK


def main(port: int, size: int, count: int, window: int) -> None:
    """One thread: paho's own loop. Each PUBACK makes room for the next message, so its queue stays empty."""
    payload = bytes(size)
    sent = answered = 0
    began_s = 0.0

    def on_connect(
        client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        nonlocal began_s, sent
        began_s = time.monotonic()
        for _each in range(min(window, count)):
            client.publish("bare", payload, qos=1)
            sent += 1

    def on_publish(client: Client, _user: object, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        nonlocal answered, sent
        answered += 1
        if sent < count:
            client.publish("bare", payload, qos=1)
            sent += 1
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
    main(*map(int, sys.argv[1:]))
