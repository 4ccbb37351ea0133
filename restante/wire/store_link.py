"""What the broker and the store say to each other: `[b"STORE/1", header, body]` over PUSH/PULL, one pair each way.

PUSH/PULL loses what is in its pipes when a peer dies; this link does not, because of what is said on it (RULES 6–9):

    broker                                   store
      │ ── open(name, nonce) ──────────────▶ │  counts its starts (epoch) and the opens of a name (generation), durably
      │ ◀────── opened(nonce, epoch, …) ──── │
      │ ── batch 1, 2, 3 … ────────────────▶ │  executes only last + 1; answers what it has executed again
      │ ◀──────────────── confirmed 1, 2 … ─ │  after the commit
      │ ── query ──────────────────────────▶ │  not numbered: it changes nothing
      │ ◀──────────────────────── answered ─ │
      │ ── beat ───────────────────────────▶ │
      │ ◀──────────────── beat, or closed ── │  closed: not my epoch, or a newer generation: open again

A broker that opens again sends every unconfirmed batch first, in order, numbered from 1 under the new generation.
Commands of one batch are executed in their order, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from restante.wire.columns import columns_of, results_of
from restante.wire.envelopes import TEXT, ApartResult, Entry, MessageStatus, Result
from restante.wire.fields import ContentType, Count, Id16, Name, Seq, Text, TimeUs

BrokerName = Annotated[str, Meta(min_length=1, max_length=64, description="A broker's name for itself, durable.")]


class Link(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type"):
    """What all headers of this link have in common."""


# --- commands: the parts of a batch -----------------------------------------------------------------------


class Message(Struct, frozen=True, kw_only=True):
    """One message to store, with its recipients resolved. It travels as a place in a `StoreMessages`' columns."""

    id: bytes
    to: list[str]
    """Names, each once, in the sender's order; with a refusal also those that have no account."""
    mailboxes: list[int]
    """The account numbers of `to`, in its order; empty with a refusal."""
    size: int
    content_type: str = TEXT
    sent_at_us: int = 0
    reply_to: bytes | None = None
    refusal: str = ""
    """If set, a code: unless (sender, id) is known already, answer with this and store nothing (RULES 12)."""
    refusal_text: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is to one recipient, and all that is said of it is in the columns."""
        return len(self.to) == len(self.mailboxes) == 1 and self.reply_to is None and not self.refusal


class Apart(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What there is to say of a message that is not plain."""

    place: Count
    """Of the message in the columns, from 0."""
    to: list[Name]
    mailboxes: list[Count]
    reply_to: Id16 | None = None
    refusal: str = ""
    refusal_text: Text = ""


class StoreMessages(Link, frozen=True, omit_defaults=True, kw_only=True, tag="store"):
    """One client's envelope, by columns: what is said of a message stands at its place in each. → `Stored`.

    Its contents lie in the batch's body in order. Nearly all messages are plain, and a list of numbers is read in a
    fifth of the time that as many objects with a number each are.
    """

    sender: Count
    sender_name: Name
    ids: list[Id16]
    to: list[Name]
    """The recipient of each that is plain; of others, one of them, or ""."""
    mailboxes: list[Count]
    """The account number of each that is plain; 0 of others."""
    sizes: list[Count]
    sent_at_us: list[TimeUs]
    content_types: list[ContentType] = []
    """Empty, if all are `TEXT`."""
    apart: list[Apart] = []
    """Those that are not plain, in the order of their places."""

    @classmethod
    def of(cls, sender: int, sender_name: str, messages: Sequence[Message]) -> StoreMessages:
        """Return the columns of some messages."""
        types = [m.content_type for m in messages]
        return cls(
            sender=sender,
            sender_name=sender_name,
            ids=[m.id for m in messages],
            to=[m.to[0] if m.to else "" for m in messages],
            mailboxes=[m.mailboxes[0] if m.plain else 0 for m in messages],
            sizes=[m.size for m in messages],
            sent_at_us=[m.sent_at_us for m in messages],
            content_types=[] if types.count(TEXT) == len(types) else types,
            apart=[_apart(place, m) for place, m in enumerate(messages) if not m.plain],
        )

    @property
    def messages(self) -> list[Message]:
        """The messages one by one, made anew each time: for who has few, or is in no hurry."""
        apart = {each.place: each for each in self.apart}
        return [self.message(place, apart.get(place)) for place in range(len(self.ids))]

    def message(self, place: int, said: Apart | None) -> Message:
        """One message; `said` is what `apart` says of it."""
        said = said or Apart(place=place, to=[self.to[place]], mailboxes=[self.mailboxes[place]])
        return Message(
            id=self.ids[place],
            to=said.to,
            mailboxes=said.mailboxes,
            size=self.sizes[place],
            content_type=self.content_types[place] if self.content_types else TEXT,
            sent_at_us=self.sent_at_us[place],
            reply_to=said.reply_to,
            refusal=said.refusal,
            refusal_text=said.refusal_text,
        )


def _apart(place: int, m: Message) -> Apart:
    return Apart(
        place=place,
        to=m.to,
        mailboxes=m.mailboxes,
        reply_to=m.reply_to,
        refusal=m.refusal,
        refusal_text=m.refusal_text,
    )


class MarkMessages(Link, frozen=True, omit_defaults=True, kw_only=True, tag="mark"):
    """Mark read or unread. → `MarkedMessages`."""

    mailbox: Count
    seqs: list[Seq] = []
    ids: list[Id16] = []
    read: bool = True


class NoteDelivered(Link, frozen=True, omit_defaults=True, kw_only=True, tag="delivered"):
    """Everything of a mailbox through this seq has been handed to its owner. → `Noted`."""

    mailbox: Count
    through: Seq


class CloseMailbox(Link, frozen=True, omit_defaults=True, kw_only=True, tag="close_mailbox"):
    """The account is gone: its deliveries go, its sent messages stay with their other recipients. → `Noted`."""

    mailbox: Count


Command = StoreMessages | MarkMessages | NoteDelivered | CloseMailbox


class Stored(Link, frozen=True, omit_defaults=True, kw_only=True, tag="stored"):
    """What became of each message of a `StoreMessages`, by its place."""

    seqs: list[Seq]
    """The seq of each that is accepted; 0 of those that are refused."""
    stored_at_us: TimeUs = 0
    """Of all that were stored now."""
    apart: list[ApartResult] = []
    """What became of those that were not stored now, in the order of their places."""

    @classmethod
    def of(cls, results: Sequence[Result]) -> Stored:
        """Return the columns of some results."""
        seqs, stored_at_us, apart = columns_of(results)
        return cls(seqs=seqs, stored_at_us=stored_at_us, apart=apart)

    @property
    def results(self) -> list[Result]:
        """The results one by one."""
        return results_of(self.seqs, self.stored_at_us, self.apart)


class MarkedMessages(Link, frozen=True, omit_defaults=True, kw_only=True, tag="marked"):
    """What changed, and what the mailbox does not hold."""

    changed: list[Seq] = []
    unknown_seqs: list[Seq] = []
    unknown_ids: list[Id16] = []


class Noted(Link, frozen=True, omit_defaults=True, kw_only=True, tag="noted"):
    """Done."""


Outcome = Stored | MarkedMessages | Noted


# --- queries ----------------------------------------------------------------------------------------------


class ReadPage(Link, frozen=True, omit_defaults=True, kw_only=True, tag="read_page"):
    """→ `PageRead` and the contents in the body."""

    mailbox: Count
    after: Seq = 0
    limit: Count
    bytes_max: Count
    unread: bool = True
    sender: Name = ""
    history: Id16 | None = None
    """If it is not the store's, the answer is `Failed(history_changed)`."""


class ReadStatus(Link, frozen=True, omit_defaults=True, kw_only=True, tag="read_status"):
    """→ `StatusRead`."""

    sender: Count
    ids: list[Id16]


class CountMailbox(Link, frozen=True, omit_defaults=True, kw_only=True, tag="count_mailbox"):
    """→ `MailboxCounted`."""

    mailbox: Count


Query = ReadPage | ReadStatus | CountMailbox


class PageRead(Link, frozen=True, omit_defaults=True, kw_only=True, tag="page_read"):
    """Every message asked for in (after, through] is in it. Without `more`, through is the store's high-water."""

    entries: list[Entry]
    through: Seq
    more: bool


class StatusRead(Link, frozen=True, omit_defaults=True, kw_only=True, tag="status_read"):
    """A status an id, in the order asked."""

    messages: list[MessageStatus]


class MailboxCounted(Link, frozen=True, omit_defaults=True, kw_only=True, tag="mailbox_counted"):
    """How much a mailbox holds."""

    unread: Count
    total: Count


class Failed(Link, frozen=True, omit_defaults=True, kw_only=True, tag="failed"):
    """A query that got no answer; a code of the table of codes."""

    code: str
    text: Text = ""


Reading = PageRead | StatusRead | MailboxCounted | Failed


# --- the link ---------------------------------------------------------------------------------------------


class Open(Link, frozen=True, omit_defaults=True, kw_only=True, tag="open"):
    """Broker: I am `name`; begin anew. Repeated with the same nonce until it is answered."""

    name: BrokerName
    nonce: Id16


class Opened(Link, frozen=True, omit_defaults=True, kw_only=True, tag="opened"):
    """Store: these counters are durable; send batch 1 of this generation next."""

    nonce: Id16
    epoch: Count
    generation: Count
    history: Id16
    high: Seq
    """The last seq given: the high-water."""


class Batch(Link, frozen=True, omit_defaults=True, kw_only=True, tag="batch"):
    """Broker: the n-th batch of (epoch, name, generation)."""

    epoch: Count
    name: BrokerName
    generation: Count
    n: Count
    commands: list[Command]


class Confirmed(Link, frozen=True, omit_defaults=True, kw_only=True, tag="confirmed"):
    """Store: batch n is on disk; an outcome for each command, in order."""

    epoch: Count
    generation: Count
    n: Count
    base: Seq
    """The high-water before this batch: a broker that expected another has missed somebody else's messages."""
    high: Seq
    outcomes: list[Outcome]


class Aborted(Link, frozen=True, omit_defaults=True, kw_only=True, tag="aborted"):
    """Store: batch n was rolled back, and nothing after it will be until the link is opened again."""

    epoch: Count
    generation: Count
    n: Count
    code: str
    text: Text = ""


class Expecting(Link, frozen=True, omit_defaults=True, kw_only=True, tag="expecting"):
    """Store: a batch was discarded, because n is next."""

    epoch: Count
    generation: Count
    n: Count


class Closed(Link, frozen=True, omit_defaults=True, kw_only=True, tag="closed"):
    """Store: what was said was of another epoch, or of a generation that a newer one fenced."""

    epoch: Count
    """The store's own."""
    generation: Count
    """The newest of that broker's name."""
    fenced: bool = False
    """True if a newer generation of the name exists: the older broker stops serving."""


class Ask(Link, frozen=True, omit_defaults=True, kw_only=True, tag="ask"):
    """Broker: a query, numbered by it."""

    epoch: Count
    name: BrokerName
    generation: Count
    n: Count
    query: Query


class Answered(Link, frozen=True, omit_defaults=True, kw_only=True, tag="answered"):
    """Store: the answer to the query of that number."""

    epoch: Count
    generation: Count
    n: Count
    history: Id16
    reading: Reading


class Beat(Link, frozen=True, omit_defaults=True, kw_only=True, tag="beat"):
    """A sign of life, answered with the same."""

    epoch: Count
    name: BrokerName
    generation: Count


ToStore = Open | Batch | Ask | Beat
FromStore = Opened | Confirmed | Aborted | Expecting | Closed | Answered | Beat
