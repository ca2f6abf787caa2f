"""What `show-config` shows: every setting's effective value and where it came from.

Nothing is masked, because nothing secret can stand in a good configuration: secrets are credentials, and only
their names are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gatewayd.config.load import Loaded
from gatewayd.config.model import Broker, Config
from gatewayd.config.settings import SECTIONS, of
from gatewayd.config.tags import in_words

DEFAULT: Final = "default"
WIDTH_CHARACTERS: Final = 48  # of the column of values; a longer value pushes its origin to the right


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One setting as it counts. `value` is as one writes it; `origin` is `path:line` or `default`."""

    section: str
    key: str
    value: str
    origin: str


def effective(loaded: Loaded) -> tuple[Effective, ...]:
    """Return every setting in the order of the table; that of a tag for each tag."""
    return tuple(_effective(loaded))


def _effective(loaded: Loaded) -> Iterator[Effective]:
    filled_in = _filled_in(loaded.config)
    for section in _sections(loaded.config):
        for setting in of(section):
            name = (section, setting.key)
            entry = loaded.origins.get(name)
            yield Effective(
                section=section,
                key=setting.key,
                value=filled_in.get(name, setting.default if entry is None else entry.value),
                origin=DEFAULT if entry is None else str(entry.place),
            )


def _sections(config: Config) -> Iterator[str]:
    for section in SECTIONS:
        if section == "tag":
            yield from (f"tag {tag.name}" for tag in config.tags)
        else:
            yield section


def _filled_in(config: Config) -> dict[tuple[str, str], str]:
    """Return what the loader found out where nothing, or not everything, was written."""
    return {
        ("gateway", "id"): config.gateway.id,
        ("mqtt", "brokers"): " ".join(_address(broker) for broker in config.mqtt.brokers),
        ("mqtt", "tls"): "yes" if config.mqtt.tls else "no",
        **{(f"tag {tag.name}", "alarm_on"): in_words(tag.alarm_on) for tag in config.tags},
    }


def _address(broker: Broker) -> str:
    return f"[{broker.host}]:{broker.port}" if ":" in broker.host else f"{broker.host}:{broker.port}"


def show(loaded: Loaded) -> list[str]:
    """Return the lines for a person: `key = value` under its `[section]`, and where it came from."""
    rows = [(f"{item.key} = {item.value}", item) for item in effective(loaded)]
    lines: list[str] = []
    section = ""
    for text, item in rows:
        if item.section != section:
            section = item.section
            lines += ["", f"[{section}]"]
        lines.append(f"{text:{WIDTH_CHARACTERS}}  # {item.origin}")
    return lines[1:]


def show_json(loaded: Loaded) -> dict[str, dict[str, dict[str, str]]]:
    """Return the same for a program: by section and key, `value` and `from`."""
    sections: dict[str, dict[str, dict[str, str]]] = {section: {} for section in _sections(loaded.config)}
    for item in effective(loaded):
        sections[item.section][item.key] = {"value": item.value, "from": item.origin}
    return sections
