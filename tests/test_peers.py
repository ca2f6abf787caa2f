"""The bench beside what people would use instead runs, counts and tells rightly. No test installs a peer."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from bench.peers import report, trials
from bench.peers.feed import disorder
from bench.peers.plot import draw
from bench.peers.results import Results
from bench.peers.run import Part, measure
from bench.peers.systems import GATEWAYD, SYSTEMS
from bench.peers.trials import Fault, Scale

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
    told = report.table(results, PAIR, Scale())
    assert "| drained, /s | 5,000 (4,000) | **30,000** |" in told
    assert "| accepted and lost | **0** | 19,000 |" in told
    better = report.better(results, PAIR, Scale())
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
