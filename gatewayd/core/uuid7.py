"""Ids: time-ordered UUIDs of version 7 (RFC 9562, section 5.7), fresh or derived.

Whoever calls supplies time and randomness; nothing is drawn here.
"""

from hashlib import sha256
from typing import Final
from uuid import UUID

RANDOM_BYTES: Final = 10  # rand_a (12 bits) and rand_b (62 bits) are 74 bits: ten bytes, six bits unused
_LATEST_MS: Final = (1 << 48) - 1  # unix_ts_ms has 48 bits; it runs out in the year 10889
_VERSION: Final = 0x7
_VARIANT: Final = 0b10


def uuid7(unix_ms: int, random: bytes) -> str:
    """Return a UUIDv7 of a wall time and ten random bytes.

    `unix_ms` is milliseconds since 1970 UTC. An absurd one (a clock that was never set) is clamped into
    the 48 bits there are: the id stays unique by its randomness, and an alarm never fails for its clock.
    ValueError unless `random` has exactly `RANDOM_BYTES`.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"expected {RANDOM_BYTES} random bytes, got {len(random)}")
    bits = int.from_bytes(random, "big")
    rand_a = bits >> 62 & 0xFFF
    rand_b = bits & (1 << 62) - 1
    time = min(max(unix_ms, 0), _LATEST_MS)
    return str(UUID(int=time << 80 | _VERSION << 76 | rand_a << 64 | _VARIANT << 62 | rand_b))


def derive(parent: str, name: str) -> str:
    """Return the UUIDv7 that `name` has below `parent`: the same for the same two, whoever asks and when.

    It carries the parent's time, and a hash where a fresh one has randomness. So what is made again after a
    kill is made under the same id. ValueError when `parent` is not a UUID.
    """
    seed = sha256(f"{parent}\0{name}".encode()).digest()
    return uuid7(UUID(parent).int >> 80, seed[:RANDOM_BYTES])


def is_uuid(text: str) -> bool:
    """Say whether `text` is a UUID in its usual form: 36 characters, lower case, with hyphens."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
