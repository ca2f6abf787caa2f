"""A simulated tag: what a BTHome v2 button sends, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

BTHOME: Final = "0000fcd2-0000-1000-8000-00805f9b34fb"
_PLAIN: Final = 0x44  # BTHome version 2, trigger based
_ENCRYPTED: Final = 0x45
_MIC_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One advertisement on the air, as a radio takes it apart."""

    address: str
    service_data: Mapping[str, bytes] = field(default_factory=dict)  # by 128-bit UUID, lower case
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    name: str | None = None
    flags: int | None = 0x06  # AD type 0x01; LE general discoverable, no BR/EDR. None: the tag sends none
    rssi_dbm: int = -60


class SimulatedTag:
    """A panic tag of the Shelly BLU Button kind (BTHome v2, https://bthome.io/format).

    Each new content takes the next packet id (0 to 255, then 0 again) and, with a `key` (16 bytes), the
    next anti-replay counter; the copies of a burst are one and the same frame.
    """

    def __init__(
        self,
        address: str,
        *,
        key: bytes | None = None,
        packet_id: int = 0,
        counter: int = 0,
        battery_pct: int = 100,
    ) -> None:
        self.address = address.upper()
        self.packet_id = packet_id
        self.counter = counter
        self.battery_pct = battery_pct
        self._cipher = AESCCM(key, tag_length=_MIC_BYTES) if key else None

    def press(self, event: int = 0x01) -> Frame:
        """The frame of an activation; `event` is BTHome's button event: 01 press, 02 double, 04 long …"""
        return self._frame(bytes([0x3A, event]))

    def heartbeat(self) -> Frame:
        """What the tag sends while nobody presses: battery, and a button that says "none"."""
        return self._frame(bytes([0x3A, 0x00]))

    def _frame(self, button: bytes) -> Frame:
        self.packet_id = (self.packet_id + 1) % 256
        content = bytes([0x00, self.packet_id, 0x01, self.battery_pct]) + button
        payload = self._encrypted(self._cipher, content) if self._cipher else bytes([_PLAIN]) + content
        return Frame(address=self.address, service_data={BTHOME: payload})

    def _encrypted(self, cipher: AESCCM, content: bytes) -> bytes:
        """BTHome v2 encryption: AES-128-CCM over the objects, nonce = address ‖ UUID ‖ info ‖ counter."""
        self.counter += 1
        counter = self.counter.to_bytes(4, "little")
        address = bytes.fromhex(self.address.replace(":", ""))
        sealed = cipher.encrypt(address + b"\xd2\xfc" + bytes([_ENCRYPTED]) + counter, content, None)
        return bytes([_ENCRYPTED]) + sealed[:-_MIC_BYTES] + counter + sealed[-_MIC_BYTES:]
