"""The file of the audit log: entries from several processes, bounded, and for its owner alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gatewayd.core.audit import ENTRIES_MAX, verify
from gatewayd.edge.audit import DROPPED, FILE, append, read

APPEND = """
import sys
from pathlib import Path
from gatewayd.edge.audit import append
for _ in range(20):
    append(Path(sys.argv[1]), {"what": sys.argv[2]})
"""


def test_a_log_begins_with_its_first_entry(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    append(tmp_path, {"what": "audio_started"})
    append(tmp_path, {"what": "audio_ended"})
    assert len(read(tmp_path)) == 2
    assert verify(read(tmp_path)) == []
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    """The daemon notes a listening while somebody exports."""
    command = [sys.executable, "-c", APPEND, str(tmp_path)]
    both = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [process.wait() for process in both] == [0, 0]
    assert len(read(tmp_path)) == 40
    assert verify(read(tmp_path)) == []


def test_the_oldest_entries_give_way(tmp_path: Path) -> None:
    """The rest is still a chain."""
    path = tmp_path / FILE
    append(tmp_path, {"what": "first"})
    first = read(tmp_path)[0]
    path.write_text(f"{first}\n" * ENTRIES_MAX)
    append(tmp_path, {"what": "last"})
    assert len(read(tmp_path)) == ENTRIES_MAX - DROPPED + 1
    assert '"what":"last"' in read(tmp_path)[-1]


def test_behind_an_entry_that_the_power_cut_another_one_begins(tmp_path: Path) -> None:
    append(tmp_path, {"what": "whole"})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"n":2,"wh')
    append(tmp_path, {"what": "after"})
    assert len(read(tmp_path)) == 3
    assert verify(read(tmp_path)) == ["""expected an entry, got '{"n":2,"wh'"""]
