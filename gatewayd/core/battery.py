"""How full a tag's battery is: ok, low or critical. Pure; the one place that decides, for ops and for visits.

Rules:
- What the tag itself says in percent counts. It knows its battery; a voltage is judged only without it.
- A voltage is judged as that of a 3 V lithium coin cell (CR2032, CR2450, CR2477), which these tags have.
  What no such cell can have is another battery, of which nothing is claimed.
- A level by voltage gets worse at once and better only `MARGIN_MV` above where it did: the cell sags whenever
  its tag sends, and what sags below is what a press will be sent with.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

LOW_PCT: Final = 20
CRITICAL_PCT: Final = 10

# A CR2032 is empty at 2.0 V (rated so by Energizer, "Lithium Coin Handbook and Application Manual", 12006-A),
# and most of its charge is gone far above. The usual firmware maps 3.0 V to 100 %, 2.9 V to 42, 2.74 V to 18,
# 2.44 V to 6 and 2.1 V to 0, straight between these (Nordic Semiconductor, `lib_battery_level.c` of
# ble-sdk-arduino, in the nRF5 SDK `battery_level_in_percent`), "by no means accurate": 20 % is 2.753 V by it,
# 10 % is 2.540 V. Rounded up; a cold cell reads lower, and is worse.
LOW_MV: Final = 2_760
CRITICAL_MV: Final = 2_540
# A radio's 5 mA through the 20 Ω of a cell (Duracell's data sheet: 18 to 20 Ω, 30 when two thirds are used).
MARGIN_MV: Final = 100
# A new cell stands, without load, some tenths above its nominal 3.0 V; a lithium-ion cell in use above this.
COIN_MV: Final = range(1, 3_401)


class Charge(StrEnum):
    """How full a battery is."""

    OK = "ok"
    LOW = "low"
    CRITICAL = "critical"


def charge(pct: int | None, millivolt: int | None, before: Charge | None) -> Charge | None:
    """How full a battery is by what its tag said, and was so `before`; None where that is not known."""
    if pct is not None:
        return _charge(pct, CRITICAL_PCT, LOW_PCT)
    if millivolt is None or millivolt not in COIN_MV:
        return None
    critical_mv = CRITICAL_MV + (MARGIN_MV if before is Charge.CRITICAL else 0)
    low_mv = LOW_MV + (MARGIN_MV if before in {Charge.CRITICAL, Charge.LOW} else 0)
    return _charge(millivolt, critical_mv, low_mv)


def _charge(value: int, critical: int, low: int) -> Charge:
    if value <= critical:
        return Charge.CRITICAL
    return Charge.LOW if value <= low else Charge.OK
