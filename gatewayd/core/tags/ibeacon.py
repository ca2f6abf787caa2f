"""iBeacon: an identity that appears (Kontakt, KKM, Blue Charm, Minew, Feasycom).

Manufacturer data of company 0x004C: `02 15`, UUID (16 bytes), major and minor (u16, big-endian), measured
power at 1 m (i8, dBm). Apple, "Proximity Beacon Specification", release R1. There is no button in the frame:
that the identity is on the air is the press, which `presence` judges.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from gatewayd.core.model import Advertisement, TagReport

NAME: Final = "ibeacon"
IDENTIFIED_BY: Final = ("uuid", "major", "minor")
COMPANY: Final = 0x004C
HEAD: Final = b"\x02\x15"
# Where each field ends in the manufacturer data.
UUID_END: Final = 18
MAJOR_END: Final = 20
MINOR_END: Final = 22
FRAME_BYTES: Final = 23


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """The identity on the air; None when there is no iBeacon frame. `key` is not used."""
    data = advertisement.manufacturer_data.get(COMPANY)
    if data is None or len(data) < FRAME_BYTES or not data.startswith(HEAD):
        return None
    return TagReport(
        format=NAME,
        identity={
            "uuid": str(UUID(bytes=data[len(HEAD) : UUID_END])),
            "major": int.from_bytes(data[UUID_END:MAJOR_END], "big"),
            "minor": int.from_bytes(data[MAJOR_END:MINOR_END], "big"),
        },
        measurements={"power_dbm": int.from_bytes(data[MINOR_END:FRAME_BYTES], "big", signed=True)},
    )
