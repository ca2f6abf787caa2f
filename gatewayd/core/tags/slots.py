"""Ready-made formats: tags with a slot that is on the air when the button is pressed, by their makers.

On the air each is an iBeacon, and is told as that: which maker's it is only the configuration knows. What
they add is how long the slot is there after a press, and what is known of the tag at rest. From what the
makers publish; none was tried on a device.

- `kontakt_ibeacon`, Kontakt.io Asset Tag S18-3, Card Tag CT18-3: for 10 s after a press, beside its standard
  iBeacon, one with the same major and minor and the UUID's last digit one higher (F: 0). It ignores a press
  meanwhile. It is configured with the standard one, as the maker's app shows it
  (https://developer.kontakt.io/hardware/button/).
- `kkm_ibeacon`, KKM and Blue Charm, who sell them: 30 s, every 400 ms, unless set to between 2 s and 2 h
  (kkmhogen/kbeaconlib2, KBCfgTrigger: DEFAULT_TRIGGER_ADV_TIME, DEFAULT_TRIGGER_ADV_PERIOD).
- `minew_ibeacon`, Minew B10 and E8; `feasycom_ibeacon`: likewise a slot with a trigger. Neither publishes how
  long by default: 30 s is what is usual, not what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KONTAKT: Final = "kontakt_ibeacon"
# How long a slot is on the air after a press, in seconds.
ON_AIR_S: Final[Mapping[str, float]] = {
    KONTAKT: 10.0,
    "kkm_ibeacon": 30.0,
    "minew_ibeacon": 30.0,
    "feasycom_ibeacon": 30.0,
}
DIGITS: Final = 16


def pressed(tag_format: str, identity: Mapping[str, str | int]) -> Mapping[str, str | int]:
    """The identity on the air when a tag is pressed that is configured with `identity`."""
    if tag_format != KONTAKT:
        return identity
    uuid = str(identity["uuid"])
    return {**identity, "uuid": f"{uuid[:-1]}{(int(uuid[-1], DIGITS) + 1) % DIGITS:x}"}


def resting(tag_format: str, identity: Mapping[str, str | int]) -> Mapping[str, str | int] | None:
    """The identity that it advertises while nobody presses; None where its configuration does not tell."""
    return identity if tag_format == KONTAKT else None
