"""What a frame costs that is not what it should be: mutated frames of every family, decoded."""

from __future__ import annotations

import random
import time
from typing import Final

from noise import mutated

from bench.figures import Figure
from gatewayd.core.tags import FAMILIES, decode

WHOLE: Final = 10_000_000
QUICK: Final = 50_000
MOST_US: Final = 20.0
BATCH: Final = 10_000
SEED: Final = 20261122


async def measure(frames: int) -> list[Figure]:
    """Decode so many in the family each was made of, and in all of them as `tags scan` does."""
    dice = random.Random(SEED)
    spent_s = {"one": 0.0, "any": 0.0}
    for _ in range(0, frames, BATCH):
        batch = [mutated(dice) for _ in range(BATCH)]
        began_s = time.process_time()
        for name, advertisement, key in batch:
            decode(advertisement, format=name, key=key)
        middle_s = time.process_time()
        for _name, advertisement, key in batch:
            decode(advertisement, key=key)
        spent_s["one"] += middle_s - began_s
        spent_s["any"] += time.process_time() - middle_s
    return [
        Figure(
            name="decode_mutated",
            what=f"a mutated frame decoded, {frames} of {len(FAMILIES)} families",
            value=1e6 * spent_s["one"] / frames,
            unit="µs",
            most=MOST_US,
        ),
        Figure(
            name="decode_mutated_any",
            what="  the same, when its family is not known",
            value=1e6 * spent_s["any"] / frames,
            unit="µs",
            most=MOST_US,
        ),
    ]
