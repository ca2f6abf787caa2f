"""The ports that the simulated surroundings listen on are nobody else's."""

from __future__ import annotations

import socket

import pytest

from gatewayd.sim.broker import LOOPBACK, held_port


class Owner:
    """Whoever needs a port."""


def test_a_held_port_goes_to_nobody_else_while_its_owner_lives() -> None:
    """No other program gets it, its owner listens on it when it likes, and afterwards it is free again."""
    owner = Owner()
    port = held_port(owner)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, port))
    with socket.create_server((LOOPBACK, port)):  # with SO_REUSEADDR, as mosquitto and asyncio listen
        socket.create_connection((LOOPBACK, port)).close()
    del owner
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed lingers
        other.bind((LOOPBACK, port))


def test_nobody_listens_on_a_held_port_before_its_owner() -> None:
    """Who connects is refused, as with a broker that is not there yet."""
    owner = Owner()
    with socket.socket() as early, pytest.raises(ConnectionRefusedError):
        early.connect((LOOPBACK, held_port(owner)))
