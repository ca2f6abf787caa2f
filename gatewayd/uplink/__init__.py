"""The only place where outbox, drain and MQTT meet.

`uplink` stores and publishes; `keeper` keeps a session up, dialling through `race`; `wire` makes packets of
messages and sessions of brokers; `inbox` takes what comes in; `condition` says how it all is.
"""

from gatewayd.edge.outbox import Batch
from gatewayd.uplink.inbox import OnCommand, OnRetainedState
from gatewayd.uplink.uplink import OnHop, Uplink

__all__ = ["Batch", "OnCommand", "OnHop", "OnRetainedState", "Uplink"]
