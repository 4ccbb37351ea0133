"""The blocking client: the session, and a caller who waits.

Nothing runs in the background but, while `send_many` waits for its own input, the attendance described in
`attendance`. So a client that is not used says nothing; the server forgets it after a while, and the next call
connects again by itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from restante import calls
from restante.attendance import giving
from restante.calls import Call, Mark
from restante.driver import LOOK_EVERY, Driver
from restante.messages import Message, Outcome, Outgoing, PageOf, Receipt
from restante.settings import read_settings
from restante.shell import Shell
from restante.waiting import Batch, Reading, Sending, Waiter, refused
from restante.wire import limits
from restante.wire.envelopes import (
    Account,
    Acked,
    Entry,
    LoggedIn,
    MessageStatus,
    Registered,
    ToClient,
    TokenInfo,
    Welcome,
)  # fmt: skip
from restante.wire.errors import BadRequest, ChatError

T = TypeVar("T")

__all__ = ["Client", "Pending"]


class Pending:
    """A message on its way, as `Client.submit` gives it."""

    __slots__ = ("_client", "_sending", "seen")

    def __init__(self, client: Client, sending: Sending) -> None:
        self._client = client
        self._sending = sending
        self.seen = False
        """Whether anybody has looked at what became of it."""

    @property
    def id(self) -> bytes:
        """The id the message is sent with; b"" if it was refused before it had one."""
        return self._sending.id

    @property
    def needs_no_look(self) -> bool:
        """Whether it is stored, or somebody knows that it is not."""
        return self.seen or self._sending.batch.stored(self._sending.place)

    def done(self) -> bool:
        """Whether its outcome is known."""
        return self._sending.done

    def result(self, timeout_s: float | None = None) -> Receipt:
        """Wait for the receipt. Raises what `Client.send` raises; TimeoutError if the outcome isn't known in time."""
        self.exception(timeout_s)
        return self._sending.stored()

    def exception(self, timeout_s: float | None = None) -> ChatError | None:
        """Wait for the outcome; the error, or None. Raises TimeoutError if it isn't known in time."""
        self._client.wait_for(self._sending, None if timeout_s is None else time.monotonic() + timeout_s)
        self.seen = True
        return self._sending.error


class Client(Shell):
    """A connection to a server, for one account. A context manager; leaving it flushes and closes.

    It belongs to one thread at a time. It connects with the first call, and again whenever the connection is lost; a
    call that can't be carried in `timeout_s` seconds (30 unless configured) raises `UnreachableError`, or
    `OutcomeUnknown` if it may have happened. A call that is interrupted (Ctrl-C) may have happened, and the client goes
    on: at worst it connects anew, and what else was on its way is in doubt. Whatever is raised on purpose is a
    `ChatError`: a subclass of `RefusedError` where the server said no (`restante.wire.errors` has the tree).

    `address` is `chat://HOST[:PORT]/KEY`; `token` 32 bytes, or their text. What isn't given comes from where the
    command takes it from (`restante.settings`). Raises SettingsError.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        profile: str | None = None,
        token: bytes | str | None = None,
        timeout_s: float | None = None,
        client_name: str = "restante-python",
    ) -> None:
        settings = read_settings(address, profile=profile, token=token, timeout_s=timeout_s)
        super().__init__(Driver(settings, client_name))
        self._submitted: deque[Pending] = deque()

    # --- accounts -----------------------------------------------------------------------------------------

    def hello(self) -> Welcome:
        """Greet the server on a new connection: its version, and which of its parts are ready. Needs no account."""
        return self._call(calls.hello())

    def register(self, name: str, password: str, *, display_name: str = "") -> Registered:
        """Make an account; it does not log in.

        Raises BadName, BadPassword, NameTaken, RegistrationClosed, RateLimited.
        """
        return self._call(calls.register(self._driver.new_id(), name, password, display_name))

    def login(self, name: str, password: str, *, device: str = "") -> LoggedIn:
        """Log in; the client then holds the new token. Raises WrongCredentials, RateLimited."""
        return self._call(calls.login(self._driver.new_id(), name, password, device))

    def logout(self) -> None:
        """End the token that this client holds, and every session on it."""
        self._call(calls.logout(self._driver.new_id()))

    def passwd(self, old: str, new: str) -> LoggedIn:
        """Change the password. Every token of the account ends; the client then holds a new one.

        Raises WrongCredentials, BadPassword.
        """
        return self._call(calls.passwd(self._driver.new_id(), old, new))

    def tokens(self) -> list[TokenInfo]:
        """The account's tokens, oldest first."""
        return self._call(calls.tokens())

    def revoke(self, token_id: int) -> None:
        """End one of the account's tokens, and every session on it. Raises UnknownToken."""
        self._call(calls.revoke(self._driver.new_id(), token_id))

    def lookup(self, names: Iterable[str]) -> list[str]:
        """Those of these names that have an account, in the order given. Raises RateLimited."""
        lots = calls.in_lots(calls.check_names(names), limits.NAMES_PER_LOOKUP_MAX)
        return [name for lot in lots for name in self._call(calls.lookup(lot))]

    def overview(self) -> Account:
        """This session's account, and how much is unread."""
        return self._call(calls.overview())

    # --- sending ------------------------------------------------------------------------------------------

    def send(
        self,
        to: str | Iterable[str],
        body: str | bytes,
        *,
        once: str | None = None,
        content_type: str | None = None,
        reply_to: bytes | None = None,
        id: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Receipt:
        """Send a message to one name or several; on disk when this returns. The fields are those of `Outgoing`.

        Raises UnknownRecipient (then nobody gets it), EmptyBody, BodyTooLarge, MailboxFull, IdConflict, Busy …;
        UnreachableError if it was not sent; OutcomeUnknown, with its id, if it may have been.
        """
        self._check_turn()
        outgoing = Outgoing(to, body, once, content_type, reply_to, id)
        batch = self._submit(outgoing, self._driver.deadline(timeout_s))
        sending = Sending(batch, batch.last)
        self.wait_for(sending)
        return sending.stored()

    def submit(
        self,
        to: str | Iterable[str],
        body: str | bytes,
        *,
        once: str | None = None,
        content_type: str | None = None,
        reply_to: bytes | None = None,
        id: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Pending:
        """Send a message without waiting for its receipt; `flush` waits for all. What waits travels together.

        It waits only for the connection, and while UNSETTLED_MAX messages are on their way. Raises nothing that
        is about the message: `Pending.result` does.
        """
        self._check_turn()
        outgoing = Outgoing(to, body, once, content_type, reply_to, id)
        batch = self._submit(outgoing, self._driver.deadline(timeout_s))
        pending = Pending(self, Sending(batch, batch.last))
        self._submitted.append(pending)
        if self._driver.unlooked >= LOOK_EVERY or not self._driver.ready:
            self._keep_up(batch)
            while self._submitted and self._submitted[0].needs_no_look:
                self._submitted.popleft()
        return pending

    def flush(self) -> None:
        """Wait until all that was submitted is settled. Raises the first error that nobody has looked at."""
        first: ChatError | None = None
        while self._submitted:
            pending = self._submitted.popleft()
            if not pending.needs_no_look:
                error = pending.exception()
                first = first or error
        if first is not None:
            raise first

    def send_many(self, messages: Iterable[Outgoing], *, timeout_s: float | None = None) -> Iterator[Outcome]:
        """Send messages, taking them as there is room for them; gives the outcome of each, in their order.

        One that is refused does not keep the others. `timeout_s` is for each, from when it was taken. What is taken
        is sent at once, also if the next is long in coming. What makes the messages may not use this client.
        """
        self._check_turn()
        waiting: deque[Batch] = deque()
        driver, asker, told = self._driver, object(), 0

        def give(outgoings: list[Outgoing]) -> None:
            for batch in self._submit_all(outgoings, driver.deadline(timeout_s), asker):
                if not waiting or waiting[-1] is not batch:
                    waiting.append(batch)

        try:
            for _ in giving(messages, driver, give):
                if waiting:
                    self._keep_up(waiting[-1])
                while waiting and waiting[0].done:
                    yield from waiting[0].outcomes(told)
                    told += len(waiting.popleft().ids)
            while waiting:
                self.wait_for(waiting[0])
                yield from waiting[0].outcomes(told)
                told += len(waiting.popleft().ids)
        finally:
            driver.withdraw(dict.fromkeys(waiting))  # the caller wants no more

    def _submit_all(self, outgoings: list[Outgoing], deadline: float, asker: object) -> Iterator[Batch]:
        """Give messages to be sent; yields the batch that each is the last of, or that all are."""
        usual = self._driver.submit_usual(outgoings, deadline, asker)
        if usual is not None:
            yield usual
            return
        for outgoing in outgoings:
            yield self._submit(outgoing, deadline, asker)

    def _submit(self, outgoing: Outgoing, deadline: float, asker: object = None) -> Batch:
        """Give a message to be sent: the last of this batch."""
        if outgoing.once is not None and self._driver.account is None:
            try:
                self._call(calls.join(), deadline)
            except ChatError as error:
                return refused(asker, outgoing, error)
        return self._driver.submit(outgoing, deadline, asker)

    def _keep_up(self, batch: Batch) -> None:
        """Let the connection keep pace with what is submitted."""
        driver = self._driver
        while not driver.ready and not batch.done:
            driver.step()
        if driver.unlooked >= LOOK_EVERY:
            driver.drain()
            while driver.full:
                driver.step()

    # --- reading ------------------------------------------------------------------------------------------

    def fetch(
        self,
        after: int = 0,
        *,
        limit: int = 100,
        unread: bool = True,
        sender: str = "",
        peek: bool = False,
        history: bytes | None = None,
    ) -> PageOf:
        """A page of the mailbox, oldest first, behind the place `after`.

        `peek` leaves even the mark *delivered* as it is. Nothing is acknowledged. With the `history` of an earlier
        page it raises HistoryChanged if places in that one mean nothing any more.
        """
        page, rows = self._call(
            calls.fetch(after, limit=limit, unread=unread, sender=sender, peek=peek, history=history)
        )
        return PageOf([self._message(*row) for row in rows], page.through, page.more, page.history)

    def inbox(
        self,
        *,
        follow: bool = False,
        unread: bool = True,
        sender: str = "",
        limit: int | None = None,
        peek: bool = False,
        wait_s: float | None = None,
    ) -> Iterator[Message]:
        """The mailbox's messages, oldest first, then with `follow` what arrives; nothing is acknowledged by it.

        Ends after `limit` messages; with `follow`, after `wait_s` seconds in which nothing came. Following goes on
        over any loss of connection once it has begun; within one call no message comes twice.
        """
        if follow and peek:
            raise BadRequest("following marks messages as delivered: it can't peek")
        page = calls.INBOX_PAGE if limit is None else max(1, min(limit, calls.INBOX_PAGE))
        found = self._read(follow, page, unread=unread, sender=sender, peek=peek, wait_s=wait_s)
        return found if limit is None else islice(found, max(0, limit))

    def ack(self, messages: Mark | Iterable[Mark], *, read: bool = True) -> Acked:
        """Mark messages read, or unread again: by themselves, by seq, or by id. On disk when this returns.

        What isn't in the mailbox is listed in the answer, the rest is marked.
        """
        self._check_turn()
        deadline = self._driver.deadline(None)
        total = Acked(id=1)
        for seqs, ids in calls.sort_marks(messages):
            waiter = self._driver.ask_ack(seqs, ids, read, deadline)
            total = calls.add_acked(total, calls.read_acked(*self._answer(waiter)))
        return total

    def status(self, ids: Iterable[bytes]) -> list[MessageStatus]:
        """How far messages have come that this account sent, in the order asked."""
        lots = calls.in_lots(ids, limits.STATUS_IDS_MAX)
        return [each for lot in lots for each in self._call(calls.status(lot))]

    def _read(
        self, follow: bool, page: int, *, unread: bool, sender: str, peek: bool, wait_s: float | None
    ) -> Iterator[Message]:
        after, more, history = 0, not (follow and unread), None
        while more:
            found = self.fetch(after, limit=page, unread=unread, sender=sender, peek=peek, history=history)
            yield from found.messages
            after, more, history = found.through, found.more, found.history
        if follow:
            self._call(calls.join())  # who can't be reached now is told so, not waited for
            yield from self._follow(sender, after, wait_s)

    def _follow(self, sender: str, after: int, wait_s: float | None) -> Iterator[Message]:
        driver = self._driver
        reading = driver.follow(sender, after)
        try:
            while self._await(reading, None if wait_s is None else time.monotonic() + wait_s):
                yield self._message(*reading.take())
        finally:
            driver.unfollow(reading)

    def _await(self, reading: Reading, until: float | None) -> bool:
        """Wait for a subscription's next message; False if none came in time."""
        consumed = reading.consumed()
        if consumed is not None:
            self._driver.feed(consumed)
        while not reading.waiting:
            if reading.error is not None:
                raise reading.error
            if until is not None and time.monotonic() >= until:
                return False
            self._driver.step(until)
        return True

    def _message(self, entry: Entry, content: bytes) -> Message:
        message = calls.received(Message, entry, content)
        message.client = self
        return message

    # --- waiting ------------------------------------------------------------------------------------------

    def wait_for(self, waiter: Waiter | Sending | Batch, until: float | None = None) -> None:
        """Keep the connection going until an answer is there. Raises TimeoutError if it isn't, `until` then."""
        self._check_turn()
        while not waiter.done:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("the outcome is not known yet")
            self._driver.step(until)

    def _check_turn(self) -> None:
        """Raise RuntimeError if it is `send_many`'s own input that calls: somebody else looks after the client then."""
        if self._driver.away:
            raise RuntimeError("send_many is waiting for its own messages: what makes them needs a client of its own")

    def _call(self, call: Call[T], deadline: float | None = None) -> T:
        self._check_turn()
        driver = self._driver
        waiter = driver.ask(call.header, driver.deadline(None) if deadline is None else deadline)
        return call.read(*self._answer(waiter))

    def _answer(self, waiter: Waiter) -> tuple[ToClient, bytes]:
        try:
            self.wait_for(waiter)
        except BaseException:
            self._driver.abandon(waiter)  # interrupted: nobody waits any more
            raise
        return waiter.answered()

    # --- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it, at once: what was submitted and isn't settled fails. `flush` before, to wait for it."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()
