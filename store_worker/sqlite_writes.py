"""One transaction's writes: many batches into few statements.

Messages go in lots of up to LOT rows, `ON CONFLICT (id, sender) DO NOTHING`. Where fewer rows came of a lot than were
offered, it is looked up which ones did, and the others are answered from what they collided with; only rows that are
there keep their deliveries. So nothing but this one conflict is ever passed over in silence, and no delivery is
orphaned (RULES 15). Deliveries go to the tail, and from there to the index when it suits (`store_worker.sqlite_index`);
a mailbox's own go there before it is marked or closed.

What must be decided before a row can be offered (a refusal, a closed or a full mailbox) is decided message by message,
against counts that are exact at that moment. Nearly all messages are plain: sound, to one mailbox that has something in
the tail and room for more. For those one look says so.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import cache
from typing import Final

import apsw
import msgpack
import msgspec

from restante.wire.envelopes import TEXT, ApartResult, Result
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
from store_worker.sqlite_index import Index
from store_worker.sqlite_mailboxes import Mailbox
from store_worker.sqlite_schema import LOT, Bindings, fetch

_pack: Final = msgspec.msgpack.Encoder().encode


class Lots:
    """One envelope, and what is known so far of what became of its messages, from the first on."""

    __slots__ = ("_apart", "command", "contents", "others", "seqs")

    def __init__(self, command: StoreMessages, contents: Sequence[bytes]) -> None:
        self.command = command
        self.contents = contents
        self.seqs: list[int] = []
        """As `Stored` has them."""
        self.others: list[ApartResult] = []
        self._apart = {each.place: each for each in command.apart}

    def message(self, place: int) -> Message:
        """One message, for who must look at all that is said of it."""
        return self.command.message(place, self._apart.get(place))

    def tell(self, result: Result) -> None:
        """The next message is not stored now."""
        self.others.append(ApartResult(place=len(self.seqs), result=result))
        self.seqs.append(result.seq)


class Writer:
    """Executes the batches of one transaction, which its caller begins and ends."""

    def __init__(
        self, db: apsw.Connection, index: Index, high: int, now_us: int, poison: Set[tuple[bytes, int]]
    ) -> None:
        self.high = high
        self._db = db
        self._index = index
        self._tail = index.tail
        self._mailboxes = index.mailboxes
        self._now_us = now_us
        self._poison = poison

    def write(self, write: Write) -> Written:
        """Execute one batch. Raises apsw.Error."""
        base, at = self.high, 0
        outcomes: list[Outcome] = []
        for command in write.commands:
            if isinstance(command, StoreMessages):
                end = at + len(command.ids)
                outcomes.append(self._store(command, write.contents[at:end]))
                at = end
            else:
                outcomes.append(self._execute(command))
        return Written(base, self.high, outcomes)

    def finish(self) -> None:
        """Write what is written once a transaction. Raises apsw.Error."""
        self._index.follow(self.high)
        indexed = self._index.save(self.high)
        self._db.execute("UPDATE meta SET high = ?, stored_at_us = ?, indexed = ?", (self.high, self._now_us, indexed))

    # --- messages -----------------------------------------------------------------------------------------

    def _store(self, command: StoreMessages, contents: Sequence[bytes]) -> Stored:
        """Store one envelope's messages, and say what became of each."""
        lots = Lots(command, contents)
        while len(lots.seqs) < len(command.ids):
            self._store_lot(lots)
        any_new = len(lots.others) < len(lots.seqs)
        return Stored(seqs=lots.seqs, stored_at_us=self._now_us if any_new else 0, apart=lots.others)

    def _store_lot(self, lots: Lots) -> None:
        """Store the messages that have no result yet: LOT of them, or as far as the first that is not taken.

        Each is given the next seq and its deliveries before the statement that may find it known (`_sort_out`). One
        that is not taken is looked at again when it is the first: what went before it may be the same id, or a
        repetition that was counted as new.
        """
        command, known, poison = lots.command, self._mailboxes.known, self._poison
        start, seq, plain = len(lots.seqs), self.high, 0
        recipients: list[bytes] = []
        replies: list[tuple[int, bytes]] = []
        end = min(start + LOT, len(command.ids))
        rows = zip(range(start, end), command.mailboxes[start:end], command.to[start:end], strict=True)
        for place, number, name in rows:
            mailbox = known.get(number)
            seq += 1
            if mailbox is None or len(mailbox.tail) >= mailbox.plain_until or poison:
                message = lots.message(place)
                refused = self._take(message, command.sender, seq)
                if refused is not None:
                    seq -= 1
                    if place == start:
                        lots.tell(self._known(command.sender, message, lots.contents[place]) or refused)
                    break
                recipients.append(_pack((message.to, message.mailboxes)))
                if message.reply_to is not None:
                    replies.append((place - start, message.reply_to))
            else:
                mailbox.tail.append(seq)
                plain += 1
                recipients.append(mailbox.recipients if name == mailbox.name else _label(mailbox, name))
        self._tail.grew(plain)
        if recipients:
            self._offer(lots, recipients, replies)

    def _offer(self, lots: Lots, recipients: list[bytes], replies: list[tuple[int, bytes]]) -> None:
        """Put the lot's messages into the log, of which some may be there already."""
        command, offered = lots.command, len(recipients)
        start = len(lots.seqs)
        end, high = start + offered, self.high
        bindings: Bindings = [None] * (HEAD_VALUES + ROW_VALUES * offered)
        bindings[:HEAD_VALUES] = command.sender, command.sender_name, self._now_us, high + 1
        bindings[ID::ROW_VALUES] = command.ids[start:end]
        bindings[RECIPIENTS::ROW_VALUES] = recipients
        if command.content_types:
            bindings[TYPE::ROW_VALUES] = [None if each == TEXT else each for each in command.content_types[start:end]]
        bindings[SENT_AT::ROW_VALUES] = command.sent_at_us[start:end]
        for row, reply_to in replies:
            bindings[REPLY_TO + ROW_VALUES * row] = reply_to
        bindings[BODY::ROW_VALUES] = lots.contents[start:end]
        self._db.execute(_insert_messages(offered), bindings)
        if self._db.changes() == offered:
            self.high += offered
            lots.seqs += range(high + 1, high + 1 + offered)
        else:
            self._sort_out(lots, offered)

    def _take(self, message: Message, sender: int, seq: int) -> Result | None:
        """Deliver any message, or say why it is refused."""
        if message.refusal:
            return Result(code=message.refusal, text=message.refusal_text)
        if (message.id, sender) in self._poison:
            return Result(code="poison", text="Storing this message failed again and again; it was set aside.")
        mailboxes = self._mailboxes_of(message)
        for name, mailbox in zip(message.to, mailboxes, strict=True):
            if mailbox.closed:
                return closed_result(name)
            if self._mailboxes.full(mailbox):
                return full_result(name)
        for mailbox in mailboxes:
            self._mailboxes.deliver(mailbox, seq)
        return None

    def _sort_out(self, lots: Lots, offered: int) -> None:
        """Put right what was offered, of which some were known: who is there under its seq is new."""
        first, start = self.high + 1, len(lots.seqs)
        rows = fetch(self._db, "SELECT seq FROM messages WHERE seq >= ?", (first,))
        new = {seq for (seq,) in rows}
        messages = [lots.message(place) for place in range(start, start + offered)]
        for index in reversed(range(offered)):
            for mailbox in self._mailboxes_of(messages[index]):
                self._mailboxes.take_back(mailbox, first + index)
        for seq, message in enumerate(messages, first):
            if seq in new:
                self.high = seq
                for mailbox in self._mailboxes_of(message):
                    self._mailboxes.deliver(mailbox, seq)
                lots.seqs.append(seq)
            else:
                known = self._known(lots.command.sender, message, lots.contents[len(lots.seqs)])
                assert known is not None, "a message was neither stored nor known"
                lots.tell(known)

    def _mailboxes_of(self, message: Message) -> list[Mailbox]:
        return [self._mailboxes.of(number) for number in message.mailboxes]

    def _known(self, sender: int, message: Message, content: bytes) -> Result | None:
        row = self._db.execute(_SELECT_KNOWN, (message.id, sender)).fetchone()
        if row is None:
            return None
        seq, stored_at_us, recipients, content_type, reply_to, body = row
        names = msgpack.unpackb(recipients)[0]
        kept = Kept(seq, stored_at_us, names, TEXT if content_type is None else content_type, reply_to, body)
        return answer_known(kept, message, content)

    # --- the other commands -------------------------------------------------------------------------------

    def _execute(self, command: Command) -> Outcome:
        if isinstance(command, MarkMessages):
            return self._mark(command)
        if isinstance(command, NoteDelivered):
            mailbox = self._mailboxes.to_change(command.mailbox)
            through = min(command.through, self.high)  # what is not stored yet can't have been delivered
            mailbox.delivered_through = max(mailbox.delivered_through, through)
        elif isinstance(command, CloseMailbox):
            self._index.drop(command.mailbox, self.high)
        return Noted()

    def _mark(self, command: MarkMessages) -> MarkedMessages:
        number, read = command.mailbox, command.read
        at_us = self._now_us if read else 0
        if read and not command.ids:
            moved = self._index.take_in(number, set(command.seqs), at_us)
        else:  # what has an id may be in the tail, and is looked for in the index
            moved = self._index.take_in(number)
        seqs, unknown_ids = self._named(command)
        moved |= self._index.mark(number, set(seqs) - moved, read, at_us)
        if len(moved) == len(seqs):  # each, and each once
            return MarkedMessages(changed=seqs, unknown_ids=unknown_ids)
        changed = [seq for seq in dict.fromkeys(seqs) if seq in moved]
        others = [seq for seq in seqs if seq not in moved]
        held = self._index.runs.held(number, set(others), read=read)
        unknown_seqs = [seq for seq in others if seq not in held]
        return MarkedMessages(changed=changed, unknown_seqs=unknown_seqs, unknown_ids=unknown_ids)

    def _named(self, command: MarkMessages) -> tuple[list[int], list[bytes]]:
        """Return the seqs that are named, those of ids last, and the ids that no message of the mailbox has."""
        seqs, unknown_ids, runs = list(command.seqs), [], self._index.runs
        for message_id in command.ids:
            found = {seq for (seq,) in fetch(self._db, _SELECT_BY_ID, (message_id,))}
            held = runs.held(command.mailbox, found, read=False) | runs.held(command.mailbox, found, read=True)
            seqs += sorted(held)
            if not held:
                unknown_ids.append(message_id)
        return seqs, unknown_ids


_SELECT_KNOWN: Final = """
    SELECT seq, stored_at_us, recipients, content_type, reply_to, body FROM messages WHERE id = ? AND sender = ?
"""
_SELECT_BY_ID: Final = "SELECT seq FROM messages WHERE id = ?"


def _label(mailbox: Mailbox, name: str) -> bytes:
    """Note what the recipients of a message to this mailbox alone are."""
    mailbox.name, mailbox.recipients = name, _pack(([name], [mailbox.number]))
    return mailbox.recipients


HEAD_VALUES: Final = 4
ROW_VALUES: Final = 6
"""What is bound once in a statement, and for each of its rows."""

ID, RECIPIENTS, TYPE, SENT_AT, REPLY_TO, BODY = range(HEAD_VALUES, HEAD_VALUES + ROW_VALUES)
"""Where the first row's values stand among all that are bound."""


@cache
def _insert_messages(rows: int) -> str:
    """One sender's, of one time, under the seqs from ?4 on: half as much to bind as with all of it in each row."""
    row = "(?4 + {},?,?1,?2,?,?,?,?3,?,?)"
    return (
        "INSERT INTO messages (seq, id, sender, sender_name, recipients, content_type, sent_at_us, stored_at_us,"
        f" reply_to, body) VALUES {','.join(map(row.format, range(rows)))} ON CONFLICT (id, sender) DO NOTHING"
    )
