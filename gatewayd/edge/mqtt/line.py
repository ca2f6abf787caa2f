"""The way to a broker, before MQTT: credentials, TLS, name, socket."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.credentials import CredentialError, credential_path, read_credential
from gatewayd.config.model import Broker, Mqtt

logger = logging.getLogger(__name__)

# X509_V_FLAG_NO_CHECK_TIME (OpenSSL, x509_vfy.h): chain and name are judged, dates are not.
NO_CHECK_TIME: Final = 0x200000
# Each address, and then each answer of its TLS: over a modem at 64 kbit/s and 600 ms a connection takes
# 0.6 s, a 4 kB chain 1.1 s. A SYN that was lost is sent again after 1 s (RFC 6298).
DIAL_S: Final = 3.0


class LinkError(Exception):
    """The broker cannot be reached, refused, or the session has ended: dial again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who we are to the broker, beyond a client certificate."""

    username: str
    password: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A connected socket, TLS shaken hands, and the address it was reached at."""

    socket: socket.socket
    address: str


def tls_context(settings: Mqtt, credentials: Path | None, *, judge_dates: bool) -> ssl.SSLContext:
    """Return the TLS settings for the brokers.

    `credentials`: where the client key's credential lies. `judge_dates`: False while the clock is not known;
    heeded only with a configured CA. LinkError when a file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
            if not judge_dates:
                context.verify_flags |= NO_CHECK_TIME  # a flag `ssl` does not name
        if settings.client_certificate is not None:
            context.load_cert_chain(settings.client_certificate, _client_key(settings, credentials))
    except (OSError, CredentialError) as error:
        raise LinkError(f"TLS cannot be set up: {error}") from error
    return context


def _client_key(settings: Mqtt, credentials: Path | None) -> Path | None:
    """Where the client key lies; None: in the certificate's own file."""
    if settings.client_key_credential is None:
        return None
    return credential_path(credentials, settings.client_key_credential)


def login(settings: Mqtt, credentials: Path | None) -> Login | None:
    """Return username and password. LinkError when the password's credential cannot be read."""
    if settings.username is None:
        return None
    if settings.password_credential is None:
        return Login(username=settings.username, password=None)
    try:
        password = read_credential(credentials, settings.password_credential)
    except CredentialError as error:
        raise LinkError(str(error)) from error
    return Login(username=settings.username, password=password)


async def dial(
    broker: Broker, context: ssl.SSLContext | None, *, user_timeout_s: float, last_good: str | None = None
) -> Line:
    """Connect to a broker; LinkError when that fails.

    Names and connects in a daemon thread, because a resolver may block for half a minute and must neither
    stall the loop nor keep the process from ending. `last_good` is tried when the name does not resolve.
    CONNECT is not sent here: a dial given up in favour of another must not take the session over later.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Line] = loop.create_future()

    def settle(line: Line | None, error: LinkError | None) -> None:
        if future.done():  # given up meanwhile
            if line is not None:
                line.socket.close()
        elif line is not None:
            future.set_result(line)
        elif error is not None:
            future.set_exception(error)

    def work() -> None:
        line, failure = None, None
        try:
            line = _connect(broker, context, user_timeout_s, last_good)
        except OSError as error:  # gaierror, refusal, timeout and ssl.SSLError are all OSErrors
            failure = LinkError(f"{broker.host}:{broker.port}: {error}")
        try:
            loop.call_soon_threadsafe(settle, line, failure)
        except RuntimeError:
            logger.debug("the event loop is closed; nobody waits for this dial any more")

    threading.Thread(target=work, name="dial", daemon=True).start()
    return await future


def _connect(
    broker: Broker, context: ssl.SSLContext | None, user_timeout_s: float, last_good: str | None
) -> Line:
    """Blocking: resolve, connect, shake hands. OSError when it fails."""
    try:
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
    except socket.gaierror:
        if last_good is None:
            raise
        addresses = [last_good]
    failure: OSError = OSError("the name has no address")
    for address in dict.fromkeys(addresses):
        try:
            plain = socket.create_connection((address, broker.port), timeout=DIAL_S)
        except OSError as error:
            failure = error
            continue
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout_s * 1000))
            line = context.wrap_socket(plain, server_hostname=broker.host) if context else plain
            line.setblocking(False)
        except OSError:
            plain.close()
            raise
        return Line(socket=line, address=address)
    raise failure
