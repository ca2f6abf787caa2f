"""What the tests of the configuration share: texts laid over each other, as files would be."""

import re
from pathlib import Path

from gatewayd.config.layers import Layers
from gatewayd.config.load import Loaded, assemble
from gatewayd.config.problem import ConfigurationError

MACHINE_ID = "0123456789abcdef0123456789abcdef"


def loaded(*texts: str | bytes, credentials: Path | None = None, machine_id: str = MACHINE_ID) -> Loaded:
    """Load texts as if they stood in files 1.conf, 2.conf ..., the last one winning."""
    layers = Layers()
    for number, text in enumerate(texts, start=1):
        layers.add(text.encode() if isinstance(text, str) else text, f"{number}.conf")
    return assemble(layers, credentials=credentials, machine_id=machine_id)


def errors(*texts: str | bytes, machine_id: str = MACHINE_ID) -> list[str]:
    """Return what is wrong with texts, as a person reads it; nothing when all is well."""
    try:
        loaded(*texts, machine_id=machine_id)
    except ConfigurationError as error:
        return [str(problem) for problem in error.errors]
    return []


def places(lines: list[str]) -> list[str]:
    """Return where each problem stands: `1.conf:3`."""
    return [match[0] if (match := re.match(r"[^:]+(:[0-9]+)?", line)) else "" for line in lines]
