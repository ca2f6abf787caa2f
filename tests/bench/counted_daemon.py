"""The daemon as it is, but that every advertisement which reaches its gateway is counted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import patch

from bench.counter import FILE, Counter
from gatewayd import app, cli
from gatewayd.core.model import Advertisement
from gatewayd.gateway import Gateway

_COUNTER = Counter(Path(os.environ[FILE]))


class CountedGateway(Gateway):
    def on_advertisement(self, advertisement: Advertisement) -> None:
        _COUNTER.add()
        super().on_advertisement(advertisement)


if __name__ == "__main__":
    with patch.object(app, "Gateway", CountedGateway):
        sys.exit(cli.main())
