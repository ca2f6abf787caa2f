"""GATT buttons (iTAG and kin): a tag that says nothing on the air, and tells a press over a connection.

Service FFE0, characteristic FFE1: one notification for each press, `01`. Immediate Alert (1802), Alert Level
(2A06): `01` beeps, `00` ends it (Bluetooth SIG, Immediate Alert Service 1.0). Link Loss (1803), Alert Level
(2A06): `00` keeps it from beeping when the connection is lost (Link Loss Service 1.0). Battery (180F, 2A19):
percent (Battery Service 1.0). The button's own service is its makers' custom, published nowhere.

No bonding: whoever is near may connect, and then nobody else hears it. A connection delivers a notification
once, so each is a press; one that was not delivered is gone for good.
"""

from __future__ import annotations

from typing import Final

from gatewayd.core.model import Advertisement, TagEvent, TagReport
from gatewayd.core.tags.text import parse_uuid

NAME: Final = "itag"
IDENTIFIED_BY: Final = ("address",)
# (service, characteristic): 2A06 is in two services of the same tag.
BUTTON: Final = (parse_uuid("FFE0"), parse_uuid("FFE1"))
ALERT: Final = (parse_uuid("1802"), parse_uuid("2A06"))
LINK_LOSS: Final = (parse_uuid("1803"), parse_uuid("2A06"))
BATTERY: Final = (parse_uuid("180F"), parse_uuid("2A19"))
BEEP: Final = b"\x01"
QUIET: Final = b"\x00"
FULL_PCT: Final = 100


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """None, always: while it advertises it is not connected, so that no press of it would be heard."""
    return None


def notified(value: bytes) -> TagReport:
    """What a notification of the button says: a press, unless it is all zero or empty (let go)."""
    return TagReport(format=NAME, buttons=(TagEvent.PRESS if any(value) else TagEvent.NONE,), once=True)


def present(battery: bytes | None = None) -> TagReport:
    """It is connected; `battery`: the value of its battery level where that was read."""
    pct = battery[0] if battery else None
    return TagReport(format=NAME, battery_pct=pct if pct is not None and pct <= FULL_PCT else None)
