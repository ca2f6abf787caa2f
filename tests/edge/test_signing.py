"""The key that signs recordings: made once, kept from others, replaced by one that it vouches for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatewayd.edge.signing import KEYS_MAX, SigningError, load, pem, read_keys, rotate


def test_a_key_is_made_at_the_first_start_and_stays(tmp_path: Path) -> None:
    """Nobody but its owner can read it."""
    first = load(tmp_path, None)
    assert load(tmp_path, None).public == first.public
    assert (tmp_path / "evidence" / "key.pem").stat().st_mode & 0o777 == 0o600
    assert read_keys(tmp_path) == [{"public": first.public}]


def test_a_credential_counts_before_the_file(tmp_path: Path) -> None:
    """Where systemd gives one, no key is made on the disk."""
    load(tmp_path / "elsewhere", None)
    given = tmp_path / "credentials"
    given.mkdir()
    made = tmp_path / "elsewhere" / "evidence" / "key.pem"
    (given / "evidence_key").write_bytes(made.read_bytes())
    assert load(tmp_path, given).public == load(tmp_path / "elsewhere", None).public
    assert not (tmp_path / "evidence" / "key.pem").exists()
    with pytest.raises(SigningError, match="the key is the credential evidence_key"):
        rotate(tmp_path, given)


def test_a_rotation_keeps_the_old_public_key_and_has_it_vouch_for_the_new_one(tmp_path: Path) -> None:
    old = load(tmp_path, None).public
    new = rotate(tmp_path, None)
    assert new.public != old
    assert load(tmp_path, None).public == new.public
    before, after = read_keys(tmp_path)
    assert before == {"public": old}
    assert after["public"] == new.public
    assert "signature" in after


def test_a_replaced_file_is_a_key_that_nobody_vouches_for(tmp_path: Path) -> None:
    """The one before stays listed."""
    old = load(tmp_path, None).public
    (tmp_path / "evidence" / "key.pem").unlink()
    new = load(tmp_path, None).public
    assert read_keys(tmp_path) == [{"public": old}, {"public": new}]


def test_only_the_latest_keys_stay_listed(tmp_path: Path) -> None:
    load(tmp_path, None)
    for _ in range(KEYS_MAX + 2):
        rotate(tmp_path, None)
    assert len(read_keys(tmp_path)) == KEYS_MAX


def test_what_is_no_ed25519_key_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    load(tmp_path, None)
    key = tmp_path / "evidence" / "key.pem"
    key.write_text("nothing")
    with pytest.raises(SigningError, match="expected an Ed25519 key in PEM"):
        load(tmp_path, None)
    other = generate_private_key(SECP256R1())
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningError, match="got another kind"):
        load(tmp_path, None)


def test_a_damaged_list_of_keys_is_told_and_not_overwritten(tmp_path: Path) -> None:
    load(tmp_path, None)
    listed = tmp_path / "evidence" / "keys.json"
    listed.write_text("[")
    with pytest.raises(SigningError, match="got damage"):
        load(tmp_path, None)
    assert listed.read_text() == "["
    listed.write_text(json.dumps({}))
    with pytest.raises(SigningError, match="got damage"):
        load(tmp_path, None)


def test_the_public_key_is_told_as_openssl_reads_it(tmp_path: Path) -> None:
    """Nothing is made by asking."""
    with pytest.raises(SigningError, match="the daemon makes it when it starts"):
        pem(tmp_path)
    assert list(tmp_path.iterdir()) == []
    load(tmp_path, None)
    assert pem(tmp_path).startswith("-----BEGIN PUBLIC KEY-----")
