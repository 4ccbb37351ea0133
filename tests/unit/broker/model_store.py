"""The store as the broker's tests play it: what waits in its pipe, and a model of what it holds."""

from __future__ import annotations

from collections import deque
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeVar

from broker.events import Action, StoreArrived
from restante.wire import envelopes, store_link
from restante.wire.envelopes import Entry, Result

if TYPE_CHECKING:
    from tests.unit.broker.world import World

T = TypeVar("T")

HISTORY = b"history-00000001"


class Row:
    """One delivery in the store."""

    def __init__(self, mailbox: int, entry: Entry, content: bytes) -> None:
        self.mailbox = mailbox
        self.entry = entry
        self.content = content
        self.read = False


class Store:
    """The store: what waits in its pipe, and a model of what it holds."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.inbox: deque[tuple[store_link.ToStore, bytes]] = deque()
        self.full = False
        self.sockets = 0
        self.epoch = 1
        self.generation = 0
        self.history = HISTORY
        self.high = 0
        self.now_us = 1_000
        self.rows: list[Row] = []
        self.known: dict[tuple[int, bytes], Result] = {}
        self.delivered: dict[int, int] = {}

    # --- talking ------------------------------------------------------------------------------------------

    def say(self, envelope: store_link.FromStore, body: bytes = b"") -> list[Action]:
        """The store says something."""
        return self._world.do(StoreArrived(envelope, body))

    def waits(self, kind: type[T]) -> list[T]:
        """What of that kind is in the pipe."""
        return [envelope for envelope, _ in self.inbox if isinstance(envelope, kind)]

    def open(self) -> list[Action]:
        """Answer the broker's `open`, and flush what comes of it."""
        nonce = self.waits(store_link.Open)[-1].nonce
        self.inbox.clear()
        self.generation += 1
        actions = self.say(
            store_link.Opened(
                nonce=nonce, epoch=self.epoch, generation=self.generation, history=self.history, high=self.high
            )
        )
        return actions + self._world.drain()

    def work(self) -> bool:
        """Do all that is in the pipe. False if there was nothing."""
        worked = bool(self.inbox)
        while self.inbox:
            self.step()
        return worked

    def step(self) -> list[Action]:
        """Do the first thing in the pipe."""
        envelope, body = self.inbox.popleft()
        match envelope:
            case store_link.Batch():
                return self.say(self.confirm(envelope, body))
            case store_link.Ask(n=n, query=query):
                reading, contents = self.read(query)
                return self.answered(n, reading, contents)
            case store_link.Beat():
                return self.say(envelope)
            case store_link.Open():
                self.inbox.appendleft((envelope, body))
                return self.open()

    def answered(self, n: int, reading: store_link.Reading, contents: bytes = b"") -> list[Action]:
        """Answer a query."""
        return self.say(
            store_link.Answered(
                epoch=self.epoch, generation=self.generation, n=n, history=self.history, reading=reading
            ),
            contents,
        )

    def abort(self, n: int, code: str = "storage_full") -> list[Action]:
        """Roll a batch back, and throw away what is behind it."""
        self.inbox.clear()
        return self.say(
            store_link.Aborted(epoch=self.epoch, generation=self.generation, n=n, code=code, text="no room")
        )

    # --- holding ------------------------------------------------------------------------------------------

    def confirm(self, batch: store_link.Batch, body: bytes) -> store_link.Confirmed:
        """Execute a batch. The confirmation, which a test may keep back."""
        base = self.high
        start = 0
        outcomes: list[store_link.Outcome] = []
        for command in batch.commands:
            match command:
                case store_link.StoreMessages():
                    size = sum(message.size for message in command.messages)
                    outcomes.append(self._store(command, body[start : start + size]))
                    start += size
                case store_link.MarkMessages():
                    outcomes.append(self._mark(command))
                case store_link.NoteDelivered(mailbox=mailbox, through=through):
                    self.delivered[mailbox] = max(through, self.delivered.get(mailbox, 0))
                    outcomes.append(store_link.Noted())
                case store_link.CloseMailbox():
                    outcomes.append(store_link.Noted())
        assert start == len(body)
        return store_link.Confirmed(
            epoch=batch.epoch, generation=batch.generation, n=batch.n, base=base, high=self.high, outcomes=outcomes
        )

    def _store(self, command: store_link.StoreMessages, body: bytes) -> store_link.Stored:
        self.now_us += 1_000  # what is stored together is stored at one time
        results = []
        contents = cut(body, [message.size for message in command.messages])
        for message, content in zip(command.messages, contents, strict=True):
            known = self.known.get((command.sender, message.id))
            if known is not None:
                results.append(Result(seq=known.seq, stored_at_us=known.stored_at_us, again=True))
            elif message.refusal:
                results.append(Result(code=message.refusal, text=message.refusal_text))
            else:
                results.append(self.insert(command.sender, command.sender_name, message, content))
        return store_link.Stored.of(results)

    def insert(self, sender: int, sender_name: str, message: store_link.Message, content: bytes) -> Result:
        """Store one message: the broker's, or, called by a test, somebody else's."""
        self.high += 1
        result = self.known[sender, message.id] = Result(seq=self.high, stored_at_us=self.now_us)
        entry = Entry(
            seq=self.high,
            id=message.id,
            sender=sender_name,
            to=message.to,
            size=message.size,
            stored_at_us=result.stored_at_us,
        )
        self.rows += [Row(mailbox, entry, content) for mailbox in message.mailboxes]
        return result

    def _mark(self, command: store_link.MarkMessages) -> store_link.MarkedMessages:
        mine = {row.entry.seq: row for row in self.rows if row.mailbox == command.mailbox}
        changed = [seq for seq in command.seqs if seq in mine and mine[seq].read is not command.read]
        for seq in changed:
            mine[seq].read = command.read
        return store_link.MarkedMessages(changed=changed, unknown_seqs=[seq for seq in command.seqs if seq not in mine])

    def read(self, query: store_link.Query) -> tuple[store_link.Reading, bytes]:
        """What a query finds now."""
        match query:
            case store_link.ReadPage():
                return self._page(query)
            case store_link.CountMailbox(mailbox=mailbox):
                mine = [row for row in self.rows if row.mailbox == mailbox]
                unread = sum(not row.read for row in mine)
                return store_link.MailboxCounted(unread=unread, total=len(mine)), b""
            case store_link.ReadStatus(ids=ids):
                return store_link.StatusRead(messages=[envelopes.MessageStatus(id=one) for one in ids]), b""

    def _page(self, query: store_link.ReadPage) -> tuple[store_link.PageRead, bytes]:
        """A page as DESIGN §4 has it: its end, `through`, may lie behind its last entry."""
        page: list[Row] = []
        size = 0
        for row in self.rows:
            if row.mailbox != query.mailbox or row.entry.seq <= query.after or (query.unread and row.read):
                continue
            if query.sender and row.entry.sender != query.sender:
                continue
            if len(page) == query.limit or (page and size + len(row.content) > query.bytes_max):
                through = page[-1].entry.seq
                entries = [row.entry for row in page]
                return store_link.PageRead(entries=entries, through=through, more=True), _joined(page)
            page.append(row)
            size += len(row.content)
        return store_link.PageRead(entries=[row.entry for row in page], through=self.high, more=False), _joined(page)


def _joined(rows: list[Row]) -> bytes:
    return b"".join(row.content for row in rows)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """A body's contents."""
    ends = list(accumulate(sizes, initial=0))
    assert ends[-1] == len(body)
    return [body[start:end] for start, end in pairwise(ends)]
