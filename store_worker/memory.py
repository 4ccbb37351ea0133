"""The journal in dictionaries: for tests, and for the simulation, where it plays the disk that outlives a
crash.

It keeps the promises of `store_worker.journal` plainly and not fast. A commit either happens or, if a test
has set `fail_next`, raises that and leaves nothing behind.
"""

from __future__ import annotations

import copy
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct, field

from restante.wire.envelopes import Entry, MessageStatus, RecipientState, Result
from restante.wire.limits import MAILBOX_UNREAD_MAX
from restante.wire.store_link import (
    CloseMailbox,
    Command,
    CountMailbox,
    Failed,
    MailboxCounted,
    MarkedMessages,
    MarkMessages,
    Message,
    Noted,
    NoteDelivered,
    Outcome,
    PageRead,
    ReadPage,
    ReadStatus,
    StatusRead,
    Stored,
    StoreMessages,
)
from store_worker.journal import (
    SCAN_ROWS_MAX,
    STATUS_RECIPIENTS_MAX,
    JournalError,
    Kept,
    Started,
    Write,
    Written,
    answer_known,
    closed_result,
    full_result,
    page_bounds,
    state_of,
    too_many_recipients,
)


class Mail(Struct, frozen=True):
    """A stored message."""

    seq: int
    sender: int
    sender_name: str
    message: Message
    body: bytes
    stored_at_us: int

    def kept(self) -> Kept:
        """Return what a repetition is compared with."""
        m = self.message
        return Kept(self.seq, self.stored_at_us, m.to, m.content_type, m.reply_to, self.body)


class Mailbox(Struct):
    """The deliveries of one account."""

    seqs: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    read_at_us: dict[int, int] = field(default_factory=dict)
    delivered_through: int = 0
    closed: bool = False


class MemoryJournal:
    """A journal that lasts as long as the object."""

    def __init__(self, *, history: bytes = bytes(16), unread_max: int = MAILBOX_UNREAD_MAX) -> None:
        self._history = history
        self._unread_max = unread_max
        self._epoch = 0
        self._high = 0
        self._stored_at_us = 0
        self._mail: dict[int, Mail] = {}
        self._by_id: dict[bytes, dict[int, Mail]] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._brokers: dict[str, tuple[int, bytes]] = {}
        self.fail_next: JournalError | None = None

    def start(self) -> Started:
        self._epoch += 1
        generations = {name: generation for name, (generation, _) in self._brokers.items()}
        return Started(self._epoch, self._history, self._high, generations)

    def open(self, name: str, nonce: bytes) -> int:
        self._fail_if_told()
        generation, last = self._brokers.get(name, (0, b""))
        if nonce != last:
            generation += 1
            self._brokers[name] = (generation, nonce)
        return generation

    def commit(self, writes: Sequence[Write], now_us: int) -> list[Written]:
        self._fail_if_told()
        self._stored_at_us = max(self._stored_at_us, now_us)
        return [self._write(write) for write in writes]

    def page(self, query: ReadPage) -> tuple[PageRead, bytes]:
        box = self._mailboxes.get(query.mailbox, Mailbox())
        limit, bytes_max = page_bounds(query)
        entries: list[Entry] = []
        bodies: list[bytes] = []
        through, scanned, size = query.after, 0, 0
        for mail in self._behind(box.unread if query.unread else box.seqs, query.after):
            wanted = query.sender in ("", mail.sender_name)
            full = len(entries) == limit or (entries and size + len(mail.body) > bytes_max)
            if scanned == SCAN_ROWS_MAX or (wanted and full):
                return PageRead(entries=entries, through=through, more=True), b"".join(bodies)
            scanned += bool(query.sender)
            through = mail.seq
            if wanted:
                entries.append(self._entry(mail, box))
                bodies.append(mail.body)
                size += len(mail.body)
        return PageRead(entries=entries, through=self._high, more=False), b"".join(bodies)

    def status(self, query: ReadStatus) -> StatusRead | Failed:
        mails = [self._by_id.get(message_id, {}).get(query.sender) for message_id in query.ids]
        if sum(len(mail.message.to) for mail in mails if mail) > STATUS_RECIPIENTS_MAX:
            return too_many_recipients()
        return StatusRead(
            messages=[
                self._message_status(mail) if mail else MessageStatus(id=message_id)
                for message_id, mail in zip(query.ids, mails, strict=True)
            ]
        )

    def count(self, query: CountMailbox) -> MailboxCounted:
        box = self._mailboxes.get(query.mailbox, Mailbox())
        return MailboxCounted(unread=len(box.unread), total=len(box.seqs))

    def catch_up(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def clone(self) -> MemoryJournal:
        """Return a copy as a backup would be: what happens to one does not happen to the other."""
        return copy.deepcopy(self)

    # --- writing ------------------------------------------------------------------------------------------

    def _fail_if_told(self) -> None:
        error, self.fail_next = self.fail_next, None
        if error is not None:
            raise error

    def _write(self, write: Write) -> Written:
        base = self._high
        contents = iter(write.contents)
        outcomes = [self._execute(command, contents) for command in write.commands]
        return Written(base, self._high, outcomes)

    def _execute(self, command: Command, contents: Iterator[bytes]) -> Outcome:
        if isinstance(command, StoreMessages):
            return Stored.of([self._store(command, m, next(contents)) for m in command.messages])
        if isinstance(command, MarkMessages):
            return self._mark(command)
        box = self._mailboxes.setdefault(command.mailbox, Mailbox())
        if isinstance(command, NoteDelivered):
            box.delivered_through = max(box.delivered_through, min(command.through, self._high))
        elif isinstance(command, CloseMailbox):
            self._mailboxes[command.mailbox] = Mailbox(closed=True, delivered_through=box.delivered_through)
        return Noted()

    def _store(self, command: StoreMessages, message: Message, content: bytes) -> Result:
        known = self._by_id.get(message.id, {}).get(command.sender)
        if known is not None:
            return answer_known(known.kept(), message, content)
        if message.refusal:
            return Result(code=message.refusal, text=message.refusal_text)
        boxes = [self._mailboxes.setdefault(mailbox, Mailbox()) for mailbox in message.mailboxes]
        for name, box in zip(message.to, boxes, strict=True):
            if box.closed:
                return closed_result(name)
            if len(box.unread) >= self._unread_max:
                return full_result(name)
        self._high += 1
        mail = Mail(self._high, command.sender, command.sender_name, message, content, self._stored_at_us)
        self._mail[mail.seq] = mail
        self._by_id.setdefault(message.id, {})[command.sender] = mail
        for box in boxes:
            box.seqs.append(mail.seq)
            box.unread.append(mail.seq)
        return Result(seq=mail.seq, stored_at_us=mail.stored_at_us)

    def _mark(self, command: MarkMessages) -> MarkedMessages:
        box = self._mailboxes.get(command.mailbox, Mailbox())
        held = set(box.seqs)
        seqs, unknown_ids = list(command.seqs), []
        for message_id in command.ids:
            found = sorted(m.seq for m in self._by_id.get(message_id, {}).values() if m.seq in held)
            seqs += found
            if not found:
                unknown_ids.append(message_id)
        unknown = [seq for seq in seqs if seq not in held]
        changed = [seq for seq in seqs if seq in held and self._mark_one(box, seq, command.read)]
        return MarkedMessages(changed=changed, unknown_seqs=unknown, unknown_ids=unknown_ids)

    def _mark_one(self, box: Mailbox, seq: int, read: bool) -> bool:
        if (seq in box.read_at_us) == read:
            return False
        if read:
            box.read_at_us[seq] = self._stored_at_us
            box.unread.remove(seq)
        else:
            del box.read_at_us[seq]
            insort(box.unread, seq)
        return True

    # --- reading ------------------------------------------------------------------------------------------

    def _behind(self, seqs: list[int], after: int) -> Iterator[Mail]:
        return (self._mail[seq] for seq in islice(seqs, bisect_right(seqs, after), None))

    def _entry(self, mail: Mail, box: Mailbox) -> Entry:
        message = mail.message
        return Entry(
            seq=mail.seq,
            id=message.id,
            sender=mail.sender_name,
            to=message.to,
            size=len(mail.body),
            stored_at_us=mail.stored_at_us,
            content_type=message.content_type,
            sent_at_us=message.sent_at_us,
            reply_to=message.reply_to,
            state=state_of(mail.seq in box.read_at_us, mail.seq, box.delivered_through),
        )

    def _message_status(self, mail: Mail) -> MessageStatus:
        states = []
        for name, mailbox in zip(mail.message.to, mail.message.mailboxes, strict=True):
            box = self._mailboxes[mailbox]
            read_at_us = box.read_at_us.get(mail.seq)
            state = state_of(read_at_us is not None, mail.seq, box.delivered_through)
            at_us = {"read": read_at_us or 0, "delivered": 0, "stored": mail.stored_at_us}[state]
            states.append(RecipientState(name=name, state=state, state_at_us=at_us))
        return MessageStatus(id=mail.message.id, seq=mail.seq, stored_at_us=mail.stored_at_us, recipients=states)
