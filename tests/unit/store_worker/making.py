"""Short ways to write down what a store is told."""

from __future__ import annotations

from collections.abc import Sequence

from restante.wire.envelopes import TEXT, Result
from restante.wire.store_link import (
    CountMailbox,
    MarkedMessages,
    MarkMessages,
    Message,
    PageRead,
    ReadPage,
    Stored,
    StoreMessages,
)
from store_worker.journal import Journal, Write, Written

NOW_US = 1_700_000_000_000_000
ALICE, BOB, EVE, DAN = 1, 2, 3, 4
NAMES = {ALICE: "alice", BOB: "bob", EVE: "eve", DAN: "dan"}


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def message(
    number: int,
    *mailboxes: int,
    body: bytes = b"hello",
    content_type: str = TEXT,
    reply_to: bytes | None = None,
    refusal: str = "",
    sent_at_us: int = 7,
    to: Sequence[str] = (),
) -> Message:
    """A message to those mailboxes, to bob's if none is said; `to` only where names have no mailbox."""
    where = list(mailboxes) or ([] if to else [BOB])
    return Message(
        id=id_of(number),
        to=list(to) or [NAMES.get(m, f"user{m}") for m in where],
        mailboxes=where,
        size=len(body),
        content_type=content_type,
        reply_to=reply_to,
        refusal=refusal,
        refusal_text=refusal and "no",
        sent_at_us=sent_at_us,
    )


def store(*messages: Message, sender: int = ALICE) -> StoreMessages:
    return StoreMessages.of(sender, NAMES.get(sender, f"user{sender}"), messages)


def write(*commands: object, body: bytes = b"hello") -> Write:
    """A batch; contents are `body` cut or repeated to each message's size."""
    contents = [
        (body * (m.size // max(1, len(body)) + 1))[: m.size]
        for c in commands
        if isinstance(c, StoreMessages)
        for m in c.messages
    ]
    return Write(commands, contents)  # type: ignore[arg-type]


def commit(journal: Journal, *commands: object, body: bytes = b"hello", now_us: int = NOW_US) -> Written:
    (written,) = journal.commit([write(*commands, body=body)], now_us)
    return written


def send(journal: Journal, *messages: Message, sender: int = ALICE, now_us: int = NOW_US) -> list[Result]:
    """Commit messages in one batch, return their results."""
    (stored,) = commit(journal, store(*messages, sender=sender), now_us=now_us).outcomes
    assert isinstance(stored, Stored)
    return stored.results


def mark(journal: Journal, mailbox: int, *seqs: int, ids: Sequence[bytes] = (), read: bool = True) -> MarkedMessages:
    (marked,) = commit(journal, MarkMessages(mailbox=mailbox, seqs=list(seqs), ids=list(ids), read=read)).outcomes
    assert isinstance(marked, MarkedMessages)
    return marked


def page(
    journal: Journal,
    mailbox: int = BOB,
    *,
    after: int = 0,
    limit: int = 1_000,
    bytes_max: int = 1 << 22,
    unread: bool = True,
    sender: str = "",
) -> PageRead:
    query = ReadPage(mailbox=mailbox, after=after, limit=limit, bytes_max=bytes_max, unread=unread, sender=sender)
    read, body = journal.page(query)
    assert sum(entry.size for entry in read.entries) == len(body)
    return read


def seqs(read: PageRead) -> list[int]:
    return [entry.seq for entry in read.entries]


def counted(journal: Journal, mailbox: int = BOB) -> tuple[int, int]:
    """Unread and total."""
    answer = journal.count(CountMailbox(mailbox=mailbox))
    return answer.unread, answer.total
