"""paho alone: publish everything at QoS 1, as fast as the PUBACKs come.

`python -m bench.bare_drain thread|loop PORT BYTES COUNT WINDOW [CONTENT_TYPE]`; prints how many a second, as
JSON. `thread`: as its manual has it, paho's loop in a thread of its own (`loop_start`) and its own queue.
`loop`: all in paho's loop, each PUBACK makes room for the next message; nothing that keeps accounts can be as
fast, but it shows what there is.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from paho.mqtt.client import Client, ConnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import LOOPBACK


def publish(client: Client, payload: bytes, content_type: str | None) -> None:
    """Publish one message."""
    properties: Any = None
    if content_type is not None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
        properties.ContentType = content_type
    client.publish("bare", payload, qos=1, properties=properties)


def in_thread(client: Client, payload: bytes, count: int, content_type: str | None) -> float:
    """Publish from this thread, as fast as it goes; return how many seconds it took."""
    ready, done = threading.Event(), threading.Event()
    answered = 0

    def on_publish(_client: Client, _user: object, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        nonlocal answered
        answered += 1
        if answered == count:
            done.set()

    client.on_connect = lambda *_: ready.set()
    client.on_publish = on_publish
    client.loop_start()
    ready.wait()
    began_s = time.monotonic()
    for _ in range(count):
        publish(client, payload, content_type)
    done.wait()
    lasted_s = time.monotonic() - began_s
    client.disconnect()
    client.loop_stop()
    return lasted_s


def in_loop(client: Client, payload: bytes, count: int, content_type: str | None, window: int) -> float:
    """Publish from paho's callbacks, so that its queue stays empty; return how many seconds it took."""
    sent = answered = 0
    began_s = 0.0

    def publish_next() -> None:
        nonlocal sent
        sent += 1
        publish(client, payload, content_type)

    def on_connect(
        _client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        nonlocal began_s
        began_s = time.monotonic()
        while sent < min(window, count):
            publish_next()

    def on_publish(_client: Client, _user: object, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        nonlocal answered
        answered += 1
        if sent < count:
            publish_next()
        elif answered == count:
            client.disconnect()

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.loop_forever()
    return time.monotonic() - began_s


def main(how: str, content_type: str | None, *numbers: int) -> None:
    """Measure one of the two and print it."""
    port, size, count, window = numbers
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(window)
    client.connect(LOOPBACK, port)
    payload = bytes(size)
    if how == "thread":
        lasted_s = in_thread(client, payload, count, content_type)
    else:
        lasted_s = in_loop(client, payload, count, content_type, window)
    print(json.dumps(count / lasted_s))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[6] if sys.argv[6:] else None, *(int(each) for each in sys.argv[2:6]))
