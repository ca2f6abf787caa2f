"""`gatewayd ops`: give one command and show its reply, or list what is open."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, TextIO

from gatewayd.core import topic as topics
from gatewayd.core.uuid7 import RANDOM_BYTES, uuid7
from gatewayd.monitor.client import Options, RefusedError, UnreachableError
from gatewayd.monitor.news import clean
from gatewayd.ops import table
from gatewayd.ops.arguments import LIST
from gatewayd.ops.line import FAILURE, Line
from gatewayd.ops.picture import Picture, lines

FINE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
_NOBODY: Final = 0x10  # MQTT 5, section 3.4.2.1: no matching subscribers
# After the last of what is retained: mosquitto sends it at once, a broker of several nodes gathers it.
_QUIET_S: Final = 0.5
_MOST_S: Final = 2.0  # a fleet of a thousand is never quiet


class UsageError(Exception):
    """What was typed cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command to be given."""

    gateway: str
    name: str
    body: Mapping[str, object]
    timeout_s: float

    @property
    def id(self) -> str:
        """Its idempotency key."""
        return str(self.body["id"])


def run(arguments: argparse.Namespace, reach: Options, out: TextIO, err: TextIO) -> int:
    """Do what was typed; return the exit status: 0 done, 1 refused or no answer, 2 wrong usage."""
    try:
        if arguments.gateway == LIST and arguments.order is None:
            return _list(reach, arguments.timeout, out, as_json=arguments.json)
        return _give(_read(arguments), reach, out, as_json=arguments.json)
    except UsageError as error:
        err.write(f"gatewayd ops: {error}\n")
        return USAGE
    except (RefusedError, UnreachableError) as error:
        err.write(f"gatewayd ops: {error}\n")
        return FAILED


def _read(arguments: argparse.Namespace) -> Order:
    if not topics.is_id(arguments.gateway):
        raise UsageError(f"expected a gateway's id (letters, digits, _ and -), got {arguments.gateway!r}")
    name = table.SHORT.get(arguments.order, arguments.order)
    if name not in table.COMMANDS:
        known = ", ".join(table.COMMANDS)
        raise UsageError(f"expected a command ({known}), got {arguments.order or 'nothing'}")
    given = {key: text for key in table.FIELDS if (text := getattr(arguments, f"field_{key}")) is not None}
    try:
        body = table.fields(name, arguments.about, given)
        body |= dict(_setting(text) for text in arguments.set)
    except ValueError as error:
        raise UsageError(str(error)) from error
    who = arguments.actor or _login()
    identity = {"id": arguments.id or _new_id(), "actor": {"id": who, "name": who}}
    return Order(gateway=arguments.gateway, name=name, body={**body, **identity}, timeout_s=arguments.timeout)


def _setting(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set: expected NAME=JSON, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        raise ValueError(f'--set: expected JSON after {name}= (a text as "…"), got {value!r}') from None


def _new_id() -> str:
    """A UUIDv7: of a command that raises an alarm, the alarm's own id is made."""
    return uuid7(int(time.time() * 1000), os.urandom(RANDOM_BYTES))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UsageError("expected --as NAME, for this user has no login name") from None


def _give(order: Order, reach: Options, out: TextIO, *, as_json: bool) -> int:
    """Give the command and show its reply."""
    base = topics.base(reach.prefix, order.gateway)
    line = Line(reach, order.timeout_s)
    try:
        line.subscribe([f"{base}/{topics.REPLY}", f"{base}/{topics.STATUS}"])
        payload = json.dumps(order.body).encode()
        whole = f"{base}/{topics.command(order.name)}"
        reason = line.publish(whole, payload, expires_s=max(ceil(order.timeout_s), 1))
        if reason is not None and reason.value >= FAILURE:
            raise RefusedError(f"the broker does not let us publish {whole}: {reason}")
        answered = (reason is None or reason.value != _NOBODY) and line.until(
            lambda: _reply(line, base, order) is not None
        )
    finally:
        line.close()
    reply = _reply(line, base, order)
    if not answered or reply is None:
        raise UnreachableError(_silence(line, base, order))
    out.write(f"{json.dumps(reply) if as_json else _shown(order, reply)}\n")
    return FINE if reply.get("ok") is True else FAILED


def _reply(line: Line, base: str, order: Order) -> Mapping[str, Any] | None:
    for heard in line.heard:
        if heard.topic == f"{base}/{topics.REPLY}":
            body = _object(heard.payload)
            if body.get("id") == order.id:
                return body
    return None


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _silence(line: Line, base: str, order: Order) -> str:
    """Say that nobody answered, and what is known of the gateway."""
    told = [_object(heard.payload) for heard in line.heard if heard.topic == f"{base}/{topics.STATUS}"]
    state = clean(str(told[-1].get("state"))) if told else "not known to this broker"
    again = f"give it again with --id {order.id}"
    return f"no answer from {order.gateway}, which is {state}; whether it was done is not known: {again}"


def _shown(order: Order, reply: Mapping[str, Any]) -> str:
    if reply.get("ok") is not True:
        error = reply.get("error")
        error = error if isinstance(error, dict) else {}
        return clean(f"{order.name}: {error.get('code')}: {error.get('message')}")
    common = {"v", "id", "gateway", "boot", "run", "seq", "at", "clock", "late_s", "ok"}
    more = {key: value for key, value in reply.items() if key not in common}
    return clean(f"{order.name}: done{f' {json.dumps(more)}' if more else ''}")


def _list(reach: Options, timeout_s: float, out: TextIO, *, as_json: bool) -> int:
    """Show what is retained of all gateways."""
    line = Line(reach, timeout_s)
    try:
        base = f"{reach.prefix}/+"
        line.subscribe(f"{base}/{below}" for below in ("status", "alarm/+/state", "visit/+", "tag/+"))
        line.subscribe([f"{base}/{topics.STATUS}"])  # once this is answered, what is retained has come
        line.settle(_QUIET_S, _MOST_S)
    finally:
        line.close()
    picture = Picture.of(reach.prefix, ((heard.topic, _object(heard.payload)) for heard in line.heard))
    out.write(
        json.dumps(picture.to_json()) + "\n" if as_json else "".join(f"{each}\n" for each in lines(picture))
    )
    return FINE
