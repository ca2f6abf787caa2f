"""Minew (B10, E8 and kin): the information frame, for presence and battery.

Service data 0xFFE1: `A1`, version `08`, battery (u8, percent), address (6 bytes, reversed), name. The press
of such a tag is not in it: it is a slot of the tag with an identity of its own (iBeacon or Eddystone) that
appears when the button is pressed, and is configured as such. Minew, "Beacon Advertisement Frame Format".
"""

from __future__ import annotations

from typing import Final

from gatewayd.core.model import Advertisement, TagReport

NAME: Final = "minew"
IDENTIFIED_BY: Final = ("address",)
SERVICE: Final = "0000ffe1-0000-1000-8000-00805f9b34fb"
HEAD: Final = b"\xa1\x08"
BATTERY: Final = 2
FULL_PCT: Final = 100


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """The battery; None when there is no such frame. `key` is not used."""
    data = advertisement.service_data.get(SERVICE, b"")
    if len(data) <= BATTERY or not data.startswith(HEAD):
        return None
    return TagReport(format=NAME, battery_pct=data[BATTERY] if data[BATTERY] <= FULL_PCT else None)
