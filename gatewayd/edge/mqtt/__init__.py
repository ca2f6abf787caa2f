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
from gatewayd.edge.mqtt.session import Incoming, Listener, RefusedError, Session, Will
from gatewayd.edge.mqtt.terms import FAILURE, NO_RETAIN, STUMBLED, Terms, reason_text

__all__ = [
    "FAILURE",
    "NO_RETAIN",
    "STUMBLED",
    "Dates",
    "Incoming",
    "Line",
    "LinkError",
    "Listener",
    "Login",
    "RefusedError",
    "Session",
    "Terms",
    "Will",
    "dial",
    "how_dates_are_judged",
    "judge_dates",
    "login",
    "reason_text",
    "tls_context",
]
