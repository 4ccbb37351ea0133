"""Streams: the order in which one client's envelopes are taken (RULES 10, 11).

A stream admits only the next n. An envelope whose recipients must be looked up first is held, and holds those behind
it. When one is refused as a whole, the stream goes back to its n, and everything admitted after it is refused with
`gap`: the client sends again from there, and no envelope ever overtakes another.
"""

from __future__ import annotations

from collections import deque

from broker.sessions import Session
from restante.wire import store_link
from restante.wire.envelopes import Send


class Job:
    """One admitted `send`, until it is answered."""

    __slots__ = ("body", "command", "request", "session", "stream")

    def __init__(self, session: Session, stream: Stream, request: Send, body: bytes) -> None:
        self.session = session
        self.stream = stream
        self.request = request
        self.body = body
        self.command: store_link.StoreMessages | None = None
        """What the store is to do; None while recipients are being looked up."""

    @property
    def cost(self) -> int:
        """The bytes it holds: its contents, and about a hundred more for each message."""
        return len(self.body) + 128 * len(self.request.messages)


class Stream:
    """One order of sends in one session."""

    __slots__ = ("expected", "held")

    def __init__(self, first: int) -> None:
        self.expected = first
        """The only n that is admitted."""
        self.held: deque[Job] = deque()
        """Admitted, in order, and not yet given to the store: the first waits for a look-up, or nothing does."""

    def admit(self, job: Job) -> None:
        """Take the envelope of number `expected`."""
        assert job.request.n == self.expected, "the caller checks the number"
        self.expected += 1
        self.held.append(job)

    def go_back(self, n: int) -> None:
        """Envelope n was refused as a whole: it is the next to come."""
        self.expected = min(self.expected, n)

    def drop_from(self, n: int) -> list[Job]:
        """The held envelopes from n on, which are held no longer."""
        dropped = []
        while self.held and self.held[-1].request.n >= n:
            dropped.append(self.held.pop())
        return dropped[::-1]
