"""`gatewayd tags add` and `gatewayd tags remove`, step by step."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gatewayd.config import settings
from gatewayd.config.credentials import reason
from gatewayd.config.kinds import ID
from gatewayd.config.problem import ConfigurationError, shown
from gatewayd.config.tags import KEYED_FORMAT
from gatewayd.core.tags import decode
from gatewayd.enrol.files import NewTag, RefusedError, Site
from gatewayd.enrol.find import described, find
from gatewayd.enrol.key import ask_key
from gatewayd.scan.heard import Line
from gatewayd.selftest.disk import VOLATILE, filesystem

FINE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
BAD_CONFIGURATION: Final = 78
_MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `tags add` was asked for."""

    name: str
    config: Path | None
    given: Mapping[str, str]  # settings of the tag: format, what names it, worker
    from_scan: bool
    key: bool  # the tag encrypts: ask for its key
    seconds: float


def add(options: Options) -> int:
    """Assign a tag; return the exit status. After any other than 0 nothing is changed."""
    wrong = [*_usage(options)]
    if wrong:
        sys.stderr.write("".join(f"gatewayd tags add: {line}\n" for line in wrong))
        return USAGE
    return _judged("add", lambda: _add(options))


def remove(name: str, config: Path | None) -> int:
    """Take back what `add` did; return the exit status."""

    def take_back() -> None:
        site = Site(config)
        _say("removed " + " and ".join(map(str, site.remove(name))))
        _next(site, restart=False)

    return _judged("remove", take_back)


def _judged(command: str, work: Callable[[], None]) -> int:
    try:
        work()
    except ConfigurationError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.errors))
        sys.stderr.write(f"gatewayd tags {command}: nothing was changed: the configuration is bad already\n")
        return BAD_CONFIGURATION
    except RefusedError as error:
        sys.stderr.write("".join(f"gatewayd tags {command}: {line}\n" for line in str(error).splitlines()))
        sys.stderr.write("nothing was changed\n")
    except OSError as error:
        sys.stderr.write(f"gatewayd tags {command}: {error.filename}: {reason(error)}\n")
    else:
        return FINE
    return FAILED


def _usage(options: Options) -> Iterator[str]:
    """What is wrong with the options by themselves."""
    try:
        ID.read(options.name)
    except ValueError:
        yield f"NAME: expected {ID.expected}, got {shown(options.name)}"
    for setting in settings.of("tag"):
        value = options.given.get(setting.key)
        if value is not None and not (value and setting.accepts(value)):
            expected = setting.kind.expected.removesuffix(", or nothing")
            yield f"--{setting.key}: expected {expected}, got {shown(value) or 'nothing'}"
    names = options.given.keys() - {"worker"}
    if options.from_scan and names:
        yield f"--from-scan: expected alone, since the tag says the rest, got --{' --'.join(sorted(names))}"
    if not options.from_scan and not names - {"format"}:
        yield "expected --from-scan, or --address (or what else the format is known by), got neither"
    tag_format = options.given.get("format", KEYED_FORMAT)
    if options.key and tag_format != KEYED_FORMAT:
        yield f"--key: expected --format {KEYED_FORMAT}, the only one that takes a key, got {tag_format}"


def _add(options: Options) -> None:
    site = Site(options.config)
    site.expect_writable()
    site.expect_free(options.name)
    tag = _heard(options, site) if options.from_scan else _told(options, site)
    files = site.write(tag)
    _say("wrote " + " and ".join(map(str, files)))
    if not tag.keyed:
        _say("anyone can copy what this tag sends (docs/tags.md): its alarms say auth: none")
    _next(site, restart=tag.keyed)
    _say(f"then press {tag.name}; it raises an alarm, so tell the desk before")


def _told(options: Options, site: Site) -> NewTag:
    """The tag as the options describe it."""
    named_by = {key: value for key, value in options.given.items() if key not in {"format", "worker"}}
    tag = NewTag(
        name=options.name,
        format=options.given.get("format", KEYED_FORMAT),
        named_by=named_by,
        keyed=options.key,
        worker=options.given.get("worker"),
    )
    site.judge(tag)  # before anybody types a key
    return replace(tag, key=ask_key(lambda _: True)) if options.key else tag


def _heard(options: Options, site: Site) -> NewTag:
    """The tag that is pressed."""
    config = site.load().config

    def is_meant(line: Line) -> bool:
        _say(f"pressed: {described(line)}")
        return _confirmed(options.name)

    prompt = f"press the button of the tag that is to be {options.name}, close to the gateway"
    finding = find(config.radio, config.tags, options.seconds, say=_say, prompt=prompt, is_meant=is_meant)
    line = asyncio.run(finding)
    report, frame = line.report, line.frame
    if report is None or frame is None:  # it has a line of its own, so it was heard and is known
        raise AssertionError
    if options.key and not report.encrypted:
        raise RefusedError("--key: expected a tag that encrypts, got one that does not: see its maker's app")
    tag = NewTag(
        name=options.name,
        format=report.format,
        named_by=line.named_by or {},
        keyed=report.encrypted,
        worker=options.given.get("worker"),
    )
    site.judge(tag)
    if not report.encrypted:
        return tag

    def opens(key: bytes) -> bool:
        opened = decode(frame, format=report.format, key=key)
        return opened is not None and opened.authenticated

    return replace(tag, key=ask_key(opens))


def _confirmed(name: str) -> bool:
    """Ask whether it is the one; without a terminal there is nobody to ask."""
    if not sys.stdin.isatty():
        return True
    sys.stderr.write(f"is this {name}? [y/n] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise RefusedError("expected y or n, got the end of the input")
    return answer.strip().lower() in {"y", "yes"}


def _next(site: Site, *, restart: bool) -> None:
    """Say what makes the running gateway take it, and whether it outlives the next boot."""
    if restart:
        _say(
            "next: sudo systemctl restart gatewayd (keys are read at the start; hearing stops for up to 5 s)"
        )
    else:
        _say("next: sudo systemctl reload gatewayd")
    found = filesystem(site.settings, _MOUNTS.read_text())
    if found in VOLATILE:
        _say(f"WARNING: {site.settings} lies on {found}: this does not outlive the next boot")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
