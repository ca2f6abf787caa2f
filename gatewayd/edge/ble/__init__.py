"""The radio: a scan that goes on for as long as the gateway runs, and the buttons that must be connected.

`radio.py` scans through bleak and supervises; `bluez.py` is the D-Bus connection of our own with which it
sees what bleak does not tell: which adapters there are, whether ours still discovers, who owns `org.bluez`.
`button.py` keeps GATT buttons connected, each through a connection of `gatt.py`.
"""

from gatewayd.edge.ble.button import Buttons
from gatewayd.edge.ble.radio import Radio, Timing

__all__ = ["Buttons", "Radio", "Timing"]
