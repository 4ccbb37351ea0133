"""Reading the store's database: pages, statuses, counts.

A page first asks the index and the tail which seqs it is about, then steps through their messages until it is full: no
content is read that is not handed out, but for one. Where there is a tail it goes to SQLite as a list of seqs, so that
one statement merges, filters, counts and cuts what there is, wherever it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import apsw
import msgpack

from restante.wire.envelopes import TEXT, Entry, MessageStatus, RecipientState, State
from restante.wire.store_link import Failed, PageRead, ReadPage, ReadStatus, StatusRead
from store_worker.journal import SCAN_ROWS_MAX, STATUS_RECIPIENTS_MAX, page_bounds, state_of, too_many_recipients
from store_worker.sqlite_index import Index
from store_worker.sqlite_schema import fetch

Row = tuple[int, int]
"""A seq, and whether it is read."""

_UNREAD: Final = "SELECT seq, 0 AS read FROM deliveries WHERE mailbox = :mailbox AND read = 0 AND seq > :after"
_READ: Final = "SELECT seq, 1 AS read FROM deliveries WHERE mailbox = :mailbox AND read = 1 AND seq > :after"
_TAIL: Final = "SELECT value AS seq, 0 AS read FROM json_each(:tail)"
_ROWS: Final = {True: _UNREAD, False: f"{_UNREAD} UNION ALL {_READ}"}
"""By whether only unread ones are wanted. Both ranges come in the order of seq: SQLite merges, and sorts nothing but
the tail, which is short."""

_MESSAGES: Final = """
    SELECT m.seq, m.id, m.sender_name, m.recipients, m.content_type, m.sent_at_us, m.stored_at_us, m.reply_to, m.body
    FROM json_each(?) AS wanted LEFT JOIN messages AS m ON m.seq = wanted.value
"""
"""In the order of the list, and read as far as the cursor is."""
_SENT: Final = "SELECT seq, stored_at_us, recipients FROM messages WHERE id = ? AND sender = ?"
_READ_AT: Final = "SELECT read_at_us FROM deliveries WHERE mailbox = ? AND read = 1 AND seq = ?"


class Reads:
    """The queries of one connection. Every method may raise apsw.Error."""

    def __init__(self, db: apsw.Connection, index: Index) -> None:
        self._db = db
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
        tail = list(self._tail.behind(query.mailbox, query.after))
        rows = f"{_ROWS[query.unread]} UNION ALL {_TAIL}" if tail else _ROWS[query.unread]
        span: dict[str, int | str | bytes] = {"mailbox": query.mailbox, "after": query.after, "tail": str(tail)}
        if not query.sender:
            return fetch(self._db, f"{rows} ORDER BY seq LIMIT :rows", {**span, "rows": limit + 1}), None
        last = fetch(self._db, f"{rows} ORDER BY seq LIMIT 2 OFFSET {SCAN_ROWS_MAX - 1}", span)
        through = last[0][0] if len(last) == 2 else None
        found = fetch(
            self._db,
            f"SELECT d.seq, d.read FROM ({rows} ORDER BY seq LIMIT {SCAN_ROWS_MAX}) AS d CROSS JOIN messages m"
            " ON m.seq = d.seq WHERE m.sender_name = :sender ORDER BY d.seq LIMIT :rows",
            {**span, "sender": query.sender, "rows": limit + 1},
        )
        return found, through

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
        read = self._db.execute(_READ_AT, (mailbox, seq)).fetchone()
        state = state_of(read is not None, seq, self._mailboxes.of(mailbox).delivered_through)
        at_us = {"read": read[0] if read else 0, "delivered": 0, "stored": stored_at_us}[state]
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
