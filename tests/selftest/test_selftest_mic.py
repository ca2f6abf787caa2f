"""The microphone's row: through real alsa-lib, real Opus and the daemon's own capture process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import opuslib
import pytest
from looking import machine, worst

from gatewayd.config.model import Audio
from gatewayd.selftest.mic import (
    LOUD_DBFS,
    QUIET_DBFS,
    SILENT_DBFS,
    Heard,
    capture_cards,
    capture_process,
    judge,
    level_dbfs,
    listen,
)
from gatewayd.selftest.row import Finding, Verdict
from gatewayd.sim.microphone import DEVICE, RATE_HZ, Microphone, Sound, tone

CARDS = """\
 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi
                      vc4-hdmi
 1 [Device         ]: USB-Audio - USB PnP Sound Device
                      C-Media Electronics Inc. USB PnP Sound Device at usb-1.2, full speed
"""
PCM = """\
00-00: MAI PCM i2s-hifi-0 : MAI PCM i2s-hifi-0 : playback 1
01-00: USB Audio : USB Audio : playback 1 : capture 1
"""


def settings(device: str = DEVICE, *, enabled: bool = True) -> Audio:
    return Audio(
        enabled=enabled,
        device=device,
        rate_hz=RATE_HZ,
        bitrate_bps=24_000,
        chunk_s=0.5,
        duration_s=600.0,
        pre_roll_s=0.0,
    )


@pytest.fixture
def hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sound], Microphone]:
    def there(sound: Sound) -> Microphone:
        microphone = Microphone(tmp_path, sound)
        for name, value in microphone.environment.items():
            monkeypatch.setenv(name, value)
        return microphone

    return there


async def found(device: str = DEVICE) -> list[Finding]:
    return judge(settings(device), await listen(settings(device)), ["plughw:CARD=Device"])


async def test_a_microphone_that_hears_says_how_loud(hears: Callable[[Sound], Microphone]) -> None:
    """A sine of half the full scale has a root mean square of −9 dBFS."""
    with hears(tone(440, 0.5)):
        verdict, text, _ = worst(await found())
    assert verdict is Verdict.OK
    assert text == "mic: -9 dBFS in a second of sound"


async def test_digital_silence_is_no_microphone(hears: Callable[[Sound], Microphone]) -> None:
    """Muted, or a device that captures nothing."""
    with hears(bytes(2 * RATE_HZ)):
        verdict, text, do = worst(await found())
    assert verdict is Verdict.FAIL
    assert "silence that no microphone gives" in text
    assert "alsamixer" in do
    assert "plughw:CARD=Device" in do


async def test_a_device_that_is_not_there_is_told_with_those_that_are(
    hears: Callable[[Sound], Microphone],
) -> None:
    """In alsa-lib's words."""
    with hears(tone()):
        verdict, text, do = worst(await found("nosuch"))
    assert verdict is Verdict.FAIL
    assert "nosuch" in text
    assert do == "set [audio] device to one that can capture: plughw:CARD=Device"


async def test_a_card_that_is_not_there_is_told(hears: Callable[[Sound], Microphone]) -> None:
    with hears(tone()):
        verdict, text, _ = worst(await found("plughw:CARD=Nosuch"))
    assert (verdict, "Nosuch" in text) == (Verdict.FAIL, True)


async def test_a_device_that_hangs_is_told(hears: Callable[[Sound], Microphone]) -> None:
    with hears(tone()) as microphone:
        microphone.hang()
        verdict, text, _ = worst(await found())
    assert (verdict, "no sound within" in text) == (Verdict.FAIL, True)


def packets(sound: Sound) -> list[bytes]:
    encoder = opuslib.Encoder(RATE_HZ, 1, "voip")
    size = RATE_HZ // 50
    return [encoder.encode(sound[start : start + 2 * size], size) for start in range(0, len(sound), 2 * size)]


def test_the_level_is_that_of_the_sound_and_not_of_the_encoder() -> None:
    """Zeros come out of it as nearly zeros, far below the last bit of any real converter."""
    assert level_dbfs(packets(tone(440, 0.05)), RATE_HZ) == pytest.approx(-29, abs=1)
    assert level_dbfs(packets(bytes(2 * RATE_HZ)), RATE_HZ) < SILENT_DBFS


@pytest.mark.parametrize(
    ("level", "verdict", "do"),
    [
        (-30.0, Verdict.OK, ""),
        (QUIET_DBFS - 1, Verdict.WARN, "raise the capture level"),
        (LOUD_DBFS + 1, Verdict.WARN, "lower the capture level"),
        (SILENT_DBFS - 1, Verdict.FAIL, "muted"),
    ],
)
def test_a_level_is_judged(level: float, verdict: Verdict, do: str) -> None:
    got = worst(judge(settings(), Heard(level_dbfs=level), []))
    assert got[0] is verdict
    assert do in got[2]


def test_without_any_card_one_must_be_plugged_in() -> None:
    verdict, text, do = worst(judge(settings(), Heard(reason="No such file or directory"), []))
    assert (verdict, "none that can capture" in text) == (Verdict.FAIL, True)
    assert "plug the microphone in" in do


def test_a_microphone_that_is_switched_off_on_purpose_is_no_fault() -> None:
    assert worst(judge(settings(enabled=False), Heard(), []))[0] is Verdict.OFF


def test_cards_that_can_capture_are_read_from_the_kernel(tmp_path: Path) -> None:
    """Not those that only play."""
    root = machine(tmp_path, {"/proc/asound/cards": CARDS, "/proc/asound/pcm": PCM})
    assert capture_cards(root) == ["plughw:CARD=Device"]
    assert capture_cards(machine(tmp_path / "empty")) == []


def test_a_capture_process_is_known_by_its_device(tmp_path: Path) -> None:
    """Whoever's it is: an alarm may need the device at any moment."""
    arguments = "\0".join(("python3", "-m", "gatewayd.edge.capture", "plughw:CARD=Device", "16000", "24000"))
    root = machine(tmp_path, {"/proc/12/cmdline": arguments, "/proc/13/cmdline": "bash\0"})
    process = capture_process(root, "plughw:CARD=Device")
    assert process is not None
    assert process.pid == 12
    assert capture_process(root, "default") is None
