"""bleak alone, with the gateway's scanner settings and a callback that only counts.

`python -m bench.bare_listener COUNTER`; prints true once it scans.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from bench.counter import Counter


async def main(counter: Counter) -> None:
    def heard(_device: BLEDevice, _data: AdvertisementData) -> None:
        counter.add()

    # The adapter as `edge.ble` names it, for bleak 3; bleak 0.22 takes its default, which is the same one.
    async with BleakScanner(heard, bluez={"adapter": "hci0", "filters": {"DuplicateData": True}}):
        print("true", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Counter(Path(sys.argv[1]))))
