"""Who waits for what: for the answer to a request, for a message to be stored, for the messages of a subscription.

One object each, which the shells look at or are notified by. A message on its way is itself what is waited for: it is
what costs a sender most, so there is nothing beside it and nothing is looked up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from restante.events import SETTLED, Consumed, Followed, Submission
from restante.messages import Outcome, Outgoing, Receipt
from restante.wire.envelopes import Entry, Item, Result, ToClient
from restante.wire.errors import ChatError, RefusedError

NO_ITEM: Final = Item(id=b"", to=[], size=0)
"""What a message has that was refused before it had an id."""

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


class Sending(Submission, eq=False, kw_only=True):
    """A message on its way, and who waits for it to be stored."""

    outgoing: Outgoing
    index: int
    done: bool = False
    seq: int = 0
    stored_at_us: int = 0
    again: bool = False
    error: ChatError | None = None
    notify: Callable[[], None] | None = None

    @property
    def id(self) -> bytes:
        """The id it is sent with; b"" if it was refused before it had one."""
        return self.item.id

    def stored(self) -> Receipt:
        """The receipt, of what is done. Raises its error."""
        if self.error is not None:
            raise self.error
        assert self.seq, "what is done and has not failed has a place"
        return Receipt(self.item.id, self.seq, self.stored_at_us, self.again)

    def store(self, seq: int, stored_at_us: int) -> None:
        """It is stored."""
        self.done, self.seq, self.stored_at_us = True, seq, stored_at_us
        if self.notify is not None:
            self.notify()

    def conclude(self, result: Result) -> None:
        """The server has spoken otherwise."""
        self.done = True
        if result.code:
            self.error = RefusedError.of(result.code, result.text)
        else:
            self.seq, self.stored_at_us, self.again = result.seq, result.stored_at_us, result.again
        if self.notify is not None:
            self.notify()

    def fail(self, error: ChatError) -> None:
        """It will not be stored, or nobody knows."""
        self.done, self.error = True, error
        if self.notify is not None:
            self.notify()

    def outcome(self) -> Outcome:
        """What became of it, for `send_many`."""
        return Outcome(self.index, self.outgoing, self.item.id, self.seq, self.stored_at_us, self.again, self.error)


def refused(outgoing: Outgoing, index: int, error: ChatError) -> Sending:
    """A message that never got as far as the session."""
    return Sending(NO_ITEM, b"", 0.0, SETTLED, outgoing=outgoing, index=index, done=True, error=error)


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

    def drop_marked(self, seqs: list[int]) -> None:
        """Another session has read these: nobody needs to see them twice."""
        gone = set(seqs)
        kept = [each for each in self.waiting if each[0].seq not in gone]
        for entry, _ in self.waiting:
            if entry.seq in gone:
                self._taken_messages += 1
                self._taken_bytes += entry.size
        self.waiting = deque(kept)

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
