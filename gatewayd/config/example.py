"""The example file, made from the table of settings: every key with its help and default, commented out.

`python -m gatewayd.config.example > etc/gatewayd/gatewayd.conf` writes it anew; a test compares the two.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from gatewayd.config.settings import SECTIONS, Setting, of

_HEAD = """\
# gatewayd: the settings of this gateway.
#
# Read first; then /etc/gatewayd/conf.d/*.conf by file name. A later value wins, and an empty one takes back
# what was set. Every line below is commented out and shows the default.
#
# Durations are written as 500ms 30s 5min 1h, sizes as 64M 1G, booleans as yes or no. A comment has a line of
# its own. Secrets never stand here: a *_credential names a file in credentials/ beside it (gatewayd(8)).
#
# Check with: gatewayd check-config        What counts, and from where: gatewayd show-config
"""
_WIDTH_CHARACTERS = 108


def example() -> str:
    """Return the text of the example file."""
    return _HEAD + "\n".join(line for section in SECTIONS for line in _section(section)) + "\n"


def _section(section: str) -> Iterator[str]:
    yield ""
    yield from _comment(SECTIONS[section])
    # Without its header a tag's section, commented out as it is, is no tag.
    yield "#[tag NAME]" if section == "tag" else f"[{section}]"
    for setting in of(section):
        yield from _setting(setting)


def _setting(setting: Setting[object]) -> Iterator[str]:
    yield from _comment(setting.help)
    yield f"#{setting.key} = {setting.default}".rstrip()


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text, width=_WIDTH_CHARACTERS, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


if __name__ == "__main__":
    sys.stdout.write(example())
