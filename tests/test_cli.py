"""The command line as a person or a script uses it: a process of its own, its output and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gatewayd import __version__

ADDRESS = "54:48:E6:8F:80:A5"
KEY = "231d39c1d7cc1ab1aee224cd096db932"
GOOD = f"""\
[gateway]
id = gw-1

[mqtt]
brokers = localhost
password_credential = broker
username = gateway

[tag nurse-1-tag]
address = {ADDRESS}
key_credential = tag-key
"""
NMEA = (
    "$GNRMC,120000.00,A,5200.6960,N,00421.4260,E,15.55,90.0,010326,,,A*44\r\n"
    "$GNGGA,120000.00,5200.6960,N,00421.4260,E,1,09,0.9,1.2,M,45.1,M,,*44\r\n"
)


def gatewayd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gatewayd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)


def checked(sentence: str) -> str:
    """The sentence with its checksum put right (NMEA 0183: the exclusive or of all between $ and *)."""
    body = sentence[1 : sentence.index("*")]
    total = 0
    for character in body:
        total ^= ord(character)
    return f"${body}*{total:02X}\r\n"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "gatewayd.conf"
    path.write_text(GOOD)
    return path


def test_the_version_is_told() -> None:
    run = gatewayd("--version")
    assert (run.returncode, run.stdout) == (0, f"gatewayd {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [(), ("dance",), ("decode",), ("run", "--loud"), ("decode", "advert", "--address", "nowhere")],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(arguments: tuple[str, ...]) -> None:
    run = gatewayd(*arguments)
    assert run.returncode == 2
    assert run.stderr
    assert run.stdout == ""


def test_a_good_configuration_is_said_to_be_one_with_what_is_missing_around_it(configuration: Path) -> None:
    run = gatewayd("check-config", "--config", configuration)
    assert run.returncode == 0
    assert "good" in run.stdout
    assert f"warning: {configuration}:6: [mqtt] password_credential = broker: expected" in run.stderr


def test_every_error_of_a_configuration_is_told_at_once(configuration: Path) -> None:
    """With path, line, section, key, value, what was expected and what was found; exit 78."""
    configuration.write_text(
        "[mqtt]\nbroker = a\ntls = perhaps\n\n[gps]\nsource = moon\n[gateway]\nid = gw-1\n"
    )
    run = gatewayd("check-config", "--config", configuration)
    assert run.returncode == 78
    lines = run.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{configuration}:{number}" for number in (2, 3, 6)]
    assert "brokers" in lines[0]
    assert all("expected" in line and "got" in line for line in lines)


def test_a_program_reads_the_errors_as_json(configuration: Path) -> None:
    configuration.write_text("[mqtt]\ntls = perhaps\n[gateway]\nid = gw-1\n")
    run = gatewayd("check-config", "--json", "--config", configuration)
    assert run.returncode == 78
    told = json.loads(run.stdout)
    assert told["ok"] is False
    assert told["errors"][0]["line"] == 2


def test_effective_values_are_shown_with_their_origin_and_without_secrets(configuration: Path) -> None:
    credentials = configuration.parent / "credentials"
    credentials.mkdir()
    (credentials / "tag-key").write_text(KEY)
    (credentials / "broker").write_text("correct horse")
    run = gatewayd("show-config", "--config", configuration, CREDENTIALS_DIRECTORY=str(credentials))
    assert run.returncode == 0
    assert f"{configuration}:2" in next(line for line in run.stdout.splitlines() if line.startswith("id"))
    assert KEY not in run.stdout
    assert "correct horse" not in run.stdout
    as_json = gatewayd("show-config", "--json", "--config", configuration)
    assert json.loads(as_json.stdout)


def test_a_daemon_without_a_good_configuration_ends_with_78(configuration: Path) -> None:
    configuration.write_text("[mqtt]\ntls = perhaps\n[gateway]\nid = gw-1\n")
    state = configuration.parent / "state"
    run = gatewayd("run", "--config", configuration, "--state", state)
    assert run.returncode == 78
    assert f"{configuration}:2: [mqtt] tls = perhaps: expected" in run.stderr


def test_an_encrypted_advertisement_is_decoded_with_its_key() -> None:
    """The published vector of BTHome v2."""
    frame = "41a47266c95f730011223378237214"
    run = gatewayd("decode", "advert", "--address", ADDRESS, "--service-data", f"fcd2:{frame}", "--key", KEY)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["format"], told["encrypted"], told["authenticated"]) == ("bthome", True, True)
    assert told["counter"] == 0x33221100


def test_an_advertisement_that_no_decoder_claims_fails() -> None:
    run = gatewayd("decode", "advert", "--address", ADDRESS, "--manufacturer-data", "ffff:00")
    assert run.returncode == 1
    assert "bthome" in run.stderr


def test_a_receivers_log_becomes_one_position_a_line(tmp_path: Path) -> None:
    log = tmp_path / "drive.nmea"
    log.write_text("".join(checked(sentence) for sentence in NMEA.splitlines()))
    run = gatewayd("decode", "nmea", log)
    assert run.returncode == 0, run.stderr
    (position,) = map(json.loads, run.stdout.splitlines())
    assert position["lat"] == pytest.approx(52.0116)
    assert position["lon"] == pytest.approx(4.3571, abs=1e-5)


def test_a_log_that_is_not_there_fails(tmp_path: Path) -> None:
    run = gatewayd("decode", "nmea", tmp_path / "none")
    assert run.returncode == 1
    assert "No such file" in run.stderr
