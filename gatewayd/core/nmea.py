"""NMEA 0183: bytes as a receiver sends them → what each whole, checked sentence says.

Here: finding sentences in a stream that may be torn, noisy or binary, their checksums, and the meaning of
the eight sentence types that tell of a position. pynmea2 knows the fields and their formats; it is given
fields and not lines, because its line parser raises IndexError on short proprietary sentences. Not here:
what several sentences say together (`fix`), devices, clocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from math import hypot, isfinite
from typing import Any, Final

import pynmea2

from gatewayd.core.model import FixMode

# From "$" to "*". The standard allows 82 characters a sentence in all; real receivers send up to 205 (MTK).
SENTENCE_LIMIT_BYTES: Final = 256
_TRAILER_BYTES: Final = 3  # "*" and two hexadecimal digits
# "$" and "*" stand nowhere else in a sentence (NMEA 0183, section 5.1), so a "$" always begins a new one and
# what is found does not depend on how the bytes were cut.
_SENTENCE: Final = re.compile(
    rb"\$([\x20-\x23\x25-\x29\x2b-\x7e]{1,%d})\*([0-9A-Fa-f]{2})" % (SENTENCE_LIMIT_BYTES - 1)
)
MPS_PER_KNOT: Final = 1852 / 3600
# GST gives standard deviations; twice the root of the sum of their squares (2DRMS) holds 95 to 98 %.
SIGMAS_IN_95_PERCENT: Final = 2.0


class Validity(StrEnum):
    """What a sentence says of the position in it."""

    VOID = "void"  # not valid, or no satellite used
    VALID = "valid"
    ESTIMATED = "estimated"  # dead reckoning, or typed in
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """What one sentence says. `validity` is None where it makes no statement about a position."""

    talker: str  # "GP", "GN", …
    kind: str  # "GGA", "RMC", …
    validity: Validity | None = None
    time_s: float | None = None  # of the day, UTC
    utc_s: float | None = None  # since 1970, where the sentence has a date
    lat: float | None = None
    lon: float | None = None
    alt_m: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    hdop: float | None = None
    eph_m: float | None = None  # 95 %
    satellites: int | None = None
    mode: FixMode | None = None


class Assembler:
    """Finds the sentences in a stream of bytes, however it is cut; holds at most one unfinished sentence."""

    def __init__(self) -> None:
        self.sentences = 0  # whole, with the right checksum
        self.rejected = 0  # begun, but torn, overlong or with a wrong checksum
        self._tail = b""

    def feed(self, data: bytes) -> list[Sentence]:
        """Take the next bytes; give what was understood in them. Never raises.

        A sentence without a checksum is not used: nothing would tell it from a damaged one.
        """
        data = self._tail + data
        found: list[Sentence] = []
        end = valid = 0
        for match in _SENTENCE.finditer(data):
            end = match.end()
            body = match[1].decode("ascii")
            if pynmea2.NMEASentence.checksum(body) != int(match[2], 16):
                continue
            valid += 1
            sentence = read(body)
            if sentence is not None:
                found.append(sentence)
        start = data.rfind(b"$", end)
        unfinished = start >= 0 and len(data) - start < SENTENCE_LIMIT_BYTES + _TRAILER_BYTES
        self._tail = data[start:] if unfinished else b""
        self.sentences += valid
        self.rejected += data.count(b"$") - valid - unfinished
        return found


def read(body: str) -> Sentence | None:
    """Give what a sentence says (`body`: what stands between "$" and "*"), None for a type not used here."""
    address, *fields = body.split(",")
    kind = address[2:]
    reader = _READERS.get(kind)
    # Five characters make a talker's address; "P" begins a manufacturer's, whose fields are its own.
    if reader is None or address.startswith("P"):
        return None
    message = getattr(pynmea2, kind)(address[:2], kind, fields)
    return Sentence(talker=address[:2], kind=kind, **reader(message))


# --- one sentence type each ---------------------------------------------------------------------------------
# `Any`: pynmea2 has no type information and answers with text wherever a field does not convert; every
# value passes through one of the checks below.

_Said = Mapping[str, Any]


def _gga(message: Any) -> _Said:
    satellites = _count(message.num_sats)
    validity = _GGA_QUALITY.get(message.gps_qual, Validity.VOID)
    return {
        "validity": _with_satellites(validity, satellites),
        "time_s": _time(message.timestamp),
        **_position(message),
        "alt_m": _number(message.altitude),
        "hdop": _dop(message.horizontal_dil),
        "satellites": satellites,
    }


def _gns(message: Any) -> _Said:
    # One character for each constellation: the best of them is the position's.
    said = {_MODE_INDICATOR.get(character, Validity.VOID) for character in message.mode_indicator}
    validity = next((level for level in _BEST_FIRST if level in said), Validity.VOID)
    satellites = _count(message.num_sats)
    return {
        "validity": _with_satellites(validity, satellites),
        "time_s": _time(message.timestamp),
        **_position(message),
        "alt_m": _number(message.altitude),
        "hdop": _dop(message.hdop),
        "satellites": satellites,
    }


def _rmc(message: Any) -> _Said:
    time_s = _time(message.timestamp)
    day = message.datestamp
    return {
        "validity": _by_status(message.status, message.mode_indicator),
        "time_s": time_s,
        "utc_s": _utc_s(day, time_s) if isinstance(day, date) else None,
        **_position(message),
        "speed_mps": _speed(message.spd_over_grnd),
        "course_deg": _course(message.true_course),
    }


def _gll(message: Any) -> _Said:
    return {
        "validity": _by_status(message.status, message.faa_mode),
        "time_s": _time(message.timestamp),
        **_position(message),
    }


def _gsa(message: Any) -> _Said:
    # The dilutions stand behind twelve satellites, and before a system id since NMEA 4.10. One receiver
    # seen lists 24 satellites: there pynmea2's "hdop" is a satellite's number.
    regular = len(message.data) in {17, 18}
    return {"mode": _GSA_MODE.get(message.mode_fix_type), "hdop": _dop(message.hdop) if regular else None}


def _vtg(message: Any) -> _Said:
    # Before NMEA 2.3 some wrote "course,T,knots,N" without units' letters where these are now expected.
    return {
        "course_deg": _course(message.true_track) if message.true_track_sym == "T" else None,
        "speed_mps": _speed(message.spd_over_grnd_kts) if message.spd_over_grnd_kts_sym == "N" else None,
    }


def _gst(message: Any) -> _Said:
    north_m, east_m = _number(message.std_dev_latitude), _number(message.std_dev_longitude)
    known = north_m is not None and east_m is not None
    return {
        "time_s": _time(message.timestamp),
        "eph_m": SIGMAS_IN_95_PERCENT * hypot(north_m or 0.0, east_m or 0.0) if known else None,
    }


def _zda(message: Any) -> _Said:
    time_s = _time(message.timestamp)
    try:
        day = date(message.year, message.month, message.day)
    except (TypeError, ValueError):  # empty, not a number, or no such day
        return {"time_s": time_s}
    return {"time_s": time_s, "utc_s": _utc_s(day, time_s)}


_READERS: Final[Mapping[str, Callable[[Any], _Said]]] = {
    "GGA": _gga, "GNS": _gns, "RMC": _rmc, "GLL": _gll, "GSA": _gsa, "VTG": _vtg, "GST": _gst, "ZDA": _zda,
}  # fmt: skip
_GGA_QUALITY: Final = {
    1: Validity.VALID,  # GPS
    2: Validity.VALID,  # differential
    3: Validity.VALID,  # PPS
    4: Validity.VALID,  # RTK, fixed
    5: Validity.VALID,  # RTK, float
    6: Validity.ESTIMATED,  # dead reckoning
    7: Validity.ESTIMATED,  # typed in
    8: Validity.SIMULATED,
    9: Validity.VALID,  # SBAS, as NovAtel says it
}
_MODE_INDICATOR: Final = {
    "A": Validity.VALID,  # autonomous
    "D": Validity.VALID,  # differential
    "F": Validity.VALID,  # RTK, float
    "P": Validity.VALID,  # precise
    "R": Validity.VALID,  # RTK, fixed
    "E": Validity.ESTIMATED,
    "M": Validity.ESTIMATED,
    "S": Validity.SIMULATED,
}
# A simulator is named before anything else: its position must never pass for a real one.
_BEST_FIRST: Final = (Validity.SIMULATED, Validity.VALID, Validity.ESTIMATED)
_GSA_MODE: Final = {"1": FixMode.NONE, "2": FixMode.FIX_2D, "3": FixMode.FIX_3D}


# --- checks -------------------------------------------------------------------------------------------------


def _with_satellites(validity: Validity, satellites: int | None) -> Validity:
    """A fix from no satellite is a remembered one: some receivers go on for seconds, and are far off."""
    return Validity.VOID if validity is Validity.VALID and satellites == 0 else validity


def _by_status(status: str, indicator: str) -> Validity:
    """RMC and GLL: status A or V, and since NMEA 2.3 a mode indicator. A simulator says V, S."""
    mode = _MODE_INDICATOR.get(indicator, Validity.VOID) if indicator else Validity.VALID
    return mode if status == "A" or mode is Validity.SIMULATED else Validity.VOID


def _position(message: Any) -> _Said:
    """Latitude and longitude in degrees, both or none; 0, 0 is what a receiver says that knows nothing."""
    if message.lat_dir not in {"N", "S"} or message.lon_dir not in {"E", "W"}:
        return {}
    try:
        lat, lon = message.latitude, message.longitude
    except ValueError:
        return {}
    plausible = abs(lat) <= 90 and abs(lon) <= 180 and (lat, lon) != (0, 0)  # noqa: PLR2004 degrees of a globe
    return {"lat": lat, "lon": lon} if plausible else {}


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if isfinite(number) else None


def _not_negative(value: object) -> float | None:
    number = _number(value)
    return None if number is None or number < 0 else number


def _dop(value: object) -> float | None:
    return _not_negative(value) or None  # 0 is said by receivers that have no fix


def _speed(knots: object) -> float | None:
    number = _not_negative(knots)
    return None if number is None else number * MPS_PER_KNOT


def _course(degrees: object) -> float | None:
    number = _not_negative(degrees)
    return number if number is not None and number <= 360 else None  # noqa: PLR2004 degrees of a circle


def _count(value: object) -> int | None:
    number = _not_negative(value)
    return None if number is None else int(number)


def _time(value: object) -> float | None:
    if not isinstance(value, time):
        return None
    return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6


def _utc_s(day: date, time_s: float | None) -> float | None:
    if time_s is None:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + time_s
