"""MQTT 5 on the event loop: the way to a broker, and one session on it."""

from gatewayd.edge.mqtt.line import Line, LinkError, Login, dial, login, tls_context
from gatewayd.edge.mqtt.session import FAILURE, Incoming, Listener, Session, Will

__all__ = [
    "FAILURE",
    "Incoming",
    "Line",
    "LinkError",
    "Listener",
    "Login",
    "Session",
    "Will",
    "dial",
    "login",
    "tls_context",
]
