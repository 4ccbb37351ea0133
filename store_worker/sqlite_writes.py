"""One transaction's writes: many batches into few statements.

Messages go in lots of LOT rows, `ON CONFLICT (id, sender) DO NOTHING`. Where fewer rows came of a lot than were
offered, it is looked up which ones did, and the others are answered from what they collided with; only rows that are
there get deliveries. So nothing but this one conflict is ever passed over in silence, and no delivery is
orphaned (RULES 15). Deliveries follow at the end, sorted, so that each leaf of the index is visited once.

What must be decided before a row can be offered (a refusal, a closed or a full mailbox) is decided message
by message, against counters that are exact at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import cache
from typing import Final, TypeVar

import apsw
import msgpack
from msgspec import Struct

from restante.wire.envelopes import TEXT, Result
from restante.wire.store_link import (
    CloseMailbox,
    Command,
    MarkedMessages,
    MarkMessages,
    Message,
    Noted,
    NoteDelivered,
    Outcome,
    Stored,
    StoreMessages,
)
from store_worker.journal import (
    Kept,
    Write,
    Written,
    answer_known,
    closed_result,
    full_result,
)
from store_worker.sqlite_schema import fetch

LOT: Final = 50
"""Rows in one statement: up to 1.6 times as fast as one at a time in large commits, and no faster beyond."""

COUNTERS_MAX: Final = 200_000
"""Mailboxes whose counters are kept in memory, about 150 bytes each; past it all are read anew."""

Bindings = list[int | str | bytes | None]
T = TypeVar("T")

_pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Counters(Struct):
    """What is counted of one mailbox."""

    delivered_through: int
    unread: int
    total: int
    closed: bool


class Draft(Struct, gc=False):
    """A message to store, whose result belongs at `results[place]`."""

    message: Message
    sender: int
    sender_name: str
    content: bytes
    results: list[Result]
    place: int


PENDING: Final = Result(code="internal", text="This message was not looked at.")
"""Stands in a result's place until it is known; it never gets out."""


class Counts:
    """The counters of mailboxes, read when first needed and written with the transaction that changed them."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._known: dict[int, Counters] = {}
        self._changed: set[int] = set()

    def of(self, mailbox: int) -> Counters:
        """Return a mailbox's counters, to read."""
        known = self._known.get(mailbox)
        return self._read(mailbox) if known is None else known

    def to_change(self, mailbox: int) -> Counters:
        """Return a mailbox's counters, to change: they are written by `save`."""
        self._changed.add(mailbox)
        known = self._known.get(mailbox)
        return self._read(mailbox) if known is None else known

    def save(self) -> None:
        """Write what was changed."""
        rows = sorted(self._changed)
        for lot in lots(rows):
            bindings: Bindings = []
            for mailbox in lot:
                c = self._known[mailbox]
                bindings += (mailbox, c.delivered_through, c.unread, c.total, c.closed)
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
        row = self._db.execute(
            "SELECT delivered_through, unread, total, closed FROM mailboxes WHERE mailbox = ?", (mailbox,)
        ).fetchone()
        counters = Counters(*row) if row else Counters(0, 0, 0, False)
        self._known[mailbox] = counters
        return counters


class Writer:
    """Executes the batches of one transaction, which its caller begins and ends."""

    def __init__(
        self,
        db: apsw.Connection,
        counts: Counts,
        high: int,
        now_us: int,
        *,
        unread_max: int,
        poison: Set[tuple[bytes, int]],
    ) -> None:
        self.high = high
        self._db = db
        self._counts = counts
        self._now_us = now_us
        self._unread_max = unread_max
        self._poison = poison
        self._lot: list[Draft] = []
        self._deliveries: list[tuple[int, int]] = []

    def write(self, write: Write) -> Written:
        """Execute one batch. Raises apsw.Error."""
        base = self.high
        contents = iter(write.contents)
        outcomes: list[Outcome] = []
        for command in write.commands:
            if isinstance(command, StoreMessages):
                results = [PENDING] * len(command.messages)
                sender, name = command.sender, command.sender_name
                for place, message in enumerate(command.messages):
                    self._take(Draft(message, sender, name, next(contents), results, place))
                outcomes.append(Stored(results=results))
            else:
                self._flush()
                outcomes.append(self._execute(command))
        self._flush()
        return Written(base, self.high, outcomes)

    def finish(self) -> None:
        """Write what is written once a transaction. Raises apsw.Error."""
        self._write_deliveries()
        self._counts.save()
        self._db.execute("UPDATE meta SET high = ?, stored_at_us = ?", (self.high, self._now_us))

    # --- messages -----------------------------------------------------------------------------------------

    def _take(self, draft: Draft) -> None:
        """Put a message into the lot, or answer it at once."""
        refused = self._refused(draft)
        if refused is not None:
            self._flush()  # what went before it may be the same id, or a repetition that was counted as new
            refused = self._refused(draft)
        if refused is not None:
            draft.results[draft.place] = self._known(draft) or refused
            return
        for mailbox in draft.message.mailboxes:
            counters = self._counts.to_change(mailbox)
            counters.unread += 1
            counters.total += 1
        self._lot.append(draft)
        if len(self._lot) == LOT:
            self._flush()

    def _refused(self, draft: Draft) -> Result | None:
        message = draft.message
        if message.refusal:
            return Result(code=message.refusal, text=message.refusal_text)
        if (message.id, draft.sender) in self._poison:
            return Result(code="poison", text="Storing this message failed again and again; it was set aside.")
        for place, mailbox in enumerate(message.mailboxes):
            counters = self._counts.of(mailbox)
            if counters.closed:
                return closed_result(message.to[place])
            if counters.unread >= self._unread_max:
                return full_result(message.to[place])
        return None

    def _flush(self) -> None:
        """Store the lot, and answer it."""
        lot = self._lot
        if not lot:
            return
        self._lot = []
        first, now_us = self.high + 1, self._now_us
        bindings: Bindings = []
        for seq, draft in enumerate(lot, first):
            m = draft.message
            content_type = None if m.content_type == TEXT else m.content_type
            recipients = _pack((m.to, m.mailboxes))
            bindings += (seq, m.id, draft.sender, draft.sender_name, recipients, content_type, m.sent_at_us)
            bindings += (now_us, m.reply_to, draft.content)
        self._db.execute(_insert_messages(len(lot)), bindings)
        if self._db.changes() == len(lot):
            for seq, draft in enumerate(lot, first):
                self._accept(draft, seq)
        else:
            self._sort_out(lot, first)

    def _sort_out(self, lot: list[Draft], first: int) -> None:
        """Answer a lot of which some were known: what is there under its seq is new, the others are not."""
        rows = fetch(self._db, "SELECT seq FROM messages WHERE seq >= ?", (first,))
        new = {seq for (seq,) in rows}
        for seq, draft in enumerate(lot, first):
            if seq in new:
                self._accept(draft, seq)
                continue
            for mailbox in draft.message.mailboxes:
                counters = self._counts.to_change(mailbox)
                counters.unread -= 1
                counters.total -= 1
            known = self._known(draft)
            assert known is not None, "a message was neither stored nor known"
            draft.results[draft.place] = known

    def _accept(self, draft: Draft, seq: int) -> None:
        self.high = seq
        draft.results[draft.place] = Result(seq=seq, stored_at_us=self._now_us)
        for mailbox in draft.message.mailboxes:
            self._deliveries.append((mailbox, seq))

    def _known(self, draft: Draft) -> Result | None:
        row = self._db.execute(_SELECT_KNOWN, (draft.message.id, draft.sender)).fetchone()
        if row is None:
            return None
        seq, stored_at_us, recipients, content_type, reply_to, body = row
        names = msgpack.unpackb(recipients)[0]
        kept = Kept(seq, stored_at_us, names, TEXT if content_type is None else content_type, reply_to, body)
        return answer_known(kept, draft.message, draft.content)

    def _write_deliveries(self) -> None:
        rows, self._deliveries = self._deliveries, []
        rows.sort()
        for lot in lots(rows):
            bindings = [value for row in lot for value in row]
            self._db.execute(_insert_deliveries(len(lot)), bindings)

    # --- the other commands -------------------------------------------------------------------------------

    def _execute(self, command: Command) -> Outcome:
        self._write_deliveries()
        if isinstance(command, MarkMessages):
            return self._mark(command)
        counters = self._counts.to_change(command.mailbox) if not isinstance(command, StoreMessages) else None
        assert counters is not None
        if isinstance(command, NoteDelivered):
            through = min(command.through, self.high)  # what is not stored yet can't have been delivered
            counters.delivered_through = max(counters.delivered_through, through)
        elif isinstance(command, CloseMailbox):
            self._db.execute("DELETE FROM deliveries WHERE mailbox = ?", (command.mailbox,))
            counters.unread = counters.total = 0
            counters.closed = True
        return Noted()

    def _mark(self, command: MarkMessages) -> MarkedMessages:
        seqs, unknown_ids = list(command.seqs), []
        for message_id in command.ids:
            found = fetch(self._db, _SELECT_BY_ID, (message_id, command.mailbox))
            seqs += (seq for (seq,) in found)
            if not found:
                unknown_ids.append(message_id)
        changed, unknown_seqs = [], []
        for seq in seqs:
            if self._mark_one(command.mailbox, seq, command.read):
                changed.append(seq)
            elif self._db.execute(_SELECT_HELD, (command.mailbox, command.read, seq)).fetchone() is None:
                unknown_seqs.append(seq)
        counters = self._counts.to_change(command.mailbox)
        counters.unread += -len(changed) if command.read else len(changed)
        return MarkedMessages(changed=changed, unknown_seqs=unknown_seqs, unknown_ids=unknown_ids)

    def _mark_one(self, mailbox: int, seq: int, read: bool) -> bool:
        """Move a delivery to the other range; False if it is not in this one."""
        at_us = self._now_us if read else 0
        self._db.execute(_UPDATE_READ, (read, at_us, mailbox, not read, seq))
        return self._db.changes() == 1


_SELECT_KNOWN: Final = """
    SELECT seq, stored_at_us, recipients, content_type, reply_to, body FROM messages WHERE id = ? AND sender = ?
"""
_SELECT_BY_ID: Final = """
    SELECT m.seq FROM messages m WHERE m.id = ?1 AND EXISTS (
        SELECT 1 FROM deliveries d WHERE d.mailbox = ?2 AND d.read IN (0, 1) AND d.seq = m.seq
    ) ORDER BY m.seq
"""
_SELECT_HELD: Final = "SELECT 1 FROM deliveries WHERE mailbox = ? AND read = ? AND seq = ?"
_UPDATE_READ: Final = "UPDATE deliveries SET read = ?, read_at_us = ? WHERE mailbox = ? AND read = ? AND seq = ?"


@cache
def _insert_messages(rows: int) -> str:
    return (
        "INSERT INTO messages (seq, id, sender, sender_name, recipients, content_type, sent_at_us, stored_at_us,"
        f" reply_to, body) VALUES {_values('(?,?,?,?,?,?,?,?,?,?)', rows)} ON CONFLICT (id, sender) DO NOTHING"
    )


@cache
def _insert_deliveries(rows: int) -> str:
    return f"INSERT INTO deliveries (mailbox, read, seq, read_at_us) VALUES {_values('(?,0,?,0)', rows)}"


@cache
def _insert_counters(rows: int) -> str:
    return (
        "INSERT INTO mailboxes (mailbox, delivered_through, unread, total, closed)"
        f" VALUES {_values('(?,?,?,?,?)', rows)} ON CONFLICT (mailbox) DO UPDATE SET"
        " delivered_through = excluded.delivered_through, unread = excluded.unread, total = excluded.total,"
        " closed = excluded.closed"
    )


def _values(row: str, rows: int) -> str:
    return ",".join([row] * rows)


def lots(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut rows into lots of at most LOT."""
    return (rows[start : start + LOT] for start in range(0, len(rows), LOT))
