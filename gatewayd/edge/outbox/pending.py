"""What waits for the writer thread: shared by it and the event loop, which never waits for each other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, TypeAlias

from gatewayd.core.loss import Losses, added
from gatewayd.core.model import Instant, Message
from gatewayd.edge.outbox.file import DamagedDatabaseError
from gatewayd.edge.outbox.work import Gone, Stored, Work

# Futures nobody resolved while the disk failed: older ones are let go. Hours of sound at two chunks a second.
FUTURES: Final = 20_000
# What was confirmed is erased with what is stored next, or after so long, or so many: sound costs half the
# writes, draining less time. A kill meanwhile has it sent again, under its id.
ERASE_S: Final = 1.0
ERASE_ROWS: Final = 500

# A batch's future and the ids it waits for.
Waiting: TypeAlias = tuple["asyncio.Future[Instant]", frozenset[str]]


class Pending:
    """Each method may be called from either thread, and holds a lock for as long as it takes to look."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._work = Work()
        self._waiting: deque[Waiting] = deque(maxlen=FUTURES)
        self._left = Work()  # what a full disk did not take
        self._left_waiting: deque[Waiting] = deque(maxlen=FUTURES)
        self._writing = Work()  # the transaction under way
        self._busy_since_s: float | None = None
        self._damage: DamagedDatabaseError | None = None  # found by a reader
        self._stored: Stored | None = None  # what the writer counted; None: not yet
        self._losses: Losses = {}  # on disk
        self.stopping = False
        self.database = 0  # how often another one began

    # --- the event loop's side ------------------------------------------------------------------------------

    def put(self, newer: Work, future: asyncio.Future[Instant] | None = None) -> None:
        """Let something wait; `future` for all of it."""
        with self._wake:
            if self.stopping:
                return
            self._work.absorb(newer)
            if future is not None:
                self._waiting.append((future, frozenset(newer.messages)))
            self._wake.notify()

    def confirm(self, ids: set[str], *, failed: bool) -> None:
        """Delete messages; while the disk has `failed`, what only waits leaves nothing behind."""
        with self._wake:
            begins = not self._work
            self._left.confirm(ids)
            self._left.confirmed.clear()
            if failed:
                self._work.confirm(ids)
            else:
                self._work.absorb(Work(confirmed=ids))
            if begins or self._urgent():
                self._wake.notify()

    def found(self, damage: DamagedDatabaseError, database: int) -> None:
        """A reader found `database` damaged: what it was (`Pending.database`) when the reading began."""
        with self._wake:
            if database == self.database:
                self._damage = damage
                self._wake.notify()

    def stop(self) -> None:
        """Write what waits and end; nothing more is taken."""
        with self._wake:
            self.stopping = True
            self._wake.notify()

    def gone(self, known: Collection[str]) -> Gone:
        """Return what a page need not bring: what is `known`, and what is about to go."""
        with self._wake:
            work, writing = self._work, self._writing
            return Gone(
                ids=work.confirmed.union(known, writing.confirmed),
                damaged=work.damaged.keys() | writing.damaged.keys(),
                topics=work.topics | writing.topics | self._left.topics,
            )

    def records(self, kind: str) -> dict[str, str | None]:
        """Return the records of a kind that wait; None: it is to be forgotten."""
        with self._wake:
            records = self._writing.changes | self._work.changes
        return {key: value for (of, key), value in records.items() if of == kind}

    @property
    def losses(self) -> Losses:
        """All that was dropped, on disk or about to be."""
        with self._wake:
            return added(added(self._losses, self._writing.lost), self._work.lost)

    @property
    def stored(self) -> Stored | None:
        """What lies on disk, as the writer counted it, but for `oldest` and `lost`."""
        with self._wake:
            return self._stored

    @property
    def busy_s(self) -> float:
        """For how long the disk has not answered; 0: nobody waits for it."""
        with self._wake:
            return 0.0 if self._busy_since_s is None else time.monotonic() - self._busy_since_s

    # --- the writer's side ----------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        with self._wake:
            return not self._work

    def wait(self, most_s: float) -> None:
        """Wait for something to do; when it is only to erase a few rows, for more of it."""
        with self._wake:
            if not (self._work or self._urgent()):
                self._wake.wait(most_s)
            if self._work:
                self._wake.wait_for(self._urgent, min(ERASE_S, most_s))

    def _urgent(self) -> bool:
        work = self._work
        others = work.messages or work.changes or work.replaced or work.lost or work.damaged
        return bool(
            others or self._waiting or self.stopping or self._damage or len(work.confirmed) > ERASE_ROWS
        )

    def rest(self, most_s: float) -> None:
        """Wait for the end, or until the disk is worth another try."""
        with self._wake:
            self._wake.wait_for(lambda: self.stopping, most_s)

    def take(self) -> tuple[Work, deque[Waiting], bool]:
        """Return what waits, who waits for it, and whether it is the last. DamagedDatabaseError: as found."""
        with self._wake:
            damage, self._damage = self._damage, None
            if damage is not None:
                raise damage
            self._writing, self._work = self._work, Work()
            waiting, self._waiting = self._waiting, deque(maxlen=FUTURES)
            return self._writing, waiting, self.stopping

    def give_back(self, work: Work, waiting: Iterable[Waiting]) -> None:
        """It was not done: it waits again, before what came meanwhile."""
        with self._wake:
            self._writing = Work()
            work.absorb(self._work)
            self._work = work
            self._waiting = deque((*waiting, *self._waiting), maxlen=FUTURES)

    def begin_anew(self) -> None:
        """Another database has begun: the numbers of rows in the last one say nothing any more."""
        with self._wake:
            self._work.damaged.clear()
            self._damage = None
            self.database += 1

    def done(
        self, waiting: Iterable[Waiting], left: Work, losses: Losses, stored: Stored | None
    ) -> list[asyncio.Future[Instant]]:
        """It was done but for what is `left`; return the futures of those who need not wait for that."""
        with self._wake:
            self._writing = Work()
            self._losses, self._stored = losses, stored
            ids = left.messages.keys()
            self._left.absorb(left)
            self._left.confirm(self._work.confirmed)  # while this was being written
            self._left.confirmed.clear()
            self._left_waiting.extend(each for each in waiting if each[1] & ids)
            return [future for future, wanted in waiting if not wanted & ids]

    def drop_left(self) -> tuple[Message, ...]:
        """Return what a full disk did not take; it waits no more."""
        with self._wake:
            left, self._left = self._left, Work()
            return tuple(left.messages.values())

    def counted(self, losses: Losses, stored: Stored | None) -> None:
        """Tidying changed what lies on disk."""
        with self._wake:
            self._losses, self._stored = losses, stored

    def return_left(self) -> None:
        """The disk has room again: what was left waits as before."""
        with self._wake:
            if not (self._left or self._left_waiting):
                return
            self._left.absorb(self._work)
            self._work, self._left = self._left, Work()
            self._waiting = deque((*self._left_waiting, *self._waiting), maxlen=FUTURES)
            self._left_waiting.clear()

    def begin(self) -> None:
        """The disk is asked for something."""
        with self._wake:
            self._busy_since_s = time.monotonic()

    def end(self) -> float:
        """It has answered, well or not; return after how long."""
        with self._wake:
            began_s, self._busy_since_s = self._busy_since_s, None
            return 0.0 if began_s is None else time.monotonic() - began_s
