"""What both clients are made of: a session, a link, a clock, dice, and who waits for which answer.

The two shells differ in how they wait and in nothing else. One feeds events and drains here; the other does the same
from its event loop.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, cast
from weakref import ref

from restante.composing import Composer, now_us
from restante.events import (
    Abandoned,
    AckRequested,
    Action,
    Closed,
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
    Return,
    Settle,
    Submission,
    Submitted,
    Ticked,
    Transmit,
    Unfollowed,
    Withdrawn,
)  # fmt: skip
from restante.messages import Outgoing
from restante.session import Session, Stage
from restante.settings import Settings
from restante.transport import DRAIN_MAX, Link
from restante.waiting import Batch, Reading, Waiter, refused
from restante.wire.envelopes import Request, ToClient
from restante.wire.errors import ChatError, OutcomeUnknown, SettingsError, UnreachableError

UNSETTLED_MAX: Final = 16_384
"""Messages given and not settled, before whoever gives them waits: a window's worth (sending.WINDOW_ENVELOPES full
envelopes) on its way, and the next one made meanwhile. With one alone, client, broker and store waited for each other a
third of the time. More would only wait longer, and their time runs from when they are given."""

UNSETTLED_BYTES_MAX: Final = 32 << 20
"""The same in bytes: what a sender holds in memory."""

GIVEN_MAX: Final = 256
"""Messages that are kept from the session at most while its window is full."""

LARGE_BYTES: Final = 64 << 10
"""A message of this size is told at once: it is not the telling that costs."""

BATCHES_MIN: Final = 256
"""Batches of which most may be over, before they are looked through."""

BROKEN_OFF: Final = "the client's work was broken off in the middle (Ctrl-C, or an error); it connects anew"

LOOK_EVERY: Final = 64
"""Messages submitted between two looks at what has come: a look costs about as much as four submissions."""


class Driver:
    """One client's session and its link. Belongs to one thread at a time, or to one event loop."""

    def __init__(
        self,
        settings: Settings,
        client_name: str,
        closing: Callable[[], None] | None = None,
        *,
        looks_soon: bool = False,
    ) -> None:
        """`closing` is the link's; with `looks_soon` whoever gives a message drains soon, unasked."""
        if settings.address is None:
            raise SettingsError(
                "no server: set CHAT_ADDRESS to what `chat address` prints on the server, or give the address. "
                "On this machine none has been started by you (`chat serve` does)"
            )
        self.settings = settings
        self.address = settings.address
        self._composer = Composer()
        where = f"{self.address.host}:{self.address.port}"
        self._new_session = partial(Session, where=where, client=client_name, entropy=os.urandom)
        self.session = self._new_session(token=settings.token)
        self.link = Link(self.address, closing)
        self._waiters: dict[int, Waiter] = {}
        self._readings: dict[int, Reading] = {}
        self._last_ticket = 0
        self._batches: list[ref[Batch]] = []
        """All that are not over, as long as somebody has them, and as many more."""
        self._sweep_at = BATCHES_MIN
        self._given: list[Batch] = []
        """Messages that the session hasn't been told of: there is no room for them on the way."""
        self._given_messages = 0
        """How many that are."""
        self.away = False
        """The caller waits for its own input, and somebody else may be in here."""
        self._looks_soon = looks_soon
        self._given_max = 1
        """How many there may be: telling by the lot halves what a message costs, where none has to wait for it."""
        self.unlooked = 0
        """Messages submitted since the last look at what has come, large ones counted as LOOK_EVERY."""
        self._fed: deque[Event] = deque()
        self._feeding = False
        self._broken_off = False
        """Somebody was interrupted in the middle of the session's work."""
        self.ready = False
        """Whether what is submitted is transmitted as soon as the window has room."""
        self._was_ready = False
        self.noticed: Callable[[bool], None] | None = None
        """Told when what is asked can be transmitted, and when it can't any more."""
        self.due_at: float | None = None
        """When time brings something, as of the last drain; None: never."""
        self.closed = False

    @property
    def account(self) -> int | None:
        """The account's number, once it is known."""
        return None if self.session.identity is None else self.session.identity.account

    @property
    def room(self) -> int:
        """How many messages may be submitted before whoever submits is to wait."""
        return 0 if self.full else UNSETTLED_MAX - self.session.stream.unsettled - self._given_messages

    @property
    def full(self) -> bool:
        """Whether whoever submits is to wait."""
        stream = self.session.stream
        too_many = stream.unsettled + self._given_messages >= UNSETTLED_MAX
        return too_many or stream.unsettled_bytes >= UNSETTLED_BYTES_MAX

    @property
    def holds(self) -> bool:
        """Whether what was given last was only put beside other messages, for an answer to come before it can go."""
        return self._given_messages > 0 and self.session.stream.crowded

    @property
    def handful(self) -> int:
        """How many messages may be taken before they are submitted: as many as would not be sent sooner one by one."""
        return min(self._given_max, LOOK_EVERY)

    # --- asking -------------------------------------------------------------------------------------------

    def deadline(self, timeout_s: float | None) -> float:
        """When a call that begins now is to be over."""
        return time.monotonic() + (self.settings.timeout_s if timeout_s is None else timeout_s)

    def ask(self, header: Request, deadline: float) -> Waiter:
        """Make a request."""
        waiter = self._waiter()
        self.feed(Requested(waiter.ticket, header, deadline))
        return waiter

    def ask_ack(self, seqs: list[int], ids: list[bytes], read: bool, deadline: float) -> Waiter:
        """Ask for messages to be marked."""
        waiter = self._waiter()
        self.feed(AckRequested(waiter.ticket, seqs, ids, read, deadline))
        return waiter

    def submit(self, outgoing: Outgoing, deadline: float, asker: object = None) -> Batch:
        """Give a message to be sent. It is the last of what this returns: those of one asker that are given in quick
        succession. What is wrong with it is told like any refusal: by that.

        A message with `once` is only taken when the account is known (`session.identity`).
        """
        self._check()
        try:  # what is the caller's own is looked at first: it may call anything
            row = self._composer.compose(outgoing, self.account if outgoing.once is not None else None)
        except ChatError as error:
            if self._given:
                self._given[-1].open = False
            return refused(asker, outgoing, error)
        batch = self._given[-1] if self._given else None
        if batch is None or not (batch.open and batch.asker is asker and batch.deadline <= deadline <= batch.until):
            batch = Batch(asker, deadline, now_us())
            self._note(batch)
            self._given.append(batch)
        self._given_messages += 1
        self.unlooked += 1
        batch.add(outgoing, row, deadline)
        size = row[2]
        if self._given_messages >= self._given_max or size > LARGE_BYTES:
            self.unlooked += LOOK_EVERY if size > LARGE_BYTES else 0
            self.feed()
        return batch

    def submit_usual(self, outgoings: list[Outgoing], deadline: float, asker: object) -> Batch | None:
        """Give messages to be sent, as a batch of their own: at half the cost of `submit`, but only if there is nothing
        unusual about any of them (`Composer.compose_usual`). Else None, and none is given.
        """
        self._check()
        columns = self._composer.compose_usual(outgoings)
        if columns is None:
            return None
        batch = Batch(asker, deadline, now_us(), columns)
        batch.outgoings = outgoings
        messages = len(outgoings)
        self._note(batch)
        self._given.append(batch)
        self._given_messages += messages  # who is interrupted before this counts less than there is, never more
        self.unlooked += messages
        if self._given_messages >= self._given_max:
            self.feed()
        return batch

    def follow(self, sender: str, after: int) -> Reading:
        """Subscribe, until `unfollow`."""
        self._check()
        self._last_ticket += 1
        wanted = Followed(self._last_ticket, sender=sender, after=after)
        reading = self._readings[wanted.follow] = Reading(wanted)
        self.feed(wanted)
        return reading

    def unfollow(self, reading: Reading) -> None:
        """End a subscription."""
        if self._readings.pop(reading.follow, None) is not None and not self.closed:
            self.feed(Unfollowed(reading.follow))

    def abandon(self, waiter: Waiter) -> None:
        """Nobody waits any more."""
        if self._waiters.pop(waiter.ticket, None) is not None:
            self.feed(Abandoned(waiter.ticket))

    def withdraw(self, places: Mapping[Batch, Collection[int] | None]) -> None:
        """Nobody waits any more for the messages of some batches at these places, or (None) for all of theirs."""
        left: dict[object, Collection[int] | None] = {batch: at for batch, at in places.items() if not batch.done}
        if left and not self.closed:
            self.feed(Withdrawn(left))

    def new_id(self) -> bytes:
        """An operation id."""
        return self._composer.new_id()

    def _take_given(self) -> Submitted:
        submissions = [batch.submission() for batch in self._given]
        given, self._given, self._given_messages = self._given, [], 0
        for batch in given:
            batch.told()
        return Submitted([each for each in submissions if len(each)])  # who was interrupted may have added none

    def _check(self) -> None:
        """Before anything is asked: whether it can be. Raises RuntimeError once the client is closed."""
        if self.closed:
            raise RuntimeError("the client is closed")
        if self._broken_off and not self._feeding:
            self._begin_anew()

    # --- the loop -----------------------------------------------------------------------------------------

    def feed(self, event: Event | None = None) -> None:
        """Tell the session what was given, and what has happened, and do what it wants done."""
        self._check()
        if self._feeding:
            self._put_in_line(event)  # from inside an action: its turn comes
            return
        try:
            self._feeding = True
            self._put_in_line(event)
            while self._fed:
                for action in self.session.handle(self._fed.popleft(), time.monotonic()):
                    self._perform(action)
        except BaseException:
            self._broken_off = True  # if that is interrupted too, who comes next does it
            self._begin_anew()
            raise
        finally:
            self._feeding = False
        stream = self.session.stream
        by_the_lot = stream.crowded or (self._looks_soon and stream.active)
        self._given_max = GIVEN_MAX if by_the_lot else 1
        self.ready = self.session.stage is Stage.READY
        self._tell_ready()

    def drain(self) -> int:
        """Take in what has come, and what time has brought; gives how many things came of it."""
        self.unlooked = 0
        told = len(self._given)
        if told:
            self.feed()
        try:
            found = self.link.drain()
            self._fed.extend(found)
        except BaseException:
            self._broken_off = True  # what has come and was not told the session is lost
            self._begin_anew()
            raise
        if found:
            self.feed()
        self._tell_ready()
        self.due_at = self.session.next_deadline()
        if len(found) >= DRAIN_MAX:
            return len(found)  # there may be more, and time is up for nothing whose answer is there (RULES 22)
        if self.due_at is not None and self.due_at <= time.monotonic():
            self.feed(Ticked())
            self.due_at = self.session.next_deadline()
            told += 1
        return len(found) + told

    def step(self, until: float | None = None) -> None:
        """Wait for something to come, or for time to bring something, at most `until`; take it in."""
        if self.drain():
            return  # whoever waits looks whether it was that: there may be nothing more to come
        deadlines = [each for each in (self.due_at, until) if each is not None]
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

    def _tell_ready(self) -> None:
        if self.noticed is not None and self.ready != self._was_ready:
            self._was_ready = self.ready
            self.noticed(self.ready)

    def _note(self, batch: Batch) -> None:
        if len(self._batches) >= self._sweep_at:
            self._batches = [each for each in self._batches if (kept := each()) is not None and not kept.over]
            self._sweep_at = max(BATCHES_MIN, 2 * len(self._batches))
        # No `WeakSet`: an interruption in what that does for the dead is swallowed.
        self._batches.append(ref(batch))

    def _put_in_line(self, event: Event | None) -> None:
        if self._given:
            self._fed.append(self._take_given())
        if event is not None:
            self._fed.append(event)

    def _begin_anew(self) -> None:
        """Have another session of the same account, since nobody knows how far this one came: its work was broken off
        in the middle, by Ctrl-C or by anything else that was raised there. What it had under way is in doubt.
        """
        before = self.session
        self.link.close()
        self.ready, self._given_max = False, 1
        for waiter in list(self._waiters.values()):
            if not waiter.done:
                waiter.resolve(None, b"", OutcomeUnknown(f"it is not known whether this happened: {BROKEN_OFF}"))
            elif waiter.notify is not None:
                waiter.notify()
        self._waiters.clear()
        for reading in list(self._readings.values()):
            reading.end(UnreachableError(f"the subscription is over: {BROKEN_OFF}"))
        for batch in [each() for each in self._batches]:
            if batch is not None and not batch.over and batch not in self._given:
                batch.break_off(BROKEN_OFF)
        # Last: until all is told, what the old session holds is what somebody waits for.
        self.session = self._new_session(token=before.token, identity=before.identity, connection=before.connection)
        self._fed.clear()
        self._broken_off = False

    def _perform(self, action: Action) -> None:
        if isinstance(action, Transmit):
            self._mishap(self.link.send(action.header, action.body))
        elif isinstance(action, Settle):
            batch, first = _origin(action.submission)
            batch.settle(first, action.seqs, action.stored_at_us, action.apart)
        elif isinstance(action, Return):
            batch, first = _origin(action.submission)
            batch.fail(first, action.errors)
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

    def _resolve(self, ticket: int, answer: ToClient | None, body: bytes, error: ChatError | None) -> None:
        waiter = self._waiters.get(ticket)
        if waiter is not None:
            waiter.resolve(answer, body, error)
            self._waiters.pop(ticket, None)  # afterwards: who is interrupted in between is not forgotten

    def _deliver(self, action: Hand | Mark | EndFollow) -> None:
        reading = self._readings.get(action.follow)
        if reading is None:
            return
        if isinstance(action, Hand):
            reading.hand(action.entries, action.contents)
        elif isinstance(action, EndFollow):
            reading.end(action.error)
        elif action.read:
            reading.drop_marked(action.seqs)

    def _waiter(self) -> Waiter:
        self._check()
        self._last_ticket += 1
        waiter = self._waiters[self._last_ticket] = Waiter(self._last_ticket)
        return waiter


def _origin(submission: Submission) -> tuple[Batch, int]:
    """Whose messages these are, and the place of the first: the session gives back what it was given."""
    return cast("Batch", submission.owner), submission.first
