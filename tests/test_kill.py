"""Killed at random points or right after "accepted", the sending side loses no alarm that the wearer was told
is safe, gives none a second id, and gives no id to two presses.

A hundred lives each here; `scripts/kills` lives 10,000.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shims import compile_shim

LIVES = int(os.environ.get("GATEWAYD_KILLS", "100"))
TIMEOUT_S = 60 + LIVES  # a life takes 0.2 s on an idle machine


@pytest.fixture(scope="module")
def power_cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("a C compiler is needed to discard what is not synced")
    return compile_shim("power_cut", tmp_path_factory.mktemp("shim"))


def campaign(directory: Path, lives: int, *options: str, preload: Path | None = None) -> dict[str, int]:
    environment = dict(os.environ)
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    program = Path(__file__).parent / "killing.py"
    command = [sys.executable, str(program), str(directory), str(lives), str(lives), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    print(result)
    return result


def judge(result: dict[str, int], lives: int) -> None:
    assert result["crashed"] == 0
    assert result["lost"] == 0
    assert result["two_ids"] == 0
    assert result["two_presses"] == 0
    assert result["accepted"] >= lives / 2  # or nothing was put to the test


@pytest.mark.timeout(TIMEOUT_S)
def test_a_kill_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    """SIGKILL at a random moment: the disk or the broker has what was accepted, under one id."""
    judge(campaign(tmp_path, LIVES), LIVES)


@pytest.mark.timeout(TIMEOUT_S)
def test_the_power_cut_shim_catches_what_is_not_synced(tmp_path: Path, power_cut: Path) -> None:
    """With `synchronous` off it finds losses; otherwise the next test would prove nothing."""
    result = campaign(tmp_path, 30, "--careless", preload=power_cut)
    assert result["lost"] > 0


@pytest.mark.timeout(TIMEOUT_S)
def test_a_power_cut_loses_nothing_that_was_accepted(tmp_path: Path, power_cut: Path) -> None:
    """What was written and not synced is discarded at a random step: still nothing accepted is lost."""
    judge(campaign(tmp_path, LIVES, preload=power_cut), LIVES)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("how", ["killed", "power cut"])
def test_dying_right_after_accepted_loses_nothing(tmp_path: Path, power_cut: Path, how: str) -> None:
    """The very callback that tells the wearer is the last: what it told is at ops in the end, once."""
    preload = power_cut if how == "power cut" else None
    result = campaign(tmp_path, LIVES, "--accepted", preload=preload)
    judge(result, LIVES)
    assert result["accepted"] >= 0.9 * LIVES  # each life dies of being told, a few of a press told before
