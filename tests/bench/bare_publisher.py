"""paho alone: publish at QoS 1 at a steady pace and say how long each PUBACK took.

`python -m bench.bare_publisher PORT BYTES COUNT PER_SECOND`; prints one JSON list of milliseconds.
"""

from __future__ import annotations

import json
import queue
import sys
import time

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import LOOPBACK


def main(port: int, size: int, count: int, rate: float) -> None:
    answered: queue.Queue[float] = queue.Queue()

    def on_publish(_client: Client, _user: object, _mid: int, _reason: ReasonCode, _: Properties) -> None:
        answered.put(time.monotonic())

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_publish = on_publish
    client.connect(LOOPBACK, port)
    client.loop_start()
    took_ms = []
    began_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
        sent_s = time.monotonic()
        client.publish("bare", bytes(size), qos=1)
        took_ms.append((answered.get() - sent_s) * 1000)
    client.disconnect()
    client.loop_stop()
    print(json.dumps(took_ms))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
