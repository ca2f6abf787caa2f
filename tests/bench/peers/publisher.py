"""Puts what it is fed into a local broker at QoS 1; accepted is what the broker acknowledged.

`python -m bench.peers.publisher PORT`, lines of a `Feed` on stdin and stdout.
"""

from __future__ import annotations

import sys
import threading

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bench.peers.feed import content
from gatewayd.sim.broker import LOOPBACK


def main(port: int) -> None:
    marks: dict[int, str] = {}
    known = threading.Condition()  # a PUBACK may come before publish() has told its id

    def on_publish(_client: Client, _user: object, mid: int, _reason: ReasonCode, _: Properties) -> None:
        with known:
            known.wait_for(lambda: mid in marks)
            mark = marks.pop(mid)
        sys.stdout.write(f"{mark}\n")
        sys.stdout.flush()

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_publish = on_publish
    client.max_inflight_messages_set(100)
    client.connect(LOOPBACK, port)
    client.loop_start()
    for line in sys.stdin:
        mark, size = line.split()
        sent = client.publish(f"bench/{mark[0]}", content(mark, int(size)), qos=1)
        with known:
            marks[sent.mid] = mark
            known.notify()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
