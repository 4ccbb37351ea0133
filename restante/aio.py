"""The asyncio client: the same session, and callers who await.

There is no reader task that a cancelled caller could take a message from (pyzmq#1925): a look-out drains the socket,
outside anybody's coroutine, and callers await futures.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from restante import calls
from restante.calls import Call, Mark
from restante.lookout import Lookout, wake
from restante.messages import AsyncMessage, AsyncPageOf, Outcome, Outgoing, Receipt
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

__all__ = ["AsyncClient"]


class AsyncClient(Shell):
    """As `restante.Client`, method by method, with `await`; see there. An async context manager.

    It belongs to the event loop that first used it; any number of its tasks may use it at once. A call that is
    cancelled may have happened, as one that is interrupted may; nothing else is lost with it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        profile: str | None = None,
        token: bytes | str | None = None,
        timeout_s: float | None = None,
        client_name: str = "restante-python-asyncio",
    ) -> None:
        settings = read_settings(address, profile=profile, token=token, timeout_s=timeout_s)
        self._lookout = Lookout(settings, client_name)
        super().__init__(self._lookout.driver)
        self._submitted: set[asyncio.Future[Receipt]] = set()

    # --- accounts -----------------------------------------------------------------------------------------

    async def hello(self) -> Welcome:
        """Greet the server on a new connection: its version, and which of its parts are ready. Needs no account."""
        return await self._call(calls.hello())

    async def register(self, name: str, password: str, *, display_name: str = "") -> Registered:
        """Make an account; it does not log in. Raises BadName, BadPassword, NameTaken, RegistrationClosed."""
        return await self._call(calls.register(self._driver.new_id(), name, password, display_name))

    async def login(self, name: str, password: str, *, device: str = "") -> LoggedIn:
        """Log in; the client then holds the new token. Raises WrongCredentials, RateLimited."""
        return await self._call(calls.login(self._driver.new_id(), name, password, device))

    async def logout(self) -> None:
        """End the token that this client holds, and every session on it."""
        await self._call(calls.logout(self._driver.new_id()))

    async def passwd(self, old: str, new: str) -> LoggedIn:
        """Change the password. Every token of the account ends; the client then holds a new one."""
        return await self._call(calls.passwd(self._driver.new_id(), old, new))

    async def tokens(self) -> list[TokenInfo]:
        """The account's tokens, oldest first."""
        return await self._call(calls.tokens())

    async def revoke(self, token_id: int) -> None:
        """End one of the account's tokens, and every session on it. Raises UnknownToken."""
        await self._call(calls.revoke(self._driver.new_id(), token_id))

    async def lookup(self, names: Iterable[str]) -> list[str]:
        """Those of these names that have an account, in the order given. Raises RateLimited."""
        lots = calls.in_lots(calls.check_names(names), limits.NAMES_PER_LOOKUP_MAX)
        return [name for lot in lots for name in await self._call(calls.lookup(lot))]

    async def overview(self) -> Account:
        """This session's account, and how much is unread."""
        return await self._call(calls.overview())

    # --- sending ------------------------------------------------------------------------------------------

    async def send(
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
        """Send a message to one name or several; on disk when this returns. Sends at once travel together."""
        outgoing = Outgoing(to, body, once, content_type, reply_to, id)
        batch = await self._submit(outgoing, self._driver.deadline(timeout_s))
        sending = Sending(batch, batch.last)
        await self._wait_for(sending)
        return sending.stored()

    async def submit(
        self,
        to: str | Iterable[str],
        body: str | bytes,
        *,
        once: str | None = None,
        content_type: str | None = None,
        reply_to: bytes | None = None,
        id: bytes | None = None,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Receipt]:
        """Send a message without awaiting its receipt: the future has it; `flush` waits for all.

        It waits only while UNSETTLED_MAX messages are on their way. Raises nothing that is about the message.
        """
        outgoing = Outgoing(to, body, once, content_type, reply_to, id)
        batch = await self._submit(outgoing, self._driver.deadline(timeout_s))
        sending = Sending(batch, batch.last)
        future: asyncio.Future[Receipt] = self._lookout.loop.create_future()
        self._submitted.add(future)
        if sending.done:
            self._settle(future, sending)
        else:
            batch.notify(sending.place, partial(self._settle, future, sending))
        return future

    async def flush(self) -> None:
        """Wait until all that was submitted is settled. Raises the first error there is, of those not yet raised."""
        futures, self._submitted = list(self._submitted), set()
        if futures:
            await asyncio.wait(futures)
        errors = [future.exception() for future in futures if not future.cancelled()]
        first = next((error for error in errors if error is not None), None)
        if first is not None:
            raise first

    async def send_many(
        self, messages: Iterable[Outgoing] | AsyncIterable[Outgoing], *, timeout_s: float | None = None
    ) -> AsyncIterator[Outcome]:
        """Send messages, taking them as there is room for them; gives the outcome of each, in their order."""
        waiting: deque[Batch] = deque()
        told = 0
        arrived = asyncio.Event()
        taking = asyncio.ensure_future(self._take(messages, timeout_s, waiting, arrived))
        taking.add_done_callback(lambda _: arrived.set())
        try:
            while waiting or not taking.done():
                if not waiting:
                    arrived.clear()
                    await arrived.wait()
                    continue
                while not waiting[0].done:
                    await self._wait_for(Sending(waiting[0], waiting[0].pending))
                for outcome in waiting[0].outcomes(told):
                    yield outcome
                told += len(waiting.popleft().ids)
            taking.result()  # what its own input raised
        finally:
            taking.cancel()
            self._driver.withdraw(dict.fromkeys(waiting))  # the caller wants no more

    async def _take(
        self,
        messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
        timeout_s: float | None,
        waiting: deque[Batch],
        arrived: asyncio.Event,
    ) -> None:
        async for outgoing in _one_by_one(messages):
            batch = await self._submit(outgoing, self._driver.deadline(timeout_s), waiting)
            if not waiting or waiting[-1] is not batch:
                waiting.append(batch)
                arrived.set()

    async def _submit(self, outgoing: Outgoing, deadline: float, asker: object = None) -> Batch:
        """Give a message to be sent: the last of this batch."""
        if self._lookout.full:
            await self._lookout.room()
        if outgoing.once is not None and self._driver.account is None:
            try:
                await self._call(calls.join(), deadline)
            except ChatError as error:
                return refused(asker, outgoing, error)
        try:
            return self._driver.submit(outgoing, deadline, asker)
        finally:
            self._lookout.look_soon()

    def _settle(self, future: asyncio.Future[Receipt], sending: Sending) -> None:
        """Tell what became of a message that was submitted.

        What went well needs no flush; what failed is kept for it, so that it is not silent. By a callback of the future
        the same would take a turn of the loop for each message.
        """
        if future.cancelled():  # by whoever waited
            self._submitted.discard(future)
        elif future.done():
            return  # it was told, by somebody who was interrupted as they did
        elif sending.error is not None:
            future.set_exception(sending.error)
            future.exception()  # as if it had been looked at: else asyncio complains of what close() ended
        else:
            self._submitted.discard(future)
            future.set_result(sending.stored())

    # --- reading ------------------------------------------------------------------------------------------

    async def fetch(
        self,
        after: int = 0,
        *,
        limit: int = 100,
        unread: bool = True,
        sender: str = "",
        peek: bool = False,
        history: bytes | None = None,
    ) -> AsyncPageOf:
        """A page of the mailbox, oldest first, behind the place `after`. Nothing is acknowledged."""
        page, rows = await self._call(
            calls.fetch(after, limit=limit, unread=unread, sender=sender, peek=peek, history=history)
        )
        return AsyncPageOf([self._message(*row) for row in rows], page.through, page.more, page.history)

    async def inbox(
        self,
        *,
        follow: bool = False,
        unread: bool = True,
        sender: str = "",
        limit: int | None = None,
        peek: bool = False,
        wait_s: float | None = None,
    ) -> AsyncIterator[AsyncMessage]:
        """The mailbox's messages, oldest first, then with `follow` what arrives; nothing is acknowledged by it."""
        if follow and peek:
            raise BadRequest("following marks messages as delivered: it can't peek")
        left = limit
        page = calls.INBOX_PAGE if limit is None else max(1, min(limit, calls.INBOX_PAGE))
        async with aclosing(self._read(follow, page, unread, sender, peek, wait_s)) as found:
            while left is None or left > 0:
                try:
                    message = await anext(found)
                except StopAsyncIteration:
                    return
                left = None if left is None else left - 1
                yield message

    async def ack(self, messages: Mark | Iterable[Mark], *, read: bool = True) -> Acked:
        """Mark messages read, or unread again. On disk when this returns. What tasks ask at once travels together,
        and then `changed` may count others' messages too.
        """
        deadline = self._driver.deadline(None)
        total = Acked(id=1)
        for seqs, ids in calls.sort_marks(messages):
            waiter = self._lookout.do(lambda: self._driver.ask_ack(seqs, ids, read, deadline))  # noqa: B023 - called at once
            total = calls.add_acked(total, calls.read_acked(*await self._answer(waiter)))
        return total

    async def status(self, ids: Iterable[bytes]) -> list[MessageStatus]:
        """How far messages have come that this account sent, in the order asked."""
        lots = calls.in_lots(ids, limits.STATUS_IDS_MAX)
        return [each for lot in lots for each in await self._call(calls.status(lot))]

    async def _read(
        self, follow: bool, page: int, unread: bool, sender: str, peek: bool, wait_s: float | None
    ) -> AsyncGenerator[AsyncMessage, None]:
        after, more, history = 0, not (follow and unread), None
        while more:
            found = await self.fetch(after, limit=page, unread=unread, sender=sender, peek=peek, history=history)
            for message in found.messages:
                yield message
            after, more, history = found.through, found.more, found.history
        if follow:
            await self._call(calls.join())  # who can't be reached now is told so, not waited for
            reading = self._lookout.do(lambda: self._driver.follow(sender, after))
            try:
                while await self._next(reading, None if wait_s is None else time.monotonic() + wait_s):
                    yield self._message(*reading.take())
            finally:
                self._lookout.do(lambda: self._driver.unfollow(reading))

    async def _next(self, reading: Reading, until: float | None) -> bool:
        """Wait for a subscription's next message; False if none came in time."""
        consumed = reading.consumed()
        if consumed is not None:
            self._lookout.do(lambda: self._driver.feed(consumed))
        while not reading.waiting:
            if reading.error is not None:
                raise reading.error
            future: asyncio.Future[None] = self._lookout.loop.create_future()
            reading.notify = partial(wake, future)
            if until is None:
                await future
                continue
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            timer = self._lookout.loop.call_later(left_s, wake, future)
            try:
                await future
            finally:
                timer.cancel()
        return True

    def _message(self, entry: Entry, content: bytes) -> AsyncMessage:
        message = calls.received(AsyncMessage, entry, content)
        message.client = self
        return message

    # --- waiting ------------------------------------------------------------------------------------------

    async def _call(self, call: Call[T], deadline: float | None = None) -> T:
        driver = self._driver
        until = driver.deadline(None) if deadline is None else deadline
        waiter = self._lookout.do(lambda: driver.ask(call.header, until))
        return call.read(*await self._answer(waiter))

    async def _answer(self, waiter: Waiter) -> tuple[ToClient, bytes]:
        if not waiter.done:
            future: asyncio.Future[None] = self._lookout.loop.create_future()
            waiter.notify = partial(wake, future)
            try:
                await future
            except asyncio.CancelledError:
                self._driver.abandon(waiter)
                raise
        return waiter.answered()

    async def _wait_for(self, sending: Sending) -> None:
        """Wait for a message's end. Whoever is cancelled wants it no more."""
        if sending.done:
            return
        batch, place = sending.batch, sending.place
        future: asyncio.Future[None] = self._lookout.loop.create_future()
        batch.notify(place, partial(wake, future))
        try:
            await future
        except asyncio.CancelledError:
            batch.forget(place)
            self._lookout.withdraw_soon(batch, place)
            raise

    # --- the end ------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End it, at once: what was submitted and isn't settled fails. `flush` before, to wait for it."""
        self._lookout.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.close()


async def _one_by_one(messages: Iterable[Outgoing] | AsyncIterable[Outgoing]) -> AsyncIterator[Outgoing]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
    else:
        for message in messages:
            yield message
