"""The package's files agree with the program and with each other. Building and booting it prove the rest."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd import __version__
from gatewayd.app import STOP_S
from gatewayd.config.credentials import FOLDER, FOLDER_ID
from gatewayd.edge.ble.remedies import REQUEST
from gatewayd.edge.outbox.file import open_database

ROOT = Path(__file__).parent.parent
DEBIAN = ROOT / "debian"
SERVICE = DEBIAN / "gatewayd.service"
BLUETOOTH = DEBIAN / "bluetooth.service.d" / "gatewayd.conf"


def unit(path: Path) -> dict[str, list[str]]:
    """Return a unit's settings: key to values, in order."""
    found = defaultdict(list)
    for line in path.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def listed(name: str) -> list[list[str]]:
    """Return the words of each line of a file in debian/."""
    lines = (DEBIAN / name).read_text("utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_package_has_the_programs_version() -> None:
    first = (DEBIAN / "changelog").read_text("utf-8").splitlines()[0]
    assert first.startswith(f"gatewayd ({__version__})")


def test_a_file_of_the_credentials_folder_is_a_credential_of_its_name() -> None:
    """And without the folder the service starts all the same: the same id has a value then."""
    service = unit(SERVICE)
    assert service["LoadCredential"] == [f"{FOLDER_ID}:{FOLDER}"]
    assert [value.partition(":")[0] for value in service["SetCredential"]] == [FOLDER_ID]
    assert listed("gatewayd.dirs") == [[str(FOLDER).removeprefix("/")]]
    assert f"chmod 0700 debian/gatewayd{FOLDER}" in (DEBIAN / "rules").read_text("utf-8")


@pytest.mark.parametrize("path", [SERVICE, BLUETOOTH], ids=["gatewayd", "bluetooth"])
def test_a_unit_never_gives_up(path: Path) -> None:
    """However often it dies and with whatever status."""
    told = unit(path)
    assert told["Restart"] == ["always"]
    assert told["StartLimitIntervalSec"] == ["0"]
    assert "RestartPreventExitStatus" not in told


def test_the_service_waits_for_no_network_and_requires_nothing() -> None:
    service = unit(SERVICE)
    assert service["Wants"] == service["After"] == ["bluetooth.service"]
    assert not {"Requires", "Requisite", "BindsTo", "Upholds"} & service.keys()


def test_a_stop_has_the_time_it_takes() -> None:
    assert int(unit(SERVICE)["TimeoutStopSec"][0]) > STOP_S


def test_a_purge_removes_the_services_state() -> None:
    (state,) = unit(SERVICE)["StateDirectory"]
    assert f"STATE=/var/lib/{state} " in (DEBIAN / "gatewayd.postrm").read_text("utf-8")


def test_the_service_runs_as_the_user_that_is_made_and_is_in_the_devices_groups() -> None:
    made = listed("gatewayd.sysusers")
    (user,) = unit(SERVICE)["User"]
    assert [line[1] for line in made if line[0] == "u"] == [user]
    groups = {line[2] for line in made if line[0] == "m" and line[1] == user}
    assert groups == {"audio", "bluetooth", "dialout", "gpio"}


def test_the_pins_group_is_made() -> None:
    made = {line[1] for line in listed("gatewayd.sysusers") if line[0] == "g"}
    rules = (DEBIAN / "gatewayd.udev").read_text("utf-8")
    assert set(re.findall(r'GROUP="(\w+)"', rules)) == made


def test_bluetoothd_starts_as_the_distribution_has_it_and_experimental() -> None:
    """An empty line first, or there would be two commands, which systemd refuses."""
    assert unit(BLUETOOTH)["ExecStart"] == ["", "/usr/libexec/bluetooth/bluetoothd --experimental"]


RECOVER = DEBIAN / "recover"
BLUETOOTH_CLASS = {"Class": "e0", "SubClass": "01", "Protocol": "01"}


def recover(tmp_path: Path, request: str) -> tuple[int, str, list[str]]:
    """Do what the helper does on a request: its status, what it says, and what systemctl was told."""
    told = tmp_path / "systemctl.log"
    told.touch()
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir(exist_ok=True)
    systemctl.write_text(f'#!/bin/sh\necho "$*" >>{told}\n')
    systemctl.chmod(0o755)
    wanted = tmp_path / "recover"
    wanted.write_text(request)
    script = RECOVER.read_text("utf-8").replace("sleep 1\n", 'cat "$device/authorized"\n')
    script = script.replace("/run/gatewayd/recover", str(wanted)).replace(
        "/sys/bus/usb/devices", str(tmp_path)
    )
    path = f"{systemctl.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, env={"PATH": path}
    )
    assert not wanted.exists(), "a request that stays is carried out again"
    return done.returncode, done.stdout + done.stderr, told.read_text().splitlines()


def usb(tmp_path: Path, name: str, **said: str) -> Path:
    """A USB device that says this of its interface."""
    interface = tmp_path / name / f"{name}:1.0"
    interface.mkdir(parents=True)
    for key, value in said.items():
        (interface / f"bInterface{key}").write_text(value + "\n")
    (tmp_path / name / "authorized").write_text("1\n")
    return tmp_path / name / "authorized"


def test_the_helper_restarts_bluetoothd_without_waiting_for_one_that_hangs(tmp_path: Path) -> None:
    status, _, told = recover(tmp_path, "bluetoothd\n")
    assert (status, told) == (0, ["kill --signal=KILL bluetooth.service", "restart bluetooth.service"])


def test_the_helper_takes_a_bluetooth_adapter_off_the_bus_and_puts_it_back(tmp_path: Path) -> None:
    authorized = usb(tmp_path, "1-1.4", **BLUETOOTH_CLASS)
    status, between, _ = recover(tmp_path, "usb 1-1.4\n")
    assert (status, between, authorized.read_text()) == (0, "0\n", "1\n")


@pytest.mark.parametrize(
    "request_",
    [
        "",
        "usb",
        "usb 1-2",
        "usb 1-9",
        "usb ../1-1.4",
        "usb 1-1.4/../1-2",
        "reboot",
        "bluetooth.service; true",
    ],
)
def test_the_helper_does_nothing_else(tmp_path: Path, request_: str) -> None:
    """Not for a disk (1-2), nor for what is not there, nor for another word."""
    adapter = usb(tmp_path, "1-1.4", **BLUETOOTH_CLASS)
    disk = usb(tmp_path, "1-2", Class="08", SubClass="06", Protocol="50")
    status, said, told = recover(tmp_path, request_ + "\n")
    assert status == 1
    assert "refused: " in said
    assert not told
    assert (adapter.read_text(), disk.read_text()) == ("1\n", "1\n")


def test_the_helper_is_asked_where_the_daemon_asks() -> None:
    """And it is started by its path unit alone."""
    (folder,) = unit(SERVICE)["RuntimeDirectory"]
    request = f"/run/{folder}/{REQUEST}"
    assert unit(DEBIAN / "gatewayd-recover.path")["PathExists"] == [request]
    assert f"REQUEST={request}\n" in RECOVER.read_text("utf-8")
    (program,) = unit(DEBIAN / "gatewayd-recover.service")["ExecStart"]
    assert [f"debian/{RECOVER.name}", program.removeprefix("/").rpartition("/")[0]] in listed(
        "gatewayd.install"
    )


def test_what_is_installed_is_there() -> None:
    sources = [words[0] for words in listed("gatewayd.install")]
    assert sources
    for source in sources:
        assert (ROOT / source).is_file(), source


def test_a_link_to_null_takes_the_drop_in_away_as_it_says() -> None:
    """The name it is installed under is the one that its comment and the manual tell to mask."""
    (folder,) = [words[1] for words in listed("gatewayd.install") if "bluetooth" in words[0]]
    path = f"/{folder}/{BLUETOOTH.name}"
    assert path in (DEBIAN / "gatewayd.8.in").read_text("utf-8")
    assert path.replace("/usr/lib", "/etc") in BLUETOOTH.read_text("utf-8")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A service's state with an empty outbox."""
    folder = tmp_path / "state"
    open_database(folder / "outbox.db").close()
    return folder


def store(state: Path, message_class: str, *topics: str) -> None:
    """Put messages into the outbox, of which only class and topic matter here."""
    with closing(open_database(state / "outbox.db")) as outbox:
        for topic in topics:
            outbox.execute(
                "INSERT INTO message (id, class, topic, body, boot, mono, wall, source, uncertainty, run,"
                " seq, retain, replaces, clears, size)"
                " VALUES (hex(randomblob(8)), ?, ?, '', '', 0, 0, '', 0, '', 0, 0, 0, 0, 0)",
                (message_class, topic),
            )


def removal(state: Path, action: str) -> str:
    """Do what the package does when it was removed; return what it tells."""
    script = (DEBIAN / "gatewayd.postrm").read_text("utf-8").replace("/var/lib/gatewayd", str(state))
    done = subprocess.run(["sh", "-c", script, "sh", action], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_a_purge_tells_how_much_never_reached_a_broker(state: Path) -> None:
    store(state, "alarm", "alarm/a1/event", "alarm/a1/event", "alarm/a2/event")
    store(state, "audio", "alarm/a1/audio/0")
    assert removal(state, "purge") == (
        "gatewayd: warning: deleting what never reached a broker: messages: 4, alarms: 2\n"
    )
    assert not state.exists()


def test_a_purge_with_nothing_left_to_send_tells_nothing(state: Path) -> None:
    assert removal(state, "purge") == ""
    assert removal(state, "purge") == ""  # nor where there is no state at all


def test_a_purge_tells_of_an_outbox_it_cannot_read(state: Path) -> None:
    (state / "outbox.db").write_bytes(b"no database")
    assert "there may be alarms" in removal(state, "purge")
    assert not state.exists()


def test_a_purge_leaves_an_outbox_that_is_elsewhere_and_says_so(state: Path) -> None:
    (state / "last_good.conf").write_text("[outbox]\nbudget = 1G\npath = /srv/outbox.db\n\n[health]\n")
    assert removal(state, "purge") == "gatewayd: warning: the outbox /srv/outbox.db is left alone\n"


@pytest.mark.parametrize("action", ["remove", "upgrade"])
def test_only_a_purge_touches_the_state(state: Path, action: str) -> None:
    store(state, "alarm", "alarm/a1/event")
    assert removal(state, action) == ""
    assert (state / "outbox.db").exists()
