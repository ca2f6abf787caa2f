"""The INI reader: every fault with its file and line, and no bytes that it cannot bear."""

import os
from random import Random

import pytest
from configuring import errors, loaded, places
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import ini
from gatewayd.config.example import example
from gatewayd.config.layers import Layers


def faults(data: bytes) -> list[str]:
    """Return what the reader says of a file's bytes."""
    layers = Layers()
    layers.add(data, "1.conf")
    return [str(problem) for problem in layers.problems]


@pytest.mark.parametrize("first", ["#", ";"])
def test_a_comment_takes_a_whole_line(first: str) -> None:
    """Lines that begin with # or ; say nothing to the gateway, whatever stands in them."""
    assert errors(f"{first} [nope]\n  {first} a = b\n[gateway]\n{first}id = a b\n") == []


def test_a_sign_of_comment_within_a_value_belongs_to_it() -> None:
    assert loaded("[mqtt]\nusername = a # b ; c").config.mqtt.username == "a # b ; c"


def test_nothing_is_interpolated() -> None:
    assert loaded("[mqtt]\nusername = %(x)s ${HOME} %%").config.mqtt.username == "%(x)s ${HOME} %%"


def test_white_space_and_line_ends_do_not_count() -> None:
    """Tabs, indentation, CR LF and a missing last line end are all the same file."""
    config = loaded("\t[ gateway ]\r\n  id\t=  front \r\n[tag   A]\r\n\taddress=C4:11:22:33:44:55").config
    assert (config.gateway.id, config.tags[0].name) == ("front", "A")


def test_a_value_may_hold_an_equals_sign() -> None:
    assert (
        loaded("[audio]\ndevice = plughw:CARD=Device,DEV=0").config.audio.device == "plughw:CARD=Device,DEV=0"
    )


def test_a_section_may_be_opened_twice() -> None:
    config = loaded("[gateway]\nid = a\n[health]\n[gateway]\nprefix = b").config
    assert (config.gateway.id, config.gateway.prefix) == ("a", "b")


def test_a_key_twice_in_a_file_is_an_error_that_names_both_lines() -> None:
    assert errors("[gateway]\nid = a\n[gateway]\nid = b") == [
        "1.conf:4: [gateway] id = b: expected id once in a file, got it again (it stands at line 2)"
    ]


def test_a_key_in_two_files_is_no_error() -> None:
    assert loaded("[gateway]\nid = a", "[gateway]\nid = b").config.gateway.id == "b"


def test_a_key_before_any_section_is_an_error() -> None:
    assert errors("id = a") == ["1.conf:1: expected a [section] before the first key, id, got none"]


@pytest.mark.parametrize(
    ("line", "got"), [("hunter2", "a line without ="), ("id: a", "a line without ="), ("= a", "no key")]
)
def test_a_line_that_is_no_setting_is_an_error(line: str, got: str) -> None:
    """What stands there is not repeated: it may be a secret."""
    assert errors(f"[gateway]\n{line}") == [f"1.conf:2: expected key = value, got {got}"]


def test_a_header_that_is_not_closed_is_one_error() -> None:
    """What follows it belongs to nothing known, and is not judged."""
    assert errors("[gateway\nid = a b\njunk") == ["1.conf:1: expected [section], got [gateway"]


def test_an_unknown_section_is_one_error() -> None:
    """Its keys are not judged, however wrong, and it is told once."""
    text = "[gatway]\nid = a b\nid = a b\njunk\n[gateway]\nid = c\n[gatway]\nx = y\n"
    assert errors(text) == [
        "1.conf:1: [gatway]: expected a known section (did you mean [gateway]?), got [gatway]"
    ]


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n"])
def test_an_empty_file_is_an_error(data: bytes) -> None:
    """It is what a power cut leaves of a file that was being written; a file of comments is fine."""
    assert faults(data) == ["1.conf: expected settings or comments, got an empty file"]
    assert faults(data + b"# none") == []


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"[gateway]\nid = \xe9", "1.conf:2: expected UTF-8 text, got the byte 0xe9"),
        (b"[gateway]\n#\0", "1.conf:2: expected text, got the control character 0x00"),
        (b"[gateway]\nid = \x1b[31m", "1.conf:2: expected text, got the control character 0x1b"),
        (
            b"\xef\xbb\xbf[gateway]",
            "1.conf:1: expected UTF-8 without a byte order mark, got a byte order mark",
        ),
    ],
)
def test_what_is_no_text_is_an_error_with_its_line(data: bytes, fault: str) -> None:
    assert faults(data) == [fault]


def test_a_file_beyond_the_limit_is_not_read() -> None:
    assert faults(b"#" * (ini.LIMIT_BYTES + 1)) == [
        "1.conf: expected at most 1 MiB of settings, got a larger file"
    ]
    assert faults(b"#" * ini.LIMIT_BYTES) == []


def test_what_is_told_of_one_file_is_bounded() -> None:
    """A file of noise fills neither the memory nor the journal."""
    told = faults(b"[gateway]\n" + b"x\n" * (2 * ini.LIMIT_PROBLEMS))
    assert len(told) == ini.LIMIT_PROBLEMS + 1
    assert (
        told[-1] == "1.conf:1002: expected fewer than 1000 faults in a file, got more; the rest was not read"
    )


def test_all_errors_come_at_once_by_file_and_line() -> None:
    first = "[gateway]\nid = a b\n[nope]\n[mqtt]\nbrokers =\njunk"
    assert places(errors(first, "x")) == ["1.conf:2", "1.conf:3", "1.conf:5", "1.conf:6", "2.conf:1"]


WORDS = """\
[ ] = # é \u202e \0 tag gateway mqtt gpio id brokers tls format address uuid alarm_on test_on buzzer yes 30s
hub kind [::1]:1 localhost C4:11:22:33:44:55 ibeacon key_credential"""
LINES = st.lists(st.sampled_from(["\n", "\r\n", *WORDS.split()]), max_size=60).map(
    lambda words: " ".join(words).encode()
)


@given(st.binary(max_size=400) | LINES)
def test_noise_gives_errors_and_no_exception(data: bytes) -> None:
    """Whatever a file holds: a configuration, or clear errors that can be printed anywhere."""
    for line in errors(data):
        assert line.isprintable()
        assert ": expected " in line


LONG = bool(os.environ.get("GATEWAYD_LONG"))
FILES = 10**6 if LONG else 3_000


@pytest.mark.timeout(3600 if LONG else 60)
def test_a_file_that_was_damaged_gives_errors_and_no_exception() -> None:
    """Lines of the example mixed, bytes torn out and put in: a failing SD card, or a slip of the hand."""
    random = Random(1)  # the same files on every run
    lines = example().replace("\n#", "\n").encode().split(b"\n")
    for _ in range(FILES):
        data = bytearray(b"\n".join(random.sample(lines, random.randrange(1, 30))))
        for _ in range(random.randrange(4)):
            at = random.randrange(len(data) + 1)
            data[at : at + random.randrange(8)] = random.randbytes(random.randrange(8))
        assert all(": expected " in line for line in errors(bytes(data)))
