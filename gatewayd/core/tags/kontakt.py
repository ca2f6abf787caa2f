"""Kontakt.io beacons with a button (Card Tag, Puck, Bracelet): telemetry that counts clicks.

Service data 0xFE6A: `03`, then fields of length (u8, the id counted in), id, payload. Used are `11`: clicks
(u8, wraps) and seconds since the last one (u16, little-endian); `0D`: those seconds alone, which tell of no
press; the battery (u8, percent): `0C`, and in `01` after the time (u32). Kontakt.io, "Telemetry packet", and
its own reader (https://github.com/kontaktio/telegraf_archived, plugins/processors/kioparser). Not tried on a
device. A field that is cut off ends the reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport

NAME: Final = "kontakt"
IDENTIFIED_BY: Final = ("address",)
SERVICE: Final = "0000fe6a-0000-1000-8000-00805f9b34fb"
TELEMETRY: Final = b"\x03"
HEALTH: Final = 0x01  # u32, u8
BATTERY: Final = 0x0C  # u8
CLICKED: Final = 0x0D  # u16
CLICKS: Final = 0x11  # u8, u16
NEVER_S: Final = 0xFFFF  # since the last click: there was none
# A frame comes every few seconds: what was clicked within so long is being told.
FRESH_S: Final = 30
FULL_PCT: Final = 100  # more is no percentage: FF is external power in Kontakt's other packets


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """How often and how long ago it was clicked, and the battery; None: no telemetry. `key` is not used."""
    data = advertisement.service_data.get(SERVICE, b"")
    if not data.startswith(TELEMETRY):
        return None
    fields = dict(_fields(data[len(TELEMETRY) :]))
    clicks = fields.get(CLICKS, b"")
    clicked_s = int.from_bytes(clicks[1:3] or fields.get(CLICKED, b"")[:2] or b"\xff\xff", "little")
    measurements = {} if clicked_s == NEVER_S else {"clicked_s": float(clicked_s)}
    battery_pct = _battery_pct(fields.get(BATTERY, b"")[:1] or fields.get(HEALTH, b"")[4:5])
    if not clicks:
        return TagReport(format=NAME, battery_pct=battery_pct, measurements=measurements)
    presses = Presses(count=clicks[0], now=clicked_s <= FRESH_S)
    return TagReport(
        format=NAME,
        buttons=(TagEvent.PRESS,),
        presses=presses,
        battery_pct=battery_pct,
        measurements=measurements,
    )


def _battery_pct(value: bytes) -> int | None:
    return value[0] if value and value[0] <= FULL_PCT else None


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 1 < len(data) and 0 < data[at] <= len(data) - at - 1:
        yield data[at + 1], data[at + 2 : at + 1 + data[at]]
        at += 1 + data[at]
