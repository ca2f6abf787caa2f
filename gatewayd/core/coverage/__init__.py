"""What the gateway could hear, and of whom it heard: kept, and asked for later. Pure."""

from gatewayd.core.coverage.answer import Answer, Verdict, answer
from gatewayd.core.coverage.block import KIND, Block, from_json
from gatewayd.core.coverage.record import Record

__all__ = ["KIND", "Answer", "Block", "Record", "Verdict", "answer", "from_json"]
