"""Eddystone UID and TLM: an identity that appears, and the tag's battery.

Service data 0xFEAA (https://github.com/google/eddystone):
UID `00`, power at 0 m (i8, dBm), namespace (10 bytes), instance (6), reserved (2, sometimes missing);
TLM `20 00`, battery (u16, mV, 0: not supported), temperature (signed 8.8 °C, 0x8000: not supported), count of
advertisements (u32), time since power-on (u32, 0.1 s), all big-endian. An encrypted TLM (`20 01`), URL and
EID frames say nothing a tag is known by and are not claimed. As with iBeacon, `presence` judges the press.
"""

from __future__ import annotations

import struct
from typing import Final

from gatewayd.core.model import Advertisement, TagReport

NAME: Final = "eddystone"
IDENTIFIED_BY: Final = ("namespace", "instance")
SERVICE: Final = "0000feaa-0000-1000-8000-00805f9b34fb"
UID_HEAD: Final = b"\x00"
TLM_HEAD: Final = b"\x20\x00"
# Where each field of a UID frame ends.
POWER_END: Final = 2
NAMESPACE_END: Final = 12
INSTANCE_END: Final = 18

TLM: Final = struct.Struct(">HhII")
NO_BATTERY_MV: Final = 0
NO_TEMPERATURE: Final = -0x8000
TEMPERATURE_PER_C: Final = 256
TIME_PER_S: Final = 10


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """The identity, or the telemetry, on the air; None when there is neither. `key` is not used."""
    data = advertisement.service_data.get(SERVICE)
    if data is None:
        return None
    if data.startswith(UID_HEAD) and len(data) >= INSTANCE_END:
        return TagReport(
            format=NAME,
            identity={
                "namespace": data[POWER_END:NAMESPACE_END].hex(),
                "instance": data[NAMESPACE_END:INSTANCE_END].hex(),
            },
            measurements={"power_dbm": int.from_bytes(data[1:POWER_END], "big", signed=True)},
        )
    if data.startswith(TLM_HEAD) and len(data) >= len(TLM_HEAD) + TLM.size:
        battery_mv, temperature, count, time = TLM.unpack_from(data, len(TLM_HEAD))
        measurements: dict[str, float] = {"adv_count": count, "uptime_s": time / TIME_PER_S}
        if temperature != NO_TEMPERATURE:
            measurements["temperature_c"] = temperature / TEMPERATURE_PER_C
        return TagReport(
            format=NAME,
            battery_mv=None if battery_mv == NO_BATTERY_MV else battery_mv,
            measurements=measurements,
        )
    return None
