"""The worker's side of the link to the broker: when to say that it is there, and what becomes of a question.

Pure: it is told what was heard and what time it is, and says what to do. What a question is answered stands in
`answers`; here it is a job with a number, which the shell works on elsewhere and whose end it reports.

                    who, or a new link
                   ┌───────────────────┐
    start ──► Connect, Ready ──► asked ──► Work(job) … Finished(job) ──► Told(n)
                   ▲                             │
                   └── the broker is silent      └── who: abandoned, never told

Invariants:

* After `Ready` the worker holds nothing that it was asked before. A broker that restarts counts its questions from the
  start, so an answer to question 5 of its predecessor would be taken for one to its own: to somebody else's log-in. For
  that reason jobs have numbers of the worker's own; `who` abandons all jobs; and silence makes a new link, which takes
  with it what lies in the old one, in both directions.
* At most `capacity` jobs are in hand; what is asked beyond is refused `busy`, not kept.
* Something is said every LINK_BEAT_S. A broker that nothing was heard of for LINK_SILENCE_S_MAX is called anew.
* After `Leaving` what is in hand is still answered, and what the broker asked before it heard of it. Then `End`. A
  broker that doesn't know us, or is silent, needs no answer.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from restante.wire import auth_link
from restante.wire.limits import AUTH_CAPACITY, LINK_BEAT_S, LINK_SILENCE_S_MAX

LEAVE_S: Final = 0.2
"""Between the last answer and the end: for questions that crossed `Leaving`, and for the answer itself to get out (the
sockets don't linger). What is lost nevertheless the broker asks another, five seconds later."""

RETRY_MS: Final = 1_000
"""When to ask again what was one too many."""


# --- events -----------------------------------------------------------------------------------------------


class Heard(Struct, frozen=True):
    """The broker said something."""

    header: auth_link.ToWorker


class Garbled(Struct, frozen=True):
    """Somebody at the broker's end said what is no envelope: no sign of life."""

    code: str
    text: str


class Finished(Struct, frozen=True):
    """A job is done."""

    job: int
    outcome: auth_link.Outcome


class Due(Struct, frozen=True):
    """A deadline has passed."""


class Stopped(Struct, frozen=True):
    """The process is to end."""


Event = Heard | Garbled | Finished | Due | Stopped


# --- actions ----------------------------------------------------------------------------------------------


class Connect(Struct, frozen=True):
    """Drop the link with all that lies in it, and make a new one."""


class Say(Struct, frozen=True):
    """Say it to the broker. What can't be sent is lost: the broker will ask somebody else."""

    header: auth_link.FromWorker


class Work(Struct, frozen=True):
    """Answer the question, and report `Finished`."""

    job: int
    question: auth_link.Question


class Abandon(Struct, frozen=True):
    """Don't begin this job, if it has not begun; nobody waits for it."""

    job: int


class Note(Struct, frozen=True):
    """Write it to the log."""

    what: str
    trouble: bool = True
    """False for what is as it should be."""


class End(Struct, frozen=True):
    """End the process."""


Action = Connect | Say | Work | Abandon | Note | End


class Core:
    """One worker. `worker` is 16 bytes that no other has; `now` is monotonic, in seconds, as in `handle`."""

    def __init__(self, worker: bytes, now: float, *, capacity: int = AUTH_CAPACITY) -> None:
        self._ready = auth_link.Ready(worker=worker, capacity=capacity)
        self._jobs: dict[int, int] = {}  # in hand: the job, and the broker's number of it
        self._last_job = 0
        self._beat_at = now
        self._silent_at = now  # when the broker is taken for gone; at the start it is
        self._silent = True
        self._leaving = False
        self._end_at: float | None = None

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do about it, in order."""
        match event:
            case Heard(header):
                return self._heard(header, now)
            case Finished(job, outcome):
                return self._finished(job, outcome, now)
            case Due():
                return self._due(now)
            case Stopped():
                return self._stop(now)
            case Garbled(code, text):
                return [Note(f"dropped what is no envelope: {code}, {text}")]

    def next_deadline(self) -> float | None:
        """When `Due` is wanted."""
        deadline = min(self._beat_at, self._silent_at)
        return deadline if self._end_at is None else min(deadline, self._end_at)

    def _heard(self, header: auth_link.ToWorker, now: float) -> list[Action]:
        self._silent_at = now + LINK_SILENCE_S_MAX
        actions: list[Action] = [Note("the broker answers", trouble=False)] if self._silent else []
        self._silent = False
        if isinstance(header, auth_link.Who):
            return [*actions, *self._unknown(now)]
        if isinstance(header, auth_link.Ask):
            actions.append(self._asked(header))
        return actions

    def _asked(self, ask: auth_link.Ask) -> Action:
        if len(self._jobs) >= self._ready.capacity:
            text = "this worker was asked more than it can hold"
            refused = auth_link.Refused(code="busy", text=text, retry_after_ms=RETRY_MS)
            return Say(auth_link.Told(n=ask.n, outcome=refused))
        self._last_job += 1
        self._jobs[self._last_job] = ask.n
        self._end_at = None
        return Work(self._last_job, ask.question)

    def _finished(self, job: int, outcome: auth_link.Outcome, now: float) -> list[Action]:
        n = self._jobs.pop(job, None)
        if n is None:
            return []
        self._beat_at = now + LINK_BEAT_S
        self._linger(now)
        return [Say(auth_link.Told(n=n, outcome=outcome))]

    def _due(self, now: float) -> list[Action]:
        if self._end_at is not None and now >= self._end_at:
            return [End()]
        if now >= self._silent_at:
            return self._call(now)
        if now < self._beat_at:
            return []
        self._beat_at = now + LINK_BEAT_S
        return [] if self._silent else [Say(auth_link.Beat())]

    def _call(self, now: float) -> list[Action]:
        """Call a broker that is silent: over a new link, with nothing in hand, saying who we are."""
        abandoned = self._abandon()
        if self._leaving:  # nobody is there to be answered
            return [*abandoned, End()]
        notes: list[Action] = [] if self._silent else [Note("the broker is silent, calling it anew")]
        self._silent_at = now + LINK_SILENCE_S_MAX
        self._beat_at = now + LINK_BEAT_S
        self._silent = True
        return [*abandoned, *notes, Connect(), Say(self._ready)]

    def _unknown(self, now: float) -> list[Action]:
        """The broker has never heard of this worker: say who we are, unless we are leaving."""
        abandoned = self._abandon()
        if self._leaving:
            self._linger(now)
            return abandoned
        self._beat_at = now + LINK_BEAT_S
        return [*abandoned, Say(self._ready)]

    def _abandon(self) -> list[Action]:
        jobs, self._jobs = self._jobs, {}
        return [Abandon(job) for job in jobs]

    def _stop(self, now: float) -> list[Action]:
        self._leaving = True
        self._beat_at = now + LINK_BEAT_S
        self._linger(now)
        return [Say(auth_link.Leaving())]

    def _linger(self, now: float) -> None:
        if self._leaving and not self._jobs:
            self._end_at = now + LEAVE_S
