"""Which assigned tag an advertisement is of, if any. Most are of none, which must cost next to nothing.

A tag is known by its address, or by the whole identity it advertises (iBeacon, Eddystone), whatever address
it has then. Identities are compared as bytes of the frame, so nobody else's frame is decoded. Eddystone
telemetry carries no identity: it is of the tag that has an address beside its identity, and nothing else that
this address sends is. One device may be two tags: what it says at rest by its address, its slot of a press by
the identity, which counts first. One tag may have two identities: when it is pressed, and at rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from gatewayd.core.model import Advertisement, Tag
from gatewayd.core.tags import eddystone, ibeacon

NUMBER_BYTES: Final = 2  # major, minor


class Roster:
    """The tags assigned to this gateway. Immutable; a new configuration makes a new one."""

    def __init__(self, tags: Iterable[Tag]) -> None:
        """`tags` as the configuration has judged them: an identity is whole and fits a frame."""
        self._addresses: dict[str, Tag] = {}
        self._ibeacons: dict[bytes, Tag] = {}
        self._eddystones: dict[bytes, Tag] = {}
        for tag in tags:
            if tag.address is not None:
                self._addresses[tag.address] = tag
            for identity in (tag.identity, tag.resting):
                if identity is not None and ibeacon.IDENTIFIED_BY[0] in identity:
                    self._ibeacons[_ibeacon(identity)] = tag
                elif identity is not None:
                    self._eddystones[_eddystone(identity)] = tag

    def find(self, advertisement: Advertisement) -> Tag | None:
        """The tag that sent `advertisement`; None when it is not one of ours."""
        return self.sender(advertisement.address, advertisement.service_data, advertisement.manufacturer_data)

    def sender(
        self, address: str, service_data: Mapping[str, bytes], manufacturer_data: Mapping[int, bytes]
    ) -> Tag | None:
        """The same of its parts: most of what is heard need not be made into an `Advertisement` at all."""
        tag = None
        if self._ibeacons and manufacturer_data:
            data = manufacturer_data.get(ibeacon.COMPANY, b"")
            if data.startswith(ibeacon.HEAD):
                tag = self._ibeacons.get(data[len(ibeacon.HEAD) : ibeacon.MINOR_END])
        if tag is None and self._eddystones and service_data:
            data = service_data.get(eddystone.SERVICE, b"")
            if data.startswith(eddystone.UID_HEAD):
                tag = self._eddystones.get(data[eddystone.POWER_END : eddystone.INSTANCE_END])
        if tag is None and (tag := self._addresses.get(address)) and tag.identity is not None:
            telemetry = service_data.get(eddystone.SERVICE, b"").startswith(eddystone.TLM_HEAD)
            return tag if telemetry else None
        return tag


def _ibeacon(identity: Mapping[str, str | int]) -> bytes:
    numbers = (int(identity[name]).to_bytes(NUMBER_BYTES, "big") for name in ("major", "minor"))
    return UUID(str(identity["uuid"])).bytes + b"".join(numbers)


def _eddystone(identity: Mapping[str, str | int]) -> bytes:
    return bytes.fromhex(f"{identity['namespace']}{identity['instance']}")
