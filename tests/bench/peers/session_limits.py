"""The one answer of ThingsBoard's server without which its gateway sends nothing to a plain broker."""

from __future__ import annotations

import json
from typing import Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.sim.broker import LOOPBACK

REQUESTS: Final = "v1/devices/me/rpc/request/"
RESPONSES: Final = "v1/devices/me/rpc/response/"
# What a server without rate limits says; the two numbers are its defaults.
LIMITS: Final = {"maxPayloadSize": 65_536, "maxInflightMessages": 100, "rateLimits": {}}


class SessionLimits:
    """Answers `getSessionLimits` at the broker on `port` until closed."""

    def __init__(self, port: int) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_message = self._asked
        self._client.connect(LOOPBACK, port)
        self._client.loop_start()

    def close(self) -> None:
        """Answer no more."""
        self._client.disconnect()
        self._client.loop_stop()

    @staticmethod
    def _connected(
        client: Client, _user: object, _flags: ConnectFlags, _reason: ReasonCode, _: Properties | None
    ) -> None:
        client.subscribe(f"{REQUESTS}+", qos=1)

    @staticmethod
    def _asked(client: Client, _user: object, message: MQTTMessage) -> None:
        number = message.topic.removeprefix(REQUESTS)
        if json.loads(message.payload).get("method") == "getSessionLimits":
            client.publish(RESPONSES + number, json.dumps(LIMITS), qos=1)
