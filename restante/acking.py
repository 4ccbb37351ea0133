"""Acknowledgements, put together: one request is out at a time, and what comes meanwhile makes the next.

So a reader that acknowledges message by message, many at once, costs the store one update for all of them. Every one
is answered when it is on disk (RULES 19).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque

from msgspec import Struct

from restante.asking import Ask, Asks
from restante.events import AckRequested, Action, Fail, Resolve
from restante.wire import envelopes
from restante.wire.envelopes import Acked, ToClient
from restante.wire.errors import ChatError


class Wanted(Struct, eq=False):
    """One acknowledgement that was asked for, until it is told."""

    ticket: int
    seqs: list[int]
    ids: list[bytes]
    read: bool
    deadline: float
    waiting: bool = True
    """Not yet in a request, and not at its end."""


class Acking:
    """All acknowledgements of a session."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._waiting: deque[Wanted] = deque()
        self._timers: list[tuple[float, int, Wanted]] = []
        self._count = itertools.count()
        self._lot: list[Wanted] = []
        """What is in the request that is out."""
        self._out = False

    @property
    def active(self) -> bool:
        """Whether anything is not answered."""
        return self._out or any(wanted.waiting for wanted in self._waiting)

    def add(self, event: AckRequested) -> None:
        """Take an acknowledgement."""
        wanted = Wanted(event.ticket, event.seqs, event.ids, event.read, event.deadline)
        self._waiting.append(wanted)
        heapq.heappush(self._timers, (wanted.deadline, next(self._count), wanted))

    def advance(self, acks_max: int) -> None:
        """Make a request of what waits, if none is out. `acks_max` bounds it, but a single larger one goes whole."""
        size = 0
        while self._waiting and (not self._lot or self._waiting[0].read == self._lot[0].read) and not self._out:
            wanted = self._waiting[0]
            size += len(wanted.seqs) + len(wanted.ids)
            if self._lot and size > acks_max:
                break
            self._waiting.popleft()
            if wanted.waiting:
                wanted.waiting = False
                self._lot.append(wanted)
        if self._lot and not self._out:
            self._out = True
            self._asks.add(self._request())

    def _request(self) -> Ask:
        header = envelopes.Ack(
            id=1,
            seqs=[seq for wanted in self._lot for seq in wanted.seqs],
            ids=[each for wanted in self._lot for each in wanted.ids],
            read=self._lot[0].read,
        )
        deadline = min(wanted.deadline for wanted in self._lot)
        return Ask(header=header, settled=self._told, deadline=deadline)

    def expiry(self) -> float:
        """When the next that waits behind another is past its deadline; inf if none waits."""
        while self._timers and not self._timers[0][2].waiting:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else math.inf

    def expire(self, now: float, untold: ChatError, actions: list[Action]) -> None:
        """End what waited past its deadline."""
        while self.expiry() <= now:
            self._end(heapq.heappop(self._timers)[2], untold, actions)

    def abandon(self, ticket: int) -> None:
        """Forget what waits and nobody waits for. What is out is answered all the same."""
        for wanted in self._waiting:
            if wanted.ticket == ticket:
                wanted.waiting = False

    def fail_all(self, error: ChatError, actions: list[Action]) -> None:
        """End what waits. What is out is a request like others, and ends with them."""
        waiting, self._waiting = self._waiting, deque()
        for wanted in waiting:
            self._end(wanted, error, actions)

    def _end(self, wanted: Wanted, error: ChatError, actions: list[Action]) -> None:
        if wanted.waiting:
            wanted.waiting = False
            actions.append(Fail(wanted.ticket, error))

    def _told(self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
        """The request is at its end: tell everyone whose acknowledgement was in it."""
        lot, self._lot, self._out = self._lot, [], False
        if isinstance(outcome, Acked):
            actions.extend(
                Resolve(wanted.ticket, outcome if len(lot) == 1 else _share(wanted, outcome)) for wanted in lot
            )
        elif isinstance(outcome, ChatError):
            in_time = [wanted for wanted in lot if ask.deadline <= now < wanted.deadline]
            for wanted in reversed(in_time):  # another's time was up, not theirs: they go again
                wanted.waiting = True
                self._waiting.appendleft(wanted)
                heapq.heappush(self._timers, (wanted.deadline, next(self._count), wanted))
            actions.extend(Fail(wanted.ticket, outcome) for wanted in lot if wanted not in in_time)


def _share(wanted: Wanted, whole: Acked) -> Acked:
    """One asker's part of an answer to several. `changed` can't be told apart: it is what may be theirs at most."""
    seqs, ids = set(wanted.seqs), set(wanted.ids)
    unknown_seqs = [seq for seq in whole.unknown_seqs if seq in seqs]
    unknown_ids = [each for each in whole.unknown_ids if each in ids]
    known = len(wanted.seqs) - len(unknown_seqs) + len(wanted.ids) - len(unknown_ids)
    return Acked(id=whole.id, changed=min(whole.changed, known), unknown_seqs=unknown_seqs, unknown_ids=unknown_ids)
