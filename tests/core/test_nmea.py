"""The assembler: sentences found in a stream, and what each type says."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.model import FixMode
from gatewayd.core.nmea import MPS_PER_KNOT, SENTENCE_LIMIT_BYTES, Assembler, Sentence, Validity, read

# How much noise a run is fed; GATEWAYD_LONG asks for the long form.
NOISE_BYTES = 10**6 if os.environ.get("GATEWAYD_LONG") else 50_000

GGA = "GPGGA,123519.00,5200.6960,N,00421.4260,E,1,08,0.9,12.4,M,46.9,M,,"
RMC = "GNRMC,123519.00,A,5200.6960,N,00421.4260,E,10.0,84.4,151125,,,A"
LAT = 52 + 0.6960 / 60
LON = 4 + 21.4260 / 60


def framed(body: str, end: str = "\r\n") -> bytes:
    checksum = 0
    for character in body:
        checksum ^= ord(character)
    return f"${body}*{checksum:02X}{end}".encode("latin-1")


def said(body: str) -> Sentence:
    sentence = read(body)
    assert sentence is not None
    return sentence


# --- the stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_a_sentence_is_found_however_the_bytes_are_cut(size: int) -> None:
    """The same sentences come out of any chunks."""
    stream = framed(GGA) + framed(RMC)
    assembler = Assembler()
    found = [s for start in range(0, len(stream), size) for s in assembler.feed(stream[start : start + size])]
    assert [sentence.kind for sentence in found] == ["GGA", "RMC"]
    assert (assembler.sentences, assembler.rejected) == (2, 0)


@pytest.mark.parametrize(
    "noise",
    [
        b"\xb5\x62\x01\x07\x5c\x00$\x00*\x12\r\n\xff",  # UBX, with a "$" in it
        b"\xa0\xa2\x00\x29\x02\xff\xd6\xf7\x6e\xb0\xb3",  # SiRF binary
        b"$GPGGA,123519,52",  # torn, the next sentence follows on it
        b"$GPGGA,123519,5200.6960,N*00\r\n",  # a wrong checksum
        b"$" + b"9" * 1000,  # overlong
        b"$PGRMT,no checksum\r\n",
        b"\x00" * 300,
    ],
)
def test_noise_before_a_sentence_does_not_hide_it(noise: bytes) -> None:
    """Binary, torn, overlong or unchecked: the next whole sentence is found."""
    assembler = Assembler()
    assert [sentence.kind for sentence in assembler.feed(noise + framed(GGA))] == ["GGA"]
    assert assembler.sentences == 1
    assert assembler.rejected == noise.count(b"$")


@pytest.mark.parametrize("end", ["", "\r", "\n", "\r\n"])
def test_a_sentence_ends_with_its_checksum(end: str) -> None:
    """Whatever ends the line, and before it came: the fix does not wait for it."""
    assert Assembler().feed(framed(GGA, end))


def test_a_sentence_without_a_checksum_is_not_used() -> None:
    """Nothing would tell it from a damaged one."""
    assembler = Assembler()
    assert assembler.feed(f"${GGA}\r\n$".encode()) == []
    assert (assembler.sentences, assembler.rejected) == (0, 1)


def test_a_checksum_in_lower_case_is_one() -> None:
    """Some receivers write *6a."""
    assert Assembler().feed(framed(GGA).lower().replace(b"gpgga", b"GPGGA").replace(b"n", b"N")) == []
    assert Assembler().feed(framed(RMC)[:-4] + framed(RMC)[-4:].lower())


def test_the_longest_sentence_is_found_and_a_longer_one_is_not() -> None:
    """256 characters from "$" to "*"."""
    longest = "GPXXX," + "9" * (SENTENCE_LIMIT_BYTES - 1 - 6)
    assembler = Assembler()
    for byte in framed(longest) + framed(longest + "9"):
        assembler.feed(bytes([byte]))
    assert (assembler.sentences, assembler.rejected) == (1, 1)


def test_noise_is_counted_and_nothing_is_kept_of_it() -> None:
    """A million random bytes leave less than a sentence behind, and the next sentence is understood."""
    assembler = Assembler()
    for _ in range(NOISE_BYTES // 1000):
        assembler.feed(os.urandom(1000))
    assert assembler.rejected > 0
    assert len(assembler._tail) < SENTENCE_LIMIT_BYTES + 3
    assert assembler.feed(b"\r\n" + framed(GGA))


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_are_taken(chunks: list[bytes]) -> None:
    """Nothing raises, and what is found does not depend on the cut."""
    cut, whole = Assembler(), Assembler()
    assert [s for chunk in chunks for s in cut.feed(chunk)] == whole.feed(b"".join(chunks))
    assert cut.sentences == whole.sentences


ADDRESS = st.sampled_from(["GGA", "RMC", "GLL", "GNS", "GSA", "VTG", "GST", "ZDA"]).map("GP".__add__)
FIELD = st.one_of(
    st.sampled_from(
        ["", "A", "V", "N", "E", "T", "M", "0", "1", "3", "nan", "inf", "-1", "1e999", "123519.00"]
    ),
    st.from_regex(r"[0-9]{1,6}\.[0-9]{1,4}", fullmatch=True),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="$*,"), max_size=12),
)


@given(ADDRESS, st.lists(FIELD, max_size=25))
def test_any_fields_are_read_and_give_what_can_be(address: str, fields: list[str]) -> None:
    """A checked sentence full of nonsense neither raises nor says what cannot be."""
    sentence = said(",".join([address, *fields]))
    assert sentence.lat is None or abs(sentence.lat) <= 90
    assert sentence.lon is None or abs(sentence.lon) <= 180
    assert (sentence.lat is None) == (sentence.lon is None)
    assert sentence.speed_mps is None or 0 <= sentence.speed_mps < float("inf")
    assert sentence.course_deg is None or 0 <= sentence.course_deg <= 360
    assert sentence.hdop is None or 0 < sentence.hdop < float("inf")


# --- what a sentence says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("talker", ["GP", "GN", "GL", "GA", "GB", "BD", "QZ", "IN", "GI", "GQ"])
def test_every_talker_is_heard(talker: str) -> None:
    """All constellations, combined or alone, and integrated instruments."""
    sentence = said(talker + GGA[2:])
    assert sentence == Sentence(
        talker=talker,
        kind="GGA",
        validity=Validity.VALID,
        time_s=45319.0,
        lat=LAT,
        lon=LON,
        alt_m=12.4,
        hdop=0.9,
        satellites=8,
    )


@pytest.mark.parametrize(
    "body", ["GPGSV,1,1,00", "PQGGA,1", "PUBX,00,1", "PGRME,3.0,M", "GGA", "GPGGAX,1", ""]
)
def test_what_is_not_used_is_none(body: str) -> None:
    """Other types, proprietary ones, and a manufacturer's address that looks like a talker's."""
    assert read(body) is None


def test_rmc_tells_date_speed_and_course() -> None:
    """Knots become metres a second; date and time become the receiver's UTC."""
    sentence = said(RMC)
    assert sentence.utc_s == 1763210119.0
    assert sentence.speed_mps == pytest.approx(10 * MPS_PER_KNOT)
    assert sentence.course_deg == 84.4
    assert sentence.validity is Validity.VALID


@pytest.mark.parametrize(
    ("quality", "validity"),
    [
        ("", Validity.VOID),
        ("0", Validity.VOID),
        ("x", Validity.VOID),
        ("1", Validity.VALID),
        ("2", Validity.VALID),
        ("5", Validity.VALID),
        ("6", Validity.ESTIMATED),
        ("7", Validity.ESTIMATED),
        ("8", Validity.SIMULATED),
    ],
)
def test_gga_quality(quality: str, validity: Validity) -> None:
    """NMEA's table; what is not in it is no fix."""
    assert said(GGA.replace(",1,08,", f",{quality},08,")).validity is validity


@pytest.mark.parametrize(
    ("quality", "validity"), [("1", Validity.VOID), ("6", Validity.ESTIMATED), ("8", Validity.SIMULATED)]
)
def test_a_fix_from_no_satellite_is_none(quality: str, validity: Validity) -> None:
    """Some receivers repeat an old position so; dead reckoning and simulators say what they are."""
    assert said(GGA.replace(",1,08,", f",{quality},00,")).validity is validity


@pytest.mark.parametrize(
    ("status", "indicator", "validity"),
    [
        ("A", "", Validity.VALID),
        ("A", "A", Validity.VALID),
        ("A", "D", Validity.VALID),
        ("A", "R", Validity.VALID),
        ("A", "N", Validity.VOID),
        ("A", "E", Validity.ESTIMATED),
        ("A", "M", Validity.ESTIMATED),
        ("V", "E", Validity.VOID),
        ("V", "A", Validity.VOID),
        ("V", "S", Validity.SIMULATED),
        ("", "A", Validity.VOID),
    ],
)
def test_rmc_and_gll_status(status: str, indicator: str, validity: Validity) -> None:
    """The status, narrowed by the mode indicator; a simulator says "V" and yet has a position."""
    rmc = RMC.replace(",A,5200", f",{status},5200").removesuffix("A") + indicator
    gll = f"GPGLL,5200.6960,N,00421.4260,E,123519.00,{status},{indicator}"
    assert said(rmc).validity is validity
    assert said(gll).validity is validity


def test_an_old_gll_without_a_status_is_no_fix() -> None:
    """Before NMEA 2.0 it had none: nothing says that it is valid."""
    assert said("LCGLL,5200.6960,N,00421.4260,E,123519").validity is Validity.VOID


@pytest.mark.parametrize(
    ("modes", "validity"),
    [
        ("NNNN", Validity.VOID),
        ("", Validity.VOID),
        ("NAN", Validity.VALID),
        ("RR", Validity.VALID),
        ("NE", Validity.ESTIMATED),
        ("AS", Validity.SIMULATED),
    ],
)
def test_gns_mode_of_several_constellations(modes: str, validity: Validity) -> None:
    """The best constellation is the position's; a simulator is named before all."""
    sentence = said(f"GNGNS,123519.00,5200.6960,N,00421.4260,E,{modes},14,0.7,12.4,46.9,,,V")
    assert sentence.validity is validity
    assert (sentence.satellites, sentence.hdop, sentence.alt_m) == (14, 0.7, 12.4)


@pytest.mark.parametrize(
    "where",
    [
        ",,,",
        "0000.0000,N,00000.0000,E",
        "0,N,0,E",
        "9100.0000,N,00421.4260,E",
        "5200.6960,N,18100.0000,E",
        "5200.6960,X,00421.4260,E",
        "5200.6960,N,00421.4260,",
        "nan,N,inf,E",
        "52,N,4,E",
        "-5200.6960,N,00421.4260,E",
    ],
)
def test_an_impossible_position_is_none(where: str) -> None:
    """Empty, out of range, not a number, or the Gulf of Guinea of a receiver that knows nothing."""
    sentence = said(GGA.replace("5200.6960,N,00421.4260,E", where))
    assert (sentence.lat, sentence.lon) == (None, None)


def test_south_and_west_are_negative() -> None:
    """The hemisphere gives the sign."""
    sentence = said(GGA.replace(",N,", ",S,").replace(",E,", ",W,"))
    assert (sentence.lat, sentence.lon) == (-LAT, -LON)


@pytest.mark.parametrize(
    ("body", "mode", "hdop"),
    [
        ("GPGSA,A,3,03,07,08,11,,,,,,,,,3.6,2.0,3.0", FixMode.FIX_3D, 2.0),
        ("GNGSA,A,2,03,07,08,,,,,,,,,,3.6,2.1,3.0,1", FixMode.FIX_2D, 2.1),
        ("GPGSA,A,1,,,,,,,,,,,,,0.0,0.0,0.0", FixMode.NONE, None),
        (
            "GPGSA,A,3,23,13,07,25,27,30,31,32,33,34,35,36,37,38,39,,,,,,,,,,,,09.2,07.2,05.7",
            FixMode.FIX_3D,
            None,
        ),
        ("GPGSA,A", None, None),
    ],
)
def test_gsa_tells_mode_and_dilution(body: str, mode: FixMode | None, hdop: float | None) -> None:
    """Twelve satellites, with or without a system id; where more are listed the dilution is not read."""
    sentence = said(body)
    assert (sentence.mode, sentence.hdop, sentence.validity) == (mode, hdop, None)


@pytest.mark.parametrize(
    ("body", "course_deg", "knots"),
    [
        ("GPVTG,84.4,T,77.8,M,10.0,N,18.5,K,A", 84.4, 10.0),
        ("GPVTG,,T,,M,0.253,N,0.469,K,A", None, 0.253),
        ("GPVTG,84.4,77.8,10.0,18.5", None, None),
        ("GPVTG,,,,,,,,,N", None, None),
        ("GPVTG,400,T,,M,-1,N,,K", None, None),
    ],
)
def test_vtg_tells_course_and_speed(body: str, course_deg: float | None, knots: float | None) -> None:
    """Only where the units stand beside them."""
    sentence = said(body)
    assert sentence.course_deg == course_deg
    assert sentence.speed_mps == (None if knots is None else pytest.approx(knots * MPS_PER_KNOT))


@pytest.mark.parametrize(
    ("deviations", "eph_m"), [("3.0,4.0", 10.0), (",4.0", None), ("3.0,", None), ("nan,1", None)]
)
def test_gst_tells_the_error_at_95_percent(deviations: str, eph_m: float | None) -> None:
    """Twice the root of the sum of both variances."""
    assert said(f"GNGST,123519.00,6.1,1.5,1.2,12.0,{deviations},2.9").eph_m == eph_m


@pytest.mark.parametrize(
    ("body", "utc_s"),
    [
        ("GPZDA,123519.00,15,11,2025,00,00", 1763210119.0),
        ("GPZDA,123519.00,31,02,2025,00,00", None),
        ("GPZDA,,,,,00,00", None),
        ("GPZDA,,15,11,2025,00,00", None),
        ("GPZDA,250000,15,11,2025,00,00", None),
    ],
)
def test_zda_tells_the_date(body: str, utc_s: float | None) -> None:
    """Where it is one."""
    assert said(body).utc_s == utc_s
