"""What a gateway stands on: its configuration, its credentials, its service, its installation."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from looking import ADDRESS, KEY, RUNNING, loaded, machine, program, said, systemd, worst

from gatewayd.config.load import keep
from gatewayd.edge import signing
from gatewayd.selftest import configuration, credentials, installation, service
from gatewayd.selftest.installation import Installation
from gatewayd.selftest.machine import command, units
from gatewayd.selftest.row import Verdict

TAGGED = f"[gateway]\nid = gw-1\n[tag nurse-1-tag]\naddress = {ADDRESS}\n"
SECRET = f"{TAGGED}key_credential = tag-key\n[mqtt]\nusername = gw-1\npassword_credential = broker\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like /etc/gatewayd."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "gatewayd.conf").write_text(TAGGED)
    return tmp_path


# --- configuration ------------------------------------------------------------------------------------------


def looked(folder: Path, *, daemon_runs: bool = False) -> tuple[Verdict, str, str]:
    read = configuration.read(folder, folder / "state", credentials=None)
    return worst(configuration.judge(read, daemon_runs=daemon_runs))


def test_a_good_configuration_is_said_to_be_one_with_its_files(folder: Path) -> None:
    verdict, found, _ = looked(folder)
    assert verdict is Verdict.OK
    assert str(folder / "gatewayd.conf") in found
    assert "1 tag assigned" in found


def test_a_gateway_without_tags_hears_no_press(folder: Path) -> None:
    (folder / "gatewayd.conf").write_text("[gateway]\nid = gw-1\n")
    verdict, found, do = looked(folder)
    assert (verdict, "no press can be heard" in found) == (Verdict.WARN, True)
    assert "gatewayd tags scan" in do
    (folder / "gatewayd.conf").write_text("[gateway]\nid = gw-1\n[gpio]\npanic_button = 17\n")
    assert looked(folder)[0] is Verdict.OK
    fresh = configuration.Configuration(loaded=loaded("# nothing set yet"))
    assert "nothing is set, all is default" in worst(configuration.judge(fresh, daemon_runs=False))[1]


def test_a_bad_configuration_is_refused_with_file_and_line(folder: Path) -> None:
    """Of many errors some are named; without a last good one the daemon cannot start."""
    (folder / "conf.d" / "10-bad.conf").write_text("[mqtt]\na = 1\nb = 1\nc = 1\ntls = perhaps\n")
    read = configuration.read(folder, folder / "state", credentials=None)
    assert (read.is_bad, read.loaded) == (True, None)
    verdict, found, do = looked(folder)
    assert verdict is Verdict.FAIL
    assert found.startswith("4 errors, the daemon cannot start: ")
    assert f"{folder / 'conf.d' / '10-bad.conf'}:2" in found
    assert "and 1 more" in found
    assert "gatewayd check-config" in do


def test_beside_a_bad_configuration_the_last_good_one_counts(folder: Path) -> None:
    good = configuration.read(folder, folder / "state", credentials=None).loaded
    assert good is not None
    assert keep(good, folder / "state") is None
    (folder / "gatewayd.conf").write_text("[mqtt]\ntls = perhaps\n")
    read = configuration.read(folder, folder / "state", credentials=None)
    assert read.is_bad
    assert read.loaded is not None
    assert read.loaded.config.gateway.id == "gw-1"
    assert "starts on the last good one" in looked(folder)[1]


def test_a_drop_in_that_is_not_read_is_named(folder: Path) -> None:
    """Its name must end in .conf and not begin with a dot; the README is no drop-in."""
    for name in ("README", "10-good.conf", "20-tags.conf.bak", ".30-tags.conf"):
        (folder / "conf.d" / name).write_text("# nothing\n")
    verdict, found, do = looked(folder)
    assert verdict is Verdict.WARN
    assert found.endswith(": .30-tags.conf, 20-tags.conf.bak")
    assert "rename" in do


def test_a_configuration_that_the_daemon_has_not_read_yet_is_told(folder: Path) -> None:
    """While none runs it will be read anyway."""
    good = configuration.read(folder, folder / "state", credentials=None).loaded
    assert good is not None
    keep(good, folder / "state")
    assert looked(folder, daemon_runs=True)[0] is Verdict.OK
    (folder / "gatewayd.conf").write_text(TAGGED.replace("gw-1", "gw-2"))
    verdict, found, do = looked(folder, daemon_runs=True)
    assert (verdict, do) == (Verdict.WARN, "systemctl reload gatewayd")
    assert "changed" in found
    assert looked(folder, daemon_runs=False)[0] is Verdict.OK


def test_what_is_missing_around_a_configuration_is_told_but_for_credentials(folder: Path) -> None:
    (folder / "gatewayd.conf").write_text(f"{SECRET}tls = yes\nca_file = /nowhere/ca.pem\n")
    read = configuration.read(folder, folder / "state", credentials=None)
    row = said(configuration.judge(read, daemon_runs=False))
    assert row.verdict is Verdict.WARN
    assert [finding.found for finding in row.findings if "ca_file" in finding.found]
    assert not [finding.found for finding in row.findings if "credential" in finding.found]


# --- credentials --------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A closed folder with what SECRET names."""
    path = tmp_path / "credentials"
    path.mkdir(mode=0o700)
    for name, secret in (("tag-key", KEY), ("broker", "correct horse")):
        (path / name).write_text(secret)
        (path / name).chmod(0o600)
    return path


def secret(folder: Path | None, given: Path | None = None) -> tuple[Verdict, str, str]:
    return worst(
        credentials.judge(credentials.look(loaded(SECRET, credentials=folder), folder, given)),
    )


def test_credentials_that_are_there_are_named_and_not_shown(secrets: Path) -> None:
    verdict, found, _ = secret(secrets)
    assert verdict is Verdict.OK
    assert found == f"2 credentials in {secrets}: tag-key, broker"


def test_no_credentials_are_needed_where_none_are_named() -> None:
    assert worst(credentials.judge(credentials.look(loaded(TAGGED), None, None)))[0] is Verdict.OFF


def test_a_missing_password_keeps_the_gateway_from_its_broker(secrets: Path) -> None:
    (secrets / "broker").unlink()
    verdict, found, do = secret(secrets)
    assert verdict is Verdict.FAIL
    assert "[mqtt] password_credential = broker" in found
    assert str(secrets / "broker") in do
    assert "systemctl restart gatewayd" in do


def test_a_missing_or_odd_tag_key_leaves_the_alarm_unproved(secrets: Path) -> None:
    """It is no failure: the press still raises an alarm."""
    for spoil in ((secrets / "tag-key").unlink, lambda: (secrets / "tag-key").write_text("short")):
        spoil()
        verdict, found, do = secret(secrets)
        assert verdict is Verdict.WARN
        assert "[tag nurse-1-tag]" in found
        assert "unproved" in found
        assert "32 hex digits" in do


def test_without_a_folder_it_is_said_where_credentials_belong() -> None:
    verdict, _, do = secret(None)
    assert verdict is Verdict.FAIL
    assert "/etc/gatewayd/credentials/broker" in do


def test_who_may_not_read_them_is_told_to_be_root(secrets: Path) -> None:
    look = credentials.look(loaded(SECRET, credentials=secrets), secrets, None)
    (secrets / "broker").unlink()
    problem = loaded(SECRET, credentials=secrets).warnings[0]
    denied = replace(look, problems=(replace(problem, got="permission denied"),))
    verdict, _, do = worst(credentials.judge(denied))
    assert (verdict, "sudo gatewayd selftest" in do) == (Verdict.WARN, True)


def test_secrets_that_others_can_read_are_told(secrets: Path) -> None:
    """A closed folder keeps what is in it, whatever its mode."""
    (secrets / "broker").chmod(0o644)
    assert secret(secrets)[0] is Verdict.OK
    secrets.chmod(0o755)
    verdict, found, do = secret(secrets)
    assert verdict is Verdict.WARN
    assert str(secrets / "broker") in found
    assert do == f"chmod -R go= {secrets}"


def test_a_credential_that_the_service_was_not_given_is_told(secrets: Path, tmp_path: Path) -> None:
    """systemd hands them over at the start, under names of its own; where none can be seen, no word of it."""
    given = tmp_path / "given"
    given.mkdir()
    assert secret(secrets, given)[0] is Verdict.OK
    for name in ("tag-key", "broker"):
        shutil.copy(secrets / name, given / f"gatewayd_{name}")
    assert secret(secrets, given)[0] is Verdict.OK
    (secrets / "broker").write_text("battery staple")
    verdict, found, do = secret(secrets, given)
    assert (verdict, do) == (Verdict.FAIL, "systemctl restart gatewayd")
    assert found.startswith("broker was changed")
    (given / "gatewayd_broker").unlink()
    assert secret(secrets, given)[0] is Verdict.FAIL


# --- service ------------------------------------------------------------------------------------------------


def serviced(**changes: str) -> tuple[Verdict, str, str]:
    return worst(service.judge(RUNNING | changes, mono_s=7201.0, elsewhere=False))


def test_a_service_that_runs_says_since_when_and_what_it_says() -> None:
    verdict, found, _ = serviced()
    assert verdict is Verdict.OK
    assert found == "runs for 2 h as process 4711: hearing 1 tag, online, 0 waiting"
    assert serviced(StatusText="")[1] == "runs for 2 h as process 4711"


@pytest.mark.parametrize(
    ("changes", "verdict", "found", "do"),
    [
        ({"LoadState": "masked"}, Verdict.FAIL, "masked", "systemctl unmask gatewayd"),
        ({"LoadState": "not-found"}, Verdict.OFF, "not installed", ""),
        (
            {"ActiveState": "inactive", "SubState": "dead"},
            Verdict.FAIL,
            "no press is heard",
            "systemctl start gatewayd",
        ),
        (
            {"ActiveState": "failed", "Result": "watchdog", "ExecMainStatus": "6"},
            Verdict.FAIL,
            "result watchdog",
            "journalctl -u gatewayd",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "78"},
            Verdict.FAIL,
            "configuration was refused",
            "gatewayd check-config",
        ),
        ({"NRestarts": "1"}, Verdict.WARN, "again once", "journalctl -u gatewayd"),
        ({"NRestarts": "3"}, Verdict.WARN, "again 3 times", "journalctl -u gatewayd"),
        ({"UnitFileState": "disabled"}, Verdict.WARN, "does not start when", "systemctl enable gatewayd"),
        ({"NeedDaemonReload": "yes"}, Verdict.WARN, "was changed", "systemctl daemon-reload"),
    ],
)
def test_a_service_that_is_not_well_is_told(
    changes: dict[str, str], verdict: Verdict, found: str, do: str
) -> None:
    got = serviced(**changes)
    assert got[0] is verdict
    assert found in got[1]
    assert do in got[2]


def test_drop_ins_of_the_unit_are_named() -> None:
    drop_in = "/etc/systemd/system/gatewayd.service.d/local.conf"
    row = said(service.judge(RUNNING | {"DropInPaths": drop_in}, mono_s=7201.0, elsewhere=False))
    assert row.verdict is Verdict.OK
    assert drop_in in row.findings[-1].found


def test_the_service_is_not_judged_by_another_configuration() -> None:
    assert worst(service.judge(RUNNING, mono_s=0.0, elsewhere=True))[0] is Verdict.OFF


async def test_systemd_is_asked_for_all_units_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", systemd(tmp_path, {"gatewayd.service": RUNNING | {"StatusText": "a=b"}}))
    ours, other = await units("gatewayd.service", "bluetooth.service")
    assert ours["StatusText"] == "a=b"
    assert service.main_pid(ours) == 4711
    assert other["LoadState"] == "not-found"
    assert service.main_pid(other) is None


async def test_without_systemd_nothing_is_known_of_a_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await units("a.service", "b.service") == [{}, {}]
    program(tmp_path, "systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    assert await units("a.service", "b.service") == [{}, {}]


async def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "hangs", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert await command("hangs", limit_s=0.2) is None


# --- installation -------------------------------------------------------------------------------------------

WELL = Installation(
    versions={"gatewayd": "0.1.0", "os": "Debian", "pyserial": "3.5"},
    bluez="5.82",
    root=True,
    user="gatewayd",
    groups=frozenset({"gatewayd", "bluetooth", "dialout", "audio"}),
    needs={"bluetooth": "the radio", "dialout": "the receiver's port"},
    experimental=True,
)


def test_an_installation_that_is_well_is_its_versions() -> None:
    verdict, found, _ = worst(installation.judge(WELL))
    assert (verdict, found) == (Verdict.OK, "gatewayd 0.1.0, os Debian, bluez 5.82")


@pytest.mark.parametrize(
    ("changed", "verdict", "found", "do"),
    [
        (replace(WELL, bluez=None), Verdict.FAIL, "not installed", "apt install bluez"),
        (replace(WELL, experimental=False), Verdict.WARN, "experimental", "systemctl restart bluetooth"),
        (replace(WELL, root=False), Verdict.WARN, "not run as root", "sudo gatewayd selftest"),
        (
            replace(WELL, groups=frozenset({"bluetooth"})),
            Verdict.FAIL,
            "not in the group dialout, which it needs for the receiver's port",
            "usermod -aG dialout gatewayd; systemctl restart gatewayd",
        ),
    ],
)
def test_an_installation_that_lacks_something_is_told(
    changed: Installation, verdict: Verdict, found: str, do: str
) -> None:
    got = worst(installation.judge(changed))
    assert got[0] is verdict
    assert found in got[1]
    assert do in got[2]


def test_a_bluez_that_does_not_say_its_version_is_installed_all_the_same() -> None:
    assert worst(installation.judge(replace(WELL, bluez="")))[0] is Verdict.OK


def test_without_a_service_nobody_needs_groups_or_root() -> None:
    clone = replace(WELL, user=None, groups=frozenset(), root=False, experimental=None)
    assert worst(installation.judge(clone))[0] is Verdict.OK


def test_groups_are_needed_for_what_is_configured() -> None:
    text = f"{TAGGED}[gps]\nsource = serial:/dev/gps\n[audio]\nenabled = no\n[gpio]\nbuzzer = 4\n"
    assert set(installation.needed_groups(loaded(text).config)) == {"bluetooth", "dialout", "gpio"}
    quiet = (
        "[gateway]\nid = a\n[radio]\nenabled = no\n[gps]\nsource = gpsd://localhost\n[audio]\nenabled = no\n"
    )
    assert set(installation.needed_groups(loaded(quiet).config)) == set()
    assert installation.needed_groups(None) == {}


def test_a_services_groups_are_its_users_and_its_units() -> None:
    """From the real databases; a user or a group that is not there has none."""
    names = installation.group_names(installation.service_groups("root", "audio nosuchgroup"))
    assert {"root", "audio"} <= names
    assert installation.service_groups("nosuchuser", "audio") == frozenset()
    assert installation.group_names(frozenset({4_000_000})) == frozenset()


@pytest.mark.parametrize(
    ("arguments", "main_conf", "expected"),
    [
        (("bluetoothd",), "", False),
        (("bluetoothd", "--experimental"), "", True),
        (("bluetoothd", "-E"), "", True),
        (("bluetoothd",), "[General]\nExperimental = true\n", True),
        (("bluetoothd",), "[General]\n#Experimental = true\n", False),
    ],
)
def test_bluetoothd_is_experimental_by_its_arguments_or_its_file(
    arguments: tuple[str, ...], main_conf: str, expected: bool
) -> None:
    assert installation.is_experimental(arguments, main_conf) is expected


def test_a_process_is_known_by_its_command_line_and_what_it_has_open(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_text("")
    root = machine(tmp_path, {"/proc/12/cmdline": "/usr/sbin/gpsd\0-n\0", "/proc/13/cmdline": ""})
    (tmp_path / "proc/12/fd").mkdir()
    (tmp_path / "proc/12/fd/3").symlink_to(held)
    (holder,) = root.holders(held)
    assert (holder.pid, holder.name, str(holder)) == (12, "gpsd", "/usr/sbin/gpsd -n (process 12)")
    assert root.holders(tmp_path / "other") == []


def test_a_running_services_groups_are_those_of_its_process(tmp_path: Path) -> None:
    """Nothing when it is gone, or odd."""
    status = "Name:\tgatewayd\nUid:\t999\nGroups:\t20 29 112 \n"
    root = machine(tmp_path, {"/proc/12/status": status, "/proc/13/status": "Name:\tx\n"})
    assert root.group_ids(12) == frozenset({20, 29, 112})
    assert root.group_ids(13) is None
    assert root.group_ids(99) is None


def test_a_pi_is_known_by_its_device_tree(tmp_path: Path) -> None:
    model = {"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
    assert machine(tmp_path, model).is_pi()
    assert not machine(tmp_path / "pc").is_pi()


def test_the_key_that_signs_recordings_is_printed(tmp_path: Path) -> None:
    """Whoever verifies needs it; none is made by looking."""
    assert credentials.signing(tmp_path).verdict is Verdict.OFF
    key = signing.load(tmp_path, None)
    assert key.public in credentials.signing(tmp_path).found
    (tmp_path / "evidence" / "keys.json").write_text("[")
    assert credentials.signing(tmp_path).verdict is Verdict.FAIL
