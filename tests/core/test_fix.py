"""Epochs become fixes; fixes become the contract's position, trusted or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.fix import FRESH_S, RELEASED_S, Receiver, decode_nmea, position
from gatewayd.core.model import Body, ClockSource, Fix, FixMode, Instant, Subject
from gatewayd.core.nmea import MPS_PER_KNOT

# Degrees and minutes as they stand in the sentences below.
LAT = 52 + 0.6960 / 60
LON = 4 + 21.4260 / 60
NOISE_BYTES = 10**6 if os.environ.get("GATEWAYD_LONG") else 50_000


def at(mono_s: float, boot: str = "boot-1") -> Instant:
    return Instant(boot=boot, mono_s=mono_s, wall_s=1.8e9 + mono_s, source=ClockSource.NTP, uncertainty_ms=5)


def framed(body: str) -> bytes:
    checksum = 0
    for character in body:
        checksum ^= ord(character)
    return f"${body}*{checksum:02X}\r\n".encode()


def gga(second: int = 0, *, lat: str = "5200.6960", quality: str = "1", satellites: str = "08") -> bytes:
    where = f"{lat},N,00421.4260,E" if lat else ",,,"
    return framed(f"GPGGA,1235{second:02}.00,{where},{quality},{satellites},0.9,12.44,M,46.9,M,,")


def rmc(
    second: int = 0, *, lat: str = "5200.6960", status: str = "A", mode: str = "A", talker: str = "GP"
) -> bytes:
    where = f"{lat},N,00421.4260,E" if lat else ",,,"
    return framed(f"{talker}RMC,1235{second:02}.000,{status},{where},10.0,84.4,151125,,,{mode}")


def gsa(mode: str = "3", talker: str = "GP") -> bytes:
    return framed(f"{talker}GSA,A,{mode},03,07,08,11,,,,,,,,,1.7,1.1,1.4")


def fixes(*sentences: bytes) -> list[Fix]:
    receiver = Receiver()
    return receiver.feed(b"".join(sentences)) + receiver.flush()


def only(*sentences: bytes) -> Fix:
    (fix,) = fixes(*sentences)
    return fix


# --- one fix an epoch ---------------------------------------------------------------------------------------


def test_the_sentences_of_one_time_make_one_fix() -> None:
    """Each gives its own: GGA altitude and satellites, RMC speed and date, GSA the mode, GST the eph."""
    gst = framed("GPGST,123500.00,6.1,1.5,1.2,12.0,3.0,4.0,2.9")
    assert only(rmc(), gga(), gsa(), gst) == Fix(
        mode=FixMode.FIX_3D,
        lat=LAT,
        lon=LON,
        alt_m=12.44,
        speed_mps=10 * MPS_PER_KNOT,
        course_deg=84.4,
        hdop=0.9,
        eph_m=10.0,
        satellites=8,
        utc_s=1763210100.0,
    )


def test_another_time_ends_an_epoch() -> None:
    """The fix comes with the next epoch's first sentence, the last one with the flush."""
    receiver = Receiver()
    assert receiver.feed(gga(0) + rmc(0), at(1.0)) == []
    (first,) = receiver.feed(gga(1), at(2.0))
    assert first.received == at(1.0)
    assert [fix.received for fix in receiver.flush()] == [at(2.0)]


def test_a_flush_gives_the_epoch_once_and_again_only_with_more_of_it() -> None:
    """A receiver that pauses within its burst: what came is told at once, and better when more came."""
    receiver = Receiver()
    receiver.feed(rmc())
    assert [fix.alt_m for fix in receiver.flush()] == [None]
    assert receiver.flush() == []
    receiver.feed(gga())
    assert [fix.alt_m for fix in receiver.flush()] == [12.44]
    assert receiver.feed(gga(1)) == []


def test_without_times_the_same_sentence_again_begins_an_epoch() -> None:
    """A receiver that has just been switched on knows none."""
    void = framed("GPGGA,,,,,,0,00,99.99,,,,,,") + framed("GPRMC,,V,,,,,,,,,,N")
    assert [fix.mode for fix in fixes(void * 3)] == [FixMode.NONE] * 3


def test_sentences_without_a_position_make_no_fix() -> None:
    """Speed, date, error and satellites alone say nothing of where we are."""
    assert (
        fixes(framed("GPVTG,84.4,T,,M,10.0,N,18.5,K,A"), framed("GPZDA,123500,15,11,2025,00,00"), gsa()) == []
    )


def test_the_date_of_another_time_is_not_the_epochs() -> None:
    """A late ZDA does not date the next position."""
    assert only(gga(1), framed("GPZDA,123500.00,15,11,2025,00,00")).utc_s is None
    assert only(framed("GPZDA,123500.00,15,11,2025,00,00"), gga(1)).utc_s is None
    assert only(gga(1), framed("GPZDA,123501.00,15,11,2025,00,00")).utc_s == 1763210101.0


def test_gga_comes_before_gns_before_rmc_before_gll() -> None:
    """Where several positions are there, one counts."""
    gll = framed("GPGLL,5204.0000,N,00421.4260,E,123500.00,A,A")
    gns = framed("GPGNS,123500.00,5203.0000,N,00421.4260,E,AA,14,0.7,12.4,46.9,,")
    sentences = [gll, rmc(lat="5202.0000"), gns, gga(lat="5201.0000")]
    told = [only(*sentences[:count]).lat for count in (1, 2, 3, 4)]
    assert told == [pytest.approx(52 + minutes / 60) for minutes in (4, 2, 3, 1)]


# --- mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentences", "mode"),
    [
        ([gga(), gsa("3")], FixMode.FIX_3D),
        ([gga(), gsa("2")], FixMode.FIX_2D),
        ([gga(), gsa("1", "GL"), gsa("3", "GN")], FixMode.FIX_3D),
        ([rmc(), gsa("1")], FixMode.FIX_2D),
        ([rmc()], FixMode.FIX_2D),
        ([gga()], FixMode.FIX_3D),
        ([gga(satellites="03")], FixMode.FIX_2D),
        ([gga(satellites="")], FixMode.FIX_2D),
        ([gsa("3"), rmc()], FixMode.FIX_3D),
    ],
)
def test_the_mode_is_gsas_or_what_was_solved_for(sentences: list[bytes], mode: FixMode) -> None:
    """With several GSA the best; without one, an altitude from four satellites makes it 3D."""
    assert only(*sentences).mode is mode


def test_gsa_before_the_position_counts_for_it() -> None:
    """It has no time: that of the epoch before serves until this one's comes, and no longer."""
    first, second, third = fixes(rmc(0), gsa("3"), rmc(1), rmc(2))
    assert [first.mode, second.mode, third.mode] == [FixMode.FIX_3D, FixMode.FIX_3D, FixMode.FIX_2D]
    assert [first.hdop, second.hdop, third.hdop] == [1.1, 1.1, None]


# --- what is no fix -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentences",
    [
        [gga(quality="0")],
        [gga(lat="")],
        [rmc(status="V", mode="N")],
        [gga(), rmc(status="V")],  # one receiver, one opinion: it is not sure
        [gga(quality="6"), rmc(status="V", mode="E")],
        [gga(), rmc(status="V", talker="GN")],  # the combined solution speaks for all
        [gga(satellites="00"), rmc()],
    ],
)
def test_a_void_epoch_has_no_position(sentences: list[bytes]) -> None:
    """No position is given that the receiver does not stand by."""
    fix = only(*sentences)
    assert (fix.mode, fix.lat, fix.lon) == (FixMode.NONE, None, None)


def test_one_constellation_without_a_fix_does_not_void_another() -> None:
    """Receivers that report GPS and Galileo apart."""
    fix = only(gga(), rmc(status="V", mode="N", talker="GA", lat=""))
    assert fix.lat == LAT


def test_a_sentence_with_a_wrong_checksum_counts_for_nothing() -> None:
    """Its position is never used, another sentence's is."""
    damaged = gga(lat="5201.0000").replace(b"5201", b"5301")
    assert fixes(damaged) == []
    assert only(damaged, rmc()).lat == LAT


def test_a_simulator_is_marked() -> None:
    """GGA says 8, RMC says V, S: the position is given as simulated."""
    fix = only(rmc(status="V", mode="S"), gga(quality="8"))
    assert (fix.simulated, fix.lat) == (True, LAT)
    assert only(gga(), rmc(status="V", mode="S", lat="5201.0000")).simulated


def test_dead_reckoning_is_marked() -> None:
    """In a tunnel: the receiver stands by it, and says it is an estimate."""
    assert only(gga(quality="6", satellites="00"), rmc(mode="E")).estimated
    assert not only(gga()).estimated


# --- dates --------------------------------------------------------------------------------------------------


def test_a_date_before_the_release_is_not_believed() -> None:
    """1,024 weeks early: the position counts, the time does not, and it is known."""
    receiver = Receiver()
    receiver.feed(framed("GPRMC,123500.00,A,5200.6960,N,00421.4260,E,10.0,84.4,010406,,,A"))
    (fix,) = receiver.flush()
    assert (fix.utc_s, fix.lat) == (None, LAT)
    assert receiver.disbelieved_utc_s == 1143894900.0
    assert receiver.disbelieved_utc_s < RELEASED_S


def test_a_credible_date_is_not_disbelieved() -> None:
    """The counterpart."""
    receiver = Receiver()
    receiver.feed(rmc())
    assert receiver.disbelieved_utc_s is None


def test_without_a_fix_there_is_no_time() -> None:
    """Before its first fix a receiver tells some date, often its week zero: that is no rollover."""
    receiver = Receiver()
    receiver.feed(framed("GPRMC,235946.005,V,8960.000000,N,00000.000000,E,0.000,0.00,050180,,,N"))
    (fix,) = receiver.flush()
    assert (fix.utc_s, receiver.disbelieved_utc_s) == (None, None)
    assert only(rmc(status="V", mode="N")).utc_s is None


# --- bounds and properties ----------------------------------------------------------------------------------


def test_nothing_grows_without_bound() -> None:
    """Endless sentences that end no epoch, and endless noise."""
    receiver = Receiver()
    for number in range(2000):
        receiver.feed(gsa() + framed("GPVTG,84.4,T,,M,10.0,N,18.5,K,A"))
        receiver.feed(framed(f"{number % 100:02}GGA,,,,,,0,,,,,,,,"))
    assert len(receiver._epoch) <= 32
    assert len(receiver._dilution) <= 8
    for _ in range(NOISE_BYTES // 1000):
        receiver.feed(os.urandom(1000))
    assert len(receiver._epoch) <= 32


SENTENCES = st.sampled_from(
    [
        gga(0),
        gga(1),
        rmc(0),
        rmc(1),
        gsa(),
        gsa("2", "GN"),
        gga(1, quality="8"),
        rmc(2, status="V"),
        b"\xb5b$GP",
    ]
)


@given(st.lists(SENTENCES, max_size=30).map(b"".join), st.lists(st.integers(0, 2000), max_size=10))
def test_the_cut_of_the_bytes_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    """The same fixes from any chunks."""
    cut = Receiver()
    edges = [0, *sorted(cuts), len(stream)]
    found = [fix for start, end in pairwise(edges) for fix in cut.feed(stream[start:end])]
    whole = Receiver()
    assert found == whole.feed(stream)
    assert cut.flush() == whole.flush()


@given(st.data())
def test_no_single_wrong_byte_makes_a_position(data: st.DataObject) -> None:
    """An exclusive-or over all bytes changes whenever one of them does.

    What remains is a byte that becomes "$" or "*" and so moves the sentence's ends: from there on no field
    is at its place, or the rest is cut off behind a position that is still the sent one.
    """
    stream = gga(0) + rmc(0, lat="5200.7000") + gsa() + gga(1, lat="5200.8000") + rmc(1, status="V")
    sent = {LAT, 52 + 0.7 / 60, 52 + 0.8 / 60}
    index = data.draw(st.integers(0, len(stream) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = stream[:index] + bytes([byte]) + stream[index + 1 :]
    for fix in fixes(damaged):
        assert fix.lat is None or fix.lat in sent


# --- the contract's position --------------------------------------------------------------------------------

FIX = Fix(
    mode=FixMode.FIX_3D, received=at(100.0), lat=52.01160004, lon=4.3571, alt_m=12.44, hdop=0.9, satellites=8
)


def told(fix: Fix | None, now: Instant, hub: tuple[float, float] | None = None) -> Body | None:
    return position(fix, now, subject=Subject.VEHICLE, hub=hub)


def trusted(fix: Fix, now: Instant) -> object:
    body = told(fix, now)
    assert body is not None
    return body["trusted"]


def test_a_fresh_fix_is_told_whole() -> None:
    """What is known, when it came, how old it is; what is not known is absent."""
    assert told(FIX, at(101.24)) == {
        "lat": 52.0116,
        "lon": 4.3571,
        "alt_m": 12.4,
        "mode": "3d",
        "hdop": 0.9,
        "satellites": 8,
        "fix_at": at(100.0),
        "age_s": 1.2,
        "trusted": True,
        "subject": "vehicle",
        "method": "gnss",
    }


@pytest.mark.parametrize(
    ("age_s", "expected"), [(0.0, (True, "gnss")), (30.0, (True, "gnss")), (30.1, (False, "last_known"))]
)
def test_an_old_fix_is_the_last_known_one_and_not_trusted(age_s: float, expected: tuple[bool, str]) -> None:
    """The figure that binds: 30 s."""
    body = told(FIX, at(100.0 + age_s))
    assert body is not None
    assert (body["trusted"], body["method"]) == expected
    assert age_s <= FRESH_S or body["lat"] == 52.0116


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"eph_m": 50.0}, True),
        ({"eph_m": 50.1}, False),
        ({"eph_m": 3.0, "hdop": 9.0}, True),  # what the receiver estimates is better than what we derive
        ({"hdop": 5.0}, True),
        ({"hdop": 5.1}, False),
        ({"hdop": None}, True),
        ({"simulated": True}, False),
        ({"estimated": True}, False),
    ],
)
def test_a_fix_worse_than_50_m_or_not_from_satellites_is_not_trusted(
    change: Mapping[str, object], expected: bool
) -> None:
    """By the receiver's own error at 95 %, else by 10 m for each unit of dilution."""
    assert trusted(replace(FIX, **change), at(101.0)) is expected  # type: ignore[arg-type]  # one field each


def test_a_fix_of_another_boot_has_no_age() -> None:
    """It is told as last known, untrusted."""
    body = told(FIX, at(1.0, "boot-2"))
    assert body is not None
    assert (body["trusted"], body["method"], "age_s" in body) == (False, "last_known", False)


def test_a_simulated_position_says_so() -> None:
    """Also to ops, during a test."""
    body = told(replace(FIX, simulated=True), at(101.0))
    assert body is not None
    assert body["simulated"] is True


@pytest.mark.parametrize("fix", [None, Fix(mode=FixMode.NONE, received=at(100.0), satellites=3)])
def test_without_any_position_there_is_none(fix: Fix | None) -> None:
    """The field is then absent from the alarm."""
    assert told(fix, at(101.0)) is None


def test_a_hub_is_where_it_was_put() -> None:
    """It needs no receiver, and its position does not age."""
    assert position(FIX, at(500.0), subject=Subject.HUB, hub=(52.0, 4.3)) == {
        "lat": 52.0,
        "lon": 4.3,
        "trusted": True,
        "subject": "hub",
        "method": "hub_fixed",
    }


def test_a_hub_without_coordinates_uses_its_receiver() -> None:
    """Where one is fitted."""
    body = position(FIX, at(101.0), subject=Subject.HUB)
    assert body is not None
    assert (body["subject"], body["method"], body["lat"]) == ("hub", "gnss", 52.0116)


# --- a log --------------------------------------------------------------------------------------------------


def test_a_log_gives_one_position_an_epoch() -> None:
    """With the receiver's own time, however old; no age; "none" where there was no fix."""
    lines = [
        b"# $GPGGA remarks are not the receiver's\r\n",
        b"#" + gga(9),
        framed("GPRMC,123500.00,A,5200.6960,N,00421.4260,E,10.0,84.4,151105,,,A"),
        gga(0),
        gga(1, lat="", quality="0", satellites="00"),
    ]
    first, second = decode_nmea(lines)
    assert first == {
        "lat": 52.0116,
        "lon": 4.3571,
        "alt_m": 12.4,
        "speed_mps": 5.14,
        "course_deg": 84.4,
        "mode": "3d",
        "hdop": 0.9,
        "satellites": 8,
        "fix_at": "2005-11-15T12:35:00.000Z",
        "trusted": True,
        "subject": "vehicle",
        "method": "gnss",
    }
    assert second == {
        "mode": "none",
        "satellites": 0,
        "trusted": False,
        "subject": "vehicle",
        "method": "gnss",
    }


def test_a_simulators_log_is_not_trusted() -> None:
    """The contract: simulated, and trusted false."""
    (body,) = decode_nmea([gga(quality="8")])
    assert (body["simulated"], body["trusted"], body["mode"]) == (True, False, "3d")


def test_a_log_cut_off_within_its_last_epoch_ends_before_it() -> None:
    """Known once three epochs ended alike; half an epoch is not one in which the position was reported."""
    lines = [sentence for second in range(4) for sentence in (rmc(second), gga(second))]
    assert len(list(decode_nmea(lines))) == 4
    assert len(list(decode_nmea([*lines, rmc(4)]))) == 4
    assert len(list(decode_nmea([*lines[:4], rmc(4)]))) == 3


def test_an_epoch_that_begins_with_the_date_alone_is_no_habit() -> None:
    """A date, then positions of other times."""
    lines = [framed("GPZDA,123500.00,15,11,2025,00,00"), gga(1), gga(2)]
    assert len(list(decode_nmea(lines))) == 2


def test_an_empty_log_gives_nothing() -> None:
    """No line, no position."""
    assert list(decode_nmea([])) == []
