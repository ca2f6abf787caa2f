"""Fixes: the sentences of one epoch together, the quality gate, and the contract's position.

Here: which sentences belong together, whose position counts, what is not credible, what may be trusted.
Not here: what a single sentence says (`nmea`), devices, the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from gatewayd.core.model import Body, Fix, FixMode, Instant, Json, Method, Subject
from gatewayd.core.nmea import Assembler, Sentence, Validity

# An older fix is still sent, as the last known one (domain.md's figure): a car does 400 m in 30 s in town.
FRESH_S: Final = 30.0
# A worse fix is still sent, untrusted: beyond this the street is in doubt, not only the house.
TRUSTED_ERROR_M: Final = 50.0
# What a dilution of precision is worth. The range error of a single-frequency receiver with multipath among
# houses is taken as 5 m (1 sigma; the GPS Standard Positioning Service states 7 m at 95 % in open sky for the
# signal alone), and twice that holds 95 %. So 50 m are reached at a dilution of 5.
ERROR_95_M_PER_HDOP: Final = 2 * 5.0
# No receiver's date lies before the day this was released. One whose week number has rolled over (every
# 1,024 weeks) is 19.6 years behind, and is found by this for that long.
RELEASED_S: Final = datetime(2025, 11, 1, tzinfo=UTC).timestamp()
# Four unknowns (latitude, longitude, altitude, time) take four satellites.
SATELLITES_FOR_3D: Final = 4
# Whose position counts where an epoch has several; also the only types that begin an epoch.
_BY_RANK: Final = ("GGA", "GNS", "RMC", "GLL")
_COMBINED_TALKER: Final = "GN"  # speaks for all constellations together
# What is remembered of one epoch: six constellations and their combination in each type would be 28 …
_EPOCH_LIMIT: Final = 32
_GSA_LIMIT: Final = 8  # … and 7, but GSA may stand in any number before the first position
_TIME_RESOLUTION_S: Final = 0.001
# So many epochs with the same last position sentence, and it is known with what the receiver ends one.
_EPOCHS_TO_KNOW: Final = 3


class Receiver:
    """Makes fixes of a receiver's bytes: one for each epoch, that is, for each time of day it reports.

    `feed` gives an epoch's fix when the next one begins; `flush` gives it at once. A receiver pauses between
    its bursts, so the caller flushes when nothing came for a moment. What comes out of `feed` does not
    depend on how the bytes were cut. `first_utc_s`: an earlier date is not believed.
    """

    def __init__(self, *, first_utc_s: float = RELEASED_S) -> None:
        self.assembler = Assembler()
        self.disbelieved_utc_s: float | None = None  # the last date that was not credible
        self._first_utc_s = first_utc_s
        self._epoch: list[Sentence] = []
        self._received: Instant | None = None  # the epoch's last position
        self._news = False  # the epoch has a position sentence that no fix has told of
        self._usual_last: str | None = None  # the last position sentence of the epoch before …
        self._usual_epochs = 0  # … and of how many in a row
        self._dilution: list[Sentence] = []  # the epoch's GSA sentences, which carry no time …
        self._previous_dilution: list[Sentence] = []  # … and which some receivers send before the position

    def feed(self, data: bytes, received: Instant | None = None) -> list[Fix]:
        """Take bytes that came at `received` (None: from a file); give the fixes of the epochs they end."""
        fixes: list[Fix] = []
        for sentence in self.assembler.feed(data):
            if sentence.kind in _BY_RANK:
                if self._begins_epoch(sentence):
                    fixes += self.flush()
                    self._close()
                self._received = received
                self._news = True
            if sentence.kind == "GSA":
                self._dilution = [*self._dilution, sentence][-_GSA_LIMIT:]
            elif len(self._epoch) < _EPOCH_LIMIT and self._belongs(sentence):
                self._epoch.append(sentence)
        return fixes

    def flush(self) -> list[Fix]:
        """Give the fix of the epoch so far, if a position sentence came since the last one given."""
        if not self._news:
            return []
        self._news = False
        return [self._solve()]

    @property
    def cut_off(self) -> bool:
        """Whether the epoch lacks the position sentence with which the last ones ended: more is to come."""
        return self._usual_epochs >= _EPOCHS_TO_KNOW and self._usual_last not in self._kinds()

    def _kinds(self) -> list[str]:
        return [sentence.kind for sentence in self._epoch if sentence.kind in _BY_RANK]

    def _close(self) -> None:
        """End the epoch."""
        last = next(reversed(self._kinds()), None)
        self._usual_epochs = self._usual_epochs + 1 if last == self._usual_last else 1
        self._usual_last = last
        self._epoch = []
        self._previous_dilution, self._dilution = self._dilution, []

    def _begins_epoch(self, sentence: Sentence) -> bool:
        """Another time; or the same sentence again, as from a receiver that has no time yet."""
        told = {(earlier.talker, earlier.kind) for earlier in self._epoch}
        again = (sentence.talker, sentence.kind) in told or len(self._epoch) >= _EPOCH_LIMIT
        return again or not self._belongs(sentence)

    def _belongs(self, sentence: Sentence) -> bool:
        """Whether a sentence's time, if it has one, is the epoch's."""
        times = [earlier.time_s for earlier in self._epoch if earlier.time_s is not None]
        if sentence.time_s is None or not times:
            return True
        return abs(sentence.time_s - times[0]) < _TIME_RESOLUTION_S

    def _solve(self) -> Fix:
        """Make one fix of the epoch's sentences."""
        satellites = max((s.satellites for s in self._epoch if s.satellites is not None), default=None)
        chosen = _choose(self._epoch)
        if chosen is None:
            # Nor a time: before its first fix a receiver tells what its own clock makes of it.
            return Fix(mode=FixMode.NONE, received=self._received, satellites=satellites)
        dilution = self._dilution or self._previous_dilution
        alt_m = _first(sentence.alt_m for sentence in self._epoch)
        return Fix(
            mode=_mode(dilution, alt_m, satellites),
            received=self._received,
            lat=chosen.lat,
            lon=chosen.lon,
            alt_m=alt_m,
            speed_mps=_first(sentence.speed_mps for sentence in self._epoch),
            course_deg=_first(sentence.course_deg for sentence in self._epoch),
            hdop=_first(sentence.hdop for sentence in [*self._epoch, *dilution]),
            eph_m=_first(sentence.eph_m for sentence in self._epoch),
            satellites=satellites,
            utc_s=self._credible(_first(sentence.utc_s for sentence in self._epoch)),
            simulated=chosen.validity is Validity.SIMULATED,
            estimated=chosen.validity is Validity.ESTIMATED,
        )

    def _credible(self, utc_s: float | None) -> float | None:
        if utc_s is None or utc_s >= self._first_utc_s:
            return utc_s
        self.disbelieved_utc_s = utc_s
        return None


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _choose(epoch: Iterable[Sentence]) -> Sentence | None:
    """Give the sentence whose position counts, None when there is no fix.

    A simulator's position is taken as such. Otherwise a talker that says "void" in one sentence is not
    believed in another, and the combined talker's "void" speaks for all.
    """
    told = sorted(
        (s for s in epoch if s.kind in _BY_RANK), key=lambda sentence: _BY_RANK.index(sentence.kind)
    )
    simulated = [sentence for sentence in told if sentence.validity is Validity.SIMULATED]
    void = {sentence.talker for sentence in told if sentence.validity is Validity.VOID}
    believed = [s for s in told if not void & {s.talker, _COMBINED_TALKER}]
    return next((sentence for sentence in simulated or believed if sentence.lat is not None), None)


def _mode(dilution: Iterable[Sentence], alt_m: float | None, satellites: int | None) -> FixMode:
    """Give the mode of an epoch that has a position: as GSA says it, else by what was solved for.

    With several GSA (one a constellation) the best counts: one system without satellites says "no fix".
    """
    said = {sentence.mode for sentence in dilution}
    if FixMode.FIX_3D in said:
        return FixMode.FIX_3D
    solved = alt_m is not None and satellites is not None and satellites >= SATELLITES_FOR_3D
    return FixMode.FIX_3D if solved and FixMode.FIX_2D not in said else FixMode.FIX_2D


# --- the contract's position --------------------------------------------------------------------------------


def position(
    fix: Fix | None, now: Instant, *, subject: Subject, hub: tuple[float, float] | None = None
) -> Body | None:
    """Give the contract's position from the newest fix that has one, None when there never was one.

    `hub`: latitude and longitude of a hub that stands where it was put; it needs no receiver. `fix_at` is
    when the fix was received, not the satellites' time in it: so it is told by the same clock as the alarm,
    and repaired with it.
    """
    if hub is not None:
        lat, lon = hub
        return {
            "lat": lat,
            "lon": lon,
            "trusted": True,
            "subject": subject.value,
            "method": Method.HUB_FIXED.value,
        }
    if fix is None or fix.lat is None:
        return None
    age_s = _age_s(fix, now)
    fresh = age_s is not None and age_s <= FRESH_S
    return {
        **_told(fix),
        **_present(fix_at=fix.received, age_s=_rounded(age_s, 1)),
        "trusted": fresh and is_good(fix),
        "subject": subject.value,
        "method": (Method.GNSS if fresh else Method.LAST_KNOWN).value,
    }


def decode_nmea(lines: Iterable[bytes]) -> Iterator[Body]:
    """Give the position of each epoch in a receiver's log, as JSON values.

    Lines that begin with "#" are remarks. The log's own dates are believed, however old; `fix_at` is the
    receiver's time, and there is no age. A log that was cut off within its last epoch ends before it.
    """
    receiver = Receiver(first_utc_s=0.0)
    for line in lines:
        if not line.startswith(b"#"):
            yield from map(_decoded, receiver.feed(line))
    if not receiver.cut_off:
        yield from map(_decoded, receiver.flush())


def _decoded(fix: Fix) -> Body:
    fix_at = None
    if fix.utc_s is not None:
        moment = datetime.fromtimestamp(fix.utc_s, UTC)
        fix_at = moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return {
        **_told(fix),
        **_present(fix_at=fix_at),
        "trusted": fix.lat is not None and is_good(fix),
        "subject": Subject.VEHICLE.value,  # as long as the configuration does not say "hub"
        "method": Method.GNSS.value,
    }


def _told(fix: Fix) -> Body:
    """What the receiver said, rounded to what it can mean; 1e-7° is 1 cm."""
    return {
        **_present(lat=_rounded(fix.lat, 7), lon=_rounded(fix.lon, 7), alt_m=_rounded(fix.alt_m, 1)),
        **_present(speed_mps=_rounded(fix.speed_mps, 2), course_deg=_rounded(fix.course_deg, 1)),
        "mode": fix.mode.value,
        **_present(hdop=_rounded(fix.hdop, 2), eph_m=_rounded(fix.eph_m, 1), satellites=fix.satellites),
        **({"simulated": True} if fix.simulated else {}),
    }


def is_good(fix: Fix) -> bool:
    """Whether a fix, new, can be trusted: from satellites, and not known to be worse than 50 m.

    A receiver that tells neither error nor dilution is taken at its word that the fix is valid.
    """
    if fix.simulated or fix.estimated:
        return False
    found_m = error_m(fix)
    return found_m is None or found_m <= TRUSTED_ERROR_M


def error_m(fix: Fix) -> float | None:
    """How far off a fix may be, 95 %, metres; None where the receiver does not say."""
    if fix.eph_m is None and fix.hdop is not None:
        return fix.hdop * ERROR_95_M_PER_HDOP
    return fix.eph_m


def _age_s(fix: Fix, now: Instant) -> float | None:
    """Seconds since the fix came in; None when it came in another boot, and nobody knows."""
    if fix.received is None or fix.received.boot != now.boot:
        return None
    return max(0.0, now.mono_s - fix.received.mono_s)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _present(**fields: Json) -> Body:
    """Never guessed: a field that is not known is absent."""
    return {name: value for name, value in fields.items() if value is not None}
