"""How loud it is: chunks decoded, as a level. Without libopus there is no meter, and nothing else is lost."""

from __future__ import annotations

import logging
import math
from array import array
from typing import Any, Final

from gatewayd.monitor.sound import pages

logger = logging.getLogger(__name__)

_RATE_HZ: Final = 8000  # enough for a level, a sixth of the work
# Opus' longest packet: 120 ms (RFC 6716, section 3.2.5).
_LONGEST: Final = _RATE_HZ * 120 // 1000
_FULL_SCALE: Final = 32768
SILENCE_DBFS: Final = -60.0
_WIDTH: Final = 20
_LONE_TOC: Final = 1  # bytes of a packet that stands for a missing one


class Meter:
    """The level of a stream of chunks, in order or not."""

    def __init__(self) -> None:
        self._decoder = _decoder()

    def level_dbfs(self, chunk: bytes) -> float | None:
        """The root mean square of a chunk against full scale: 0 loudest, −60 silence. None: not to be told.

        Missing sound, noise instead of Ogg, and no libopus have no level.
        """
        if self._decoder is None:
            return None
        samples = array("h")
        try:
            for page in pages(chunk):
                if not page.is_header:
                    for packet in page.packets:
                        if len(packet) > _LONE_TOC:
                            samples.frombytes(self._decoder.decode(packet, _LONGEST))
        except Exception as error:  # noqa: BLE001 - opuslib's errors, and whatever libopus makes of noise
            logger.debug("a chunk could not be decoded: %s", error)
            return None
        if not samples:
            return None
        power = sum(sample * sample for sample in samples) / len(samples)
        return max(SILENCE_DBFS, 20 * math.log10(math.sqrt(power) / _FULL_SCALE) if power else SILENCE_DBFS)


def bar(level_dbfs: float) -> str:
    """A level as a bar of 20 signs: full at 0 dBFS, empty at −60."""
    share = 1 - max(SILENCE_DBFS, min(0.0, level_dbfs)) / SILENCE_DBFS
    lit = round(share * _WIDTH)
    return "█" * lit + "░" * (_WIDTH - lit)


def _decoder() -> Any:  # Any: opuslib brings no types
    try:
        import opuslib  # noqa: PLC0415 - optional here: it looks for libopus when it is imported

        return opuslib.Decoder(_RATE_HZ, 1)
    except Exception as error:  # noqa: BLE001 - opuslib raises a bare Exception when libopus is missing
        logger.info("no level meter: %s", error)
        return None
