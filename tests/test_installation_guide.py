"""The installation guide, word for word: its commands run, its files are read, an alarm arrives by them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
import yaml
from end_to_end.conftest import heard
from end_to_end.ops import LIMIT_S
from guiding import GUIDE, PROJECT, Office, block, blocks, peer
from paho.mqtt.client import Client

from gatewayd.config.load import load
from gatewayd.selftest.row import Subject
from gatewayd.sim.broker import Broker
from gatewayd.sim.microphone import DEVICE
from gatewayd.sim.world import ADDRESS, GATEWAY, KEY, TAG, World

REFUSED: Final = 0x87  # not authorized (MQTT 5, section 2.4)
OTHER: Final = "gw-0002"
_MACHINE: Final = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """Everything that the guide has done before a gateway is switched on."""
    root = tmp_path_factory.mktemp("office")
    office = Office(root)
    office.run(block("run: tools").replace("cd gateways", ""), where=root)
    office.run(block("run: certificates"))
    for remark in ("/etc/mosquitto/conf.d/gatewayd.conf", "/etc/mosquitto/gatewayd.acl"):
        office.write(remark, Path(office.here(remark)))
    office.run(block("run: broker"))
    for name in ("20-broker", "30-devices", "40-tags"):
        remark = f"common/conf.d/{name}.conf"
        office.write(remark, office.folder / remark)
    office.run(block("run: tag key"))
    office.write("provision", office.folder / "provision")
    office.run(block("run: provision"))
    return office


@pytest.fixture
def broker(office: Office) -> Iterator[Broker]:
    """The guide's broker, running."""
    office.broker.start()
    yield office.broker
    office.broker.stop()


# --- the page -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commands", [each.text for each in blocks() if each.language == "sh"])
def test_every_command_is_one(commands: str) -> None:
    """No block has a quote that never ends."""
    subprocess.run(["bash", "-n"], input=commands, text=True, check=True)


def test_the_first_boots_commands_are_a_list_of_them() -> None:
    """cloud-init gives each to a shell; one that YAML takes for something else would end the rest."""
    (text,) = [each.text for each in blocks() if each.language == "yaml"]
    commands = yaml.safe_load(text)["runcmd"]
    assert commands[-1] == "reboot"
    for command in commands:
        subprocess.run(["sh", "-n"], input=command, text=True, check=True)


def test_every_setting_is_one(tmp_path: Path) -> None:
    """The files of a gateway make a good configuration, with each of the additions the text shows."""
    files = [each for each in blocks() if each.remark.startswith("file: common/conf.d/")]
    additions = [each for each in blocks() if each.remark.startswith("config: ")]
    assert len(files) == 3
    assert len(additions) == 3
    (tmp_path / "own.conf").write_text(f"[mqtt]\nusername = {GATEWAY}\n")
    for addition in additions:
        for number, each in enumerate([*files, addition]):
            (tmp_path / f"{number}.conf").write_text(each.text)
        loaded = load(tmp_path, credentials=None, machine_id=_MACHINE)
        assert [tag.address for tag in loaded.config.tags] == [ADDRESS]


def test_every_row_of_the_self_test_leads_to_a_section() -> None:
    """In the order in which it shows them."""
    rows = re.findall(r"^\| (\w+) \| .* \| \[\d+\]\(#[^)]+\) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert rows == list(Subject)


PAGES = ("installation", "hardware", "privacy", "uplink", "radio", "tags", "integrations")


def anchors(path: Path) -> set[str]:
    """The names that the headings of a page can be led to by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that is there, and to a heading that is in it."""
    path = PROJECT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not link.startswith("http"):
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


# --- the broker ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize(
    ("user", "topic", "allowed"),
    [
        (GATEWAY, f"gatewayd/{GATEWAY}/alarm/a1/event", True),
        (GATEWAY, f"gatewayd/{GATEWAY}/status", True),
        (GATEWAY, f"gatewayd-replies/{GATEWAY}/desk-1", True),
        (GATEWAY, f"gatewayd/{OTHER}/alarm/a1/event", False),
        (GATEWAY, f"gatewayd/{OTHER}/cmd/alarm/close", False),
        (GATEWAY, f"gatewayd-replies/{OTHER}/desk-1", False),
        ("ops", f"gatewayd/{GATEWAY}/cmd/alarm/accept", True),
        ("ops", f"gatewayd/{GATEWAY}/alarm/a1/event", False),
        ("ops", f"gatewayd/{GATEWAY}/status", False),
        ("monitor", f"gatewayd/{GATEWAY}/cmd/alarm/accept", False),
        ("monitor", f"gatewayd/{GATEWAY}/alarm/a1/event", False),
    ],
)
def test_who_may_say_what(office: Office, user: str, topic: str, *, allowed: bool) -> None:
    """A gateway below its own id only; the desk nothing but commands; a screen nothing."""
    with peer(office, user) as somebody:
        answer = somebody.publish(topic)
    assert (answer < 0x80) if allowed else (answer == REFUSED)


@pytest.mark.usefixtures("broker")
def test_who_hears_what(office: Office) -> None:
    """A gateway its own commands, none of another's; the desk all; a screen all but replies."""
    with peer(office, "ops") as ops, peer(office, "monitor") as monitor:
        with peer(office, GATEWAY) as gateway, peer(office, OTHER) as other:
            ops.publish(f"gatewayd/{OTHER}/cmd/listen/stop", "command to the other")
            other.publish(f"gatewayd/{OTHER}/alarm/a1/event", "alarm of the other")
            other.publish(f"gatewayd-replies/{OTHER}/desk-1", "reply of the other")
            ops.publish(f"gatewayd/{GATEWAY}/cmd/listen/stop", "command")
            assert gateway.hears("command") == ["command"]
            assert other.hears("alarm of the other")[0] == "command to the other"
            gateway.publish(f"gatewayd/{GATEWAY}/position", "last")
        everything = ["command to the other", "alarm of the other", "reply of the other", "command", "last"]
        assert sorted(ops.hears("last")) == sorted(everything)
        assert sorted(monitor.hears("last")) == sorted(set(everything) - {"reply of the other"})


@pytest.mark.usefixtures("broker")
def test_nobody_gets_in_without_a_name_and_its_password(office: Office) -> None:
    """A wrong password, another's password, a name that is not known."""
    for user, password in ((GATEWAY, "wrong"), (GATEWAY, office.password(OTHER)), ("nobody", "")):
        with pytest.raises(ConnectionError, match="ot authorized"), peer(office, user, password):
            pass


@pytest.mark.usefixtures("broker")
def test_a_stolen_gateway_is_out_at_once(office: Office) -> None:
    """Its session ends when its password is taken away, and it gets no other; the rest stays."""
    office.run("./provision gw-stolen")
    password = office.password("gw-stolen")
    with peer(office, GATEWAY) as gateway:
        with peer(office, "gw-stolen", password) as stolen:
            office.run(block("run: revoke").replace("gw-0001", "gw-stolen"))
            assert stolen.ended.wait(LIMIT_S)
        assert gateway.publish(f"gatewayd/{GATEWAY}/status") < 0x80
    with pytest.raises(ConnectionError, match="ot authorized"), peer(office, "gw-stolen", password):
        pass


@pytest.mark.usefixtures("broker")
def test_the_broker_answers_who_knows_it(office: Office) -> None:
    """The guide's first message arrives, once its certificate has been verified."""
    assert office.run(block("run: hello")) == "fine\n"


def test_an_id_that_no_topic_could_carry_gets_no_file(office: Office) -> None:
    """`provision` stops before anything is made."""
    with pytest.raises(AssertionError, match="expected an id of letters"):
        office.run("./provision 'gw 3'")
    with pytest.raises(AssertionError, match="expected an id of letters"):
        office.run("./provision '#'")
    assert not list(office.folder.glob("fleet/*3.tar"))


def test_a_gateways_file_holds_its_own_password_and_what_all_share(office: Office) -> None:
    """Owned by root, secrets for root alone, and no folder whose mode it would change."""
    told = office.run(f"tar -tvf fleet/{GATEWAY}.tar --numeric-owner")
    found = {line.split()[-1]: (line[:10], line.split()[1]) for line in told.splitlines()}
    public, secret = ("-rw-r--r--", "0/0"), ("-rw-------", "0/0")
    assert found == {
        "ca.pem": public,
        "conf.d/10-gateway.conf": public,
        "conf.d/20-broker.conf": public,
        "conf.d/30-devices.conf": public,
        "conf.d/40-tags.conf": public,
        "credentials/broker-password": secret,
        "credentials/tag-nurse-1": secret,
    }
    before = office.password(GATEWAY)
    assert before != office.password(OTHER)
    office.run(block("run: provision"))
    assert office.password(GATEWAY) == before


def test_a_certificate_is_a_name_too(office: Office) -> None:
    """With the guide's other lines the ACL holds by the certificate's name, and nobody gets in without."""
    office.run(block("run: client"))
    path = office.etc / "conf.d/gatewayd.conf"
    passwords = path.read_text()
    changed, count = re.subn(r"^(allow_anonymous|password_file) .*\n", "", passwords, flags=re.MULTILINE)
    assert count == 2
    path.write_text(changed + office.here(block("with: client certificates")))
    try:
        office.broker.start()
        context = office.trust()
        context.load_cert_chain(office.folder / f"{GATEWAY}.pem", office.folder / f"{GATEWAY}.key")
        with peer(office, GATEWAY, context=context) as gateway:
            assert gateway.publish(f"gatewayd/{GATEWAY}/status") < 0x80
            assert gateway.publish(f"gatewayd/{OTHER}/status") == REFUSED
        with pytest.raises(ConnectionError, match="before it began"), peer(office, "ops"):
            pass
    finally:
        office.broker.stop()
        path.write_text(passwords)


# --- the tested alarm ---------------------------------------------------------------------------------------


@pytest.fixture
def pi() -> Iterator[Path]:
    """A folder of a short name: sockets lie in it."""
    with TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


def install(office: Office, pi: Path) -> Mapping[str, str]:
    """Unpack the gateway's file as the guide does, with the test's devices; return its environment."""
    etc = pi / "etc"
    etc.mkdir()
    office.run(f"tar -C {etc} --no-same-owner -xf fleet/{GATEWAY}.tar")
    settings = etc / "conf.d/20-broker.conf"
    settings.write_text(settings.read_text().replace("/etc/gatewayd", str(etc)))
    devices = f"[gps]\nsource = serial:{pi}/gps\n[audio]\ndevice = {DEVICE}\n"
    (etc / "conf.d/50-local.conf").write_text(devices)
    return {"CREDENTIALS_DIRECTORY": str(etc / "credentials")}


async def test_a_press_is_seen_heard_and_accepted(office: Office, pi: Path) -> None:
    """From the guide's files alone: tag proof, position, sound; and the desk's orders reach the gateway."""
    assert (office.folder / "common/credentials/tag-nurse-1").read_text() == KEY
    world = World(pi)
    world.broker = office.broker

    def prepare(client: Client) -> None:
        context = office.trust()
        context.check_hostname = False  # it dials 127.0.0.1
        client.tls_set_context(context)
        client.username_pw_set("ops", office.password("ops"))

    async with world.up(), heard(world, prepare) as ops:
        world.more_environment |= install(office, pi)
        world.configuration = pi / "etc"
        await world.start()
        await ops.ready()
        await world.press(for_s=0)
        alarm = await ops.raised(TAG)
        raised = ops.events("raised", alarm=alarm)[0]
        assert (raised["tag"]["auth"], raised["tag"]["worker"]) == ("ok", "nurse-1")
        assert raised["position"]["trusted"]
        await ops.until("sound", lambda: ops.chunks(alarm))
        await asyncio.to_thread(office.run, block("run: accept"), ALARM=alarm)
        await ops.told(alarm, "accepted")
        assert (await ops.told(alarm, "closed"))["outcome"] == "test"
        await asyncio.to_thread(watch, office, pi)


def watch(office: Office, pi: Path) -> None:
    """Run the guide's monitor until it has shown the gateway."""
    for name in ("ca.pem", "monitor-password"):
        (pi / name).write_bytes((office.folder / name).read_bytes())
    path = office.write("monitor.conf", pi / "monitor.conf")
    path.write_text(path.read_text().replace("/home/YOU/desk", str(pi)))
    program = f"{sys.executable} -m gatewayd monitor --json --count 2 --timeout {LIMIT_S:.0f}"
    told = office.run(block("monitor").replace("gatewayd monitor", program), where=pi)
    assert f'"gatewayd/{GATEWAY}/status"' in told
