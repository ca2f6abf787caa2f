"""Asking for a tag's key: on a terminal without echo, else as one line of the standard input.

Never as an argument: those are shown to every user of the machine, and kept in the shell's history.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from getpass import getpass
from typing import Final

from gatewayd.core.tags.text import parse_key
from gatewayd.enrol.files import RefusedError

TRIES: Final = 3  # 32 digits are mistyped easily
_PROMPT: Final = "key of the tag, 32 hexadecimal digits (not shown): "
_OPENS_NOT: Final = "expected the key of this tag, got one that does not open what it sends"


def ask_key(opens: Callable[[bytes], bool]) -> bytes:
    """Return the key that somebody gives and that `opens` what the tag sends.

    Raises RefusedError where none is given, on a terminal after some tries; it never quotes a key.
    """
    if not sys.stdin.isatty():
        return _judged(sys.stdin.readline(), opens)
    for left in reversed(range(TRIES)):
        try:
            return _judged(getpass(_PROMPT), opens)
        except EOFError:
            raise RefusedError("expected the key of the tag, got none") from None
        except RefusedError as error:
            if not left:
                raise
            sys.stderr.write(f"{error}; try again\n")
    raise AssertionError


def _judged(text: str, opens: Callable[[bytes], bool]) -> bytes:
    if not text.strip():
        raise RefusedError("expected the key of the tag, got none")
    try:
        key = parse_key(text)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    if not opens(key):
        raise RefusedError(_OPENS_NOT)
    return key
