"""Frames that are nearly right: one of each family, with bytes changed, cut off, put in or doubled."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from gatewayd.core.model import Advertisement
from gatewayd.core.tags import bthome, eddystone, ela, ibeacon, kontakt, minew, moko

ADDRESS: Final = "54:48:E6:8F:80:A5"
KEY: Final = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
LONGEST: Final = 255  # of an advertisement's data

# Family, service or company, and a frame as its maker describes it; the sealed one is BTHome's own example.
FRAMES: Final[tuple[tuple[str, str | int, bytes], ...]] = tuple(
    (name, where, bytes.fromhex(frame))
    for name, where, frame in (
        (bthome.NAME, bthome.SERVICE, "44 0005 0164 3A01"),
        (bthome.NAME, bthome.SERVICE, "44 0005 0164 3A00 3A01 3A00 3A80"),
        (bthome.NAME, bthome.SERVICE, "40 02CA09 03BF13 530568656C6C6F 3C0103"),
        (bthome.NAME, bthome.SERVICE, "41 A47266C95F73 00112233 78237214"),
        (ibeacon.NAME, ibeacon.COMPANY, "0215 F7826DA64FA24E988024BC5B71E0893E 0001 0201 C5"),
        (eddystone.NAME, eddystone.SERVICE, "00E7 00112233445566778899 AABBCCDDEEFF 0000"),
        (eddystone.NAME, eddystone.SERVICE, "2000 0BB8 1500 00000102 00000A00"),
        (moko.NAME, moko.SERVICE, "20 02 0107 C41122334455"),
        (moko.NAME, moko.RESPONSE, "00 00 0010 0001 0002 03E8 0190 BA 0BB8 C41122334455"),
        (ela.NAME, ela.COMPANY, "B2 0300 F2B80B"),
        (kontakt.NAME, kontakt.SERVICE, "03 030D0500 0411070500 020A64"),
        (minew.NAME, minew.SERVICE, "A108 64 A5808FE64854 504C5553"),
    )
)


def _changed(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes((dice.randrange(256),)) + data[at + 1 :]


def _flipped(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << dice.randrange(8),)) + data[at + 1 :]


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


def _filled(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.randbytes(dice.randrange(1, 20)) + data[at:]


def _doubled(data: bytes, dice: random.Random) -> bytes:
    return data + data[dice.randrange(len(data)) :] * dice.randrange(1, 4)


MUTATIONS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    _changed,
    _flipped,
    _cut,
    _filled,
    _doubled,
)


def mutated(dice: random.Random) -> tuple[str, Advertisement, bytes | None]:
    """The family, the advertisement, and the key to read it with; of one to three mutations."""
    name, where, data = dice.choice(FRAMES)
    for _ in range(dice.randrange(1, 4)):
        if data:
            data = dice.choice(MUTATIONS)(data, dice)[:LONGEST]
    return name, heard(where, data), KEY if dice.random() < 0.5 else None


def heard(where: str | int, data: bytes) -> Advertisement:
    """An advertisement with these service or manufacturer data."""
    return Advertisement(
        address=ADDRESS,
        heard_s=0.0,
        service_data={where: data} if isinstance(where, str) else {},
        manufacturer_data={where: data} if isinstance(where, int) else {},
    )
