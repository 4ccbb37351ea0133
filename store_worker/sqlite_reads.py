"""Reading the store's database: pages, statuses, counts.

A page first asks the index and the tail which seqs it is about, then steps through their messages until it is full: no
content is read that is not handed out, but for one.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import repeat
from typing import Any, Final

import apsw
import msgpack

from restante.wire.envelopes import TEXT, Entry, MessageStatus, RecipientState, State
from restante.wire.store_link import Failed, PageRead, ReadPage, ReadStatus, StatusRead
from store_worker.journal import SCAN_ROWS_MAX, STATUS_RECIPIENTS_MAX, page_bounds, state_of, too_many_recipients
from store_worker.sqlite_index import Index
from store_worker.sqlite_runs import Row
from store_worker.sqlite_schema import fetch

_MESSAGES: Final = """
    SELECT m.seq, m.id, m.sender_name, m.recipients, m.content_type, m.sent_at_us, m.stored_at_us, m.reply_to, m.body
    FROM json_each(?) AS wanted LEFT JOIN messages AS m ON m.seq = wanted.value
"""
"""In the order of the list, and read as far as the cursor is."""
_SENT: Final = "SELECT seq, stored_at_us, recipients FROM messages WHERE id = ? AND sender = ?"
_FROM: Final = """
    SELECT m.seq FROM json_each(?) AS wanted CROSS JOIN messages AS m ON m.seq = wanted.value WHERE m.sender_name = ?
    LIMIT ?
"""


class Reads:
    """The queries of one connection. Every method may raise apsw.Error."""

    def __init__(self, db: apsw.Connection, index: Index) -> None:
        self._db = db
        self._runs = index.runs
        self._tail = index.tail
        self._mailboxes = index.mailboxes

    def page(self, query: ReadPage, high: int) -> tuple[PageRead, bytes]:
        """Return the page that `Journal.page` describes; `high` is the high-water."""
        delivered_through = self._mailboxes.of(query.mailbox).delivered_through
        limit, bytes_max = page_bounds(query)
        rows, through = self._rows(query, limit)
        entries: list[Entry] = []
        bodies: list[bytes] = []
        size = 0
        messages = self._db.execute(_MESSAGES, (str([seq for seq, _ in rows]),))
        for (seq, read), message in zip(rows, messages, strict=True):
            assert message[0] == seq, f"the delivery of {seq} has no message"
            entry, body = _entry(message, state_of(bool(read), seq, delivered_through))
            size += len(body)
            if len(entries) == limit or (entries and size > bytes_max):
                messages.close()
                return PageRead(entries=entries, through=entries[-1].seq, more=True), b"".join(bodies)
            entries.append(entry)
            bodies.append(body)
        more = through is not None
        page = PageRead(entries=entries, through=high if through is None else through, more=more)
        return page, b"".join(bodies)

    def _rows(self, query: ReadPage, limit: int) -> tuple[list[Row], int | None]:
        """Return what the page is about, one more than it may hold, and where looking ended if not at the end."""
        if not query.sender:
            return self._behind(query, limit + 1), None
        rows = self._behind(query, SCAN_ROWS_MAX + 1)
        through = rows[SCAN_ROWS_MAX - 1][0] if len(rows) > SCAN_ROWS_MAX else None
        read = dict(rows[:SCAN_ROWS_MAX])
        found = fetch(self._db, _FROM, (str(list(read)), query.sender, limit + 1))
        return [(seq, read[seq]) for (seq,) in found], through

    def _behind(self, query: ReadPage, count: int) -> list[Row]:
        """The first of a mailbox, or of its unread: what the runs say, and behind that the tail, all of it unread."""
        rows = self._runs.behind(query.mailbox, query.after, count, unread=query.unread)
        tail = self._tail.behind(query.mailbox, query.after)
        rows += zip(tail[: count - len(rows)], repeat(0))
        return rows

    def status(self, query: ReadStatus) -> StatusRead | Failed:
        """Return the statuses that `Journal.status` describes."""
        messages: list[MessageStatus] = []
        recipients = 0
        for message_id in query.ids:
            row = self._db.execute(_SENT, (message_id, query.sender)).fetchone()
            if row is None:
                messages.append(MessageStatus(id=message_id))
                continue
            seq, stored_at_us, packed = row
            names, mailboxes = msgpack.unpackb(packed)
            recipients += len(names)
            if recipients > STATUS_RECIPIENTS_MAX:
                return too_many_recipients()
            states = [
                self._state(name, mailbox, seq, stored_at_us) for name, mailbox in zip(names, mailboxes, strict=True)
            ]
            messages.append(MessageStatus(id=message_id, seq=seq, stored_at_us=stored_at_us, recipients=states))
        return StatusRead(messages=messages)

    def _state(self, name: str, mailbox: int, seq: int, stored_at_us: int) -> RecipientState:
        read_at_us = self._runs.read_at_us(mailbox, seq)
        state = state_of(read_at_us is not None, seq, self._mailboxes.of(mailbox).delivered_through)
        at_us = {"read": read_at_us or 0, "delivered": 0, "stored": stored_at_us}[state]
        return RecipientState(name=name, state=state, state_at_us=at_us)


def _entry(message: tuple[Any, ...], state: State) -> tuple[Entry, bytes]:
    seq, message_id, sender, recipients, content_type, sent_at_us, stored_at_us, reply_to, body = message
    entry = Entry(
        seq=seq,
        id=message_id,
        sender=sender,
        to=_names(recipients),
        size=len(body),
        stored_at_us=stored_at_us,
        content_type=TEXT if content_type is None else content_type,
        sent_at_us=sent_at_us,
        reply_to=reply_to,
        state=state,
    )
    return entry, body


@lru_cache(maxsize=16)
def _names(recipients: bytes) -> list[str]:
    """The names of packed recipients. Most messages of a mailbox have the same: its owner alone."""
    names: list[str] = msgpack.unpackb(recipients)[0]
    return names
