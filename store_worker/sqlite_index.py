"""The index follows the log: when deliveries go from the tail to their table, and how they are found again.

A commit needs the log alone (G1): from it the index can be made at any time. With 1,000 mailboxes a commit of 500
messages would change some 400 leaves of the index; when a mailbox's deliveries have gathered, up to 128 of them are one
row (`store_worker.sqlite_runs`). Three rules say when a mailbox's go, all of them at a time:

- it is marked or closed: before that, in the same transaction;
- they fill a run: with the commit that brought the last of them;
- they are the oldest, and the tail is too long, or a start would have to read too much of the log: with each
  commit, as many as it brought and a few more; when nothing is committed, step by step all of them.

`meta.indexed` says up to which seq nothing is left behind; each row of `mailboxes` says the same of its own, and counts
exactly that. Both are written with the runs they tell of. A start reads the log past the one, and leaves out what the
other covers (RULES 16).
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Final

import apsw
import msgpack
from msgspec import Struct

from store_worker.sqlite_mailboxes import Mailboxes
from store_worker.sqlite_runs import RUN_ROWS, Runs
from store_worker.sqlite_tail import Tail

FOLLOWING_LAYOUT: Final = 2
"""The database's layout since which the index follows; in a backup from before it, it is always complete."""


class Bounds(Struct, frozen=True):
    """How far the index may stay behind."""

    run_rows: int = RUN_ROWS
    """Deliveries of a run: a mailbox that has as many gains nothing by waiting for more."""
    tail_rows: int = 100_000
    """Deliveries in the tail: a hundred for each of 1,000 mailboxes. 5 MB, 25 if each is of another mailbox."""
    replay_seqs: int = 200_000
    """Seqs of the log that a start reads again: some tenths of a second."""
    step_rows: int = 500
    """Deliveries that go in one step: up to 10 ms, by how many mailboxes they are of. With a commit, so many more than
    it brought."""


class Index:
    """The index with its tail and its mailboxes. Its caller begins and ends transactions."""

    def __init__(self, db: apsw.Connection, bounds: Bounds, unread_max: int) -> None:
        self._db = db
        self._bounds = bounds
        self.tail = Tail(bounds.run_rows)
        self.runs = Runs(db, bounds.run_rows)
        self.mailboxes = Mailboxes(db, self.tail, unread_max)

    def replay(self) -> None:
        """Read the tail from the log. Raises apsw.Error."""
        for mailbox, seq in behind(self._db):
            self.tail.add(mailbox, seq)
        self.tail.settle()

    def settle(self) -> None:
        """The transaction is durable."""
        self.tail.settle()
        self.mailboxes.settle()

    def restore(self, high: int) -> None:
        """The transaction is gone; `high` was the last seq given before it."""
        self.tail.restore(high)
        self.mailboxes.forget()

    def save(self, high: int) -> int:
        """Write, at a transaction's end, how far each mailbox came; give how far all did, which meta is to say.

        Raises apsw.Error.
        """
        self.mailboxes.save()
        return self.tail.indexed(high)

    def take_in(self, number: int, read: Set[int] = frozenset(), read_at_us: int = 0) -> set[int]:
        """Move all of a mailbox, those that are in `read` as read; give these. Raises apsw.Error."""
        mailbox = self.mailboxes.to_change(number)
        seqs = self.mailboxes.take(mailbox)
        marked = set(seqs) & read if read else set[int]()
        if seqs:
            mailbox.indexed = seqs[-1]
            mailbox.indexed_unread += len(seqs) - len(marked)
            mailbox.indexed_total += len(seqs)
            self.runs.add(number, seqs, marked, read_at_us)
        return marked

    def mark(self, number: int, seqs: set[int], read: bool, read_at_us: int) -> set[int]:
        """Mark what is in the index; give those of `seqs` that are there and were not so. Raises apsw.Error."""
        moved = self.runs.move(number, seqs, read=read, read_at_us=read_at_us)
        if moved:
            self.mailboxes.to_change(number).indexed_unread += -len(moved) if read else len(moved)
        return moved

    def drop(self, number: int, high: int) -> None:
        """Close a mailbox, which then holds nothing; `high` is the last seq given. Raises apsw.Error."""
        mailbox = self.mailboxes.to_change(number)
        self.mailboxes.take(mailbox)
        mailbox.indexed_unread = mailbox.indexed_total = 0
        mailbox.closed = True
        mailbox.indexed = high
        self.runs.drop(number)

    def follow(self, high: int) -> None:
        """Move what goes with a commit. Raises apsw.Error."""
        for mailbox in sorted(self.tail.long()):
            self.take_in(mailbox)
        if self.tail.rows > self._bounds.tail_rows or high - self.tail.indexed(high) > self._bounds.replay_seqs:
            self.step()

    def step(self) -> None:
        """Move the oldest: a step's worth, and as many as the transaction brought. Raises apsw.Error."""
        rows = self.tail.brought + self._bounds.step_rows
        mailboxes: list[int] = []
        for mailbox in self.tail.by_age():
            if rows <= 0:
                break
            mailboxes.append(mailbox)
            rows -= len(self.tail.of(mailbox))
        for mailbox in sorted(mailboxes):
            self.take_in(mailbox)


def behind(db: apsw.Connection) -> Iterator[tuple[int, int]]:
    """Return the deliveries that are in the log and not in the index, as (mailbox, seq), in the order of seq."""
    if db.pragma("user_version") < FOLLOWING_LAYOUT:
        return
    indexed: dict[int, int] = {}
    for seq, recipients in db.execute(_BEHIND):
        for mailbox in msgpack.unpackb(recipients)[1]:
            if mailbox not in indexed:
                row = db.execute("SELECT indexed FROM mailboxes WHERE mailbox = ?", (mailbox,)).fetchone()
                indexed[mailbox] = row[0] if row else 0
            if seq > indexed[mailbox]:
                yield mailbox, seq


_BEHIND: Final = "SELECT seq, recipients FROM messages WHERE seq > (SELECT indexed FROM meta) ORDER BY seq"
