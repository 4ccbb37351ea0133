"""The index by mailbox: deliveries, in runs.

A run is one row: deliveries of a mailbox that follow one another in it, and are all unread, or were all marked read at
one time. Unread runs are one range of the table, read ones another:

    a mailbox's deliveries    3  7  8  15 │ 20  21 │ 33 │ 40  41  52
    its runs                  unread      │ read   │ un-│ read
    in the table              (unread, 15) (unread, 33) (read, 21) (read, 52)

So 128 deliveries are written, marked and found as one row. What is marked by itself becomes a run of its own, and cuts
the one that it was in: at worst there is a row for each delivery.

Invariants: no run is empty, and no two of a mailbox overlap, read or unread. So a seq can be only in the first run that
ends with it or behind it, hence their order by `last`; and what is known to be a delivery of the mailbox is in the run
that it lies within. Nothing joins runs again: what is read is rarely asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence, Set
from itertools import accumulate, groupby, repeat
from operator import itemgetter, sub
from typing import Any, Final, NamedTuple

import apsw
import msgspec

RUN_ROWS: Final = 128
"""Deliveries of a run at most, which take some 400 bytes. Longer ones would gain little, and to mark one message of it
writes all of a run anew."""

Row = tuple[int, int]
"""A seq, and whether it is read."""


class Run(NamedTuple):
    """Deliveries of one mailbox, ascending, and when they were marked read: 0 if they are unread."""

    seqs: Sequence[int]
    read_at_us: int


class Runs:
    """The runs of one connection, each of `run_rows` deliveries at most. Every method may raise apsw.Error."""

    def __init__(self, db: apsw.Connection, run_rows: int = RUN_ROWS) -> None:
        self._db = db
        self._run_rows = run_rows

    def add(self, mailbox: int, seqs: Sequence[int], marked: Set[int] = frozenset(), read_at_us: int = 0) -> None:
        """Put deliveries behind all that a mailbox has; those that are in `marked` as read."""
        for is_marked, part in _parts(seqs, marked):
            for start in range(0, len(part), self._run_rows):
                self._insert(
                    mailbox, is_marked, Run(part[start : start + self._run_rows], read_at_us if is_marked else 0)
                )

    def behind(self, mailbox: int, after: int, count: int, *, unread: bool) -> list[Row]:
        """Return the first `count` deliveries past `after`, in the order of seq: all, or those that are unread."""
        rows: list[Row] = []
        runs = self._db.execute(_BEHIND[unread], {"mailbox": mailbox, "after": after})
        for read, first, distances, _ in runs:
            seqs = _seqs(first, distances)
            rows += zip(seqs if first > after else seqs[bisect_right(seqs, after) :], repeat(read))
            if len(rows) >= count:
                runs.close()
                break
        return rows[:count]

    def held(self, mailbox: int, seqs: set[int], *, read: bool) -> set[int]:
        """Return those of `seqs` that are deliveries of a mailbox, and read, or unread."""
        held: set[int] = set()
        for run in self._around(mailbox, seqs, read):
            held |= seqs.intersection(run.seqs)
        return held

    def move(self, mailbox: int, seqs: set[int], *, read: bool, read_at_us: int) -> set[int]:
        """Mark those of `seqs` that are deliveries of a mailbox and not marked so; return them."""
        moved: set[int] = set()
        for run in self._around(mailbox, seqs, not read):
            chosen = seqs.intersection(run.seqs)
            if len(chosen) == len(run.seqs):
                self._db.execute(_MOVE, (read, read_at_us, mailbox, not read, run.seqs[-1]))
            elif chosen:
                self._db.execute(_DELETE, (mailbox, not read, run.seqs[-1]))
                for is_chosen, part in _parts(run.seqs, chosen):
                    if is_chosen:
                        self._insert(mailbox, read, Run(part, read_at_us))
                    else:
                        self._insert(mailbox, not read, Run(part, run.read_at_us))
            moved |= chosen
        return moved

    def read_at_us(self, mailbox: int, seq: int) -> int | None:
        """Return when a delivery was marked read; None if it is unread, or the mailbox is closed."""
        row: Any = self._db.execute(_READ_AT, (mailbox, seq)).fetchone()
        return row[1] if row is not None and row[0] <= seq else None

    def drop(self, mailbox: int) -> None:
        """Remove all of a mailbox."""
        self._db.execute("DELETE FROM runs WHERE mailbox = ?", (mailbox,))

    def _insert(self, mailbox: int, read: bool, run: Run) -> None:
        seqs, read_at_us = run
        self._db.execute(_INSERT, (mailbox, read, seqs[-1], seqs[0], read_at_us, _distances(seqs)))

    def _around(self, mailbox: int, seqs: Set[int], read: bool) -> Iterator[Run]:
        """Return the runs of a range that may hold `seqs`. Each may be cut or moved before the next is asked for."""
        wanted = sorted(seqs)
        place = 0
        while place < len(wanted):
            row: Any = self._db.execute(_FROM, (mailbox, read, wanted[place])).fetchone()
            if row is None:
                return
            last, first, read_at_us, distances = row
            yield Run(_seqs(first, distances), read_at_us)
            place = bisect_right(wanted, last, place)


def _parts(seqs: Sequence[int], marked: Set[int]) -> Iterator[tuple[bool, Sequence[int]]]:
    """Cut seqs wherever one that is marked follows one that is not, or the other way round."""
    if not marked:
        return iter([(False, seqs)] if seqs else [])
    return ((is_marked, list(part)) for is_marked, part in groupby(seqs, marked.__contains__))


def _seqs(first: int, distances: bytes) -> list[int]:
    return list(accumulate(_decode(distances), initial=first))


def _distances(seqs: Sequence[int]) -> bytes:
    return _encode(list(map(sub, seqs[1:], seqs)))


_decode: Final = msgspec.msgpack.Decoder(list[int]).decode
_encode: Final = msgspec.msgpack.Encoder().encode

_RANGE: Final = """
    SELECT {read} AS read, first, distances, last FROM runs WHERE mailbox = :mailbox AND read = {read} AND last > :after
"""
_UNREAD, _READ = _RANGE.format(read=0), _RANGE.format(read=1)
_BEHIND: Final = {True: f"{_UNREAD} ORDER BY last", False: f"{_UNREAD} UNION ALL {_READ} ORDER BY last"}
"""By whether only unread ones are wanted. Both ranges come in their order: SQLite merges, and sorts nothing."""

_FROM: Final = """
    SELECT last, first, read_at_us, distances FROM runs WHERE mailbox = ? AND read = ? AND last >= ?
    ORDER BY last LIMIT 1
"""
_READ_AT: Final = """
    SELECT first, read_at_us FROM runs WHERE mailbox = ? AND read = 1 AND last >= ? ORDER BY last LIMIT 1
"""
_INSERT: Final = "INSERT INTO runs (mailbox, read, last, first, read_at_us, distances) VALUES (?, ?, ?, ?, ?, ?)"
_MOVE: Final = "UPDATE runs SET read = ?, read_at_us = ? WHERE mailbox = ? AND read = ? AND last = ?"
_DELETE: Final = "DELETE FROM runs WHERE mailbox = ? AND read = ? AND last = ?"


# --- before there were runs ---------------------------------------------------------------------------------


def gather(db: apsw.Connection) -> None:
    """Make runs of a table with a row for each delivery, which is removed. Raises apsw.Error."""
    runs = Runs(db)
    mailboxes: Any = db.execute("SELECT mailbox FROM mailboxes").fetchall()
    for (mailbox,) in mailboxes:
        rows: Any = db.execute(_ROWS, {"mailbox": mailbox})
        for (read, read_at_us), part in groupby(rows, itemgetter(1, 2)):
            seqs = [seq for seq, _, _ in part]
            runs.add(mailbox, seqs, set(seqs) if read else frozenset(), read_at_us)
    db.execute("DROP TABLE deliveries")


_ROWS: Final = """
    SELECT seq, read, read_at_us FROM deliveries WHERE mailbox = :mailbox AND read = 0 UNION ALL
    SELECT seq, read, read_at_us FROM deliveries WHERE mailbox = :mailbox AND read = 1 ORDER BY seq
"""
