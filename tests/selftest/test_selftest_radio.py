"""The radio's row: through real bleak on a simulated bluetoothd, and from what a machine's files say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from looking import ADDRESS, KEY, loaded, machine, said, worst

from gatewayd.config.model import Config
from gatewayd.core.model import State
from gatewayd.edge.ble.bluez import Adapter
from gatewayd.selftest.machine import Machine
from gatewayd.selftest.radio import Findings, Heard, judge, kernel_adapters, look
from gatewayd.selftest.row import Finding, Verdict
from gatewayd.sim.bluez import ADDRESS as ADAPTER
from gatewayd.sim.bluez import BlueZ
from gatewayd.sim.dbus import PrivateBus
from gatewayd.sim.tag import Frame, SimulatedTag

CANARY = "C4:00:00:00:00:01"
LISTEN_S = 1.0
TAGGED = f"[gateway]\nid = gw-1\n[tag nurse-1-tag]\naddress = {ADDRESS}\nkey_credential = tag-key\n"
STRANGER = Frame(address="E0:00:00:00:00:01", manufacturer_data={0xFFFF: b"1"})


def config(tmp_path: Path, text: str = TAGGED) -> Config:
    (tmp_path / "tag-key").write_text(KEY)
    return loaded(text, credentials=tmp_path).config


@asynccontextmanager
async def advertising(bluez: BlueZ, *frames: Callable[[], Frame]) -> AsyncIterator[None]:
    """Have frames on the air, again and again."""

    async def advertise() -> None:
        while True:
            for frame in frames:
                bluez.advertise(frame())
            await asyncio.sleep(0.1)

    task = asyncio.create_task(advertise())
    try:
        yield
    finally:
        task.cancel()


async def found(settings: Config, listen_s: float = LISTEN_S) -> list[Finding]:
    return judge(await look(settings, Machine(), {}, listen_s))


async def test_a_radio_that_hears_says_what_and_which_tags(bluez: BlueZ, tmp_path: Path) -> None:
    """And is done as soon as it has heard all tags."""
    tag = SimulatedTag(ADDRESS, key=bytes.fromhex(KEY))
    began_s = asyncio.get_running_loop().time()
    async with advertising(bluez, tag.heartbeat, lambda: STRANGER):
        verdict, text, _ = worst(await found(config(tmp_path), 20.0))
    assert asyncio.get_running_loop().time() - began_s < 10
    assert verdict is Verdict.OK
    assert text.startswith(f"hci0 {ADAPTER} heard ")
    assert " of 2 devices in " in text
    assert text.endswith("; assigned tags heard: nurse-1-tag (-60 dBm)")
    assert not bluez.discovering


async def test_a_tag_that_was_not_heard_is_named(bluez: BlueZ, tmp_path: Path) -> None:
    """It is no fault: it may be far away, or speak only when pressed."""
    async with advertising(bluez, lambda: STRANGER):
        verdict, text, _ = worst(await found(config(tmp_path)))
    assert verdict is Verdict.OK
    assert text.endswith("; not heard: nurse-1-tag (press them meanwhile)")


async def test_silence_is_told(bluez: BlueZ, tmp_path: Path) -> None:
    verdict, text, do = worst(await found(config(tmp_path)))
    assert bluez.calls
    assert (verdict, "heard nothing at all" in text) == (Verdict.WARN, True)
    assert "press a tag" in do


async def test_a_key_that_does_not_fit_is_told(bluez: BlueZ, tmp_path: Path) -> None:
    tag = SimulatedTag(ADDRESS, key=bytes(16))
    async with advertising(bluez, tag.heartbeat):
        row = said(await found(config(tmp_path), 20.0))
    assert row.verdict is Verdict.WARN
    assert "the key of nurse-1-tag does not open what it sends" in row.worst_first[0].found


async def test_a_canary_that_is_silent_is_told(bluez: BlueZ, tmp_path: Path) -> None:
    text = f"{TAGGED}[radio]\ncanary = {CANARY}\n"
    async with advertising(bluez, lambda: STRANGER):
        verdict, what, _ = worst(await found(config(tmp_path, text)))
    assert (verdict, CANARY in what) == (Verdict.WARN, True)
    async with advertising(bluez, lambda: replace(STRANGER, address=CANARY)):
        assert worst(await found(config(tmp_path, text)))[0] is Verdict.OK


async def test_a_bluetoothd_without_its_experimental_part_is_told(
    system_bus: PrivateBus, tmp_path: Path
) -> None:
    async with BlueZ(system_bus.address, monitors=False) as bluez, advertising(bluez, lambda: STRANGER):
        verdict, text, do = worst(await found(config(tmp_path)))
    assert verdict is Verdict.WARN
    assert "repeated presses may be missed" in text
    assert "Experimental = true" in do


async def test_a_bluetoothd_that_is_not_there_is_told(system_bus: PrivateBus, tmp_path: Path) -> None:
    assert system_bus.address
    root = machine(tmp_path / "root")
    (tmp_path / "root/sys/class/bluetooth/hci0").mkdir(parents=True)
    looked = await look(config(tmp_path), root, {"LoadState": "loaded"}, LISTEN_S)
    verdict, text, do = worst(judge(looked))
    assert verdict is Verdict.FAIL
    assert "bluetoothd is not running" in text
    assert "systemctl restart bluetooth" in do
    assert "apt install bluez" in worst(judge(replace(looked, service={"LoadState": "not-found"})))[2]


async def test_an_adapter_that_is_off_is_told_with_what_switched_it_off(bluez: BlueZ, tmp_path: Path) -> None:
    """A hardware switch, rfkill, or somebody."""
    bluez.power(False)
    looked = await look(config(tmp_path), Machine(), {}, LISTEN_S)
    assert worst(judge(looked))[::2] == (Verdict.FAIL, "bluetoothctl power on")
    assert "rfkill unblock" in worst(judge(replace(looked, blocked={"hci0": "soft"})))[2]
    assert "switch" in worst(judge(replace(looked, blocked={"hci0": "hard"})))[2]


async def test_another_adapter_than_the_configured_one_is_told(bluez: BlueZ, tmp_path: Path) -> None:
    assert bluez.calls == []
    verdict, text, do = worst(await found(config(tmp_path, f"{TAGGED}[radio]\nadapter = hci7\n")))
    assert verdict is Verdict.FAIL
    assert text == f"expected the adapter hci7, got only hci0 {ADAPTER}"
    assert "[radio] adapter" in do
    by_address = await look(
        config(tmp_path, f"{TAGGED}[radio]\nadapter = {ADAPTER.lower()}\n"), Machine(), {}, LISTEN_S
    )
    assert worst(judge(by_address))[0] is Verdict.WARN  # it was heard with: nothing was on the air


async def test_one_of_two_configured_adapters_that_is_missing_is_told(bluez: BlueZ, tmp_path: Path) -> None:
    """The other one hears, so it is no failure."""
    settings = config(tmp_path, f"{TAGGED}[radio]\nadapter = hci0 hci7\n")
    async with advertising(bluez, lambda: STRANGER):
        verdict, text, do = worst(await found(settings))
    assert (verdict, text) == (Verdict.WARN, "the adapter hci7 is not there; another one hears")
    assert do.startswith("plug it in")


async def test_a_radio_that_is_switched_off_on_purpose_is_left_alone(bluez: BlueZ, tmp_path: Path) -> None:
    verdict, _, _ = worst(await found(config(tmp_path, f"{TAGGED}[radio]\nenabled = no\n")))
    assert verdict is Verdict.OFF
    assert bluez.calls == []


# --- what the machine's files say ---------------------------------------------------------------------------


async def test_switches_are_read_from_the_kernel(system_bus: PrivateBus, tmp_path: Path) -> None:
    """Of Bluetooth only; a connection (hci0:11) is no adapter."""
    assert system_bus.address
    switches = {
        "rfkill0": ("bluetooth", "hci0", "1", "0"),
        "rfkill1": ("wlan", "phy0", "1", "0"),
        "rfkill2": ("bluetooth", "hci1", "1", "1"),
        "rfkill3": ("bluetooth", "hci2", "0", "0"),
    }
    files = {
        f"/sys/class/rfkill/{switch}/{name}": f"{value}\n"
        for switch, values in switches.items()
        for name, value in zip(("type", "name", "soft", "hard"), values, strict=True)
    }
    root = machine(tmp_path / "root", files)
    for name in ("hci0", "hci1", "hci0:11"):
        (tmp_path / "root/sys/class/bluetooth" / name).mkdir(parents=True)
    looked = await look(config(tmp_path), root, {}, LISTEN_S)
    assert looked.blocked == {"hci0": "soft", "hci1": "hard"}
    assert kernel_adapters(root) == ("hci0", "hci1")


def findings(tmp_path: Path) -> Findings:
    settings = config(tmp_path)
    return Findings(
        settings=settings.radio,
        tags=settings.tags,
        kernel=("hci0",),
        blocked={},
        service={},
        pi=False,
        adapters=(Adapter(path="/org/bluez/hci0", address=ADAPTER, powered=True, discovering=False),),
        heard=Heard(advertisements=3, addresses={"a"}, said=(State.OK, "hci0 scans and hears")),
    )


def test_no_adapter_at_all_is_told_also_where_bluetoothd_is_silent(tmp_path: Path) -> None:
    """On a Pi its own could be switched off in the firmware's file."""
    none = replace(findings(tmp_path), kernel=(), adapters=())
    verdict, text, do = worst(judge(none))
    assert (verdict, text) == (Verdict.FAIL, "no Bluetooth adapter")
    assert "dongle" in do
    assert "disable-bt" not in do
    assert "disable-bt" in worst(judge(replace(none, pi=True, adapters=None, no_answer="no bus")))[2]


def test_an_adapter_that_bluetoothd_does_not_have_is_told(tmp_path: Path) -> None:
    verdict, text, do = worst(judge(replace(findings(tmp_path), adapters=())))
    assert verdict is Verdict.FAIL
    assert "the kernel has hci0" in text
    assert "firmware" in do


def test_a_scan_that_does_not_run_is_told(tmp_path: Path) -> None:
    failed = replace(findings(tmp_path), heard=Heard(said=(State.FAILED, "the scan does not start")))
    verdict, text, do = worst(judge(failed))
    assert (verdict, "the scan does not start" in text) == (Verdict.FAIL, True)
    assert "systemctl restart bluetooth" in do
    assert worst(judge(replace(failed, heard=Heard())))[0] is Verdict.FAIL


def test_a_tag_without_a_level_is_named_without_one(tmp_path: Path) -> None:
    heard = replace(findings(tmp_path).heard, tags={"nurse-1-tag": None})
    text = worst(judge(replace(findings(tmp_path), heard=heard)))[1]
    assert text.endswith("assigned tags heard: nurse-1-tag")
