"""What both clients are made of: a session, a link, a clock, dice, and who waits for which answer.

The two shells differ in how they wait and in nothing else. One feeds events and drains here; the other does the same
from its event loop.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import Struct

from restante.composing import Composer
from restante.events import (
    Abandoned,
    AckRequested,
    Action,
    Closed,
    Consumed,
    Drop,
    EndFollow,
    Event,
    Fail,
    Followed,
    Hand,
    Lost,
    Mark,
    Open,
    Requested,
    Resolve,
    Settle,
    Submission,
    Submitted,
    Ticked,
    Transmit,
    Unfollowed,
)  # fmt: skip
from restante.messages import Outcome, Outgoing, Receipt
from restante.session import Session, Stage
from restante.settings import Settings
from restante.transport import DRAIN_MAX, Link
from restante.wire.envelopes import Entry, Request, Result, ToClient
from restante.wire.errors import ChatError, RefusedError, SettingsError

UNSETTLED_MAX: Final = 8_192
"""Messages given and not settled, before whoever gives them waits: a window's worth (sending.WINDOW_ENVELOPES full
envelopes). More would only wait longer, and their time runs from when they are given."""

UNSETTLED_BYTES_MAX: Final = 32 << 20
"""The same in bytes: what a sender holds in memory."""

GIVEN_MAX: Final = 256
"""Messages that are kept from the session at most while its window is full."""

LARGE_BYTES: Final = 64 << 10
"""A message of this size is told at once: it is not the telling that costs."""


class Waiter(Struct, eq=False):
    """Who waits for an answer. `notify`, if there is one, is called once it is there."""

    ticket: int = 0
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

    def on_done(self, notify: Callable[[], None]) -> None:
        """Have something called once it is at its end; at once, if it is."""
        self.notify = notify
        if self.done:
            notify()

    def answered(self) -> tuple[ToClient, bytes]:
        """The answer and its body, of what is done. Raises its error."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "what is done and has not failed has an answer"
        return self.answer, self.body


class Sending(Waiter, eq=False):
    """Who waits for a message to be stored."""

    outgoing: Outgoing | None = None
    index: int = 0
    id: bytes = b""
    receipt: Receipt | None = None

    def stored(self) -> Receipt:
        """The receipt, of what is done. Raises its error."""
        if self.error is not None:
            raise self.error
        assert self.receipt is not None, "what is done and has not failed has a receipt"
        return self.receipt

    def settle(self, result: Result) -> None:
        """The server has spoken."""
        self.done = True
        if result.code:
            self.error = RefusedError.of(result.code, result.text)
        else:
            self.receipt = Receipt(self.id, result.seq, result.stored_at_us, result.again)
        if self.notify is not None:
            self.notify()


W = TypeVar("W", bound=Waiter)


class Reading:
    """A subscription's messages that its reader has not taken yet."""

    def __init__(self, follow: int) -> None:
        self.follow = follow
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
        """What was taken since this was last asked, once nothing waits: told by the lot, not by the message."""
        if self.waiting or not self._taken_messages:
            return None
        event = Consumed(self.follow, self._taken_messages, self._taken_bytes)
        self._taken_messages = self._taken_bytes = 0
        return event


class Driver:
    """One client's session and its link. Belongs to one thread at a time, or to one event loop."""

    def __init__(self, settings: Settings, client_name: str, closing: Callable[[], None] | None = None) -> None:
        if settings.address is None:
            raise SettingsError(
                "no server: set CHAT_ADDRESS to what `chat address` prints on the server, or give the address. "
                "On this machine none has been started by you (`chat serve` does)"
            )
        self.settings = settings
        self.address = settings.address
        self._composer = Composer()
        where = f"{self.address.host}:{self.address.port}"
        self.session = Session(where=where, client=client_name, token=settings.token, entropy=os.urandom)
        self.link = Link(self.address, closing)
        self._waiters: dict[int, Waiter] = {}
        self._readings: dict[int, Reading] = {}
        self._last_ticket = 0
        self._given: list[Submission] = []
        """Messages that the session hasn't been told of: there is no room for them on the way."""
        self._fed: deque[Event] = deque()
        self._feeding = False
        self._was_ready = False
        self.noticed: Callable[[bool], None] | None = None
        """Told when what is asked can be transmitted, and when it can't any more."""
        self.closed = False

    @property
    def account(self) -> int | None:
        """The account's number, once it is known."""
        return None if self.session.identity is None else self.session.identity.account

    @property
    def ready(self) -> bool:
        """Whether what is submitted is transmitted as soon as the window has room."""
        return self.session.stage is Stage.READY

    @property
    def room(self) -> int:
        """How many messages may be submitted before whoever submits is to wait."""
        return 0 if self.heavy else max(0, UNSETTLED_MAX - self.session.stream.unsettled - len(self._given))

    @property
    def heavy(self) -> bool:
        """Whether the messages on their way are as many bytes as may be."""
        return self.session.stream.unsettled_bytes >= UNSETTLED_BYTES_MAX

    @property
    def full(self) -> bool:
        """Whether whoever submits is to wait."""
        return not self.room

    # --- asking -------------------------------------------------------------------------------------------

    def deadline(self, timeout_s: float | None) -> float:
        """When a call that begins now is to be over."""
        return time.monotonic() + (self.settings.timeout_s if timeout_s is None else timeout_s)

    def ask(self, header: Request, deadline: float) -> Waiter:
        """Make a request."""
        waiter = self._waiter(Waiter())
        self.feed(Requested(waiter.ticket, header, deadline))
        return waiter

    def ask_ack(self, seqs: list[int], ids: list[bytes], read: bool, deadline: float) -> Waiter:
        """Ask for messages to be marked."""
        waiter = self._waiter(Waiter())
        self.feed(AckRequested(waiter.ticket, seqs, ids, read, deadline))
        return waiter

    def submit(self, outgoing: Outgoing, index: int, deadline: float) -> Sending:
        """Give a message to be sent. What is wrong with it is told like any refusal: by the waiter.

        A message with `once` is only taken when the account is known (`session.identity`).
        """
        sending = Sending(outgoing=outgoing, index=index)
        try:
            item, body = self._composer.compose(outgoing, self.account)
        except ChatError as error:
            sending.resolve(None, b"", error)
            return sending
        sending.id = item.id
        self._waiter(sending)
        self._given.append(Submission(sending.ticket, item, body, deadline))
        # While nothing of it could go anyway, they are told by the lot: it halves what a message costs.
        if not self.session.stream.crowded or len(body) > LARGE_BYTES or len(self._given) >= GIVEN_MAX:
            self._tell_given()
        return sending

    def follow(self, sender: str, after: int) -> Reading:
        """Subscribe, until `unfollow`."""
        self._last_ticket += 1
        reading = self._readings[self._last_ticket] = Reading(self._last_ticket)
        self.feed(Followed(reading.follow, sender=sender, after=after))
        return reading

    def unfollow(self, reading: Reading) -> None:
        """End a subscription."""
        if self._readings.pop(reading.follow, None) is not None and not self.closed:
            self.feed(Unfollowed(reading.follow))

    def abandon(self, waiter: Waiter) -> None:
        """Nobody waits any more."""
        if self._waiters.pop(waiter.ticket, None) is not None:
            self.feed(Abandoned(waiter.ticket))

    def new_id(self) -> bytes:
        """An operation id."""
        return self._composer.new_id()

    # --- the loop -----------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Tell the session what has happened, and do what it wants done."""
        if self.closed:
            raise RuntimeError("the client is closed")
        if self._given:
            given, self._given = self._given, []
            self._fed.append(Submitted(given))
        self._fed.append(event)
        if self._feeding:
            return  # from inside an action: its turn comes
        self._feeding = True
        try:
            while self._fed:
                for action in self.session.handle(self._fed.popleft(), time.monotonic()):
                    self._perform(action)
        finally:
            self._feeding = False
        if self.noticed is not None and self.ready != self._was_ready:
            self._was_ready = self.ready
            self.noticed(self._was_ready)

    def _tell_given(self) -> None:
        given, self._given = self._given, []
        self.feed(Submitted(given))

    def drain(self) -> int:
        """Take in what has come, and what time has brought; gives how many things came of it."""
        told = len(self._given)
        if told:
            self._tell_given()
        found = self.link.drain()
        for event in found:
            self.feed(event)
        if len(found) >= DRAIN_MAX:
            return len(found)  # there may be more, and time is up for nothing whose answer is there (RULES 22)
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= time.monotonic():
            self.feed(Ticked())
            told += 1
        return len(found) + told

    def step(self, until: float | None = None) -> None:
        """Wait for something to come, or for time to bring something, at most `until`; take it in."""
        if self.drain():
            return  # whoever waits looks whether it was that: there may be nothing more to come
        deadlines = [each for each in (self.session.next_deadline(), until) if each is not None]
        timeout_s = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        self.link.wait(timeout_s)
        self.drain()

    def close(self) -> None:
        """End everything. Who still waits is told; nothing is waited for."""
        if self.closed:
            return
        try:
            self.feed(Closed())
        finally:
            self.closed = True
            self.link.end()

    def _perform(self, action: Action) -> None:
        if isinstance(action, Transmit):
            self._mishap(self.link.send(action.header, action.body))
        elif isinstance(action, Settle):
            self._settle(action)
        elif isinstance(action, Resolve):
            self._resolve(action.ticket, action.answer, action.body, None)
        elif isinstance(action, Fail):
            self._resolve(action.ticket, None, b"", action.error)
        elif isinstance(action, Open):
            self._mishap(self.link.open(action.connection))
        elif isinstance(action, Drop):
            self.link.close()
        else:
            self._deliver(action)

    def _mishap(self, lost: Lost | None) -> None:
        """The socket would not: the session hears of it after what it is doing now."""
        if lost is not None:
            self._fed.append(lost)

    def _settle(self, action: Settle) -> None:
        for ticket, result in zip(action.tickets, action.results, strict=True):
            sending = self._waiters.pop(ticket, None)
            if isinstance(sending, Sending):
                sending.settle(result)

    def _resolve(self, ticket: int, answer: ToClient | None, body: bytes, error: ChatError | None) -> None:
        waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            waiter.resolve(answer, body, error)

    def _deliver(self, action: Hand | Mark | EndFollow) -> None:
        reading = self._readings.get(action.follow)
        if reading is None:
            return
        if isinstance(action, Hand):
            reading.hand(action.entries, action.contents)
        elif isinstance(action, EndFollow):
            reading.error = action.error
        elif action.read:
            reading.drop_marked(action.seqs)
        if reading.notify is not None:
            reading.notify()

    def _waiter(self, waiter: W) -> W:
        self._last_ticket += 1
        waiter.ticket = self._last_ticket
        self._waiters[waiter.ticket] = waiter
        return waiter


def outcome_of(sending: Sending) -> Outcome:
    """What became of a message, for `send_many`."""
    assert sending.outgoing is not None, "it was made of one"
    return Outcome(sending.index, sending.outgoing, sending.id, sending.receipt, sending.error)
