"""ELA Innovation Blue … Touch: a button whose presses are counted in every frame.

Manufacturer data of company 0x0757: `B2`, then u16, little-endian: bit 0 the button is down, bits 1–15 how
often it was pressed (wraps at 32,768); then, as configured, the battery: `F1` percent, or `F2` u16,
little-endian, mV. ELA Innovation, "Bluetooth Low Energy Advertising Frame Specification".

On the air the battery is in the scan response, under the same company; some receivers put the two together.
bluetoothd keeps only the later one. Alone it is not claimed: nothing shows that a press would be heard, and
the tag must not pass for seen.
"""

from __future__ import annotations

from typing import Final

from gatewayd.core.model import Advertisement, Presses, TagEvent, TagReport

NAME: Final = "ela"
IDENTIFIED_BY: Final = ("address",)
COMPANY: Final = 0x0757
TOUCH: Final = 0xB2
STATE: Final = slice(1, 3)
DOWN: Final = 1
PERCENT: Final = 0xF1
MILLIVOLT: Final = 0xF2
FULL_PCT: Final = 100


def decode(advertisement: Advertisement, key: bytes | None = None) -> TagReport | None:
    """The presses, whether the button is down, the battery; None: no such frame. `key` is not used."""
    data = advertisement.manufacturer_data.get(COMPANY, b"")
    if len(data) < STATE.stop or data[0] != TOUCH:
        return None
    state = int.from_bytes(data[STATE], "little")
    battery_pct = battery_mv = None
    kind, value = data[STATE.stop : STATE.stop + 1], data[STATE.stop + 1 :]
    if kind == bytes((PERCENT,)) and value and value[0] <= FULL_PCT:
        battery_pct = value[0]
    elif kind == bytes((MILLIVOLT,)) and len(value) >= 2:  # noqa: PLR2004 - u16
        battery_mv = int.from_bytes(value[:2], "little") or None
    return TagReport(
        format=NAME,
        buttons=(TagEvent.PRESS,),
        presses=Presses(count=state >> 1, now=bool(state & DOWN)),
        battery_pct=battery_pct,
        battery_mv=battery_mv,
    )
