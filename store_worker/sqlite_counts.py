"""What is counted of each mailbox: in memory as it is, on disk as far as the mailbox is indexed.

A row of `mailboxes` counts what `deliveries` holds of its mailbox; what the tail holds is added when it is read, and
left out when it is written. So a commit of messages writes no counters, and both stay exact.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import apsw
from msgspec import Struct

from store_worker.sqlite_schema import Bindings, lots, values
from store_worker.sqlite_tail import Tail

COUNTERS_MAX: Final = 200_000
"""Mailboxes whose counters are kept in memory, about 150 bytes each; past it all are read anew."""


class Counters(Struct):
    """What is counted of one mailbox."""

    delivered_through: int
    unread: int
    total: int
    closed: bool
    indexed: int
    """The last of its deliveries that is in the index; what came before meta's `indexed` is there too."""


class Counts:
    """The counters of mailboxes, read when first needed."""

    def __init__(self, db: apsw.Connection, tail: Tail) -> None:
        self._db = db
        self._tail = tail
        self._known: dict[int, Counters] = {}
        self._changed: set[int] = set()

    def of(self, mailbox: int) -> Counters:
        """Return a mailbox's counters: to read, or to change by as much as the tail is changed."""
        known = self._known.get(mailbox)
        return self._read(mailbox) if known is None else known

    def to_change(self, mailbox: int) -> Counters:
        """Return a mailbox's counters, to change: they are written by `save`."""
        self._changed.add(mailbox)
        return self.of(mailbox)

    def save(self) -> None:
        """Write what was changed."""
        for lot in lots(sorted(self._changed)):
            bindings: Bindings = []
            for mailbox in lot:
                c, ahead = self._known[mailbox], len(self._tail.of(mailbox))
                bindings += (mailbox, c.delivered_through, c.unread - ahead, c.total - ahead, c.closed, c.indexed)
            self._db.execute(_insert_counters(len(lot)), bindings)
        self._changed.clear()

    def settle(self) -> None:
        """The transaction is durable: keep what is known, within the bound."""
        if len(self._known) > COUNTERS_MAX:
            self._known.clear()

    def forget(self) -> None:
        """The transaction is gone: so is what was known."""
        self._known.clear()
        self._changed.clear()

    def _read(self, mailbox: int) -> Counters:
        row = self._db.execute(_SELECT_COUNTERS, (mailbox,)).fetchone()
        counters = Counters(*row) if row else Counters(0, 0, 0, False, 0)
        ahead = len(self._tail.of(mailbox))
        counters.unread += ahead
        counters.total += ahead
        self._known[mailbox] = counters
        return counters


_SELECT_COUNTERS: Final = "SELECT delivered_through, unread, total, closed, indexed FROM mailboxes WHERE mailbox = ?"


@cache
def _insert_counters(rows: int) -> str:
    return (
        "INSERT INTO mailboxes (mailbox, delivered_through, unread, total, closed, indexed)"
        f" VALUES {values('(?,?,?,?,?,?)', rows)} ON CONFLICT (mailbox) DO UPDATE SET"
        " delivered_through = excluded.delivered_through, unread = excluded.unread, total = excluded.total,"
        " closed = excluded.closed, indexed = excluded.indexed"
    )
