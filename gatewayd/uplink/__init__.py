"""The only place where outbox, drain and MQTT meet."""

from gatewayd.edge.outbox import Batch
from gatewayd.uplink.uplink import OnCommand, OnHop, OnRetainedState, Uplink

__all__ = ["Batch", "OnCommand", "OnHop", "OnRetainedState", "Uplink"]
