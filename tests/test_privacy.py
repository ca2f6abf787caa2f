"""What is written about privacy lists all that leaves the gateway and stays on it."""

import re
from pathlib import Path

from gatewayd.core import topic
from gatewayd.core.topic import Kind

PAGE = Path(__file__).parent.parent / "docs" / "privacy.md"


def test_every_topic_that_leaves_the_gateway_is_listed_with_its_purpose() -> None:
    """One row each, none without a word on what it tells, why, and how long the broker keeps it."""
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", PAGE.read_text(), re.MULTILINE)
    listed = set()
    for address, cells in rows:
        assert all(cell.strip() for cell in cells.split("|")), address
        assert len(cells.split("|")) == 3, address
        parsed = topic.parse(re.sub(r"\{\w+\}", "1", address))
        if parsed is not None:
            listed.add(parsed.kind)
    assert listed == set(Kind) - {Kind.COMMAND}
