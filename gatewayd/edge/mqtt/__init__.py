"""MQTT 5 on the event loop: the way to a broker, and one session on it."""

from gatewayd.edge.mqtt.line import (
    Dates,
    Line,
    LinkError,
    Login,
    dial,
    how_dates_are_judged,
    judge_dates,
    login,
    tls_context,
)
from gatewayd.edge.mqtt.session import FAILURE, Incoming, Listener, Session, Will

__all__ = [
    "FAILURE",
    "Dates",
    "Incoming",
    "Line",
    "LinkError",
    "Listener",
    "Login",
    "Session",
    "Will",
    "dial",
    "how_dates_are_judged",
    "judge_dates",
    "login",
    "tls_context",
]
