"""The chain of a recording, its manifest, and what is found when somebody altered either."""

from __future__ import annotations

import base64
import json
import os
import random
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.core import evidence
from gatewayd.core.evidence import LIST_CHUNKS, NONE, Chain, Saved, Signed, verify
from gatewayd.core.model import ClockSource, Instant, Json

ALARM = "0190b6f0-0000-7000-8000-000000000001"
AT = Instant(boot="b", mono_s=1.0, wall_s=1_000_000.0, source=ClockSource.NTP, uncertainty_ms=1)
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ALTERATIONS = 10_000 if os.environ.get("GATEWAYD_LONG") else 1_000
NAME = "manifest-0.json"


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def text_of(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(raw(key)).decode()


PUBLIC = raw(KEY)


def pages(n: int) -> bytes:
    return b"OggS" + n.to_bytes(4, "big") + bytes(range(60))


def made(count: int, *, first: int = 0, alarm: str = ALARM) -> tuple[Chain, dict[int, bytes]]:
    """A chain of so many chunks, closed, and its lists."""
    chain, lists = Chain(alarm=alarm), dict[int, bytes]()
    for n in range(first, first + count):
        gaps = [evidence.gap_line("device", 40, 0)] if n == first + 3 else []
        chain = chain.add(n, pages(n), AT, gaps)
        if chain.full:
            lists[evidence.first_of(chain.text)] = chain.text.encode()
            chain = chain.close()
    if chain.text:
        lists[evidence.first_of(chain.text)] = chain.text.encode()
    return chain.close(), lists


def signed(body: object, key: Ed25519PrivateKey = KEY, name: str = NAME) -> Signed:
    text = json.dumps(body).encode()
    return Signed(name=name, text=text, signature=key.sign(text))


def recording(count: int = 70, first: int = 0, key: Ed25519PrivateKey = KEY) -> Saved:
    chain, lists = made(count, first=first)
    body = evidence.manifest(chain, {"keys": [{"public": text_of(key)}]}) | {"began_at": "then"}
    chunks = {n: pages(n) for n in range(first, first + count)}
    return Saved(manifests=[signed(body, key)], lists=lists, chunks=chunks)


def problems(saved: Saved, public: bytes | None = PUBLIC) -> tuple[str, ...]:
    return verify(saved, public).problems


def test_an_unaltered_recording_is_proved_whole() -> None:
    """Every chunk, over three lists, and the gap is told."""
    found = verify(recording(), PUBLIC)
    assert found.good
    assert found.vouched == 70
    assert found.lost == ("gap device 40 ms, 0 numbers left out",)
    assert found.told[0]["chunks"] == 70
    assert found.told[0]["began_anew"] is False


def test_a_chunk_that_is_missing_is_named() -> None:
    saved = recording()
    assert problems(replace(saved, chunks={n: saved.chunks[n] for n in saved.chunks if n != 41})) == (
        "chunk 41 missing",
    )


def test_a_chunk_that_was_altered_is_named() -> None:
    saved = recording()
    assert problems(replace(saved, chunks={**saved.chunks, 5: b"OggS else"})) == ("chunk 5 altered",)


def test_chunks_that_changed_places_are_named() -> None:
    saved = recording()
    swapped = {**saved.chunks, 2: saved.chunks[50], 50: saved.chunks[2]}
    assert problems(replace(saved, chunks=swapped)) == (
        "chunk 2 reordered: it is what chunk 50 was",
        "chunk 50 reordered: it is what chunk 2 was",
    )


def test_a_chunk_that_was_added_is_named() -> None:
    saved = recording()
    (problem,) = problems(replace(saved, chunks={**saved.chunks, 70: b"OggS more"}))
    assert problem.startswith("chunk 70 not listed")


def test_a_list_that_was_altered_leaves_open_what_it_listed() -> None:
    """And what stands in the lists before it; those after it are proved."""
    saved = recording()
    altered = {**saved.lists, LIST_CHUNKS: saved.lists[LIST_CHUNKS].replace(b"audio/40", b"audio/41")}
    found = verify(replace(saved, lists=altered), PUBLIC)
    assert found.problems[0].startswith(f"list missing or altered: the one that list {2 * LIST_CHUNKS} names")
    assert f"list {LIST_CHUNKS} altered: it is not the one that was made" in found.problems
    assert found.vouched == 70 - 2 * LIST_CHUNKS


def test_an_altered_manifest_is_told_from_a_wrong_key() -> None:
    """Its text does not fit the signature, with whatever key it names."""
    saved = recording()
    (whole,) = saved.manifests
    altered = replace(whole, text=whole.text.replace(b"then", b"thin"))
    expected = f"{NAME}: manifest altered: its signature does not fit it, or it is another key's"
    assert problems(replace(saved, manifests=[altered])) == (expected,)
    assert problems(replace(saved, manifests=[replace(whole, text=b"[")])) == (expected,)


def test_another_gateways_recording_has_the_wrong_key() -> None:
    (problem,) = problems(recording(key=OTHER))
    assert problem == (
        f"{NAME}: wrong key: it was signed with {text_of(OTHER)}, expected {text_of(KEY)} or one that it"
        " vouches for"
    )


def test_without_a_key_nothing_is_proved() -> None:
    """Neither where nobody knows the gateway's, nor where the gateway had none."""
    saved = recording()
    assert "no key: name the gateway's public key" in problems(saved, None)[0]
    unsigned = replace(saved.manifests[0], signature=b"")
    assert "no signature: the gateway had no key" in problems(replace(saved, manifests=[unsigned]))[0]


def test_without_a_manifest_nothing_is_proved() -> None:
    found = verify(replace(recording(), manifests=[]), PUBLIC)
    assert found.problems == ("manifest missing: nothing says what the recording was",)
    assert found.vouched == 0


def test_a_file_that_does_not_belong_there_is_named() -> None:
    (problem,) = problems(replace(recording(), strange=["audio/07"]))
    assert problem.startswith("audio/07: ")


def rotated(*, endorsed_by: Ed25519PrivateKey) -> Saved:
    """A recording signed with OTHER, which took the place of KEY."""
    chain, lists = made(3)
    signature = base64.b64encode(endorsed_by.sign(evidence.endorsement(text_of(OTHER)))).decode()
    keys: list[Json] = [{"public": text_of(KEY)}, {"public": text_of(OTHER), "signature": signature}]
    body = evidence.manifest(chain, {"keys": keys}) | {"began_at": "then"}
    return Saved(manifests=[signed(body, OTHER)], lists=lists, chunks={n: pages(n) for n in range(3)})


def test_what_neither_the_key_nor_its_heir_signed_is_altered() -> None:
    saved = rotated(endorsed_by=KEY)
    text = saved.manifests[0].text
    third = replace(saved.manifests[0], signature=Ed25519PrivateKey.generate().sign(text))
    (problem,) = problems(replace(saved, manifests=[third]))
    assert "manifest altered" in problem


def test_a_key_that_the_old_one_vouches_for_counts_as_it() -> None:
    """Who knows the key from before a rotation need not be told."""
    assert problems(rotated(endorsed_by=KEY)) == ()
    assert problems(rotated(endorsed_by=OTHER)) != ()


@pytest.mark.parametrize(
    "keys",
    [
        "no list",
        [1],
        [{"public": 1}],
        [{"public": "?"}],
        [{"public": text_of(KEY)}, {"public": text_of(OTHER)}],
        [{"public": text_of(KEY)}, {"public": text_of(OTHER), "signature": "?"}],
        [{"public": "AAAA"}],
    ],
)
def test_keys_that_nobody_vouches_for_change_nothing(keys: object) -> None:
    chain, lists = made(1)
    body = evidence.manifest(chain, {}) | {"began_at": "then", "keys": keys}
    saved = Saved(manifests=[signed(body, OTHER)], lists=lists, chunks={0: pages(0)})
    assert len(problems(saved)) == 1


def test_what_was_signed_but_is_no_manifest_is_not_believed() -> None:
    """The gateway itself would have to be broken; a chain of another alarm is not this one's."""
    assert problems(replace(recording(), manifests=[signed([1])])) == (
        f"{NAME}: manifest altered: expected a JSON object",
    )
    chain, lists = made(2, alarm="another")
    body = evidence.manifest(replace(chain, alarm=ALARM), {}) | {"began_at": "then"}
    found = problems(Saved(manifests=[signed(body)], lists=lists, chunks={}))
    assert found[0].startswith(
        f"list 0: expected one of alarm {ALARM}, got '# gatewayd evidence 1 alarm another"
    )


def test_a_chain_that_begins_anew_says_so_and_stands_beside_the_one_before() -> None:
    """The disk with the first one's end was lost: two manifests, and both count."""
    one, two = recording(5), recording(4, first=1005)
    (newer,) = two.manifests
    both = Saved(
        manifests=[*one.manifests, replace(newer, name="manifest-1005.json")],
        lists={**one.lists, **two.lists},
        chunks={**one.chunks, **two.chunks},
    )
    found = verify(both, PUBLIC)
    assert found.good
    assert [body["began_anew"] for body in found.told] == [False, True]
    assert found.vouched == 9


def test_a_chain_goes_on_from_where_it_was_stored() -> None:
    """Another run of the daemon makes the same chain of the rest."""
    whole, lists = made(40)
    part, _ = made(0)
    for n in range(10):
        part = part.add(n, pages(n), AT, [evidence.gap_line("device", 40, 0)] if n == 3 else [])
    part = Chain.from_json(ALARM, part.to_json())
    for n in range(10, LIST_CHUNKS):
        part = part.add(n, pages(n), AT)
    assert part.full
    assert part.text.encode() == lists[0]
    assert whole.close() == whole
    assert made(0)[0].before == NONE


def test_a_text_that_is_no_list_has_no_number() -> None:
    with pytest.raises(ValueError, match="expected a list of chunks"):
        evidence.first_of("0123  audio/1")


def test_a_gap_of_unknown_length_says_so() -> None:
    assert evidence.gap_line("restart", None, 1000) == "# gap restart unknown, 1000 numbers left out"


def test_a_list_is_what_sha256sum_checks() -> None:
    """A line is its format: two spaces between hash and file name; `#` begins a comment."""
    _, lists = made(1)
    comment, line = lists[0].decode().splitlines()
    assert comment.startswith("# ")
    assert line == f"{sha256(pages(0)).hexdigest()}  audio/0"


def altered(data: bytes, chance: random.Random) -> bytes:
    """One byte of `data` changed, lost or added, or its end cut off."""
    at = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            return data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + 1 :]
        case 2:
            return data[:at] + bytes([chance.randrange(256)]) + data[at:]
        case _:
            return data[:at]


def with_one_alteration(saved: Saved, chance: random.Random) -> Saved:
    """The recording with one thing altered, lost, added or moved, wherever it lies."""
    chunks, lists, manifests = dict(saved.chunks), dict(saved.lists), list(saved.manifests)
    what = chance.randrange(8)
    of = chunks if what < 4 else lists
    n = chance.choice(sorted(of))
    if what in {0, 4}:
        of[n] = altered(of[n], chance)
    elif what in {1, 5}:
        del of[n]
    elif what == 2:
        other = chance.choice(sorted(chunks.keys() - {n}))
        chunks[n], chunks[other] = chunks[other], chunks[n]
    elif what == 3:
        chunks[max(chunks) + chance.randrange(1, 9)] = chunks[n]
    elif what == 6:
        manifests[0] = replace(manifests[0], text=altered(manifests[0].text, chance))
    else:
        manifests[0] = replace(manifests[0], signature=altered(manifests[0].signature, chance))
    return replace(saved, chunks=chunks, lists=lists, manifests=manifests)


def test_every_single_alteration_is_found() -> None:
    """A byte changed, lost or added, a cut, a file lost, added or moved: 1,000 times, 10,000 with --long."""
    saved = recording(100)
    assert verify(saved, PUBLIC).good
    chance = random.Random(6)
    for _ in range(ALTERATIONS):
        assert not verify(with_one_alteration(saved, chance), PUBLIC).good
