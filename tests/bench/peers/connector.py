"""A connector for ThingsBoard IoT Gateway: it is fed over a socket and hands each message on as telemetry.

It runs inside ThingsBoard's process, with ThingsBoard's Python, so it imports nothing of this project. A
message is accepted when `send_to_storage` says so, which is all that a connector is told.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from thingsboard_gateway.connectors.connector import Connector
from thingsboard_gateway.gateway.entities.converted_data import ConvertedData
from thingsboard_gateway.gateway.entities.datapoint_key import DatapointKey
from thingsboard_gateway.gateway.entities.telemetry_entry import TelemetryEntry


class BenchConnector(Connector, threading.Thread):  # type: ignore[misc]  # ThingsBoard's have no types
    """Serves one feed on the port of its configuration."""

    def __init__(self, gateway: Any, config: dict[str, Any], connector_type: str) -> None:  # as above
        super().__init__(daemon=True)
        self._gateway = gateway
        self._config = config
        self._type = connector_type
        self._open = False
        self._at_ms = 0
        self.name = config.get("name", "bench")

    def open(self) -> None:
        """Begin."""
        self._open = True
        self.start()

    def run(self) -> None:
        """Take lines `MARK SIZE`, answer each that was accepted with `MARK`."""
        with socket.create_server(("127.0.0.1", self._config["port"])) as server:
            while self._open:
                connection, _ = server.accept()
                with connection, connection.makefile("r") as lines:
                    for line in lines:
                        mark, size = line.split()
                        if self._take(mark, int(size)):
                            connection.sendall(f"{mark}\n".encode())

    def _take(self, mark: str, size: int) -> bool:
        # Telemetry is text: sound is a third longer, as base64 would make it.
        text = f"bench:{mark};".ljust(size * 4 // 3 if mark.startswith("s") else size, "x")
        # Of one device and millisecond it keeps one value: each message has a millisecond of its own.
        self._at_ms = max(self._at_ms + 1, int(time.time() * 1000))
        data = ConvertedData(device_name="bench", device_type="bench")
        data.add_to_telemetry(TelemetryEntry({DatapointKey("content"): text}, self._at_ms))
        status = self._gateway.send_to_storage(self.get_name(), self.get_id(), data)
        return bool(status.name == "SUCCESS")

    def close(self) -> None:
        """End with the process."""
        self._open = False

    def get_id(self) -> str:
        return str(self._config["id"])

    def get_name(self) -> str:
        return str(self.name)

    def get_type(self) -> str:
        return self._type

    def get_config(self) -> dict[str, Any]:
        return self._config

    def is_connected(self) -> bool:
        return self._open

    def is_stopped(self) -> bool:
        return not self._open

    def on_attributes_update(self, content: object) -> None:
        """Nothing is set from afar."""

    def server_side_rpc_handler(self, content: object) -> None:
        """Nothing is asked from afar."""
