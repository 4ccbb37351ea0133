"""Who waits for what: for the answer to a request, for messages to be stored, for the messages of a subscription.

One object each, which the shells look at or are notified by; messages on their way, of which there are most, have one
for as many as were given together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final

from msgspec import Struct

from restante.events import Columns, Consumed, Followed, Row, Submission
from restante.messages import Outcome, Outgoing, Receipt
from restante.sending import in_doubt
from restante.wire.envelopes import ApartResult, Entry, ToClient
from restante.wire.errors import ChatError, RefusedError

TOGETHER_S: Final = 0.01
"""How much later than the first of a batch the last may be given."""

TOLD_PARTS: Final = 8
"""Parts of a subscription's window. What its reader takes is told the session a part at a time; the rest of the window
carries on meanwhile.
"""


class Waiter(Struct, eq=False):
    """Who waits for an answer. `notify`, if there is one, is called once it is there."""

    ticket: int
    done: bool = False
    answer: ToClient | None = None
    body: bytes = b""
    error: ChatError | None = None
    notify: Callable[[], None] | None = None

    def resolve(self, answer: ToClient | None, body: bytes, error: ChatError | None) -> None:
        """It is at its end."""
        self.done, self.answer, self.body, self.error = True, answer, body, error
        if self.notify is not None:
            self.notify()

    def answered(self) -> tuple[ToClient, bytes]:
        """The answer and its body, of what is done. Raises its error."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "what is done and has not failed has an answer"
        return self.answer, self.body


class Batch:
    """Messages on their way that were given together, and what became of each: all by its place among them.

    It is told to the session as one submission, and until then nothing becomes of any. Who is interrupted while a
    message is added has added none, or one: what is said of it is one row, until it is told.
    """

    __slots__ = (
        "__weakref__", "_columns", "_left", "_notify", "_rows", "again", "asker", "deadline", "errors", "ids", "open",
        "outgoings", "sent_at_us", "seqs", "stored_at_us", "until",
    )  # fmt: skip

    def __init__(self, asker: object, deadline: float, sent_at_us: int, columns: Columns | None = None) -> None:
        self.asker = asker
        """Who wants to know the outcome of all of them, message by message; None: nobody does."""
        self.deadline = deadline
        self.until = deadline + TOGETHER_S
        """The latest deadline of what may still be added."""
        self.sent_at_us = sent_at_us
        self.open = columns is None
        """Whether more may be added."""
        self.outgoings: list[Outgoing] = []
        """Kept for an asker."""
        self.ids: list[bytes] = [] if columns is None else columns.ids
        """Of all, once it is told, as are `seqs` and `stored_at_us`."""
        self.seqs: list[int] = []
        """Where each is in its mailboxes' order; 0: it is not stored, or not yet."""
        self.stored_at_us: list[int] = []
        self.again: set[int] = set()
        """Those that had been stored before."""
        self.errors: dict[int, ChatError] = {}
        self._rows: list[Row] = []
        self._columns = columns
        self._left = -1
        """How many are not at their end; -1: it was not told."""
        self._notify: dict[int, Callable[[], None]] = {}

    def add(self, outgoing: Outgoing, row: Row, deadline: float) -> None:
        """Put a message behind the others. The time of all is up when that of the last is."""
        if self.asker is not None:
            self.outgoings.append(outgoing)
        self.deadline = deadline
        self._rows.append(row)

    def submission(self) -> Submission:
        """What the session is told. From now on no more are added."""
        self.open = False
        columns = Columns.of(self._rows) if self._columns is None else self._columns
        self.ids, messages = columns.ids, len(columns.ids)
        self.seqs, self.stored_at_us, self._left = [0] * messages, [0] * messages, messages
        return Submission(*columns.lists, deadline=self.deadline, sent_at_us=self.sent_at_us, owner=self)

    def told(self) -> None:
        """The session has it: contents are kept no longer than there."""
        self._rows, self._columns = [], None

    @property
    def done(self) -> bool:
        """Whether all are at their end."""
        return self._left == 0

    @property
    def over(self) -> bool:
        """Whether that is so, and everybody has been told."""
        return self._left == 0 and not self._notify

    @property
    def last(self) -> int:
        """The place of the one that was added last."""
        return len(self._rows or self.ids) - 1

    def id_at(self, place: int) -> bytes:
        """The id that one is sent with; b"" if it was refused before it had one."""
        return self._rows[place][0] if self._rows else self.ids[place]

    @property
    def pending(self) -> int:
        """The place of the first that is not at its end, of a batch that is not done."""
        return next(place for place in range(len(self._rows or self.ids)) if not self.done_at(place))

    def done_at(self, place: int) -> bool:
        """Whether one is at its end."""
        return self._left == 0 or self.stored(place) or place in self.errors

    def stored(self, place: int) -> bool:
        """Whether one is stored."""
        return place < len(self.seqs) and self.seqs[place] > 0

    def notify(self, place: int, notice: Callable[[], None]) -> None:
        """Have `notice` called once this is at its end, and perhaps again, if somebody was interrupted there."""
        self._notify[place] = notice

    def forget(self, place: int) -> None:
        """Nobody is to be notified of this any more."""
        self._notify.pop(place, None)

    def settle(self, first: int, seqs: list[int], stored_at_us: int, apart: Iterable[ApartResult] = ()) -> None:
        """The server has answered for some, from a place on; what is `apart` is so by its place among these."""
        places = slice(first, first + len(seqs))
        self.seqs[places], self.stored_at_us[places] = seqs, [stored_at_us] * len(seqs)
        for each in apart:
            place, result = first + each.place, each.result
            if result.code or not result.seq:
                self.errors[place] = RefusedError.of(result.code, result.text)
                self.seqs[place] = 0
            else:
                self.stored_at_us[place] = result.stored_at_us
                self.again.add(place)
        self._ended(first, len(seqs))

    def fail(self, first: int, errors: list[ChatError]) -> None:
        """Some, from a place on, will not be stored, or nobody knows."""
        self.errors.update(enumerate(errors, first))
        self._ended(first, len(errors))

    def break_off(self, why: str) -> None:
        """Nobody will ever know, of those that are not at their end."""
        if self._left < 0:
            self.submission()
            self.told()
        for place, message_id in enumerate(self.ids):
            if not self.done_at(place):
                self.errors[place] = in_doubt(message_id, why)
        self._left = 0
        for place in list(self._notify):
            self._tell(place)

    def outcomes(self, index: int) -> Iterator[Outcome]:
        """What became of each, for `send_many`, whose message with this index is the first."""
        columns = count(index), self.outgoings, self.ids, self.seqs, self.stored_at_us
        if not self.errors and not self.again:
            return map(Outcome, *columns)
        places = range(len(self.ids))
        return map(Outcome, *columns, map(self.again.__contains__, places), map(self.errors.get, places))

    def _ended(self, first: int, messages: int) -> None:
        self._left -= messages
        if self._notify:
            for place in range(first, first + messages):
                self._tell(place)

    def _tell(self, place: int) -> None:
        notice = self._notify.get(place)
        if notice is not None:
            notice()
            self._notify.pop(place, None)  # afterwards: who is interrupted in between is told again


class Sending(Struct, frozen=True, eq=False):
    """One message of a batch."""

    batch: Batch
    place: int

    @property
    def id(self) -> bytes:
        """The id it is sent with; b"" if it was refused before it had one."""
        return self.batch.id_at(self.place)

    @property
    def done(self) -> bool:
        """Whether it is at its end."""
        return self.batch.done_at(self.place)

    @property
    def error(self) -> ChatError | None:
        """Why it is not stored, or not known to be."""
        return self.batch.errors.get(self.place)

    def stored(self) -> Receipt:
        """The receipt, of what is done. Raises its error."""
        batch, place = self.batch, self.place
        if place in batch.errors:
            raise batch.errors[place]
        assert batch.seqs[place], "what is done and has not failed has a place"
        return Receipt(batch.ids[place], batch.seqs[place], batch.stored_at_us[place], place in batch.again)


def refused(asker: object, outgoing: Outgoing, error: ChatError) -> Batch:
    """A message that never got as far as the session."""
    batch = Batch(asker, 0.0, 0, Columns(ids=[b""]))
    batch.outgoings.append(outgoing)
    batch.submission()
    batch.told()
    batch.fail(0, [error])
    return batch


class Reading:
    """A subscription's messages that its reader has not taken yet."""

    def __init__(self, wanted: Followed) -> None:
        self.follow = wanted.follow
        self._part_messages, self._part_bytes = wanted.messages // TOLD_PARTS, wanted.bytes // TOLD_PARTS
        self.waiting: deque[tuple[Entry, bytes]] = deque()
        self.error: ChatError | None = None
        self.notify: Callable[[], None] | None = None
        self._taken_messages = self._taken_bytes = 0

    def hand(self, entries: list[Entry], contents: list[bytes]) -> None:
        """Messages came."""
        self.waiting.extend(zip(entries, contents, strict=True))
        self._tell()

    def end(self, error: ChatError) -> None:
        """No more will come."""
        self.error = error
        self._tell()

    def drop_marked(self, seqs: list[int]) -> None:
        """Another session has read these: nobody needs to see them twice."""
        gone = set(seqs)
        kept = [each for each in self.waiting if each[0].seq not in gone]
        for entry, _ in self.waiting:
            if entry.seq in gone:
                self._taken_messages += 1
                self._taken_bytes += entry.size
        self.waiting = deque(kept)
        self._tell()

    def take(self) -> tuple[Entry, bytes]:
        """The next message."""
        entry, content = self.waiting.popleft()
        self._taken_messages += 1
        self._taken_bytes += entry.size
        return entry, content

    def consumed(self) -> Consumed | None:
        """What was taken and not told yet, if that is much."""
        if self._taken_messages < self._part_messages and self._taken_bytes < self._part_bytes:
            return None
        event = Consumed(self.follow, self._taken_messages, self._taken_bytes)
        self._taken_messages = self._taken_bytes = 0
        return event

    def _tell(self) -> None:
        if self.notify is not None:
            self.notify()
