"""MOKO BXP-B (BXP-B-D, B5): a button beacon that counts its alarms by kind.

Service data 0xFEE0: frame type (`20` single press, `21` double, `22` long, `23` long inactivity), status (bit
1: triggered), count of triggers (u16, big-endian, wraps), then device id and name, which are not used. Each
kind has a frame and a count of its own, on the air in turn. Scan response, service data 0xEA00: `00`, full
scale, threshold (2), acceleration (3 × 2), temperature (2), ranging data (1), battery (u16, big-endian, mV;
up to 100 it is percent), address (6). MOKO SMART, "BXP-B Advertisement and Response packets"; for the percent
MOKO's own decoder, LoRaWAN-Product-Decoder/MOKOSMART-LoRaWAN-Product-Decoder, LW003-B V3. Long inactivity is
no press: nobody called for help.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport

NAME: Final = "moko"
IDENTIFIED_BY: Final = ("address",)
SERVICE: Final = "0000fee0-0000-1000-8000-00805f9b34fb"
RESPONSE: Final = "0000ea00-0000-1000-8000-00805f9b34fb"
EVENTS: Final[Mapping[int, TagEvent]] = {
    0x20: TagEvent.PRESS,
    0x21: TagEvent.DOUBLE,
    0x22: TagEvent.LONG,
}
INACTIVITY: Final = 0x23
TRIGGERED: Final = 0x02
COUNT: Final = slice(2, 4)
RESPONSE_TYPE: Final = 0x00
BATTERY: Final = slice(13, 15)
FULL_PCT: Final = 100


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """The kind of press, its count and the battery; None when there is neither frame. `key` is not used."""
    data = advertisement.service_data.get(SERVICE, b"")
    battery = _battery(advertisement.service_data.get(RESPONSE, b""))
    battery_mv, battery_pct = (None, battery) if battery and battery <= FULL_PCT else (battery, None)
    event = EVENTS.get(data[0]) if len(data) >= COUNT.stop else None
    if event is not None:
        presses = Presses(count=int.from_bytes(data[COUNT], "big"), now=bool(data[1] & TRIGGERED))
        return TagReport(
            format=NAME,
            buttons=(event,),
            presses=presses,
            battery_pct=battery_pct,
            battery_mv=battery_mv,
        )
    if battery is not None or data[:1] == bytes((INACTIVITY,)):
        return TagReport(format=NAME, battery_pct=battery_pct, battery_mv=battery_mv)
    return None


def _battery(response: bytes) -> int | None:
    if len(response) < BATTERY.stop or response[0] != RESPONSE_TYPE:
        return None
    return int.from_bytes(response[BATTERY], "big") or None
