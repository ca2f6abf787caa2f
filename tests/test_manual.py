"""gatewayd(8) and the shell's completion: made from the command line's parser, they tell all of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gatewayd.cli import make_parser
from gatewayd.config.manual import roff
from gatewayd.core.journal import MessageId
from gatewayd.manual import Command, completion, main, page, tree

TEMPLATE = Path(__file__).parent.parent / "debian" / "gatewayd.8.in"
COMMANDS = {command.words: command for command in tree(make_parser()).all()}


def options(command: Command) -> list[str]:
    return [option for action in command.arguments for option in action.option_strings]


def complete(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    script = completion() + 'COMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_gatewayd\necho "${COMPREPLY[@]}"'
    told = subprocess.run(
        ["bash", "-euc", script, "bash", *words], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    return told.stdout.split()


def test_every_command_and_option_is_in_the_manual() -> None:
    manual = page(TEMPLATE.read_text("utf-8"))
    assert {"gatewayd run", "gatewayd tags scan", "gatewayd decode nmea"} <= set(COMMANDS)
    for command in COMMANDS.values():
        if not command.commands:
            assert rf"\fB{roff(command.words)}\fR" in manual
            for option in options(command):
                assert rf"\fB{roff(option)}\fR" in manual


def test_every_message_id_is_in_the_manual() -> None:
    manual = page(TEMPLATE.read_text("utf-8"))
    for message in MessageId:
        assert f".B {message.value}\n" in manual


def test_nothing_of_the_template_is_left() -> None:
    assert "@" not in page(TEMPLATE.read_text("utf-8"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_and_option_is_completed(command: Command) -> None:
    offered = complete(*command.words.split(), "")
    below = [each.words.split()[-1] for each in command.commands]
    assert sorted(offered) == sorted([*below, *options(command), "--help"])


def test_what_was_begun_is_completed() -> None:
    assert complete("gatewayd", "sho") == ["show-config"]
    assert complete("gatewayd", "show-config", "--config", "/etc/x", "--j") == ["--json"]


def test_a_value_is_left_to_readline_which_offers_files() -> None:
    assert complete("gatewayd", "run", "--config", "") == []


def test_both_are_written_by_running_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion"])
    assert capsys.readouterr().out == completion()
    main(["page", str(TEMPLATE)])
    assert capsys.readouterr().out == page(TEMPLATE.read_text("utf-8"))
    with pytest.raises(SystemExit, match=r"^usage: "):
        main(["page"])
