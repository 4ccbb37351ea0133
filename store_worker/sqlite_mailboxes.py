"""What is known of each mailbox: on disk as far as it is indexed, in memory with its part of the tail beside it.

A row of `mailboxes` counts what the runs hold of its mailbox; what the tail holds is added when it is asked for.
So a commit of messages writes no counts, and both stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import apsw
from msgspec import Struct

from store_worker.sqlite_schema import Bindings, lots, values
from store_worker.sqlite_tail import Tail

MAILBOXES_MAX: Final = 200_000
"""Mailboxes that are known in memory, about 300 bytes each; past it all are read anew."""


class Mailbox(Struct):
    """One mailbox."""

    number: int
    delivered_through: int = 0
    indexed_unread: int = 0
    indexed_total: int = 0
    closed: bool = False
    indexed: int = 0
    """The last of its deliveries that is in the index; what came before meta's `indexed` is there too."""
    tail: list[int] = []
    """Its part of the tail, which is the tail's own list unless that is empty."""
    plain_until: int = 0
    """While its tail is shorter than this, one more delivery is put there and nothing else need be looked at."""
    name: str = ""
    recipients: bytes = b""
    """A message to it alone, and by that name, has these recipients; packed once for all of them."""

    @property
    def unread(self) -> int:
        """How many of its messages are unread: of the index, and all of the tail."""
        return self.indexed_unread + len(self.tail)

    @property
    def total(self) -> int:
        """How many messages it holds."""
        return self.indexed_total + len(self.tail)


class Mailboxes:
    """The mailboxes that are known, read when first needed. At most `unread_max` messages of one may be unread."""

    def __init__(self, db: apsw.Connection, tail: Tail, unread_max: int) -> None:
        self._db = db
        self._tail = tail
        self._unread_max = unread_max
        self._known: dict[int, Mailbox] = {}
        self._changed: set[int] = set()

    @property
    def known(self) -> Mapping[int, Mailbox]:
        """Those that are known now, for who looks at very many."""
        return self._known

    def of(self, number: int) -> Mailbox:
        """Return a mailbox, to look at."""
        known = self._known.get(number)
        return self._read(number) if known is None else known

    def to_change(self, number: int) -> Mailbox:
        """Return a mailbox, to change: it is written by `save`."""
        self._changed.add(number)
        return self.of(number)

    def full(self, mailbox: Mailbox) -> bool:
        """Return whether it takes no more until it is read."""
        return mailbox.unread >= self._unread_max

    def deliver(self, mailbox: Mailbox, seq: int) -> None:
        """Put a delivery into its tail, and see how many more may be put there plainly."""
        mailbox.tail = self._tail.add(mailbox.number, seq)
        self._plan(mailbox)

    def take_back(self, mailbox: Mailbox, seq: int) -> None:
        """Take the last delivery out of its tail again, all that came later being out already."""
        mailbox.tail = self._tail.take_back(mailbox.number, seq)
        self._plan(mailbox)

    def take(self, mailbox: Mailbox) -> Sequence[int]:
        """Take all of its tail."""
        mailbox.tail, mailbox.plain_until = [], 0
        return self._tail.take(mailbox.number)

    def save(self) -> None:
        """Write what was changed."""
        for lot in lots(sorted(self._changed)):
            bindings: Bindings = []
            for number in lot:
                m = self._known[number]
                bindings += (number, m.delivered_through, m.indexed_unread, m.indexed_total, m.closed, m.indexed)
            self._db.execute(_insert_mailboxes(len(lot)), bindings)
        self._changed.clear()

    def settle(self) -> None:
        """The transaction is durable: keep what is known, within the bound."""
        if len(self._known) > MAILBOXES_MAX:
            self._known.clear()

    def forget(self) -> None:
        """The transaction is gone: so is what was known."""
        self._known.clear()
        self._changed.clear()

    def _read(self, number: int) -> Mailbox:
        row = self._db.execute(_SELECT_MAILBOX, (number,)).fetchone()
        mailbox = self._known[number] = Mailbox(number, *row) if row else Mailbox(number)
        mailbox.tail = self._tail.of(number)
        self._plan(mailbox)
        return mailbox

    def _plan(self, mailbox: Mailbox) -> None:
        """Say how far nothing happens: the first delivery begins a list, one makes it long, one is too many."""
        if not mailbox.tail or mailbox.closed:
            mailbox.plain_until = 0
            return
        long_rows, room = self._tail.long_rows, self._unread_max - mailbox.indexed_unread
        mailbox.plain_until = min(room, long_rows - 1) if len(mailbox.tail) < long_rows else room


_SELECT_MAILBOX: Final = "SELECT delivered_through, unread, total, closed, indexed FROM mailboxes WHERE mailbox = ?"


@cache
def _insert_mailboxes(rows: int) -> str:
    return (
        "INSERT INTO mailboxes (mailbox, delivered_through, unread, total, closed, indexed)"
        f" VALUES {values('(?,?,?,?,?,?)', rows)} ON CONFLICT (mailbox) DO UPDATE SET"
        " delivered_through = excluded.delivered_through, unread = excluded.unread, total = excluded.total,"
        " closed = excluded.closed, indexed = excluded.indexed"
    )
