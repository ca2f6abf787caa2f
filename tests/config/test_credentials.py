"""Secrets come from systemd, and what is missing never silences a tag."""

from pathlib import Path

import pytest
from configuring import loaded

from gatewayd.config.credentials import (
    FOLDER_ID,
    CredentialError,
    credential_path,
    credentials_directory,
    read_credential,
    read_tag_key,
)
from gatewayd.config.load import without_keyless

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
TAG = "[tag front]\naddress = C4:11:22:33:44:55\nkey_credential = front\n"


@pytest.mark.parametrize("data", [KEY, KEY.hex().encode(), b" " + KEY.hex().upper().encode() + b"\r\n"])
def test_a_tags_key_is_16_bytes_or_32_hex_digits(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "front").write_bytes(data)
    tag = loaded(TAG, credentials=tmp_path).config.tags[0]
    assert (tag.key, tag.key_expected) == (KEY, True)
    assert KEY.hex() not in repr(tag)


@pytest.mark.parametrize("data", [b"", b"x" * 32, KEY.hex().encode()[:-1], KEY + KEY])
def test_a_bad_key_is_a_warning_and_the_tag_stays(tmp_path: Path, data: bytes) -> None:
    """A press must not be lost to a broken file: the alarm goes, marked as unproved."""
    (tmp_path / "front").write_bytes(data)
    result = loaded(TAG, credentials=tmp_path)
    assert (result.config.tags[0].key, result.config.tags[0].key_expected) == (None, True)
    assert [str(warning) for warning in result.warnings] == [
        "1.conf:3: [tag front] key_credential = front: expected 32 hex digits or 16 bytes in the credential"
        f" front, got {len(data)} other bytes"
    ]


def test_a_missing_key_is_a_warning_and_the_tag_stays(tmp_path: Path) -> None:
    result = loaded(TAG, credentials=tmp_path)
    assert result.config.tags[0].key_expected
    assert [str(warning) for warning in result.warnings] == [
        "1.conf:3: [tag front] key_credential = front: expected the credential front in"
        f" {tmp_path}, got no such file or directory"
    ]


def test_a_reload_does_not_bring_a_tag_whose_key_waits_for_a_restart(tmp_path: Path) -> None:
    """Each of its heartbeats would raise; what it waits for is said, and other tags are as they are."""
    before = loaded("[tag back]\naddress = C4:11:22:33:44:66\n")
    plain = "[tag back]\naddress = C4:11:22:33:44:66\n[tag side]\naddress = C4:11:22:33:44:77\n"
    after = without_keyless(loaded(TAG + plain, credentials=tmp_path), before.config.tags)
    assert [tag.name for tag in after.config.tags] == ["back", "side"]
    assert [str(warning) for warning in after.warnings] == [
        "1.conf:3: [tag front] key_credential = front: expected the credential front in"
        f" {tmp_path}, got no such file or directory: the tag is not listened to until gatewayd is restarted"
    ]
    assert ("tag front", "address") in after.origins  # so the last good configuration has it
    (tmp_path / "front").write_bytes(KEY)
    assert len(without_keyless(loaded(TAG, credentials=tmp_path), ()).config.tags) == 1


def test_a_reload_never_silences_a_tag_that_is_listened_to(tmp_path: Path) -> None:
    """Its key is missed, or named only now; the device is the same."""
    before = loaded("[tag old-name]\naddress = C4:11:22:33:44:55\n").config.tags
    after = without_keyless(loaded(TAG, credentials=tmp_path), before)
    assert [tag.name for tag in after.config.tags] == ["front"]
    assert after == loaded(TAG, credentials=tmp_path)


def test_outside_of_a_service_there_are_no_credentials() -> None:
    (warning,) = loaded(TAG).warnings
    assert str(warning).endswith(
        "expected the credential front in $CREDENTIALS_DIRECTORY,"
        " got no such directory (systemd gives it to a service)"
    )


def test_what_the_session_will_miss_is_warned_of(tmp_path: Path) -> None:
    """Not an error: health says why the session fails, and the file may come."""
    certificate = tmp_path / "ca.pem"
    text = (
        f"[mqtt]\nbrokers = a.example\nca_file = {certificate}\nclient_certificate = {certificate}\n"
        "client_key_credential = key\nusername = u\npassword_credential = password\n"
    )
    assert [warning.key for warning in loaded(text, credentials=tmp_path).warnings] == [
        "ca_file",
        "client_certificate",
        "client_key_credential",
        "password_credential",
    ]
    for name in ("ca.pem", "key", "password"):
        (tmp_path / name).write_text("x")
    assert loaded(text, credentials=tmp_path).warnings == ()


def test_a_file_of_the_credentials_folder_is_found_by_its_name(tmp_path: Path) -> None:
    """systemd puts the id of the folder before it; what was given to the unit by name counts first."""
    (tmp_path / f"{FOLDER_ID}_password").write_text("from the folder")
    assert read_credential(tmp_path, "password") == "from the folder"
    (tmp_path / "password").write_text("by name")
    assert read_credential(tmp_path, "password") == "by name"


def test_root_on_a_command_line_has_the_folder_itself(tmp_path: Path) -> None:
    service = {"CREDENTIALS_DIRECTORY": "/run/credentials/gatewayd.service"}
    assert credentials_directory(service, tmp_path) == Path("/run/credentials/gatewayd.service")
    assert credentials_directory({}, tmp_path) == tmp_path
    assert credentials_directory({"CREDENTIALS_DIRECTORY": ""}, tmp_path / "none") is None


@pytest.mark.parametrize("data", ["secret", "secret\n", "secret\r\n"])
def test_a_password_is_read_without_its_line_end(tmp_path: Path, data: str) -> None:
    (tmp_path / "password").write_bytes(data.encode())
    assert read_credential(tmp_path, "password") == "secret"
    assert credential_path(tmp_path, "password") == tmp_path / "password"


def test_an_error_does_not_tell_the_secret(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"hunter2\xff")
    (tmp_path / "key").write_bytes(b"hunter2")
    with pytest.raises(
        CredentialError, match=r"^expected UTF-8 text in the credential password, got other bytes$"
    ):
        read_credential(tmp_path, "password")
    with pytest.raises(
        CredentialError, match=r"^expected 32 hex digits or 16 bytes in the credential key, got 7"
    ):
        read_tag_key(tmp_path, "key")
