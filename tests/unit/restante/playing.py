"""A session played against a broker that is the test itself: its transcript, in memory and in a time of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import TypeVar

from restante import events
from restante.events import Action, Event, Submission
from restante.session import Session
from restante.wire import envelopes
from restante.wire.columns import results_of
from restante.wire.envelopes import TEXT, Deliver, Entry, Envelope, Error, LoggedIn, Result, Send, Sent, Welcome
from restante.wire.errors import ChatError

TOKEN = b"t" * 32
HISTORY = b"h" * 16
NAME = "alice"
H = TypeVar("H", bound=Envelope)


class Play:
    """Feeds events, keeps actions: what was `sent`, what tickets were `told`, what was `handed` on."""

    def __init__(self, *, token: bytes | None = TOKEN) -> None:
        dice = random.Random(1)
        self.session = Session(where="server:5570", client="test", token=token, entropy=dice.randbytes)
        self.now = 1_000.0
        self.sent: list[Envelope] = []
        self.bodies: list[bytes] = []
        self.told: dict[int, object] = {}
        self.told_at: dict[int, float] = {}
        self.handed: list[tuple[int, bytes]] = []
        self.marked: list[list[int]] = []
        self.ended: list[ChatError] = []
        self.connections: list[float] = []
        self.connected = False
        self.limits = envelopes.Limits()

    # --- what happens ---------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        for action in self.session.handle(event, self.now):
            self._keep(action)

    def _keep(self, action: Action) -> None:
        if isinstance(action, events.Transmit):
            assert self.connected, "nothing is sent without a connection"
            self.sent.append(action.header)
            self.bodies.append(action.body)
        elif isinstance(action, events.Open):
            self.connections.append(self.now)
            self.connected = True
        elif isinstance(action, events.Drop):
            self.connected = False
        elif isinstance(action, events.Resolve):
            self._tell(action.ticket, action.answer)
        elif isinstance(action, events.Fail):
            self._tell(action.ticket, action.error)
        elif isinstance(action, events.Settle):
            results = results_of(action.seqs, action.stored_at_us, action.apart)
            for each, result in zip(action.submission.ids, results, strict=True):
                self._tell(ticket_of(each), result)
        elif isinstance(action, events.Return):
            for each, error in zip(action.submission.ids, action.errors, strict=True):
                self._tell(ticket_of(each), error)
        elif isinstance(action, events.Hand):
            self.handed.extend((entry.seq, body) for entry, body in zip(action.entries, action.contents, strict=True))
        elif isinstance(action, events.Mark):
            self.marked.append(action.seqs)
        else:
            self.ended.append(action.error)

    def _tell(self, ticket: int, outcome: object) -> None:
        assert ticket not in self.told, f"ticket {ticket} is told twice"
        self.told[ticket] = outcome
        self.told_at[ticket] = self.now

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the session is told whenever it wanted to be."""
        end = self.now + seconds
        turns = 0
        while (deadline := self.session.next_deadline()) is not None and deadline <= end:
            turns += 1
            assert turns < 10_000, f"the session spins at {self.now}"
            self.now = max(self.now, deadline)
            self.feed(events.Ticked())
        self.now = end

    # --- what the user does ---------------------------------------------------------------------------

    def ask(self, ticket: int, header: envelopes.Request, timeout_s: float = 30.0) -> None:
        self.feed(events.Requested(ticket, header, self.now + timeout_s))

    def submit(self, tickets: Iterable[int], *, size: int = 10, timeout_s: float = 30.0) -> None:
        """Give messages, as one submission; what is told by a ticket here is in the id and in the body."""
        self.feed(events.Submitted([submission(tickets, size=size, deadline=self.now + timeout_s)]))

    def submit_each(self, tickets: Iterable[int], *, timeout_s: float = 30.0) -> None:
        """Give messages, each as a submission and in an event of its own."""
        for ticket in tickets:
            self.submit([ticket], timeout_s=timeout_s)

    # --- what the broker does -------------------------------------------------------------------------

    def answer(self, header: envelopes.ToClient, body: bytes = b"") -> None:
        self.feed(events.Received(self.session.connection, header, body))

    def refuse(
        self, request: envelopes.Request, code: str, *, wait_s: float | None = None, fatal: bool = False
    ) -> None:
        wait_ms = None if wait_s is None else int(wait_s * 1000)
        self.answer(Error(id=request.id, code=code, text=f"refused: {code}", retry_after_ms=wait_ms, fatal=fatal))

    def gap(self, send: Send, expected: int) -> None:
        self.answer(Error(id=send.id, code="gap", text="", retry_after_ms=0, expected=expected))

    def welcome(self) -> None:
        hello = self.last(envelopes.Hello)
        self.answer(Welcome(id=hello.id, version=1, server="s", heartbeat_ms=30_000, limits=self.limits))

    def let_in(self) -> None:
        """Answer `hello` and `resume`."""
        self.welcome()
        self.answer(LoggedIn(id=self.last(envelopes.Resume).id, account=1, name=NAME, expires_at_us=1))

    def accept(self, send: Send, *, again: bool = False) -> None:
        """Store all messages of an envelope; the seq is the ticket."""
        self.answer(Sent.of(send.id, [Result(seq=ticket, again=again) for ticket in tickets_of(send)]))

    def deliver(self, sub: int, first: int, seqs: list[int], size: int = 3) -> None:
        entries = [
            Entry(seq=seq, id=seq.to_bytes(16, "big"), sender="bob", to=[NAME], size=size, stored_at_us=1)
            for seq in seqs
        ]
        self.answer(Deliver(sub=sub, first=first, messages=entries), b"x" * size * len(seqs))

    def lose(self, reason: str = "the connection broke off", *, handshake: bool = False) -> None:
        self.feed(events.Lost(self.session.connection, reason, handshake))

    # --- what came of it ------------------------------------------------------------------------------

    def all(self, kind: type[H]) -> list[H]:
        return [header for header in self.sent if isinstance(header, kind)]

    def last(self, kind: type[H]) -> H:
        return self.all(kind)[-1]

    def take_sends(self) -> list[Send]:
        """The sends transmitted since this was last asked, and nothing else."""
        sends = self.all(Send)
        self.sent = [header for header in self.sent if not isinstance(header, Send)]
        return sends

    def accepted(self) -> list[int]:
        """The tickets accepted so far, in the order in which they were told."""
        return [ticket for ticket, outcome in self.told.items() if isinstance(outcome, Result)]


def submission(
    tickets: Iterable[int], *, size: int = 10, deadline: float = math.inf, owner: object = None
) -> Submission:
    """Messages of so many bytes each, to bob; `owner`, unless told, is the first one's ticket."""
    numbers = list(tickets)
    bodies = [str(ticket).encode().ljust(size, b".") for ticket in numbers]
    return Submission(
        deadline=deadline,
        owner=numbers[0] if owner is None else owner,
        ids=[ticket.to_bytes(16, "big") for ticket in numbers],
        to=["bob"] * len(numbers),
        sizes=[len(body) for body in bodies],
        content_types=[TEXT] * len(numbers),
        reply_to=[None] * len(numbers),
        bodies=bodies,
    )


def ticket_of(message_id: bytes) -> int:
    return int.from_bytes(message_id, "big")


def tickets_of(send: Send) -> list[int]:
    return [ticket_of(message_id) for message_id in send.ids]


def ready(bounds: envelopes.Limits | None = None) -> Play:
    """A session that is logged in, with nothing under way; `bounds` is what the server takes."""
    play = Play()
    play.limits = bounds or play.limits
    play.feed(events.Requested(1, envelopes.Resume(id=1, token=TOKEN), math.inf))
    play.let_in()
    play.sent.clear()
    play.told.clear()
    return play
