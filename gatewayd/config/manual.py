"""gatewayd.conf(5), made from the table of settings.

`python -m gatewayd.config.manual` writes it; the package is built with it, so it cannot lag behind the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from gatewayd import __version__
from gatewayd.config.settings import SECTIONS, Setting, of

_TAGS: Final = "[tag NAME]"

_HEAD: Final = r""".SH NAME
gatewayd.conf \- settings of the panic alarm gateway
.SH SYNOPSIS
.I /etc/gatewayd/gatewayd.conf
.br
.I /etc/gatewayd/conf.d/*.conf
.SH DESCRIPTION
The settings of
.BR gatewayd (8).
The first file is read first, then those of the folder in the order of their names.
A later value wins over an earlier one, and an empty one takes it back.
What is set nowhere has the default given here.
.PP
A file is a list of
.RI [ section ]
lines, each with
.IR key " = " value
lines below it.
A value reaches to the end of its line and stands as it is written: nothing is quoted, joined or replaced.
A comment has a line of its own that begins with
.B #
or
.BR ; .
Durations are written with their unit, ms, s, min, h or d, sizes with K, M, G or T.
.PP
An unknown section or key, a value that is not of its kind and a key that stands twice in a file are errors.
.B gatewayd check\-config
names all of them at once, by file and line;
.B gatewayd show\-config
shows what counts, and where it was set.
The service reads the files again after
.BR "systemctl reload gatewayd" .
A gateway whose new configuration is bad goes on with the last good one, and says so.
.PP
Secrets are not written here.
A key whose name ends in
.B _credential
names a file in
.IR /etc/gatewayd/credentials ,
see
.BR gatewayd (8).
"""
EXAMPLE: Final = """\
[gateway]
id = car-7

[mqtt]
brokers = alarms.example.org
username = car-7
password_credential = broker

[tag nurse-12]
address = C4:11:22:33:44:55
key_credential = nurse-12
worker = w12

[gps]
source = serial:/dev/gps

[audio]
device = plughw:CARD=Device
"""
_FILES: Final = r""".SH FILES
.TP
.I /etc/gatewayd/gatewayd.conf
All settings, commented out, with their defaults.
.TP
.I /etc/gatewayd/conf.d/*.conf
Settings of this gateway, one topic a file; hidden files and other endings do not count.
.TP
.I /var/lib/gatewayd/last_good.conf
The last configuration that was good, kept by the service.
.SH SEE ALSO
.BR gatewayd (8),
.BR systemd.exec (5)
"""


def roff(text: str) -> str:
    """Return a text as it stands, for a line of a man page (groff_char(7))."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


def title(name: str, section: int) -> str:
    """Return the line that begins a man page."""
    return f'.TH {name.upper()} {section} "" "gatewayd {__version__}" "gatewayd"\n'


def manual() -> str:
    """Return gatewayd.conf(5)."""
    settings = "".join(line + "\n" for section in SECTIONS for line in _section(section))
    example = f".SH EXAMPLE\n.EX\n{roff(EXAMPLE)}.EE\n"
    return title("gatewayd.conf", 5) + _HEAD + settings + example + _FILES


def _section(section: str) -> Iterator[str]:
    yield f'.SH "{_TAGS if section == "tag" else f"[{section}]"}"'
    yield roff(SECTIONS[section])
    for setting in of(section):
        yield from _setting(setting)


def _setting(setting: Setting[object]) -> Iterator[str]:
    yield ".TP"
    yield f".B {roff(setting.key)}"
    yield roff(setting.help)
    yield f"Takes {roff(setting.kind.expected)}."
    if setting.default:
        yield rf"Default: \fB{roff(setting.default)}\fR."


if __name__ == "__main__":
    sys.stdout.write(manual())
