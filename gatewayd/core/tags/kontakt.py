"""Kontakt.io beacons with a button (Card Tag, Puck, Bracelet): telemetry that counts clicks.

Service data 0xFE6A: `03`, then fields of length (u8, the id counted in), id, payload. Used are `11`: clicks
(u8, wraps) and seconds since the last one (u16, little-endian), and `0D`: those seconds alone, which tell of
no press. Kontakt.io, "Telemetry packet". Not tried on a device. A field that is cut off ends the reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport

NAME: Final = "kontakt"
IDENTIFIED_BY: Final = ("address",)
SERVICE: Final = "0000fe6a-0000-1000-8000-00805f9b34fb"
TELEMETRY: Final = b"\x03"
CLICKED: Final = 0x0D  # u16
CLICKS: Final = 0x11  # u8, u16
NEVER_S: Final = 0xFFFF  # since the last click: there was none
# A frame comes every few seconds: what was clicked within so long is being told.
FRESH_S: Final = 30


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """How often it was clicked, and how long ago; None when there is no telemetry. `key` is not used."""
    data = advertisement.service_data.get(SERVICE, b"")
    if not data.startswith(TELEMETRY):
        return None
    fields = dict(_fields(data[len(TELEMETRY) :]))
    clicks = fields.get(CLICKS, b"")
    clicked_s = int.from_bytes(clicks[1:3] or fields.get(CLICKED, b"")[:2] or b"\xff\xff", "little")
    measurements = {} if clicked_s == NEVER_S else {"clicked_s": float(clicked_s)}
    if not clicks:
        return TagReport(format=NAME, measurements=measurements)
    presses = Presses(count=clicks[0], now=clicked_s <= FRESH_S)
    return TagReport(format=NAME, buttons=(TagEvent.PRESS,), presses=presses, measurements=measurements)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 1 < len(data) and 0 < data[at] <= len(data) - at - 1:
        yield data[at + 1], data[at + 2 : at + 1 + data[at]]
        at += 1 + data[at]
