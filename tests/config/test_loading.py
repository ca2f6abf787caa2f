"""Which files make the configuration, what a gateway starts on, and what it keeps."""

import os
import stat
from pathlib import Path

import pytest
from configuring import MACHINE_ID, loaded

from gatewayd.config import load as loading
from gatewayd.config.load import Loaded, Started, drop_ins, keep, load, load_or_last_good, read_machine_id
from gatewayd.config.problem import ConfigurationError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(path: Path) -> Loaded:
    return load(path, credentials=None, machine_id=MACHINE_ID)


def refused(path: Path) -> list[str]:
    """Return the errors of a configuration that cannot be used."""
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    return [str(error) for error in caught.value.errors]


def start(path: Path, state: Path) -> Started:
    return load_or_last_good(path, state, credentials=None, machine_id=MACHINE_ID)


def test_drop_ins_win_over_the_file_and_later_names_over_earlier(tmp_path: Path) -> None:
    write(tmp_path / "gatewayd.conf", "[gateway]\nid = a\nprefix = a\n[health]\ninterval = 10s")
    write(tmp_path / "conf.d" / "20.conf", "[gateway]\nid = c")
    write(tmp_path / "conf.d" / "10.conf", "[gateway]\nid = b\nprefix = b")
    config = read(tmp_path).config
    assert (config.gateway.id, config.gateway.prefix, config.health.interval_s) == ("c", "b", 10)


def test_only_what_ends_in_conf_is_read(tmp_path: Path) -> None:
    """An editor's hidden files, a README, and what a package upgrade leaves are no configuration."""
    write(tmp_path / "gatewayd.conf", "[gateway]\nid = a")
    for name in ("README", "10.conf~", "10.conf.dpkg-old", ".10.conf", ".#10.conf", "conf"):
        write(tmp_path / "conf.d" / name, "junk")
    assert read(tmp_path).config.gateway.id == "a"


def test_beside_the_file_only_its_drop_ins_are_read(tmp_path: Path) -> None:
    write(tmp_path / "gatewayd.conf", "[gateway]\nid = a")
    write(tmp_path / "gatewayd-old.conf", "junk")
    assert read(tmp_path).config.gateway.id == "a"


def test_drop_ins_are_enough(tmp_path: Path) -> None:
    write(tmp_path / "conf.d" / "10.conf", "[gateway]\nid = a")
    assert read(tmp_path).config.gateway.id == "a"


def test_any_folder_of_files_is_read_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.conf", "[gateway]\nid = b")
    write(tmp_path / "a.conf", "[gateway]\nid = a")
    assert read(tmp_path).config.gateway.id == "b"


def test_one_file_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path / "conf.d" / "10.conf", "junk")
    assert read(write(tmp_path / "gatewayd.conf", "[gateway]\nid = a")).config.gateway.id == "a"


def test_a_folder_with_no_configuration_is_an_error(tmp_path: Path) -> None:
    """A gateway that lost its files must not pass for one without tags."""
    assert refused(tmp_path) == [
        f"{tmp_path}: expected gatewayd.conf, conf.d/*.conf or *.conf in it, got none"
    ]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none.conf"
    assert refused(path) == [f"{path}: expected a file that can be read, got no such file or directory"]


def test_what_is_no_file_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "pipe.conf"
    os.mkfifo(path)
    (tmp_path / "folder.conf").mkdir()
    (tmp_path / "null.conf").symlink_to("/dev/null")
    assert refused(tmp_path) == [
        f"{tmp_path}/folder.conf: expected a file that can be read, got is a directory",
        f"{tmp_path}/null.conf: expected a file that can be read, got not a regular file",
        f"{tmp_path}/pipe.conf: expected a file that can be read, got not a regular file",
    ]


def test_an_unreadable_folder_is_an_error_beside_the_others(tmp_path: Path) -> None:
    write(tmp_path / "gatewayd.conf", "junk")
    (tmp_path / "conf.d").symlink_to("conf.d")
    assert refused(tmp_path) == [
        f"{tmp_path}/conf.d: expected a folder that can be read, got too many levels of symbolic links",
        f"{tmp_path}/gatewayd.conf:1: expected key = value, got a line without =",
    ]


def test_a_file_is_judged_before_it_is_there(tmp_path: Path) -> None:
    """With all the others, and as the last one."""
    write(tmp_path / "gatewayd.conf", "[tag anna]\naddress = C4:11:22:33:44:55")
    path = tmp_path / "conf.d" / "more.conf"
    added = (path, b"[tag bert]\naddress = C4:11:22:33:44:55\n")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, credentials=None, machine_id=MACHINE_ID, added=added)
    (error,) = caught.value.errors
    assert str(error).startswith(f"{path}:2: [tag bert]")
    assert [tag.name for tag in read(tmp_path).config.tags] == ["anna"]


@pytest.mark.parametrize(
    ("there", "where"), [("gatewayd.conf", "conf.d"), ("conf.d/1.conf", "conf.d"), ("1.conf", "")]
)
def test_what_is_put_beside_the_others_is_read(tmp_path: Path, there: str, where: str) -> None:
    """A new conf.d would hide the files of a folder that has none."""
    write(tmp_path / there, "[gateway]\nid = a")
    assert drop_ins(tmp_path) == tmp_path / where
    write(drop_ins(tmp_path) / "tag.conf", "[tag anna]\naddress = C4:11:22:33:44:55")
    config = read(tmp_path).config
    assert (config.gateway.id, len(config.tags)) == ("a", 1)


def test_without_a_path_it_is_that_of_the_machine() -> None:
    """The folder that packages and administrators know."""
    assert str(loading.FOLDER) == "/etc/gatewayd"
    try:
        assert load(None, credentials=None, machine_id=MACHINE_ID) == read(loading.FOLDER)
    except ConfigurationError as error:
        assert [str(problem) for problem in error.errors] == refused(loading.FOLDER)  # noqa: PT017 - either is right


def test_the_machine_id_is_read_as_it_stands(tmp_path: Path) -> None:
    assert read_machine_id(write(tmp_path / "machine-id", MACHINE_ID + "\n")) == MACHINE_ID
    assert read_machine_id(tmp_path / "none") == ""


def test_a_bad_configuration_starts_on_the_last_good_one(tmp_path: Path) -> None:
    """And says why: the errors go to health and to the journal."""
    state = tmp_path / "state"
    path = write(tmp_path / "a.conf", "[gateway]\nid = good\n[tag t]\naddress = C4:11:22:33:44:55")
    first = start(path, state)
    assert first.errors == ()
    assert keep(first.loaded, state) is None
    write(path, "[gateway]\nid = b a d")
    second = start(path, state)
    assert second.loaded.config == first.loaded.config
    assert [str(error.place) for error in second.errors] == [f"{path}:2"]
    assert str(second.loaded.origins["gateway", "id"].place) == f"{state}/last_good.conf:5"


def test_without_a_last_good_one_a_bad_configuration_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start(tmp_path / "none.conf", tmp_path / "state")
    assert len(caught.value.errors) == 1


def test_when_the_last_good_one_is_bad_too_both_are_told(tmp_path: Path) -> None:
    write(tmp_path / "last_good.conf", "")
    with pytest.raises(ConfigurationError) as caught:
        start(tmp_path / "none.conf", tmp_path)
    assert [error.place.path for error in caught.value.errors] == [
        f"{tmp_path}/last_good.conf",
        f"{tmp_path}/none.conf",
    ]


def test_what_is_kept_holds_what_was_set_and_no_defaults(tmp_path: Path) -> None:
    """So a newer version's defaults count; and only the gateway's user may read it."""
    assert (
        keep(loaded("[tag t]\naddress = C4:11:22:33:44:55\n[gateway]\nid = a", "[gateway]\nid ="), tmp_path)
        is None
    )
    path = tmp_path / "last_good.conf"
    assert path.read_text().split("\n\n", 1)[1] == "[tag t]\naddress = C4:11:22:33:44:55\n\n[gateway]\nid =\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(child.name for child in tmp_path.iterdir()) == ["last_good.conf"]


def test_an_unchanged_configuration_is_not_written_again(tmp_path: Path) -> None:
    """An SD card lives for years."""
    keep(loaded("[gateway]\nid = a"), tmp_path)
    before = (tmp_path / "last_good.conf").stat()
    keep(loaded("[gateway]\nid = a"), tmp_path)
    assert (tmp_path / "last_good.conf").stat().st_ino == before.st_ino
    keep(loaded("[gateway]\nid = b"), tmp_path)
    assert (tmp_path / "last_good.conf").stat().st_ino != before.st_ino


def test_the_rest_of_an_interrupted_write_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "last_good.conf.new", "[gateway]\nid = half")
    assert keep(loaded("[gateway]\nid = whole"), tmp_path) is None
    assert read(tmp_path / "last_good.conf").config.gateway.id == "whole"


def test_a_disk_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """The gateway runs all the same."""
    state = write(tmp_path / "file", "")
    assert str(keep(loaded("[gateway]\nid = a"), state)) == (
        f"{state}/last_good.conf: expected a place to keep the last good configuration, got file exists"
    )
