"""The kinds of values a setting can have: text in, a value out, or `ValueError`.

Each kind says in one phrase what it expects; the error messages, the example file and the manual use it.
Only ASCII digits count as digits, every number has a bounded length, and nothing is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from gatewayd.config.model import GpsdSource, SerialSource
from gatewayd.config.problem import is_credential_name
from gatewayd.core.model import TagEvent
from gatewayd.core.topic import is_id

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# A broker as written; without a port the one that goes with TLS or without it is meant.
Address: TypeAlias = "tuple[str, int | None]"

_DURATION_MS: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_BYTES: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BOOLEAN: Final = {
    "yes": True, "true": True, "on": True, "1": True,
    "no": False, "false": False, "off": False, "0": False,
}  # fmt: skip
GPSD_PORT: Final = 2947  # registered with IANA
# RFC 1123, section 2.1, and _ as some name servers have.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_HOST_CHARACTERS: Final = 253  # RFC 1035, section 2.3.4, as text
# Dialled 1 s apart while an alarm waits: a ninth would come after a dead first one was given up (3 + 5 s).
BROKERS_TRIED: Final = 8
ADAPTERS_USED: Final = 4  # as many as a Pi has USB ports
PATH_BYTES: Final = 4095  # Linux, PATH_MAX less the byte that ends it
PREFIX_CHARACTERS: Final = 64  # as long as an id
TEXT_CHARACTERS: Final = 128  # of a user name or an ALSA PCM name with its arguments
_HOST_AND_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Za-z:.%_-]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T_co]):
    """A kind of value. `read` returns the value of a text; `ValueError` when it is not of the kind."""

    expected: str
    read: Callable[[str], T_co]


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return `kind` with an empty text meaning "not set": None."""
    return Kind(expected=f"{kind.expected}, or nothing", read=lambda text: kind.read(text) if text else None)


def matching(expected: str, pattern: str, convert: Callable[[str], T]) -> Kind[T]:
    """Return the kind of the texts that match `pattern` whole and that `convert` takes."""
    compiled = re.compile(pattern)

    def read(text: str) -> T:
        if compiled.fullmatch(text) is None:
            raise ValueError
        return convert(text)

    return Kind(expected=expected, read=read)


def checked(expected: str, accepts: Callable[[str], bool]) -> Kind[str]:
    """Return the kind of the texts that `accepts` accepts, as they stand."""

    def read(text: str) -> str:
        if not accepts(text):
            raise ValueError
        return text

    return Kind(expected=expected, read=read)


def one_of(expected: str, choices: Mapping[str, T]) -> Kind[T]:
    """Return the kind of a few words, each with its value."""

    def read(text: str) -> T:
        if text not in choices:
            raise ValueError
        return choices[text]

    return Kind(expected=expected, read=read)


def _spoken(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def choice(*words: str) -> Kind[str]:
    """Return the kind of a few words, as they stand."""
    return one_of(_spoken(list(words)), {word: word for word in words})


def whole(minimum: int, maximum: int, unit: str = "") -> Kind[int]:
    """Return the kind of whole numbers within bounds."""
    return matching(
        f"a whole number {minimum} to {maximum}{unit and ' ' + unit}",
        r"[0-9]{1,9}",
        lambda text: _within(int(text), minimum, maximum),
    )


def degrees(limit: int) -> Kind[float]:
    """Return the kind of decimal degrees from -`limit` to `limit`."""
    return matching(
        f"decimal degrees from -{limit} to {limit}, such as 52.0907",
        r"[+-]?[0-9]{1,3}(\.[0-9]{1,12})?",
        lambda text: _within(float(text), -limit, limit),
    )


def duration(minimum: str, maximum: str, step: str = "1ms") -> Kind[float]:
    """Return the kind of durations within bounds that are whole steps, in seconds."""
    low_ms, high_ms, step_ms = _milliseconds(minimum), _milliseconds(maximum), _milliseconds(step)

    def read(text: str) -> float:
        value_ms = _within(_milliseconds(text), low_ms, high_ms)
        if value_ms % step_ms:
            raise ValueError
        return value_ms / 1000

    steps = "" if step_ms == 1 else f" in steps of {step}"
    return Kind(expected=f"a duration from {minimum} to {maximum}{steps} (ms, s, min, h or d)", read=read)


def rising(minimum: str, maximum: str, most: int) -> Kind[tuple[float, ...]]:
    """Return the kind of up to `most` durations, each longer than the one before, in seconds."""
    one = duration(minimum, maximum)

    def read(text: str) -> tuple[float, ...]:
        found = tuple(one.read(word) for word in text.split())
        if len(found) > most or list(found) != sorted(set(found)):
            raise ValueError
        return found

    expected = f"nothing, or up to {most} durations from {minimum} to {maximum}, each longer than the last"
    return Kind(expected=expected, read=read)


def size(minimum: str, maximum: str) -> Kind[int]:
    """Return the kind of sizes within bounds, in bytes."""
    low, high = _bytes(minimum), _bytes(maximum)
    return Kind(
        expected=f"a size from {minimum} to {maximum} (K, M, G or T)",
        read=lambda text: _within(_bytes(text), low, high),
    )


_Number = TypeVar("_Number", int, float)


def _within(value: _Number, minimum: _Number, maximum: _Number) -> _Number:
    if not minimum <= value <= maximum:
        raise ValueError
    return value


def _scaled(text: str, units: Mapping[str, int]) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([A-Za-z]{1,3})", text)
    if match is None or match[2] not in units:
        raise ValueError
    return int(match[1]) * units[match[2]]


def _milliseconds(text: str) -> int:
    return _scaled(text, _DURATION_MS)


def _bytes(text: str) -> int:
    return _scaled(text, _SIZE_BYTES)


def _host(text: str) -> tuple[str, int | None]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError
    if match["v6"] is not None:
        host = str(IPv6Address(match["v6"]))
    else:
        host = match["name"]
        if len(host) > _HOST_CHARACTERS or not _HOST_NAME.fullmatch(host):
            raise ValueError
        if host.rstrip(".").rpartition(".")[2].isdecimal():
            IPv4Address(host)  # a name never ends in a number: this is an address, and must be a right one
    return host, None if match["port"] is None else _within(int(match["port"]), 1, 65535)


def _hosts(text: str) -> tuple[Address, ...]:
    hosts = tuple(_host(word) for word in text.split())
    if not 1 <= len(hosts) <= BROKERS_TRIED or len(set(hosts)) != len(hosts):
        raise ValueError
    return hosts


def _adapters(text: str) -> tuple[str, ...]:
    adapters = tuple(each if each.startswith("hci") else each.upper() for each in text.split())
    pattern = r"hci[0-9]{1,3}|[0-9A-F]{2}(:[0-9A-F]{2}){5}"
    if not all(re.fullmatch(pattern, each) for each in adapters):
        raise ValueError
    if len(adapters) > ADAPTERS_USED or len(set(adapters)) != len(adapters):
        raise ValueError
    return adapters


def _source(text: str) -> SerialSource | GpsdSource | None:
    if text == "none":
        return None
    if (match := re.fullmatch(r"serial:(/[^\s@]+)(?:@([0-9]{4,6}))?", text)) and _is_path(match[1]):
        return SerialSource(device=match[1], baud=None if match[2] is None else _baud(int(match[2])))
    scheme, separator, address = text.partition("://")
    if scheme != "gpsd" or not separator:
        raise ValueError
    host, port = _host(address)
    return GpsdSource(host=host, port=port or GPSD_PORT)


def _baud(rate: int) -> int:
    if rate not in {4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600}:
        raise ValueError
    return rate


def _events(text: str) -> frozenset[TagEvent]:
    if text == "none":
        return frozenset()
    events = [TagEvent(word) for word in text.split()]
    if not events or TagEvent.NONE in events or len(set(events)) != len(events):
        raise ValueError
    return frozenset(events)


def _is_prefix(text: str) -> bool:
    levels = text.split("/")
    return (
        len(text) <= PREFIX_CHARACTERS
        and not text.startswith("$")  # MQTT 5, section 4.7.2: the server's own
        and all(re.fullmatch(r"[^\s+#]+", level) and level.isprintable() for level in levels)
    )


def _is_path(text: str) -> bool:
    return text.startswith("/") and text.isprintable() and len(text.encode()) <= PATH_BYTES


def hexadecimal(digits: int) -> Kind[str]:
    """Return the kind of identities of a fixed number of hex digits, in lower case."""
    return matching(f"{digits} hex digits", rf"[0-9A-Fa-f]{{{digits}}}", str.lower)


BOOLEAN: Final = Kind(expected="yes or no", read=lambda text: one_of("", _BOOLEAN).read(text.lower()))
ID: Final = checked("1 to 64 letters, digits, _ and -", is_id)
REFERENCE: Final = matching(
    "a reference of 1 to 64 letters, digits and ._:@-, never a name", r"[A-Za-z0-9._:@-]{1,64}", str
)
PREFIX: Final = checked(
    f"1 to {PREFIX_CHARACTERS} characters, a/b for levels, no + # $ or white space", _is_prefix
)
TEXT: Final = checked(
    f"1 to {TEXT_CHARACTERS} characters",
    lambda text: 1 <= len(text) <= TEXT_CHARACTERS and text.isprintable(),
)
PATH: Final = Kind(
    expected="a path from the root, such as /etc/…", read=lambda text: Path(checked("", _is_path).read(text))
)
CREDENTIAL: Final = checked(
    "the name of a credential (letters, digits and ._-), never the secret itself", is_credential_name
)
ADDRESS: Final = matching(
    "an address such as C4:11:22:33:44:55", r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", str.upper
)
ADAPTERS: Final = Kind(
    expected=f"up to {ADAPTERS_USED} times hciN or an adapter's address, spaces between, or nothing",
    read=_adapters,
)
UUID: Final = matching(
    "a UUID such as f7826da6-4fa2-4e98-8024-bc5b71e0893e",
    r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    str.lower,
)
BROKERS: Final = Kind(
    expected=f"1 to {BROKERS_TRIED} times host[:port], spaces between, each once, IPv6 as [::1]:1883",
    read=_hosts,
)
TIME_OF_DAY: Final = matching(
    "a time of day such as 04:00",
    r"([01][0-9]|2[0-3]):[0-5][0-9]",
    lambda text: int(text[:2]) * 3600.0 + int(text[3:]) * 60.0,
)
SOURCE: Final = Kind(expected="serial:/dev/DEVICE[@BAUD], gpsd://HOST[:PORT] or none", read=_source)
EVENTS: Final = Kind(
    expected=f"none, or some of {' '.join(event for event in TagEvent if event is not TagEvent.NONE)}",
    read=_events,
)
