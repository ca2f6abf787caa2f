"""The only place where outbox, drain and MQTT meet."""

from gatewayd.edge.outbox import Batch
from gatewayd.uplink.inbox import OnCommand, OnRetainedState
from gatewayd.uplink.uplink import OnHop, Uplink

__all__ = ["Batch", "OnCommand", "OnHop", "OnRetainedState", "Uplink"]
