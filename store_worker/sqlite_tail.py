"""The tail: deliveries that are in the log and not yet in the index, in memory.

    messages  ───────────────────────────────────────────────▶  every commit appends here, and no more is needed
    runs      ────────────────────────────────┐                 follow later, of many deliveries each
    tail                                      └ ─ ─ ─ ─ ─ ─ ▶   the rest; a start reads it from the log again

A mailbox's part of the tail is all that it was sent past its own `indexed`, so all of it is unread, and each of its
seqs is above every one of that mailbox in the index: a reader puts it behind what the index says.

Mailboxes stand in the order of their oldest delivery. So the first one says how far the log is indexed for all, and
to take mailboxes whole from the front is to take the oldest.

What a transaction does here is undone by `restore` if it is rolled back, and final with `settle`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence


class Tail:
    """Deliveries by mailbox, ascending. A mailbox is long that has `long_rows` or more."""

    def __init__(self, long_rows: int) -> None:
        self.rows = 0
        self.brought = 0
        """Deliveries that this transaction added."""
        self.long_rows = long_rows
        self._seqs: dict[int, list[int]] = {}
        self._long: list[int] = []
        """Mailboxes that became long; some may have been taken since."""
        self._taken: dict[int, list[int]] = {}
        """What this transaction took."""

    def add(self, mailbox: int, seq: int) -> list[int]:
        """Put a delivery behind all that are there; give its mailbox's, to which more may be appended (`grew`)."""
        self.grew(1)
        seqs = self._seqs.get(mailbox)
        if seqs is None:
            seqs = self._seqs[mailbox] = []
        seqs.append(seq)
        if len(seqs) == self.long_rows:
            self._long.append(mailbox)
        return seqs

    def grew(self, rows: int) -> None:
        """So many deliveries were appended to what `add` gave, none of which made a mailbox long."""
        self.rows += rows
        self.brought += rows

    def take_back(self, mailbox: int, seq: int) -> list[int]:
        """Take out a mailbox's last delivery, which this transaction added; give those that are left.

        Take back all that came later first: so nothing stands before what is older than it.
        """
        self.grew(-1)
        seqs = self._seqs[mailbox]
        assert seqs[-1] == seq, "deliveries are taken back in the order of their coming, the last first"
        seqs.pop()
        if not seqs:
            del self._seqs[mailbox]
        return seqs

    def of(self, mailbox: int) -> list[int]:
        """Return a mailbox's deliveries."""
        return self._seqs.get(mailbox, [])

    def behind(self, mailbox: int, after: int) -> Sequence[int]:
        """Return a mailbox's deliveries past `after`."""
        seqs = self._seqs.get(mailbox, ())
        return seqs[bisect_right(seqs, after) :]

    def indexed(self, high: int) -> int:
        """Return the seq up to which nothing is in the tail, `high` being the last one given."""
        for seqs in self._seqs.values():
            return seqs[0] - 1
        return high

    def by_age(self) -> Iterator[int]:
        """Return mailboxes, those with the oldest delivery first. The tail may not change meanwhile."""
        return iter(self._seqs)

    def long(self) -> list[int]:
        """Return the long mailboxes, and note them no longer."""
        found, self._long = self._long, []
        return [mailbox for mailbox in found if len(self.of(mailbox)) >= self.long_rows]

    def take(self, mailbox: int) -> list[int]:
        """Take out all deliveries of a mailbox."""
        seqs = self._seqs.pop(mailbox, [])
        self.rows -= len(seqs)
        self._taken.setdefault(mailbox, []).extend(seqs)
        return seqs

    def settle(self) -> None:
        """What was done since the last time is durable."""
        self._taken.clear()
        self.brought = 0

    def restore(self, high: int) -> None:
        """What was done since the last time is gone, and `high` is the last seq given, as it was then."""
        for mailbox, seqs in self._taken.items():
            self._seqs[mailbox] = seqs + self._seqs.get(mailbox, [])
        self.settle()
        kept = [(mailbox, seqs[: bisect_right(seqs, high)]) for mailbox, seqs in self._seqs.items()]
        self._seqs = {mailbox: seqs for mailbox, seqs in sorted(kept, key=_age) if seqs}
        self._long = [mailbox for mailbox, seqs in self._seqs.items() if len(seqs) >= self.long_rows]
        self.rows = sum(map(len, self._seqs.values()))


def _age(item: tuple[int, list[int]]) -> list[int]:
    return item[1][:1]
