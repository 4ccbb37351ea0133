"""A driver in an event loop: whoever keeps a look-out for what comes, and for what time brings.

The loop tells when the socket may have something, and then, and after everything that is done to the driver, it is
drained without waiting, outside anybody's coroutine. ZeroMQ's descriptors are edge-triggered, hence the second look.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from restante.driver import Driver
from restante.settings import Settings
from restante.waiting import Batch

T = TypeVar("T")

HELD_S: Final = 0.01
"""A message that waits for others' answers is told the session by then, if none comes, so that it has a deadline."""


class Lookout:
    """Makes a driver, and belongs to the event loop that first used it."""

    def __init__(self, settings: Settings, client_name: str) -> None:
        self.driver = Driver(settings, client_name, closing=self._unwatch, looks_soon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: tuple[int, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._due = False
        """A look comes in the loop's next turn."""
        self._unwanted: dict[Batch, set[int]] = {}
        """Messages that nobody waits for any more, of which the session is told in the loop's next turn."""
        self._queue: deque[asyncio.Future[None]] = deque()
        """Who waits for a place among the unsettled, in the order they came."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop. To be asked inside it, the first time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def full(self) -> bool:
        """Whether whoever submits is to wait for `room`."""
        return self.driver.full or bool(self._queue)

    async def room(self) -> None:
        """Wait for a place among the unsettled, behind all who do already."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._queue.append(future)
        try:
            await future
        finally:
            self._queue.remove(future)

    def do(self, act: Callable[[], T]) -> T:
        """Do something to the driver, and see to it that what comes of it is noticed."""
        try:
            return act()
        finally:
            self.look_soon()

    def look_soon(self) -> None:
        """Look in the loop's next turn: sending may have swallowed the descriptor's edge, and what was given in this
        turn travels together. Where a message was only put beside others that wait for answers, their edge will do.
        """
        if self._due or self.driver.closed:
            return
        if self.driver.holds:
            self._look_by(time.monotonic() + HELD_S)
            return
        self._due = True
        self.loop.call_soon(self._look)

    def withdraw_soon(self, batch: Batch, place: int) -> None:
        """Nobody waits for a message any more. Whoever cancels many does it in one turn, and so are they withdrawn."""
        if not self._unwanted:
            self.loop.call_soon(self._withdraw)
        self._unwanted.setdefault(batch, set()).add(place)

    def _withdraw(self) -> None:
        unwanted, self._unwanted = self._unwanted, {}
        self.driver.withdraw(unwanted)

    def _look_by(self, at: float) -> None:
        """Look at a time, if nothing happens before."""
        if self._timer is not None:
            if self._timer_at <= at:
                return  # one that rings early sets the next: deadlines move with every send, timers need not
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_later(max(0.0, at - time.monotonic()), self._ring)

    def close(self) -> None:
        """Close the driver, at once. Who waits for room is let go on, and told."""
        if self._timer is not None:
            self._timer.cancel()
        self.driver.close()
        for future in self._queue:
            wake(future)

    def _look(self) -> None:
        """Take in what has come, and what time has brought."""
        self._due = False
        if self.driver.closed:
            return
        more = True
        try:
            more = self.driver.drain() > 0 and self.driver.link.stirred
        finally:  # whatever was raised there, who waits is not forgotten
            if more:
                self.look_soon()  # there is more, and what was sent meanwhile hides its edge
        self._watch()
        for future in islice(self._queue, self.driver.room):
            wake(future)

    def _watch(self) -> None:
        """Hear of what comes next: the descriptors' edges, and the session's deadline."""
        if not self._watched:
            self._watched = self.driver.link.descriptors
            for descriptor in self._watched:
                self.loop.add_reader(descriptor, self._look)
        if self.driver.due_at is not None:
            self._look_by(self.driver.due_at)

    def _ring(self) -> None:
        self._timer = None
        self._look()

    def _unwatch(self) -> None:
        """The descriptors are about to go."""
        watched, self._watched = self._watched, ()
        if self._loop is not None and not self._loop.is_closed():
            for descriptor in watched:
                self._loop.remove_reader(descriptor)


def wake(future: asyncio.Future[None]) -> None:
    """Let whoever awaits it go on."""
    if not future.done():
        future.set_result(None)
