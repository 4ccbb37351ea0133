"""One transaction's writes: many batches into few statements.

Messages go in lots of LOT rows, `ON CONFLICT (id, sender) DO NOTHING`. Where fewer rows came of a lot than were
offered, it is looked up which ones did, and the others are answered from what they collided with; only rows that are
there get deliveries. So nothing but this one conflict is ever passed over in silence, and no delivery is
orphaned (RULES 15). Deliveries go to the tail, and from there to the index when it suits (`store_worker.sqlite_index`);
a mailbox's own go there before it is marked or closed.

What must be decided before a row can be offered (a refusal, a closed or a full mailbox) is decided message
by message, against counters that are exact at that moment.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import cache
from typing import Final

import apsw
import msgpack
import msgspec
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
from store_worker.sqlite_counts import Counters
from store_worker.sqlite_index import Index
from store_worker.sqlite_schema import LOT, Bindings, fetch, values

_pack: Final = msgspec.msgpack.Encoder().encode


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


class Writer:
    """Executes the batches of one transaction, which its caller begins and ends."""

    def __init__(
        self,
        db: apsw.Connection,
        index: Index,
        high: int,
        now_us: int,
        *,
        unread_max: int,
        poison: Set[tuple[bytes, int]],
    ) -> None:
        self.high = high
        self._db = db
        self._index = index
        self._tail = index.tail
        self._counts = index.counts
        self._now_us = now_us
        self._unread_max = unread_max
        self._poison = poison
        self._lot: list[Draft] = []

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
        self._index.follow(self.high)
        self._index.save(self.high)
        self._db.execute("UPDATE meta SET high = ?, stored_at_us = ?", (self.high, self._now_us))

    # --- messages -----------------------------------------------------------------------------------------

    def _take(self, draft: Draft) -> None:
        """Put a message into the lot, or answer it at once."""
        boxes = [self._counts.of(mailbox) for mailbox in draft.message.mailboxes]
        refused = self._refused(draft, boxes)
        if refused is not None:
            self._flush()  # what went before it may be the same id, or a repetition that was counted as new
            refused = self._refused(draft, boxes)
        if refused is not None:
            draft.results[draft.place] = self._known(draft) or refused
            return
        for counters in boxes:
            counters.unread += 1
            counters.total += 1
        self._lot.append(draft)
        if len(self._lot) == LOT:
            self._flush()

    def _refused(self, draft: Draft, boxes: Sequence[Counters]) -> Result | None:
        message = draft.message
        if message.refusal:
            return Result(code=message.refusal, text=message.refusal_text)
        if (message.id, draft.sender) in self._poison:
            return Result(code="poison", text="Storing this message failed again and again; it was set aside.")
        for place, counters in enumerate(boxes):
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
            self._accept(lot, first)
        else:
            self._sort_out(lot, first)

    def _sort_out(self, lot: list[Draft], first: int) -> None:
        """Answer a lot of which some were known: what is there under its seq is new, the others are not."""
        rows = fetch(self._db, "SELECT seq FROM messages WHERE seq >= ?", (first,))
        new = {seq for (seq,) in rows}
        for seq, draft in enumerate(lot, first):
            if seq in new:
                self._accept([draft], seq)
                continue
            for mailbox in draft.message.mailboxes:
                counters = self._counts.of(mailbox)
                counters.unread -= 1
                counters.total -= 1
            known = self._known(draft)
            assert known is not None, "a message was neither stored nor known"
            draft.results[draft.place] = known

    def _accept(self, drafts: Sequence[Draft], first: int) -> None:
        """Answer messages that are stored under the seqs from `first` on."""
        add, now_us = self._tail.add, self._now_us
        for seq, draft in enumerate(drafts, first):
            draft.results[draft.place] = Result(seq=seq, stored_at_us=now_us)
            add(draft.message.mailboxes, seq)
        self.high = first + len(drafts) - 1

    def _known(self, draft: Draft) -> Result | None:
        row = self._db.execute(_SELECT_KNOWN, (draft.message.id, draft.sender)).fetchone()
        if row is None:
            return None
        seq, stored_at_us, recipients, content_type, reply_to, body = row
        names = msgpack.unpackb(recipients)[0]
        kept = Kept(seq, stored_at_us, names, TEXT if content_type is None else content_type, reply_to, body)
        return answer_known(kept, draft.message, draft.content)

    # --- the other commands -------------------------------------------------------------------------------

    def _execute(self, command: Command) -> Outcome:
        if isinstance(command, MarkMessages):
            self._index.take_in(command.mailbox)
            return self._mark(command)
        if isinstance(command, NoteDelivered):
            counters = self._counts.to_change(command.mailbox)
            through = min(command.through, self.high)  # what is not stored yet can't have been delivered
            counters.delivered_through = max(counters.delivered_through, through)
        elif isinstance(command, CloseMailbox):
            self._index.drop(command.mailbox, self.high)
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
        f" reply_to, body) VALUES {values('(?,?,?,?,?,?,?,?,?,?)', rows)} ON CONFLICT (id, sender) DO NOTHING"
    )
