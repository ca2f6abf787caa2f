"""gatewayd(8) and the shell's completion, made from the command line's parser.

`python -m gatewayd.manual page TEMPLATE` and `python -m gatewayd.manual completion` write them; the package
is built with them, so they cannot lag behind the parser. In the template, a line @COMMANDS@ stands for all
commands and @MESSAGE_IDS@ for the journal's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.cli import make_parser
from gatewayd.config.manual import roff, title
from gatewayd.core.journal import MessageId

_COMPLETION: Final = """\
# bash completion for gatewayd(8); what takes a value is left to readline, which offers files

_gatewayd()
{{
    local -A words=(
{words}
    )
    local command=gatewayd word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ -z ${{words["$command $word"]-}} ]] || command+=" $word"
    done
    case ${{COMP_WORDS[COMP_CWORD - 1]}} in
        {valued}) return ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "${{words[$command]}}" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F _gatewayd gatewayd
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, or a group of them: its words, its line of help, what may follow."""

    words: str
    help: str
    arguments: tuple[argparse.Action, ...]
    commands: tuple[Command, ...] = ()

    def all(self) -> Iterator[Command]:
        """Yield this command and those below it."""
        yield self
        for command in self.commands:
            yield from command.all()


def tree(parser: argparse.ArgumentParser, line: str = "") -> Command:
    """Return what a parser knows. argparse has no public way to ask it."""
    arguments: list[argparse.Action] = []
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands += [tree(below, lines[name]) for name, below in action.choices.items()]
        elif not isinstance(action, argparse._HelpAction):
            arguments.append(action)
    return Command(words=parser.prog, help=line, arguments=tuple(arguments), commands=tuple(commands))


def page(template: str) -> str:
    """Return gatewayd(8)."""
    commands = "".join(_described(command) for command in tree(make_parser()).all() if not command.commands)
    return title("gatewayd", 8) + template.replace("@COMMANDS@\n", commands).replace(
        "@MESSAGE_IDS@\n", "".join(map(_message_id, MessageId))
    )


def _described(command: Command) -> str:
    lines = [".TP", rf"\fB{roff(command.words)}\fR {_usage(command)}", f"{roff(_sentence(command.help))}"]
    described = [action for action in command.arguments if action.help]
    for action in described:
        lines += [".RS", ".TP", _argument(action), roff(_sentence(_help(action))), ".RE"]
    return "\n".join(lines) + "\n"


def _usage(command: Command) -> str:
    return " ".join(
        _argument(action) if action.required else f"[{_argument(action)}]{_again(action)}"
        for action in command.arguments
    )


def _again(action: argparse.Action) -> str:
    return "..." if isinstance(action, argparse._AppendAction) else ""


def _argument(action: argparse.Action) -> str:
    """Return `--option VALUE`, or the name of what has no option, in a man page's fonts."""
    value = "" if action.nargs == 0 else rf"\fI{action.metavar or action.dest.upper()}\fR"
    option = rf"\fB{roff(action.option_strings[-1])}\fR" if action.option_strings else ""
    return f"{option} {value}".strip()


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {"default": action.default}


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _message_id(message: MessageId) -> str:
    return f".TP\n.B {message.value}\n{_sentence(message.name.lower().replace('_', ' '))}\n"


def completion() -> str:
    """Return the completion for bash."""
    commands = tuple(tree(make_parser()).all())
    valued = {
        option
        for command in commands
        for action in command.arguments
        for option in action.option_strings
        if action.nargs != 0
    }
    words = "\n".join(f"        ['{command.words}']='{_following(command)}'" for command in commands)
    return _COMPLETION.format(words=words, valued=" | ".join(sorted(valued)))


def _following(command: Command) -> str:
    names = [below.words.rpartition(" ")[2] for below in command.commands]
    options = [option for action in command.arguments for option in action.option_strings]
    return " ".join([*sorted(names), *sorted(options), "--help"])


def main(arguments: list[str]) -> None:
    """Write the page of a template, or the completion."""
    match arguments:
        case ["page", template]:
            sys.stdout.write(page(Path(template).read_text("utf-8")))
        case ["completion"]:
            sys.stdout.write(completion())
        case _:
            sys.exit("usage: python -m gatewayd.manual page TEMPLATE | completion")


if __name__ == "__main__":
    main(sys.argv[1:])
