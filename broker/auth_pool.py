"""The authentication workers: who is ready, who holds which question, and who takes over when one dies.

A question is with one worker at a time. A worker says `ready` and then beats; silent for LINK_SILENCE_S_MAX, or out of
reach, it is taken for dead and its questions go, first in line and under new numbers, to the others. A late answer of
the dead then carries a number that nobody waits for; that the question may have been executed twice is why every change
carries an operation id (RULES 21).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from broker.events import Action, AskWorker
from restante.wire import auth_link, limits

Continuation = Callable[[auth_link.Outcome, float, list[Action]], None]
"""What goes on when an answer is there: called with the outcome, the time, and the actions to add to."""


class Pending(Struct, gc=True):
    """A question nobody has answered yet."""

    question: auth_link.Question
    then: Continuation
    deadline: float


class Worker(Struct, gc=True):
    """A worker that said `ready`."""

    worker: bytes
    capacity: int
    heard_at: float
    beat_at: float
    leaving: bool = False
    holds: dict[int, Pending] = {}


class AuthPool:
    """Spreads questions over the ready workers, the least loaded first."""

    def __init__(self) -> None:
        self._workers: dict[bytes, Worker] = {}
        self._waiting: deque[Pending] = deque()
        self._n = 0

    @property
    def ready(self) -> bool:
        """True if some worker takes questions."""
        return any(not worker.leaving for worker in self._workers.values())

    @property
    def idle(self) -> bool:
        """True if no question is unanswered."""
        return not self._waiting and not any(worker.holds for worker in self._workers.values())

    def ask(self, question: auth_link.Question, then: Continuation, now: float, actions: list[Action]) -> None:
        """Ask a worker; `then` is called exactly once, with `Refused` if it can't be had in time."""
        if len(self._waiting) >= limits.AUTH_WAITING_MAX:
            then(_refused("busy", "too many wait for an authentication worker", 1_000), now, actions)
            return
        self._waiting.append(Pending(question, then, now + limits.REQUEST_S))
        self._spread(actions)

    def arrived(self, routing_id: bytes, envelope: auth_link.FromWorker, now: float, actions: list[Action]) -> None:
        """A worker said something."""
        worker = self._workers.get(routing_id)
        if isinstance(envelope, auth_link.Ready):
            self._welcome(routing_id, envelope, now)
        elif worker is None:
            actions.append(AskWorker(routing_id, auth_link.Who()))
            return
        else:
            worker.heard_at = now
            if isinstance(envelope, auth_link.Told):
                self._answered(worker, envelope, now, actions)
            elif isinstance(envelope, auth_link.Leaving):
                worker.leaving = True
        self._spread(actions)

    def unreachable(self, routing_id: bytes, actions: list[Action]) -> None:
        """A worker's socket is gone or full."""
        self._bury(routing_id)
        self._spread(actions)

    def due(self, now: float, actions: list[Action]) -> None:
        """Beat, bury the silent, refuse what has waited too long."""
        for routing_id, worker in list(self._workers.items()):
            if now - worker.heard_at > limits.LINK_SILENCE_S_MAX:
                self._bury(routing_id)
            elif now >= worker.beat_at:
                worker.beat_at = now + limits.LINK_BEAT_S
                actions.append(AskWorker(routing_id, auth_link.Beat()))
        self._spread(actions)
        self._refuse_late(now, actions)

    def _welcome(self, routing_id: bytes, ready: auth_link.Ready, now: float) -> None:
        worker = self._workers.get(routing_id)
        if worker is not None and worker.worker == ready.worker:
            worker.heard_at = now
            return
        for other_id, other in list(self._workers.items()):
            if (
                other_id == routing_id or other.worker == ready.worker
            ):  # it reconnected: nothing comes that way any more
                self._bury(other_id)
        capacity = max(1, min(ready.capacity, limits.AUTH_CAPACITY))
        self._workers[routing_id] = Worker(
            worker=ready.worker, capacity=capacity, heard_at=now, beat_at=now + limits.LINK_BEAT_S, holds={}
        )

    def _answered(self, worker: Worker, told: auth_link.Told, now: float, actions: list[Action]) -> None:
        pending = worker.holds.pop(told.n, None)
        if pending is not None:
            pending.then(told.outcome, now, actions)

    def _bury(self, routing_id: bytes) -> None:
        worker = self._workers.pop(routing_id, None)
        if worker is not None:
            self._waiting.extendleft(reversed(worker.holds.values()))

    def _spread(self, actions: list[Action]) -> None:
        while self._waiting:
            free = [
                (len(worker.holds), routing_id)
                for routing_id, worker in self._workers.items()
                if not worker.leaving and len(worker.holds) < worker.capacity
            ]
            if not free:
                return
            _, routing_id = min(free)
            self._n += 1
            pending = self._waiting.popleft()
            self._workers[routing_id].holds[self._n] = pending
            actions.append(AskWorker(routing_id, auth_link.Ask(n=self._n, question=pending.question)))

    def _refuse_late(self, now: float, actions: list[Action]) -> None:
        late = [pending for pending in self._waiting if pending.deadline <= now]
        self._waiting = deque(pending for pending in self._waiting if pending.deadline > now)
        for worker in self._workers.values():
            for n, pending in list(worker.holds.items()):
                if pending.deadline <= now:
                    late.append(worker.holds.pop(n))
        for pending in late:
            then = _refused("unavailable", "no authentication worker answered in time", 1_000)
            pending.then(then, now, actions)


def _refused(code: str, text: str, retry_after_ms: int) -> auth_link.Refused:
    return auth_link.Refused(code=code, text=text, retry_after_ms=retry_after_ms)
