"""BTHome v2 (https://bthome.io/format), plain and encrypted: Shelly BLU Button1, Tough, RC Button 4 and kin.

Service data 0xFCD2: device information, the tag's own address where bit 1 says so (6 bytes, reversed, in the
clear), objects. Encrypted, the objects are followed by a counter (u32, little-endian, in the clear) and a
4-byte MIC: AES-128-CCM without associated data, nonce = address ‖ D2 FC ‖ device information ‖ counter
(https://bthome.io/encryption). The address in the nonce is the one in the frame where there is one.

Objects carry no length: an unknown one ends the reading, as does a truncated one; what came before stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gatewayd.core.model import Advertisement, Auth, TagEvent, TagReport

NAME: Final = "bthome"
IDENTIFIED_BY: Final = ("address",)
SERVICE: Final = "0000fcd2-0000-1000-8000-00805f9b34fb"

# Device information: bit 0 encrypted, bit 1 address included, bit 2 trigger-based, bits 5–7 version.
ENCRYPTED: Final = 0x01
ADDRESS_INCLUDED: Final = 0x02
VERSION_SHIFT: Final = 5
VERSION: Final = 2

ADDRESS_BYTES: Final = 6
COUNTER_BYTES: Final = 4
MIC_BYTES: Final = 4
# The AES key schedules kept ready: more tags than a gateway is ever given, so none is made twice.
CIPHERS: Final = 256

PACKET_ID: Final = 0x00
BATTERY: Final = 0x01
BUTTON: Final = 0x3A
DIMMER: Final = 0x3C
# Objects whose length is the byte after their id.
TEXT_AND_RAW: Final = frozenset({0x53, 0x54})

# A value that is not here is still a button that was used: UNKNOWN, so that it is not lost. FE is what older
# firmware sends for 80. A release after a hold (81) counts as the hold: the frame that began it may not have
# been heard.
EVENTS: Final[Mapping[int, TagEvent]] = {
    0x00: TagEvent.NONE,
    0x01: TagEvent.PRESS,
    0x02: TagEvent.DOUBLE,
    0x03: TagEvent.TRIPLE,
    0x04: TagEvent.LONG,
    0x05: TagEvent.LONG_DOUBLE,
    0x06: TagEvent.LONG_TRIPLE,
    0x80: TagEvent.HOLD,
    0x81: TagEvent.HOLD,
    0xFE: TagEvent.HOLD,
}

# Bytes of every object of fixed length in the specification, by object id.
LENGTHS: Final[Mapping[int, int]] = {
    **dict.fromkeys((0x00, 0x01, 0x09, *range(0x0F, 0x12), *range(0x15, 0x30), 0x3A, 0x46), 1),
    **dict.fromkeys((0x57, 0x58, 0x59, 0x60, 0x64, 0x65), 1),
    **dict.fromkeys((0x02, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x0D, 0x0E, 0x12, 0x13, 0x14), 2),
    **dict.fromkeys((0x3C, 0x3D, 0x3F, 0x40, 0x41, 0x43, 0x44, 0x45, 0x47, 0x48, 0x49, 0x4A), 2),
    **dict.fromkeys((0x51, 0x52, 0x56, 0x5A, 0x5D, 0x5E, 0x5F, 0x61, 0xF0), 2),
    **dict.fromkeys((0x04, 0x05, 0x0A, 0x0B, 0x42, 0x4B, 0xF2), 3),
    **dict.fromkeys((0x3E, 0x4C, 0x4D, 0x4E, 0x4F, 0x50, 0x55, 0x5B, 0x5C, 0x62, 0x63, 0xF1), 4),
}


class _Scale(NamedTuple):
    name: str
    signed: bool
    divisor: int


# What a tag may measure beside its button; every other object is passed over.
MEASUREMENTS: Final[Mapping[int, _Scale]] = {
    0x02: _Scale("temperature_c", True, 100),
    0x03: _Scale("humidity_pct", False, 100),
    0x0C: _Scale("voltage_v", False, 1000),
    0x2E: _Scale("humidity_pct", False, 1),
    0x45: _Scale("temperature_c", True, 10),
    0x4A: _Scale("voltage_v", False, 10),
    0x57: _Scale("temperature_c", True, 1),
}
FULL_PCT: Final = 100
ROTATED_LEFT: Final = 0x01


class _Objects(NamedTuple):
    buttons: tuple[TagEvent, ...]
    packet_id: int | None
    battery_pct: int | None
    measurements: dict[str, float]


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """What a BTHome v2 frame says; None when there is none.

    A frame that is encrypted and cannot be read is claimed all the same: its counter is in the clear, `auth`
    is NONE without a `key` (16 bytes) and FAILED with one, and `raw` tells it from the next.
    """
    data = advertisement.service_data.get(SERVICE)
    if not data or data[0] >> VERSION_SHIFT != VERSION:
        return None
    body = data[1 + ADDRESS_BYTES :] if data[0] & ADDRESS_INCLUDED else data[1:]
    if not data[0] & ENCRYPTED:
        return _report(_read(body))
    counter = None
    if len(body) >= COUNTER_BYTES + MIC_BYTES:
        counter = int.from_bytes(body[-COUNTER_BYTES - MIC_BYTES : -MIC_BYTES], "little")
    clear = None if key is None or counter is None else _decrypt(advertisement.address, data, body, key)
    if clear is None:
        auth = Auth.NONE if key is None else Auth.FAILED
        return TagReport(format=NAME, counter=counter, encrypted=True, auth=auth, raw=data)
    return _report(_read(clear), counter)


def _report(objects: _Objects, counter: int | None = None) -> TagReport:
    proven = counter is not None
    return TagReport(
        format=NAME,
        buttons=objects.buttons,
        packet_id=objects.packet_id,
        counter=counter,
        encrypted=proven,
        authenticated=proven,
        auth=Auth.OK if proven else Auth.NONE,
        battery_pct=objects.battery_pct,
        measurements=objects.measurements,
    )


@lru_cache(maxsize=CIPHERS)
def _cipher(key: bytes) -> AESCCM:
    return AESCCM(key, tag_length=MIC_BYTES)


def _decrypt(address: str, data: bytes, body: bytes, key: bytes) -> bytes | None:
    """The objects in clear; None when the proof fails, or key or address cannot even be tried."""
    try:
        included = data[0] & ADDRESS_INCLUDED
        own = data[ADDRESS_BYTES:0:-1] if included else bytes.fromhex(address.replace(":", ""))
        nonce = own + b"\xd2\xfc" + data[:1] + body[-COUNTER_BYTES - MIC_BYTES : -MIC_BYTES]
        return _cipher(key).decrypt(nonce, body[: -COUNTER_BYTES - MIC_BYTES] + body[-MIC_BYTES:], None)
    except (InvalidTag, ValueError):
        return None


def _read(body: bytes) -> _Objects:
    """The objects up to the first unknown or truncated one."""
    buttons: list[TagEvent] = []
    packet_id = battery_pct = None
    measurements: dict[str, float] = {}
    at, end = 0, len(body)
    while at < end:
        object_id = body[at]
        at += 1
        length = 1 + body[at] if object_id in TEXT_AND_RAW and at < end else LENGTHS.get(object_id)
        if length is None or at + length > end:
            break
        value = body[at : at + length]
        at += length
        if object_id == BUTTON:
            buttons.append(EVENTS.get(value[0], TagEvent.UNKNOWN))
        elif object_id == PACKET_ID:
            packet_id = value[0]
        elif object_id == BATTERY:
            battery_pct = value[0] if value[0] <= FULL_PCT else None
        elif object_id == DIMMER:
            measurements["dimmer_steps"] = -value[1] if value[0] == ROTATED_LEFT else value[1]
        elif scale := MEASUREMENTS.get(object_id):
            measurements[scale.name] = int.from_bytes(value, "little", signed=scale.signed) / scale.divisor
    return _Objects(tuple(buttons), packet_id, battery_pct, measurements)
