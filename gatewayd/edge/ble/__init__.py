"""The radio: a scan that goes on for as long as the gateway runs.

`radio.py` scans through bleak and supervises; `bluez.py` is the D-Bus connection of our own with which it
sees what bleak does not tell: which adapters there are, whether ours still discovers, who owns `org.bluez`.
"""

from gatewayd.edge.ble.radio import Radio, Timing

__all__ = ["Radio", "Timing"]
