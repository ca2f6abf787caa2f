"""The radio: a scan that goes on for as long as the gateway runs, and the buttons that must be connected.

`radio.py` is all adapters together; `ear.py` scans with one, through bleak, and supervises; `remedies.py`
takes the steps of recovery that core/recovery decides; `bluez.py` is the D-Bus connection of our own with
which they see what bleak does not tell: which adapters there are, whether ours discovers, and who owns
`org.bluez`. `button.py` keeps GATT buttons connected, each through a connection of `gatt.py`.
"""

from gatewayd.edge.ble.button import Buttons
from gatewayd.edge.ble.ear import Timing
from gatewayd.edge.ble.radio import Radio
from gatewayd.edge.ble.remedies import Remedies, runtime_folder

__all__ = ["Buttons", "Radio", "Remedies", "Timing", "runtime_folder"]
