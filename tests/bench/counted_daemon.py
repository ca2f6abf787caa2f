"""The daemon as it is, but that every advertisement which reaches its gateway is counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from bench.counter import FILE, Counter
from gatewayd import app, cli
from gatewayd.gateway import Gateway

_COUNTER = Counter(Path(os.environ[FILE]))


class CountedGateway(Gateway):
    def concerns(
        self, address: str, service_data: Mapping[str, bytes], manufacturer_data: Mapping[int, bytes]
    ) -> bool:
        _COUNTER.add()
        return super().concerns(address, service_data, manufacturer_data)


if __name__ == "__main__":
    with patch.object(app, "Gateway", CountedGateway):
        sys.exit(cli.main())
