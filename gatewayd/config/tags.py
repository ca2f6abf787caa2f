"""The assigned tags: from `[tag NAME]` sections to `Tag` values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gatewayd.config import settings
from gatewayd.config.credentials import CredentialError, read_tag_key
from gatewayd.config.layers import Layers
from gatewayd.config.problem import Entry, Place, Problem
from gatewayd.config.settings import Setting
from gatewayd.core.model import ON_AIR_S, Tag, TagEvent
from gatewayd.core.tags import FORMATS, bthome, eddystone, itag, slots

_IDENTITY: Final[Mapping[str, Setting[str | int | None]]] = {
    setting.key: setting
    for setting in (
        settings.TAG_ADDRESS,
        settings.TAG_UUID,
        settings.TAG_MAJOR,
        settings.TAG_MINOR,
        settings.TAG_NAMESPACE,
        settings.TAG_INSTANCE,
    )
}
# What tells a tag of each format from all others. All of it must be set, and nothing of another format.
IDENTIFIED_BY: Final = {
    name: tuple(_IDENTITY[key] for key in family.identified_by) for name, family in FORMATS.items()
}
# What each format may have of these: Eddystone's telemetry carries no identity, and is known by an address.
_TAKEN: Final = IDENTIFIED_BY | {
    eddystone.NAME: (*IDENTIFIED_BY[eddystone.NAME], settings.TAG_ADDRESS),
}
# Only of these it matters how long they are on the air: the others say what they mean.
ON_AIR_FORMATS: Final = tuple(name for name, family in FORMATS.items() if family.on_air_s is not None)
# What a press may mean but an alarm.
_NO_ALARM: Final = (
    settings.TAG_TEST_ON,
    settings.TAG_CANCEL_ON,
    settings.TAG_DURESS_ON,
    settings.TAG_CHECKOUT_ON,
)
# Only this format can prove itself with a key.
KEYED_FORMAT: Final = bthome.NAME
# Only this one is connected, so that it can be told anything.
BEEPING_FORMAT: Final = itag.NAME


def check_tags(layers: Layers) -> Iterator[Problem]:
    """Find what is wrong between the settings of the tags."""
    owners: dict[tuple[object, ...], tuple[str, Place]] = {}
    for section, place in layers.tags().items():
        if not layers.is_bad(settings.TAG_FORMAT, section):
            yield from _check_identity(layers, section, place)
            yield from _check_shared(layers, section, owners)
            yield from _check_key(layers, section)
            yield from _check_beep(layers, section)
            yield from _check_on_air(layers, section)
        yield from _check_events(layers, section)


def _check_identity(layers: Layers, section: str, place: Place) -> Iterator[Problem]:
    tag_format = layers.value(settings.TAG_FORMAT, section)
    needed = IDENTIFIED_BY[tag_format]
    missing = [setting.key for setting in needed if not layers.entry(setting, section)]
    if missing:
        yield Problem(
            place=place,
            section=section,
            expected=f"{' and '.join(setting.key for setting in needed)} for the format {tag_format}",
            got=f"no {' and no '.join(missing)}",
        )
    for setting in _IDENTITY.values():
        entry = layers.entry(setting, section)
        if entry and setting not in _TAKEN[tag_format]:
            takers = (name for name, taken in _TAKEN.items() if setting in taken)
            yield Problem.of(entry, f"format = {' or '.join(takers)} with it", tag_format)


def _check_shared(
    layers: Layers, section: str, owners: dict[tuple[object, ...], tuple[str, Place]]
) -> Iterator[Problem]:
    """Find a tag that another section has already. `owners` collects what each is known by, and its place."""
    for entry, names in _known_by(layers, section):
        held = [owners.setdefault(name, (section, entry.place)) for name in names]
        other = next((each for each in held if each[0] != section), None)
        if other is not None:
            what = "an address" if entry.key == settings.TAG_ADDRESS.key else "an identity"
            yield Problem.of(entry, f"{what} of its own", f"that of [{other[0]}] ({other[1]})")


def _known_by(layers: Layers, section: str) -> Iterator[tuple[Entry, list[tuple[object, ...]]]]:
    """Tell what a tag has to itself, each with the line that sets it: an address, an identity or two.

    All formats of a family have their identities in common.
    """
    tag_format = layers.value(settings.TAG_FORMAT, section)
    entry, address = layers.entry(settings.TAG_ADDRESS, section), layers.value(settings.TAG_ADDRESS, section)
    if entry and address is not None and settings.TAG_ADDRESS in _TAKEN[tag_format]:
        yield entry, [(address,)]
    named_by, identity = IDENTIFIED_BY[tag_format], _identity(layers, section, tag_format)
    entry = layers.entry(named_by[0], section)
    if entry and identity is not None and len(identity) == len(named_by):
        both = slots.pressed(tag_format, identity), slots.resting(tag_format, identity)
        yield entry, [tuple(each.values()) for each in both if each is not None]


def _check_key(layers: Layers, section: str) -> Iterator[Problem]:
    entry = layers.entry(settings.TAG_KEY_CREDENTIAL, section)
    tag_format = layers.value(settings.TAG_FORMAT, section)
    if entry and tag_format != KEYED_FORMAT:
        yield Problem.of(entry, f"format = {KEYED_FORMAT} with it, the only one that takes a key", tag_format)


def _check_beep(layers: Layers, section: str) -> Iterator[Problem]:
    entry = layers.entry(settings.TAG_BEEP, section)
    tag_format = layers.value(settings.TAG_FORMAT, section)
    if entry and layers.value(settings.TAG_BEEP, section) and tag_format != BEEPING_FORMAT:
        yield Problem.of(
            entry, f"format = {BEEPING_FORMAT} with it, the only one that can be told", tag_format
        )


def _check_on_air(layers: Layers, section: str) -> Iterator[Problem]:
    entry = layers.entry(settings.TAG_ON_AIR, section)
    tag_format = layers.value(settings.TAG_FORMAT, section)
    if entry and tag_format not in ON_AIR_FORMATS:
        expected = f"format = {' or '.join(ON_AIR_FORMATS)} with it, which are known by an identity"
        yield Problem.of(entry, expected, tag_format)


def _check_events(layers: Layers, section: str) -> Iterator[Problem]:
    meanings = {"alarm_on": layers.value(settings.TAG_ALARM_ON, section) or frozenset()}
    for setting in _NO_ALARM:
        entry = layers.entry(setting, section)
        events = layers.value(setting, section)
        for other, others in meanings.items():
            if entry and (both := events & others):
                yield Problem.of(entry, f"events that {other} has not", f"{in_words(both)} in both")
        if entry and TagEvent.UNKNOWN in events:
            # It may be a press that calls for help: nobody can tell.
            yield Problem.of(entry, "events that could be read", TagEvent.UNKNOWN)
        meanings[setting.key] = events


def tag_section(
    name: str,
    *,
    tag_format: str,
    named_by: Mapping[str, str | int],
    keyed: bool,
    worker: str | None = None,
) -> list[str]:
    """Return the lines of the section that assigns a tag.

    `named_by` are the settings that tell it from all others; a `keyed` one's key is the credential
    `credential_name(name)`. Nothing is judged here: `check_tags` does that.
    """
    settings_of = {"format": tag_format, **named_by}
    if keyed:
        settings_of["key_credential"] = credential_name(name)
    if worker is not None:
        settings_of["worker"] = worker
    return [f"[tag {name}]", *(f"{key} = {value}" for key, value in settings_of.items())]


def credential_name(tag: str) -> str:
    """Return what a tag's key is called among the credentials, unless somebody named it otherwise."""
    return f"tag-{tag}"


def in_words(events: frozenset[TagEvent]) -> str:
    """Return events as one writes them in the file."""
    return " ".join(event for event in TagEvent if event in events) or "none"


def build_tags(layers: Layers, credentials: Path | None) -> tuple[tuple[Tag, ...], list[Problem]]:
    """Return the tags of faultless layers, and a warning for each key that could not be read.

    Such a tag still raises alarms, marked as unproved: a press must not be lost to a missing file.
    """
    tags, warnings = [], []
    for section in layers.tags():
        key, warning = _key(layers, section, credentials)
        tags.append(_tag(layers, section, key))
        warnings += [warning] if warning else []
    return tuple(tags), warnings


def _key(layers: Layers, section: str, credentials: Path | None) -> tuple[bytes | None, Problem | None]:
    entry = layers.entry(settings.TAG_KEY_CREDENTIAL, section)
    if entry is None:
        return None, None
    try:
        return read_tag_key(credentials, entry.value), None
    except CredentialError as error:
        return None, Problem.of(entry, error.expected, error.got)


def _tag(layers: Layers, section: str, key: bytes | None) -> Tag:
    tag_format = layers.value(settings.TAG_FORMAT, section)
    others = {setting: layers.value(setting, section) for setting in _NO_ALARM}
    alarms = layers.value(settings.TAG_ALARM_ON, section)
    address = layers.value(settings.TAG_ADDRESS, section)
    identity = _identity(layers, section, tag_format)
    return Tag(
        name=section.removeprefix("tag "),
        format=tag_format,
        address=address,
        identity=identity and slots.pressed(tag_format, identity),
        resting=identity and slots.resting(tag_format, identity),
        on_air_s=layers.value(settings.TAG_ON_AIR, section) or FORMATS[tag_format].on_air_s or ON_AIR_S,
        key=key,
        key_expected=layers.entry(settings.TAG_KEY_CREDENTIAL, section) is not None,
        worker=layers.value(settings.TAG_WORKER, section),
        alarm_on=frozenset(TagEvent).difference({TagEvent.NONE}, *others.values())
        if alarms is None
        else alarms,
        test_on=others[settings.TAG_TEST_ON],
        cancel_on=others[settings.TAG_CANCEL_ON],
        duress_on=others[settings.TAG_DURESS_ON],
        checkout_on=others[settings.TAG_CHECKOUT_ON],
        lost_after_s=layers.value(settings.TAG_LOST_AFTER, section),
        beep=layers.value(settings.TAG_BEEP, section),
    )


def _identity(layers: Layers, section: str, tag_format: str) -> dict[str, str | int] | None:
    if settings.TAG_ADDRESS in IDENTIFIED_BY[tag_format]:
        return None
    values = {setting.key: layers.value(setting, section) for setting in IDENTIFIED_BY[tag_format]}
    return {key: value for key, value in values.items() if value is not None}
