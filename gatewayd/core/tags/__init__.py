"""What tags say: one module per family, bytes → `TagReport`.

A decoder claims an advertisement or answers None. It reads what the frame says and guesses nothing, never
raises on what a radio can hear, and keeps no state: what is a press, a copy or a replay is for `presence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from gatewayd.core.model import ON_AIR_S, Advertisement, TagEvent, TagReport
from gatewayd.core.tags import bthome, eddystone, ela, ibeacon, itag, kontakt, minew, moko, slots

Decoder: TypeAlias = Callable[[Advertisement, bytes | None], TagReport | None]


class Family(NamedTuple):
    """What a family's module has."""

    decode: Decoder
    identified_by: tuple[str, ...]  # the settings that tell one of its tags from all others
    on_air_s: float | None = None  # how long an identity is on the air after a press; None: it has none


# What frames are said to be. A new family is a module, named here.
FAMILIES: Final[Mapping[str, Family]] = {
    family.NAME: Family(
        family.decode, family.IDENTIFIED_BY, None if "address" in family.IDENTIFIED_BY else ON_AIR_S
    )
    for family in (bthome, eddystone, ela, ibeacon, itag, kontakt, minew, moko)
}
# By the name used in `[tag NAME] format` and in every alarm: the families, and what is ready-made of them.
FORMATS: Final[Mapping[str, Family]] = {
    **FAMILIES,
    **{name: FAMILIES[ibeacon.NAME]._replace(on_air_s=on_air_s) for name, on_air_s in slots.ON_AIR_S.items()},
}


def decode(
    advertisement: Advertisement,
    *,
    format: str | None = None,  # noqa: A002 - the word of the configuration and of every message
    key: bytes | None = None,
) -> TagReport | None:
    """What `advertisement` says in `format`, or in the first family that claims it; None when none does.

    `key` is the tag's AES-128 key (16 bytes) where it encrypts. A frame that the key does not open is
    claimed, with `auth` FAILED.
    """
    if format is not None:
        return FORMATS[format].decode(advertisement, key)
    for family in FAMILIES.values():
        report = family.decode(advertisement, key)
        if report is not None:
            return report
    return None


def readable(report: TagReport) -> bool:
    """Whether the frame's content is known: it was not encrypted, or it was opened."""
    return report.authenticated or not report.encrypted


def describe(report: TagReport) -> dict[str, object]:
    """The report as one JSON object for people and programs; what is not known is absent.

    `event` is "none" where the frame has no button; of several buttons all are in `buttons`, and `button` is
    the one that `event` is of (from 1).
    """
    known: dict[str, object | None] = {
        "format": report.format,
        "event": report.event.value if readable(report) and report.event is not TagEvent.UNKNOWN else None,
        "button": _button(report),
        "buttons": [event.value for event in report.buttons] if len(report.buttons) > 1 else None,
        "packet_id": report.packet_id,
        "counter": report.counter,
        "presses": None if report.presses is None else report.presses.count,
        "encrypted": report.encrypted,
        "authenticated": report.authenticated,
        "auth": report.auth.value,
        "battery_pct": report.battery_pct,
        "battery_mv": report.battery_mv,
        **(report.identity or {}),
        **report.measurements,
    }
    return {name: value for name, value in known.items() if value is not None}


def _button(report: TagReport) -> int | None:
    if len(report.buttons) <= 1 or report.event is TagEvent.NONE:
        return None
    return report.buttons.index(report.event) + 1
