"""The broker: each one that is configured, how far a talk with it came, and what to do where it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from gatewayd.config.model import Config, Mqtt
from gatewayd.core.model import ClockState
from gatewayd.edge.mqtt import how_dates_are_judged
from gatewayd.selftest.dialogue import Step, Talk, talk
from gatewayd.selftest.machine import in_thread
from gatewayd.selftest.row import Finding, Verdict, fail, ok, span, warn

LIMIT_S: Final = 20.0  # a resolver may take as long for a name; all that follows is faster
# Renewing a certificate takes somebody some days.
EXPIRES_SOON_S: Final = 14 * 86_400.0
# What links we know take, twice: 64 kbit/s and 600 ms.
SLOW_MS: Final = 2_000.0

# What to do, by the step at which it ended.
_ADVICE: Final[Mapping[Step, str]] = {
    Step.FILES: "put the file or the credential where the configuration says: see `gatewayd check-config`",
    Step.NAME: "is there a network (`ip address`, SIM card, Wi-Fi), is there a name server"
    " (`resolvectl query {host}`), is the host in [mqtt] brokers right?",
    Step.CONNECTION: "does the broker run, is the port in [mqtt] brokers right (8883 with TLS), does a"
    " firewall on the way let it through (`nc -vz {host} {port}`)?",
    Step.TLS: "is this the broker's TLS port? If it wants a client certificate, set client_certificate and"
    " client_key_credential",
    Step.CONNACK: "the broker must speak MQTT 5 on this port; where it wants a client certificate, set it;"
    " its log says why it ended the connection",
    Step.PUBLISH: "allow this user in the broker's ACL to write below its own base: `topic write {base}/#`",
    Step.SUBSCRIBE: "allow this user in the broker's ACL to read its commands: `topic read {base}/cmd/#`",
}

# OpenSSL's verification errors (x509_vfy.h): which check failed, and what to do.
_DATE: Final = "look at the gateway's clock (row clock); if that is right, the broker needs a new certificate"
_CHAIN: Final = "set [mqtt] ca_file to the certificate of the authority that signed the broker's"
_NAME: Final = "the broker needs a certificate for this name, or [mqtt] brokers the name its certificate has"
_VERIFICATION: Final[Mapping[int, tuple[str, str]]] = {
    9: ("date", _DATE),
    10: ("date", _DATE),
    2: ("chain", _CHAIN),
    18: ("chain", _CHAIN),
    19: ("chain", _CHAIN),
    20: ("chain", _CHAIN),
    21: ("chain", _CHAIN),
    62: ("name", _NAME),
    64: ("name", _NAME),
}

# MQTT 5, section 3.2.2.2: what the refusal of a session means here.
_LOGIN: Final = (
    "check username and password_credential against the broker's users; a broker that ties client ids to"
    " users must allow {client} too"
)
_CONNACK: Final[Mapping[int, str]] = {
    0x84: "the broker must speak MQTT 5: mosquitto 2 does",
    0x85: "the broker must allow the client id {client}",
    0x86: _LOGIN,
    0x87: _LOGIN,
    0x88: "the broker is not ready: try again in a minute",
    0x89: "the broker is busy: try again in a minute",
    0x8A: "this client is banned at the broker: ask who runs it",
    0x97: "a quota of the broker is used up: ask who runs it",
    0x9F: "the broker limits how often one may connect: try again in a minute",
}


async def look(config: Config, credentials: Path | None, clock: ClockState) -> list[Talk]:
    """Talk with every broker, side by side; what hangs after 20 s is left behind as far as it came."""
    dates = how_dates_are_judged(config.mqtt, clock)  # as the daemon has it
    client_id = f"{config.gateway.prefix}-{config.gateway.id}-selftest"
    talks = [Talk(broker=broker, client_id=client_id) for broker in config.mqtt.brokers]
    talking = [
        asyncio.ensure_future(
            in_thread(partial(talk, told, config, credentials, dates)),
        )
        for told in talks
    ]
    done, _ = await asyncio.wait(talking, timeout=LIMIT_S)
    for each in done:
        each.result()
    return [replace(told) for told in talks]


def judge(talks: Sequence[Talk], mqtt: Mqtt, base: str, wall_s: float) -> list[Finding]:
    """Say how the brokers are; one of several that fails is a warning, since the others take its place.

    `base`: of the gateway's topics. `wall_s`: now, since 1970.
    """
    findings = [finding for told in talks for finding in _judge(told, mqtt, base, wall_s)]
    if any(told.step is Step.DONE for told in talks):
        return [
            replace(each, verdict=Verdict.WARN) if each.verdict is Verdict.FAIL else each for each in findings
        ]
    return findings


def _judge(told: Talk, mqtt: Mqtt, base: str, wall_s: float) -> list[Finding]:
    if told.step is not Step.DONE:
        return [_broken(told, base)]
    over = f", {told.tls}" if told.tls else ", not encrypted"
    trip_ms = told.round_trip_ms or 0.0
    what = f"{told.name} ({told.address}{over}) takes alarms: PUBACK in {trip_ms:.0f} ms; grants the commands"
    findings = [ok(what)]
    if trip_ms > SLOW_MS:
        findings[0] = warn(what, "a slow link: look at the antenna and the signal of the modem")
    if not told.dates_judged:
        findings.append(
            warn(
                "neither NTP nor GNSS tells the time, so the date of the broker's certificate was not judged",
                "see the row clock",
            )
        )
    elif told.expires_s is not None and told.expires_s - wall_s < EXPIRES_SOON_S:
        left = span(max(0.0, told.expires_s - wall_s))
        findings.append(warn(f"the certificate of {told.name} expires in {left}", "tell who runs the broker"))
    if mqtt.tls and mqtt.username is None and mqtt.client_certificate is None:
        findings.append(
            warn(
                f"{told.name} lets us in without username or client certificate, so anyone who reaches it",
                "give each gateway a user of its own at the broker, and set username and password_credential",
            )
        )
    return findings


def _broken(told: Talk, base: str) -> Finding:
    problem = told.problem or "no answer in time"
    advice = _ADVICE[told.step]
    what = {
        Step.FILES: problem,
        Step.NAME: f"the name is not found: {problem}",
        Step.CONNECTION: f"no connection: {problem}",
        Step.TLS: f"TLS failed: {problem}",
        Step.CONNACK: f"the broker gave no session: {problem}",
        Step.PUBLISH: f"publishing an alarm below {base} is refused: {problem}",
        Step.SUBSCRIBE: f"reading commands below {base}/cmd is refused: {problem}",
    }[told.step]
    if told.step is Step.TLS and told.code is not None:
        check, advice = _VERIFICATION.get(told.code, ("certificate", _CHAIN))
        what = f"TLS failed at the certificate's {check}: {problem}"
    elif told.step is Step.CONNACK and told.code is not None:
        advice = _CONNACK.get(told.code, advice)
    elif told.step is Step.CONNACK and not told.problem:
        advice = _ADVICE[Step.CONNECTION]  # something on the way may swallow what is sent
    elif told.step is Step.PUBLISH and told.code is None:
        what = f"published an alarm's topic, but no PUBACK came: {problem}"
    broker = told.broker
    advice = advice.format(host=broker.host, port=broker.port, base=base, client=told.client_id)
    return fail(f"{told.name}: {what}", advice)
