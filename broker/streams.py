"""Streams: the order in which one client's envelopes are taken (RULES 10, 11).

A stream admits only the next n. An envelope whose recipients must be looked up first is held, and holds those behind
it; one look-up of a stream is under way at a time. When an envelope is refused as a whole, the stream goes back to its
n, and everything admitted after it is refused with `gap`: the client sends again from there, and no envelope ever
overtakes another.
"""

from __future__ import annotations

from collections import deque

from broker.sessions import Session
from restante.wire.envelopes import Send

MESSAGE_COST = 256
"""Bytes that a message takes besides content and recipients, in memory and in a batch: a content type alone has 127."""

RECIPIENT_COST = 64
"""Bytes of a recipient: a name and a number."""


class Job:
    """One admitted `send`, until it is answered."""

    __slots__ = ("body", "cost", "names", "request", "session", "stream")

    def __init__(self, session: Session, stream: Stream, request: Send, body: bytes) -> None:
        self.session = session
        self.stream = stream
        self.request = request
        self.body = body
        self.names = request.names
        """Of the recipients of all its messages, as the client wrote them."""
        self.cost = len(body) + MESSAGE_COST * len(request.ids) + RECIPIENT_COST * len(self.names)
        """About the bytes it holds until it is answered, and takes in a batch: its contents and its header, of which
        recipients may be more than contents are.
        """


class Stream:
    """One order of sends in one session."""

    __slots__ = ("asking", "expected", "held")

    def __init__(self, first: int) -> None:
        self.expected = first
        """The only n that is admitted."""
        self.held: deque[Job] = deque()
        """Admitted, in order, and not yet given to the store: the first waits for a look-up, or nothing does."""
        self.asking = False
        """True while a look-up is under way."""

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
