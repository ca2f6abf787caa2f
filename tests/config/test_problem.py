"""Problems as a person reads them: in one line, whole, and without a secret."""

import pytest

from gatewayd.config.problem import ConfigurationError, Entry, Place, Problem, shown


def entry(key: str, value: str) -> Entry:
    return Entry(section="mqtt", key=key, value=value, place=Place(path="a.conf", line=3))


def test_a_problem_says_where_what_was_expected_and_what_was_got() -> None:
    assert str(Problem.of(entry("tls", "maybe"), "yes or no")) == (
        "a.conf:3: [mqtt] tls = maybe: expected yes or no, got maybe"
    )


def test_a_problem_is_also_for_programs() -> None:
    assert Problem.of(entry("tls", ""), "yes or no").to_json() == {
        "path": "a.conf",
        "line": 3,
        "section": "mqtt",
        "key": "tls",
        "value": "",
        "expected": "yes or no",
        "got": "nothing",
        "text": "a.conf:3: [mqtt] tls = : expected yes or no, got nothing",
    }
    whole = Problem(place=Place(path="a.conf"), expected="a file", got="none").to_json()
    assert (whole["line"], whole["section"], whole["text"]) == (
        None,
        None,
        "a.conf: expected a file, got none",
    )


def test_what_is_shown_is_short_and_printable() -> None:
    """Neither a terminal nor the journal is in the hands of who writes the file."""
    assert shown("\x1b[31m\u202e") == "\\x1b[31m\\u202e"
    assert len(shown("\0" * 10_000)) == 80
    assert shown("a" * 80) == "a" * 80
    assert shown("a" * 81) == "a" * 79 + "…"
    assert str(Place(path="a\nb", line=1)) == "a\\nb:1"


def test_a_password_in_an_address_is_masked() -> None:
    assert shown("mqtt://user:hunter2@host") == "mqtt://user:****@host"
    assert shown("serial:/dev/ttyUSB0@9600") == "serial:/dev/ttyUSB0@9600"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("password", "hunter2", "password = ****"),
        ("api_token", "hunter2", "api_token = ****"),
        ("password", "", "password = "),
        ("password_credential", "hunter 2", "password_credential = ****"),
        ("key_credential", "00112233445566778899aabbccddeeff", "key_credential = ****"),
        ("key_credential", "front-key", "key_credential = front-key"),
    ],
)
def test_a_secret_that_stands_where_none_belongs_is_masked(key: str, value: str, text: str) -> None:
    """Only what can be the name of a credential is shown under a key that sounds like a secret."""
    assert f"[mqtt] {text}: expected x" in str(Problem.of(entry(key, value), "x", "y"))


def test_an_error_tells_all_its_problems_by_file_and_line() -> None:
    problems = [
        Problem(place=Place(path=path, line=line), expected="a", got="b")
        for path, line in (("b", 1), ("a", 10), ("a", 9), ("a", 0))
    ]
    assert [str(error.place) for error in ConfigurationError(problems).errors] == ["a", "a:9", "a:10", "b:1"]
