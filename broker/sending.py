"""Sends: from a client's envelope to a command for the store, and from the store's outcome to the answer.

    send ─▶ limits ─▶ number (streams) ─▶ room ─▶ recipients known? ──yes──▶ store link ─▶ sent
                                                   └─ no: held, asked of auth ─┘

A message that can't be taken (an unknown recipient, no content) is not refused here: it goes to the store with its
refusal, because only the store knows whether this id was accepted before (RULES 12). What is refused here is the whole
envelope, with a code that passes, and then its number stays the next to come (RULES 10).
"""

from __future__ import annotations

from functools import partial

from broker.addressing import addressed
from broker.auth_pool import AuthPool
from broker.events import Action
from broker.names import NameCache
from broker.sessions import RETRY_MS, Session, answer, refuse
from broker.store_link import StoreLink
from broker.streams import Job, Stream
from broker.throttle import Guesses, Throttle
from restante.wire import auth_link, limits, store_link
from restante.wire.columns import fits
from restante.wire.envelopes import Send, Sent
from restante.wire.names import fold, is_name


class Sending:
    """All sends under way, and the bytes they hold."""

    def __init__(self, link: StoreLink, pool: AuthPool, names: NameCache) -> None:
        self._link = link
        self._pool = pool
        self._names = names
        self.guesses = Guesses(Throttle(limits.UNKNOWN_NAMES_MAX, limits.UNKNOWN_NAME_S))
        """Names that may not exist, asked for by an account."""
        self.held_bytes = 0
        """Of all sessions, until answered: what `busy` bounds."""
        self._newest: dict[tuple[int, bytes], Stream] = {}
        """By account and the client's own id: the stream that was begun last, over all sessions."""

    def send(self, session: Session, request: Send, body: bytes, now: float, actions: list[Action]) -> None:
        """A client's envelope: admit it, or refuse it whole."""
        stream = session.streams.get(request.stream)
        if stream is None:
            if len(session.streams) >= limits.STREAMS_PER_SESSION_MAX:
                text = f"a session has at most {limits.STREAMS_PER_SESSION_MAX} streams"
                refuse(session, request.id, "too_large", text, actions)
                return
            stream = self._begin(session, request, actions)
        if request.n != stream.expected:
            _refuse_gap(session, request, stream, actions)
            return
        job = Job(session, stream, request, body)
        no = _unfit(job) or self._no_room(job, now)
        if no is not None:
            refuse(session, request.id, no[0], no[1], actions)
            return
        job.stream.admit(job)
        job.session.held_bytes += job.cost
        self.held_bytes += job.cost
        self._advance(job.stream, now, actions)

    def over(self, session: Session) -> None:
        """A session ended. What it gave and the store was not given yet is forgotten: nobody waits for its answer, and
        given to the store later it could follow a repetition of itself that was refused for good.
        """
        for stream_id, stream in session.streams.items():
            if self._newest.get((session.account, stream_id)) is stream:
                del self._newest[session.account, stream_id]
            for job in stream.drop_from(0):
                session.in_flight -= 1
                self._let_go(job)

    def _begin(self, session: Session, request: Send, actions: list[Action]) -> Stream:
        """Begin a stream. If an older session has it, the client has connected anew, and goes on here: what is held
        there is not to come behind what it repeats.
        """
        key = session.account, request.stream
        older = self._newest.get(key)
        stream = self._newest[key] = session.streams[request.stream] = Stream(request.n)
        held = [] if older is None else older.drop_from(0)
        for job in held:
            job.stream.go_back(job.request.n)
        for job in held:
            self._let_go(job)
            _refuse_gap(job.session, job.request, job.stream, actions)
        return stream

    # --- admission ----------------------------------------------------------------------------------------

    def _no_room(self, job: Job, now: float) -> tuple[str, str] | None:
        """What forbids the envelope now."""
        if self._link.down(now):
            return "unavailable", "the store does not answer"
        if self.held_bytes + job.cost > limits.BROKER_BYTES_MAX:
            return "busy", "the store is behind; the broker holds as much as it may"
        if job.session.held_bytes + job.cost > limits.SESSION_BYTES_MAX:
            return "busy", "the store is behind; this session holds as much as it may"
        if len(job.stream.held) >= limits.HELD_PER_STREAM_MAX:
            return "busy", "too many envelopes of this stream wait for a look-up of recipients"
        return None

    # --- recipients ---------------------------------------------------------------------------------------

    def _advance(self, stream: Stream, now: float, actions: list[Action]) -> None:
        """Give the store what is ready, up to the first whose recipients must be asked for. Those behind it wait with
        their own questions: the answer to the first may be theirs too.
        """
        while stream.held and not stream.asking:
            job = stream.held[0]
            missing = self._missing(job.names)
            if missing:
                self._look_up(job, missing, now, actions)
            else:
                self._submit(job, {})

    def _look_up(self, job: Job, missing: set[str], now: float, actions: list[Action]) -> None:
        """Ask for the recipients of a stream's first envelope, or refuse it."""
        wait_s = self.guesses.begin(job.session.name, len(missing), now)
        if wait_s > 0:
            retry_ms = int(wait_s * 1000) + 1
            self._refuse_from(job, "rate_limited", "too many recipients that do not exist", retry_ms, actions)
            return
        job.stream.asking = True
        known = self._known(job.names)
        question = auth_link.ResolveNames(names=sorted(missing))
        self._pool.ask(question, partial(self._resolved, job, missing, known), now, actions)

    def _submit(self, job: Job, found: dict[str, int]) -> None:
        first = job.stream.held.popleft()
        assert first is job, "the store is given a stream's envelopes in their order"
        session = job.session
        command = addressed(session.account, session.name, job.request, self._names.accounts, found)
        self._link.submit(command, job.body, partial(self._settled, job), job.cost)

    def _missing(self, names: list[str]) -> set[str]:
        """Recipients that are well-formed and not known here."""
        unknown = self._names.missing(names)
        return {name for name in self._names.missing(map(fold, unknown)) if is_name(name)} if unknown else unknown

    def _known(self, names: list[str]) -> dict[str, int]:
        """The account numbers of the recipients that are known here."""
        return {name: account for name in map(fold, names) if (account := self._names.get(name)) is not None}

    def _resolved(
        self,
        job: Job,
        missing: set[str],
        known: dict[str, int],
        outcome: auth_link.Outcome,
        now: float,
        actions: list[Action],
    ) -> None:
        """The look-up that a job waited for is answered. `known` is what the cache knew when it was asked: since
        then it may have forgotten, and a name is refused as unknown only on the word of auth.
        """
        found = outcome.accounts if isinstance(outcome, auth_link.NamesResolved) else None
        unknown = 0 if found is None else len(missing - found.keys())
        self.guesses.end(job.session.name, len(missing), unknown)
        job.stream.asking = False
        if job in job.stream.held:  # else it was refused meanwhile, with one before it
            if found is None:
                code, text, retry_ms = _failure(outcome)
                self._refuse_from(job, code, text, retry_ms, actions)
            else:
                self._names.learn(found)
                self._submit(job, known | found)
        self._advance(job.stream, now, actions)

    # --- the outcome --------------------------------------------------------------------------------------

    def _settled(
        self, job: Job, outcome: store_link.Outcome | store_link.Failed, now: float, actions: list[Action]
    ) -> None:
        if isinstance(outcome, store_link.Stored) and fits(outcome.seqs, outcome.apart, len(job.request.ids)):
            self._let_go(job)
            self._forget_closed(job, outcome)
            sent = Sent(id=job.request.id, seqs=outcome.seqs, stored_at_us=outcome.stored_at_us, apart=outcome.apart)
            answer(job.session, sent, actions)
        elif isinstance(outcome, store_link.Failed):
            self._refuse_from(job, outcome.code, outcome.text, None, actions)
        else:
            self._refuse_from(job, "internal", "the store answered something else", None, actions)

    def _forget_closed(self, job: Job, outcome: store_link.Stored) -> None:
        """An account ended since its name was learned: the store, whose mailbox it was, knows better (RULES 13)."""
        for each in outcome.apart:
            if each.result.code == "unknown_recipient":
                self._names.forget(job.request.message(each.place).to)

    def _refuse_from(self, job: Job, code: str, text: str, retry_ms: int | None, actions: list[Action]) -> None:
        """Refuse an envelope whole: it stays the next to come, and those held behind it must come again."""
        stream = job.stream
        stream.go_back(job.request.n)
        behind = stream.drop_from(job.request.n)
        self._let_go(job)
        refuse(job.session, job.request.id, code, text, actions, retry_after_ms=retry_ms)
        for other in behind:
            if other is not job:
                self._let_go(other)
                _refuse_gap(other.session, other.request, stream, actions)

    def _let_go(self, job: Job) -> None:
        job.session.held_bytes -= job.cost
        self.held_bytes -= job.cost


def _refuse_gap(session: Session, request: Send, stream: Stream, actions: list[Action]) -> None:
    text = f"this stream expects envelope {stream.expected}, not {request.n}; nothing was done"
    refuse(session, request.id, "gap", text, actions, retry_after_ms=0, expected=stream.expected)


def _unfit(job: Job) -> tuple[str, str] | None:
    """What forbids the envelope as a whole, whenever it comes."""
    if len(job.body) > limits.BODY_BYTES_MAX:
        return "too_large", f"the body has {len(job.body)} bytes, the limit is {limits.BODY_BYTES_MAX}"
    total = sum(job.request.sizes)
    if total != len(job.body):
        return "bad_request", f"the sizes add up to {total} bytes, the body has {len(job.body)}"
    if len(job.names) > limits.RECIPIENTS_PER_SEND_MAX:
        return "too_large", f"{len(job.names)} recipients in all, the limit is {limits.RECIPIENTS_PER_SEND_MAX}"
    return None


def _failure(outcome: auth_link.Outcome) -> tuple[str, str, int | None]:
    if isinstance(outcome, auth_link.Refused):
        return outcome.code, outcome.text, outcome.retry_after_ms
    return "internal", "the authentication worker answered something else", RETRY_MS
