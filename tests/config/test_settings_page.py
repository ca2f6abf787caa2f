"""gatewayd.conf(5): made from the table of settings, and true."""

import runpy

import pytest
from configuring import errors

from gatewayd.config import manual as manual_module
from gatewayd.config.manual import EXAMPLE, manual, roff
from gatewayd.config.settings import SECTIONS, SETTINGS


def test_every_setting_is_explained_with_what_it_takes_and_its_default() -> None:
    page = manual()
    for setting in SETTINGS:
        explained = f".TP\n.B {setting.key}\n{roff(setting.help)}\nTakes {roff(setting.kind.expected)}.\n"
        default = rf"Default: \fB{roff(setting.default)}\fR." if setting.default else ""
        assert explained + default in page


def test_every_section_is_explained_in_its_place() -> None:
    titles = [line for line in manual().splitlines() if line.startswith('.SH "[')]
    assert titles == [f'.SH "[{"tag NAME" if section == "tag" else section}]"' for section in SECTIONS]


def test_the_example_is_a_good_configuration() -> None:
    assert errors(EXAMPLE) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a-b", r"a\-b"),
        (r"C:\x", r"C:\ex"),
        (".conf", r"\&.conf"),
        ("'quoted'", r"\&'quoted'"),
        ("as it stands", "as it stands"),
    ],
)
def test_a_text_reaches_the_reader_as_it_stands(text: str, line: str) -> None:
    """A point or an apostrophe that begins a line would be a command."""
    assert roff(text) == line


def test_the_page_is_written_by_running_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(manual_module.__file__, run_name="__main__")
    assert capsys.readouterr().out == manual()
