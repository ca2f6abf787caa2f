"""Real receivers' logs against what a trusted decoder (gpsd) reads from them.

576 distinct positions; 573 are found. The three others gpsd shows for an instant from a GGA, and takes back
with the RMC that follows: the receiver itself says they are not valid.
- mtk-3301: GGA quality 0 and RMC "V" (the epoch before the first fix);
- myguide-3100, twice: GGA without a quality and RMC "V", GSA mode 1 (no fix yet).
An alarm with a position its receiver does not stand by would send people to the wrong door.
"""

import json
from pathlib import Path
from typing import TypeAlias

import pytest

from gatewayd.core.fix import decode_nmea

LOGS = Path(__file__).parents[2] / "shared" / "data" / "nmea"
TOLERANCE_DEG = 1e-5
SHARE_FOUND = 0.98
NOT_STOOD_BY = {"mtk-3301": 1, "myguide-3100": 2}

Place: TypeAlias = tuple[float, float]

pytestmark = pytest.mark.skipif(not LOGS.is_dir(), reason=f"the receivers' logs are not at {LOGS}")


def logs() -> list[Path]:
    return sorted(LOGS.glob("*.log"))


# Where there are none, pytest before 8.4 has a placeholder for them that no function of ours could name.
each_log = pytest.mark.parametrize("log", logs(), ids=[log.stem for log in logs()] or None)


def expected(log: Path) -> set[Place]:
    reports = map(json.loads, log.with_name(f"{log.name}.chk").read_text().splitlines())
    return {
        (report["lat"], report["lon"])
        for report in reports
        if report["class"] == "TPV" and report["mode"] >= 2 and "lat" in report
    }


def decoded(log: Path) -> list[dict[str, object]]:
    # Through JSON and back, as the command line gives it.
    return [json.loads(json.dumps(body)) for body in decode_nmea(log.read_bytes().splitlines(keepends=True))]


def places(log: Path) -> set[Place]:
    return {(float(str(p["lat"])), float(str(p["lon"]))) for p in decoded(log) if p["mode"] != "none"}


def missing(wanted: set[Place], there: set[Place]) -> set[Place]:
    """Those of `wanted` that have no neighbour in `there`."""
    return {
        place
        for place in wanted
        if not any(
            all(abs(a - b) <= TOLERANCE_DEG for a, b in zip(place, other, strict=True)) for other in there
        )
    }


@each_log
def test_a_receivers_positions_are_found_and_no_other(log: Path) -> None:
    """Every position of the trusted decoder but the three explained above; none that it does not have."""
    wanted, found = expected(log), places(log)
    assert missing(found, wanted) == set()
    lost = missing(wanted, found)
    print(f"{log.stem}: {len(wanted) - len(lost)} of {len(wanted)}")
    assert len(lost) == NOT_STOOD_BY.get(log.stem, 0), lost


def test_over_all_logs_98_percent_are_found() -> None:
    """The bar, and that there are logs at all."""
    wanted = {log: expected(log) for log in logs()}
    total = sum(map(len, wanted.values()))
    lost = sum(len(missing(wanted[log], places(log))) for log in wanted)
    print(f"{total - lost} of {total} positions found")
    assert (len(wanted), total) == (47, 576)
    assert (total - lost) / total >= SHARE_FOUND


def test_a_simulator_is_told_as_one() -> None:
    """The handset whose log was made in its simulation mode."""
    told = decoded(LOGS / "GPSmap-76S.log")
    assert told
    assert all(body["simulated"] is True and body["trusted"] is False for body in told)


@each_log
def test_the_cut_of_a_log_changes_nothing(log: Path) -> None:
    """Line by line or 61 bytes at a time: the same positions."""
    data = b"".join(line for line in log.read_bytes().splitlines(keepends=True) if not line.startswith(b"#"))
    pieces = [data[start : start + 61] for start in range(0, len(data), 61)]
    # A piece may begin with a "#" of the log's own text, which would make it a remark.
    assert list(decode_nmea(b" " + piece if piece.startswith(b"#") else piece for piece in pieces)) == list(
        decode_nmea([data])
    )
