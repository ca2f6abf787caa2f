"""gatewayd: relays care workers' panic alarms, position and sound from a vehicle or hub over MQTT."""

from typing import Final

__version__: Final = "0.1.0"
