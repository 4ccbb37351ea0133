"""Requests other than sends: each goes until it is answered, is refused for good, or its time is up.

    Requested ─▶ waiting ─▶ out ─▶ answered: resolved
                    ▲        │
                    └────────┴ refused `busy` …: after as long as it was told; connection lost: at once

All of them may be repeated: reads change nothing, acknowledgements say where things stand, and every change carries an
operation id that makes a repetition answer the same (RULES 21).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from restante.events import Action, Transmit
from restante.wire.envelopes import (
    NEEDS_NO_ACCOUNT,
    Ack,
    Error,
    Login,
    Logout,
    Passwd,
    Ping,
    Register,
    Request,
    Revoke,
    ToClient,
)  # fmt: skip
from restante.wire.errors import CODES, ChatError, OutcomeUnknown, RefusedError, UnreachableError

CHANGES: Final = (Register, Login, Logout, Passwd, Revoke, Ack)
"""What may have happened though no answer came."""

WAITING: Final = 0
OUT: Final = 1
DONE: Final = 2

Settled = Callable[["Ask", "ToClient | ChatError", bytes, float, list[Action]], None]
"""What is called, once, when a request is at its end: the request, its answer or its error, the answer's body."""


class Ask(Struct, eq=False, kw_only=True):
    """One request, from when it was made to its end."""

    header: Request
    settled: Settled
    ticket: int = 0
    """0: the session's own, which nobody can abandon."""
    deadline: float = math.inf
    per_connection: bool = False
    """Of no use on another connection than its own, so forgotten with it."""
    state: int = WAITING
    request_id: int = 0
    sent_at: float = 0.0
    doubtful: bool = False
    """It was transmitted, and that transmission was never answered."""
    refusal: RefusedError | None = None
    """Why it was refused last, if it was."""

    @property
    def needs_account(self) -> bool:
        """Whether it is for a session that is logged in."""
        return not isinstance(self.header, NEEDS_NO_ACCOUNT)


class Asks:
    """All requests but sends."""

    def __init__(self, new_request_id: Callable[[], int]) -> None:
        self._new_request_id = new_request_id
        self._open: deque[Ask] = deque()
        """Waiting, and in need of no account."""
        self._members: deque[Ask] = deque()
        """Waiting for an account or for room."""
        self._out: dict[int, Ask] = {}
        self._delayed: list[tuple[float, int, Ask]] = []
        self._timers: list[tuple[float, int, Ask]] = []
        self._count = itertools.count()
        self._by_ticket: dict[int, Ask] = {}
        self.wanted = 0
        """How many are not at their end, and do not end with the connection: a reason to be connected."""

    def add(self, ask: Ask, *, held: bool = False) -> None:
        """Take a request; one that is `held` is never transmitted, and ended by `end` or by its deadline."""
        self.wanted += not ask.per_connection
        if ask.ticket:
            self._by_ticket[ask.ticket] = ask
        if ask.deadline < math.inf:
            heapq.heappush(self._timers, (ask.deadline, next(self._count), ask))
        if not held:
            self._wait(ask)

    def unanswered(self) -> list[Ask]:
        """All that are not at their end and do not end with the connection."""
        delayed = (row[2] for row in self._delayed)
        all_asks = itertools.chain(self._out.values(), delayed, self._open, self._members)
        return [ask for ask in all_asks if ask.state != DONE and not ask.per_connection]

    @property
    def want_account(self) -> bool:
        """Whether something waits for the session to be logged in."""
        return any(ask.state == WAITING for ask in self._members)

    # --- transmitting -------------------------------------------------------------------------------------

    def transmit(self, *, logged_in: bool, room: int, now: float, actions: list[Action]) -> None:
        """Send what may go, at most up to `room` unanswered ones."""
        while self._delayed and self._delayed[0][0] <= now:
            self._wait(heapq.heappop(self._delayed)[2])
        for waiting in (self._open, self._members) if logged_in else (self._open,):
            while waiting and len(self._out) < room:
                ask = waiting.popleft()
                if ask.state == WAITING:
                    self._send(ask, now, actions)

    def expiry(self) -> float:
        """When the next request is past its deadline; inf if none waits."""
        while self._timers and self._timers[0][2].state == DONE:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else math.inf

    def next_transmission(self) -> float:
        """When a wait that the broker asked for is over. Of meaning only on a connection."""
        return self._delayed[0][0] if self._delayed else math.inf

    def overdue_at(self, answer_s: float, ping_s: float) -> float:
        """When the connection is to be given up because an answer is missing; inf if none is awaited."""
        overdue = math.inf
        for ask in self._out.values():
            overdue = min(overdue, ask.sent_at + (ping_s if isinstance(ask.header, Ping) else answer_s))
        return overdue

    def _wait(self, ask: Ask) -> None:
        if ask.state != DONE:
            ask.state = WAITING
            (self._members if ask.needs_account else self._open).append(ask)

    def _send(self, ask: Ask, now: float, actions: list[Action]) -> None:
        ask.state, ask.sent_at, ask.request_id = OUT, now, self._new_request_id()
        self._out[ask.request_id] = ask
        actions.append(Transmit(replace(ask.header, id=ask.request_id)))

    # --- answers ------------------------------------------------------------------------------------------

    def waits_for(self, request_id: int) -> bool:
        """Whether somebody still waits for the answer to this transmission."""
        ask = self._out.get(request_id)
        return ask is not None and ask.state != DONE

    def answered(self, request_id: int, answer: ToClient, body: bytes, now: float, actions: list[Action]) -> None:
        """An answer came. One to what nobody waits for any more is dropped."""
        ask = self._out.pop(request_id, None)
        if ask is not None:
            self.end(ask, answer, body, now, actions)

    def refused(self, error: Error, wait_s: float, now: float, actions: list[Action]) -> None:
        """A request was refused: for good, or to be repeated after `wait_s`, if there is time for that."""
        ask = self._out.pop(error.id or 0, None)
        if ask is None or ask.state == DONE:
            return
        ask.refusal = RefusedError.of(error.code, error.text, error.retry_after_ms)
        passes = error.code in CODES and CODES[error.code].passes
        if passes and now + wait_s < ask.deadline:
            ask.state = WAITING
            heapq.heappush(self._delayed, (now + wait_s, next(self._count), ask))
        else:
            self.end(ask, ask.refusal, b"", now, actions)

    def lost(self) -> None:
        """The connection is gone: what was out goes again, before what never went; what belonged to it is forgotten."""
        again = [ask for ask in self._out.values() if ask.state == OUT and not ask.per_connection]
        self._out.clear()
        for waiting in (self._open, self._members):
            kept = [ask for ask in waiting if ask.state == WAITING and not ask.per_connection]
            waiting.clear()
            waiting.extend(kept)
        self._delayed = [row for row in self._delayed if not row[2].per_connection]
        heapq.heapify(self._delayed)
        for ask in reversed(again):
            ask.state, ask.doubtful, ask.refusal = WAITING, True, None
            (self._members if ask.needs_account else self._open).appendleft(ask)

    # --- endings ------------------------------------------------------------------------------------------

    def expire(self, now: float, untold: Callable[[], ChatError], actions: list[Action]) -> bool:
        """End what is past its deadline. `untold` makes the error for what was never transmitted.

        True if one of them was out on this connection.
        """
        out = False
        while self._timers and (self._timers[0][2].state == DONE or self._timers[0][0] <= now):
            ask = heapq.heappop(self._timers)[2]
            out = out or ask.state == OUT
            if ask.state != DONE:
                self.end(ask, _expired(ask) or untold(), b"", now, actions)
        return out

    def end(self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
        """Tell whoever asked, once."""
        if ask.state == DONE:
            return
        self._finish(ask)
        self._by_ticket.pop(ask.ticket, None)
        ask.settled(ask, outcome, body, now, actions)

    def fail(self, asks: list[Ask], error: ChatError, now: float, actions: list[Action]) -> None:
        """End these: with the error, or in doubt where something was transmitted that changes something."""
        for ask in asks:
            in_doubt = (ask.doubtful or ask.state == OUT) and isinstance(ask.header, CHANGES)
            self.end(ask, _in_doubt(ask, str(error)) if in_doubt else error, b"", now, actions)

    def abandon(self, ticket: int) -> bool:
        """Forget who asked; whether there was such a request."""
        ask = self._by_ticket.pop(ticket, None)
        if ask is None:
            return False
        self._finish(ask)
        return True

    def _finish(self, ask: Ask) -> None:
        ask.state = DONE
        self.wanted -= not ask.per_connection


def _expired(ask: Ask) -> ChatError | None:
    """Why a request is at its end whose time is up; None if it was never transmitted."""
    if ask.refusal is not None and ask.state == WAITING and not ask.doubtful:
        return ask.refusal
    if ask.state != OUT and not ask.doubtful:
        return None
    if isinstance(ask.header, CHANGES):
        return _in_doubt(ask, "no answer came in the time allowed")
    return UnreachableError("the server was asked, and did not answer in the time allowed")


def _in_doubt(ask: Ask, why: str) -> OutcomeUnknown:
    what = type(ask.header).__name__.lower()
    return OutcomeUnknown(f"{what} was asked for, but it is not known whether it happened: {why}")
