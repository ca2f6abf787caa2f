"""The daemon as it is, but that every advertisement which reaches its listener is counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from bench.counter import FILE, Counter
from gatewayd import cli, gateway
from gatewayd.listener import Listener

_COUNTER = Counter(Path(os.environ[FILE]))


class CountedListener(Listener):
    def concerns(
        self,
        address: str,
        service_data: Mapping[str, bytes],
        manufacturer_data: Mapping[int, bytes],
        rssi_dbm: int | None,
    ) -> bool:
        _COUNTER.add()
        return super().concerns(address, service_data, manufacturer_data, rssi_dbm)


if __name__ == "__main__":
    with patch.object(gateway, "Listener", CountedListener):
        sys.exit(cli.main())
