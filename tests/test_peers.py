"""The bench beside what people would use instead runs, counts and tells rightly. No test installs a peer."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest
from bench.peers import hearing, report, trials
from bench.peers.feed import disorder
from bench.peers.hearers import (
    HEARS_ALREADY,
    Button,
    marks_of_gatewayd,
    marks_of_theengs,
    marks_of_thingsboard,
)
from bench.peers.hearing import Presses
from bench.peers.plot import draw
from bench.peers.results import Results
from bench.peers.rig import Read, Rig
from bench.peers.rows import hearing_rows, rows
from bench.peers.run import Part, hear, measure
from bench.peers.systems import GATEWAYD, SYSTEMS, Process
from bench.peers.trials import Fault, Scale
from bench.surroundings import HERE

BRIDGE = "mosquitto bridge, as shipped"
PAIR = [GATEWAYD, BRIDGE]


async def test_the_trials_tell_who_loses_from_who_does_not(tmp_path: Path) -> None:
    """Killed without a link: what gatewayd accepted is there afterwards, what the bridge acknowledged not."""
    results = Results(tmp_path / "results")
    part = Part(name="kills", trials={"killed": trials.killed})
    await measure(part, {name: SYSTEMS[name] for name in PAIR}, results, trials.QUICK)
    (ours,), (theirs,) = (results.of("killed", name) for name in PAIR)
    assert ours["lost"] == 0
    assert isinstance(ours["accepted"], float)
    assert ours["accepted"] > trials.QUICK.killed / 2
    assert theirs["lost"] == theirs["accepted"]


def test_disorder_is_what_came_after_a_later_one() -> None:
    """One that was overtaken counts once, however many overtook it."""
    assert disorder([0, 1, 2]) == 0
    assert disorder([0, 2, 3, 1, 4]) == 1
    assert disorder([]) == 0


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """What was measured is on disk after each part; what never came is the worst."""
    Results(tmp_path / "results").add("killed", GATEWAYD, {"lost": 1.0, "last_s": None})
    results = Results(tmp_path / "results")
    results.add("killed", GATEWAYD, {"lost": 3.0, "last_s": 2.0})
    lost = results.spread("killed", GATEWAYD, "lost", more=False)
    last = results.spread("killed", GATEWAYD, "last_s", more=False)
    assert lost is not None
    assert last is not None
    assert (lost.median, lost.worst, lost.runs) == (2.0, 3.0, 2)
    assert last.worst == math.inf
    assert results.spread("killed", BRIDGE, "lost", more=False) is None


def test_the_table_says_where_a_peer_wins(tmp_path: Path) -> None:
    """The best is bold, the worst run in brackets, and a better peer is told in words too."""
    results = Results(tmp_path / "results")
    for rate in (4_000.0, 5_000.0, 6_000.0):
        results.add("queued", GATEWAYD, {"drain_per_s": rate, "lost": 0.0})
        results.add("queued", BRIDGE, {"drain_per_s": 30_000.0, "lost": 19_000.0})
    told = report.table(results, PAIR, rows(Scale()))
    assert "| drained, /s | 5,000 (4,000) | **30,000** |" in told
    assert "| accepted and lost | **0** | 19,000 |" in told
    better = "\n".join(report.better(results, PAIR, rows(Scale())))
    assert "30,000 /s (mosquitto bridge, as shipped), gatewayd 5,000 /s" in better
    assert "lost" not in better


def test_the_picture_has_a_line_and_a_name_for_each(tmp_path: Path) -> None:
    """It is SVG, its axes are labelled, and a line ends where its name says."""
    sent = [number / 4 for number in range(-20, 40)]
    picture = draw(sent, {GATEWAYD: sent, "a & b": sent[:7]}, outage_s=3.0, ends_s=20.0)
    (tmp_path / "plot.svg").write_text(picture)
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"sent: 60", "gatewayd: 60", "a & b: 7"} <= set(texts)
    assert {"seconds since it died", "alarms at the broker"} <= set(texts)


def test_the_picture_is_of_the_run_in_the_middle(tmp_path: Path) -> None:
    """Neither the best nor the worst stands for a system."""
    results = Results(tmp_path / "results")
    for late in (9.0, 0.0, 5.0):
        results.add(Fault.SWALLOWED, GATEWAYD, {"late": late, "last_s": None})
    typical = results.typical(Fault.SWALLOWED, GATEWAYD)
    assert typical is not None
    assert typical["late"] == 5.0


async def test_the_whole_daemon_hears_presses_of_every_length(tmp_path: Path) -> None:
    """Every press arrives at its broker, told once; the page has a row for each length."""
    results = Results(tmp_path / "results")
    await hear(HEARS_ALREADY, results, hearing.QUICK, seed=1)
    (heard,) = results.of(hearing.NAME, GATEWAYD)
    for length in ("0.5", "1", "3", "10"):
        assert heard[f"heard_{length}"] == 100.0
        assert heard[f"again_{length}"] == 0.0
        assert isinstance(heard[f"late_{length}"], float)
    told = report.table(results, list(HEARS_ALREADY), hearing_rows(hearing.QUICK))
    assert "| of 2 presses heard, % | 100 |" in told


def test_a_press_is_heard_that_is_told_in_time() -> None:
    """Too late is not heard; told again is counted; how late is told of those heard, never if none was."""
    presses = Presses()
    presses.made_s[0.5] |= {"0/1": 100.0, "0/2": 120.0, "0/3": 140.0, "0/4": 160.0}
    presses.made_s[1.0] |= {"1/1": 100.0}
    presses.made_s[3.0] |= {"2/1": 100.0}
    presses.made_s[10.0] |= {"3/1": 100.0}
    arrivals = [(101.0, "0/1"), (102.0, "0/1"), (123.0, "0/2"), (171.0, "0/3"), (130.0, "3/1"), (90.0, "9/9")]
    found = hearing.count(arrivals, presses, hearing.WHOLE)
    assert (found["heard_0.5"], found["again_0.5"], found["late_0.5"]) == (50.0, 25.0, 2_000.0)
    assert (found["heard_1"], found["again_1"], found["late_1"]) == (0.0, 0.0, None)
    assert found["heard_10"] == 100.0


async def test_a_system_that_ended_is_not_counted_as_deaf(tmp_path: Path) -> None:
    """The bench fails, with the end of its log."""
    process = Process(tmp_path)
    program = await process.run("sh", "-c", "echo no radio >&2; exit 1", more={}, piped=False)
    await program.wait()
    with pytest.raises(RuntimeError, match="it ended: no radio"):
        process.must_run()


@pytest.mark.parametrize(
    ("read", "payload", "marks"),
    [
        (marks_of_gatewayd, '{"type": "raised", "tag": {"id": "button-3", "counter": 7}}', ["3/7"]),
        (marks_of_gatewayd, '{"type": "repeated", "tag": {"id": "button-3", "counter": 8}}', ["3/8"]),
        (marks_of_gatewayd, '{"alarm": "a", "handling": "raised", "presses": 2}', []),
        (
            marks_of_thingsboard,
            '{"button-3": [{"values": {"press": 7}}, {"values": {"press": 8}}]}',
            ["3/7", "3/8"],
        ),
        (marks_of_thingsboard, '{"device": "button-3", "type": "default"}', []),
        (marks_of_theengs, '{"id": "C4:44:00:00:00:1A", "packet": 7, "button": 1}', ["26/7"]),
        (marks_of_theengs, "online", []),
    ],
)
def test_a_press_is_known_in_what_each_system_sends(read: Read, payload: str, marks: list[str]) -> None:
    """By the button and its packet id, however a system wraps them; what tells of no press has none."""
    assert [*read(payload.encode())] == marks


def test_a_button_fits_into_one_advertisement() -> None:
    """31 bytes are all that an advertisement has; each press has the next packet id in both its places."""
    button = Button(26)
    for number in (1, 2):
        mark, frame = button.press()
        assert mark == f"26/{number}"
        assert frame.name is not None
        ((_, service),) = frame.service_data.items()
        ((_, counted),) = frame.manufacturer_data.items()
        assert (service[2], counted[1]) == (number, number)
        flags, header, uuid = 3, 2, 2
        parts = (len(frame.name), uuid + len(service), uuid + len(counted))
        assert flags + sum(header + length for length in parts) <= 31


def test_the_page_says_how_often_each_trial_was_done(tmp_path: Path) -> None:
    """Once is one run, not "1 runs"."""
    results = Results(tmp_path / "results")
    results.add(hearing.NAME, GATEWAYD, {"heard_1": 100.0})
    report.write(tmp_path, results, PAIR, {"machine": "a bench"}, Scale())
    page = (tmp_path / "peers.md").read_text()
    assert "1 runs" not in page
    assert "shared by all: 1 run." in page


async def test_a_rig_that_cannot_start_leaves_no_broker_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a recorder the broker that was started before it ends too."""
    monkeypatch.setenv("PATH", str(tmp_path))  # mosquitto is looked for in /usr/sbin as well
    rig = Rig(tmp_path / "rig")
    with pytest.raises(FileNotFoundError, match="mosquitto_sub"):
        await rig.__aenter__()
    assert rig.broker.pid is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_nothing_runs_on_after_the_bench_was_interrupted(number: signal.Signals) -> None:
    """What it started is gone, and what that started."""
    command = (sys.executable, "-c", _INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as bench:
        assert bench.stdout is not None
        pids = [int(bench.stdout.readline()) for _ in range(2)]
        bench.send_signal(number)
        assert bench.wait() != 0
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists() or _state(pid) == "Z"  # dead, and nobody has looked yet


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


_INTERRUPTED: Final = """
import asyncio, subprocess, sys
from bench.process import no_child_left

async def main():
    shell = "sleep 60 & echo $!; wait"
    child = subprocess.Popen(["sh", "-c", shell])
    print(child.pid, flush=True)
    await asyncio.sleep(60)

with no_child_left():
    asyncio.run(main())
"""
