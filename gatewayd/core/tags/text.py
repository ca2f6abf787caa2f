"""The written forms of what a radio hears: `UUID:HEX`, `ID:HEX`, keys and addresses, as people type them."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

KEY_BYTES: Final = 16  # AES-128
ADDRESS: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
COMPANY_ID: Final = re.compile(r"(0[xX])?[0-9a-fA-F]{1,4}")
SHORT_UUID: Final = re.compile(r"(0[xX])?([0-9a-fA-F]{4}|[0-9a-fA-F]{8})")
# A 16- or 32-bit UUID stands for one of these (Bluetooth Core 5.4, Vol 3, Part B, section 2.5.1).
BASE_UUID: Final = "{:0>8}-0000-1000-8000-00805f9b34fb"


def parse_address(text: str) -> str:
    """`c4:11:22:33:44:55` → upper case. Raises ValueError."""
    address = text.strip().upper().replace("-", ":")
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"expected an address such as C4:11:22:33:44:55, got {text!r}")
    return address


def parse_key(text: str) -> bytes:
    """32 hexadecimal digits → 16 bytes. Raises ValueError, which never quotes the key."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        raise ValueError("expected 32 hexadecimal digits, got other characters, or a digit missing") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected {2 * KEY_BYTES} hexadecimal digits, got {2 * len(key)}")
    return key


def parse_service_data(text: str) -> tuple[str, bytes]:
    """`FCD2:44000561643A01` → (128-bit UUID in lower case, bytes). Raises ValueError."""
    name, data = _split(text, "UUID:HEX, such as FCD2:44000561643A01")
    return parse_uuid(name), data


def parse_uuid(text: str) -> str:
    """A 16-, 32- or 128-bit UUID → the 128-bit one in lower case. Raises ValueError."""
    if short := SHORT_UUID.fullmatch(text.strip()):
        return BASE_UUID.format(short[2].lower())
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(f"expected a UUID of 16, 32 or 128 bits, got {text!r}") from None


def parse_manufacturer_data(text: str) -> tuple[int, bytes]:
    """`004C:0215…` → (company id, bytes); the id is hexadecimal. Raises ValueError."""
    name, data = _split(text, "ID:HEX, such as 004C:0215…")
    if not COMPANY_ID.fullmatch(name.strip()):
        raise ValueError(f"expected a company id of up to 4 hexadecimal digits, got {name!r}")
    return int(name, 16), data


def _split(text: str, form: str) -> tuple[str, bytes]:
    name, colon, digits = text.rpartition(":")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise ValueError(f"expected {form}, got {text!r}") from None
    if not colon:
        raise ValueError(f"expected {form}, got {text!r}")
    return name, data
