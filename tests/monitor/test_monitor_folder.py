"""A saved recording on disk: what came lies there as it came, and no alteration of a file goes unseen."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.core import evidence
from gatewayd.core.evidence import Chain, verify
from gatewayd.core.model import ClockSource, Instant
from gatewayd.monitor.desk import Desk
from gatewayd.monitor.folder import Folder, read
from gatewayd.monitor.news import News, lines
from gatewayd.monitor.news import read as received

ALARM = "a1"
AT = Instant(boot="b", mono_s=1.0, wall_s=1_000_000.0, source=ClockSource.NTP, uncertainty_ms=1)
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
ALTERATIONS = 10_000 if os.environ.get("GATEWAYD_LONG") else 200


def told(below: str, body: bytes | dict[str, object]) -> News:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return received("gatewayd", f"gatewayd/gw-1/alarm/{ALARM}/{below}", data)


def recording(count: int) -> Iterator[News]:
    """All that a gateway tells of an alarm, in its order."""
    yield told("event", {"type": "raised", "id": "1"})
    yield told("state", {"alarm": ALARM, "handling": "raised"})
    chain = Chain(alarm=ALARM)
    for n in range(count):
        pages = b"OggS" + os.urandom(40)
        yield told(f"audio/{n}", pages)
        chain = chain.add(n, pages, AT)
        if chain.full or n == count - 1:
            yield told(f"evidence/{evidence.first_of(chain.text)}", {"list": chain.text})
            chain = chain.close()
    text = json.dumps(evidence.manifest(chain, {}) | {"began_at": "then"})
    signature = base64.b64encode(KEY.sign(text.encode())).decode()
    yield told("evidence", {"signed": text, "signature": signature})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a recording of 70 chunks."""
    folder = Folder()
    news = list(recording(70))
    folder.take(news[0])  # before it is known whose sound comes
    folder.begin(tmp_path / "saved", ALARM)
    for each in news[1:]:
        folder.take(each)
    return tmp_path / "saved"


def test_what_came_lies_there_and_is_proved(saved: Path) -> None:
    """With what was told before the first chunk."""
    found = verify(read(saved), PUBLIC)
    assert found.good
    assert found.vouched == 70
    assert json.loads((saved / "events.jsonl").read_text())["type"] == "raised"
    assert json.loads((saved / "state.json").read_text())["handling"] == "raised"


def test_another_alarms_messages_are_left_out(saved: Path) -> None:
    folder = Folder()
    folder.begin(saved, "another")
    before = sorted(saved.rglob("*"))
    folder.take(told("audio/99", b"OggS"))
    assert sorted(saved.rglob("*")) == before


def test_a_manifest_without_a_number_or_a_signature_is_kept_as_it_came(tmp_path: Path) -> None:
    """And proves nothing."""
    folder = Folder()
    folder.begin(tmp_path, ALARM)
    folder.take(told("evidence", {"signed": "noise"}))
    assert "no signature" in verify(read(tmp_path), PUBLIC).problems[0]


def test_every_single_alteration_of_a_file_is_found(saved: Path) -> None:
    """A byte changed, a cut, a file lost, added or moved: 200 times, 10,000 with --long."""
    chance = random.Random(6)
    proving = [path for path in sorted(saved.rglob("*")) if path.is_file()]
    proving = [path for path in proving if path.name not in {"state.json", "events.jsonl"}]
    chunks = [path for path in proving if path.parent.name == "audio"]
    for _ in range(ALTERATIONS):
        path, other = chance.choice(proving), chance.choice(chunks)
        whole, others = path.read_bytes(), other.read_bytes()
        at = chance.randrange(len(whole))
        what = chance.randrange(5)
        if what == 0:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ chance.randrange(1, 256)]) + whole[at + 1 :])
        elif what == 1:
            path.write_bytes(whole[:at])
        elif what == 2:
            path.unlink()
        elif what == 3:
            (saved / "audio" / str(70 + at)).write_bytes(others)
        elif path != other:
            path.write_bytes(others)
            other.write_bytes(whole)
        else:
            path.write_bytes(whole + b"\0")
        assert not verify(read(saved), PUBLIC).good
        (saved / "audio" / str(70 + at)).unlink(missing_ok=True)
        other.write_bytes(others)
        path.write_bytes(whole)
    assert verify(read(saved), PUBLIC).good


def test_a_manifest_of_an_alarm_that_is_over_is_no_alarm() -> None:
    """It is retained for 30 days; the desk shows none for it, and a line says what it is."""
    desk = Desk()
    manifest = told("evidence", {"signed": "{}", "signature": "x"})
    desk.take(manifest, None)
    desk.take(told("evidence/0", {"list": "# …"}), None)
    assert desk.alarms == {}
    assert lines(manifest)[0].endswith("evidence a1: the recording's manifest, signed")
    assert lines(told("evidence/0", {"list": "# …"})) == []
