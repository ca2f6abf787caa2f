"""A real mosquitto on a free loopback port, from a configuration made for it.

It can be killed, paused and started again on the same port, so that what a gateway meets in the field is met
on a desk: a broker that is gone, one that hangs, one that comes back without its memory.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK: Final = "127.0.0.1"
START_S: Final = 10.0  # mosquitto listens within 20 ms; a busy machine may take a while
STOP_S: Final = 5.0
VALID: Final = timedelta(days=1)


class BrokerError(Exception):
    """mosquitto is not installed, or did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """A CA of its own, and what it signed: PEM files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


class Broker:
    """mosquitto in `directory`, which keeps its configuration, log and persistence.

    `certificates`: TLS. `client_certificates`: clients must have one of our CA. `login`: name and password
    clients must give. `persistence`: it survives a clean stop with its sessions and retained messages.
    `settings`: further lines of mosquitto.conf. `environment`: what it runs with beside this process's own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        certificates: Certificates | None = None,
        client_certificates: bool = False,
        login: tuple[str, str] | None = None,
        persistence: bool = False,
        settings: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = held_port(self)
        self._environment = dict(environment or {})
        self._log = directory / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = directory / "mosquitto.conf"
        lines = [
            f"user {getpass.getuser()}",  # as root it would change to one that cannot read our directory
            f"listener {self.port} {LOOPBACK}",
            f"allow_anonymous {'false' if login else 'true'}",
            "set_tcp_nodelay true",
        ]
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server}",
                f"keyfile {certificates.server_key}",
                f"require_certificate {'true' if client_certificates else 'false'}",
            ]
        if login is not None:
            passwords = directory / "passwords"
            passwords.touch(mode=0o600)
            _run("mosquitto_passwd", "-b", str(passwords), *login)
            lines.append(f"password_file {passwords}")
        if persistence:
            lines += ["persistence true", f"persistence_location {directory}/"]
        self._configuration.write_text("\n".join([*lines, *settings, ""]))

    @property
    def pid(self) -> int | None:
        """Its process; None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start, and return once it listens. BrokerError when it does not."""
        path = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
        environment = os.environ | path | self._environment
        with self._log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    ["mosquitto", "-c", str(self._configuration)], stdout=log, stderr=log, env=environment
                )
            except FileNotFoundError as error:
                raise BrokerError("mosquitto is not installed: apt install mosquitto") from error
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.kill()
        raise BrokerError(f"mosquitto did not start: {self._log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        """Stop cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill: whatever it had only in memory is gone."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)  # a paused one does not see SIGTERM
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def free_port() -> int:
    """Return a TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def held_port(owner: object) -> int:
    """Return a TCP port that is given to nobody else while `owner` lives, who listens on it when it likes.

    Between `free_port` and the moment when a program of its own listens there, the kernel may give the port
    to a connection on its way out. A socket that is bound and does not listen keeps it (Linux, bind(2)): who
    sets SO_REUSEADDR, as mosquitto and asyncio do, may listen beside it.
    """
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((LOOPBACK, 0))
        port = int(place.getsockname()[1])
        weakref.finalize(owner, os.close, place.detach())
    return port


def make_certificates(
    directory: Path, *, begins: datetime | None = None, hosts: tuple[str, ...] = ("localhost",)
) -> Certificates:
    """Make a CA, a server certificate for `hosts` and loopback and a client certificate, valid for a day.

    `begins`: from when on; None: an hour ago.
    """
    directory.mkdir(parents=True, exist_ok=True)
    begins = begins or datetime.now(UTC) - timedelta(hours=1)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gatewayd test CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), begins)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = {"ca.pem": ca.public_bytes(serialization.Encoding.PEM)}
    for name, usage in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [*map(x509.DNSName, hosts), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        certificate = (
            _builder(subject, ca_name, key.public_key(), begins)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, hashes.SHA256())
        )
        files[f"{name}.pem"] = certificate.public_bytes(serialization.Encoding.PEM)
        files[f"{name}.key"] = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    for name, content in files.items():
        path = directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
    return Certificates(
        ca=directory / "ca.pem",
        server=directory / "server.pem",
        server_key=directory / "server.key",
        client=directory / "client.pem",
        client_key=directory / "client.key",
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + VALID)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key is for; Python from 3.13 on trusts no CA that does not say it (RFC 5280, 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError as error:
        raise BrokerError(f"{command[0]} is not installed: apt install mosquitto") from error
