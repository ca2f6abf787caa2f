"""Store-and-forward on disk: SQLite for messages and records, segment files for sound."""

from gatewayd.edge.outbox.outbox import Batch, Outbox
from gatewayd.edge.outbox.work import Evicted, Page, RecordKey, Stored

__all__ = ["Batch", "Evicted", "Outbox", "Page", "RecordKey", "Stored"]
