"""Writes what was typed into docs/answers.md: `python -m answers`, 8 minutes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from answers.story import tell
from answers.terminal import Typed

GUIDE: Final = Path(__file__).parents[2] / "docs" / "answers.md"
_ANSWER: Final = re.compile(r"^## (.+?)\n(.*?)^```console\n.*?^```$", re.MULTILINE | re.DOTALL)


def written(guide: str, typed: Mapping[str, list[Typed]]) -> str:
    """The guide with what was typed below each question."""

    def answer(found: re.Match[str]) -> str:
        question, words = found.groups()
        lines = "".join(f"$ {each.line}\n{each.printed.rstrip()}\n" for each in typed[question])
        return f"## {question}\n{words}```console\n{lines}```"

    return _ANSWER.sub(answer, guide)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="gw-") as name:
        GUIDE.write_text(written(GUIDE.read_text(), asyncio.run(tell(Path(name), overdue=True))))
