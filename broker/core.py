"""The broker's decisions. Pure: no socket, no clock, no dice; `handle(event, now)` says what is to be done.

    clients ──Arrived──▶ sessions ──▶ accounts ──AskWorker──▶ authentication workers (auth_pool)
                             │    ──▶ sending ───┐
                             │                   ├──Push──▶ store (store_link)
                             └──────▶ reading ───┘
            ◀──Reply──

`now` is monotonic seconds and serves for deadlines only. What arrives between two `Drained` travels to the store as one
batch. The parts hold their own invariants; what stands here is who gets an event, which requests a session may make
at its stage, and what ends a session.

What the broker keeps in memory a restart may lose: sessions (clients resume), held envelopes and unconfirmed batches
(nobody was told OK; clients send them again), subscriptions (clients subscribe anew).
"""

from __future__ import annotations

from msgspec import Struct

from broker.accounts import Accounts
from broker.auth_pool import AuthPool
from broker.counters import Counters
from broker.delivered import DeliveredMarks
from broker.events import (
    Action,
    Announce,
    Arrived,
    CutOff,
    Drained,
    Due,
    End,
    Event,
    Malformed,
    Peer,
    PushFailed,
    Reply,
    Report,
    StopRequested,
    StoreArrived,
    Unreachable,
    WorkerArrived,
    WorkerUnreachable,
)
from broker.names import NameCache
from broker.reading import Reading
from broker.sending import Sending
from broker.sessions import Session, Sessions, Stage, answer, refuse
from broker.store_link import StoreLink
from broker.subscriptions import Subscriptions
from restante.wire import envelopes, limits
from restante.wire.envelopes import Error
from restante.wire.errors import CODES, RemoteProtocolError

TICK_S = 0.5
"""How often time is looked at: half a beat, so that none is late by more."""

LINGER_S = 2.0
"""How long a wished stop waits for what is in hand: a commit takes milliseconds, and where the store stops too nothing
comes any more. Clients repeat what it cuts off."""


NO_SESSION = "this connection has not said hello, or was forgotten: connect anew"

LOGS_IN = (envelopes.Register, envelopes.Login, envelopes.Resume)
"""What a session that has an account has no use for. A tuple: `A | B` is made anew each time it is looked at."""


class Config(Struct, frozen=True, kw_only=True):
    """What the core must know of its surroundings."""

    name: str
    """The broker's durable name on the store link."""
    seed: bytes
    """16 random bytes made at this start: nonces come from it."""
    server: str = "restante"
    """Name and version, as `welcome` tells them."""
    registration_open: bool = True
    sessions_max: int = limits.SESSIONS_MAX


class Broker:
    """One broker's state, and every transition of it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sessions = Sessions(config.sessions_max)
        self._pool = AuthPool()
        self._names = NameCache()
        self._subscriptions = Subscriptions()
        self._link = StoreLink(config.name, config.seed, self._subscriptions)
        self._marks = DeliveredMarks(self._link)
        self._subscriptions.use(self._link, self._marks)
        self._reading = Reading(self._link, self._marks, self._subscriptions)
        self._sending = Sending(self._link, self._pool, self._names)
        self._accounts = Accounts(self._pool, self._sessions, self._sending, registration_open=config.registration_open)
        self._accounts.over = self._over
        self._subscriptions.end = self._over
        self._tick_at = 0.0
        self._started = False
        self._announced = False
        self._stop_at: float | None = None
        self._ended = False
        self.counters = Counters()

    # --- the state machine --------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """What is to be done about an event, in this order."""
        actions: list[Action] = []
        if not self._started:
            self._started = True
            self._link.start(now, actions)
        match event:
            case Arrived(peer, envelope, body):
                self._arrived(peer, envelope, body, now, actions)
            case Drained():
                self._drained(now, actions)
            case StoreArrived(envelope, body):
                self._link.arrived(envelope, body, now, actions)
            case WorkerArrived(routing_id, envelope):
                self._pool.arrived(routing_id, envelope, now, actions)
            case Due():
                self._due(now, actions)
            case Malformed(peer, error):
                self._violated(peer, error, now, actions)
            case _:
                self._handle_loss(event, now, actions)
        if not isinstance(event, (Arrived, Drained)):  # the frequent ones, which change nothing about who is ready
            self._announce(actions)
        self.counters.refusals(actions)
        return actions

    def _handle_loss(
        self,
        event: Unreachable | WorkerUnreachable | PushFailed | CutOff | StopRequested,
        now: float,
        actions: list[Action],
    ) -> None:
        """Somebody is out of reach, or the broker itself is to go."""
        match event:
            case Unreachable(routing_id):
                self._unreachable(routing_id)
            case WorkerUnreachable(routing_id):
                self._pool.unreachable(routing_id, actions)
            case PushFailed():
                self._link.push_failed(now)
            case CutOff():
                self.counters.count("cut_off")
            case StopRequested():
                self._stop_at = now + LINGER_S

    def next_deadline(self) -> float | None:
        """When `Due` is next wanted, in the time of `now`."""
        return self._tick_at

    def trusts(self, peer: Peer) -> bool:
        """True if a connection has an account behind it: only then its larger headers are worth decoding."""
        session = self._sessions.get(peer.routing_id)
        return session is not None and session.key == peer.key and session.stage is Stage.READY

    def knows(self, routing_id: bytes) -> bool:
        """True if somebody has logged in over a connection. It may be asked in another thread."""
        session = self._sessions.get(routing_id)
        return session is not None and session.stage is Stage.READY

    # --- clients ------------------------------------------------------------------------------------------

    def _arrived(
        self, peer: Peer, envelope: envelopes.ToBroker, body: bytes, now: float, actions: list[Action]
    ) -> None:
        request_id = None if isinstance(envelope, envelopes.Credit) else envelope.id
        session = self._session(peer, request_id, now, actions)
        if session is None:
            return
        if isinstance(envelope, envelopes.Credit):
            self._credit(session, envelope, actions)
            return
        no = self._not_now(session, envelope)
        session.in_flight += 1
        if no is not None:
            refuse(session, envelope.id, no[0], no[1], actions)
            self._end_if_fatal(session, no[0])
            return
        self._dispatch(session, envelope, body, now, actions)

    def _credit(self, session: Session, credit: envelopes.Credit, actions: list[Action]) -> None:
        """A notice gets no answer; but a reader whose session was forgotten would wait for ever, untold."""
        if session.stage is Stage.READY:
            self._subscriptions.credit(session, credit, actions)
        elif session.stage is Stage.NEW:
            actions.append(Reply(session.routing_id, Error(code="no_session", text=NO_SESSION, fatal=True)))

    def _session(self, peer: Peer, request_id: int | None, now: float, actions: list[Action]) -> Session | None:
        """The session of a connection, or None if there is to be none."""
        session, replaced = self._sessions.of(peer, now)
        if replaced is not None:
            self._over(replaced)
        if self._sessions.full and session.stage is Stage.NEW:
            text = "the server has as many sessions as it may"
            error = Error(id=request_id, code="busy", text=text, retry_after_ms=5_000, fatal=True)
            actions.append(Reply(session.routing_id, error))
            self._over(session)
            return None
        if session.ignored:
            self.counters.count("dropped")
            return None
        return session

    def _not_now(self, session: Session, request: envelopes.Request) -> tuple[str, str] | None:
        """What forbids this request at this stage of this session."""
        if self._stop_at is not None:
            return "unavailable", "the server is stopping; connect again in a moment"
        if session.in_flight >= limits.REQUESTS_IN_FLIGHT_MAX:
            return "too_many_requests", f"{session.in_flight} requests wait in this session already"
        if session.stage is Stage.NEW and not isinstance(request, envelopes.Hello):
            return "no_session", NO_SESSION
        if isinstance(request, LOGS_IN):
            if session.stage is Stage.READY:
                return "already_logged_in", f"this session is {session.name}'s; another needs its own connection"
        elif session.stage is Stage.GREETED and not isinstance(request, envelopes.Hello):
            return "not_logged_in", "this request needs an account: log in or resume first"
        return None

    def _dispatch(
        self, session: Session, request: envelopes.Request, body: bytes, now: float, actions: list[Action]
    ) -> None:
        """Hand a request to the part that answers it; the frequent ones first."""
        match request:
            case envelopes.Send():
                self._sending.send(session, request, body, now, actions)
            case envelopes.Ack():
                self._reading.ack(session, request, now, actions)
            case envelopes.Fetch():
                self._reading.fetch(session, request, now, actions)
            case envelopes.Ping():
                answer(session, envelopes.Pong(id=request.id), actions)
            case envelopes.Hello():
                self._hello(session, request, actions)
            case envelopes.Resume():
                self._accounts.resume(session, request, now, actions)
            case envelopes.Subscribe():
                self._subscriptions.subscribe(session, request, now, actions)
            case envelopes.Unsubscribe():
                self._subscriptions.unsubscribe(session, request, actions)
            case envelopes.Status():
                self._reading.status(session, request, now, actions)
            case envelopes.Overview():
                self._reading.overview(session, request, now, actions)
            case envelopes.Lookup():
                self._accounts.lookup(session, request, now, actions)
            case _:
                self._dispatch_account(session, request, now, actions)

    def _dispatch_account(
        self, session: Session, request: envelopes.Request, now: float, actions: list[Action]
    ) -> None:
        match request:
            case envelopes.Register():
                self._accounts.register(session, request, now, actions)
            case envelopes.Login():
                self._accounts.login(session, request, now, actions)
            case envelopes.Logout():
                self._accounts.logout(session, request, now, actions)
            case envelopes.Passwd():
                self._accounts.passwd(session, request, now, actions)
            case envelopes.Tokens():
                self._accounts.tokens(session, request, now, actions)
            case envelopes.Revoke():
                self._accounts.revoke(session, request, now, actions)
            case _:
                raise AssertionError(f"no part answers {type(request).__name__}")

    def _hello(self, session: Session, request: envelopes.Hello, actions: list[Action]) -> None:
        """Greet; said again on the same connection it is a retry, and changes nothing but the beat."""
        if session.stage is Stage.NEW:
            session.stage = Stage.GREETED
        beat_s = limits.HEARTBEAT_S
        if request.heartbeat_ms:
            beat_s = max(limits.HEARTBEAT_S_MIN, min(beat_s, request.heartbeat_ms / 1000))
        session.silence_s = beat_s * limits.SILENCES_MAX
        welcome = envelopes.Welcome(
            id=request.id,
            version=limits.VERSION,
            server=self._config.server,
            heartbeat_ms=int(beat_s * 1000),
            auth=self._pool.ready,
            store=self._link.open,
        )
        answer(session, welcome, actions)

    def _violated(self, peer: Peer, violation: RemoteProtocolError, now: float, actions: list[Action]) -> None:
        """Answer what is no envelope, and count it: a peer that keeps on is told so, and no longer listened to."""
        session = self._session(peer, violation.request_id, now, actions)
        if session is None:
            return
        session.violations += 1
        self.counters.count("violations")
        if session.ignored:
            text = f"{violation.text}; so many errors end a session: connect anew"
            error = Error(id=violation.request_id, code=violation.code, text=text, fatal=True)
            actions.append(Reply(session.routing_id, error))
            self._over(session)
            self._sessions.ignore(peer, now)
            return
        session.in_flight += 1
        refuse(session, violation.request_id, violation.code, violation.text, actions)
        self._end_if_fatal(session, violation.code)

    def _end_if_fatal(self, session: Session, code: str) -> None:
        """End a session that had begun; one that had not stays known as NEW, so that its violations stay counted."""
        if CODES[code].fatal and session.stage is not Stage.NEW:
            self._over(session)

    def _unreachable(self, routing_id: bytes) -> None:
        session = self._sessions.get(routing_id)
        if session is not None:
            self.counters.count("unreachable")
            self._over(session)

    def _over(self, session: Session) -> None:
        """End a session, and what hangs on it."""
        self._subscriptions.over(session)
        self._sending.over(session)
        self._sessions.remove(session)

    # --- time ---------------------------------------------------------------------------------------------

    def _drained(self, now: float, actions: list[Action]) -> None:
        """Everything that had arrived is handled: one wake-up, one batch."""
        self._marks.drained(now)
        self._link.flush(actions)
        if self._stop_at is not None and not self._ended and self._idle(now):
            self._ended = True
            self._say_goodbye(actions)
            self._report(self.counters.take(), actions)
            actions.append(End())

    def _due(self, now: float, actions: list[Action]) -> None:
        self._tick_at = now + TICK_S
        self._link.due(now, actions)
        self._pool.due(now, actions)
        self._accounts.due(now, actions)
        self._marks.due(now)
        self._subscriptions.due(now)
        for session in self._sessions.expired(now):
            self.counters.count("expired")
            self._over(session)
        self._report(self.counters.due(now), actions)
        self._drained(now, actions)

    def _report(self, counts: dict[str, int], actions: list[Action]) -> None:
        if counts:
            actions.append(Report(counts))

    def _idle(self, now: float) -> bool:
        assert self._stop_at is not None
        return now >= self._stop_at or (self._link.idle and self._pool.idle)

    def _say_goodbye(self, actions: list[Action]) -> None:
        """Spare every client the wait for a silence: it connects anew and goes on."""
        text = "the server is stopping; connect again in a moment"
        error = Error(code="unavailable", text=text, retry_after_ms=1_000, fatal=True)
        actions += [Reply(session.routing_id, error) for session in self._sessions.all()]

    def _announce(self, actions: list[Action]) -> None:
        ready = self._pool.ready and self._link.open
        if ready != self._announced:
            self._announced = ready
            actions.append(Announce(ready))
