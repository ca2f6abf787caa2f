"""The properties of a PUBLISH, packed once for all messages that have the same.

paho's own take as long to make and to pack as all else it does for a message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gatewayd.core.payload import Rendered

KEPT: Final = 64  # JSON has a handful; a reply and a chunk have properties of their own


class _Packed(Properties):
    """What paho asks of properties when it publishes."""

    _bytes: bytes

    def __init__(self, packed: bytes) -> None:
        self.packetType = PacketTypes.PUBLISH
        object.__setattr__(self, "_bytes", packed)  # paho's own __setattr__ takes only MQTT's names

    def pack(self) -> bytes:
        return self._bytes


def publish_properties(rendered: Rendered, correlation: bytes | None) -> Properties:
    """Return the properties of a message."""
    return _packed(rendered.content_type, rendered.user_properties, rendered.expires_s, correlation)


@lru_cache(maxsize=KEPT)
def _packed(
    content_type: str | None,
    user_properties: tuple[tuple[str, str], ...],
    expires_s: int | None,
    correlation: bytes | None,
) -> _Packed:
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
    if content_type is not None:
        properties.ContentType = content_type
    if user_properties:
        properties.UserProperty = list(user_properties)
    if expires_s is not None:
        properties.MessageExpiryInterval = expires_s
    if correlation is not None:
        properties.CorrelationData = correlation
    return _Packed(properties.pack())
