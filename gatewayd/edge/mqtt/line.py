"""The way to a broker, before MQTT: credentials, TLS, name, socket."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.config.credentials import CredentialError, credential_path, read_credential
from gatewayd.config.model import Broker, Mqtt
from gatewayd.core.model import ClockSource, ClockState

logger = logging.getLogger(__name__)

# X509_V_FLAG_NO_CHECK_TIME (OpenSSL, x509_vfy.h): chain and name are judged, dates are not.
NO_CHECK_TIME: Final = 0x200000
_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_HAS_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
# Each address, and then each answer of its TLS: over a modem at 64 kbit/s and 600 ms a connection takes
# 0.6 s, a 4 kB chain 1.1 s. A SYN that was lost is sent again after 1 s (RFC 6298).
DIAL_S: Final = 3.0
# A name server that is there answers within a round trip or two; then the last good address is tried.
NAME_S: Final = 2.0


class LinkError(Exception):
    """The broker cannot be reached, refused, or the session has ended: dial again.

    `reason`: MQTT's reason code, where the broker gave one.
    """

    def __init__(self, why: str, reason: int | None = None) -> None:
        super().__init__(why)
        self.reason = reason


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """How certificates' dates are judged: by the system's clock, by ours, or, with neither, not at all."""

    by_system: bool
    offset_s: float | None = None  # of our time to the monotonic clock

    @property
    def judged(self) -> bool:
        """Whether they are."""
        return self.by_system or self.offset_s is not None


def how_dates_are_judged(settings: Mqtt, clock: ClockState) -> Dates:
    """Return how, as far as anybody knows the time.

    TLS judges by the system's clock, which nobody need have set: a real-time clock may be years wrong, and
    the time of GNSS fixes is ours alone. No alarm is to wait for that, but the exception is made only with a
    configured CA.
    """
    if settings.ca_file is None or clock.source is ClockSource.NTP:
        return Dates(by_system=True)
    return Dates(by_system=False, offset_s=clock.offset_s if clock.source.vouched else None)


def tls_context(settings: Mqtt, credentials: Path | None, *, judge_dates: bool) -> ssl.SSLContext:
    """Return the TLS settings for the brokers.

    `credentials`: where the client key's credential lies. `judge_dates`: by the system's clock; False is
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


def judge_dates(line: ssl.SSLSocket, offset_s: float) -> None:
    """Judge the dates of a broker's certificate by our own time: the monotonic clock's and `offset_s`.

    The error is the one that TLS has for it: ssl.SSLCertVerificationError.
    """
    now_s = time.monotonic() + offset_s
    certificate = line.getpeercert() or {}
    begins, ends = str(certificate["notBefore"]), str(certificate["notAfter"])
    if now_s < ssl.cert_time_to_seconds(begins):
        raise _date_error(_NOT_YET_VALID, f"certificate is not yet valid: expected {begins} or later")
    if now_s > ssl.cert_time_to_seconds(ends):
        raise _date_error(_HAS_EXPIRED, f"certificate has expired: expected {ends} or earlier")


def _date_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(message)
    error.verify_code, error.verify_message = code, message
    return error


async def dial(
    broker: Broker,
    context: ssl.SSLContext | None,
    *,
    user_timeout_s: float,
    last_good: str | None = None,
    offset_s: float | None = None,
) -> Line:
    """Connect to a broker; LinkError when that fails.

    `offset_s`: judge the dates of its certificate by our own time, see `judge_dates`.

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
            line = _connect(broker, context, user_timeout_s, last_good, offset_s)
        except OSError as error:  # gaierror, refusal, timeout and ssl.SSLError are all OSErrors
            failure = LinkError(f"{broker.host}:{broker.port}: {error}")
        try:
            loop.call_soon_threadsafe(settle, line, failure)
        except RuntimeError:
            logger.debug("the event loop is closed; nobody waits for this dial any more")

    threading.Thread(target=work, name="dial", daemon=True).start()
    return await future


def _addresses(broker: Broker, last_good: str | None) -> list[str]:
    """Blocking: the broker's addresses, the last good one first, or alone where no name server tells in time.

    Asked in a thread of its own: a resolver that gets no answer is silent for half a minute.
    """
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        except OSError as error:
            answer.put(error)
        else:
            answer.put([str(address[0]) for *_, address in found])

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=None if last_good is None else NAME_S)
    except queue.Empty:
        found = TimeoutError("the name server does not answer")
    if not isinstance(found, OSError):
        return sorted(found, key=lambda address: address != last_good)
    if last_good is None:
        raise found
    return [last_good]


def _connect(
    broker: Broker,
    context: ssl.SSLContext | None,
    user_timeout_s: float,
    last_good: str | None,
    offset_s: float | None,
) -> Line:
    """Blocking: resolve, connect, shake hands. OSError when it fails."""
    addresses = _addresses(broker, last_good)
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
            return Line(socket=_secured(plain, broker, context, offset_s), address=address)
        except OSError:
            plain.close()
            raise
    raise failure


def _secured(
    plain: socket.socket, broker: Broker, context: ssl.SSLContext | None, offset_s: float | None
) -> socket.socket:
    """Shake hands where there is TLS. OSError when that fails; the socket is then the caller's to close."""
    if context is None:
        plain.setblocking(False)
        return plain
    line = context.wrap_socket(plain, server_hostname=broker.host)
    try:
        if offset_s is not None:
            judge_dates(line, offset_s)
    except OSError:
        line.close()
        raise
    line.setblocking(False)
    return line
