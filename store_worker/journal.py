"""What the store asks of a storage: eight methods, and what they promise.

`store_worker.memory` keeps it in dictionaries, `store_worker.sqlite` on disk; PostgreSQL would be a third that
passes `tests/unit/store_worker/test_journal_contract.py`. All are called from one thread, and block.

Promises, beyond what each method says:

- *One order.* A commit gives seqs under a lock that it holds to its end, so that after a page which returned
  `through` = H no seq ≤ H ever appears (RULES 14). seqs increase, may have gaps, and are never given twice,
  also if the newest messages are gone; `stored_at_us` never goes back, whatever the clock does.
- *Once.* (sender, id) is unique for good. What comes again with the same content, set of recipients, content
  type and `reply_to` gets its first answer, with `again`; anything else is `id_conflict`. `sent_at_us` is not
  compared: it is the sender's clock, part of no decision, and a retry may have read it anew (RULES 12).
- *For all or for none.* A message whose id is known is answered before anything else is looked at. One that is
  new is refused as a whole: with its own `refusal`, with `unknown_recipient` if a mailbox was closed, with
  `mailbox_full`.

Errors:

    JournalError
    ├── RolledBack        nothing of this transaction is there: `storage_full` or `storage_failed`; or, where it was
    │                     several, perhaps a part: `unavailable`
    ├── OutcomeUnknown    it may or may not be there: end without answering, replay settles it (RULES 9)
    └── Unusable          in use elsewhere, damaged, not ours, not writable: don't serve; nothing was changed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from restante.wire import limits
from restante.wire.envelopes import Result, State
from restante.wire.store_link import (
    Command,
    CountMailbox,
    Failed,
    MailboxCounted,
    Message,
    Outcome,
    PageRead,
    ReadPage,
    ReadStatus,
    StatusRead,
)

SCAN_ROWS_MAX: Final = 10_000
"""Rows that one filtered page looks at, about 20 ms: who searches a large mailbox delays nobody for longer."""

PAGE_ROWS_MAX: Final = limits.CREDIT_MESSAGES_MAX
"""Messages of one page, whatever was asked for: no subscription can take more at once."""

PAGE_BYTES_MAX: Final = limits.CREDIT_BYTES_MAX
"""The same in bytes of content."""

STATUS_RECIPIENTS_MAX: Final = 50_000
"""Recipients in one answer about statuses: about 100 ms, and 2 MB on the wire."""


class JournalError(Exception):
    """A storage did not do as asked. `code` is for the wire, `text` for a person."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class RolledBack(JournalError):
    """Nothing of the transaction is there; with the code `unavailable`, perhaps a part of it."""


class OutcomeUnknown(JournalError):
    """The transaction may or may not be there."""


class Unusable(JournalError):
    """This storage can't be used, and was left as it is."""


class Started(Struct, frozen=True):
    """A start of the store."""

    epoch: int
    """Its number."""
    history: bytes
    """What its seqs belong to; 16 bytes."""
    high: int
    """The last seq given."""
    generations: Mapping[str, int]
    """The newest generation of every broker's name."""


class Write(Struct, frozen=True):
    """One batch: its commands in order, and the contents of all their messages in order."""

    commands: Sequence[Command]
    contents: Sequence[bytes]


class Written(Struct, frozen=True):
    """What became of a batch: an outcome for each command, and the high-water before it and after it."""

    base: int
    high: int
    outcomes: list[Outcome]


class Journal(Protocol):
    """A storage. Every method may raise JournalError."""

    def start(self) -> Started:
        """Count one start, durably, before anything else is asked. Epochs increase."""

    def open(self, name: str, nonce: bytes) -> int:
        """Count one open of a broker's name, durably, and return its generation.

        Where there is no room to count, it holds in this epoch, and is counted with the next commit: reading goes on.
        The nonce of the newest generation gives that generation again.
        """

    def commit(self, writes: Sequence[Write], now_us: int) -> list[Written]:
        """Execute batches, in order, in one transaction, and return when it is durable.

        `now_us` is wall time. Raises RolledBack or OutcomeUnknown: in no other way does it do less than all.
        A storage that looks for a message which kills it may make several transactions of one commit.
        """

    def page(self, query: ReadPage) -> tuple[PageRead, bytes]:
        """Return messages of a mailbox behind `after`, oldest first, and their contents one after the other.

        At least one and at most `limit`, ending before the content that would pass `bytes_max`. With `more`,
        `through` is the last seq looked at: a filtered page may be empty and say `more`. `history` is not
        looked at.
        """

    def status(self, query: ReadStatus) -> StatusRead | Failed:
        """Return how far messages of a sender have come, in the order asked.

        Past STATUS_RECIPIENTS_MAX the answer is Failed, `too_large`. A recipient whose mailbox was closed stays
        as it was: delivered, if that was noted, else stored.
        """

    def count(self, query: CountMailbox) -> MailboxCounted:
        """Return how much a mailbox holds. Costs the same however much that is."""

    def catch_up(self) -> bool:
        """Do a little of what commits left for later, some milliseconds' worth; return whether there is more.

        Nothing that is asked tells whether it was done.
        """

    def close(self) -> None:
        """Let go of everything, in order. Twice is harmless."""


class Kept(Struct, frozen=True):
    """What a known id is compared with, and answered."""

    seq: int
    stored_at_us: int
    names: Sequence[str]
    content_type: str
    reply_to: bytes | None
    body: bytes


def answer_known(kept: Kept, message: Message, content: bytes) -> Result:
    """Return what a message is answered whose (sender, id) was accepted before."""
    same = (
        kept.body == content
        and kept.content_type == message.content_type
        and kept.reply_to == message.reply_to
        and set(kept.names) == set(message.to)
    )
    if same:
        return Result(seq=kept.seq, stored_at_us=kept.stored_at_us, again=True)
    return Result(code="id_conflict", text="This id was accepted before with other content, recipients or metadata.")


def closed_result(name: str) -> Result:
    """Return the refusal of a message to an account that is gone."""
    return Result(code="unknown_recipient", text=f"There is no account {name!r} any more. The message went to nobody.")


def full_result(name: str) -> Result:
    """Return the refusal of a message to a mailbox that takes no more."""
    return Result(
        code="mailbox_full",
        text=f"The mailbox of {name!r} takes no more until it is read. The message went to nobody.",
    )


def too_many_recipients() -> Failed:
    """Return the refusal of a query about statuses whose answer would be too large."""
    return Failed(code="too_large", text="Too many recipients in one answer. Ask about fewer messages at once.")


def state_of(read: bool, seq: int, delivered_through: int) -> State:
    """Return how far a message has come with one recipient."""
    if read:
        return "read"
    return "delivered" if seq <= delivered_through else "stored"


def page_bounds(query: ReadPage) -> tuple[int, int]:
    """Return how many messages and how many bytes a page may have."""
    return max(1, min(query.limit, PAGE_ROWS_MAX)), min(query.bytes_max, PAGE_BYTES_MAX)
