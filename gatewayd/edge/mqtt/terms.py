"""What a broker lays down for a session, what a packet weighs, and what its reason codes mean to us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from gatewayd.core.payload import Rendered

RECEIVE_MAXIMUM: Final = 65_535  # MQTT 5, section 3.2.2.3.3: what holds when the broker names none
FAILURE: Final = 0x80  # reason codes from here on are failures (MQTT 5, section 2.4)
TOO_LARGE: Final = 0x95
NO_RETAIN: Final = 0x9A
NO_ACKNOWLEDGING: Final = 0x9B  # QoS not supported
# A broker that ends a session with one of these stumbled over something it was sent: malformed packet,
# protocol error, topic name invalid, packet too large, payload format invalid.
STUMBLED: Final = frozenset({0x81, 0x82, 0x90, TOO_LARGE, 0x99})

# A packet's parts beside topic, payload and what its properties hold (MQTT 5, sections 2.1, 2.2, 3.3).
_TOPIC_LENGTH: Final = 2
_MESSAGE_ID: Final = 2
_STRING: Final = 3  # a property's code, and how long its string is
_PAIR: Final = 5  # a user property's code, and how long its two strings are
_NUMBER: Final = 5  # a property's code and a four-byte integer
_SEVEN_BITS: Final = 0x80  # a length has seven bits a byte (section 1.5.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the broker's CONNACK says of the session (MQTT 5, section 3.2.2.3)."""

    resumed: bool = False  # it has kept our subscriptions, and commands that came meanwhile
    keeps: bool = True  # and will
    receive_maximum: int = RECEIVE_MAXIMUM
    packet_bytes: int | None = None  # the largest it takes
    acknowledges: bool = True  # it takes QoS 1
    retains: bool = True
    wildcards: bool = True  # in subscriptions
    keep_alive_s: int | None = None  # it wants another one than ours

    @classmethod
    def of(cls, properties: Any, *, resumed: bool) -> Terms:  # Any: paho sets what the broker sent, untyped
        """Read a CONNACK."""
        return cls(
            resumed=resumed,
            keeps=getattr(properties, "SessionExpiryInterval", 1) > 0,
            receive_maximum=getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM),
            packet_bytes=getattr(properties, "MaximumPacketSize", None),
            acknowledges=getattr(properties, "MaximumQoS", 1) > 0,
            retains=bool(getattr(properties, "RetainAvailable", 1)),
            wildcards=bool(getattr(properties, "WildcardSubscriptionAvailable", 1)),
            keep_alive_s=getattr(properties, "ServerKeepAlive", None),
        )


def packet_bytes(topic: str, rendered: Rendered, correlation: bytes | None) -> int:
    """Return how long the PUBLISH at QoS 1 is, bytes."""
    properties = 0
    if rendered.content_type is not None:
        properties += _STRING + len(rendered.content_type)
    for name, value in rendered.user_properties:
        properties += _PAIR + len(name) + len(value.encode())
    if rendered.expires_s is not None:
        properties += _NUMBER
    if correlation is not None:
        properties += _STRING + len(correlation)
    rest = _TOPIC_LENGTH + len(topic.encode()) + _MESSAGE_ID + _length(properties) + properties
    rest += len(rendered.payload)
    return 1 + _length(rest) + rest


def reason_text(reason: int) -> str:
    """Return a reason code in words, e.g. `Not authorized (0x87)`."""
    try:  # a DISCONNECT may carry nearly all there are
        name = ReasonCode(PacketTypes.DISCONNECT, identifier=reason).getName()
    except (KeyError, ValueError):
        return f"reason 0x{reason:02x}"
    return f"{name} (0x{reason:02x})"


def _length(value: int) -> int:
    """How many bytes a length takes."""
    size = 1
    while value := value // _SEVEN_BITS:
        size += 1
    return size
